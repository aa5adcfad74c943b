"""Pauses and evictions: how HTCondor saves the work of a job, and how the job continues from that.

With file transfer, the work of a job is lost when it is evicted. So from time to time it ends with
the exit status by which HTCondor recognizes a checkpoint: then the files are sent to the access
point, and the job continues in the same place, or, after an eviction, elsewhere. On a shared file
system they are already in the run directory. A later attempt is different: it has files of its own.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Callable, List, NamedTuple, Optional, Set, Tuple

from .. import layout
from ..data import chunkfile, itemfile, recordfile
from ..task import Job

if TYPE_CHECKING:
    from ..formats.record import RecordCheckpoint, RecordLine

PAUSED_EXIT = 85
"""The ``checkpoint_exit_code`` of jobs."""
_SHARE = 20  # the cost of continuing is at most this part of the time
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


class Pauser:
    """Decides when a job pauses, and pauses it.

    Parameters
    ----------
    job : Job
        The job.
    pause : callable
        Writes everything that is finished to the files, and ends the process.
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
        """Return whether it is time for a pause."""
        return self._at is not None and time.monotonic() >= self._at


def _in_scratch_directory(job: Job) -> bool:
    shared = layout.is_run_directory(job.root)
    return "_CONDOR_SCRATCH_DIR" in os.environ and not shared


def _cost(job: Job) -> float:
    """Return how many seconds it took to continue after the last pause; 0 if there was none."""
    lines = [line for line in recordfile.lines(job.record) if "sound" not in line][-2:]
    if len(lines) < 2 or "checkpoint" not in lines[0] or "start" not in lines[1]:
        return 0.0
    if lines[0]["checkpoint"]["scratch"] != (job.root or os.getcwd()):
        return 0.0  # it was evicted meanwhile
    # By the time since the machine was started, which does not jump.
    return max(0.0, time.monotonic() - float(lines[0]["checkpoint"]["monotonic"]))


def note_pause(job: Job, seconds: float) -> int:
    """Record a pause, and return the exit status that HTCondor recognizes."""
    for path in job.item_files:
        layout.sync(path)
    content: RecordCheckpoint = {
        "time": time.time(),
        "monotonic": time.monotonic(),
        "seconds": round(seconds, 6),
        "scratch": os.getcwd(),
    }
    recordfile.append(job.record, "checkpoint", content, sync=True)
    return PAUSED_EXIT


def _seconds_before(lines: List[RecordLine]) -> float:
    """Return how long a job worked up to its last pause, from the lines of its record."""
    return float(sum(line["checkpoint"]["seconds"] for line in lines if "checkpoint" in line))


class Begun(NamedTuple):
    """The progress of an attempt before it was evicted."""

    skip: Set[int]  # the items that were done, or failed
    failed: int  # errors in its record
    seconds: float  # for how long it worked, as far as that is known


def prior_progress(job: Job) -> Optional[Begun]:
    """Return what this attempt has done already; None if it has to start from the beginning.

    The output files are cut to that. A record with its end belongs to an attempt that is over:
    whoever starts it again by hand wants to see all of it.
    """
    if job.program["mode"] == "reduce":
        return None  # one value of all items: there is nothing to go on from
    lines = list(recordfile.lines(job.record))
    if not lines or "start" not in lines[0] or "end" in lines[-1]:
        return None
    for path in job.item_files:
        _make_own(path)
    done = set(chunkfile.chosen(truncate_to_finished(job)))
    failed = failed_sequences(job)
    return Begun(done | failed, len(failed), _seconds_before(lines))


def _make_own(path: str) -> None:
    """Replace a file by a copy, or by an empty file if it does not exist.

    The previous job may still be running, if HTCondor has lost sight of it: it then writes to the
    old file, not to the file of this job.
    """
    import shutil  # it takes time, which most jobs need not spend

    aside = path + ".own"
    if not os.path.exists(path):
        os.close(os.open(path, _NEW, 0o600))
    with open(path, "rb") as old, os.fdopen(os.open(aside, _NEW, 0o600), "wb") as new:
        shutil.copyfileobj(old, new, 1 << 20)
    os.replace(aside, path)


def truncate_to_finished(job: Job) -> List[Tuple[int, int]]:
    """Cut the files of a dead process to the items that are finished in all outputs.

    Returns the ranges of these items.
    """
    for path in job.item_files:
        itemfile.repair(path)
    common = itemfile.reconcile(job.outputs)
    last = _last_sound(job)
    if last is not None and any(end > last for _, end in common):
        common = itemfile.to_ranges(
            each for first, end in common for each in range(first, min(end, last) + 1)
        )
        for path in job.outputs:
            itemfile.keep(path, common)
        common = itemfile.reconcile(job.outputs)
    for parts in job.parts:
        for path in parts:
            itemfile.keep(path, common)
    return common


def _last_sound(job: Job) -> Optional[int]:
    """Return the last item up to which no bound value was changed; None if none is shared."""
    if not job.description["binds"]:
        return None
    lines = recordfile.lines(job.record)
    sound = [int(line["sound"]) for line in lines if "sound" in line]
    return sound[-1] if sound else None


def failed_sequences(job: Job) -> Set[int]:
    """Return the items that failed in this attempt so far."""
    errors = (line["error"] for line in recordfile.lines(job.record) if "error" in line)
    return {error["sequence"] for error in errors if error["sequence"] is not None}
