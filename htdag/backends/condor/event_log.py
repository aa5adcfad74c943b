"""Read HTCondor's event logs fast: those of 100,000 jobs in about a second.

The bindings' reader makes an ad of each event, which takes many times as long. Here the log is
searched for the heads of events alone. Of jobs that have come and left the queue since the last
look nothing is given but what tells the node of their cluster: nothing else matters any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

_BLOCK = 8 << 20
_END = b"\n...\n"
# With the end of the event before, which makes the search ten times as fast as "at a line's start".
_HEAD = re.compile(rb"\n\.\.\.\n(\d{3}) \((\d+\.\d+)\.\d+\) ")
_LEFT = (b"005", b"009")  # terminated, aborted
_FACTS = {
    "HoldReasonCode": re.compile(r"^\tCode (\d+)", re.MULTILINE),
    "HoldReasonSubCode": re.compile(r"^\tCode \d+ Subcode (-?\d+)", re.MULTILINE),
    "Memory": re.compile(r"^\tMemory = (\d+)", re.MULTILINE),
    "MemoryUsage": re.compile(r"^\t(\d+)  -  MemoryUsage", re.MULTILINE),
    "ReturnValue": re.compile(r"\(return value (-?\d+)\)"),
}
_NODE = re.compile(r'DAGNodeName = "([^"]*)"')
_SLOT = re.compile(r"^\tSlotName: (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Event:
    """One event of a log.

    Attributes
    ----------
    type : int
        Its number; those of ``htcondor2.JobEventType`` are the same.
    cluster, proc : int
        The job.
    text : str
        All of it, as the log has it, from the time on; "" where it tells only that a job has left.
    """

    type: int
    cluster: int
    proc: int
    text: str

    @property
    def timestamp(self) -> float:
        """When it happened, in seconds since the epoch."""
        return datetime.fromisoformat(self.text[:19]).timestamp()

    @property
    def node(self) -> str:
        """The DAGMan node of a submit event, which is told in its notes, by two forms."""
        notes = str(self.get("LogNotes", ""))
        match = _NODE.search(notes)
        return match[1] if match else notes.removeprefix("DAG Node: ").strip()

    def get(self, name: str, default: Any = None) -> Any:
        """Return what the event says, by the name that the bindings have for it.

        Parameters
        ----------
        name : str
            ``EventTime``, ``LogNotes``, ``HoldReason``, ``HoldReasonCode``, ``HoldReasonSubCode``,
            ``SlotName``, ``ExecuteProps`` (with ``Memory`` alone), ``MemoryUsage`` or
            ``ReturnValue``.
        default : object
            What to return where the event does not say it.
        """
        if name in ("LogNotes", "HoldReason"):
            lines = self.text.splitlines()
            return lines[1].strip() if len(lines) > 1 else default
        if name == "EventTime":
            return self.text[:19] or default
        if name == "SlotName":
            match = _SLOT.search(self.text)
            return match[1] if match else default
        if name == "ExecuteProps":
            memory = self.get("Memory")
            return default if memory is None else {"Memory": memory}
        match = _FACTS[name].search(self.text)
        return int(match[1]) if match else default


class EventLog:
    """A log that is read on and on.

    Parameters
    ----------
    path : pathlib.Path
        The file, in HTCondor's default format. It need not be there yet.

    Examples
    --------
    >>> log = EventLog(Path("survey.dag.nodes.log"))
    >>> [event.cluster for event in log.events()]
    []
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._clusters: set[bytes] = set()
        self._here: set[bytes] = set()

    def events(self, known: Iterable[tuple[int, int]] = ()) -> Iterator[Event]:
        """Yield the events that were written since the last call and still matter.

        Parameters
        ----------
        known : iterable of (int, int)
            Jobs of which the caller knows otherwise, by cluster and proc: if they have left that is
            told too.
        """
        if not self._is_longer():
            return
        left: set[bytes] = set()
        seen: list[tuple[int, int, set[bytes]]] = []  # of each block where it is, and its jobs
        for start, block in self._blocks(self._offset):
            heads = _HEAD.findall(block)
            left.update([job for kind, job in heads if kind in _LEFT])
            seen.append((start, len(block), {job for _, job in heads}))
        for start, length, inside in seen:
            fresh = {job[: job.index(b".")] for job in inside} - self._clusters
            if fresh or not inside <= left:
                # Most blocks tell nothing that still matters, and are not read again.
                _, block = next(self._blocks(start, length))
                yield from self._of(block, left)
            self._offset = start + length
        others = {b"%03d.%03d" % job for job in known}
        for job in left & (self._here | others):
            yield _event(b"005", job, b"")
        self._here -= left

    def _of(self, block: bytes, left: set[bytes]) -> Iterator[Event]:
        kind = job = b""
        start = -1  # of the text of the event before, if it is to be given
        for head in _HEAD.finditer(block):
            if start >= 0:
                yield _event(kind, job, block[start : head.start()])
                start = -1
            kind, job = head.groups()
            if job not in left:
                self._here.add(job)
                start = head.end()
            elif kind == b"000" and job.partition(b".")[0] not in self._clusters:
                self._here.add(job)
                start = head.end()  # its node is told here, for all jobs of the cluster
            if kind == b"000":
                self._clusters.add(job.partition(b".")[0])
        if start >= 0:
            yield _event(kind, job, block[start:])

    def _is_longer(self) -> bool:
        """Tell whether there is more than was read; a log that is shorter is a new one."""
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return False
        if size < self._offset:
            self._offset = 0
        return size > self._offset

    def _blocks(self, offset: int, size: int = _BLOCK) -> Iterator[tuple[int, bytes]]:
        """Yield what is new, in pieces of whole events, each after the end of the one before.

        With where each begins: a piece is as long as what it stands for, with an end of an event
        before its events and none behind.
        """
        with open(self._path, "rb", buffering=0) as file:
            while True:
                file.seek(offset)
                read = file.read(size)
                end = read.rfind(_END)
                if end < 0:
                    return  # nothing, or an event that is being written
                yield offset, b"".join((_END, memoryview(read)[:end]))
                offset += end + len(_END)
                if len(read) < size:
                    return


def _event(kind: bytes, job: bytes, text: bytes) -> Event:
    cluster, proc = job.split(b".")
    return Event(int(kind), int(cluster), int(proc), text.decode("utf-8", "replace"))
