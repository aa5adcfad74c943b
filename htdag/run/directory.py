"""The directory of a run: its description, its plan, its submission."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from htdag import backends
from htdag.backends import Backend, tickets
from htdag.backends.base import HOW_TO_START, Activity, RunState, Submission
from htdag.backends.tickets import IMPORTED, Ticket, TicketFile
from htdag.checks import validation
from htdag.config import settings
from htdag.config.directories import check_private, runs_directory
from htdag.config.log import LOGGER
from htdag.errors import NotDone, RunActive, RunNotFound, UsageError
from htdag.observe.status import Reader
from htdag.reuse import cache, history
from htdag.reuse.swap import discard_replaced
from htdag.run.damage import damaged
from htdag.runtime import layout, planfile
from htdag.runtime.layout import NodeFiles
from htdag.stages import Stage

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import Manifest, Plan, ScriptEntry
    from htdag.runtime.formats.task import Program


class RunDirectory:
    """A run, as its directory describes it."""

    def __init__(self, path: Path) -> None:
        check_private(path)
        self.path = path
        self.manifest = read_manifest(path)
        self.said: set[str] = set()  # notes that were printed, to print each only once
        # A run in the usual folder is found by the name of its directory.
        self.tag: str = path.name
        if path.parent != runs_directory():
            self.tag = self.manifest["tag"]

    def submit(self, backend: Backend, before: Ticket | None = None) -> None:
        """Submit the run; ``before`` is the ticket of an earlier submission."""
        dag = self.manifest["dag"]
        submission = self.read_ticket()
        before = before if submission is None else submission["ticket"]
        _write_tag(self.path, self.tag)
        with tickets.announced(self.path, backend.name, backend.foreseen(dag, before)):
            ticket = backend.submit(self.path, dag, before)
        tickets.write(self.path, backend.name, ticket)
        for name in ("reader", "plan"):
            self.__dict__.pop(name, None)
        LOGGER.info("run %r: submitted (%s, %s)", self.tag, backend.name, ticket)

    @property
    def pipeline_name(self) -> str:
        """The name of the pipeline."""
        return self.manifest["pipeline"]

    @property
    def created(self) -> datetime:
        """The time when the run was made, in local time."""
        return datetime.fromtimestamp(self.manifest["created"]).astimezone()

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the target stages, whose results are kept."""
        return tuple(self.manifest["targets"])

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of all stages, including sources and the stages that loops repeat."""
        return tuple(_stage_names(self.path, self.plan))

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of the DAGMan nodes that have jobs, including the FINAL node."""
        final = self.plan.get("final")
        names = [node["name"] for node in self.plan["nodes"]]
        return tuple(names if final is None else [*names, final])

    @property
    def script(self) -> ScriptEntry | None:
        """The command that started the script of the run; None for a notebook or a session.

        It has the keys ``file``, ``module`` (of ``python -m``, else None), ``arguments``,
        ``python`` (the program) and ``folder`` (the working directory).
        """
        return self.manifest.get("script")

    @property
    def backend_name(self) -> str:
        """The name of its backend: ``"condor"`` or ``"local"``."""
        return self.ticket()["backend"]

    @property
    def state(self) -> RunState:
        """The current state of the run as a whole."""
        return self.activity().state

    def ticket(self) -> TicketFile:
        """Return the ticket; raise `RunNotFound` if the run was never submitted."""
        if self.parent is not None:
            return self.parent[0].ticket()
        content = self.read_ticket()
        if content is None:
            raise RunNotFound(f"the run {self.tag!r} was written, but never submitted")
        return content

    def read_ticket(self) -> TicketFile | None:
        """Return the ticket; None if the run was never submitted."""
        return tickets.read(self.path)

    @property
    def is_imported(self) -> bool:
        """Whether it was imported, and not resumed since."""
        return self.parent is None and IMPORTED in (self.read_ticket() or {})

    @property
    def is_submitted(self) -> bool:
        """Whether it was ever submitted."""
        return self.read_ticket() is not None

    def activity(self) -> Activity:
        """Return the current activity of the run."""
        if self.parent is not None:
            outer, loop = self.parent
            activity = outer.activity()
            return activity.rounds.get(loop, Activity(activity.state, activity.reason))
        ticket = self.ticket()
        if IMPORTED in ticket:
            return Activity(RunState(ticket[IMPORTED]), "imported from elsewhere")
        return self.submission().activity()

    def require_ended(self, action: str) -> None:
        """Raise `RunActive` if the run has not ended; ``action`` is a participle: "resumed"."""
        if not self.is_submitted:
            return
        activity = self.activity()
        if activity.state.ended:
            return
        if activity.reason.endswith(HOW_TO_START):
            raise RunActive(
                f"run {self.tag!r} is in the queue of a pool that is stopped: it cannot be "
                f"{action} before that runs again; {activity.reason}"
            )
        tag = quote(self.tag)
        raise RunActive(
            f"run {self.tag!r} is {activity.state.value}, and cannot be {action} now; wait for its "
            f"end (htdag wait {tag}) or end it (htdag remove {tag}): finished items are kept"
        )

    def submission(self) -> Submission:
        """Return its submission, which asks and controls its backend.

        Raises
        ------
        RunNotFound
            If it was never submitted.
        """
        ticket = self.ticket()
        return Submission(self.backend(ticket["backend"]), self.path, ticket["ticket"])

    def backend(self, name: str) -> Backend:
        """Return the backend of a name, and keep it for later calls."""
        if self._backend_in_use is None or self._backend_in_use.name != name:
            self._backend_in_use = backends.backend(name)
        return self._backend_in_use

    _backend_in_use: Backend | None = None

    # For a round of a loop, which is a run directory, too: the outer run, and the loop.
    parent: tuple[RunDirectory, str] | None = None

    @property
    def loop(self) -> str:
        """The loop that it is a round of; "" for a whole run."""
        return "" if self.parent is None else self.parent[1]

    def rounds_with(self, stage: str, number: int | None = None) -> Iterator[RunDirectory]:
        """Yield the rounds with a stage, the last one first, or only a certain round.

        There are none if the stage is not in a loop.

        Raises
        ------
        NotDone
            If no round has started, or the given one has not.
        UsageError
            If a round is given, but the stage is not in a loop.
        """
        for node in self.plan["nodes"]:
            if node["mode"] != "loop":
                continue
            files = NodeFiles(self.path, node["name"])
            step = Path(files.step)
            if stage not in _stage_names(step, planfile.read(str(step))):
                continue
            last = files.last_round()
            numbers = range(last, 0, -1) if number is None else [number]
            if not last or not 1 <= numbers[0] <= last:
                raise NotDone(
                    f"run {self.tag!r}: round {number or 1} of {node['name']!r} has not started"
                )
            for each in numbers:
                inner = RunDirectory(Path(files.round(each)))
                inner.parent = (self, node["name"])
                yield inner
            return
        if number is not None:
            raise UsageError(f"round={number}: stage {stage!r} is not in a loop")

    @cached_property
    def plan(self) -> Plan:
        return planfile.read(str(self.path))

    @cached_property
    def reader(self) -> Reader:
        """The reader of the run's status."""
        return Reader(self.path, self.plan)

    def name_of(self, stage: str | Stage) -> str:
        """Return the name of a stage in this run."""
        if not isinstance(stage, Stage):
            return validation.text(stage, "stage")
        alike = re.compile(rf"{re.escape(stage.name)}-\d+")
        others = [] if stage.named else [name for name in self.stages if alike.fullmatch(name)]
        if others:
            raise UsageError(
                f"run {self.tag!r} has several stages named {stage.name!r} after their functions: "
                f"{', '.join([stage.name, *others])}; give the name of the one that you mean"
            )
        return stage.name

    def target(self, target: str | Stage | None) -> str:
        """Return the name of a target, or of another stage whose values are stored."""
        if target is None:
            if len(self.targets) > 1:
                raise UsageError(
                    f"run {self.tag!r} has several targets, name one: {', '.join(self.targets)}"
                )
            return self.targets[0]
        target = self.name_of(target)
        stored = [entry["name"] for entry in self.plan["stages"] if entry["where"] is not None]
        if target in (*self.targets, *stored):
            return target
        if target not in self.stages:
            raise UsageError(
                f"run {self.tag!r} has no target {target!r}; it has: {', '.join(self.targets)}"
            )
        raise UsageError(
            f"run {self.tag!r} has no values of stage {target!r} on disk: its jobs pass them "
            f"directly to the next stage, or it is a source or in a loop. There are values of: "
            f"{', '.join(stored)}. A run keeps them if {target!r} is a target, too, or the next "
            f"stage has fuse=False"
        )

    def stage(self, stage: str | Stage) -> str:
        """Return the name of a stage, or raise `UsageError` if the run does not have it."""
        names = self.stages
        stage = self.name_of(stage)
        if stage not in names:
            hint = validation.did_you_mean(stage, names, f"it has: {', '.join(names)}")
            raise UsageError(f"run {self.tag!r} has no stage {stage!r}; {hint}")
        return stage

    def gather(self, again: bool = False, done: bool = False) -> None:
        """Store the run's measurements and cached results for later runs."""
        if settings.use_history(None):
            history.gather(self.path, again=again)
        cache.gather(self.path)
        if done:
            discard_replaced(self.path)


