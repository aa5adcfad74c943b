"""Item files: a stream of values, each with its key and checksum.

Sources, and the outcomes of jobs, are item files. A file begins with a magic line; every frame has
a fixed header (kind, sequence numbers, lengths, CRC-32 of all of it), the key and the payload; a
trailer with the count of values ends a whole file. The payload of a value is a pickle that only
jobs and the user's own process open; everything else here works on headers.

An *input item* of a chunk is known by its sequence number. Its values are followed by, or flagged
as, its end: values without an end belong to an item that was cut off and do not count. A value
combined from several input items covers a range of sequence numbers.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import BinaryIO, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

MAGIC = b"htdag items 1\n"
VALUE, FILE, END, TRAILER = 1, 2, 3, 4
ENDS = 1  # flag: this value is the last of its input item

_HEADER = struct.Struct("<BBHIIQ")  # kind, flags, key length, first, last, payload length
_CRC = struct.Struct("<I")
_COUNT = struct.Struct("<Q")
_HEAD_SIZE = _HEADER.size + _CRC.size
_TRAILER_SIZE = _HEAD_SIZE + _COUNT.size
_NEW = os.O_RDWR | os.O_CREAT | os.O_TRUNC


class DamagedFile(Exception):
    """An item file is truncated or its checksums do not match."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(path, what)
        self.path = path
        self.what = what

    def __str__(self) -> str:
        return "the item file %s is damaged: %s" % (self.path, self.what)


class Frame(NamedTuple):
    """One value as it is stored."""

    kind: int
    key: str
    payload: bytes


class Extent(NamedTuple):
    """Where the values of one finished input item, or of a combined range, stand in a file."""

    first: int
    last: int
    start: int
    end: int
    values: int


class ItemWriter:
    """Write an item file. ``close`` makes it whole; without it the file can be repaired.

    Parameters
    ----------
    path : str
        The file; a new one is made, readable by its owner only.
    resume : bool
        Go on at the end of a file that `repair` has cut to whole items.
    flush : bool
        Hand each finished item to the system at once, so that it outlives the process.
    """

    def __init__(self, path: str, *, resume: bool = False, flush: bool = False) -> None:
        self.path = path
        self.values = 0
        self._flush = flush
        if resume:
            self._file: BinaryIO = open(path, "r+b")
            self.values = sum(extent.values for extent in index(path))
            self._file.seek(0, os.SEEK_END)
        else:
            self._file = os.fdopen(os.open(path, _NEW, 0o600), "w+b", buffering=1 << 17)
            self._file.write(MAGIC)
        self._position = self._file.tell()
        self._mark = (self._position, self.values)
        self._held: Optional[Tuple[int, bytes, bytes]] = None

    def value(self, key: str, payload: bytes, kind: int = VALUE) -> None:
        """Add a value to the current input item."""
        if self._held is not None:
            self._write(self._held[0], 0, self._held[1], 0, 0, self._held[2])
        self._held = (kind, key.encode(), payload)
        self.values += 1

    def end(self, first: int, last: int) -> None:
        """End the current input item, or the range of them that was combined."""
        if self._held is None:
            self._write(END, ENDS, b"", first, last, b"")
        else:
            self._write(self._held[0], ENDS, self._held[1], first, last, self._held[2])
            self._held = None
        if self._flush:
            self._file.flush()
        self._mark = (self._position, self.values)

    def abandon(self) -> None:
        """Drop what the current input item has written."""
        self.rewind(self._mark)

    @property
    def mark(self) -> Tuple[int, int]:
        """Where the last finished item ends; `rewind` can come back to it."""
        return self._mark

    def rewind(self, mark: Tuple[int, int]) -> None:
        """Drop everything that was written after a mark."""
        self._mark = mark
        self._held = None
        position, self.values = mark
        if position != self._position:
            self._file.flush()
            self._file.seek(position)
            self._file.truncate()
            self._position = position

    def close(self, sync: bool = False) -> int:
        """End the file and return its size in bytes."""
        self.abandon()
        self._write(TRAILER, 0, b"", 0, 0, _COUNT.pack(self.values))
        self._file.flush()
        if sync:
            os.fsync(self._file.fileno())
        self._file.close()
        return self._position

    def discard(self) -> None:
        """Close the file as it is, without making it whole."""
        self._file.close()

    def _write(self, kind: int, flags: int, key: bytes, first: int, last: int, data: bytes) -> None:
        header = _HEADER.pack(kind, flags, len(key), first, last, len(data))
        checksum = zlib.crc32(data, zlib.crc32(key, zlib.crc32(header)))
        self._file.write(header + _CRC.pack(checksum) + key)
        self._file.write(data)
        self._position += _HEAD_SIZE + len(key) + len(data)


