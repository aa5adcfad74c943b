"""The user's modules that functions reach, found so that a job can do without their files."""

from __future__ import annotations

import contextlib
import dis
import importlib.util
import os
import sys
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from htdag._project import is_project_file, is_project_module, variables


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
    """

    modules: dict[str, dict[str, Any]]
    names: frozenset[str]


def reach(functions: Iterable[Any]) -> Reached:
    """Return what functions reach of the user's project, over any number of steps."""
    search = _Search()
    for function in functions:
        search.value(function)
    search.finish()
    return Reached(search.found, frozenset(search.names))


class _Search:
    """Walks from functions over what they use to modules, each object once."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Any]] = {}
        self.names: set[str] = set()
        self._seen: set[int] = set()
        self._codes: list[types.CodeType] = []
        self._modules: list[types.ModuleType] = []

    def value(self, value: Any) -> None:
        """Follow a function, class, module or callable object."""
        if value is None or id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, types.ModuleType):
            self._module(value)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, property):
            for accessor in (value.fget, value.fset, value.fdel):
                self.value(accessor)
        else:
            # What a partial, a method or a decorated function stands for.
            for name in ("func", "__func__", "__wrapped__"):
                inner = getattr(value, name, None)
                if callable(inner):
                    self.value(inner)
            self._function(value)

    def finish(self) -> None:
        """Follow imports inside of functions, and attributes of modules, until nothing is new."""
        before = -1
        while before != len(self._seen) + len(self.names):
            before = len(self._seen) + len(self.names)
            while self._codes:
                code = self._codes.pop()
                self.names |= _used_names(code)
                for name in _imports(code):
                    self._add(name, importable=True)
            for module in list(self._modules):
                for name in self.names & set(vars(module)):
                    self.value(vars(module)[name])

    def _module(self, module: types.ModuleType) -> None:
        if is_project_module(module) and module.__name__ != "__main__":
            self._add(module.__name__, importable=False)
            self._modules.append(module)

    def _class(self, kind: type) -> None:
        if is_project_module(sys.modules.get(kind.__module__)):
            self._add(kind.__module__, importable=False)
            for inner in (*vars(kind).values(), *kind.__bases__):
                self.value(inner)

    def _function(self, value: Any) -> None:
        code = getattr(value, "__code__", None)
        if not isinstance(code, types.CodeType):
            if callable(value):
                self.value(type(value))
        elif is_project_file(code.co_filename):
            self._add(getattr(value, "__module__", None) or "__main__", importable=False)
            self._codes.append(code)
            for _, _, inner in variables(value):
                if callable(inner) or isinstance(inner, types.ModuleType):
                    self.value(inner)

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
            with contextlib.suppress(SyntaxError):
                self._codes.append(compile(source, file, "exec"))
            parent = name.rpartition(".")[0]
            if parent:
                self._add(parent, importable=True)


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


def _used_names(code: types.CodeType) -> set[str]:
    """Return the names of globals and attributes in a piece of code, and its short strings.

    The strings stand for what it may take by `getattr`.
    """
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _used_names(constant)
        elif isinstance(constant, str) and constant.isidentifier():
            names.add(constant)
    return names


def _imports(code: types.CodeType) -> Iterator[str]:
    """Yield the absolute names that a function's code imports while it runs."""
    previous: list[Any] = []
    module = ""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            module = str(instruction.argval)
            level = previous[-2].argval if len(previous) > 1 else 0
            if not level:
                yield module
                parts = module.split(".")
                yield from (".".join(parts[:end]) for end in range(1, len(parts)))
        elif instruction.opname == "IMPORT_FROM" and module:
            yield f"{module}.{instruction.argval}"
        previous = [*previous[-3:], instruction]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _imports(constant)