def _stage_names(run: Path, plan: Plan) -> Iterator[str]:
    """Yield the names of all stages of a plan, including those that loops repeat."""
    whole = planfile.RunPlan(str(run), plan)
    for place in planfile.walk_loops(whole, most=0, template=True):
        for entry in place.plan["stages"]:
            if entry["kind"] not in ("state", "import"):
                yield entry["name"]


def _write_tag(run: Path, tag: str) -> None:
    """Write the run's tag, which may have changed since it was made, into the files for jobs."""
    whole = planfile.RunPlan(str(run), planfile.read(str(run)))
    # A resumed loop may go back by one round.
    for place, node in planfile.walk_nodes(whole, most=2, template=True):
        files = NodeFiles(place.folder, node["name"])
        program: Program = layout.read_json(files.program, "run")
        if program["run"] != tag:
            program["run"] = tag
            layout.write_aside(files.program, json.dumps(program, ensure_ascii=False).encode())


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of a run directory.

    Raises
    ------
    RunNotFound
        If it is not a run directory, or does not exist.
    RunDamaged
        If its manifest is missing or damaged.
    """
    file = str(path / layout.RUN)
    kinds = {"tag": str, "pipeline": str, "dag": str, "created": int | float, "targets": list}
    try:
        content: Manifest = layout.read_json(file, *kinds)
        for name, value in content.items():
            if not isinstance(value, kinds.get(name, object)):
                raise layout.DamagedFile(file, f"{name} is {value!r}")
    except FileNotFoundError:
        if (path / layout.PLAN).exists():
            raise damaged(path, layout.DamagedFile(file, "it is missing")) from None
        raise RunNotFound(f"there is no run in {str(path)!r}") from None
    except layout.DamagedFile as error:
        raise damaged(path, error) from error
    return content
