"""Sorting of more than memory holds, with the help of the disk."""

from __future__ import annotations

import heapq
import os
import struct
from typing import IO, Any, Callable, Iterable, Iterator, List, NamedTuple

BUDGET = 48 << 20
"""The bytes of entries held in memory."""
_ENTRY = 300  # bytes that Python takes for an entry, beside its key and payload
_MOST_RUNS = 64  # merged at once; each has a buffer and a file descriptor

_HEAD = struct.Struct("<IQ")


class Entry(NamedTuple):
    """A value to be sorted: its sort key, its item's key, and its stored form."""

    order: Any
    key: str
    payload: bytes


def sort(
    entries: Iterable[Entry],
    order_of: Callable[[bytes], Any],
    *,
    reverse: bool = False,
    budget: int = BUDGET,
) -> Iterator[Entry]:
    """Yield entries sorted by their ``order``; equal ones keep their order.

    Parameters
    ----------
    entries : iterable of Entry
        What to sort.
    order_of : callable
        Returns the order of an entry from its payload, after that was read back from the disk.
    reverse : bool
        The largest first; equal ones keep their order here, too.
    budget : int
        About how many bytes to hold in memory.
    """
    runs: List[IO[bytes]] = []
    held: List[Entry] = []
    size = 0

    def flush() -> None:
        _sort(held, reverse)
        runs.append(_written(held))
        held.clear()

    try:
        for entry in entries:
            held.append(entry)
            size += len(entry.payload) + len(entry.key) + _ENTRY
            if size > budget:
                flush()
                size = 0
                if len(runs) > _MOST_RUNS:
                    # The first ones into one, which stays the first: equal entries keep their order
                    merged = _written(_merge(runs, order_of, reverse))
                    for run in runs:
                        run.close()
                    runs[:] = [merged]
        _sort(held, reverse)
        if not runs:
            yield from held
            return
        streams: List[Iterable[Entry]] = [_read(run, order_of) for run in runs]
        yield from heapq.merge(*streams, held, key=_order, reverse=reverse)
    finally:
        for run in runs:
            run.close()


class IncomparableError(TypeError):
    """Two entries cannot be compared; the message has the keys of their items."""


def _sort(entries: List[Entry], reverse: bool) -> None:
    try:
        entries.sort(key=_order, reverse=reverse)
    except TypeError as error:
        # A list that could not be sorted has all of its entries, in some order.
        first = entries[0]
        for other in entries[1:]:
            try:
                other.order < first.order  # noqa: B015
            except TypeError:
                raise IncomparableError(
                    "%s (those of the items %s and %s)" % (error, first.key, other.key)
                ) from error
        raise


def _order(entry: Entry) -> Any:
    return entry.order


def _merge(
    runs: List[IO[bytes]], order_of: Callable[[bytes], Any], reverse: bool
) -> Iterator[Entry]:
    streams = [_read(run, order_of) for run in runs]
    return heapq.merge(*streams, key=_order, reverse=reverse)


def scratch_file(prefix: str) -> IO[bytes]:
    """Return a new file in the job's scratch directory, gone when it is closed."""
    import tempfile  # it takes time, which most jobs need not spend

    folder = os.environ.get("_CONDOR_SCRATCH_DIR")
    return tempfile.TemporaryFile(
        prefix=prefix, dir=folder if folder and os.path.isdir(folder) else None, buffering=1 << 18
    )


def _written(entries: Iterable[Entry]) -> IO[bytes]:
    file = scratch_file("htdag-sort-")
    for _, key, payload in entries:
        name = key.encode()
        file.write(_HEAD.pack(len(name), len(payload)) + name)
        file.write(payload)
    file.flush()
    file.seek(0)
    return file


def _read(file: IO[bytes], order_of: Callable[[bytes], Any]) -> Iterator[Entry]:
    while True:
        head = file.read(_HEAD.size)
        if not head:
            return
        name, length = _HEAD.unpack(head)
        key = file.read(name).decode()
        payload = file.read(length)
        yield Entry(order_of(payload), key, payload)