def _open(path: str) -> BinaryIO:
    try:
        file = open(path, "rb")
    except FileNotFoundError:
        raise DamagedFile(path, "it is missing") from None
    if file.read(len(MAGIC)) != MAGIC:
        file.close()
        raise DamagedFile(path, "it does not begin as an item file")
    return file


def _frames(
    file: BinaryIO, path: str, stop: Optional[int]
) -> Iterator[Tuple[int, int, int, int, bytes, bytes]]:
    """Yield the frames from the file's position on, checked, up to `stop` or the trailer."""
    position = file.tell()
    size = os.fstat(file.fileno()).st_size
    while stop is None or position < stop:
        head = file.read(_HEAD_SIZE)
        if len(head) < _HEAD_SIZE:
            raise DamagedFile(path, "it ends at byte %d, before its trailer" % position)
        kind, flags, key_length, first, last, length = _HEADER.unpack_from(head)
        if kind not in (VALUE, FILE, END, TRAILER):
            raise DamagedFile(path, "byte %d is not the start of a frame" % position)
        end = position + _HEAD_SIZE + key_length + length
        if end > size:
            raise DamagedFile(path, "it ends within the frame at byte %d" % position)
        body = file.read(key_length + length)
        (checksum,) = _CRC.unpack_from(head, _HEADER.size)
        if zlib.crc32(body, zlib.crc32(head[: _HEADER.size])) != checksum:
            raise DamagedFile(
                path, "the checksum of the frame at byte %d does not match" % position
            )
        position = end
        yield kind, flags, first, last, body[:key_length], body[key_length:]
        if kind == TRAILER:
            return


def read(path: str) -> Iterator[Frame]:
    """Yield the values of a whole file in the order they were written.

    Raises
    ------
    DamagedFile
        Where the file is missing or truncated, or a checksum does not match.
    """
    with _open(path) as file:
        values = 0
        for kind, _, _, _, key, payload in _frames(file, path, None):
            if kind in (VALUE, FILE):
                values += 1
                yield Frame(kind, key.decode(), payload)
            elif kind == TRAILER and _COUNT.unpack(payload)[0] != values:
                raise DamagedFile(path, "it holds another number of values than its trailer says")


def count(path: str) -> int:
    """Return how many values a whole file holds, from its trailer alone."""
    with _open(path) as file:
        size = file.seek(0, os.SEEK_END)
        if size < len(MAGIC) + _TRAILER_SIZE:
            raise DamagedFile(path, "it has no trailer")
        file.seek(size - _TRAILER_SIZE)
        for kind, _, _, _, _, payload in _frames(file, path, size):
            if kind == TRAILER:
                return int(_COUNT.unpack(payload)[0])
    raise DamagedFile(path, "it has no trailer")


