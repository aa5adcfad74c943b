"""The worker: computes one chunk on an execute point.

The process that HTCondor starts is a supervisor; the user's functions run in a child of it. When
the child dies (a signal, ``os._exit``), the supervisor blames the current item, and starts another
child for the items after it. Either way it leaves complete outcome files and a defined exit status.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, List, NamedTuple, Optional, Set, Tuple

from .. import process
from ..api import checkpoint
from ..data import chunkfile, itemfile, recordfile, views
from ..layout import AttemptFiles, NodeFiles
from ..task import Job, read_job
from . import compute, environment, eviction, measure, report, workdir
from .lease import Claim
from .shared_memory import ALTERED, FINISHED, GAVE_UP, PAUSED, RUNNING, STARTING, Shared

if TYPE_CHECKING:
    from ..formats.record import CarriedFiles, RecordEnd


_NEXT = 0.2  # seconds
_LOST = 143  # as of a job that was told to end


def work(node: str, chunk: int, attempt: int, tells: bool = False) -> int:
    """Compute a chunk in the current directory and return the exit status of the job.

    The status is 0 when the outcome is written, failed items or not: a failed job would make DAGMan
    remove the other jobs of its cluster. Only ``on_error="stop"`` wants just that. It is also 1 if
    the status alone judges the job, and DAGMan removes nothing (`tells`).
    """
    _die_with_starter()
    job = read_job(NodeFiles("", node).attempt(chunk, attempt))
    os.makedirs(job.files.node.outcomes, mode=0o700, exist_ok=True)
    started = time.monotonic()  # the clock may jump
    begun = eviction.prior_progress(job)
    host, requested_mb = os.uname().nodename, measure.requested_memory()
    recordfile.start(job.files, host, _python(), requested_mb, anew=begun is None)
    if begun is None:
        checkpoint.forget(job)
        for path in job.item_files:
            itemfile.ItemWriter(path).discard()
    workdir.prepare(job, begun is None)
    claim = Claim(job.record)
    shared = Shared(claim)
    environment.enter(job.program)
    mismatch = environment.mismatch(job.program)
    if mismatch is not None:
        # No item was tried, so none has failed.
        report.job_error(job, mismatch.type, mismatch.message)
        _reconcile_outputs(job)
        items, done, failed = None, None, 0
    else:
        differs = environment.differences(job.program)
        if differs:
            recordfile.append(job.record, "differs", differs)
        outcome = _supervise(job, shared, begun)
        if claim.is_lost():
            return _LOST
        if outcome is None:
            return eviction.note_pause(job, time.monotonic() - started)
        items, done, failed = outcome
    if failed:
        _reconcile_outputs(job)
    before = 0.0 if begun is None else begun.seconds
    end: RecordEnd = {
        **_end(job, items, done if not failed and begun is None else None, failed),
        "seconds": round(before + time.monotonic() - started, 6),
        **measure.whole_job(job),
        "measured": shared.noted(),
        **_files(job),
    }
    if mismatch is not None:
        end["mismatch"] = mismatch.type
    recordfile.append(job.record, "end", end, sync=True)
    return 1 if end["remaining"] != 0 and (tells or job.program["on_error"] == "stop") else 0


def _supervise(
    job: Job, shared: Shared, begun: Optional[eviction.Begun]
) -> Optional[Tuple[Optional[int], Optional[int], int]]:
    """Run the user's functions in one child after another until no more items are left.

    ``begun`` is what was done before the job was evicted. Returns how many items the chunk has,
    how many of them were finished (each None if unknown), and how many errors were recorded; None
    if the job pauses.
    """
    skip: Optional[Set[int]] = None if begun is None else begun.skip
    failed = 0 if begun is None else begun.failed
    while True:
        before = _Before.of(job)
        status = _run_child(job, shared, skip)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            # Who ends a whole job kills one process after another: then this one is next, and no
            # item is to blame.
            time.sleep(_NEXT)
        if shared.claim is not None and shared.claim.is_lost():
            return None
        state, position, items, done, failed_here = shared.get()
        if status == 0 and state == PAUSED:
            return None
        if status == 0 and state == ALTERED:
            before.restore(job, skip)
            shared.claim = Claim(job.record)
            job = job._replace(copies_bound=True)
            recordfile.append(job.record, "copies_bound", True)
            continue
        failed += failed_here
        if status == 0 and state == FINISHED:
            return items, done, failed
        if status == 0 and state == GAVE_UP:
            return None, None, failed
        failed += 1
        if state != RUNNING or position == 0 or job.program["mode"] == "reduce":
            report.job_error(job, "ProcessDied", report.describe_exit(status) + report.where(state))
            return None, None, failed
        sound = eviction.truncate_to_finished(job)
        report.record_crash(job, position - 1, report.describe_exit(status))
        skip = set(chunkfile.chosen(sound)) | eviction.failed_sequences(job)


class _Before(NamedTuple):
    """The state of a job's files before a child wrote to them, to be restored.

    This is for a job with bound values, in case its functions turn out to have changed them.
    """

    record: int
    done: List[Tuple[int, int]]

    @classmethod
    def of(cls, job: Job) -> "_Before":
        if not job.description["binds"]:
            return cls(0, [])
        whole = all(os.path.exists(path) for path in job.outputs)
        return cls(os.path.getsize(job.record), itemfile.finished(job.outputs) if whole else [])

    def restore(self, job: Job, skip: Optional[Set[int]]) -> None:
        """Drop what was written since; without `skip` the next child writes files anew anyway."""
        os.truncate(job.record, self.record)
        if skip is not None:
            eviction.truncate_to_finished(job)
            for path in job.item_files:
                itemfile.keep(path, self.done)


def _end(job: Job, items: Optional[int], done: Optional[int], failed: int) -> RecordEnd:
    """Return the counts of an attempt whose output files are whole."""
    if items is None:
        items = views.total(job.description)
    todo = job.description["todo"]
    wanted = items if todo is None else sum(last - first + 1 for first, last in todo)
    if job.program["mode"] == "reduce":
        finished = bool(done is not None and not failed)
        done = items or 0 if finished else 0
        remaining: Optional[int] = 0 if finished else 1
    else:
        if done is None:
            done = sum(last - first + 1 for first, last in itemfile.finished(job.outputs))
        remaining = None if wanted is None else wanted - done
    return {
        "items": items,
        "done": done,
        "failed": failed,
        "remaining": remaining,
        "whole": todo is None,  # whether this attempt alone was to do all of the chunk
        "values": [itemfile.count(path) for path in job.item_files],
        "sizes": [os.path.getsize(path) for path in job.item_files],
        "time": time.time(),
    }


def _files(job: Job) -> CarriedFiles:
    """Return how many files the functions returned, and how many values of each output have files.

    Their other files are removed. The result is empty for a job whose values have no files.
    """
    returned = workdir.leave(job)
    if not job.program.get("carries_files"):
        return {}
    carrying = [sum(map(bool, itemfile.references([path]))) for path in job.item_files]
    return {"returned": returned, "carrying": carrying}


def finish_killed(files: AttemptFiles) -> None:
    """Complete the outcome of a job that was killed together with its supervisor."""
    job = read_job(files).at(files.node.run)
    if any(not os.path.exists(path) for path in job.item_files):
        return
    _reconcile_outputs(job)
    end: RecordEnd = {**_end(job, None, None, 0), "killed": True, **_files(job)}
    recordfile.append(job.record, "end", end, sync=True)


def _reconcile_outputs(job: Job) -> None:
    """Cut the output files to the items that are finished in all of them, and complete them."""
    eviction.truncate_to_finished(job)
    for path in job.item_files:
        itemfile.ItemWriter(path, resume=True).close(sync=True)


def _run_child(job: Job, shared: Shared, skip: Optional[Set[int]]) -> int:
    """Run the user's functions in a child and return its wait status."""
    shared.put(STARTING, 0, 0, 0, 0)
    child = process.fork()
    if child == 0:
        compute.child(job, shared, skip)

    def forward(number: int, frame: Any) -> None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os._exit(128 + number)

    previous = signal.signal(signal.SIGTERM, forward)
    try:
        return os.waitpid(child, 0)[1]
    finally:
        signal.signal(signal.SIGTERM, previous)


def _python() -> str:
    return "%s %s" % (sys.version.split()[0], sys.executable)


def _die_with_starter() -> None:
    """End with the condor_starter: a job without one is lost, and another is started for it.

    This is only for the starter: it forks in its main thread, and the kernel counts threads.
    """
    parent = os.getppid()
    try:
        with open("/proc/%d/comm" % parent) as file:
            is_starter = file.read().strip() == "condor_starter"
    except OSError:
        return
    if is_starter:
        process.die_with_parent(parent)
