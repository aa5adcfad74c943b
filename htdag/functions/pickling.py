"""Pickle items and functions so that a job needs none of the user's own files.

Objects with a name in the user's modules are pickled by that name: jobs find them in the run's
image of these modules (`htdag.functions.image`), the user's process in the modules themselves.
"""

from __future__ import annotations

import functools
import io
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from htdag.checks.validation import shown
from htdag.errors import FunctionError, HtdagError, ItemPickleError, UsageError
from htdag.functions import fingerprint
from htdag.functions.image import Image, Payload, certain, is_own
from htdag.functions.project import variables
from htdag.options.transfer import TransferPath, TransferURL, Travelling
from htdag.runtime.code import culprit, pickling
from htdag.runtime.data import item_digests
from htdag.runtime.data.frames import Pickled, large_buffers, plain
from htdag.runtime.files import paths

_SETS = (pickle.EMPTY_SET, pickle.FROZENSET)
_PLAIN = (int, float, str, bytes, bool, type(None))


class ItemPickler:
    """A pickler of items, whose errors name the item.

    Parameters
    ----------
    stage : str
        The source's name, for errors.
    classes : set
        Receives the classes and functions that unpickling the items needs, except Python's own.
    same : dict of bytes to bytes
        Receives the digests of pickles that would differ in another process, with the digests of
        their items.
    travelling : Travelling
        Receives the files that travel with the items.
    """

    def __init__(
        self, stage: str, classes: set[Any], same: item_digests.Same, travelling: Travelling
    ) -> None:
        self._stage = stage
        self._classes = classes
        self._same = same
        self._travelling = travelling
        self._seen: set[Any] = set()
        self._own: dict[str, bool] = {}

    def __call__(self, item: Any, number: int) -> Pickled:
        if type(item) in _PLAIN:
            return plain(item)
        try:
            pickled: Pickled = pickling.with_room(self._pickled, item)
            return pickled
        except HtdagError as error:
            raise UsageError(f"source {self._stage!r}, item {number}: {error}") from error
        except Exception as error:
            raise ItemPickleError(
                f"source {self._stage!r}: item {number}, a {type(item).__name__}"
                f"{_place(item, 'item', error, pickling.dumps)}, cannot be pickled for the jobs: "
                f"{error}"
            ) from error

    def _pickled(self, item: Any) -> Pickled:
        file = io.BytesIO()
        buffers: list[Any] = []
        self._travelling.taken()  # discards the files of a failed attempt
        pickler = _ItemPickler(file, large_buffers(buffers), self._travelling, self._seen)
        pickler.dump(item)
        pickled = Pickled(file.getvalue(), tuple(buffers), self._travelling.taken())
        if pickler.new:
            self._first_of_a_kind(pickled, item, pickler.new)
        if pickler.by_value or any(code in pickled.payload for code in _SETS):
            self._note(item, pickled)
        return pickled

    def _first_of_a_kind(self, pickled: Pickled, item: Any, new: list[Any]) -> None:
        """Record classes and functions that no earlier item had, and try to load the item."""
        pickling.try_to_load(pickled, item)
        for each in new:
            if not isinstance(each, type | types.FunctionType):
                continue
            module = str(each.__module__)
            if module not in self._own:
                self._own[module] = is_own(module) or not _is_of_python(module)
            if self._own[module] or "<locals>" in each.__qualname__:
                self._classes.add(each)
            self._seen.add(each)

    def _note(self, item: Any, pickled: Pickled) -> None:
        content_digest = fingerprint.of_item(item)
        if content_digest is not None:
            files = [file.encode() for file in pickled.files]
            same = item_digests.digest(content_digest, *files) if files else content_digest
            self._same[item_digests.digest(pickled.payload, *pickled.buffers)] = same


