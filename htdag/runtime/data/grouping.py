"""The items of views that go by keys: sorted, or with one item for each key."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Tuple

from ..errors import StageError
from . import chunkfile, keyed, sorting

if TYPE_CHECKING:
    from ..formats.task import Part


Way = Tuple[Iterator[Tuple[str, Any]], Callable[[Any], Any]]
"""The items of a view, and how their values are made."""


def ordered(parts: List[Part], reverse: bool) -> Way:
    """Return the items of `sort_by`, by their keys."""
    entries = (
        sorting.Entry(keyed.sort_key(frame.payload), frame.key, frame.payload)
        for frame in chunkfile.frames(parts)
    )
    entries_in_order = _compared(sorting.sort(entries, keyed.sort_key, reverse=reverse))
    return ((entry.key, entry.payload) for entry in entries_in_order), keyed.value


def _compared(entries: Iterator[sorting.Entry]) -> Iterator[sorting.Entry]:
    """Yield sorted entries, and say what the user can do if keys have no order."""
    try:
        yield from entries
    except TypeError as error:
        if "not supported between instances" not in str(error):
            raise
        raise StageError(
            "the keys to sort by cannot be compared: %s; give sort_by a key that makes them of one "
            "kind, such as str" % error
        ) from error


def grouped(kind: str, parts: List[Part], function: Any) -> Way:
    """Return an item for each key of a partition."""
    entries = (
        sorting.Entry(keyed.digest_of(frame.payload), frame.key, frame.payload)
        for frame in chunkfile.frames(parts)
    )
    groups = itertools.groupby(
        sorting.sort(entries, keyed.digest_of), key=lambda entry: entry.order
    )
    if kind == "distinct":
        first = (next(group) for _, group in groups)
        return ((entry.key, entry.payload) for entry in first), keyed.value

    def pair(payloads: List[bytes]) -> Tuple[Any, Any]:
        values = map(keyed.value, payloads)
        if kind == "group_by":
            return keyed.group_key(payloads[0]), list(values)
        total = next(values)
        for value in values:
            total = function(total, value)
        return keyed.group_key(payloads[0]), total

    return _groups(groups), pair


def _groups(groups: Any) -> Iterator[Tuple[str, Any]]:
    for _, group in groups:
        payloads = [entry.payload for entry in group]
        yield keyed.item_key(payloads[0]), payloads
