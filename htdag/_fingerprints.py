"""What a function does, as digests that are the same in every process.

A function is followed over everything of the user's own project that it reaches; each function,
class, variable and module on the way is a *component* with a digest of its own, so that a change
can be told by its name. What of code and of values counts is in `_digests`.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import sys
import types
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any

from htdag import _digests
from htdag._digests import canonical, digest
from htdag._project import is_installed_code, is_project_module, variables
from htdag._reach import reach, used_names

ITSELF = "its function"
"""The component that stands for the code of the function that was asked for."""


@dataclass
class Fingerprint:
    """What a function, or a value, is made of.

    Attributes
    ----------
    components : dict of str to str
        The digest of each component by its name, such as ``"helper parse in books.py"``.
    unsure : dict of str to str
        What cannot be digested, with the reason: it counts as changed.
    """

    components: dict[str, str] = field(default_factory=dict)
    unsure: dict[str, str] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """Return it as plain dicts."""
        return {"components": dict(sorted(self.components.items())), "unsure": self.unsure}


def of_function(function: Any) -> Fingerprint:
    """Return what a function, or an object that is called as one, does.

    Examples
    --------
    >>> of_function(lambda x: x + 1).components == of_function(lambda x: x + 1).components
    True
    >>> of_function(lambda x: x + 1).components == of_function(lambda x: x + 2).components
    False
    """
    walk = _Walk()
    walk.root(function)
    for name, module in sorted(reach([function]).modules.items()):
        if module["importable"] and module["source"]:
            file = os.path.basename(module["file"])
            walk.note(f"module {name} ({file})", _digests.of_source(module["source"]))
    return walk.done()


def of_value(value: Any, what: str) -> Fingerprint:
    """Return what a value is made of; `what` names it."""
    walk = _Walk()
    walk.data(what, value)
    return walk.done()


def of_classes(classes: Iterable[type]) -> Fingerprint:
    """Return what the classes of items are made of."""
    walk = _Walk()
    for kind in classes:
        walk.reference(kind)
    return walk.done()


def of_item(item: Any) -> bytes | None:
    """Return a digest of an item by its content, or None where there is none.

    Classes of the user's project count by name alone.
    """
    try:
        return hashlib.sha256(canonical(item, _by_name)).digest()[:16]
    except Exception:
        return None


def _by_name(value: Any) -> Any:
    if isinstance(value, type):
        return ("class", value.__module__, value.__qualname__)
    if isinstance(value, types.FunctionType | types.ModuleType):
        raise pickle.PicklingError("code among the data")
    return None


class _Walk:
    """Collects components; each object is followed once."""

    def __init__(self) -> None:
        self._found: dict[str, set[str]] = {}
        self._unsure: dict[str, str] = {}
        self._queue: list[tuple[str, Any]] = []
        self._labels: dict[int, str] = {}
        self._kept: list[Any] = []  # so that no id is given to another object meanwhile

    def done(self) -> Fingerprint:
        """Follow all that is left and return what was found."""
        while self._queue:
            label, value = self._queue.pop()
            if isinstance(value, type):
                self._class(label, value)
            else:
                self._function(label, value)
        components = {
            label: digest("\n".join(sorted(found)).encode()) for label, found in self._found.items()
        }
        return Fingerprint(components, self._unsure)

    def note(self, label: str, found: str) -> None:
        """Add the digest of a component; several objects may have the same name."""
        self._found.setdefault(label, set()).add(found)

    def root(self, function: Any) -> None:
        """Follow the function that was asked for."""
        if isinstance(function, types.FunctionType) and _is_own(function):
            self._labels[id(function)] = ITSELF
            self._kept.append(function)
            self._queue.append((ITSELF, function))
        else:
            self.data(ITSELF, function)

    def data(self, label: str, value: Any, names: Set[str] = frozenset()) -> None:
        """Add a value: code in it is followed, the rest is digested by its pickle."""
        if isinstance(value, types.ModuleType):
            self._module(label, value, names)
            return
        try:
            self.note(label, digest(canonical(value, self.reference)))
        except Exception as error:
            kind = type(value).__name__
            self._unsure[label] = f"a {kind} cannot be compared with an earlier one ({error})"

    def reference(self, value: Any) -> Any:
        """Return what stands for code in the pickle of a value, and follow it; None for data."""
        if isinstance(value, type):
            if _is_own_class(value):
                return ("class", self._follow(value, _class_label(value)))
            return ("class", value.__module__, value.__qualname__, _version(value.__module__))
        if isinstance(value, types.FunctionType):
            if _is_own(value):
                return ("function", self._follow(value, _function_label(value)))
            name = (value.__module__, value.__qualname__, _version(value.__module__))
            return ("function", *name, _digests.of_code(value.__code__))
        if isinstance(value, types.BuiltinFunctionType) and (
            value.__self__ is None or isinstance(value.__self__, types.ModuleType)
        ):
            return ("builtin", value.__module__, value.__qualname__, _version(value.__module__))
        if isinstance(value, types.ModuleType):
            if is_project_module(value):
                raise pickle.PicklingError(f"it holds the module {value.__name__}")
            return ("module", value.__name__, _version(value.__name__))
        if isinstance(value, functools._lru_cache_wrapper):
            parameters = tuple(sorted(value.cache_parameters().items()))
            return ("lru_cache", self.reference(value.__wrapped__), parameters)
        if isinstance(value, types.CodeType):
            return ("code", _digests.of_code(value))
        return None

    def _follow(self, value: Any, label: str) -> str:
        if id(value) not in self._labels:
            self._labels[id(value)] = label
            self._kept.append(value)
            self._queue.append((label, value))
        return self._labels[id(value)]

    def _function(self, label: str, function: types.FunctionType) -> None:
        self.note(label, _digests.of_code(function.__code__))
        names = used_names(function.__code__)
        if function.__defaults__ or function.__kwdefaults__:
            self.data(
                f"defaults of {label}", (function.__defaults__, function.__kwdefaults__), names
            )
        extra = {name: v for name, v in vars(function).items() if name != "__wrapped__"}
        if extra:
            self.data(f"attributes of {label}", extra)
        file = _file_name(function.__code__.co_filename)
        for kind, name, value in variables(function):
            if kind == "enclosing":
                self._variable(f"enclosing variable {name} of {label}", value, names)
            elif not name.startswith("__"):
                self._variable(f"variable {name} in {file}", value, names)

    def _variable(self, label: str, value: Any, names: Set[str]) -> None:
        if isinstance(value, type | types.FunctionType):
            self.note(label, digest(repr(self.reference(value)).encode()))
            return
        self.data(label, value, names)

    def _module(self, label: str, module: types.ModuleType, names: Set[str]) -> None:
        if not is_project_module(module):
            self.note(label, digest(repr((module.__name__, _version(module.__name__))).encode()))
            return
        if id(module) in self._labels:
            return
        self._labels[id(module)] = label
        for name in sorted(names & set(vars(module))):
            if not name.startswith("__"):
                file = _file_name(module.__file__ or "")
                self._variable(f"variable {name} in {file}", vars(module)[name], names)
        self._labels.pop(id(module))

    def _class(self, label: str, kind: type) -> None:
        self.note(label, digest(repr((kind.__name__, type(kind).__qualname__)).encode()))
        for base in kind.__bases__:
            self.note(f"bases of {label}", digest(repr(self.reference(base)).encode()))
        for name, value in sorted(vars(kind).items()):
            if name in _NOT_OF_CLASSES or isinstance(value, _DESCRIPTORS):
                continue
            for number, part in enumerate(_parts(value)):
                if isinstance(part, types.FunctionType | type):
                    reference = self.reference(part)
                    self.note(f"{name} of {label}", digest(repr((number, reference)).encode()))
                else:
                    self.data(f"{name} of {label}", part)


_NOT_OF_CLASSES = frozenset(
    {
        "__annotations__",
        "__annotate__",
        "__annotate_func__",
        "__annotations_cache__",
        "__conditional_annotations__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__match_args__",
        "__module__",
        "__slotnames__",
        "__static_attributes__",
        "__weakref__",
        "_abc_impl",
    }
)
_DESCRIPTORS = (
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
)


def _parts(value: Any) -> Iterator[Any]:
    """Yield what a member of a class is made of."""
    if isinstance(value, property):
        yield from (value.fget, value.fset, value.fdel)
    elif isinstance(value, staticmethod | classmethod):
        yield value.__func__
    elif isinstance(value, functools.cached_property):
        yield value.func
    else:
        yield value


def _is_own(function: types.FunctionType) -> bool:
    return not is_installed_code(function.__code__.co_filename)


def _is_own_class(kind: type) -> bool:
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        return not str(kind.__module__).startswith("htdag.")
    return is_project_module(sys.modules.get(kind.__module__))


def _file_name(path: str) -> str:
    return os.path.basename(path) if os.path.isfile(path) else "what was typed in"


def _function_label(function: types.FunctionType) -> str:
    name = function.__qualname__.replace("<locals>.", "")
    return f"helper {name} in {_file_name(function.__code__.co_filename)}"


def _class_label(kind: type) -> str:
    file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
    return f"class {kind.__qualname__} in {_file_name(file)}"


def _version(module: str | None) -> str:
    """Return the version of the package that a module is in, "" where it tells none."""
    top = str(module or "").partition(".")[0]
    return str(getattr(sys.modules.get(top), "__version__", ""))