def _is_of_python(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


def _place(value: Any, name: str, error: Exception, dumps: Callable[[Any], Any]) -> str:
    return "" if isinstance(error, pickling.TooDeep) else culprit.place(value, name, dumps)


class _ItemPickler(pickling.Pickler):
    """A pickler of one item, which replaces files by references."""

    def __init__(
        self, file: Any, buffer_callback: Any, travelling: Travelling, seen: set[Any]
    ) -> None:
        super().__init__(file, pickling.PROTOCOL, buffer_callback=buffer_callback)
        self._travelling = travelling
        self._seen = seen
        self.new: list[Any] = []
        self.by_value = False

    def reducer_override(self, value: Any) -> Any:
        if value is paths.arrived:
            return NotImplemented
        kind = type(value)
        if isinstance(value, type | types.FunctionType):
            if value not in self._seen:
                self.new.append(value)
        elif issubclass(kind, TransferPath | TransferURL):
            return paths.arrived, (self._travelling.reference(value),)
        elif kind not in self._seen:
            self.new.append(kind)
        return super().reducer_override(value)

    def function(self, value: Any) -> Any:
        self.by_value = True
        return super().function(value)

    def class_(self, value: Any) -> Any:
        self.by_value = True
        return super().class_(value)


def dump_content(
    image: Image, content: dict[str, Any], functions: list[tuple[str, Any]]
) -> Payload:
    """Return the payload of a node, which its jobs unpickle before the first item.

    Parameters
    ----------
    image : Image
        The run's image of the user's modules, which receives what the functions reach.
    content : dict
        ``functions`` and ``initials``, as the worker expects them.
    functions : list of (str, callable)
        The functions, with the stages to name in errors.

    Raises
    ------
    FunctionError
        If they cannot be pickled; it names the stage and, if possible, the variable at fault.
    """
    try:
        return image.dump(content)
    except Exception as error:
        for stage, function in functions:
            check_function(function, stage)
        raise FunctionError(f"the functions cannot be pickled: {error}") from error


def check_function(function: Any, stage: str) -> None:
    """Raise `FunctionError` unless a function can be called and pickled.

    This includes the values that it is certain to use when it is called.
    """
    if not callable(function):
        raise FunctionError(
            f"stage {stage!r} needs a function, but got a {type(function).__name__}: "
            f"{shown(function)}"
        )
    image = Image(whole=False)
    try:
        image.check(function)
    except Exception as error:
        raise FunctionError(
            f"stage {stage!r}: the function {_described(function)} cannot be pickled for the "
            f"jobs: {error}{_culprit(image, function)}"
        ) from error
    for user, name, value in _certain(function):
        try:
            image.check(value)
        except Exception as error:
            raise FunctionError(
                f"stage {stage!r}: the function {_described(user)} cannot be pickled for the "
                f"jobs: {error}{_of_variable(image, 'global', name, value)}"
            ) from error


def check_initial(value: Any, stage: str) -> None:
    """Raise `FunctionError` unless the initial value of a stage can be pickled."""
    image = Image(whole=False)
    try:
        image.check(value)
    except Exception as error:
        raise FunctionError(
            f"stage {stage!r}: its initial value, a {type(value).__name__}"
            f"{_place(value, 'initial', error, image.check)}, cannot be pickled for the jobs: "
            f"{error}"
        ) from error


def _certain(function: Any) -> Iterator[tuple[Any, str, Any]]:
    """Yield global variables that a function, or one that it uses, is certain to look up."""
    seen: set[int] = set()
    waiting = [function, vars(type(function)).get("__call__")]
    if isinstance(function, functools.partial):
        waiting.append(function.func)
    elif isinstance(function, types.MethodType):
        waiting.append(function.__func__)
    while waiting:
        user = waiting.pop()
        if id(user) in seen or not isinstance(user, types.FunctionType):
            continue
        seen.add(id(user))
        if not is_own(str(user.__globals__.get("__name__"))):
            continue
        for name, value in certain(user):
            if isinstance(value, types.FunctionType):
                waiting.append(value)
            elif not isinstance(value, type | types.ModuleType):
                yield user, name, value


def _described(function: Any) -> str:
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", None) or shown(function)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else str(name)


def _culprit(image: Image, function: Any) -> str:
    """Return a text about the enclosing variable of a function that cannot be pickled, or ""."""
    for kind, name, value in variables(function):
        if kind == "enclosing":
            try:
                image.check(value)
            except Exception:
                return _of_variable(image, kind, name, value)
    return ""


def _of_variable(image: Image, kind: str, name: str, value: Any) -> str:
    part = culprit.place(value, name, image.check)
    return (
        f". It uses the {kind} variable {name!r}, a {type(value).__name__}{part}, which cannot "
        f"travel: make it inside the function instead"
    )


def function_name(function: Callable[..., Any] | Any) -> str:
    """Return the name of a function; "" for a lambda or an object without a name."""
    inner = getattr(function, "func", function)
    name = getattr(inner, "__name__", "")
    return "" if name == "<lambda>" else str(name)
