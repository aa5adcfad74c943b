"""Work through one chunk: the part of htdag that runs on an execute node.

The process that HTCondor starts supervises; the user's functions run in a child of it. When the
child dies (a signal, ``os._exit``), the supervisor blames the item at hand, and starts another
child for the items after it. Either way it leaves whole outcome files and an exit status of ours.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import pickle
import platform
import resource
import signal
import socket
import struct
import sys
import time
import traceback
from types import TracebackType
from typing import Any, Dict, List, NamedTuple, NoReturn, Optional, Set, Tuple

from . import chunkfile, itemfile, layout, recordfile, usermodules
from .program import MISSING, Cursor, Sink, StageError, chain, pickler

_SHARED = struct.Struct("<QQQQQ")  # state, sequence + 1 or 0, items, done, failed
_STARTING, _RUNNING, _FINISHED, _GAVE_UP = 0, 1, 2, 3
_HERE = os.path.dirname(os.path.abspath(__file__))


class Job(NamedTuple):
    """What one job has to do, as read from the run directory."""

    node: str
    chunk: str
    attempt: int
    program: Dict[str, Any]
    description: Dict[str, Any]

    @property
    def record(self) -> str:
        return layout.record(self.node, self.chunk, self.attempt)

    @property
    def outputs(self) -> List[str]:
        """The item files that the job writes."""
        return [
            layout.output(self.node, self.chunk, self.attempt, output["stage"])
            for output in self.program["outputs"]
        ]

    @property
    def files_folder(self) -> str:
        return "%s/files/%s.%d" % (layout.outcomes(self.node), self.chunk, self.attempt)


def work(node: str, chunk: str, attempt: int) -> int:
    """Work through a chunk in the current directory and return the exit status of the job.

    The status is 0 when the outcome is delivered, failed items or not: a job that failed would
    make DAGMan remove the other jobs of its cluster. Only ``on_error="stop"`` wants just that.
    """
    with open(layout.program(node)) as file:
        program = json.load(file)
    with open(layout.chunk(node, chunk, attempt)) as file:
        description = json.load(file)
    job = Job(node, chunk, attempt, program, description)
    os.makedirs(layout.outcomes(node), exist_ok=True)
    started = time.time()
    recordfile.start(job.record, node, chunk, attempt, socket.gethostname(), _python())
    for path in job.outputs:
        itemfile.ItemWriter(path).discard()
    mismatch = _version_mismatch(program["python"])
    if mismatch:
        _job_error(job, "PythonVersionMismatch", mismatch)
        items, done, failed = None, None, 1
    else:
        items, done, failed = _supervise(job)
    if failed:
        _reconcile_outputs(job)
    end = _end(job, items, done if not failed else None, failed)
    end["seconds"] = round(time.time() - started, 6)
    end["peak_kb"] = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)
    )
    recordfile.append(job.record, "end", end, sync=True)
    return 1 if end["remaining"] != 0 and program["on_error"] == "stop" else 0


def _supervise(job: Job) -> Tuple[Optional[int], Optional[int], int]:
    """Run the user's functions in one child after another until no more items are left.

    Returns how many items the chunk has, how many of them were finished (each None where that is
    not known), and how many errors were recorded.
    """
    shared = mmap.mmap(-1, _SHARED.size)
    skip: Optional[Set[int]] = None
    failed = 0
    while True:
        status = _run_child(job, shared, skip)
        state, position, items, done, failed_here = _SHARED.unpack(shared[:])
        failed += failed_here
        if status == 0 and state == _FINISHED:
            return items, done, failed
        if status == 0 and state == _GAVE_UP:
            return None, None, failed
        failed += 1
        if state != _RUNNING or position == 0 or job.program["mode"] == "reduce":
            _job_error(job, "ProcessDied", _death(status) + _where(state), job.program["stages"])
            return None, None, failed
        for path in job.outputs:
            itemfile.repair(path)
        sound = itemfile.reconcile(job.outputs)
        _blame(job, position - 1, _death(status))
        skip = set(chunkfile.chosen(sound, None)) | _failed_sequences(job)


def _end(job: Job, items: Optional[int], done: Optional[int], failed: int) -> Dict[str, Any]:
    """Return the counts of an attempt whose output files are whole."""
    if items is None:
        try:
            items = chunkfile.count(job.description["inputs"])
        except (itemfile.DamagedFile, OSError):
            items = None
    todo = job.description["todo"]
    wanted = items if todo is None else sum(last - first + 1 for first, last in todo)
    if job.program["mode"] == "reduce":
        finished = bool(done is not None and not failed)
        done = items if finished else 0
        remaining: Optional[int] = 0 if finished else 1
    else:
        if done is None:
            done = sum(last - first + 1 for first, last in itemfile.finished(job.outputs))
        remaining = None if wanted is None else wanted - done
    return {
        "items": items,
        "done": done,
        "failed": failed,
        "remaining": remaining,
        "whole": todo is None,  # whether this attempt alone was to do all of the chunk
        "values": [itemfile.count(path) for path in job.outputs],
        "sizes": [os.path.getsize(path) for path in job.outputs],
        "time": time.time(),
    }


def close_killed(node: str, chunk: str, attempt: int) -> None:
    """Make the outcome of a job whole that was killed together with its supervisor."""
    with open(layout.program(node)) as file:
        program = json.load(file)
    with open(layout.chunk(node, chunk, attempt)) as file:
        description = json.load(file)
    job = Job(node, chunk, attempt, program, description)
    if any(not os.path.exists(path) for path in job.outputs):
        return
    _reconcile_outputs(job)
    end = _end(job, None, None, 0)
    end["killed"] = True
    recordfile.append(job.record, "end", end, sync=True)


def _reconcile_outputs(job: Job) -> None:
    """Make the output files, whole or not, agree on what is finished, and whole."""
    for path in job.outputs:
        itemfile.repair(path)
    itemfile.reconcile(job.outputs)
    for path in job.outputs:
        itemfile.ItemWriter(path, resume=True).close(sync=True)


def _run_child(job: Job, shared: mmap.mmap, skip: Optional[Set[int]]) -> int:
    """Run the user's functions in a child and return its wait status."""
    shared[:] = _SHARED.pack(_STARTING, 0, 0, 0, 0)
    sys.stdout.flush()
    sys.stderr.flush()
    me = os.getpid()
    child = os.fork()
    if child == 0:
        die_with_parent(me)
        _child(job, shared, skip)

    def forward(number: int, frame: Any) -> None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os._exit(128 + number)

    previous = signal.signal(signal.SIGTERM, forward)
    try:
        return os.waitpid(child, 0)[1]
    finally:
        signal.signal(signal.SIGTERM, previous)


