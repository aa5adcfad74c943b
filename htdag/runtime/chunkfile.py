"""What one job reads: the description of its chunk, and the values in the files it names."""

from __future__ import annotations

import itertools
import json
import os
import pickle
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from . import itemfile, layout
from .itemfile import FILE, Frame

Ranges = Optional[List[Tuple[int, int]]]


def frames(parts: List[Dict[str, Any]]) -> Iterator[Frame]:
    """Yield the stored values of a stream in order.

    Parameters
    ----------
    parts : list of dict
        ``files`` are the attempts of one cell; ``range`` is None, or which of its values; and
        ``number``, if there is one, that of the first: then their numbers are their keys.
    """
    for part in parts:
        found = itemfile.merge(part["files"])
        if part["range"] is not None:
            found = itertools.islice(found, *part["range"])
        if "number" in part:
            yield from _numbered(found, part["number"])
        else:
            yield from found


def _numbered(found: Iterator[Frame], number: int) -> Iterator[Frame]:
    numbers = itertools.count(number)
    # Not by a loop, which would keep a frame while the next one is read.
    return map(lambda frame: frame._replace(key=str(next(numbers))), found)  # noqa: C417


def value(frame: Frame, files_folder: str) -> Any:
    """Return the Python value of a stored one.

    A file item becomes a `pathlib.Path`: the user's own path where the file system is shared,
    else the transferred file, under its own name in a folder of its own below `files_folder`.
    """
    if frame.kind != FILE:
        return pickle.loads(frame.payload, buffers=frame.buffers)
    file = json.loads(frame.payload)
    link = file["link"]
    shared = os.path.exists(layout.RUN)  # here is the run directory itself: nothing was transferred
    # A run that came from elsewhere has the user's files in place of the links to them.
    if shared and (os.path.exists(file["path"]) or not os.path.exists(link)):
        return Path(file["path"])
    folder = os.path.join(os.path.abspath(files_folder), os.path.basename(link))
    path = os.path.join(folder, file["name"])
    if not os.path.lexists(path):
        if not os.path.exists(link):
            raise FileNotFoundError("the input file %r did not arrive with the job" % file["name"])
        os.makedirs(folder, exist_ok=True)
        os.symlink(os.path.abspath(link), path)
    return Path(path)


def bound_values(binds: Dict[str, Dict[str, Any]], files_folder: str) -> Dict[str, Any]:
    """Return the values of bound stages: one value of a reduce, else the list of all values."""
    values: Dict[str, Any] = {}
    for name, bind in binds.items():
        found = [value(frame, files_folder) for frame in frames(bind["parts"])]
        if not bind["one"]:
            values[name] = found
        elif found:
            values[name] = found[0]
        else:
            raise ValueError("the bound stage %r has no value" % bind["stage"])
    return values


def chosen(todo: Ranges, total: Optional[int]) -> Iterator[int]:
    """Yield the sequence numbers that are to be done."""
    for first, last in todo if todo is not None else [(0, (total or 0) - 1)]:
        yield from range(first, last + 1)
