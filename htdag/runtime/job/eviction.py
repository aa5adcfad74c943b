"""What a job that was evicted had done: it goes on from there when it is started again.

Where the file system is shared it is in the run directory still; elsewhere HTCondor has brought it
along. A later attempt is another matter: it has files of its own.
"""

from __future__ import annotations

import os
from typing import List, NamedTuple, Optional, Set, Tuple

from ..data import chunkfile, itemfile, recordfile
from ..task import Job
from . import pause

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


class Begun(NamedTuple):
    """What an attempt did before it was evicted."""

    skip: Set[int]  # the items that were done, or failed
    failed: int  # errors in its record
    seconds: float  # for how long it worked, as far as that is known


def prior_progress(job: Job) -> Optional[Begun]:
    """Return what this attempt has done already; None where it has to begin at the beginning.

    The output files are cut to that. A record that has its end belongs to an attempt that is over:
    whoever starts it again, for a look at it, wants it done anew.
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
    return Begun(done | failed, len(failed), pause.seconds_before(lines))


def _make_own(path: str) -> None:
    """Put a copy in the place of a file; an empty one, where the job did not come to make it.

    The job before may run still, where HTCondor has lost sight of it: it then writes to what was
    there, and not into the file of this one.
    """
    import shutil  # it takes time, which most jobs need not spend

    aside = path + ".own"
    if not os.path.exists(path):
        os.close(os.open(path, _NEW, 0o600))
    with open(path, "rb") as old, os.fdopen(os.open(aside, _NEW, 0o600), "wb") as new:
        shutil.copyfileobj(old, new, 1 << 20)
    os.replace(aside, path)


def truncate_to_finished(job: Job) -> List[Tuple[int, int]]:
    """Cut what a dead process wrote to the items that are finished in all outputs.

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
    """Return the last item up to which no bound value was changed; None where none is shared."""
    if not job.description["binds"]:
        return None
    lines = recordfile.lines(job.record)
    sound = [int(line["sound"]) for line in lines if "sound" in line]
    return sound[-1] if sound else None


def failed_sequences(job: Job) -> Set[int]:
    """Return the items that failed in this attempt so far."""
    errors = (line["error"] for line in recordfile.lines(job.record) if "error" in line)
    return {error["sequence"] for error in errors if error["sequence"] is not None}