def _child(job: Job, shared: mmap.mmap, skip: Optional[Set[int]]) -> NoReturn:
    status = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # fork keeps an empty stdin: a function that asks for input gets the end of file
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        faulthandler.enable(all_threads=False)
        _compute(job, shared, skip)
        status = 0
    except BaseException as error:
        _job_error(
            job, type_name(error), _text(error), job.program["stages"], _user_traceback(error)
        )
        _, position, items, done, failed = _SHARED.unpack(shared[:])
        shared[:] = _SHARED.pack(_GAVE_UP, position, items, done, failed + 1)
        status = 0
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            # Threads and exit handlers of the user's modules must not keep a finished job alive.
            os._exit(status)


def _compute(job: Job, shared: mmap.mmap, skip: Optional[Set[int]]) -> None:
    program = job.program
    dumps = pickler()
    with open(layout.payload(job.node), "rb") as file:
        envelope = pickle.loads(file.read())
    usermodules.install(envelope["modules"])
    content = pickle.loads(envelope["content"])
    functions, initials = content["functions"], content["initials"]
    bound = chunkfile.bound_values(job.description["binds"], job.files_folder)
    cursor = Cursor()
    sinks: Dict[int, List[Sink]] = {}
    for output, path in zip(program["outputs"], job.outputs):
        writer = itemfile.ItemWriter(path, resume=skip is not None, flush=True)
        combine = None if output["combine"] is None else functions[output["combine"]]
        sink = Sink(writer, dumps, output["stage"], combine, cursor)
        sinks.setdefault(output["after"], []).append(sink)
    every = [sink for group in sinks.values() for sink in group]
    if program["mode"] == "reduce":
        _reduce(job, functions, initials, bound, every, cursor, shared)
    else:
        emit = chain(program["operations"], functions, bound, sinks, cursor)
        _each(job, emit, every, cursor, shared, skip or set())
    for sink in every:
        sink.close()
        sink.writer.close(sync=True)
    _, position, items, done, failed = _SHARED.unpack(shared[:])
    shared[:] = _SHARED.pack(_FINISHED, position, items, done, failed)


