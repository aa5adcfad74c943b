"""What one job has to do, and what it shares with the process that supervises it."""

from __future__ import annotations

import json
import mmap
import os
import struct
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional

from . import layout, requests
from .lease import Claim

if TYPE_CHECKING:
    from .formats.record import JobMeasures
    from .formats.task import BindParts, Description, Part, Program, StreamParts

STARTING, RUNNING, FINISHED, GAVE_UP, PAUSED, ALTERED = 0, 1, 2, 3, 4, 5


class Job(NamedTuple):
    """What one job has to do, as read from the run directory."""

    node: str
    chunk: str
    attempt: int
    program: Program
    description: Description
    root: str = ""
    copies_bound: bool = False  # whether each call has bound values for itself, however large

    def at(self, root: str) -> Job:
        """Return the job with absolute paths, for a process that works somewhere else."""

        return self._replace(description=located(self.description, root), root=root)

    @property
    def record(self) -> str:
        return os.path.join(self.root, layout.record(self.node, self.chunk, self.attempt))

    @property
    def payload(self) -> str:
        return os.path.join(self.root, layout.payload(self.node))

    def _path(self, stem: str) -> str:
        return os.path.join(self.root, layout.output(self.node, self.chunk, self.attempt, stem))

    @property
    def outputs(self) -> List[str]:
        """The main item file of each output: it tells which items are finished."""
        return [self._path(output["stage"]) for output in self.program["outputs"]]

    @property
    def parts(self) -> List[List[str]]:
        """The files of the parts of each output; [] for one in one piece."""
        return [
            [self._path(layout.part(output["stage"], part)) for part in range(output["parts"])]
            for output in self.program["outputs"]
        ]

    @property
    def files(self) -> List[str]:
        """All item files that the job writes, in the order of the counts in its record."""
        found = []
        for main, parts in zip(self.outputs, self.parts):
            found += [main, *parts]
        return found


def located(description: Description, root: str) -> Description:
    """Return a description whose files are found from any folder."""

    def absolute(parts: List[Part]) -> List[Part]:
        return [
            {**part, "files": [os.path.join(root, file) for file in part["files"]]}
            for part in parts
        ]

    binds: Dict[str, BindParts] = {
        name: {**bind, "parts": absolute(bind["parts"])}
        for name, bind in description["binds"].items()
    }
    streams: List[StreamParts] = [
        {**stream, "parts": absolute(stream["parts"])} for stream in description["streams"]
    ]
    return {**description, "binds": binds, "streams": streams}


def read_description(run: str, node: str, chunk: str, attempt: int) -> Description:
    """Return the description of a chunk, for an attempt at it.

    Raises
    ------
    FileNotFoundError
        If it was not laid out yet.
    """
    path = os.path.join(run, layout.chunk(node, chunk, attempt))
    description: Description = layout.read_json(path, "view", "streams", "binds", "todo")
    return description


def read_job(node: str, chunk: str, attempt: int, run: str = "") -> Job:
    """Read what a job has to do, with paths below the run directory `run`; "": the current one."""
    path = os.path.join(run, layout.program(node))
    program: Program = layout.read_json(path, "mode", "outputs")
    return Job(node, chunk, attempt, program, read_description(run, node, chunk, attempt))


class Counts(NamedTuple):
    """How far the child has come."""

    state: int
    position: int  # the sequence number of the item at hand + 1, or 0
    items: int
    done: int
    failed: int


class Shared:
    """Memory in which the child notes how far it is, for the time when it is dead."""

    _COUNTS = struct.Struct("<QQQQQ")
    _LENGTH = struct.Struct("<Q")
    _NOTE_AT = _COUNTS.size + _LENGTH.size
    # For the note, which becomes a part of a record's last line: see `recordfile.end`.
    _ROOM = 32_768

    def __init__(self, claim: Optional[Claim] = None) -> None:
        self.claim = claim
        self._memory = mmap.mmap(-1, self._NOTE_AT + self._ROOM)

    def put(self, state: int, position: int, items: int, done: int, failed: int) -> None:
        """Note how far it is."""
        self._COUNTS.pack_into(self._memory, 0, state, position, items, done, failed)

    def get(self) -> Counts:
        """Return what was noted last."""
        return Counts(*self._COUNTS.unpack_from(self._memory))

    def note(self, content: JobMeasures) -> None:
        """Leave a note for the process that outlives this one; what has no room is left out."""
        data = json.dumps(content).encode()
        if len(data) <= self._ROOM:
            self._memory[self._NOTE_AT : self._NOTE_AT + len(data)] = data
            self._LENGTH.pack_into(self._memory, self._COUNTS.size, len(data))

    def noted(self) -> Optional[JobMeasures]:
        """Return the note that was left; None where there is none."""
        (size,) = self._LENGTH.unpack_from(self._memory, self._COUNTS.size)
        if not size:
            return None
        content: JobMeasures = json.loads(self._memory[self._NOTE_AT : self._NOTE_AT + size])
        return content


def cpus(job: Job) -> int:
    """Return how many CPUs a job asked for."""
    asked = requests.of_chunks(job.root or ".", job.node).get("request_cpus")
    return asked[int(job.chunk)] if asked else job.program["cpus"]
