"""The user's code that functions reach, in any number of steps.

This calls nothing of the user's, not even a property: attributes are read without their class.
"""

from __future__ import annotations

import abc
import copyreg
import dis
import functools
import gc
import importlib.util
import linecache
import operator
import os
import sys
import types
import weakref
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypedDict

from htdag.functions.project import (
    file_of,
    is_project_class,
    is_project_function,
    is_project_module,
    source_of,
    variables,
)
from htdag.runtime.api.checkpoint import checkpoint
from htdag.runtime.code import static
from htdag.runtime.files.paths import OutputFile

_LEAVES = (str, bytes, bytearray, int, float, complex, bool, type(None), type(...), range)
_LEAF_IDS = frozenset(map(id, _LEAVES))  # a class may have an odd hash
_MOST_ELEMENTS = 200_000  # in all containers: larger ones hold data, not functions
_WRAPPERS = (
    functools.partial,
    functools._lru_cache_wrapper,
    types.MethodType,
    types.GenericAlias,
    defaultdict,
)
"""Classes whose pickles consist of the objects that they hold."""


class ReachedModule(TypedDict):
    """A module of the user's."""

    source: str
    """Its source."""
    file: str
    """Its file; a text in angle brackets if there is none."""
    package: bool
    """Whether it is a package."""
    importable: bool
    """Whether jobs can import it."""


@dataclass(frozen=True)
class Reached:
    """The code that functions reach.

    Attributes
    ----------
    modules : dict
        By name. Modules that are imported while a function runs are importable in the job; the
        others travel by value, and their source only serves tracebacks.
    names : frozenset of str
        All names that the code uses: it may look these up in a module that travels by value.
    foreign : frozenset of str
        Modules outside of the project that are used: unpickling imports them.
    codes : tuple of (code, str)
        All code of the project that may run, with its package.
    """

    modules: dict[str, ReachedModule]
    names: frozenset[str]
    foreign: frozenset[str] = frozenset()
    codes: tuple[tuple[types.CodeType, str], ...] = ()


def reach(functions: Iterable[Any], modules: Iterable[str] = ()) -> Reached:
    """Return what functions, and the given modules, reach of the user's project."""
    search = _Search()
    for name in modules:
        search.add(name, importable=True)
    search.finish(functions)
    # `dataclasses` and `functools.wraps` make functions that name the user's module.
    foreign = {n for n in search.foreign if not is_project_module(sys.modules.get(n))}
    return Reached(search.found, frozenset(search.names), frozenset(foreign), tuple(search.read))


