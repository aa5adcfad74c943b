"""Which modules are the user's own, and what functions use of them.

A module belongs to the user's project unless it is part of Python, installed in a site directory,
or htdag. Its functions and classes travel by value.
"""

from __future__ import annotations

import builtins
import contextlib
import dis
import os
import site
import sys
import sysconfig
import threading
import types
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import cloudpickle

_registry_lock = threading.RLock()


@contextlib.contextmanager
def project_modules_by_value() -> Iterator[None]:
    """Have cloudpickle pickle the modules of the user's project by value, for this block.

    What cloudpickle knows of modules belongs to the whole process: one thread at a time.
    """
    with _registry_lock:
        yield from _registered()


def _registered() -> Iterator[None]:
    registry = set(cloudpickle.list_registry_pickle_by_value())
    added = []
    for module in list(sys.modules.values()):
        # One module may stand there under several names.
        if is_project_module(module) and module.__name__ not in {"__main__", *registry}:
            with contextlib.suppress(ValueError):
                cloudpickle.register_pickle_by_value(module)
                added.append(module)
                registry.add(module.__name__)
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
    return file is not None and is_project_file(file)


@lru_cache(maxsize=8192)
def is_project_file(file: str) -> bool:
    """Tell whether a source file is the user's own."""
    return file.endswith(".py") and not is_installed_code(file)


@lru_cache(maxsize=8192)
def is_installed_code(file: str) -> bool:
    """Tell whether code of this file name comes with Python or an installed package.

    The code of an interactive session is in no file, and the user's own.
    """
    if file.startswith("<"):
        return file.startswith("<frozen")
    path = os.path.realpath(file)
    return any(path.startswith(root) for root in _installed_roots())


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


def variables(function: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield kind, name and value of the enclosing and global variables that a function uses."""
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
