"""What a job measures of itself: the time of each stage, its memory and its disk.

The user's functions are timed one by one, so that stages that share a job have times of their own:
a function returns before its value goes on to the next one. Two readings of the clock and the
call of a function around it cost some tenths of a microsecond (``benchmarks/measuring.py``).
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import sys
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Tuple

from .. import layout
from ..data import itemfile
from ..data.snapshot import Owner
from ..task import Job
from . import workdir
from .program import pickler, truth
from .surroundings import NO_SURROUNDINGS, Surroundings

if TYPE_CHECKING:
    from ..formats.record import JobMeasures, JobUsage
    from ..formats.task import Program

CALLS_FUNCTIONS = True  # of the user's, which says whose an error is
_MOST_ENTRIES = 20_000  # of a scratch directory: a function may leave millions of files there
_SIZED = (list, tuple, dict, set, frozenset, str, bytes, range)

Meter = Callable[[], Tuple[int, float, int]]

_clock = time.perf_counter


class Watch:
    """Times the functions of a node in the process that calls them.

    Made before the user's functions are loaded: what the process occupies then is the worker's own,
    and what it inherited when it was forked.
    """

    def __init__(self) -> None:
        self._base_kb = resident_kb()
        self._meters: List[Tuple[str, str, Meter]] = []
        self._begun = 0.0

    def over(
        self,
        program: Program,
        functions: List[Any],
        surroundings: Optional[Surroundings] = None,
    ) -> List[Any]:
        """Return the functions of a node, timed; begin to take the time.

        After each call the `surroundings` are put back, if they are given.
        """
        timed = list(functions)
        around = NO_SURROUNDINGS if surroundings is None else surroundings

        def put(index: Optional[int], stage: str, role: str, kind: str) -> None:
            if index is not None:
                make: Callable[..., Tuple[Any, Meter]] = _MAKERS.get(kind, _timed)
                timed[index], meter = make(functions[index], around)
                self._meters.append((stage, role, meter))

        for operation in program["operations"]:
            put(operation["function"], operation["stage"], "whole", operation["kind"])
        for output in program["outputs"]:
            for role, number in (
                ("key", output["key"]),
                ("combine", output["combine"]),
                ("merge", output["merge"]),
            ):
                put(number, output["stage"], "parts", role)
        put(program["combine"], program["stages"][0], "whole", "combine")
        reduction = program.get("reduction")
        if reduction is not None:
            put(reduction["function"], reduction["stage"], "whole", "reduce")
        # What asks whether a loop is over is none of the stages, whose times these are.
        self._begun = _clock()
        return timed

    def report(self, items: int) -> JobMeasures:
        """Return what was measured since `over`, in which `items` were worked through."""
        return {
            "items": items,
            "seconds": round(_clock() - self._begun, 6),
            "base_kb": self._base_kb,
            "stages": [
                (stage, role, calls, round(seconds, 6), given)
                for stage, role, (calls, seconds, given) in (
                    (stage, role, meter()) for stage, role, meter in self._meters
                )
            ],
        }


def _timed(function: Any, around: Surroundings) -> Tuple[Any, Meter]:
    calls = 0
    seconds = 0.0

    def call(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls, seconds
        begun = _clock()
        result = function(*arguments, **keywords)
        now = _clock()
        seconds += now - begun
        calls += 1
        if around.is_changed(now):
            around.restore()
        return result

    return call, lambda: (calls, seconds, calls)


def _timed_filter(function: Any, around: Surroundings) -> Tuple[Any, Meter]:
    calls = kept = 0
    seconds = 0.0

    def call(value: Any, **keywords: Any) -> bool:
        nonlocal calls, kept, seconds
        begun = _clock()
        keep = function(value, **keywords)
        if keep is not True and keep is not False:
            keep = truth(keep)
        now = _clock()
        seconds += now - begun
        calls += 1
        if keep:
            kept += 1
        if around.is_changed(now):
            around.restore()
        return keep

    return call, lambda: (calls, seconds, kept)


def _timed_flat_map(  # noqa: C901  (one closure, for speed)
    function: Any, around: Surroundings
) -> Tuple[Any, Meter]:
    """Time a function whose result may do its work only when it is iterated.

    Where it changes its surroundings, such as by ``with``, it gives all its elements at once: the
    stages after it are not to see that, nor it what it has changed put back.
    """
    calls = given = 0
    seconds = 0.0

    def call(value: Any, **keywords: Any) -> Any:
        nonlocal calls, given, seconds
        begun = _clock()
        result = function(value, **keywords)
        now = _clock()
        seconds += now - begun
        calls += 1
        if type(result) in _SIZED:
            given += len(result)
        elif hasattr(type(result), "__iter__"):  # else the caller says what is wrong with it
            result = Elements(iter(result))
            now = _clock()
        if around.is_changed(now):
            if type(result) is Elements and around.is_different():
                result.take_all()
            around.restore()
        return result

    class Elements:
        """What a function gives one by one; none of it is kept here."""

        def __init__(self, elements: Iterator[Any]) -> None:
            self._elements = elements
            self._rest: Optional[List[Any]] = None

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            nonlocal given, seconds
            if self._rest is not None:
                if not self._rest:
                    raise StopIteration
                return self._rest.pop()
            begun = _clock()
            try:
                element = next(self._elements)
            except StopIteration:
                now = _clock()
                seconds += now - begun
                if around.is_changed(now):
                    around.restore()
                raise
            now = _clock()
            seconds += now - begun
            given += 1
            if around.is_changed(now):
                if around.is_different():
                    element = self.take_all(element)
                around.restore()
            return element

        def take_all(self, *first: Any) -> Any:
            """Take all elements; return the one that was taken before, as it was then."""
            nonlocal given, seconds
            own = Owner(pickler()).own
            begun = _clock()
            taken = [own(each) for each in itertools.chain(first, self._elements)]
            seconds += _clock() - begun
            given += len(taken) - len(first)
            taken.reverse()
            self._rest = taken
            return taken.pop() if first else None

    return call, lambda: (calls, seconds, given)


_MAKERS: Dict[str, Callable[..., Tuple[Any, Meter]]] = {
    "filter": _timed_filter,
    "flat_map": _timed_flat_map,
}


def resident_kb() -> int:
    """Return how much memory this process occupies now, shared pages too; in KB."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize() // 1024
    except (OSError, ValueError, IndexError):
        return _peak_kb(resource.RUSAGE_SELF)