class _Search:
    """A walk from functions over all that they use, which visits objects once."""

    def __init__(self) -> None:
        self.found: dict[str, ReachedModule] = {}
        self.names: set[str] = set()
        self.foreign: set[str] = set()
        self.read: list[tuple[types.CodeType, str]] = []
        self._left: list[Any] = []
        self._seen: set[int] = set()
        self._kept: list[Any] = []  # keeps objects alive, so that their ids stay unique
        self._budget = _MOST_ELEMENTS
        self._codes: list[tuple[types.CodeType, str]] = []  # with their packages
        self._modules: list[types.ModuleType] = []

    def finish(self, functions: Iterable[Any]) -> None:
        """Follow functions, imports inside of them, and attributes of modules."""
        self._left.extend(functions)
        before = -1
        while before != len(self._seen) + len(self.names):
            before = len(self._seen) + len(self.names)
            while self._left:
                self._value(self._left.pop())
            while self._codes:
                code, package = self._codes.pop()
                self.read.append((code, package))
                self.names |= used_names(code)
                for name in _imports(code, package):
                    self.add(name, importable=True)
            for module in self._modules:
                namespace = static.namespace(module)
                self._left.extend(namespace[name] for name in self.names & namespace.keys())

    def _value(self, value: Any) -> None:
        """Follow a function, class, module, container or object."""
        kind = type(value)
        if id(kind) in _LEAF_IDS or id(value) in self._seen:
            return
        self._seen.add(id(value))
        self._kept.append(value)
        if issubclass(kind, types.ModuleType):
            self._module(value)
        elif issubclass(kind, type):
            self._class(value)
        elif kind is types.FunctionType:
            self._function(value)
        elif kind is types.BuiltinFunctionType or kind is types.MethodWrapperType:
            self._builtin(value)
        elif not self._container(kind, value):
            self._object(kind, value)

    def _elements(self, values: Iterable[Any]) -> None:
        """Follow the elements of a container, up to a limit for all containers."""
        for value in islice(values, 10 * _MOST_ELEMENTS):
            if id(type(value)) not in _LEAF_IDS:
                if self._budget <= 0:
                    return
                self._budget -= 1
                self._left.append(value)

    def _container(self, kind: type, value: Any) -> bool:
        """Follow the elements of a container; return whether the value is just a container."""
        for base in (dict, list, tuple, set, frozenset, deque):
            if issubclass(kind, base):
                self._elements(base.__iter__(value))
                if base is dict:
                    self._elements(dict.values(value))
                return kind is base
        if kind is types.MappingProxyType or kind is types.CellType:
            self._left.extend(gc.get_referents(value))
            return True
        if kind.__name__ == "ndarray" and static.module_name(kind) == "numpy":
            self.foreign.add("numpy")
            if value.dtype.hasobject:
                self._elements(value.flat)
            return True
        return False

    def _module(self, module: types.ModuleType) -> None:
        name = static.namespace(module).get("__name__")
        if not isinstance(name, str):
            return
        if not is_project_module(module):
            self.foreign.add(name)
        elif name != "__main__":
            self.add(name, importable=False)
            self._modules.append(module)

    def _class(self, kind: type) -> None:
        if kind is OutputFile:
            self.names.add(kind.__name__)  # under whatever name
            return  # jobs have this class
        name, is_own = static.module_name(kind), is_project_class(kind)
        if is_own:
            self.add(name, importable=False)
        else:
            self.foreign.add(name)
        if is_own or not _has_name(kind, name, kind.__qualname__):
            self._left.extend((type(kind), *static.bases(kind), *static.members(kind).values()))
            if issubclass(type(kind), abc.ABCMeta):
                registered, *_ = abc._get_dump(kind)  # type: ignore[attr-defined]
                self._left.extend(each() for each in registered)

    def _function(self, function: types.FunctionType) -> None:
        if function is checkpoint:
            self.names.add(checkpoint.__name__)  # under whatever name
        code, namespace, module = function.__code__, function.__globals__, function.__module__
        where = namespace.get("__name__")
        if is_project_function(function):
            package = namespace.get("__package__")
            for name in (where, module):
                self.add(name, importable=False)
            self._typed(code.co_filename)
            self._codes.append((code, package if isinstance(package, str) else ""))
            self._annotations(function)
        else:
            self.foreign.update(name for name in (where, module) if isinstance(name, str))
            if where == module and _has_name(function, module, function.__qualname__):
                return  # jobs import it
        # A function that an installed decorator made travels, too, with its enclosing variables.
        self._left.extend(inner for _, _, inner in variables(function))
        self._left.extend(function.__defaults__ or ())
        self._left.extend((function.__kwdefaults__ or {}).values())
        self._left.extend(function.__dict__.values())

    def _builtin(self, function: Any) -> None:
        owner = function.__self__
        if owner is None or issubclass(type(owner), types.ModuleType):
            name = getattr(function, "__module__", None)
            self.foreign.add(name if isinstance(name, str) else "")
        else:
            self._left.append(owner)

    def _object(self, kind: type, value: Any) -> None:
        """Follow an object of any other class: the class, and the object's attributes."""
        self._left.append(kind)
        held = [each for _, each in static.attributes(value)]
        if kind is operator.attrgetter or kind is operator.methodcaller:
            self._getter(value)
        elif issubclass(kind, weakref.ref):
            self._left.append(weakref.ref.__call__(value))
        elif issubclass(kind, BaseException):
            held += [*BaseException.args.__get__(value), value.__cause__]  # type: ignore[attr-defined]
        if _is_only_a_wrapper(kind) or is_project_class(kind) or _travels_by_attributes(kind):
            self._left.extend(held)
        else:
            # It has its own way to be pickled, but the functions that it holds travel with it.
            self._left.extend(filter(_is_code, (*held, *gc.get_referents(value))))

    def _getter(self, value: Any) -> None:
        _, parts, *_ = value.__reduce__()
        words = " ".join(part for part in parts if isinstance(part, str))
        self.names.update(words.replace(".", " ").split())
        self._left.extend(parts)

    def _annotations(self, function: types.FunctionType) -> None:
        """Follow types in annotations, which are pickled with the function."""
        try:
            kinds = list(function.__annotations__.values())
        except Exception:  # for example, a name that is not defined
            return
        while kinds:
            kind = kinds.pop()
            if type(kind).__module__ in ("types", "typing"):
                kinds.extend(getattr(kind, "__args__", None) or ())
            if issubclass(type(kind), type) and type(kind) is not types.GenericAlias:
                self._left.append(kind)

    def add(self, name: Any, *, importable: bool) -> None:
        """Add a module of the user's by its name."""
        known = self.found.get(name) if isinstance(name, str) else None
        if known is not None:
            if importable and not known["importable"]:
                known["importable"] = True
                self._run_later(name, known)
            return
        file = file_of(name) if isinstance(name, str) and name else None
        source = None if file is None else source_of(name)
        if file is None or source is None:
            return
        self.found[name] = {
            "source": decoded(source),
            "file": file,
            "package": os.path.basename(file) == "__init__.py",
            "importable": importable,
        }
        if importable:
            self._run_later(name, self.found[name])

    def _run_later(self, name: str, module: ReachedModule) -> None:
        """Follow the code of a module that a job imports."""
        package = name if module["package"] else name.rpartition(".")[0]
        code = compiled(module["source"], module["file"])
        if code is not None:
            self._codes.append((code, package))
        self._add_parents(name)

    def _typed(self, file: str) -> None:
        """Record the text of a notebook's cell, which has no file, for tracebacks."""
        if file not in self.found and not os.path.exists(file):
            source = "".join(linecache.getlines(file))
            if source:
                self.found[file] = {
                    "source": source,
                    "file": file,
                    "package": False,
                    "importable": False,
                }

    def _add_parents(self, name: str) -> None:
        """Make the packages of a module importable, including folders without `__init__.py`."""
        parent = name.rpartition(".")[0]
        if not parent:
            return
        self.add(parent, importable=True)
        if parent not in self.found:
            file = f"<the package {parent}>"
            self.found[parent] = {"source": "", "file": file, "package": True, "importable": True}
            self._add_parents(parent)


