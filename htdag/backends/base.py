"""What a backend does, and what it tells of a run."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from htdag.backends.tickets import Foreseen, Ticket
from htdag.compile.scheduler import Scheduler

HOW_TO_START = "start it with: htdag pool start"
"""What to do about a pool of one's own that does not run; it ends the reason of a state."""


HALTED = "it was halted, and all that was under way has ended"
"""The reason of a run that ended so; it is gone on with by `Run.unhalt`."""


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
    """What ran it is gone (killed, a crash), or ended since the run was halted; `Run.resume` goes
    on."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self in (self.DONE, self.FAILED, self.REMOVED, self.STOPPED)


@dataclass(frozen=True)
class JobState:
    """How one job is that is in the queue, or under way on this machine.

    Attributes
    ----------
    node : str
        Its DAGMan node.
    cluster, proc : int
        HTCondor's number of the job; on this machine the process, and 0.
    state : str
        ``"idle"``, ``"running"``, ``"suspended"`` or ``"held"``.
    since : float
        When that began, in seconds since the epoch.
    source : str
        Who told so: ``"event log"``, ``"schedd"`` or ``"local run"``.
    reason : str
        Of a held job, HTCondor's words.
    code, subcode : int
        HTCondor's HoldReasonCode and HoldReasonSubCode.
    memory_asked, memory_granted, memory_used : int or None
        In MB, where they are known.
    slot : str
        Where it runs, or ran last.
    chunk : int or None
        Which chunk of the node it works through.
    lane : int
        Of a node that is cut into lanes: which; else 0.
    within : tuple of (str, int)
        Of a node that a loop repeats: the loop and the round; of a loop in a loop the outer first.
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
        """Its node, with the round that it belongs to where a loop repeats it."""
        rounds = ", ".join(f"round {number} of {loop}" for loop, number in self.within)
        return f"{self.node} ({rounds})" if rounds else self.node


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
    waiting : dict of str to set of int
        For each node, the chunks whose jobs are on hold, or had begun and wait in the queue again.
    held : tuple of JobState
        The jobs that are on hold. Of a job in a round of a loop the node is the loop's.
    suspended : int
        How many jobs are suspended.
    halted : bool
        Whether no further nodes are submitted, by `Run.halt`.
    rounds : dict of str to Activity
        For each loop that has begun, what goes on in its present round.
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
    """What decides whether jobs that wait can start.

    Attributes
    ----------
    idle : tuple of mapping
        Ads of idle jobs of the run.
    slots : tuple of mapping
        Ads of the pool's slots: static ones, and whole ones that are cut into parts.
    users : tuple of mapping
        What the negotiator knows of users.
    dagman : mapping or None
        The DAGMan job; None where it is not in the queue.
    problems : tuple of str
        Who did not answer.
    evaluate : callable
        Evaluates an expression of one ad that is matched with another.
    """

    idle: tuple[Mapping[str, Any], ...] = ()
    slots: tuple[Mapping[str, Any], ...] = ()
    users: tuple[Mapping[str, Any], ...] = ()
    dagman: Mapping[str, Any] | None = None
    problems: tuple[str, ...] = ()
    evaluate: Callable[[str, Mapping[str, Any], Mapping[str, Any]], Any] | None = None