def _peak_kb(who: int) -> int:
    peak = resource.getrusage(who).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


def whole_job(job: Job) -> JobUsage:
    """Return the memory and the disk of a job whose functions have ended.

    ``peak_kb`` is the largest that a process of it was: the worker, the child that ran the user's
    functions, or a program that they started and waited for. ``disk_kb`` is what it had on disk at
    its end (0: not known); ``disk_fixed_kb`` the part of that which does not depend on the chunk.
    """
    try:
        whole, fixed = _disk(job)
    except (OSError, ValueError):
        whole, fixed = 0, 0  # what is wrong with a job's files is told by who reads them
    return {
        "peak_kb": max(_peak_kb(resource.RUSAGE_CHILDREN), _peak_kb(resource.RUSAGE_SELF)),
        "disk_kb": -(-whole // 1024),
        "disk_fixed_kb": min(whole, fixed) // 1024,
    }


def _disk(job: Job) -> Tuple[int, int]:
    """Return the bytes of a job's files, and of those that any other chunk has too."""
    shared = os.path.exists(layout.RUN)  # here is the run directory itself
    bound = {
        path
        for bind in job.description["binds"].values()
        for part in bind["parts"]
        for path in part["files"]
    }
    fixed = sum(map(_size, [*bound, job.payload, layout.RUNTIME]))
    if not shared:
        return _left_in("."), fixed
    read = {
        path
        for stream in job.description["streams"]
        for part in stream["parts"]
        for path in part["files"]
    }
    whole = fixed + sum(map(_size, [*read, *job.item_files, job.record])) + _linked(job)
    whole += _left_in(job.files.returned)
    whole += _left_in(os.environ.get("_CONDOR_SCRATCH_DIR") or workdir.folder_of(job))
    return whole, fixed


def _linked(job: Job) -> int:
    """Return the bytes of the files that travel with what a job reads, in place."""
    if not job.program.get("reads_files"):
        return 0
    found = {
        reference
        for stream in job.description["streams"]
        for part in stream["parts"]
        for references in itemfile.references(part["files"])
        for reference in references
    }
    total = 0
    for file in map(json.loads, found):
        path = file.get("path") or os.path.join(file.get("at", ""), file["name"])
        total += _left_in(path, follow=True) if os.path.isdir(path) else _size(path)
    return total


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _left_in(folder: str, follow: bool = False) -> int:
    """Return the bytes of all files below a folder, as far as they can be seen."""
    total = entries = 0
    folders = [folder]
    while folders and entries < _MOST_ENTRIES:
        try:
            with os.scandir(folders.pop()) as found:
                for entry in found:
                    entries += 1
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif follow or not entry.is_symlink():
                        total += entry.stat(follow_symlinks=follow).st_size
        except OSError:
            continue  # a file that is gone meanwhile, or a folder that is closed to us
    return total


def requested_memory() -> Optional[int]:
    """Return the memory that this job asks for, in MB; None where HTCondor does not tell."""
    path = os.environ.get("_CONDOR_JOB_AD")
    if path is None:
        return None
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition("=")
                if name.strip().lower() == "requestmemory":
                    return int(value)
    except (OSError, ValueError):
        return None  # an expression, say
    return None
