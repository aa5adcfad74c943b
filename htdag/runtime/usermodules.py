"""Modules of the user's project, importable in a job that has none of their files."""

from __future__ import annotations

import importlib.machinery
import linecache
import sys
from types import ModuleType
from typing import Any, Dict, Optional, Sequence


class _Finder:
    """A finder and loader in one. Not by importlib.abc, which takes long to import."""

    def __init__(self, modules: Dict[str, Dict[str, Any]]) -> None:
        self._modules = modules

    def find_spec(
        self, name: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        found = self._modules.get(name)
        if found is None:
            return None
        loader: Any = self
        return importlib.machinery.ModuleSpec(
            name, loader, origin=found["file"], is_package=found["package"]
        )

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Take the usual kind of module."""

    def exec_module(self, module: ModuleType) -> None:
        found = self._modules[module.__name__]
        module.__file__ = found["file"]
        exec(compile(found["source"], found["file"], "exec"), module.__dict__)


def install(modules: Dict[str, Dict[str, Any]]) -> None:
    """Let ``import`` find these modules after all others.

    Parameters
    ----------
    modules : dict
        ``source``, ``file`` and ``package`` by dotted name. The sources also serve tracebacks.
    """
    for found in modules.values():
        text = found["source"]
        linecache.cache[found["file"]] = (len(text), None, text.splitlines(True), found["file"])
    importable = {name: found for name, found in modules.items() if found["importable"]}
    if importable:
        sys.meta_path.append(_Finder(importable))
