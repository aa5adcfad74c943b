"""Files that functions return: taken aside in their job, and checked wherever they are read.

Each has a folder of its own below that of its attempt, so that equal names do not meet. What
travels is made read-only: it has been summed up, and another stage may be reading it.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import zlib
from typing import Any, Dict, Iterator, NamedTuple, Sequence, Tuple

from . import itemfile

_PIECE = 1 << 20
_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


class Collector(NamedTuple):
    """Takes files of a job to the folder ``folder`` below ``root``.

    Those in one of ``own``, the job's own folders, are moved, others copied. ``sync`` writes them
    through to the disk; a job whose files are transferred need not.
    """

    root: str
    folder: str
    own: Tuple[str, ...]
    sync: bool

    def collect(self, path: str) -> Tuple[str, str]:
        """Take a file or directory, and return where it is now and its reference."""
        at = self._new_folder()
        name = os.path.basename(path)
        target = os.path.join(self.root, at, name)
        try:
            if self._is_own(path):
                _check_kinds(path)
                shutil.move(path, target)
                _without_links(target)
            else:
                _copy(path, target)
            size, crc = summed_up(target, sync=self.sync)
            _protect(target)
        except BaseException:
            shutil.rmtree(os.path.join(self.root, at), ignore_errors=True)
            raise
        file = {"at": at, "name": name, "size": size, "crc": crc}
        return target, json.dumps(file)

    def _new_folder(self) -> str:
        folder = os.path.join(self.root, self.folder)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        number = len(os.listdir(folder))
        while True:
            at = "%s/%06d" % (self.folder, number)
            try:
                os.mkdir(os.path.join(self.root, at), 0o700)
            except FileExistsError:
                number += 1
            else:
                return at

    def _is_own(self, path: str) -> bool:
        if os.path.islink(path):
            return False
        real = os.path.realpath(path)
        inside = any(real.startswith(folder + os.sep) for folder in self.own)
        taken = os.path.join(os.path.realpath(self.root), self.folder) + os.sep
        return inside and not real.startswith(taken)


def _check_kinds(path: str) -> None:
    for each in _entries(path):
        mode = os.stat(each).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise ValueError("OutputFile: %r is neither a file nor a directory" % each)


def _entries(path: str) -> Iterator[str]:
    """Yield a file, or a directory and all that is in it, in order."""
    yield path
    if os.path.isdir(path):
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted([*folders, *names]):
                yield os.path.join(folder, name)


def _copy(path: str, target: str) -> None:
    _check_kinds(path)
    if os.path.isdir(path):
        shutil.copytree(path, target)
    else:
        shutil.copy2(path, target)


def _without_links(path: str) -> None:
    """Put copies in place of links, which would lead nowhere elsewhere."""
    for each in list(_entries(path)):
        if os.path.islink(each):
            real = os.path.realpath(each)
            os.unlink(each)
            _copy(real, each)


def _protect(path: str) -> None:
    for each in _entries(path):
        if not os.path.isdir(each):
            os.chmod(each, stat.S_IMODE(os.stat(each).st_mode) & ~_WRITE)


def summed_up(path: str, *, sync: bool = False) -> Tuple[int, int]:
    """Return the bytes of a file, or of all files of a directory, and a checksum of it all."""
    size = crc = 0
    for each in _entries(path):
        name = os.path.relpath(each, path)
        if os.path.isdir(each):
            crc = zlib.crc32(b"d" + os.fsencode(name), crc)
            continue
        crc = zlib.crc32(b"f" + os.fsencode(name), crc)
        with open(each, "rb", buffering=0) as file:
            while True:
                piece = file.read(_PIECE)
                if not piece:
                    break
                size += len(piece)
                crc = zlib.crc32(piece, crc)
            if sync:
                os.fsync(file.fileno())
    return size, crc


def own_files(folder: str, paths: Sequence[str]) -> Dict[str, Dict[str, Any]]:
    """Return the files below a folder that the values in some item files refer to, by folder."""
    found: Dict[str, Dict[str, Any]] = {}
    for path in paths:
        for references in itemfile.references([path]):
            for reference in references:
                file = json.loads(reference)
                if file.get("at", "").startswith(folder + "/"):
                    found[file["at"]] = file
    return found


def clear(root: str, folder: str, paths: Sequence[str]) -> int:
    """Remove what no value of an attempt refers to, and return how many files are left."""
    here = os.path.join(root, folder)
    if not os.path.isdir(here):
        return 0
    wanted = own_files(folder, paths)
    for entry in os.listdir(here):
        if folder + "/" + entry not in wanted:
            shutil.rmtree(os.path.join(here, entry), ignore_errors=True)
    return len(wanted)


def problem(run: str, folder: str, paths: Sequence[str]) -> str:
    """Return what is wrong with the files that an attempt gave, all of them read; "" if nothing."""
    for at, file in sorted(own_files(folder, paths).items()):
        path = os.path.join(run, at, file["name"])
        if not os.path.exists(path):
            return "the returned file %s is missing" % path
        size, crc = summed_up(path)
        if size != file["size"]:
            return "the returned file %s has %d bytes, not %d" % (path, size, file["size"])
        if crc != file["crc"]:
            return "the checksum of the returned file %s does not match" % path
    return ""


def missing(run: str, folder: str, number: int) -> str:
    """Return what is wrong with the number of files that an attempt gave, "" if nothing."""
    try:
        there = len(os.listdir(os.path.join(run, folder)))
    except OSError:
        there = 0
    if there >= number:
        return ""
    return "%s has %d of %d returned files" % (os.path.join(run, folder), there, number)
