"""Item files: a stream of values, each with its key and checksum.

Sources, and the outcomes of jobs, are item files. A file begins with a magic line; frames follow,
see ``frames.py``; a trailer with the count of values ends a whole file. The payload of a value is
a pickle that only jobs and the user's own process open; everything else here works on headers.

An *input item* of a chunk is known by its sequence number. Its values are followed by, or flagged
as, its end: values without an end belong to an item that was cut off and do not count. A value
combined from several input items covers a range of sequence numbers.
"""

from __future__ import annotations

import contextlib
import os
from typing import (
    Any,
    BinaryIO,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from ..layout import DamagedFile, MissingFile, unblocked
from . import frames
from .frames import COUNT, END, ENDS, TRAILER, TRAILER_SIZE, VALUE, Frame

MAGIC = b"htdag items 1\n"
__all__ = [
    "VALUE",
    "DamagedFile",
    "Extent",
    "Frame",
    "ItemWriter",
    "count",
    "finished",
    "index",
    "keep",
    "merge",
    "merged_count",
    "read",
    "reconcile",
    "references",
    "references_by_key",
    "repair",
    "to_ranges",
]

_NEW = os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Extent(NamedTuple):
    """The position in a file of the values of one finished input item, or of a combined range."""

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
        Continue at the end of a file that `repair` has cut to whole items.
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
            # Another file, also where one is there: a copy of this job that HTCondor has lost sight
            # of may still write to that, where the file system is shared.
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)
            self._file = os.fdopen(os.open(path, _NEW, 0o600), "w+b", buffering=1 << 17)
            self._file.write(MAGIC)
        self._position = self._file.tell()
        self._mark = (self._position, self.values)
        self._held: Optional[Tuple[bytes, bytes, Sequence[str]]] = None

    def value(
        self, key: str, payload: bytes, buffers: Sequence[Any] = (), files: Sequence[str] = ()
    ) -> None:
        """Add a value to the current input item, and which files travel with it.

        Its `buffers` are written before this returns: their owner may change them then.
        """
        self._write_held(0, 0, 0)
        self.values += 1
        if buffers:
            self._write(VALUE, 0, key.encode(), 0, 0, payload, buffers, files)
        else:
            self._held = (key.encode(), payload, files)

    def end(self, first: int, last: int) -> None:
        """End the current input item, or the range of them that was combined."""
        if self._held is None:
            self._write(END, ENDS, b"", first, last, b"")
        else:
            self._write_held(ENDS, first, last)
        if self._flush:
            self._file.flush()
        self._mark = (self._position, self.values)

    def abandon(self) -> None:
        """Drop the values of the current input item."""
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
        self._write(TRAILER, 0, b"", 0, 0, COUNT.pack(self.values))
        self._file.flush()
        if sync:
            os.fsync(self._file.fileno())
        self._file.close()
        return self._position

    def discard(self) -> None:
        """Close the file as it is, without making it whole."""
        self._file.close()

    def _write_held(self, flags: int, first: int, last: int) -> None:
        if self._held is not None:
            key, payload, files = self._held
            self._held = None
            self._write(VALUE, flags, key, first, last, payload, (), files)

    def _write(self, *frame: Any) -> None:
        self._position += frames.write(self._file, *frame)


def _open(path: str) -> BinaryIO:
    try:
        file = open(path, "rb", buffering=1 << 16, opener=unblocked)
    except FileNotFoundError:
        raise MissingFile(path) from None
    except OSError as error:
        raise DamagedFile(path, "it cannot be read (%s)" % error.strerror) from error
    if file.read(len(MAGIC)) != MAGIC:
        file.close()
        raise DamagedFile(path, "it does not begin as an item file")
    return file


def read(path: str) -> Iterator[Frame]:
    """Yield the values of a whole file in the order they were written.

    Raises
    ------
    DamagedFile
        If the file is missing or truncated, or a checksum does not match.
    """
    with _open(path) as file:
        values = 0
        for stored in frames.read(file, path, None):
            if stored.kind == VALUE:
                values += 1
                frame = stored.frame
                del stored  # see frames.read
                yield frame
                del frame
            elif stored.kind == TRAILER and COUNT.unpack(stored.payload)[0] != values:
                raise DamagedFile(path, "its number of values differs from that in its trailer")


def count(path: str) -> int:
    """Return how many values a whole file holds, from its trailer alone."""
    with _open(path) as file:
        size = file.seek(0, os.SEEK_END)
        if size < len(MAGIC) + TRAILER_SIZE:
            raise DamagedFile(path, "it has no trailer")
        file.seek(size - TRAILER_SIZE)
        for stored in frames.read(file, path, size):
            if stored.kind == TRAILER:
                return int(COUNT.unpack(stored.payload)[0])
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
            for stored in frames.read(file, path, None, load=False):
                if stored.kind == TRAILER:
                    if COUNT.unpack(stored.payload)[0] != total:
                        raise DamagedFile(path, "its number of values differs from its trailer")
                    break
                values += stored.kind != END
                total += stored.kind != END
                if stored.flags & ENDS:
                    extents.append(Extent(stored.first, stored.last, start, file.tell(), values))
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
                for stored in frames.read(file, path, None, load=False):
                    if stored.flags & ENDS and stored.kind != TRAILER:
                        good = file.tell()
            except DamagedFile:
                pass  # what was verified before the damage is kept
    except DamagedFile:
        with open(path, "wb") as file:
            file.write(MAGIC)
    os.truncate(path, good)


def reconcile(paths: Sequence[str]) -> List[Tuple[int, int]]:
    """Make unfinished files of one job agree on which input items are finished.

    An item counts only if all files have it, and a combined range only as a whole, so that nothing
    that is computed again is in a file twice. Returns the ranges of finished items.
    """
    while True:
        common = finished(paths)
        changed = [keep(path, common) for path in paths]
        if not any(changed):
            return common


def keep(path: str, ranges: Iterable[Tuple[int, int]]) -> bool:
    """Drop all extents of an unfinished file outside these ranges; return whether any was."""
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
            left = extent.end - extent.start
            while left:
                left -= new.write(old.read(min(left, 1 << 20)))
    os.replace(aside, path)
    return True


def merge(paths: Sequence[str]) -> Iterator[Frame]:
    """Yield the values of one chunk from the files of all its attempts, in item order.

    Each attempt holds the input items that earlier ones left undone; if two hold the same item,
    the later attempt counts.
    """
    if len(paths) == 1:
        yield from read(paths[0])
        return
    for stored in _merged(paths, load=True):
        frame = stored.frame
        del stored
        yield frame
        del frame


def references(paths: Sequence[str]) -> Iterator[Tuple[str, ...]]:
    """Yield for each value that `merge` yields which files travel with it; no payload is read."""
    for _, files in references_by_key(paths):
        yield files


def references_by_key(paths: Sequence[str]) -> Iterator[Tuple[str, Tuple[str, ...]]]:
    """Yield also the key of each value."""
    if len(paths) > 1:
        for stored in _merged(paths, load=False):
            yield stored.key.decode(), stored.files
        return
    with _open(paths[0]) as file:
        for stored in frames.read(file, paths[0], None, load=False, check=False):
            if stored.kind == VALUE:
                yield stored.key.decode(), stored.files


def _merged(paths: Sequence[str], *, load: bool) -> Iterator[frames.Stored]:
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
            for stored in frames.read(file, path, extent.end, load=load, check=load):
                if stored.kind != END:
                    yield stored
                    del stored
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