def _each(
    job: Job, emit: Any, sinks: List[Sink], cursor: Cursor, shared: mmap.mmap, skip: Set[int]
) -> None:
    todo = job.description["todo"]
    wanted = None if todo is None else set(chunkfile.chosen(todo, None))
    done = failed = 0
    sequence = -1
    streams = _Streams(job.record)
    for sequence, frame in enumerate(chunkfile.frames(job.description["inputs"])):
        if sequence in skip or (wanted is not None and sequence not in wanted):
            continue
        _SHARED.pack_into(shared, 0, _RUNNING, sequence + 1, sequence + 1, done, failed)
        cursor.key = frame.key
        try:
            emit(frame.key, chunkfile.value(frame, job.files_folder))
            for sink in sinks:
                sink.end(sequence)
            done += 1
        except BaseException as error:
            failed += 1
            report(job, cursor.stage, frame.key, sequence, error)
            for sink in sinks:
                sink.abandon()
        streams.item(sequence, frame.key)
    _SHARED.pack_into(shared, 0, _RUNNING, 0, sequence + 1, done, failed)


def _reduce(
    job: Job,
    functions: List[Any],
    initials: List[Any],
    bound: Dict[str, Any],
    sinks: List[Sink],
    cursor: Cursor,
    shared: mmap.mmap,
) -> None:
    reduction = job.program["reduction"]
    keywords = {name: bound[source] for name, source in reduction["bind"].items()}
    function = functions[reduction["function"]]
    stage = cursor.stage = reduction["stage"]
    total: Any = MISSING if reduction["initial"] is None else initials[reduction["initial"]]
    sink = sinks[0]
    streams = _Streams(job.record)
    number = 0
    key = ""
    try:
        for frame in chunkfile.frames(job.description["inputs"]):
            key = frame.key
            _SHARED.pack_into(shared, 0, _RUNNING, number + 1, number, 0, 0)
            item = chunkfile.value(frame, job.files_folder)
            total = item if total is MISSING else function(total, item, **keywords)
            number += 1
        streams.item(0, key)
        if total is not MISSING:
            sink.take("0", total)
        elif reduction["final"]:
            raise StageError(
                "no items reached the reduce and it has no initial value; "
                "give initial=... for the value of an empty reduce"
            )
        sink.end(0)
        _SHARED.pack_into(shared, 0, _RUNNING, 0, number, number, 0)
    except BaseException as error:
        sink.abandon()
        report(job, stage, key or None, number, error)
        _SHARED.pack_into(shared, 0, _RUNNING, 0, number, 0, 1)


class _Streams:
    """Note which part of the job's output streams each item printed."""

    def __init__(self, record: str) -> None:
        self._record = record
        self._before = self._sizes()

    @staticmethod
    def _sizes() -> List[int]:
        sys.stdout.flush()
        sys.stderr.flush()
        return [os.fstat(1).st_size, os.fstat(2).st_size]

    def item(self, sequence: int, key: str) -> None:
        after = self._sizes()
        if after != self._before:
            entry = {"sequence": sequence, "key": key, "out": [self._before[0], after[0]]}
            entry["err"] = [self._before[1], after[1]]
            recordfile.append(self._record, "streams", entry)
            self._before = after


def report(job: Job, stage: str, key: Optional[str], sequence: int, error: BaseException) -> None:
    """Add the error of one item to the record."""
    message = _text(error)
    name = type_name(error)
    if isinstance(error, SystemExit):
        message = "the function called sys.exit(%r)" % (error.code,)
    content = {
        "stage": stage,
        "key": key,
        "sequence": sequence,
        "type": name,
        "message": _explained(name, message),
        "traceback": _user_traceback(error),
    }
    recordfile.append(job.record, "error", content)