def index(path: str, *, whole: bool = False) -> List[Extent]:
    """Return the extents of all finished input items of a file, all of it verified.

    Parameters
    ----------
    path : str
        The file.
    whole : bool
        Raise `DamagedFile` for a file that is cut off; else its sound beginning counts.
    """
    extents: List[Extent] = []
    with _open(path) as file:
        start = file.tell()
        values = total = 0
        try:
            for kind, flags, first, last, _, payload in _frames(file, path, None):
                if kind == TRAILER:
                    if _COUNT.unpack(payload)[0] != total:
                        raise DamagedFile(path, "its trailer tells another number of values")
                    break
                values += kind != END
                total += kind != END
                if flags & ENDS:
                    extents.append(Extent(first, last, start, file.tell(), values))
                    start, values = file.tell(), 0
        except DamagedFile:
            if whole:
                raise
    return extents


def repair(path: str) -> None:
    """Cut a file that a dead process left behind to its finished items, all verified."""
    good = len(MAGIC)
    try:
        with _open(path) as file:
            try:
                for kind, flags, _, _, _, _ in _frames(file, path, None):
                    if flags & ENDS and kind != TRAILER:
                        good = file.tell()
            except DamagedFile:
                pass  # what was verified before the damage is kept
    except DamagedFile:
        with open(path, "wb") as file:
            file.write(MAGIC)
    os.truncate(path, good)


def reconcile(paths: Sequence[str]) -> List[Tuple[int, int]]:
    """Make unfinished files of one job agree on which input items are finished.

    An item counts only where all files have it; and a combined range only as a whole, so that
    what is done again is in no file twice. Returns the ranges of finished items.
    """
    while True:
        common = finished(paths)
        changed = [keep(path, common) for path in paths]
        if not any(changed):
            return common


def keep(path: str, ranges: Iterable[Tuple[int, int]]) -> bool:
    """Drop all extents of an unfinished file that are not in these ranges; tell if any was."""
    kept: Set[int] = set()
    for first, last in ranges:
        kept.update(range(first, last + 1))
    extents = index(path)
    wanted = [extent for extent in extents if kept.issuperset(range(extent.first, extent.last + 1))]
    if len(wanted) == len(extents):
        return False
    aside = path + ".kept"
    with open(path, "rb") as old, os.fdopen(os.open(aside, _NEW, 0o600), "wb") as new:
        new.write(MAGIC)
        for extent in wanted:
            old.seek(extent.start)
            new.write(old.read(extent.end - extent.start))
    os.replace(aside, path)
    return True


def merge(paths: Sequence[str]) -> Iterator[Frame]:
    """Yield the values of one chunk from the files of all its attempts, in item order.

    Each attempt holds the input items that earlier ones left undone; where two hold the same
    item, the later attempt counts.
    """
    if len(paths) == 1:
        yield from read(paths[0])
        return
    where = {}
    for path in paths:
        for extent in index(path, whole=True):
            where[extent.first] = (extent, path)
    handles = {}
    try:
        for first in sorted(where):
            extent, path = where[first]
            if path not in handles:
                handles[path] = _open(path)
            file = handles[path]
            file.seek(extent.start)
            for kind, _, _, _, key, payload in _frames(file, path, extent.end):
                if kind != END:
                    yield Frame(kind, key.decode(), payload)
    finally:
        for file in handles.values():
            file.close()


def merged_count(paths: Sequence[str]) -> int:
    """Return how many values `merge` yields for these files."""
    if len(paths) == 1:
        return count(paths[0])
    where = {}
    for path in paths:
        for extent in index(path, whole=True):
            where[extent.first] = extent.values
    return sum(where.values())


def finished(paths: Iterable[str]) -> List[Tuple[int, int]]:
    """Return the ranges of input items that are finished in every one of these files."""
    common: Optional[Set[int]] = None
    for path in paths:
        done: Set[int] = set()
        for extent in index(path):
            done.update(range(extent.first, extent.last + 1))
        common = done if common is None else common & done
    return to_ranges(common or ())


def to_ranges(numbers: Iterable[int]) -> List[Tuple[int, int]]:
    """Return numbers as sorted, disjoint, inclusive ranges."""
    ranges: List[Tuple[int, int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges
