"""Views: how a job makes items from the stored values that it reads.

The items of a *view* are pairs of a key and of what is stored; ``load`` makes the value of the
latter. So a value that cannot be loaded, or that the user's function refuses to combine, is an
error of this one item.
"""

from __future__ import annotations

import itertools
import pickle
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, NamedTuple, Optional, Tuple

from ..errors import StageError
from . import chunkfile
from .frames import Frame, own_buffers
from .keyed import BY_HASH

if TYPE_CHECKING:
    from ..formats.task import Description, Part, StreamParts

_HELD = 32 << 20  # bytes of a stream that is read again and again which are held in memory

Items = Iterator[Tuple[str, Any]]


class View(NamedTuple):
    """The items of a chunk, and how their values are made."""

    items: Items
    load: Callable[[Any], Any]


def open_view(description: Description, function: Any) -> View:
    """Return the items of a chunk in order.

    Parameters
    ----------
    description : dict
        The chunk's description: ``view``, ``number``, ``streams``, ``start`` and ``stop``.
    function : callable or None
        Combines the values of a key, for ``reduce_by_key``.
    """
    kind = description["view"]

    one = chunkfile.value

    def several(frames: Any) -> Any:
        return tuple(one(frame) for frame in frames)

    streams = description["streams"]
    if kind == "batch":
        items = _batches(chunkfile.frames(streams[0]["parts"]), description["number"])
        return View(items, lambda frames: [one(frame) for frame in frames])
    if kind == "zip":
        return View(_zipped(streams), several)
    if kind == "enumerate":
        first = description["number"] + description["start"]
        items = _numbered(chunkfile.frames(streams[0]["parts"]), first)
        return View(items, lambda pair: (int(pair[0]), one(pair[1])))
    if kind == "product":
        start = description["start"]
        return View(_product(streams, start, start + (total(description) or 0)), several)
    if kind == "combinations":
        return View(_combinations(description), several)
    if kind == "concat":
        return View(_concatenated(streams), one)
    if kind == "sort_by" or kind in BY_HASH:
        from . import grouping  # it takes time, which jobs without keys need not spend

        if kind == "sort_by":
            return View(*grouping.ordered(streams[0]["parts"], description["reverse"]))
        return View(*grouping.grouped(kind, streams[0]["parts"], function))
    return View(((frame.key, frame) for frame in chunkfile.frames(streams[0]["parts"])), one)


def total(description: Description) -> Optional[int]:
    """Return how many items a chunk has; None if that is known only after reading it."""
    if description["stop"] is None:
        return None
    return description["stop"] - description["start"]


def key_of(description: Description, sequence: int) -> str:
    """Return the key of an item of a chunk."""
    # What a group is made of does not matter for its key.
    items = open_view(description, None).items
    return next((key for key, _ in itertools.islice(items, sequence, None)), "")


def _batches(frames: Iterator[Frame], number: int) -> Items:
    while True:
        batch = list(itertools.islice(frames, number))
        if not batch:
            return
        yield batch[0].key, batch


def _numbered(frames: Iterator[Frame], first: int) -> Items:
    # The number is stored, as a text, with the item: an item with another number is another item.
    for number, frame in enumerate(frames, first):
        yield frame.key, (b"%d" % number, frame)


def _zipped(streams: List[StreamParts]) -> Items:
    for frames in zip(*(chunkfile.frames(stream["parts"]) for stream in streams)):
        yield frames[0].key, frames


def _concatenated(streams: List[StreamParts]) -> Items:
    for number, stream in enumerate(streams):
        for frame in chunkfile.frames(stream["parts"]):
            yield "%d:%s" % (number, frame.key), frame


def _joined(frames: List[Frame]) -> str:
    return "+".join(frame.key for frame in frames)


def _product(streams: List[StreamParts], start: int, stop: int) -> Items:
    totals = [stream["total"] for stream in streams]
    tables = [Table(stream["parts"], stream["first"]) for stream in streams]
    position = start
    while position < stop:
        numbers = []
        rest = position
        for total in reversed(totals):
            rest, number = divmod(rest, total)
            numbers.append(number)
        frames = [table[number] for table, number in zip(tables, reversed(numbers))]
        yield _joined(frames), frames
        position += 1


def _combinations(description: Description) -> Items:
    from ..chunking import combination_at

    (stream,) = description["streams"]
    items, r = stream["total"], description["number"]
    left = total(description) or 0
    if left <= 0:
        return
    table = Table(stream["parts"], stream["first"])
    chosen = combination_at(items, r, description["start"])
    while True:
        frames = [table[number] for number in chosen]
        yield _joined(frames), frames
        left -= 1
        if left == 0:
            return
        position = r - 1
        while position >= 0 and chosen[position] == items - r + position:
            position -= 1
        if position < 0:
            raise StageError("%d of the combinations are not there: %d items came" % (left, items))
        chosen[position:] = range(chosen[position] + 1, chosen[position] + 1 + r - position)


class Table:
    """The values of a stream by number: in memory while they are few, else in a scratch file.

    The values that it returns share no memory, since a function may change its items in place.
    """

    def __init__(self, parts: List[Part], first: int) -> None:
        from array import array

        self._first = first
        self._held: List[Frame] = []
        self._ends = array("Q")
        self._file: Any = None
        size = 0
        for frame in chunkfile.frames(parts):
            if self._file is None:
                self._held.append(frame)
                size += len(frame.payload) + len(frame.key) + sum(map(len, frame.buffers))
                if size > _HELD:
                    from . import sorting

                    self._file = sorting.scratch_file("htdag-table-")
                    for held in self._held:
                        self._write(held)
                    self._held = []
            else:
                self._write(frame)

    def _write(self, frame: Frame) -> None:
        pickle.dump(tuple(frame), self._file, 5)
        self._ends.append(self._file.tell())

    def __getitem__(self, number: int) -> Frame:
        position = number - self._first
        if self._file is None:
            frame = self._held[position]
            if not frame.buffers:
                return frame
            return frame._replace(buffers=own_buffers(frame.payload, frame.buffers))
        self._file.seek(0 if position == 0 else self._ends[position - 1])
        return Frame(*pickle.load(self._file))
