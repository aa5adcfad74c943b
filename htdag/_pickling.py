"""Pickle functions and items so that a job needs none of the user's own files.

Functions and classes of ``__main__`` and of the user's project travel by value. A module belongs
to the project unless it is part of Python, installed in a site directory, or htdag. Modules that
functions import only when they run travel as source.
"""

from __future__ import annotations

import builtins
import contextlib
import dis
import importlib.util
import io
import os
import pickle
import site
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import cloudpickle

from htdag.errors import FunctionError, ItemPickleError

PROTOCOL = 5
_PLAIN = (int, float, str, bytes, bool, type(None))


class ItemPickler:
    """Pickle items one by one; the error names the item.

    Parameters
    ----------
    stage : str
        The source's name, for errors.
    """

    def __init__(self, stage: str) -> None:
        self._stage = stage

    def __call__(self, item: Any, number: int) -> bytes:
        if type(item) in _PLAIN:
            return pickle.dumps(item, PROTOCOL)
        try:
            with project_modules_by_value():
                return bytes(cloudpickle.dumps(item, PROTOCOL))
        except Exception as error:
            raise ItemPickleError(
                f"source {self._stage!r}: item {number}, a {type(item).__name__}, cannot be "
                f"pickled for the jobs: {error}"
            ) from error


def dump_content(content: dict[str, Any], functions: Sequence[tuple[str, Any]]) -> bytes:
    """Return the payload of a node: what its jobs unpickle before the first item.

    Parameters
    ----------
    content : dict
        ``functions`` and ``initials``, as the worker expects them.
    functions : sequence of (str, callable)
        The functions again, with the stage to name in errors.

    Raises
    ------
    FunctionError
        Naming the stage and, where it can be found, the variable at fault.
    """
    modules = _reached_modules([function for _, function in functions])
    with project_modules_by_value():
        try:
            pickled = cloudpickle.dumps(content, PROTOCOL)
        except Exception as error:
            for stage, function in functions:
                check_function(function, stage)
            raise FunctionError(f"the functions cannot be pickled: {error}") from error
    return pickle.dumps({"modules": modules, "content": pickled}, PROTOCOL)


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
            cloudpickle.Pickler(_Nowhere(), PROTOCOL).dump(function)  # type: ignore[arg-type]
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
    for kind, name, value in _variables(function):
        try:
            cloudpickle.Pickler(_Nowhere(), PROTOCOL).dump(value)
        except Exception:
            return (
                f". It uses the {kind} variable {name!r}, a {type(value).__name__}, which cannot "
                f"travel: make it inside the function instead"
            )
    return ""


def _variables(function: Any) -> Iterator[tuple[str, str, Any]]:
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if code is None:
        return
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        with contextlib.suppress(ValueError):
            yield "enclosing", name, cell.cell_contents
    for name in sorted(_global_names(code)):
        if name in function.__globals__:
            yield "global", name, function.__globals__[name]


def _global_names(code: types.CodeType) -> set[str]:
    names = {
        str(instruction.argval)
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names - set(vars(builtins))


@contextlib.contextmanager
def project_modules_by_value() -> Iterator[None]:
    """Have cloudpickle pickle the modules of the user's project by value, for this block."""
    registry = cloudpickle.list_registry_pickle_by_value()
    added = []
    for name, module in list(sys.modules.items()):
        if name not in registry and name != "__main__" and is_project_module(module):
            with contextlib.suppress(ValueError):
                cloudpickle.register_pickle_by_value(module)
                added.append(module)
    try:
        yield
    finally:
        for module in added:
            cloudpickle.unregister_pickle_by_value(module)


def is_project_module(module: Any) -> bool:
    """Tell whether a loaded module is the user's own."""
    if not isinstance(module, types.ModuleType):
        return False
    file = getattr(module, "__file__", None)
    return file is not None and _is_project_file(file)


@lru_cache(maxsize=8192)
def _is_project_file(file: str) -> bool:
    if not file.endswith(".py"):
        return False
    path = os.path.realpath(file)
    return not any(path.startswith(root) for root in _installed_roots())


@lru_cache(maxsize=1)
def _installed_roots() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    roots = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    roots.update(site.getsitepackages())
    roots.add(site.getusersitepackages())
    roots.update(path for path in sys.path if path.endswith(("site-packages", "dist-packages")))
    roots.add(os.path.dirname(os.path.abspath(__file__)))
    # The standard library of the Python that a virtual environment was made from.
    roots.add(os.path.dirname(os.__file__))
    return tuple(os.path.realpath(root) + os.sep for root in roots)


def _reached_modules(functions: Any) -> dict[str, dict[str, Any]]:
    """Return the sources of the user's modules that the functions reach, by module name.

    Those that are imported while a function runs are ``importable`` in the job; the others travel
    by value, and their source only serves tracebacks.
    """
    found: dict[str, dict[str, Any]] = {}
    seen: set[int] = set()
    codes: list[types.CodeType] = []

    def add_module(name: str, importable: bool) -> None:
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None) if module is not None else _project_origin(name)
        if file is None or not _is_project_file(file) or not os.path.exists(file):
            return
        known = found.get(name)
        if known is not None:
            known["importable"] = known["importable"] or importable
            return
        with open(file, encoding="utf-8", errors="replace") as opened:
            source = opened.read()
        found[name] = {
            "source": source,
            "file": file,
            "package": os.path.basename(file) == "__init__.py",
            "importable": importable,
        }
        if importable:
            with contextlib.suppress(SyntaxError):
                codes.append(compile(source, file, "exec"))
            parent = name.rpartition(".")[0]
            if parent:
                add_module(parent, True)

    def reach(value: Any) -> None:
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, types.ModuleType):
            if is_project_module(value) and value.__name__ != "__main__":
                add_module(value.__name__, False)
                for inner in list(vars(value).values()):
                    if isinstance(inner, types.FunctionType | type | types.ModuleType):
                        reach(inner)
            return
        if isinstance(value, type):
            if is_project_module(sys.modules.get(value.__module__)):
                add_module(value.__module__, False)
                for inner in list(vars(value).values()):
                    reach(inner)
                for base in value.__bases__:
                    reach(base)
            return
        if isinstance(value, staticmethod | classmethod):
            value = value.__func__
        if isinstance(value, property):
            for accessor in (value.fget, value.fset, value.fdel):
                reach(accessor)
            return
        for inner in (getattr(value, "func", None), getattr(value, "__func__", None)):
            if callable(inner):
                reach(inner)
        wrapped = getattr(value, "__wrapped__", None)
        if callable(wrapped):
            reach(wrapped)
        code = getattr(value, "__code__", None)
        if not isinstance(code, types.CodeType):
            if callable(value) and is_project_module(sys.modules.get(type(value).__module__)):
                reach(type(value))
            return
        if not _is_project_file(code.co_filename):
            return
        add_module(value.__module__ or "__main__", False)
        codes.append(code)
        for _, _, inner in _variables(value):
            if callable(inner) or isinstance(inner, types.ModuleType):
                reach(inner)

    for function in functions:
        reach(function)
    while codes:
        code = codes.pop()
        for name in _imports(code):
            add_module(name, True)
    return found


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


def _project_origin(name: str) -> str | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    return spec.origin if spec is not None and spec.has_location else None


def function_name(function: Callable[..., Any] | Any) -> str:
    """Return the name of a function, or "" for a lambda or an object without one."""
    inner = getattr(function, "func", function)
    name = getattr(inner, "__name__", "")
    return "" if name == "<lambda>" else str(name)
