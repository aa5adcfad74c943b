"""What went wrong in a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from htdag._warn import say
from htdag.backends.base import Activity, RunState
from htdag.observe import failures, final, groups, missing
from htdag.observe.failures import ItemError
from htdag.observe.final import FinalCall
from htdag.observe.groups import ErrorGroup, Hold
from htdag.observe.holds import explain
from htdag.observe.missing import MissingItem
from htdag.run.files import RunFiles
from htdag.runtime import lanes
from htdag.stages import Stage

_HELD_JOB = re.compile(r"node (\S+), job (\d+\.\d+): (.*)", re.DOTALL)


class Troubles(RunFiles):
    """Errors of a run."""

    def errors(self, stage: str | Stage | None = None) -> list[ItemError]:
        """Return what failed, in the order of the pipeline.

        Parameters
        ----------
        stage : str or Stage, optional
            Only the errors of this stage; of a loop, those of all stages in it.

        Returns
        -------
        list of ItemError
            The errors of the last attempt of each job; [] where nothing failed.
        """
        if stage is not None:
            stage = self._stage(stage)
        return list(failures.errors(self.path, self._plan, stage))

    def missing(self, target: str | Stage | None = None) -> list[MissingItem]:
        """Return the items that a result lacks: those that failed and were let go.

        With ``on_error="skip"`` a run goes on without items that failed. This lists them for all
        stages that the target depends on, also where the target is one value, as of a reduce. Of a
        run that has failed it lists all of its failed items in these stages.

        Parameters
        ----------
        target : str or Stage, optional
            The name of a target; not needed where there is only one.

        Returns
        -------
        list of MissingItem
            [] where the result is of all items.

        Examples
        --------
        >>> [(item.key, item.source) for item in run.missing()]  # doctest: +SKIP
        [('17', PosixPath('scan-17.fits'))]
        """
        ended = self._activity().state in (RunState.FAILED, RunState.REMOVED)
        return list(missing.missing(self.path, self._plan, self._target(target), ended))

    def final(self) -> list[FinalCall]:
        """Return how the functions of `Pipeline.on_success` and `on_failure` went.

        Returns
        -------
        list of FinalCall
            The oldest first; [] where none was called. After a `resume` they are called again.
        """
        return final.calls(self.path, self._plan)

    def error_groups(self, stage: str | Stage | None = None) -> list[ErrorGroup]:
        """Return what failed, and what is on hold, in groups of one cause each.

        Errors with the same traceback whose messages differ in numbers, names and paths only are
        one group.

        Parameters
        ----------
        stage : str or Stage, optional
            Only what happened in this stage.

        Returns
        -------
        list of ErrorGroup
            First those by which most other work is lost; [] where nothing failed.

        Examples
        --------
        >>> for group in htdag.load("survey").error_groups():  # doctest: +SKIP
        ...     print(group, "on", *group.hosts)
        40 x ValueError in calibrate: no star in frame 7 on node3 node12
        """
        return self._with_examples(self._groups(stage))

    def _groups(self, stage: str | Stage | None) -> list[ErrorGroup]:
        """Return the groups, whose examples lack what the items printed."""
        name = None if stage is None else self._stage(stage)
        activity = self._activity()
        errors = failures.errors(self.path, self._plan, name, streams=False)
        found = groups.groups(
            errors, self._plan, self._reader.counts(activity), holds(activity, self.tag)
        )
        return [group for group in found if name in (None, group.stage, group.node)]

    def _with_examples(self, groups: Sequence[ErrorGroup]) -> list[ErrorGroup]:
        examples = [group.example for group in groups if group.example is not None]
        found = iter(failures.with_streams(self.path, self._plan, examples))
        return [
            group if group.example is None else replace(group, example=next(found))
            for group in groups
        ]

    def _say_differences(self) -> None:
        """Say once in which packages the environments of jobs differ from that of the script."""
        if not self._said_differences:
            self._said_differences = True
            found = failures.differences(self.path, self._plan)
            if found:
                say(f"htdag: other versions of packages: {found}")

    _said_differences = False


def holds(activity: Activity, tag: str) -> list[Hold]:
    """Return the jobs on hold of which a backend tells, by text or by a job's state."""
    found = []
    held: tuple[Any, ...] = activity.held
    for job in held:
        match = _HELD_JOB.match(job) if isinstance(job, str) else None
        if match:
            node = lanes.unit(match[1]).node
            found.append(Hold(node, match[2], None, None, match[3]))
        elif not isinstance(job, str):
            name = f"{job.cluster}.{job.proc}"
            node = lanes.unit(job.node).node
            told = explain(job, tag)
            host = job.slot.partition("@")[2] or job.slot
            found.append(
                Hold(node, name, job.code, job.subcode, job.reason, host, told.why, told.remedy)
            )
    return found
