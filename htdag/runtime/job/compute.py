"""The process that runs the user's functions over the items of a chunk."""

from __future__ import annotations

import faulthandler
import functools
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Dict, List, NoReturn, Optional, Set

from .. import input_files
from ..api import checkpoint, shim
from ..api.context import Cursor
from ..code import image
from ..data import chunkfile, itemfile, recordfile, views
from ..data.keyed import BY_HASH
from ..errors import StageError
from ..task import ALTERED, FINISHED, GAVE_UP, PAUSED, RUNNING, Job, Shared
from . import (
    announce,
    bound,
    measure,
    pause,
    process_state,
    report,
    sinks,
    surroundings,
    until,
    workdir,
)
from .program import chain, keywords_of, pickler
from .sinks import Sink
from .surroundings import NO_SURROUNDINGS, Surroundings
from .values import MISSING

if TYPE_CHECKING:
    from ..data.partitions import Writer
    from ..formats.record import RecordPaused, RecordStreams
    from ..formats.task import OutputEntry


def child(job: Job, shared: Shared, skip: Optional[Set[int]]) -> NoReturn:
    """Be the child: run, record what goes wrong as a whole, and end this process."""
    status = 1
    opened = surroundings.open_files()
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # fork keeps an empty stdin: a function that asks for input gets the end of file
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        faulthandler.enable(all_threads=False)
        shim.install()
        _show_lines_at_once()
        job = workdir.settle(job)
        cursor = announce.enter(job)
        process_state.take_over(job, workdir.folder_of(job))
        state = job.program.get("surroundings")
        around = Surroundings(lambda: workdir.fill(job), state and state["deciding"])
        run(job, shared, skip, cursor, around)
        status = 0
    except BaseException as error:
        surroundings.leave_fork(error)
        report.child_error(job, error)
        _, position, items, done, failed = shared.get()
        shared.put(GAVE_UP, position, items, done, failed + 1)
        status = 0
    finally:
        end_process(status, opened)


def end_process(status: int, opened: Optional[Set[str]] = None) -> NoReturn:
    """End the process of the functions; what their files hold back is written.

    Threads and exit handlers of the user's modules must not keep a finished job alive. ``opened``
    are the files that were open before the functions were there.
    """
    try:
        surroundings.flush_files(opened)
    finally:
        os._exit(status)