def _job_error(
    job: Job, name: str, message: str, stages: Optional[List[str]] = None, trace: str = ""
) -> None:
    content = {
        "stage": (stages or job.program["stages"])[0],
        "key": None,
        "sequence": None,
        "type": name,
        "message": _explained(name, message),
        "traceback": trace,
    }
    recordfile.append(job.record, "error", content)


def _blame(job: Job, sequence: int, message: str) -> None:
    key = ""
    for number, frame in enumerate(chunkfile.frames(job.description["inputs"])):
        if number == sequence:
            key = frame.key
            break
    stages = job.program["stages"]
    if len(stages) > 1:
        message += " (in one of the fused stages %s)" % ", ".join(stages)
    content = {
        "stage": stages[-1] if len(stages) == 1 else stages[0],
        "key": key,
        "sequence": sequence,
        "type": "ProcessDied",
        "message": message,
        "traceback": "",
    }
    recordfile.append(job.record, "error", content)
    seen = [line["streams"] for line in recordfile.lines(job.record) if "streams" in line]
    last = seen[-1] if seen else {"out": [0, 0], "err": [0, 0]}
    entry = {
        "sequence": sequence,
        "key": key,
        "out": [last["out"][1], os.fstat(1).st_size],
        "err": [last["err"][1], os.fstat(2).st_size],
    }
    recordfile.append(job.record, "streams", entry)


def _failed_sequences(job: Job) -> Set[int]:
    """Return the items that failed in this attempt so far."""
    errors = (line["error"] for line in recordfile.lines(job.record) if "error" in line)
    return {error["sequence"] for error in errors if error["sequence"] is not None}


def _death(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = "signal"
        hint = {
            "SIGKILL": "; often a sign that memory ran out",
            "SIGSEGV": "; a crash in compiled code",
        }.get(name, "")
        return "the process of the function was killed by signal %d (%s)%s" % (number, name, hint)
    return "the function ended its process with exit status %d, as os._exit does" % os.WEXITSTATUS(
        status
    )


def _where(state: int) -> str:
    return "" if state == _RUNNING else " before its first item"


def _explained(name: str, message: str) -> str:
    if name in ("ModuleNotFoundError", "ImportError"):
        return message + " (imported in the job; %s on %s does not have it)" % (
            sys.executable,
            socket.gethostname(),
        )
    return message


def _version_mismatch(wanted: List[int]) -> str:
    if list(sys.version_info[:2]) == list(wanted):
        return ""
    return (
        "the functions were pickled by Python %d.%d, but %s on %s is Python %s: pickled functions "
        "do not cross minor versions. Run the script with Python %d.%d, or choose execute nodes "
        "that have python%d.%d (or python3 of that version) on their PATH."
        % (
            wanted[0],
            wanted[1],
            sys.executable,
            socket.gethostname(),
            platform.python_version(),
            sys.version_info[0],
            sys.version_info[1],
            wanted[0],
            wanted[1],
        )
    )


def _python() -> str:
    return "%s %s" % (platform.python_version(), sys.executable)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:
        return "(its message cannot be printed: %s)" % type(second).__name__


def type_name(error: BaseException) -> str:
    """Return the name of an exception's type, with its module unless it is a built-in one."""
    kind = type(error)
    if isinstance(error, StageError):
        return "StageError"
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return "%s.%s" % (kind.__module__, kind.__qualname__)


def _user_traceback(error: BaseException) -> str:
    """Return the traceback as text, without the frames of htdag before the user's first."""
    if isinstance(error, StageError):
        return ""
    trace: Optional[TracebackType] = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    if trace is None:
        trace = error.__traceback__
    return "".join(traceback.format_exception(type(error), error, trace))


def _is_ours(filename: str) -> bool:
    return os.path.abspath(filename).startswith(_HERE)


def die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process with its parent (Linux; elsewhere nothing)."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        return
    if os.getppid() != parent:
        os._exit(1)  # it died before it could be asked
