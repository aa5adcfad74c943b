"""The inputs of one job: the description of its chunk, and the values in the files it names."""

from __future__ import annotations

import itertools
import pickle
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, Sequence

from . import itemfile
from .itemfile import Frame

if TYPE_CHECKING:
    from ..formats.task import BindParts, Part


def frames(parts: List[Part]) -> Iterator[Frame]:
    """Yield the stored values of a stream in order.

    Parameters
    ----------
    parts : list of dict
        ``files`` are the attempts of one block; ``range`` is None, or which of its values; and
        ``number``, if there is one, that of the first: then their numbers are their keys.
    """
    for part in parts:
        merged = itemfile.merge(part["files"])
        if part["range"] is not None:
            merged = itertools.islice(merged, *part["range"])
        if "number" in part:
            yield from _numbered(merged, part["number"])
        else:
            yield from merged


def _numbered(stored: Iterator[Frame], number: int) -> Iterator[Frame]:
    numbers = itertools.count(number)
    # Not by a loop, which would keep a frame while the next one is read.
    return map(lambda frame: frame._replace(key=str(next(numbers))), stored)  # noqa: C417


def value(frame: Frame) -> Any:
    """Return the Python value of a frame; files that travel with it become paths."""
    try:
        return pickle.loads(frame.payload, buffers=frame.buffers)
    except ImportError:
        raise
    except Exception as error:
        raise pickle.UnpicklingError(
            "the value of item %s cannot be unpickled, as the stage before gave it: %s: %s"
            % (frame.key, type(error).__name__, error)
        ) from error


def bound_values(binds: Dict[str, BindParts]) -> Dict[str, Any]:
    """Return the values of bound stages: the value of a reduce, else the list of all values."""
    values: Dict[str, Any] = {}
    for name, bind in binds.items():
        all_values = [value(frame) for frame in frames(bind["parts"])]
        if not bind["one"]:
            values[name] = all_values
        elif all_values:
            values[name] = all_values[0]
        else:
            raise ValueError("the bound stage %r has no value" % bind["stage"])
    return values


def chosen(ranges: Iterable[Sequence[int]]) -> Iterator[int]:
    """Yield the sequence numbers of ranges, both ends included."""
    for first, last in ranges:
        yield from range(first, last + 1)
