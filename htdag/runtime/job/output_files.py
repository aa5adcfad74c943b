"""Files that functions return: collected in their job, and checked wherever they are read.

Each has a folder of its own below that of its attempt, so that equal names do not clash. Files are
made read-only: they have a checksum, and another stage may be reading them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import zlib
from typing import TYPE_CHECKING, Dict, Iterator, NamedTuple, Sequence, Tuple

from .. import layout
from ..data import itemfile
from ..files import download, file_references, input_files
from ..layout import AttemptFiles

if TYPE_CHECKING:
    from ..formats.task import FileReference


_PIECE = 1 << 20
_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


class Collector(NamedTuple):
    """Collects files of a job in the folder ``folder`` below ``root``.

    Those in ``own``, the job's own folder, are moved, others copied. ``shared`` says that
    here is the run directory itself: nothing is transferred, and files are written through to the
    disk. ``url`` is where the folder goes instead of coming back, "" for nowhere else; ``names`` a
    folder to name such files in.
    """

    root: str
    folder: str
    own: str
    shared: bool
    url: str = ""
    names: str = ""

    def collect(self, path: str) -> Tuple[str, str]:
        """Take a file or directory, and return its new path and its reference."""
        name = os.path.basename(path)
        if self.url:
            _check_for_url(path, name)
        at = self._new_folder()
        # Of equal last names in URLs a later job could get one only.
        stored = "%s.%s" % (os.path.basename(at), name) if self.url else name
        target = os.path.join(self.root, at, stored)
        try:
            if self._is_own(path):
                _check_kinds(path)
                shutil.move(path, target)
                _without_links(target)
            else:
                _copy(path, target)
            size, crc = size_and_checksum(target, sync=self.shared)
            _protect(target)
        except BaseException:
            shutil.rmtree(os.path.join(self.root, at), ignore_errors=True)
            raise
        if not self.url:
            file = {"at": at, "name": name, "size": size, "crc": crc}
            return target, json.dumps(file)
        url = "%s/%s/%s" % (self.url, os.path.basename(at), stored)
        if self.shared:
            download.send(target, url)
        named = os.path.join(self.names, os.path.basename(at), name)
        os.makedirs(os.path.dirname(named))
        os.symlink(target, named)
        return named, json.dumps({"url": url, "name": name, "size": size, "crc": crc})

    def _new_folder(self) -> str:
        folder = os.path.join(self.root, self.folder)
        layout.make_folder(folder)
        number = len(os.listdir(folder))
        before = self._prefix() if self.url else ""
        while True:
            at = "%s/%s%06d" % (self.folder, before, number)
            try:
                os.mkdir(os.path.join(self.root, at), 0o700)
            except FileExistsError:
                number += 1
            else:
                return at

    def _prefix(self) -> str:
        """Return a prefix that distinguishes the files of this job from others at the same URL."""
        _, node, _, folder = self.folder.split("/")
        return "%s.%s." % (node, folder[: -len(".files")])

    def _is_own(self, path: str) -> bool:
        if os.path.islink(path):
            return False
        real = os.path.realpath(path)
        if real.startswith(self.own + os.sep):
            return not input_files.is_input(real)  # other items need that too
        # Where files are transferred, so is all else in the scratch directory but what came there.
        root = os.path.realpath(self.root) + os.sep
        first = real[len(root) :].split(os.sep, 1)[0]
        came = (layout.FILES, layout.NODES, layout.SOURCES)
        return not self.shared and real.startswith(root) and first not in came


def _check_for_url(path: str, name: str) -> None:
    if os.path.isdir(path):
        raise ValueError(
            "OutputFile(%r): a directory cannot go to a URL; make an archive of it first" % name
        )
    if not re.fullmatch(r"[\w.+-]+", name, re.ASCII):
        raise ValueError(
            "OutputFile(%r): a file that goes to a URL has a name of letters, digits and . _ + - "
            "only, since HTCondor puts it into the URL as it is" % name
        )


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
    """Replace links, which would lead nowhere elsewhere, by copies."""
    for each in list(_entries(path)):
        if os.path.islink(each):
            real = os.path.realpath(each)
            os.unlink(each)
            _copy(real, each)


def _protect(path: str) -> None:
    for each in _entries(path):
        if not os.path.isdir(each):
            os.chmod(each, stat.S_IMODE(os.stat(each).st_mode) & ~_WRITE)


def size_and_checksum(path: str, *, sync: bool = False) -> Tuple[int, int]:
    """Return the bytes and the checksum of a file, or of all files of a directory."""
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


def returned_files(paths: Sequence[str]) -> Dict[str, FileReference]:
    """Return the files made by jobs that values in some item files refer to, by their folder."""
    files: Dict[str, FileReference] = {}
    for path in paths:
        for references in itemfile.references([path]):
            for file in map(file_references.parsed, references):
                if "crc" in file:
                    files[file["at"] if "at" in file else os.path.dirname(file["url"])] = file
    return files


def clear(root: str, folder: str, paths: Sequence[str], url: str) -> int:
    """Remove files that no value of an attempt refers to, and return how many come back.

    With a `url`, HTCondor sends those that are left there instead.
    """
    here = os.path.join(root, folder)
    if not os.path.isdir(here):
        return 0
    made = returned_files(paths)
    sends = url and not layout.is_run_directory(root)
    names = {at.rsplit("/", 1)[1] for at in made if at.startswith((url if sends else folder) + "/")}
    for entry in os.listdir(here):
        if entry not in names:
            shutil.rmtree(os.path.join(here, entry), ignore_errors=True)
    return 0 if sends else len(names)


def problem(files: AttemptFiles, paths: Sequence[str]) -> str:
    """Return what is wrong with the files that values of an attempt refer to, or "".

    The attempt's own files are read; for files of other nodes that it passed on, only the size is
    checked.
    """
    run, folder = files.node.run, files.under("").returned
    for at, file in sorted(returned_files(paths).items()):
        if "url" in file:
            continue
        path = os.path.join(run, at, file["name"])
        if not os.path.exists(path):
            return "the returned file %s is missing" % path
        is_inside = at.startswith(folder + "/")
        size, crc = size_and_checksum(path) if is_inside else (_size(path), file["crc"])
        if size != file["size"]:
            return "the returned file %s has %d bytes, not %d" % (path, size, file["size"])
        if crc != file["crc"]:
            return "the checksum of the returned file %s does not match" % path
    return ""


def _size(path: str) -> int:
    return sum(os.path.getsize(each) for each in _entries(path) if not os.path.isdir(each))


def missing(folder: str, number: int) -> str:
    """Return what is wrong with the number of files that an attempt returned, or ""."""
    try:
        present = len(os.listdir(folder))
    except OSError:
        present = 0
    if present >= number:
        return ""
    return "%s has %d of %d returned files" % (folder, present, number)
