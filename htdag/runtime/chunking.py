"""The arithmetic of chunks: which items each chunk of a node takes.

The items that a node reads are one sequence, made of one stream or of several (a *view*); a chunk
is a range of it. A stream is a row of *blocks*, each the values of one chunk of another node, or of
one file of a source.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate
from typing import List, NamedTuple, Optional, Sequence, Tuple

_NEAR = 0.25  # of a chunk: so near, the edge of a block is taken, and one file less is read


class Slice(NamedTuple):
    """Values ``start`` to ``stop`` of one block; ``whole`` if that is all of them."""

    block: int
    start: int
    stop: int
    whole: bool


def even(total: int, parts: int) -> List[int]:
    """Return the boundaries of `parts` nearly equal parts of `total`."""
    return [total * part // parts for part in range(parts + 1)]


def view_total(view: str, number: int, limit: Optional[int], totals: Sequence[int]) -> int:
    """Return how many items a view of streams with so many values has."""
    if view == "batch":
        total = -(-totals[0] // number)
    elif view == "zip":
        total = min(totals)
    elif view == "product":
        total = math.prod(totals)
    elif view == "combinations":
        total = math.comb(totals[0], number)
    elif view == "iterate":
        total = totals[0]  # the state; the others are for its rounds
    else:
        total = sum(totals)
    return total if limit is None else min(limit, total)


def needed(
    view: str, number: int, totals: Sequence[int], start: int, stop: int
) -> List[Tuple[int, int]]:
    """Return the range of values of each stream that items `start` to `stop` of a view need."""
    if stop <= start:
        return [(0, 0) for _ in totals]
    if view == "batch":
        return [(start * number, min(stop * number, totals[0]))]
    if view == "zip":
        return [(start, stop) for _ in totals]
    if view == "combinations":
        return [(combination_at(totals[0], number, start)[0], totals[0])]
    if view == "product":
        ranges = []
        for position in range(len(totals)):
            inner = math.prod(totals[position + 1 :])
            first, last = start // inner, (stop - 1) // inner
            ranges.append((first, last + 1))
            if last > first:
                return [*ranges, *((0, other) for other in totals[position + 1 :])]
            start, stop = start - first * inner, stop - first * inner
        return ranges
    edges = [0, *accumulate(totals)]  # one stream after another
    return [
        (max(start, low) - low, max(min(stop, high), max(start, low)) - low)
        if start < high and stop > low
        else (0, 0)
        for low, high in zip(edges, edges[1:])
    ]


def combination_at(items: int, r: int, rank: int) -> List[int]:
    """Return the `rank`-th of the combinations of `r` of so many items, as itertools has them."""
    if not 0 <= rank < math.comb(items, r):
        raise IndexError("there is no combination %d of %d of %d items" % (rank, r, items))
    indices: List[int] = []
    item = 0
    for left in range(r, 0, -1):
        while True:
            here = math.comb(items - item - 1, left - 1)
            if rank < here:
                break
            rank -= here
            item += 1
        indices.append(item)
        item += 1
    return indices


def slices(counts: Sequence[int], start: int, stop: int) -> List[Slice]:
    """Return which parts of a stream's blocks hold its values `start` to `stop`."""
    parts = []
    low = 0
    for block, count in enumerate(counts):
        first, last = max(start, low) - low, min(stop, low + count) - low
        if first < last:
            parts.append(Slice(block, first, last, first == 0 and last == count))
        low += count
        if low >= stop:
            break
    return parts


def boundaries(
    total: int,
    size: Optional[int],
    per_job: float,
    most: int,
    blocks: Sequence[int] = (),
) -> List[int]:
    """Return the starts of the chunks of a sequence, and its end.

    Parameters
    ----------
    total : int
        The number of items.
    size : int or None
        Items of a chunk, where that was said.
    per_job : float
        Else about how many items a chunk is to have,
    most : int
        and how many chunks there may be.
    blocks : sequence of int
        The counts of the blocks that are read, if chunks should start with blocks.
    """
    if total <= 0:
        return [0, 0]
    if size is not None:
        return [*range(0, total, size), total]
    jobs = max(1, min(most, total, round(total / per_job)))
    starts = even(total, jobs)
    if blocks:
        edges = [0, *accumulate(blocks)]
        starts = [_nearest(edges, edge, _NEAR * total / jobs) for edge in starts]
    return sorted(set(starts))


def _nearest(edges: Sequence[int], wanted: int, within: float) -> int:
    position = bisect_left(edges, wanted)
    near = min(edges[max(0, position - 1) : position + 1], key=lambda edge: abs(edge - wanted))
    return near if abs(near - wanted) <= within else wanted


def share_of(total: int, part: int, parts: int) -> int:
    """Return how many of so many items a part gets if they are handed out in order."""
    if total < 0:
        return -1
    return -(-(part + 1) * total // parts) - -(-part * total // parts)
