"""Pickle functions and items so that a job needs none of the user's own files.

Functions and classes of ``__main__`` and of the user's project travel by value. Modules that
functions import only when they run travel as source.
"""

from __future__ import annotations

import contextlib
import functools
import io
import pickle
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cloudpickle

from htdag import _fingerprints, runtime
from htdag._paths import TransferPath, TransferURL, Travelling
from htdag._project import is_project_module, project_modules_by_value, variables
from htdag._reach import reach
from htdag.errors import FunctionError, HtdagError, ItemPickleError, UsageError
from htdag.runtime import identity, reducers, travel
from htdag.runtime.frames import Pickled, large_buffers, plain

PROTOCOL = 5
_SETS = (pickle.EMPTY_SET, pickle.FROZENSET)
_PLAIN = (int, float, str, bytes, bool, type(None))


class ItemPickler:
    """Pickle items one by one; the error names the item.

    Parameters
    ----------
    stage : str
        The source's name, for errors.
    classes : set
        Receives the classes and functions that unpickling the items needs, but Python's own.
    same : dict of bytes to bytes
        Receives the digests of pickles that are others in another process, and those of the items.
    travelling : Travelling
        Receives the files that travel with the items.
    """

    def __init__(
        self, stage: str, classes: set[Any], same: identity.Same, travelling: Travelling
    ) -> None:
        self._stage = stage
        self._classes = classes
        self._same = same
        self._travelling = travelling

    def __call__(self, item: Any, number: int) -> Pickled:
        if type(item) in _PLAIN:
            return plain(item)
        try:
            with project_modules_by_value(), _named_as_in_jobs():
                file = io.BytesIO()
                buffers: list[Any] = []
                pickler = _Pickler(file, None, large_buffers(buffers), self._travelling)
                pickler.dump(item)
                self._classes |= pickler.classes
                found = Pickled(file.getvalue(), tuple(buffers), self._travelling.taken())
                if pickler.classes or any(code in found.payload for code in _SETS):
                    self._note(item, found)
                return found
        except HtdagError as error:
            raise UsageError(f"source {self._stage!r}, item {number}: {error}") from error
        except Exception as error:
            raise ItemPickleError(
                f"source {self._stage!r}: item {number}, a {type(item).__name__}, cannot be "
                f"pickled for the jobs: {error}"
            ) from error

    def _note(self, item: Any, pickled: Pickled) -> None:
        own = _fingerprints.of_item(item)
        if own is not None:
            files = [file.encode() for file in pickled.files]
            same = identity.digest(own, *files) if files else own
            self._same[identity.digest(pickled.payload, *pickled.buffers)] = same


