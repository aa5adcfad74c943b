"""Which backend to take."""

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
    """Return the backend for ``on=...``, and for ``"auto"`` why it was taken."""
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
    """Return what the HTCondor on this machine can do; nothing is known where there is none."""
    try:
        from htdag.backends.condor import backend as condor
    except ImportError:
        return ANY
    return condor.at_hand()


def slots(name: str) -> tuple[int, int, float]:
    """Return how many jobs of one CPU can run at once where ``on=...`` would run them.

    Where no HTCondor answers within a few seconds that is on this machine. Beside it are returned
    the number of GPUs, 0 where that is not known, and what a node costs there (`Backend.turn`).
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
    here = backend("local")
    return (*here.slots(), here.turn)
