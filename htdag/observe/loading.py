"""Unpickle results, with the classes of this process wherever it has them.

Objects of the user's modules that have a name are pickled by that name. If this process has no such
module, that of the run's image is used. Runs of htdag 0.1 hold classes by value; the classes of
this process replace them.
"""

from __future__ import annotations

import importlib
import io
import os
import pickle
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from cloudpickle import cloudpickle

from htdag.runtime import layout
from htdag.runtime.code.image import Image, make_function
from htdag.runtime.files import file_references


def loads(data: bytes, buffers: Iterable[Any] = (), run: Path | None = None) -> Any:
    """Return the value of a pickle that a job wrote, and of its buffers, which the value keeps.

    Files that travelled with it become paths in the run directory `run`, or the user's own paths.
    """
    unpickler = _Unpickler(io.BytesIO(data), buffers=buffers)
    unpickler.run = run
    return unpickler.load()


class _Unpickler(pickle.Unpickler):
    run: Path | None = None

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in file_references.ARRIVED:
            return self._file
        if (module, name) == _FUNCTION:
            return self._function
        if module == cloudpickle.__name__ and name in _REPLACED:
            return _REPLACED[name]
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            modules = _image(self.run)
            if modules is None or module not in modules:
                raise
            return modules.found(module, name)

    def _function(self, code: CodeType, module: str, closure: Any) -> Any:
        """Return a function whose global variables are those of a module here or in the image."""
        modules = _image(self.run)
        try:
            namespace = sys.modules.get(module) or importlib.import_module(module)
        except ImportError:
            namespace = None
        if modules is not None and module in modules:
            file = getattr(namespace, "__file__", None)
            file = file and os.path.abspath(file)
            if namespace is None or modules.modules[module]["file"] != file:
                namespace = modules.module(module)
                modules.bring(module, code)
        return FunctionType(code, vars(namespace), None, None, closure)

    def _file(self, reference: str) -> Path | str:
        """Return the path of a file that travelled, or its URL."""
        file = file_references.parsed(reference)
        if "url" in file:
            return file["url"]
        if self.run is None:
            return Path(file["path"])
        path: Path = self.run / file["at"] / file["name"]
        if "path" in file and not (path.exists() and not Path(file["path"]).exists()):
            return Path(file["path"])  # otherwise the run was imported, and has the file itself
        return path


@lru_cache(maxsize=4)
def _read_image(run: Path, size: int) -> Image:
    del size  # part of the cache key, for another run that had this folder before
    return Image.read(str(run))


def _image(run: Path | None) -> Image | None:
    """Return the run's image of the user's modules; None if it has none."""
    if run is None:
        return None
    try:
        return _read_image(run.absolute(), (run / layout.IMAGE).stat().st_mtime_ns)
    except FileNotFoundError:
        return None


def _local_class(module: object, name: str, kind: type) -> type | None:
    """Return the class of this name in a loaded module of this process."""
    value = getattr(sys.modules.get(str(module)), name, None)
    return value if isinstance(value, type) and isinstance(value, kind) else None


def _make_class(
    kind: type, name: str, bases: Any, keywords: dict[str, Any], tracker: Any, extra: Any
) -> Any:
    if "<locals>" not in keywords.get("__qualname__", ""):
        existing = _local_class(keywords.get("__module__"), name, kind)
        if existing is not None:
            return existing
    return cloudpickle._make_skeleton_class(kind, name, bases, keywords, tracker, extra)


def _make_enum(
    bases: Any, name: str, qualname: str, members: Any, module: str, tracker: Any, extra: Any
) -> Any:
    existing = _local_class(module, qualname, type(bases[0]))
    if existing is not None:
        return existing
    return cloudpickle._make_skeleton_enum(bases, name, qualname, members, module, tracker, extra)


def _set_class_state(kind: type, state: Any) -> Any:
    if _local_class(kind.__module__, kind.__name__, type) is kind:
        return kind
    return cloudpickle._class_setstate(kind, state)


_FUNCTION = ("htdag", make_function.__qualname__)
_REPLACED = {
    "_make_skeleton_class": _make_class,
    "_make_skeleton_enum": _make_enum,
    "_class_setstate": _set_class_state,
}
