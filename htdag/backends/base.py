"""The interface of backends, and the types in which they report about a run."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from htdag.backends.tickets import Foreseen, Ticket
from htdag.compile.scheduler import Scheduler

HOW_TO_START = "start it with: htdag pool start"
"""The remedy if the user's own pool does not run; it ends the reason of a state."""


HALTED = "it was halted, and all running jobs have ended"
"""The reason of a run that was halted and has ended; `Run.unhalt` continues it."""


class RunState(enum.Enum):
    """The state of a run as a whole."""

    WAITING = "waiting"
    """Submitted; DAGMan has not started."""
    RUNNING = "running"
    """DAGMan, or the local process, is running it."""
    HELD = "held"
    """The DAGMan job is on hold, or jobs are and none is running, or the pool is stopped."""
    DONE = "done"
    """All of it succeeded."""
    FAILED = "failed"
    """It has ended, but not all of it succeeded."""
    REMOVED = "removed"
    """A person removed it; `Run.resume` continues it."""
    STOPPED = "stopped"
    """DAGMan or the local process was killed or crashed, or ended after a halt; `Run.resume`
    continues it."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self in (self.DONE, self.FAILED, self.REMOVED, self.STOPPED)


Ad = Mapping[str, bool | int | float | str]
"""An ad of HTCondor's. Of an attribute that is an expression, only the text is used."""


@dataclass(frozen=True)
class JobState:
    """The state of one job in the queue, or of a process on this machine.

    Attributes
    ----------
    node : str
        Its DAGMan node.
    cluster, proc : int
        HTCondor's number of the job; on this machine, the id of the process, and 0.
    state : str
        ``"idle"``, ``"running"``, ``"suspended"`` or ``"held"``.
    since : float
        When this state began, in seconds since the epoch.
    source : str
        Where the state is from: ``"event log"``, ``"schedd"`` or ``"local run"``.
    reason : str
        HTCondor's reason, if the job is held.
    code, subcode : int
        HTCondor's HoldReasonCode and HoldReasonSubCode.
    memory_asked, memory_granted, memory_used : int or None
        In MB; None if unknown.
    slot : str
        Where it runs, or last ran.
    chunk : int or None
        The chunk of the node that it processes.
    lane : int
        The lane, if the node is cut into lanes; else 0.
    within : tuple of (str, int)
        The loop and round, if a loop repeats the node; for nested loops, the outer one first.
    """

    node: str
    cluster: int
    proc: int
    state: str
    since: float
    source: str = "event log"
    reason: str = ""
    code: int = 0
    subcode: int = 0
    memory_asked: int | None = None
    memory_granted: int | None = None
    memory_used: int | None = None
    slot: str = ""
    chunk: int | None = None
    lane: int = 0
    within: tuple[tuple[str, int], ...] = ()

    @property
    def place(self) -> str:
        """Its node, with the round if a loop repeats the node."""
        rounds = ", ".join(f"round {number} of {loop}" for loop, number in self.within)
        return f"{self.node} ({rounds})" if rounds else self.node


