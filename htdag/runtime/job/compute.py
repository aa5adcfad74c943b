"""The process that runs the user's functions over the items of a chunk."""

from __future__ import annotations

import faulthandler
import functools
import os
import signal
import sys
from typing import (
    TYPE_CHECKING,
    Any,
    Container,
    Dict,
    Iterable,
    Iterator,
    List,
    NoReturn,
    Optional,
    Protocol,
    Set,
)

from ..api import checkpoint, shim
from ..api.context import Cursor
from ..code import image
from ..data import chunkfile, itemfile, recordfile, views
from ..data.keyed import BY_HASH
from ..errors import StageError
from ..files import input_files
from ..task import Job
from . import bound, eviction, measure, process_state, report, sinks, surroundings, workdir
from .calls import Calls
from .program import Emit, Load, chain, keywords_of, pickler
from .shared_memory import ALTERED, FINISHED, GAVE_UP, PAUSED, RUNNING, Shared
from .sinks import Sink
from .surroundings import NO_SURROUNDINGS, Surroundings
from .values import MISSING

if TYPE_CHECKING:
    from ..data.partitions import Writer
    from ..formats.image import Functions
    from ..formats.record import RecordPaused, RecordStreams
    from ..formats.task import OutputEntry, ReductionEntry


def child(job: Job, shared: Shared, skip: Optional[Set[int]]) -> NoReturn:
    """Run the functions in the child process, record errors of the whole job, and exit."""
    status = 1
    opened = surroundings.open_files()
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # an empty stdin: a function that asks for input gets the end of file
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        faulthandler.enable(all_threads=False)
        shim.install()
        _show_lines_at_once()
        job = workdir.settle(job)
        cursor = surroundings.announce(job)
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
    """End the process of the functions after flushing their files.

    Threads and exit handlers of the user's modules must not keep a finished job alive. ``opened``
    are the files that were open before the functions were loaded.
    """
    try:
        surroundings.flush_files(opened)
    finally:
        os._exit(status)


def _show_lines_at_once() -> None:
    """Flush standard streams line by line, so that output can be read while a function runs."""
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
    """Run the functions over all items of a chunk that are left to do and not in `skip`."""
    cursor = Cursor() if cursor is None else cursor
    program = job.program
    # Before the functions are loaded: the worker's own, and what it inherited when it was forked.
    base_kb = measure.resident_kb()
    content = image.enter(
        job.root, job.payload, os.path.join(os.path.dirname(os.getcwd()), "modules")
    )
    around.begin()
    initials = content["initials"]
    values = bound.BoundValues(
        chunkfile.bound_values(job.description["binds"]), pickler(), job.copies_bound
    )
    if values.shared:
        recordfile.append(job.record, "sound", -1)
    directories = checkpoint.CallDirectories(job)
    calls = Calls(base_kb, around, directories if directories.used else None)
    content["functions"] = functions = calls.wrap(program, content["functions"])
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
        asked.append(sinks.CheckSink(check, function, values.values, job.record, cursor))
        by_position.setdefault(check["after"], []).extend(asked)
    try:
        if program["mode"] == "reduce":
            _reduce(job, functions, initials, values, every, asked, cursor, shared, around)
        else:
            emit = chain(program["operations"], functions, values.values, by_position, cursor)
            items = _Items(job, shared, cursor, values, every, directories, around, skip)
            items.run(emit, functions)
        if values.look(due=True):
            recordfile.append(job.record, "sound", shared.get().items)
    except bound.Altered:
        for sink in every:
            sink.writer.discard()
        directories.close()
        shared.put(ALTERED, 0, 0, 0, 0)
        return
    for sink in every:
        sink.close()
        sink.writer.close(sync=True)
    directories.close()
    _, position, number, done, failed = shared.get()
    shared.note(calls.report(done + failed))
    shared.put(FINISHED, position, number, done, failed)


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
    content: Functions,
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


class Watcher(Protocol):
    """The interface of an observer of the items of a job."""

    def begin(self, sequence: int, key: str) -> None:
        """An item is next."""

    def check(self) -> None:
        """The functions are done with it; it fails if this raises."""

    def fail(self, sequence: int, key: str, error: BaseException, load: Load) -> str:
        """It has failed, unless this raises; ``load`` loads it again. Return the error as text."""

    def end(self, sequence: int, trace: str) -> None:
        """It has ended: finished, or with an error as text."""


def each_item(
    view: views.View,
    emit: Emit,
    sinks: List[Sink],
    cursor: Cursor,
    stage: str,
    watcher: Watcher,
    skip: Container[int],
    wanted: Optional[Container[int]],
) -> int:
    """Pass the items of a chunk through the operations of its node; return how many there are.

    Parameters
    ----------
    view : View
        The items.
    emit : callable
        The chain of operations.
    sinks : list of Sink
        All outputs.
    cursor : Cursor
        Kept up to date.
    stage : str
        The first stage that gets the items.
    watcher : Watcher
        Observes them.
    skip, wanted : container of int
        The items not to compute, and the only ones to compute; None for all.
    """
    sequence = -1
    load = view.load
    # Not by enumerate(): it would keep an item while the next one is read, as would `stored`.
    for key, stored in view.items:
        sequence += 1
        if sequence in skip or (wanted is not None and sequence not in wanted):
            del stored
            continue
        watcher.begin(sequence, key)
        cursor.item(key)
        cursor.stage = stage
        trace = ""
        try:
            emit(key, load(stored))
            watcher.check()
            for sink in sinks:
                sink.end(sequence)
        except BaseException as error:
            trace = watcher.fail(sequence, key, error, functools.partial(load, stored))
            for sink in sinks:
                sink.abandon()
        del stored
        watcher.end(sequence, trace)
    return sequence + 1


