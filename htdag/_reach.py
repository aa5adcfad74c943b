"""The user's modules that functions reach, found so that a job can do without their files."""

from __future__ import annotations

import contextlib
import dis
import importlib.util
import linecache
import os
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from htdag._project import (
    is_installed_code,
    is_project_file,
    is_project_module,
    variables,
)
from htdag.runtime.checkpoint import checkpoint
from htdag.runtime.travel import OutputFile

_LEAVES = (str, bytes, bytearray, int, float, complex, type(None))
_MOST_ELEMENTS = 200_000  # of all containers: more of them hold data, not functions


@dataclass(frozen=True)
class Reached:
    """What functions reach.

    Attributes
    ----------
    modules : dict
        ``source``, ``file``, ``package`` and ``importable`` by module name. Modules that are
        imported while a function runs are importable in the job; the others travel by value, and
        their source only serves tracebacks.
    names : frozenset of str
        All names that the code uses: what it may take from a module that travels by value.
    foreign : frozenset of str
        Modules not of the project of which something is used: unpickling imports them.
    codes : tuple of (code, str)
        All code of the project that may run, with the package it stands in.
    """

    modules: dict[str, dict[str, Any]]
    names: frozenset[str]
    foreign: frozenset[str] = frozenset()
    codes: tuple[tuple[types.CodeType, str], ...] = ()


def reach(functions: Iterable[Any]) -> Reached:
    """Return what functions reach of the user's project, over any number of steps."""
    search = _Search()
    for function in functions:
        search.value(function)
    search.finish()
    # What `dataclasses` and `functools.wraps` make has the name of the user's module.
    foreign = {n for n in search.foreign if not is_project_module(sys.modules.get(n))}
    return Reached(search.found, frozenset(search.names), frozenset(foreign), tuple(search.read))