@contextlib.contextmanager
def _named_as_in_jobs() -> Iterator[None]:
    """Let pickles name what finds files in jobs by the name of its module there."""
    package, _, _ = travel.arrived.__module__.partition(".")
    names = {package: runtime, travel.arrived.__module__: travel}
    sys.modules.update(names)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def dump_content(
    content: dict[str, Any], functions: Sequence[tuple[str, Any]], classes: set[Any]
) -> bytes:
    """Return the payload of a node: what its jobs unpickle before the first item.

    Parameters
    ----------
    content : dict
        ``functions`` and ``initials``, as the worker expects them.
    functions : sequence of (str, callable)
        The functions again, with the stage to name in errors.
    classes : set
        Classes that the items are of: methods of the user's own may import modules.

    Raises
    ------
    FunctionError
        Naming the stage and, where it can be found, the variable at fault.
    """
    reached = reach([*(function for _, function in functions), content["initials"], *classes])
    with project_modules_by_value():
        try:
            buffer = io.BytesIO()
            _Pickler(buffer, reached.names).dump(content)
        except Exception as error:
            for stage, function in functions:
                check_function(function, stage)
            raise FunctionError(f"the functions cannot be pickled: {error}") from error
    return pickle.dumps({"modules": reached.modules, "content": buffer.getvalue()}, PROTOCOL)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles modules of the user's project with only those of their names that are used.

    The rest of a module may need what an execute node does not have. `names` None stands for all.
    """

    def __init__(
        self,
        file: Any,
        names: frozenset[str] | None,
        buffer_callback: Any = None,
        travelling: Travelling | None = None,
    ) -> None:
        super().__init__(file, PROTOCOL, buffer_callback=buffer_callback)
        self._names = names
        self._travelling = travelling
        self.classes: set[Any] = set()

    def reducer_override(self, value: Any) -> Any:
        if value is travel.arrived:
            return super().reducer_override(value)  # jobs have it
        made = reducers.reduced(value)
        if made is not NotImplemented:
            return made
        if isinstance(value, type | types.FunctionType) and _is_no_part_of_python(value):
            self.classes.add(value)
        if isinstance(value, TransferPath | TransferURL):
            if self._travelling is None:
                raise pickle.PicklingError(
                    f"{value!r} travels as a part of an item only; a file that all jobs of a stage "
                    f"need is for its option input_files"
                )
            return travel.arrived, (self._travelling.reference(value),)
        if isinstance(value, types.CodeType):
            # cloudpickle 3.1.3 leaves out the file, without which a traceback quotes no lines.
            make, parts = self.dispatch_table[types.CodeType](value)
            return make, tuple(value.co_filename if p == "<dynamic-code>" else p for p in parts)
        if isinstance(value, functools._lru_cache_wrapper):
            parameters = value.cache_parameters()
            cache = lambda function, size, typed: functools.lru_cache(size, typed)(function)  # noqa: E731
            return cache, (value.__wrapped__, parameters["maxsize"], parameters["typed"])
        if isinstance(value, types.ModuleType) and value.__name__.startswith("htdag."):
            # cloudpickle takes `subprocess.run` for a use of `htdag.run`, which no job has.
            name = value.__name__.partition(".")[2]
            return getattr, (sys.modules["htdag"], name, sys.modules["htdag"])
        if not is_project_module(value) or value.__name__ == "__main__":
            return super().reducer_override(value)
        state = {
            name: content
            for name, content in vars(value).items()
            if (self._names is None or name in self._names) and not name.startswith("__")
        }
        state["__file__"] = getattr(value, "__file__", None)
        return types.ModuleType, (value.__name__, value.__doc__), state


def _is_no_part_of_python(value: Any) -> bool:
    return str(value.__module__).partition(".")[0] not in sys.stdlib_module_names


class _Nowhere(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data)


def check_function(function: Any, stage: str) -> None:
    """Raise `FunctionError` unless a function can be called and pickled."""
    if not callable(function):
        raise FunctionError(
            f"stage {stage!r} needs a function, but got a {type(function).__name__}: {function!r}"
        )
    with project_modules_by_value():
        try:
            _Pickler(_Nowhere(), reach([function]).names).dump(function)
        except Exception as error:
            raise FunctionError(
                f"stage {stage!r}: the function {_described(function)} cannot be pickled for the "
                f"jobs: {error}{_culprit(function)}"
            ) from error


def _described(function: Any) -> str:
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", repr(function))
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else str(name)


def _culprit(function: Any) -> str:
    """Name the variable that a function drags along and that cannot be pickled."""
    for kind, name, value in variables(function):
        try:
            _Pickler(_Nowhere(), reach([function]).names).dump(value)
        except Exception:
            return (
                f". It uses the {kind} variable {name!r}, a {type(value).__name__}, which cannot "
                f"travel: make it inside the function instead"
            )
    return ""


def function_name(function: Callable[..., Any] | Any) -> str:
    """Return the name of a function, or "" for a lambda or an object without one."""
    inner = getattr(function, "func", function)
    name = getattr(inner, "__name__", "")
    return "" if name == "<lambda>" else str(name)