def _show_lines_at_once() -> None:
    """Let what a function prints be read while it runs: files are else written in large blocks."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)


def run(
    job: Job,
    shared: Shared,
    skip: Optional[Set[int]],
    cursor: Optional[Cursor] = None,
    around: Surroundings = NO_SURROUNDINGS,
) -> None:
    """Run the functions over all items of a chunk that are to be done and not to be skipped."""
    cursor = Cursor() if cursor is None else cursor
    program = job.program
    watch = measure.Watch()
    content = image.enter(
        job.root, job.payload, os.path.join(os.path.dirname(os.getcwd()), "modules")
    )
    around.begin()
    functions, initials = content["functions"], content["initials"]
    values = bound.BoundValues(
        chunkfile.bound_values(job.description["binds"]), pickler(), job.copies_bound
    )
    if values.shared:
        recordfile.append(job.record, "sound", -1)
    keeper = checkpoint.Keeper(job)
    functions = keeper.over(program["operations"], functions)
    content["functions"] = functions = watch.over(program, functions, around)
    by_position: Dict[int, List[Sink]] = {}
    for output, main, parts in zip(program["outputs"], job.outputs, job.parts):
        writer = _writer(job, output, main, parts, resume=skip is not None)
        files = program.get("carries_files", True)
        sink = make_sink(output, writer, content, cursor, files)
        by_position.setdefault(output["after"], []).append(sink)
    every = [sink for group in by_position.values() for sink in group]
    check = program["check"]
    asked: List[Any] = []
    if check is not None:
        function = functions[check["function"]]
        asked.append(until.CheckSink(check, function, values.values, job.record, cursor))
        by_position.setdefault(check["after"], []).extend(asked)
    try:
        if program["mode"] == "reduce":
            _reduce(job, functions, initials, values, every, asked, cursor, shared, around)
        else:
            _items(job, functions, values, every, by_position, cursor, shared, skip, keeper, around)
        if values.look(due=True):
            recordfile.append(job.record, "sound", shared.get().items)
    except bound.Altered:
        for sink in every:
            sink.writer.discard()
        keeper.close()
        shared.put(ALTERED, 0, 0, 0, 0)
        return
    for sink in every:
        sink.close()
        sink.writer.close(sync=True)
    keeper.close()
    _, position, items, done, failed = shared.get()
    shared.note(watch.report(done + failed))
    shared.put(FINISHED, position, items, done, failed)


def _items(
    job: Job,
    functions: List[Any],
    values: bound.BoundValues,
    every: List[Sink],
    by_position: Dict[int, List[Sink]],
    cursor: Cursor,
    shared: Shared,
    skip: Optional[Set[int]],
    keeper: checkpoint.Keeper,
    around: Surroundings,
) -> None:
    """Take the items of a chunk through the operations of its node."""
    program = job.program
    emit = chain(program["operations"], functions, values.values, by_position, cursor)
    combine = program["combine"]
    view = views.open_view(job.description, None if combine is None else functions[combine])
    cursor.stage = program["stages"][0]
    streams = _Streams(job.record, around, again=skip is not None)

    def pause_here() -> None:
        sequence = shared.get().position - 1
        if values.look(due=True):
            recordfile.append(job.record, "sound", sequence)
        streams.pause(sequence)
        for sink in every:
            sink.close()
            sink.writer.discard()
        keeper.close()
        shared.put(PAUSED, *shared.get()[1:])
        end_process(0)

    keeper.pauser = pause.Pauser(job, pause_here)
    _each(job, view, emit, every, values, cursor, shared, skip or set(), keeper, streams, around)


def _writer(
    job: Job, output: OutputEntry, main: str, parts: List[str], *, resume: bool
) -> "Writer":
    if not parts:
        return itemfile.ItemWriter(main, resume=resume, flush=True)
    from ..data.partitions import PartedWriter  # it takes time, which most jobs need not spend

    total = views.total(job.description) if output["split"] == "rank" else None
    return PartedWriter(main, parts, total, resume=resume)


def make_sink(
    output: OutputEntry,
    writer: "Writer",
    content: Dict[str, List[Any]],
    cursor: Cursor,
    files: bool = True,
) -> Sink:
    """Return the sink of an output of a node's program."""

    roles = (output["combine"], output["merge"], output["key"])
    combine, merge, key = (None if role is None else content["functions"][role] for role in roles)

    dumps = pickler(files)
    stage, kind = output["stage"], output["kind"]
    parts: Any = writer  # of a keyed output, but for one to be sorted, which sets no partition
    if kind == "items":
        return Sink(writer, dumps, stage, cursor)
    if kind == "reduce":
        return sinks.ReduceSink(writer, dumps, stage, cursor, combine)
    if kind == "fold":
        assert output["initial"] is not None
        initial = dumps(content["initials"][output["initial"]])
        return sinks.FoldSink(
            writer,
            dumps,
            stage,
            cursor,
            combine,
            merge,
            initial,
        )
    if kind in ("reduce_by_key", "distinct"):
        return sinks.KeyedReduceSink(parts, dumps, stage, cursor, kind, key, combine)
    return sinks.KeyedSink(parts, dumps, stage, cursor, kind, key)


def _each(
    job: Job,
    view: views.View,
    emit: Any,
    sinks: List[Sink],
    values: bound.BoundValues,
    cursor: Cursor,
    shared: Shared,
    skip: Set[int],
    keeper: checkpoint.Keeper,
    streams: "_Streams",
    around: Surroundings,
) -> None:
    todo = job.description["todo"]
    wanted = None if todo is None else set(chunkfile.chosen(todo, None))
    total = views.total(job.description)
    done = failed = 0
    sequence = -1
    reporter = report.Reporter(job)
    first_stage = cursor.stage
    load = view.load
    calls = job.description["view"] in BY_HASH  # whether loading an item calls functions
    # Not by enumerate(): it would keep an item while the next one is read, as would `stored`.
    for key, stored in view.items:
        sequence += 1
        if sequence in skip or (wanted is not None and sequence not in wanted):
            del stored
            continue
        shared.put(RUNNING, sequence + 1, sequence + 1, done, failed)
        cursor.item(key)
        cursor.stage = first_stage
        keeper.item(sequence)
        trace = ""
        try:
            emit(key, load(stored))
            input_files.check()
            _leave_if_lost(shared)
            for sink in sinks:
                sink.end(sequence)
            done += 1
            keeper.end(done=True)
        except BaseException as error:
            surroundings.leave_fork(error)
            if isinstance(error, bound.Altered):
                raise
            around.restore()
            input_files.forget()
            _leave_if_lost(shared)
            failed += 1
            again = None if calls else functools.partial(load, stored)
            trace = reporter.item(cursor.stage, key, sequence, error, again)
            del again
            for sink in sinks:
                sink.abandon()
            keeper.end(done=False)
        streams.item(sequence, trace)
        del stored
        if values.shared and values.look():
            recordfile.append(job.record, "sound", sequence)
        if keeper.pauser.is_due() and sequence + 1 != total:
            shared.put(RUNNING, 0, sequence + 1, done, failed)
            keeper.pauser.pause()
    shared.put(RUNNING, 0, sequence + 1, done, failed)