class _Search:
    """Walks from functions over what they use to modules, each object once."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Any]] = {}
        self.names: set[str] = set()
        self._seen: set[int] = set()
        self._budget = _MOST_ELEMENTS
        self._kept: list[Any] = []  # so that no id is given to another object meanwhile
        self._codes: list[tuple[types.CodeType, str]] = []  # with the package it stands in
        self._modules: list[types.ModuleType] = []
        self.foreign: set[str] = set()
        self.read: list[tuple[types.CodeType, str]] = []

    def value(self, value: Any) -> None:
        """Follow a function, class, module, container or object of a class of the project."""
        if isinstance(value, _LEAVES) or id(value) in self._seen:
            return
        self._seen.add(id(value))
        self._kept.append(value)
        if isinstance(value, types.ModuleType):
            self._module(value)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, property):
            self._all((value.fget, value.fset, value.fdel))
        elif isinstance(value, Mapping):
            self._all(value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            self._all(value)
        else:
            # What a partial, a method or a decorated function stands for.
            for name in ("func", "args", "keywords", "__func__", "__self__", "__wrapped__"):
                self.value(getattr(value, name, None))
            self._function_or_object(value)

    def _all(self, values: Iterable[Any]) -> None:
        for value in islice(values, self._budget):
            self._budget -= 1
            self.value(value)

    def finish(self) -> None:
        """Follow imports inside of functions, and attributes of modules, until nothing is new."""
        before = -1
        while before != len(self._seen) + len(self.names):
            before = len(self._seen) + len(self.names)
            while self._codes:
                code, package = self._codes.pop()
                self.read.append((code, package))
                self.names |= used_names(code)
                for name in _imports(code, package):
                    self._add(name, importable=True)
            for module in list(self._modules):
                for name in self.names & set(vars(module)):
                    self.value(vars(module)[name])

    def _module(self, module: types.ModuleType) -> None:
        if is_project_module(module) and module.__name__ != "__main__":
            self._add(module.__name__, importable=False)
            self._modules.append(module)
        elif not is_project_module(module):
            self.foreign.add(module.__name__)

    def _class(self, kind: type) -> None:
        if kind is OutputFile:
            self.names.add(kind.__name__)  # whatever it is called there
            return  # jobs have it
        if is_project_module(sys.modules.get(kind.__module__)):
            self._add(kind.__module__, importable=False)
            self._all((*vars(kind).values(), *kind.__bases__))
        else:
            self.foreign.add(kind.__module__)

    def _function_or_object(self, value: Any) -> None:
        code = getattr(value, "__code__", None)
        if value is checkpoint:
            self.names.add(checkpoint.__name__)  # whatever it is called there
        if isinstance(code, types.CodeType):
            if not is_installed_code(code.co_filename):
                self._add(getattr(value, "__module__", None) or "__main__", importable=False)
                self._typed(code.co_filename)
                self._codes.append((code, value.__globals__.get("__package__") or ""))
                self._all(inner for _, _, inner in variables(value))
                self._all(value.__defaults__ or ())
                self._all((value.__kwdefaults__ or {}).values())
                self._annotations(value)
            else:
                self.foreign.add(getattr(value, "__module__", None) or "")
        elif is_project_module(sys.modules.get(type(value).__module__)):
            self.value(type(value))
            self.value(getattr(value, "__dict__", None))
        else:
            own = getattr(value, "__module__", None)  # of a function in C
            self.foreign.add(own if isinstance(own, str) else type(value).__module__)

    def _annotations(self, function: Any) -> None:
        """Note the modules of types in annotations: they are pickled with the function."""
        with contextlib.suppress(Exception):  # a name that is not defined, say
            types_left = list(function.__annotations__.values())
            while types_left:
                kind = types_left.pop()
                types_left.extend(getattr(kind, "__args__", ()))
                if isinstance(kind, type) and not is_project_module(
                    sys.modules.get(kind.__module__)
                ):
                    self.foreign.add(kind.__module__)

    def _add(self, name: str, *, importable: bool) -> None:
        file = _project_file(name)
        if file is None:
            return
        known = self.found.get(name)
        if known is not None:
            known["importable"] = known["importable"] or importable
            return
        with open(file, encoding="utf-8", errors="replace") as opened:
            source = opened.read()
        self.found[name] = {
            "source": source,
            "file": file,
            "package": os.path.basename(file) == "__init__.py",
            "importable": importable,
        }
        if importable:
            package = name if self.found[name]["package"] else name.rpartition(".")[0]
            with contextlib.suppress(SyntaxError):
                self._codes.append((compile(source, file, "exec"), package))
            self._add_parents(name)

    def _typed(self, file: str) -> None:
        """Note the text of a notebook's cell, which is in no file: tracebacks quote it."""
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
        """Make importable the packages that a module is in, folders without a file too."""
        parent = name.rpartition(".")[0]
        if not parent:
            return
        self._add(parent, importable=True)
        if parent not in self.found:
            file = f"<the package {parent}>"
            self.found[parent] = {"source": "", "file": file, "package": True, "importable": True}
            self._add_parents(parent)


def _project_file(name: str) -> str | None:
    """Return the source file of a module of the user's project, loaded or not."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if module is None:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):
            return None
        file = spec.origin if spec is not None and spec.has_location else None
    if file is None or not is_project_file(file) or not os.path.exists(file):
        return None
    return str(file)


def used_names(code: types.CodeType) -> set[str]:
    """Return the names of globals and attributes in a piece of code, and its short strings.

    The strings stand for what it may take by `getattr`.
    """
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= used_names(constant)
        elif isinstance(constant, str) and constant.isidentifier():
            names.add(constant)
    return names


def _imports(code: types.CodeType, package: str) -> Iterator[str]:
    """Yield the absolute names that a piece of code of a package imports while it runs."""
    for _, name in imported_names(code, package):
        yield name
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _imports(constant, package)


def imported_names(code: types.CodeType, package: str) -> Iterator[tuple[int, str]]:
    """Yield what a piece of code imports, without the code inside of it, and at which offset."""
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
    """Return the absolute name of a relative import, or "" where there is none."""
    if level == 0:
        return name
    parts = package.split(".")
    if not package or level > len(parts):
        return ""
    return ".".join([*parts[: len(parts) - level + 1], *([name] if name else [])])
