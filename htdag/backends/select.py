"""The choice of a backend."""

from __future__ import annotations

from htdag.backends.base import Backend
from htdag.compile.scheduler import ANY, Scheduler
from htdag.errors import UsageError


def backend(name: str) -> Backend:
    """Return a backend by its name, ``"condor"`` or ``"local"``."""
    if name == "condor":
        from htdag.backends.condor.backend import CondorBackend

        return CondorBackend()
    if name == "local":
        from htdag.backends.local import LocalBackend

        return LocalBackend()
    raise UsageError(f"there is no backend {name!r}")


def choose(name: str) -> tuple[Backend, str]:
    """Return the backend for ``on=...``, and for ``"auto"`` the reason for the choice."""
    if name != "auto":
        return backend(name), ""
    try:
        from htdag.backends.condor import backend as condor
    except ImportError as error:
        return backend("local"), f"running on this machine: no HTCondor bindings ({error})"
    setup, what = condor.find()
    if setup is None:
        return backend("local"), f"running on this machine: {what}"
    return condor.CondorBackend(setup), f"running on HTCondor: {what}"


def scheduler() -> Scheduler:
    """Return the capabilities of the HTCondor on this machine, or `ANY` if there is none."""
    try:
        from htdag.backends.condor import backend as condor
    except ImportError:
        return ANY
    return condor.local_scheduler()


def slots(name: str) -> tuple[int, int, float]:
    """Return the CPUs, the GPUs and the cost of a node (`Backend.turn`) where ``on=...`` would run.

    If no HTCondor answers within a few seconds, that is this machine. The number of GPUs is 0 if it
    is unknown.
    """
    if name != "local":
        try:
            from htdag.backends.condor import backend as condor
        except ImportError:
            pass
        else:
            cpus, gpus = (0, 0) if condor.never_usable() else condor.CondorBackend().slots()
            if cpus:
                return cpus, gpus, condor.CondorBackend.turn
    local = backend("local")
    return (*local.slots(), local.turn)
