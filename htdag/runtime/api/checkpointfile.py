"""The archive of the checkpoint of one call: a tar file followed by its checksum.

It is written under another name, synced and renamed, so there is the old or the new one, never a
part.
"""

from __future__ import annotations

import os
import struct
import sys
import tarfile
import zlib
from typing import BinaryIO, List

from .. import layout

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_CRC = struct.Struct("<I")


def write(path: str, folder: str, names: List[str]) -> None:
    """Put files of a folder into an archive, and keep its other files.

    Parameters
    ----------
    path : str
        The archive.
    folder : str
        The working directory of the call.
    names : list of str
        The files and directories, relative to that.
    """
    aside = path + ".new"
    with os.fdopen(os.open(aside, _NEW, 0o600), "wb") as opened:
        summed = _Summed(opened)
        with tarfile.open(fileobj=summed, mode="w|") as archive:  # type: ignore[call-overload]
            for name in names:
                archive.add(os.path.join(folder, name), name)
            _keep_others(path, names, archive)
        opened.write(_CRC.pack(summed.crc))
        opened.flush()
        os.fsync(opened.fileno())
    os.replace(aside, path)
    layout.sync(os.path.dirname(path))


def restore(path: str, folder: str) -> None:
    """Put the files of an archive into a folder; move a damaged archive away, with a message."""
    try:
        _check_sum(path)
        with tarfile.open(path) as archive:
            for member in archive:
                if hasattr(tarfile, "fully_trusted_filter"):  # it was written by this very run
                    archive.extract(member, folder, filter="fully_trusted")
                else:
                    archive.extract(member, folder)
    except (OSError, tarfile.TarError) as error:
        # Starting over is always right; continuing from a part of a checkpoint might not be.
        sys.stderr.write(
            "htdag: a checkpoint cannot be read, so the function starts over: %s\n" % error
        )
        os.replace(path, path + ".damaged")
        layout.remove_tree(folder)
        os.mkdir(folder, 0o700)


class _Summed:
    """A file with a running checksum."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.crc = 0

    def write(self, data: bytes) -> int:
        self.crc = zlib.crc32(data, self.crc)
        return self._file.write(data)


def _check_sum(path: str) -> None:
    """Raise `tarfile.TarError` if a file was damaged."""
    left = os.path.getsize(path) - _CRC.size
    crc = 0
    with open(path, "rb") as file:
        while left > 0:
            piece = file.read(min(left, 1 << 20))
            crc = zlib.crc32(piece, crc)
            left -= len(piece)
        if file.read() != _CRC.pack(crc):
            raise tarfile.ReadError("the checksum of %s does not match" % path)


def _keep_others(path: str, names: List[str], into: tarfile.TarFile) -> None:
    """Copy the files of the previous archive that are not named again."""
    if not os.path.exists(path):
        return
    with tarfile.open(path) as earlier:
        for member in earlier:
            if not any(member.name == name or member.name.startswith(name + "/") for name in names):
                into.addfile(member, earlier.extractfile(member) if member.isfile() else None)
