"""The errors of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from htdag.backends.base import Activity, RunState
from htdag.common.warn import say
from htdag.observe import final, groups, item_errors, missing
from htdag.observe.final import FinalCall
from htdag.observe.groups import ErrorGroup, Hold
from htdag.observe.holds import explain
from htdag.observe.item_errors import ItemError
from htdag.observe.missing import MissingItem
from htdag.run.directory import RunDirectory
from htdag.runtime import lanes
from htdag.stages import Stage


class Errors:
    """The part of a run that reads its errors."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run

    def errors(self, stage: str | Stage | None = None) -> list[ItemError]:
        """Return the errors, in the order of the pipeline."""
        if stage is not None:
            stage = self._run.stage(stage)
        return list(item_errors.errors(self._run.path, self._run.plan, stage))

    def missing(self, target: str | Stage | None = None) -> list[MissingItem]:
        """Return the items that a result lacks because they failed and were skipped."""
        ended = self._run.activity().state in (RunState.FAILED, RunState.REMOVED)
        return list(
            missing.missing(self._run.path, self._run.plan, self._run.target(target), ended)
        )

    def final(self) -> list[FinalCall]:
        """Return the calls of the functions of `Pipeline.on_success` and `on_failure`."""
        return final.calls(self._run.path, self._run.plan)

    def error_groups(self, stage: str | Stage | None = None) -> list[ErrorGroup]:
        """Return the errors and held jobs, grouped by cause."""
        return self.with_examples(self.groups(stage))

    def groups(self, stage: str | Stage | None) -> list[ErrorGroup]:
        """Return the groups; their examples lack the output of items."""
        name = None if stage is None else self._run.stage(stage)
        activity = self._run.activity()
        errors = item_errors.errors(self._run.path, self._run.plan, name, streams=False)
        result = groups.groups(
            errors,
            self._run.plan,
            self._run.reader.counts(activity),
            holds(activity, self._run.tag),
        )
        return [group for group in result if name in (None, group.stage, group.node)]

    def with_examples(self, groups: Sequence[ErrorGroup]) -> list[ErrorGroup]:
        """Return groups with the output of their examples."""
        examples = [group.example for group in groups if group.example is not None]
        complete = iter(item_errors.with_streams(self._run.path, self._run.plan, examples))
        return [
            group if group.example is None else replace(group, example=next(complete))
            for group in groups
        ]

    def say_differences(self) -> None:
        """Print once which packages in jobs have other versions than those of the script."""
        if not self._said_differences:
            self._said_differences = True
            text = item_errors.differences(self._run.path, self._run.plan)
            if text:
                say(f"htdag: other versions of packages: {text}")

    _said_differences = False


def holds(activity: Activity, tag: str) -> list[Hold]:
    """Return the jobs on hold that a backend reports."""
    result = []
    for job in activity.held:
        explanation = explain(job, tag)
        result.append(
            Hold(
                lanes.unit(job.node).node,
                f"{job.cluster}.{job.proc}",
                job.code,
                job.subcode,
                job.reason,
                job.slot.partition("@")[2] or job.slot,
                explanation.why,
                explanation.remedy,
            )
        )
    return result
