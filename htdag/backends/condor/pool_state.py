"""The state of the user's own pool, and its processes."""

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
    """The state of the user's own pool.

    Attributes
    ----------
    running : bool
        Whether its condor_master is running.
    answers : bool
        Whether its schedd and its slot answer, too.
    path : str
        Its directory.
    config : str
        Its configuration file, for ``CONDOR_CONFIG``.
    pid : int or None
        The process id of its condor_master.
    since : str or None
        When that was started: local time, ISO 8601.
    version : str
        HTCondor's version; "" if it does not answer.
    programs : tuple of str
        The folders of its programs.
    cpus, cpus_busy, memory_mb : int
        The size of its slots, and how many CPUs are in use.
    running_jobs, idle_jobs, held_jobs, runs : int
        The content of its queue; DAGMan's own jobs count as runs only.
    problem : str
        Why it does not answer; "" if it does, or is not running.
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
    """Return what the pool reports, as attributes of `PoolState`."""
    try:
        from htdag.backends.condor import bindings
    except ImportError as error:
        raise BackendError(f"HTCondor's Python bindings are missing ({error})") from error
    try:
        jobs = bindings.queue(setup)
    except Exception as error:
        raise BackendError(f"its schedd does not answer ({bindings.message_of(error)})") from error
    names = ["Cpus", "TotalSlotCpus", "TotalSlotMemory", "CondorVersion"]
    try:
        slots = bindings.slots(setup, names, "PartitionableSlot")
    except Exception as error:
        raise BackendError(
            f"its collector does not answer ({bindings.message_of(error)})"
        ) from error
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
_IDLE, _RUNNING, _HELD = 1, (2, 6), 5  # 6: it is transferring its output


# The system cuts the names of processes to 15 characters.
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
    """End daemons that outlived a killed condor_master, since two schedds must not share a queue.

    Parameters
    ----------
    config : str
        The pool's configuration file, which is in the environment of its daemons.
    """
    import psutil

    orphans = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if (
                process.uids().real == os.getuid()
                and process.name()[:15] in _DAEMONS
                and process.environ().get("CONDOR_CONFIG") == config
            ):
                orphans.append(process)
    for process in orphans:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(orphans, timeout=_KILL_TIMEOUT)
