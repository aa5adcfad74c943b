"""Wrappers around the calls of the user's functions.

Each call is timed, so that stages that share a job have times of their own: a function returns
before its value goes to the next one. After it the surroundings are restored. In a node with
checkpoints it works in a directory of its own. One wrapper does all of that. Two readings of the
clock and the call of the wrapper cost some tenths of a microsecond (``benchmarks/measuring.py``).
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Tuple

from ..api.checkpoint import CallDirectories
from ..data.snapshot import Owner
from .program import pickler
from .surroundings import NO_SURROUNDINGS, Surroundings
from .values import truth

if TYPE_CHECKING:
    from ..formats.record import JobMeasures
    from ..formats.task import Program

CALLS_FUNCTIONS = True  # of the user's, which says whose an error is
_SIZED = (list, tuple, dict, set, frozenset, str, bytes, range)

Meter = Callable[[], Tuple[int, float, int]]

_clock = time.perf_counter


class Calls:
    """The wrapped functions of a node, in the process that calls them.

    Parameters
    ----------
    base_kb : int
        The memory that the process occupied before functions were loaded.
    surroundings : Surroundings
        The surroundings to restore after each call.
    directories : CallDirectories, optional
        The working directories of calls, in a node with checkpoints.
    """

    def __init__(
        self,
        base_kb: int,
        surroundings: Surroundings = NO_SURROUNDINGS,
        directories: Optional[CallDirectories] = None,
    ) -> None:
        self._base_kb = base_kb
        self._surroundings = surroundings
        self._directories = directories
        self._meters: List[Tuple[str, str, Meter]] = []
        self._begun = 0.0

    def wrap(self, program: Program, functions: List[Any]) -> List[Any]:
        """Return the wrapped functions of a node, and start to measure time."""
        wrapped = list(functions)

        def put(index: int, function: Any, stage: str, role: str, kind: str) -> None:
            make: Callable[..., Tuple[Any, Meter]] = _MAKERS.get(kind, _plain)
            wrapped[index], meter = make(function, self._surroundings)
            self._meters.append((stage, role, meter))

        for operation in program["operations"]:
            index, stage = operation["function"], operation["stage"]
            function = functions[index]
            if self._directories is not None:
                function = self._directories.wrap(function, stage)
            put(index, function, stage, "whole", operation["kind"])
        for output in program["outputs"]:
            for role, part in (
                ("key", output["key"]),
                ("combine", output["combine"]),
                ("merge", output["merge"]),
            ):
                if part is not None:
                    put(part, functions[part], output["stage"], "parts", role)
        combine, reduction = program["combine"], program.get("reduction")
        if combine is not None:
            put(combine, functions[combine], program["stages"][0], "whole", "combine")
        if reduction is not None:
            index = reduction["function"]
            put(index, functions[index], reduction["stage"], "whole", "reduce")
        # What asks whether a loop is over is none of the stages, whose times these are.
        self._begun = _clock()
        return wrapped

    def report(self, items: int) -> JobMeasures:
        """Return the times since `wrap`, for this number of items."""
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


def _plain(function: Any, around: Surroundings) -> Tuple[Any, Meter]:
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


def _filter(function: Any, around: Surroundings) -> Tuple[Any, Meter]:
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


def _flat_map(  # noqa: C901  (one closure, for speed)
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
        """The elements of an iterator that a function returned, none of which is kept."""

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
            """Take all elements at once, and return the one that was taken before."""
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
    "filter": _filter,
    "flat_map": _flat_map,
}
