"""Unpickle results so that classes which this process has are this process's own.

Classes of ``__main__`` and of the user's project travel by value. cloudpickle finds the original
again in the process that pickled it; a script that loads a run later would get copies, of which
``isinstance`` and ``==`` know nothing.
"""

from __future__ import annotations

import io
import json
import pickle
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cloudpickle import cloudpickle

from htdag.runtime import travel


def loads(data: bytes, buffers: Iterable[Any] = (), run: Path | None = None) -> Any:
    """Return the value of a pickle that a job wrote, and of its buffers, which it keeps.

    Files that travelled with it are paths in the run directory `run`, or the user's own.
    """
    unpickler = _Unpickler(io.BytesIO(data), buffers=buffers)
    unpickler.run = run
    return unpickler.load()


class _Unpickler(pickle.Unpickler):
    run: Path | None = None

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in travel.ARRIVED:
            return self._file
        if module == cloudpickle.__name__ and name in _REPLACED:
            return _REPLACED[name]
        return super().find_class(module, name)

    def _file(self, reference: str) -> Path | str:
        """Return the path of a file that travelled; for a URL its text."""
        file = json.loads(reference)
        if "url" in file:
            return str(file["url"])
        if self.run is None:
            return Path(file["path"])
        path: Path = self.run / file["at"] / file["name"]
        if "path" in file and not (path.exists() and not Path(file["path"]).exists()):
            return Path(file["path"])  # else the run came from elsewhere, and has the file itself
        return path


def _own(module: object, name: str, kind: type) -> type | None:
    """Return the class of this name that a loaded module of this process has."""
    found = getattr(sys.modules.get(str(module)), name, None)
    return found if isinstance(found, type) and isinstance(found, kind) else None


def _make_class(
    kind: type, name: str, bases: Any, keywords: dict[str, Any], tracker: Any, extra: Any
) -> Any:
    if "<locals>" not in keywords.get("__qualname__", ""):
        own = _own(keywords.get("__module__"), name, kind)
        if own is not None:
            return own
    return cloudpickle._make_skeleton_class(kind, name, bases, keywords, tracker, extra)


def _make_enum(
    bases: Any, name: str, qualname: str, members: Any, module: str, tracker: Any, extra: Any
) -> Any:
    own = _own(module, qualname, type(bases[0]))
    if own is not None:
        return own
    return cloudpickle._make_skeleton_enum(bases, name, qualname, members, module, tracker, extra)


def _set_class_state(kind: type, state: Any) -> Any:
    if _own(kind.__module__, kind.__name__, type) is kind:
        return kind
    return cloudpickle._class_setstate(kind, state)


_REPLACED = {
    "_make_skeleton_class": _make_class,
    "_make_skeleton_enum": _make_enum,
    "_class_setstate": _set_class_state,
}
