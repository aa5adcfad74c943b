"""What a pool of one's own says of itself, and which processes are of it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any

from htdag.backends.condor.setup import Setup
from htdag.errors import BackendError

_KILL_TIMEOUT = 10.0  # seconds until the system has ended a process


@dataclass(frozen=True)
class PoolState:
    """What a pool of one's own is doing.

    Attributes
    ----------
    running : bool
        Whether it was started and its condor_master is there.
    answers : bool
        Whether its schedd and its slot answer too.
    path : str
        Its directory.
    config : str
        Its configuration, for ``CONDOR_CONFIG``.
    pid : int or None
        Its condor_master.
    since : str or None
        When that was started: local time, ISO 8601.
    version : str
        HTCondor's version; "" where it does not answer.
    programs : tuple of str
        The folders of its programs.
    cpus, cpus_busy, memory_mb : int
        The size of its slots, and how much of that jobs have.
    running_jobs, idle_jobs, held_jobs, runs : int
        What is in its queue; DAGMan's own jobs are counted as runs only.
    problem : str
        Why it does not answer; "" where it does, or does not run.
    """

    running: bool
    answers: bool
    path: str
    config: str
    pid: int | None = None
    since: str | None = None
    version: str = ""
    programs: tuple[str, ...] = ()
    cpus: int = 0
    cpus_busy: int = 0
    memory_mb: int = 0
    running_jobs: int = 0
    idle_jobs: int = 0
    held_jobs: int = 0
    runs: int = 0
    problem: str = ""


def answer(setup: Setup) -> dict[str, Any]:
    """Return what the pool says of itself, as the attributes of `PoolState`."""
    try:
        from htdag.backends.condor import bindings
    except ImportError as error:
        raise BackendError(f"HTCondor's Python bindings are missing ({error})") from error
    try:
        jobs = bindings.queue(setup)
    except Exception as error:
        raise BackendError(f"its schedd does not answer ({bindings.short(error)})") from error
    names = ["Cpus", "TotalSlotCpus", "TotalSlotMemory", "CondorVersion"]
    try:
        slots = bindings.slots(setup, names, "PartitionableSlot")
    except Exception as error:
        raise BackendError(f"its collector does not answer ({bindings.short(error)})") from error
    if not slots:
        raise BackendError("its slot does not answer yet")
    kinds = [job["JobStatus"] for job in jobs if job["JobUniverse"] == _VANILLA]
    cpus = sum(int(slot["TotalSlotCpus"]) for slot in slots)
    return {
        "version": bindings.version_number(str(slots[0]["CondorVersion"])),
        "cpus": cpus,
        "cpus_busy": cpus - sum(int(slot["Cpus"]) for slot in slots),
        "memory_mb": sum(int(slot["TotalSlotMemory"]) for slot in slots),
        "running_jobs": sum(kind in _RUNNING for kind in kinds),
        "idle_jobs": kinds.count(_IDLE),
        "held_jobs": kinds.count(_HELD),
        "runs": sum(job["JobUniverse"] == _SCHEDULER for job in jobs),
    }


_VANILLA, _SCHEDULER = 5, 7
_IDLE, _RUNNING, _HELD = 1, (2, 6), 5  # 6: it is bringing its output back


# As the system names processes, in 15 letters.
_DAEMONS = {
    name[:15]
    for name in (
        "condor_collector",
        "condor_negotiator",
        "condor_schedd",
        "condor_startd",
        "condor_shared_port",
        "condor_procd",
        "condor_shadow",
        "condor_starter",
        "condor_dagman",
    )
}


def end_orphans(config: str) -> None:
    """End daemons that outlived a killed condor_master: two schedds would share the queue.

    Parameters
    ----------
    config : str
        The pool's configuration, which the environment of its daemons names.
    """
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if (
                process.uids().real == os.getuid()
                and process.name()[:15] in _DAEMONS
                and process.environ().get("CONDOR_CONFIG") == config
            ):
                found.append(process)
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(found, timeout=_KILL_TIMEOUT)