def _leave_if_lost(shared: Shared) -> None:
    """End without a word where another job has taken the place of this one."""
    if shared.claim is not None and shared.claim.is_lost_by_now():
        os._exit(0)


def _reduce(
    job: Job,
    functions: List[Any],
    initials: List[Any],
    values: bound.BoundValues,
    sinks: List[Sink],
    asked: List[Any],
    cursor: Cursor,
    shared: Shared,
    around: Surroundings,
) -> None:
    reduction = job.program["reduction"]
    keywords = keywords_of(reduction["bind"], values.values) or dict
    function = functions[reduction["function"]]
    cursor.stage = reduction["stage"]
    initial: Any = MISSING
    if reduction["initial"] is not None:
        # A copy: the functions may reach the very object by another way, and change it.
        initial = pickler()(initials[reduction["initial"]]).load_copy()
    # A fold's parts began with its initial value; it is the value where there are none.
    total: Any = MISSING if reduction["begun"] else initial
    streams = _Streams(job.record, around)
    number = 0
    key = ""
    try:
        for frame in chunkfile.frames(job.description["streams"][0]["parts"]):
            key = frame.key
            shared.put(RUNNING, number + 1, number, 0, 0)
            item = chunkfile.value(frame)
            total = item if total is MISSING else function(total, item, **keywords())
            number += 1
            input_files.check()
            del frame, item  # not to be kept while the next one is read
        streams.item(0)
        if total is MISSING and reduction["final"]:
            total = initial
        if total is not MISSING:
            for sink in (*sinks, *asked):
                sink.take("0", total)
        elif reduction["final"]:
            raise StageError(
                "no items reached the reduce and it has no initial value; "
                "give initial=... for the value of an empty reduce"
            )
        for sink in sinks:
            sink.end(0)
        shared.put(RUNNING, 0, number, number, 0)
    except BaseException as error:
        surroundings.leave_fork(error)
        around.restore()
        for sink in sinks:
            sink.abandon()
        streams.write(report.Reporter(job).item(cursor.stage, key or None, number, error))
        shared.put(RUNNING, 0, number, 0, 1)


class _Streams:
    """Note which part of the job's output streams each item printed."""

    def __init__(self, record: str, around: Surroundings, again: bool = False) -> None:
        self._record = record
        self._sizes = around.sizes
        self._before = self._sizes()
        self._paused: Optional[RecordPaused] = None
        if again:
            for line in recordfile.lines(record):
                self._paused = line.get("paused", self._paused)

    def write(self, trace: str) -> None:
        """Write what failed to standard error, whatever functions have made of `sys.stderr`."""
        self._sizes()  # which flushes
        os.write(2, trace.encode(errors="backslashreplace"))

    def item(self, sequence: int, trace: str = "") -> None:
        """Note what an item printed; `trace` is written behind that, and is no part of it."""
        after = self._sizes()
        if self._paused is not None and self._paused["sequence"] == sequence:
            self._before = [min(pair) for pair in zip(self._paused["from"], self._before)]
        if after != self._before or trace:
            entry: RecordStreams = {
                "sequence": sequence,
                "out": [self._before[0], after[0]],
                "err": [self._before[1], after[1]],
            }
            if trace:
                self.write(trace)
                after = self._sizes()
                entry["trace"] = after[1]
            recordfile.append(self._record, "streams", entry)
            self._before = after

    def pause(self, sequence: int) -> None:
        """Note from where on the item at hand has printed, for when the job goes on with it."""
        before = self._before
        if self._paused is not None and self._paused["sequence"] == sequence:
            before = self._paused["from"]
        paused: RecordPaused = {"sequence": sequence, "from": before}
        recordfile.append(self._record, "paused", paused)
        self._sizes()  # which flushes
