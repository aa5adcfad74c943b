"""The task of one job."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Dict, List, NamedTuple

from . import layout
from .layout import AttemptFiles, NodeFiles

if TYPE_CHECKING:
    from .formats.task import BindParts, Description, Part, Program, StreamParts


class Job(NamedTuple):
    """The task of one job, as read from the run directory."""

    files: AttemptFiles
    program: Program
    description: Description
    copies_bound: bool = False  # whether each call has bound values for itself, however large

    @property
    def node(self) -> str:
        return self.files.node.name

    @property
    def chunk(self) -> int:
        return self.files.chunk

    @property
    def attempt(self) -> int:
        return self.files.number

    @property
    def root(self) -> str:
        """The run directory; "" for that in which this process works."""
        return self.files.node.run

    def at(self, root: str) -> Job:
        """Return the job with absolute paths, for a process that works somewhere else."""

        description = located(self.description, root)
        return self._replace(description=description, files=self.files.under(root))

    @property
    def record(self) -> str:
        return self.files.record

    @property
    def payload(self) -> str:
        return self.files.node.payload

    @property
    def outputs(self) -> List[str]:
        """The main item file of each output: it tells which items are finished."""
        return self.files.outputs(output["stage"] for output in self.program["outputs"])

    @property
    def parts(self) -> List[List[str]]:
        """The files of the parts of each output; [] for one without parts."""
        return [
            self.files.outputs(layout.part(output["stage"], n) for n in range(output["parts"]))
            for output in self.program["outputs"]
        ]

    @property
    def item_files(self) -> List[str]:
        """All item files that the job writes, in the order of the counts in its record."""
        files = []
        for main, parts in zip(self.outputs, self.parts):
            files += [main, *parts]
        return files


def located(description: Description, root: str) -> Description:
    """Return a description with absolute paths."""

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


def read_description(files: AttemptFiles) -> Description:
    """Return what a job reads, by names that are relative to the run directory.

    Raises
    ------
    FileNotFoundError
        If the job was not laid out yet.
    """
    description: Description = layout.read_json(
        files.description, "view", "streams", "binds", "todo"
    )
    return description


def read_job(files: AttemptFiles) -> Job:
    """Read what a job has to do; what it reads has names relative to the run directory."""
    program: Program = layout.read_json(files.node.program, "mode", "outputs")
    return Job(files, program, read_description(files))


def requests_of(run: str, node: str) -> Dict[str, List[int]]:
    """Return what the chunks ask for, by option; {} where all of them ask for the same."""
    try:
        found: Dict[str, List[int]] = layout.read_json(NodeFiles(run, node).requests)
    except FileNotFoundError:
        return {}
    return found


def cpus(job: Job) -> int:
    """Return how many CPUs a job asked for."""
    cpu_requests = requests_of(job.root or ".", job.node).get("request_cpus")
    return cpu_requests[job.chunk] if cpu_requests else job.program["cpus"]
