"""The record of a job beside its values: JSON lines, with no user values but short texts.

Lines: ``start`` (host, Python, time; again each time that the job goes on after a pause or an
eviction), an ``error`` for each failed item and before the first the ``context`` (packages, scratch
directory), ``streams`` for each item that printed, ``checkpoint`` for each pause, and at last
``end`` with the counts. A record without its end belongs to a job that was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, Optional, Union

from .. import layout
from ..layout import AttemptFiles

if TYPE_CHECKING:
    from ..formats.record import FinalEntry, Frames, RecordEnd, RecordLine, RecordStart


def append(path: str, kind: str, content: Any, sync: bool = False) -> None:
    """Add a line to a record."""
    line = json.dumps({kind: content}, ensure_ascii=True).encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line  # a line before was cut off
        os.write(descriptor, line)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def start(
    files: AttemptFiles,
    host: str,
    python: str,
    request_memory: Optional[int] = None,
    *,
    anew: bool = True,
) -> None:
    """Begin a new record, or continue that of a job that was evicted.

    ``request_memory`` is what the job requests, in MB.
    """
    if anew:
        with contextlib.suppress(FileNotFoundError):
            os.remove(files.record)
    content: RecordStart = {
        "node": files.node.name,
        "chunk": layout.chunk_name(files.chunk),
        "attempt": files.number,
        "host": host,
        "python": python,
        "time": time.time(),
    }
    if request_memory is not None:
        content["request_memory"] = request_memory
    append(files.record, "start", content)


def lines(path: str) -> Iterator[RecordLine]:
    """Yield the lines of the record of a job, without those that were cut off or damaged."""
    return _lines(path)


def final_calls(path: str) -> Iterator[FinalEntry]:
    """Yield the calls in the record of the work at the end of a run."""
    for line in _lines(path):
        yield line["final"]


def _lines(path: str) -> Iterator[Any]:
    try:
        with open(path, "rb", opener=layout.unblocked) as file:
            yield from parsed(file)
    except FileNotFoundError:
        return


def parsed(written: Iterable[bytes]) -> Iterator[Any]:
    """Yield what lines of a record say, without those that were cut off or damaged."""
    for line in written:
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if isinstance(content, dict):
            yield content


def whole_traceback(pieces: Union[str, List[Union[str, Frames]]], texts: Dict[str, str]) -> str:
    """Return the traceback of an ``error`` line.

    Parameters
    ----------
    pieces : list or str
        The traceback in the record: parts that several errors share are only in the first.
    texts : dict
        The shared parts in earlier lines; those of this one are added.
    """
    if isinstance(pieces, str):
        return pieces
    for piece in pieces:
        if isinstance(piece, dict) and "text" in piece:
            texts[piece["id"]] = piece["text"]
    return "".join(
        piece if isinstance(piece, str) else texts.get(piece["id"], "") for piece in pieces
    )


def end(path: str) -> Optional[RecordEnd]:
    """Return the ``end`` of a record, or None."""
    try:
        with open(path, "rb", opener=layout.unblocked) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 65536))
            tail = file.read()
    except FileNotFoundError:
        return None
    if not tail.endswith(b"\n"):
        return None
    try:
        last = json.loads(tail.splitlines()[-1])
    except ValueError:
        return None
    ending: Optional[RecordEnd] = last.get("end") if isinstance(last, dict) else None
    return ending if isinstance(ending, dict) else None
