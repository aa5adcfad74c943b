"""What can be done with the jobs of a run while it is under way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from shlex import quote

from htdag.backends.base import HALTED, JobState, RunState
from htdag.errors import BackendError, RunEnded, UsageError
from htdag.observe.diagnosis import Reason, reasons
from htdag.observe.item_keys import keys_of
from htdag.run.control import Control
from htdag.run.directory import RunDirectory
from htdag.run.edit import Editing
from htdag.runtime.dag import submitfile
from htdag.runtime.layout import NodeFiles


class JobControl:
    """Hold, release, pause, vacate, edit: the jobs of a run, of a stage, or of some items."""

    def __init__(self, run: RunDirectory, control: Control, editing: Editing) -> None:
        self._run = run
        self._control = control
        self._editing = editing

    def jobs(self, stage: str | None = None, ask: bool = False) -> list[JobState]:
        """Return the jobs that wait or run, each with its state and since when."""
        nodes = self._editing.nodes_of(stage)
        found = self._run.submission().jobs(ask=ask)
        inside = self._editing.inside(stage)
        return [job for job in found if (job.node in inside if job.within else job.node in nodes)]

    def hold(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """Put jobs on hold: those that run end, and none begins until `release`."""
        self._check_active("hold")
        self._editing.check_can("hold")
        if keys is None:
            self._hold_to_come(stage, "hold")
        return self._act("hold", stage, keys)

    def _hold_to_come(self, stage: str | None, by: str) -> None:
        self._editing.nodes_of(stage)  # refuses what is no stage

        def hold(run: str, node: str) -> None:
            if submitfile.held_by(run, node) != "hold":  # which is more than a pause
                submitfile.hold(run, node, by)

        self._editing.describe(stage, hold)

    def release(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """Release held jobs, whoever held them."""
        if stage is None and keys is None:
            self._editing.check_can("release")
            if self._go_on_if_halted():
                return 0
        self._check_active("release")
        self._editing.check_can("release")
        if keys is None:
            self._editing.nodes_of(stage)
            self._editing.describe(stage, submitfile.release)
        return self._act("release", stage, keys)

    def pause(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """Suspend jobs that run, with all that they have in memory; `continue_` lets them go on."""
        self._check_active("pause")
        if keys is None and self._run.backend_name != "local":
            self._hold_to_come(stage, "pause")
        return self._act("pause", stage, keys)

    def continue_(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """Let jobs go on that are paused (suspended); the arguments are those of `pause`."""
        self._check_active("continue")
        if keys is None:
            self._editing.nodes_of(stage)
            self._editing.describe(stage, _unpause)
        return self._act("continue", stage, keys)

    def vacate(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """End jobs that run, and let them begin anew elsewhere; this counts as no attempt."""
        self._check_active("vacate")
        return self._act("vacate", stage, keys)

    def halt(self) -> None:
        """Let no further nodes begin. Jobs that are in the queue go on to their end."""
        self._check_active("halt")
        self._halt(True)

    def unhalt(self) -> None:
        """Take back `halt`: further nodes may begin. A run that has ended meanwhile is resumed."""
        if not self._go_on_if_halted():
            self._check_active("unhalt")

    def _go_on_if_halted(self) -> bool:
        """Take back a halt; where the run has ended because of it resume it, and return True."""
        self._halt(False)
        activity = self._run.activity()
        if activity.state is RunState.STOPPED and activity.reason == HALTED:
            self._control.resume()
            return True
        return False

    def _halt(self, on: bool) -> None:
        self._run.submission().halt(on=on)

    def why(self) -> list[Reason]:
        """Say why the run does not go on, or not faster, and what to do about it."""
        submission = self._run.submission()
        activity = self._run.activity()
        status = self._run.reader.read(self._run.tag, self._run.backend_name, activity)
        if activity.state.ended:
            return list(reasons(status, activity, self._run.plan, [], None))
        found = []
        facts = None
        try:
            jobs = self.jobs(ask=True)
            facts = submission.facts()
        except BackendError as error:
            jobs = self.jobs()
            found.append(
                Reason(
                    "the schedd",
                    f"it does not answer, so the run's files alone tell what follows: {error}",
                    "See htdag doctor",
                )
            )
        held = tuple(job for job in jobs if job.state == "held")
        activity = replace(activity, held=held)
        return found + list(reasons(status, activity, self._run.plan, jobs, facts))

    def _act(self, action: str, stage: str | None, keys: Iterable[str] | None) -> int:
        nodes = self._editing.nodes_of(stage)
        which = None if keys is None else self._with_keys(stage, keys)
        return self._run.submission().act(action, nodes, which)

    def _check_active(self, action: str) -> None:
        activity = self._run.activity()
        if activity.state.ended:
            raise RunEnded(
                f"run {self._run.tag!r} is {activity.state.value}: there are no jobs to {action}; "
                f"to go on with what is left: htdag resume {quote(self._run.tag)}"
            )

    def _with_keys(self, stage: str | None, keys: Iterable[str]) -> list[JobState]:
        """Return the jobs in the queue that have any of some items."""
        if stage is None:
            raise UsageError("keys need a stage: items of each stage have keys of their own")
        wanted = {str(key) for key in ([keys] if isinstance(keys, str) else keys)}
        seen: set[str] = set()
        found = []
        for job in self.jobs(stage, ask=self._run.backend_name == "condor"):
            if job.chunk is None:
                continue
            folder = self._run.path
            for loop, number in job.within:
                folder = Path(NodeFiles(folder, loop).round(number))
            here = wanted.intersection(keys_of(folder, job.node, job.chunk))
            if here:
                found.append(job)
                seen |= here
        if wanted - seen:
            raise UsageError(
                f"stage {stage!r}: no job in the queue has the items "
                f"{', '.join(sorted(wanted - seen))}; keys are those of the items that the stage's "
                f"node reads, and jobs that have ended are in the queue no more"
            )
        return found


def _unpause(run: str, node: str) -> None:
    """Let jobs that are to come begin, unless they are held by more than a pause."""
    if submitfile.held_by(run, node) == "pause":
        submitfile.release(run, node)
