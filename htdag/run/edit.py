"""Change the requests of a run's jobs, those in the queue and later ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from htdag.backends.descriptions import places
from htdag.checks import quantities, validation
from htdag.errors import OptionError, UsageError
from htdag.options import stage_options
from htdag.options.resources import PerItem
from htdag.run.directory import RunDirectory
from htdag.runtime import planfile
from htdag.runtime.dag import submitfile
from htdag.runtime.layout import NodeFiles

_duration = quantities.duration()
_ATTRIBUTE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
# Attributes with a submit command of their own; all others are written as MY.attribute.
_COMMANDS = {
    "requestcpus": "request_cpus",
    "requestmemory": "request_memory",
    "requestdisk": "request_disk",
    "requestgpus": "request_gpus",
    "requirements": "requirements",
    "rank": "rank",
    "jobprio": "priority",
    "allowedexecuteduration": "allowed_execute_duration",
    "allowedjobduration": "allowed_job_duration",
    "shouldtransferfiles": "should_transfer_files",
}
_SIZES = {"request_memory": ("RequestMemory", "MB"), "request_disk": ("RequestDisk", "KB")}


class Editor:
    """The part of a run that edits its jobs, and finds the nodes of stages."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run

    def priority(self, number: int, stage: str | None = None) -> int:
        """Change the priority of jobs among all your jobs; higher ones start first."""
        checked = stage_options.parse({"priority": number}, stage or self._run.tag).priority
        return self._change(stage, {"JobPrio": str(checked)}, "give another priority")

    def edit(
        self,
        stage: str | None = None,
        *,
        request_memory: str | int | None = None,
        request_disk: str | int | None = None,
        time: str | float | timedelta | None = None,
        attributes: Mapping[str, Any] | None = None,
        transfer_files: bool = False,
    ) -> int:
        """Change the requests of the jobs of a stage."""
        self.nodes_of(stage)  # raises an error for an unknown stage
        what = stage or self._run.tag
        changes: dict[str, str] = {}
        sizes = {"request_memory": request_memory, "request_disk": request_disk}
        requests = stage_options.parse(sizes, what)
        for name, (attribute, unit) in _SIZES.items():
            amount = requests.given().get(name)
            if isinstance(amount, PerItem):
                raise OptionError(f"{what!r}: {name} takes a fixed value here, not a function")
            if amount is not None:
                changes[attribute] = str(quantities.units_of(amount, unit))
        if time is not None:
            try:
                changes[self._duration(stage)] = str(_duration(time))
            except OptionError as error:
                raise OptionError(f"time={validation.shown(time)}: {error}") from None
        if attributes is not None and not isinstance(attributes, Mapping):
            raise OptionError(
                f"attributes={validation.shown(attributes)}: it takes a dict of names to values"
            )
        expressions: Mapping[Any, Any] = attributes or {}
        for name, value in expressions.items():
            if not isinstance(name, str) or not _ATTRIBUTE.fullmatch(name):
                raise OptionError(f"{name!r} is not the name of an attribute")
            try:
                changes[name] = stage_options.one_line(value)
            except OptionError as error:
                raise OptionError(f"attribute {name}={validation.shown(value)}: {error}") from None
        if transfer_files:
            changes["ShouldTransferFiles"] = '"YES"'
        if not changes:
            raise UsageError(
                "there is nothing to change: give request_memory, request_disk, time, attributes "
                "or transfer_files"
            )
        return self._change(stage, changes)

    def _change(self, stage: str | None, attributes: dict[str, str], action: str = "edit") -> int:
        """Change attributes of jobs in the queue, and of later ones."""
        nodes = self.nodes_of(stage)
        submission = self._run.submission()
        self.check_can(action)

        def edit_queue() -> int:
            if self._run.state.ended:
                return 0
            return submission.edit(nodes, self.inside(stage), attributes)

        number = edit_queue()  # first, since HTCondor may refuse it
        values = {
            _COMMANDS.get(name.lower(), f"MY.{name}"): value for name, value in attributes.items()
        }
        if "should_transfer_files" in values:  # unquoted as a command, a string in the ad
            values["should_transfer_files"] = values["should_transfer_files"].strip('"')
        self.describe(stage, lambda run, node: submitfile.change(run, node, values))
        # DAGMan may have just submitted jobs with the old description.
        return max(number, edit_queue())

    def describe(self, stage: str | None, change: Callable[[str, str], object]) -> None:
        """Change the submit descriptions of a stage's jobs."""
        written: set[tuple[Path, str]] = set()
        # A round that is made now may have been copied before its template was changed.
        while missing := [place for place in self._places(stage) if place not in written]:
            for folder, node in missing:
                change(str(folder), node)
            written.update(missing)

    def _places(self, stage: str | None) -> list[tuple[Path, str]]:
        """Return the folder and node of the submit descriptions of a stage's jobs."""
        return list(places(self._run.path, stage))

    def inside(self, stage: str | None) -> set[str]:
        """Return the nodes of a stage that loops repeat; for a loop, all of its nodes."""
        return {node for folder, node in self._places(stage) if folder != self._run.path}

    def _duration(self, stage: str | None) -> str:
        """Return the attribute of the time limit that the jobs have, or the usual one."""
        for folder, node in self._places(stage):
            if "allowed_job_duration" in submitfile.commands(str(folder), node):
                return "AllowedJobDuration"
        return "AllowedExecuteDuration"

    def check_can(self, action: str) -> None:
        """Raise `UsageError` if the run's backend does not support an action."""
        if self._run.backend_name == "local":
            from htdag.backends.local import refuse

            refuse(action)

    def nodes_of(self, stage: str | None) -> list[str]:
        """Return the nodes that compute a stage, or the node of that name; for None, all nodes."""
        nodes = self._run.plan["nodes"]
        if stage is None:
            return [node["name"] for node in nodes]
        validation.text(stage, "stage")
        names = [
            node["name"] for node in nodes if stage in (node["stages"] or node["outputs"])
        ] or [name for name in self._run.nodes if name == stage]
        if not names:
            loops = planfile.loops_of(self._run.plan)
            steps = {loop: Path(NodeFiles(self._run.path, loop).step) for loop in loops}
            names = [loop for loop, step in steps.items() if any(places(step, stage))]
        if not names:
            sources = {each["name"] for each in self._run.plan["stages"] if each["node"] is None}
            stages = [name for name in self._run.stages if name not in sources]
            choices = [*stages, *self._run.nodes]
            hint = validation.did_you_mean(stage, choices, f"it has: {', '.join(stages)}")
            raise UsageError(
                f"run {self._run.tag!r} has no stage or node {stage!r} with jobs; {hint}"
            )
        return names