@dataclass(frozen=True)
class Activity:
    """What a backend knows of a run at one moment.

    Attributes
    ----------
    state : RunState
        The state of the run as a whole.
    reason : str
        Why it is in this state, if known.
    running : dict of str to set of int
        For each node, the chunks that are running now.
    waiting : dict of str to set of int
        For each node, the chunks whose jobs are on hold, or have started before and wait again.
    held : tuple of JobState
        The jobs that are on hold. For a job in a round of a loop, the node is that of the loop.
    suspended : int
        How many jobs are suspended.
    halted : bool
        Whether `Run.halt` keeps further nodes from being submitted.
    rounds : dict of str to Activity
        For each loop that has started, the activity of its current round.
    """

    state: RunState
    reason: str = ""
    running: dict[str, set[int]] = field(default_factory=dict)
    held: tuple[JobState, ...] = ()
    suspended: int = 0
    halted: bool = False
    rounds: dict[str, Activity] = field(default_factory=dict)
    waiting: dict[str, set[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class QueueFacts:
    """The facts that decide whether waiting jobs can start.

    Attributes
    ----------
    idle : tuple of mapping
        Ads of idle jobs of the run.
    slots : tuple of mapping
        Ads of the pool's slots: static and partitionable ones.
    users : tuple of mapping
        The negotiator's ads of users.
    dagman : mapping or None
        The ad of the DAGMan job; None if it is not in the queue.
    problems : tuple of str
        The daemons that did not answer.
    evaluate : callable
        Evaluates an expression of one ad matched against another.
    """

    idle: tuple[Ad, ...] = ()
    slots: tuple[Ad, ...] = ()
    users: tuple[Ad, ...] = ()
    dagman: Ad | None = None
    problems: tuple[str, ...] = ()
    evaluate: Callable[[str, Ad, Ad], Any] | None = None


class Backend(Protocol):
    """What runs run directories."""

    name: str

    def check_directory(self, directory: Path) -> None:
        """Raise `DirectoryError` if this backend cannot work in a directory."""

    def finds_packages(self) -> bool:
        """Return whether jobs without an environment of their own run in this very Python."""

    def scheduler(self, before: Ticket | None = None) -> Scheduler:
        """Return the capabilities of the HTCondor that a run goes to, which decide what is written.

        If the run was submitted before, ``before`` is what `submit` returned then.
        """

    def foreseen(self, dag: str, before: Ticket | None) -> Foreseen:
        """Return the part of what `submit` will return that is known beforehand."""

    def finish_removal(self, run: Path, ticket: Ticket) -> None:
        """Finish a removal that nobody answered, before any file of the run is changed.

        Raises `BackendError` if there is still no answer.
        """

    def submit(self, run: Path, dag: str, before: Ticket | None = None) -> Ticket:
        """Start what remains of a run; return what is needed to find it again.

        If the run was submitted before, ``before`` is what was returned then.
        """

    def activity(self, run: Path, ticket: Ticket) -> Activity:
        """Return the activity of a run, from files alone if they suffice."""

    def remove(self, run: Path, ticket: Ticket, force: bool) -> None:
        """End a run, and return once all its jobs have ended."""

    def jobs(self, run: Path, ticket: Ticket, ask: bool) -> tuple[JobState, ...]:
        """Return the jobs that wait or run, according to files and, with `ask`, to the schedd."""

    def act(
        self,
        run: Path,
        ticket: Ticket,
        action: str,
        nodes: list[str],
        which: list[JobState] | None,
    ) -> int:
        """Hold, release, pause, continue or vacate all or some jobs of nodes; return how many.

        Raises `UsageError` if this backend does not support the action.
        """

    def edit(
        self,
        run: Path,
        ticket: Ticket,
        nodes: list[str],
        inside: set[str],
        attributes: dict[str, str],
    ) -> int:
        """Change attributes of the jobs of nodes, also of later ones; return how many.

        For a loop, the change is for the jobs of the nodes ``inside``.
        """

    def halt(self, run: Path, ticket: Ticket, on: bool) -> None:
        """Keep further nodes from starting, or let them start again."""

    def facts(self, run: Path, ticket: Ticket) -> QueueFacts:
        """Return the facts that decide whether waiting jobs can start."""

    def peek(self, run: Path, ticket: Ticket, node: str, chunk: str, what: str) -> bytes | None:
        """Return the output of a running job whose files are not in the run directory yet.

        ``what`` is ``"out"``, ``"err"`` or the path of a file. None if there is no such output.
        """

    def slots(self) -> tuple[int, int]:
        """Return how many jobs of one CPU can run at once, and how many of one GPU.

        0 if that is unknown, or the pool does not answer soon.
        """

    turn: float
    """About how many seconds pass between the end of a node and the start of the next."""


class Submission:
    """A run directory that was submitted, bound to its backend.

    Parameters
    ----------
    backend : Backend
        The backend.
    run : pathlib.Path
        The run directory.
    ticket : dict or None
        What `Backend.submit` returned; None if the run was submitted elsewhere and imported.

    Attributes
    ----------
    is_here : bool
        Whether the backend can be asked about it.
    """

    def __init__(self, backend: Backend, run: Path, ticket: Ticket | None) -> None:
        self._backend = backend
        self._run = run
        self._ticket: Ticket = ticket or {}
        self.is_here = ticket is not None

    def activity(self) -> Activity:
        """Return the activity of the run, from files alone if they suffice."""
        return self._backend.activity(self._run, self._ticket)

    def jobs(self, *, ask: bool) -> tuple[JobState, ...]:
        """Return the jobs that wait or run, according to files and, with `ask`, to the schedd."""
        return self._backend.jobs(self._run, self._ticket, ask) if self.is_here else ()

    def act(self, action: str, nodes: list[str], which: list[JobState] | None) -> int:
        """Hold, release, pause, continue or vacate all or some jobs of nodes; return how many."""
        return self._backend.act(self._run, self._ticket, action, nodes, which)

    def edit(self, nodes: list[str], inside: set[str], attributes: dict[str, str]) -> int:
        """Change attributes of the jobs of nodes, also of later ones; return how many."""
        return self._backend.edit(self._run, self._ticket, nodes, inside, attributes)

    def halt(self, *, on: bool) -> None:
        """Keep further nodes from starting, or let them start again."""
        if self.is_here:
            self._backend.halt(self._run, self._ticket, on)

    def facts(self) -> QueueFacts:
        """Return the facts that decide whether waiting jobs can start."""
        return self._backend.facts(self._run, self._ticket)

    def peek(self, node: str, chunk: str, what: str) -> bytes | None:
        """Return the output of a running job whose files are not in the run directory yet."""
        if not self.is_here:
            return None
        return self._backend.peek(self._run, self._ticket, node, chunk, what)

    def finish_removal(self) -> None:
        """Finish a removal that nobody answered."""
        if self.is_here:
            self._backend.finish_removal(self._run, self._ticket)

    def remove(self, *, force: bool) -> None:
        """End the run, and return once all its jobs have ended."""
        if self.is_here:
            self._backend.remove(self._run, self._ticket, force)
