"""The user's own files, which functions read but must not write to.

Where files are transferred a job has copies. Elsewhere, so on this machine and on a shared file
system, small files in a working directory are copies too. Larger ones, and those in items, are
lent: if one has changed, the item that was at work then fails.
"""

from __future__ import annotations

import os
import stat
from typing import Dict, Optional, Set, Tuple

from .. import layout

LARGEST_COPY = 16 << 20
"""Bytes; to copy more might take longer than a job that reads only a part of it."""

_Signature = Optional[Tuple[int, int, int]]

_placed: Set[str] = set()  # real paths of copies in the working directory
_of_job: Dict[str, _Signature] = {}
_of_item: Dict[str, _Signature] = {}


def _signature(path: str) -> _Signature:
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def note(path: str) -> None:
    """Note the state of a file before an item gets it."""
    _of_item[path] = _signature(path)


def place(path: str, target: str) -> None:
    """Put one of the user's files, or directories, into a working directory."""
    if _size(path) <= LARGEST_COPY:
        if os.path.isdir(path):
            import shutil  # it takes time, which most jobs need not spend

            shutil.copytree(path, target, copy_function=_copy)
        else:
            _copy(path, target)
        _placed.add(os.path.realpath(target))
    else:
        os.symlink(path, target)
        _of_job[path] = _signature(path)


def is_input(path: str) -> bool:
    """Return whether a path is that of an input file in the working directory, or within one."""
    while path not in _placed:
        above = os.path.dirname(path)
        if above == path:
            return False
        path = above
    return True


def _copy(path: str, target: str) -> str:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700)
    with open(path, "rb") as old, os.fdopen(descriptor, "wb") as new:
        layout.copy_content(old.fileno(), new.fileno())
        status = os.fstat(old.fileno())
        os.fchmod(new.fileno(), stat.S_IMODE(status.st_mode) | stat.S_IWUSR)
        os.utime(new.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
    return target


def _size(path: str) -> int:
    """Return the bytes of a file or directory, counting only up to what is too large to copy."""
    if not os.path.isdir(path):
        return os.path.getsize(path)
    total = 0
    for folder, _, names in os.walk(path, followlinks=True):
        for name in names:
            try:
                total += 4096 + os.path.getsize(os.path.join(folder, name))
            except OSError:
                continue
        if total > LARGEST_COPY:
            break
    return total


def forget() -> None:
    """Forget the files of the last item."""
    _of_item.clear()


def check() -> None:
    """Raise `PermissionError` if a file that was lent has changed; forget those of the item."""
    if not _of_item and not _of_job:
        return
    given = dict(_of_item)
    _of_item.clear()
    for known in (given, _of_job):
        for path, before in known.items():
            now = _signature(path)
            if now != before:
                known[path] = now  # the next item has not done it
                raise PermissionError(
                    "the input file %r, which is your own and not a copy, was changed while this "
                    "item was at work. If its function did so, let it write to a copy: "
                    "shutil.copy(path, 'copy')" % path
                )
