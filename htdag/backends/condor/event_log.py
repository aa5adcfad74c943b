"""A fast reader of HTCondor's event logs: about a second for the logs of 100,000 jobs.

The bindings' reader makes an ad of each event, which takes many times as long. This one only
searches for the headers of events. Of a job that has entered and left the queue since the last
read, it yields at most the event that names the node of its cluster.
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
# It includes the end of the previous event, which is ten times as fast as a search for line starts.
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
        Its number, as in ``htcondor2.JobEventType``.
    cluster, proc : int
        The job.
    text : str
        The event in the log, from the time on; "" if it only reports that a job has left.
    """

    type: int
    cluster: int
    proc: int
    text: str

    @property
    def timestamp(self) -> float:
        """The time of the event, in seconds since the epoch."""
        return datetime.fromisoformat(self.text[:19]).timestamp()

    @property
    def node(self) -> str:
        """The DAGMan node of a submit event, from its notes, which have one of two forms."""
        notes = str(self.get("LogNotes", ""))
        match = _NODE.search(notes)
        return match[1] if match else notes.removeprefix("DAG Node: ").strip()

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute of the event, by its name in the bindings.

        Parameters
        ----------
        name : str
            ``EventTime``, ``LogNotes``, ``HoldReason``, ``HoldReasonCode``, ``HoldReasonSubCode``,
            ``SlotName``, ``ExecuteProps`` (with ``Memory`` alone), ``MemoryUsage`` or
            ``ReturnValue``.
        default : object
            The value to return if the event does not have the attribute.
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
    """A log that is read repeatedly, each time from where the last read ended.

    Parameters
    ----------
    path : pathlib.Path
        The file, in HTCondor's default format. It need not exist yet.

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
        self._queued: set[bytes] = set()

    def events(self, known: Iterable[tuple[int, int]] = ()) -> Iterator[Event]:
        """Yield the events that were written since the last call and still matter.

        Parameters
        ----------
        known : iterable of (int, int)
            Jobs that the caller knows from elsewhere, by cluster and proc: if they have left the
            queue, this is reported, too.
        """
        if not self._is_longer():
            return
        left: set[bytes] = set()
        seen: list[tuple[int, int, set[bytes]]] = []  # position, length and jobs of each block
        for start, block in self._blocks(self._offset):
            heads = _HEAD.findall(block)
            left.update([job for kind, job in heads if kind in _LEFT])
            seen.append((start, len(block), {job for _, job in heads}))
        for start, length, inside in seen:
            fresh = {job[: job.index(b".")] for job in inside} - self._clusters
            if fresh or not inside <= left:
                # Most blocks have nothing that still matters, and are not read again.
                _, block = next(self._blocks(start, length))
                yield from self._of(block, left)
            self._offset = start + length
        others = {b"%03d.%03d" % job for job in known}
        for job in left & (self._queued | others):
            yield _event(b"005", job, b"")
        self._queued -= left

    def _of(self, block: bytes, left: set[bytes]) -> Iterator[Event]:
        kind = job = b""
        start = -1  # of the text of the previous event, if that is to be yielded
        for head in _HEAD.finditer(block):
            if start >= 0:
                yield _event(kind, job, block[start : head.start()])
                start = -1
            kind, job = head.groups()
            if job not in left:
                self._queued.add(job)
                start = head.end()
            elif kind == b"000" and job.partition(b".")[0] not in self._clusters:
                self._queued.add(job)
                start = head.end()  # this event names the node of all jobs of the cluster
            if kind == b"000":
                self._clusters.add(job.partition(b".")[0])
        if start >= 0:
            yield _event(kind, job, block[start:])

    def _is_longer(self) -> bool:
        """Return whether there is more to read; if the log is shorter than before, it is new."""
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return False
        if size < self._offset:
            self._offset = 0
        return size > self._offset

    def _blocks(self, offset: int, size: int = _BLOCK) -> Iterator[tuple[int, bytes]]:
        """Yield new blocks of whole events, each with its position.

        A block has an end of an event before its first event and none after its last, so it is as
        long as the part of the file that it represents.
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
