"""When a job has its files brought to safety: it ends, and HTCondor starts it again at once.

Where files are transferred, what a job has done is lost when it is evicted. So from time to time it
ends with the exit status by which HTCondor knows a checkpoint: then the files are sent to the
submit side, and the job goes on in the same place, or, after an eviction, elsewhere.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Callable, List, Optional

from .. import layout
from ..data import recordfile
from ..task import Job

if TYPE_CHECKING:
    from ..formats.record import RecordCheckpoint, RecordLine


EXIT = 85
"""The ``checkpoint_exit_code`` of jobs."""
_SHARE = 20  # what it costs to go on is at most this part of the time


class Pauser:
    """Tells when a job is to pause, and does it.

    Parameters
    ----------
    job : Job
        The job.
    pause : callable
        Makes everything that is finished stand in the files, and ends the process.
    """

    def __init__(self, job: Job, pause: Callable[[], None]) -> None:
        self.pause = pause
        interval = job.program["checkpoint_interval"]
        self._at: Optional[float] = None
        # In the run directory itself all is safe as it is.
        if interval is not None and _in_scratch_directory(job):
            wait = max(float(interval), _SHARE * _cost(job))
            self._at = time.monotonic() + wait

    def is_due(self) -> bool:
        """Tell whether it is time."""
        return self._at is not None and time.monotonic() >= self._at


def _in_scratch_directory(job: Job) -> bool:
    shared = layout.is_run_directory(job.root)
    return "_CONDOR_SCRATCH_DIR" in os.environ and not shared


def _cost(job: Job) -> float:
    """Return how many seconds it took to go on after the last pause; 0 where there was none."""
    lines = [line for line in recordfile.lines(job.record) if "sound" not in line][-2:]
    if len(lines) < 2 or "checkpoint" not in lines[0] or "start" not in lines[1]:
        return 0.0
    if lines[0]["checkpoint"]["scratch"] != (job.root or os.getcwd()):
        return 0.0  # it was evicted meanwhile
    # By the time since the machine was started, which does not jump.
    return max(0.0, time.monotonic() - float(lines[0]["checkpoint"]["monotonic"]))


def note(job: Job, seconds: float) -> int:
    """Note a pause in the record, and return the exit status that tells HTCondor of it."""
    for path in job.item_files:
        layout.sync(path)
    content: RecordCheckpoint = {
        "time": time.time(),
        "monotonic": time.monotonic(),
        "seconds": round(seconds, 6),
        "scratch": os.getcwd(),
    }
    recordfile.append(job.record, "checkpoint", content, sync=True)
    return EXIT


def seconds_before(lines: List[RecordLine]) -> float:
    """Return for how long a job worked up to its last pause, by the lines of its record."""
    return float(sum(line["checkpoint"]["seconds"] for line in lines if "checkpoint" in line))