def decoded(source: bytes) -> str:
    """Return the text of a module, in the encoding that it declares."""
    try:
        return importlib.util.decode_source(source)
    except (SyntaxError, UnicodeDecodeError):
        return source.decode(errors="replace")


@functools.lru_cache(maxsize=256)
def compiled(source: str, file: str) -> types.CodeType | None:
    """Return the code of a module; None if it is not valid."""
    try:
        return compile(source, file, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_only_a_wrapper(kind: type) -> bool:
    return any(kind is wrapper for wrapper in _WRAPPERS) or static.module_name(kind) == "typing"


def _is_code(value: Any) -> bool:
    kind = type(value)
    if issubclass(kind, type):
        return is_project_class(value)
    return kind is types.FunctionType or kind is types.MethodType


def _travels_by_attributes(kind: type) -> bool:
    """Return whether objects of a class are pickled by their attributes."""
    return not any(
        name in static.members(base)
        for base in static.bases(kind)[:-1]
        for name in ("__reduce__", "__reduce_ex__", "__getstate__")
    ) and not any(kind is known for known in copyreg.dispatch_table)


def _has_name(value: Any, module: Any, qualified: str) -> bool:
    """Return whether a module has a function or class under its name."""
    loaded = sys.modules.get(module) if isinstance(module, str) else None
    if not issubclass(type(loaded), types.ModuleType):
        return False
    first, *rest = qualified.split(".")
    target = static.namespace(loaded).get(first)  # type: ignore[arg-type]
    for name in rest:
        if not issubclass(type(target), type):
            return False
        target = static.members(target).get(name)  # type: ignore[arg-type]
    return target is value or getattr(target, "__func__", None) is value


def used_names(code: types.CodeType) -> set[str]:
    """Return the names of globals and attributes in a piece of code, and strings that may be names.

    The strings may be arguments of `getattr`.
    """
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= used_names(constant)
        elif isinstance(constant, str) and constant.isidentifier():
            names.add(constant)
    return names


def _imports(code: types.CodeType, package: str) -> Iterator[str]:
    """Yield the absolute names that a piece of code in a package imports when it runs."""
    for _, name in imported_names(code, package):
        yield name
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _imports(constant, package)


def imported_names(code: types.CodeType, package: str) -> Iterator[tuple[int, str]]:
    """Yield the offset and name of each import in a piece of code, without inner code."""
    previous: list[Any] = []
    module = ""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            level = previous[-2].argval if len(previous) > 1 else 0
            module = _absolute(str(instruction.argval), level or 0, package)
            if module:
                parts = module.split(".")
                for end in (len(parts), *range(1, len(parts))):
                    yield instruction.offset, ".".join(parts[:end])
        elif instruction.opname == "IMPORT_FROM" and module:
            yield instruction.offset, f"{module}.{instruction.argval}"
        if instruction.opname != "EXTENDED_ARG":
            previous = [*previous[-3:], instruction]


def _absolute(name: str, level: int, package: str) -> str:
    """Return the absolute name of a relative import; "" if there is none."""
    if level == 0:
        return name
    parts = package.split(".")
    if not package or level > len(parts):
        return ""
    return ".".join([*parts[: len(parts) - level + 1], *([name] if name else [])])
