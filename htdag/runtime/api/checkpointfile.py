"""The archive of what one call has put aside: a tar file with its checksum behind it.

It is written aside, synced and renamed, so there is the one before or the new one, never a part.
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
    """Put files of a folder into an archive, and keep what else it holds from before.

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
    """Put the files of an archive into a folder; a damaged one is set aside, and said so."""
    try:
        _check_sum(path)
        with tarfile.open(path) as archive:
            for member in archive:
                if hasattr(tarfile, "fully_trusted_filter"):  # it was written by this very run
                    archive.extract(member, folder, filter="fully_trusted")
                else:
                    archive.extract(member, folder)
    except (OSError, tarfile.TarError) as error:
        # To begin anew is always right; to go on from a part of a checkpoint might not be.
        sys.stderr.write("htdag: a checkpoint cannot be read, so begin anew: %s\n" % error)
        os.replace(path, path + ".damaged")
        layout.remove_tree(folder)
        os.mkdir(folder, 0o700)


class _Summed:
    """Sums up what is written to a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.crc = 0

    def write(self, data: bytes) -> int:
        self.crc = zlib.crc32(data, self.crc)
        return self._file.write(data)


def _check_sum(path: str) -> None:
    """Raise `tarfile.TarError` unless a file is what was written."""
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
    """Take over from the archive before this one what has not been named again."""
    if not os.path.exists(path):
        return
    with tarfile.open(path) as earlier:
        for member in earlier:
            if not any(member.name == name or member.name.startswith(name + "/") for name in names):
                into.addfile(member, earlier.extractfile(member) if member.isfile() else None)
