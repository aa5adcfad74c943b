"""What a backend does, and which one to take."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from htdag.errors import UsageError

HOW_TO_START = "start it with: htdag pool start"
"""What to do about a pool of one's own that does not run; it ends the reason of a state."""


class RunState(enum.Enum):
    """The state of a run as a whole."""

    WAITING = "waiting"
    """Submitted; DAGMan has not started."""
    RUNNING = "running"
    """Under way."""
    HELD = "held"
    """On hold: the DAGMan job itself, or jobs of it and none is running, or the pool is stopped."""
    DONE = "done"
    """All of it succeeded."""
    FAILED = "failed"
    """It has ended and not all of it succeeded."""
    REMOVED = "removed"
    """It was removed by a person; `Run.resume` goes on."""
    STOPPED = "stopped"
    """What ran it is gone without a word (killed, a crash); `Run.resume` goes on."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self in (self.DONE, self.FAILED, self.REMOVED, self.STOPPED)


@dataclass(frozen=True)
class Activity:
    """What a backend knows of a run at one moment.

    Attributes
    ----------
    state : RunState
        The run as a whole.
    reason : str
        Why, where that is known.
    running : dict of str to set of int
        For each node, the chunks that run now.
    held : tuple of str
        Node, chunk and reason of held jobs, as text.
    """

    state: RunState
    reason: str = ""
    running: dict[str, set[int]] = field(default_factory=dict)
    held: tuple[str, ...] = ()


class Backend(Protocol):
    """Runs run directories."""

    name: str

    def check_directory(self, directory: Path) -> None:
        """Raise `DirectoryError` where this backend cannot work in a directory."""

    def submit(self, run: Path, dag: str, before: dict[str, Any] | None = None) -> dict[str, Any]:
        """Start what is left of a run; return what is needed to find it again.

        Where it was started before, ``before`` is what was returned then.
        """

    def activity(self, run: Path, ticket: dict[str, Any]) -> Activity:
        """Return what is going on, without asking more than files where they suffice."""

    def remove(self, run: Path, ticket: dict[str, Any], force: bool) -> None:
        """End a run, and return once nothing of it runs any more."""

    def slots(self) -> tuple[int, int]:
        """Return how many jobs of one CPU can run at once, and how many of one GPU.

        0 where that is not known, or not soon.
        """

    turn: float
    """About how many seconds pass between the end of a node and the jobs of the next one."""


def backend(name: str) -> Backend:
    """Return a backend by its name, ``"condor"`` or ``"local"``."""
    if name == "condor":
        from htdag.backends.condor import CondorBackend

        return CondorBackend()
    if name == "local":
        from htdag.backends.local import LocalBackend

        return LocalBackend()
    check_name(name)
    raise UsageError(f"on={name!r} names no single backend")


def choose(name: str) -> tuple[Backend, str]:
    """Return the backend for ``on=...``, and for ``"auto"`` why it was taken."""
    if name != "auto":
        return backend(name), ""
    try:
        from htdag.backends import condor
    except ImportError as error:
        return backend("local"), f"running on this machine: no HTCondor bindings ({error})"
    setup, what = condor.find()
    if setup is None:
        return backend("local"), f"running on this machine: {what}"
    return condor.CondorBackend(setup), f"running on HTCondor: {what}"


def check_name(name: str) -> None:
    """Raise `UsageError` where ``on=...`` is none of those that there are."""
    if name not in ("auto", "condor", "local"):
        raise UsageError(f"on={name!r}: it takes 'auto', 'condor' or 'local'")


def slots(name: str) -> tuple[int, int, float]:
    """Return how many jobs of one CPU can run at once where ``on=...`` would run them.

    Where no HTCondor answers within a few seconds that is on this machine. Beside it are returned
    the number of GPUs, 0 where that is not known, and what a node costs there (`Backend.turn`).
    """
    if name != "local":
        try:
            from htdag.backends import condor
        except ImportError:
            pass
        else:
            cpus, gpus = (0, 0) if condor.never_usable() else condor.CondorBackend().slots()
            if cpus:
                return cpus, gpus, condor.CondorBackend.turn
    here = backend("local")
    return (*here.slots(), here.turn)