class Backend(Protocol):
    """Runs run directories."""

    name: str

    def check_directory(self, directory: Path) -> None:
        """Raise `DirectoryError` where this backend cannot work in a directory."""

    def finds_packages(self) -> bool:
        """Tell whether jobs without an environment of their own run in this very Python."""

    def scheduler(self, before: Ticket | None = None) -> Scheduler:
        """Return what the HTCondor can do to which a run goes, for what is written for it.

        Where it was started before, ``before`` is what `submit` returned then.
        """

    def foreseen(self, dag: str, before: Ticket | None) -> Foreseen:
        """Return what is known beforehand of what `submit` will return."""

    def finish_removal(self, run: Path, ticket: Ticket) -> None:
        """End what was removed while nobody answered, before anything of the run is changed.

        Raises `BackendError` where that is still so.
        """

    def submit(self, run: Path, dag: str, before: Ticket | None = None) -> Ticket:
        """Start what is left of a run; return what is needed to find it again.

        Where it was started before, ``before`` is what was returned then.
        """

    def activity(self, run: Path, ticket: Ticket) -> Activity:
        """Return what is going on, without asking more than files where they suffice."""

    def remove(self, run: Path, ticket: Ticket, force: bool) -> None:
        """End a run, and return once nothing of it runs any more."""

    def jobs(self, run: Path, ticket: Ticket, ask: bool) -> tuple[JobState, ...]:
        """Return the jobs that wait or run, by the files; where asked, also by the schedd."""

    def act(
        self,
        run: Path,
        ticket: Ticket,
        action: str,
        nodes: list[str],
        which: list[JobState] | None,
    ) -> int:
        """Hold, release, pause, continue or vacate the jobs of nodes, or some; return how many.

        Raises `UsageError` where that means nothing here.
        """

    def edit(
        self,
        run: Path,
        ticket: Ticket,
        nodes: list[str],
        inside: set[str],
        attributes: dict[str, str],
    ) -> int:
        """Change attributes of the jobs of nodes, those to come included; return how many.

        Of nodes that are loops the jobs of the nodes ``inside`` are meant.
        """

    def halt(self, run: Path, ticket: Ticket, on: bool) -> None:
        """Let no further nodes begin, or let them again."""

    def facts(self, run: Path, ticket: Ticket) -> QueueFacts:
        """Return what decides whether waiting jobs can start."""

    def peek(self, run: Path, ticket: Ticket, node: str, chunk: str, what: str) -> bytes | None:
        """Return what a running job wrote whose files are not in the run directory yet.

        ``what`` is ``"out"``, ``"err"`` or the path of a file. None where there is none.
        """

    def slots(self) -> tuple[int, int]:
        """Return how many jobs of one CPU can run at once, and how many of one GPU.

        0 where that is not known, or not soon.
        """

    turn: float
    """About how many seconds pass between the end of a node and the jobs of the next one."""


class Submission:
    """A run directory that was submitted, with what its backend knows and can do about it.

    Parameters
    ----------
    backend : Backend
        The backend.
    run : pathlib.Path
        The run directory.
    ticket : dict or None
        What `Backend.submit` returned; None where the run was submitted elsewhere, and brought.

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
        """Return what is going on, without asking more than files where they suffice."""
        return self._backend.activity(self._run, self._ticket)

    def jobs(self, *, ask: bool) -> tuple[JobState, ...]:
        """Return the jobs that wait or run, by the files; where asked, also by the schedd."""
        return self._backend.jobs(self._run, self._ticket, ask) if self.is_here else ()

    def act(self, action: str, nodes: list[str], which: list[JobState] | None) -> int:
        """Hold, release, pause, continue or vacate the jobs of nodes, or some; return how many."""
        return self._backend.act(self._run, self._ticket, action, nodes, which)

    def edit(self, nodes: list[str], inside: set[str], attributes: dict[str, str]) -> int:
        """Change attributes of the jobs of nodes, those to come included; return how many."""
        return self._backend.edit(self._run, self._ticket, nodes, inside, attributes)

    def halt(self, *, on: bool) -> None:
        """Let no further nodes begin, or let them again."""
        if self.is_here:
            self._backend.halt(self._run, self._ticket, on)

    def facts(self) -> QueueFacts:
        """Return what decides whether waiting jobs can start."""
        return self._backend.facts(self._run, self._ticket)

    def peek(self, node: str, chunk: str, what: str) -> bytes | None:
        """Return what a running job wrote whose files are not in the run directory yet."""
        if not self.is_here:
            return None
        return self._backend.peek(self._run, self._ticket, node, chunk, what)

    def finish_removal(self) -> None:
        """End what was removed while nobody answered."""
        if self.is_here:
            self._backend.finish_removal(self._run, self._ticket)

    def remove(self, *, force: bool) -> None:
        """End the run, and return once nothing of it runs any more."""
        if self.is_here:
            self._backend.remove(self._run, self._ticket, force)
