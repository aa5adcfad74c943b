"""Control of the jobs of a running run."""

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
from htdag.run.edit import Editor
from htdag.runtime.dag import submitfile
from htdag.runtime.layout import NodeFiles


class JobControl:
    """The part of a run that controls the jobs of the run, of a stage, or of some items."""

    def __init__(self, run: RunDirectory, control: Control, editing: Editor) -> None:
        self._run = run
        self._control = control
        self._editing = editing

    def jobs(self, stage: str | None = None, ask: bool = False) -> list[JobState]:
        """Return the jobs that wait or run, each with its state and since when."""
        nodes = self._editing.nodes_of(stage)
        jobs = self._run.submission().jobs(ask=ask)
        inside = self._editing.inside(stage)
        return [job for job in jobs if (job.node in inside if job.within else job.node in nodes)]

    def hold(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """Put jobs on hold: running ones end, and none starts until `release`."""
        self._check_active("hold")
        self._editing.check_can("hold")
        if keys is None:
            self._hold_later_jobs(stage, "hold")
        return self._act("hold", stage, keys)

    def _hold_later_jobs(self, stage: str | None, by: str) -> None:
        self._editing.nodes_of(stage)  # raises an error for an unknown stage

        def hold(run: str, node: str) -> None:
            if submitfile.held_by(run, node) != "hold":  # a hold overrides a pause
                submitfile.hold(run, node, by)

        self._editing.describe(stage, hold)

    def release(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """Release held jobs, whoever held them."""
        if stage is None and keys is None:
            self._editing.check_can("release")
            if self._resume_if_halted():
                return 0
        self._check_active("release")
        self._editing.check_can("release")
        if keys is None:
            self._editing.nodes_of(stage)
            self._editing.describe(stage, submitfile.release)
        return self._act("release", stage, keys)

    def pause(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """Suspend running jobs, with all that they have in memory, until `continue_`."""
        self._check_active("pause")
        if keys is None and self._run.backend_name != "local":
            self._hold_later_jobs(stage, "pause")
        return self._act("pause", stage, keys)

    def continue_(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """Continue paused (suspended) jobs; the arguments are those of `pause`."""
        self._check_active("continue")
        if keys is None:
            self._editing.nodes_of(stage)
            self._editing.describe(stage, _unpause)
        return self._act("continue", stage, keys)

    def vacate(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """End running jobs, and let them start again; this does not count as an attempt."""
        self._check_active("vacate")
        return self._act("vacate", stage, keys)

    def halt(self) -> None:
        """Start no further nodes. Jobs that are in the queue run to their end."""
        self._check_active("halt")
        self._halt(True)

    def unhalt(self) -> None:
        """Undo `halt`, so that further nodes start. A run that has ended meanwhile is resumed."""
        if not self._resume_if_halted():
            self._check_active("unhalt")

    def _resume_if_halted(self) -> bool:
        """Undo a halt; if the run has ended because of it, resume it and return True."""
        self._halt(False)
        activity = self._run.activity()
        if activity.state is RunState.STOPPED and activity.reason == HALTED:
            self._control.resume()
            return True
        return False

    def _halt(self, on: bool) -> None:
        self._run.submission().halt(on=on)

    def why(self) -> list[Reason]:
        """Return why the run does not progress, or not faster, and what to do."""
        submission = self._run.submission()
        activity = self._run.activity()
        status = self._run.reader.read(self._run.tag, self._run.backend_name, activity)
        if activity.state.ended:
            return list(reasons(status, activity, self._run.plan, [], None))
        result = []
        facts = None
        try:
            jobs = self.jobs(ask=True)
            facts = submission.facts()
        except BackendError as error:
            jobs = self.jobs()
            result.append(
                Reason(
                    "the schedd",
                    f"it does not answer, so the following is from the run's files alone: {error}",
                    "See htdag doctor",
                )
            )
        held = tuple(job for job in jobs if job.state == "held")
        activity = replace(activity, held=held)
        return result + list(reasons(status, activity, self._run.plan, jobs, facts))

    def _act(self, action: str, stage: str | None, keys: Iterable[str] | None) -> int:
        nodes = self._editing.nodes_of(stage)
        which = None if keys is None else self._with_keys(stage, keys)
        return self._run.submission().act(action, nodes, which)

    def _check_active(self, action: str) -> None:
        activity = self._run.activity()
        if activity.state.ended:
            raise RunEnded(
                f"run {self._run.tag!r} is {activity.state.value}: there are no jobs to {action}; "
                f"to resume it: htdag resume {quote(self._run.tag)}"
            )

    def _with_keys(self, stage: str | None, keys: Iterable[str]) -> list[JobState]:
        """Return the jobs in the queue that have any of the given items."""
        if stage is None:
            raise UsageError("keys need a stage: each stage has its own items")
        item_keys = {str(key) for key in ([keys] if isinstance(keys, str) else keys)}
        seen: set[str] = set()
        jobs = []
        for job in self.jobs(stage, ask=self._run.backend_name == "condor"):
            if job.chunk is None:
                continue
            folder = self._run.path
            for loop, number in job.within:
                folder = Path(NodeFiles(folder, loop).round(number))
            present = item_keys.intersection(keys_of(folder, job.node, job.chunk))
            if present:
                jobs.append(job)
                seen |= present
        if item_keys - seen:
            raise UsageError(
                f"stage {stage!r}: no job in the queue has the items "
                f"{', '.join(sorted(item_keys - seen))}; keys are those of the items that the "
                f"stage's node reads, and jobs that have ended are no longer in the queue"
            )
        return jobs


def _unpause(run: str, node: str) -> None:
    """Let later jobs start, unless they are held by more than a pause."""
    if submitfile.held_by(run, node) == "pause":
        submitfile.release(run, node)