class _Items:
    """Computes the items of a job, and records the outcome of each."""

    def __init__(
        self,
        job: Job,
        shared: Shared,
        cursor: Cursor,
        values: bound.BoundValues,
        sinks: List[Sink],
        directories: checkpoint.CallDirectories,
        around: Surroundings,
        skip: Optional[Set[int]],
    ) -> None:
        self._job = job
        self._shared = shared
        self._claim = shared.claim
        self._cursor = cursor
        self._values = values
        self._sinks = sinks
        self._directories = directories
        self._has_directories = directories.used
        self._around = around
        self._skip = skip
        self._total = views.total(job.description)
        self._done = self._failed = 0
        self._reporter = report.Reporter(job)
        self._pauser = directories.pauser = eviction.Pauser(job, self._pause)
        # whether loading an item calls functions
        self._calls = job.description["view"] in BY_HASH

    def run(self, emit: Emit, functions: List[Any]) -> None:
        """Pass the items through the operations of the node."""
        program, description = self._job.program, self._job.description
        combine, stage = program["combine"], program["stages"][0]
        view = views.open_view(description, None if combine is None else functions[combine])
        self._cursor.stage = stage
        self._streams = _Streams(self._job.record, self._around, again=self._skip is not None)
        todo = description["todo"]
        wanted = None if todo is None else set(chunkfile.chosen(todo))
        skip = self._skip or set()
        number = each_item(view, emit, self._sinks, self._cursor, stage, self, skip, wanted)
        self._shared.put(RUNNING, 0, number, self._done, self._failed)

    def begin(self, sequence: int, key: str) -> None:
        self._shared.put(RUNNING, sequence + 1, sequence + 1, self._done, self._failed)
        if self._has_directories:
            self._directories.item(sequence)

    def check(self) -> None:
        input_files.check()
        if self._claim is not None and self._claim.is_lost_by_now():
            os._exit(0)  # silently: another job has replaced this one

    def fail(self, sequence: int, key: str, error: BaseException, load: Load) -> str:
        surroundings.leave_fork(error)
        if isinstance(error, bound.Altered):
            raise error
        self._around.restore()
        input_files.forget()
        if self._claim is not None and self._claim.is_lost_by_now():
            os._exit(0)
        again = None if self._calls else load
        return self._reporter.item(self._cursor.stage, key, sequence, error, again)

    def end(self, sequence: int, trace: str) -> None:
        if trace:
            self._failed += 1
        else:
            self._done += 1
        if self._has_directories:
            self._directories.end(done=not trace)
        self._streams.item(sequence, trace)
        if self._values.shared and self._values.look():
            recordfile.append(self._job.record, "sound", sequence)
        if self._pauser.is_due() and sequence + 1 != self._total:
            self._shared.put(RUNNING, 0, sequence + 1, self._done, self._failed)
            self._pauser.pause()

    def _pause(self) -> None:
        """End this process with all finished work in its files, to continue later."""
        sequence = self._shared.get().position - 1
        if self._values.look(due=True):
            recordfile.append(self._job.record, "sound", sequence)
        self._streams.pause(sequence)
        for sink in self._sinks:
            sink.close()
            sink.writer.discard()
        self._directories.close()
        self._shared.put(PAUSED, *self._shared.get()[1:])
        end_process(0)


def combined(
    reduction: ReductionEntry, function: Any, initial: Any, keywords: Load, items: Iterable[Any]
) -> Any:
    """Return the value of a reduce; MISSING if it reads no values.

    Parameters
    ----------
    reduction : dict
        Its entry in the program of the node.
    function, initial : object
        The function, and the initial value; MISSING for none.
    keywords : callable
        Returns the bound values of one call.
    items : iterable
        The values.
    """
    # A fold's parts include its initial value, which is the result if there are none.
    total: Any = MISSING if reduction["begun"] else initial
    for item in items:
        total = item if total is MISSING else function(total, item, **keywords())
        del item  # not to be kept while the next one is read
    return initial if total is MISSING and reduction["final"] else total


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
    streams = _Streams(job.record, around)
    number = 0
    key = ""

    def items() -> Iterator[Any]:
        nonlocal number, key
        for frame in chunkfile.frames(job.description["streams"][0]["parts"]):
            key = frame.key
            shared.put(RUNNING, number + 1, number, 0, 0)
            yield chunkfile.value(frame)
            del frame
            number += 1
            input_files.check()

    try:
        total = combined(reduction, function, initial, keywords, items())
        streams.item(0)
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
    """Records which parts of the job's output streams each item printed."""

    def __init__(self, record: str, around: Surroundings, again: bool = False) -> None:
        self._record = record
        self._sizes = around.sizes
        self._before = self._sizes()
        self._paused: Optional[RecordPaused] = None
        if again:
            for line in recordfile.lines(record):
                self._paused = line.get("paused", self._paused)

    def write(self, trace: str) -> None:
        """Write a traceback to standard error, even if functions have replaced `sys.stderr`."""
        self._sizes()  # which flushes
        os.write(2, trace.encode(errors="backslashreplace"))

    def item(self, sequence: int, trace: str = "") -> None:
        """Record what an item printed; `trace` is written after that, and is not part of it."""
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
        """Record where the output of the current item begins, for when the job continues it."""
        before = self._before
        if self._paused is not None and self._paused["sequence"] == sequence:
            before = self._paused["from"]
        paused: RecordPaused = {"sequence": sequence, "from": before}
        recordfile.append(self._record, "paused", paused)
        self._sizes()  # which flushes
