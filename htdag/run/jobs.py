"""What can be done with the jobs of a run while it is under way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from shlex import quote
from typing import Any

from htdag import _options
from htdag.backends.base import HALTED, JobState, RunState
from htdag.errors import BackendError, OptionError, RunEnded, UsageError
from htdag.observe.itemkeys import keys_of
from htdag.observe.reasons import Reason, reasons
from htdag.run.control import Control
from htdag.runtime import submitfile

_ATTRIBUTE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
# Attributes that have a submit command of their own; all others are written as MY.attribute.
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
}


class JobControl(Control):
    """Hold, release, pause, vacate, edit: the jobs of a run, of a stage, or of some items."""

    def jobs(self, stage: str | None = None, ask: bool = False) -> list[JobState]:
        """Return the jobs that wait or run, each with its state and since when.

        Parameters
        ----------
        stage : str, optional
            Only the jobs of this stage, or DAGMan node.
        ask : bool
            Ask the schedd too. By default the event log alone tells. Where the two differ, what
            is newer counts: jobs that the schedd does not have any more are left out.

        Returns
        -------
        list of JobState
            [] where nothing is in the queue.

        Raises
        ------
        BackendError
            If the schedd was to be asked, and does not answer.

        Examples
        --------
        >>> [job.state for job in run.jobs("work")]  # doctest: +SKIP
        ['running', 'idle']
        """
        nodes = self._nodes(stage)
        ticket = self._ticket()
        found = self._backend(ticket["backend"]).jobs(self.path, ticket["ticket"], ask)
        return [job for job in found if job.node in nodes]

    def hold(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """Put jobs on hold: those that run end, and none begins until `release`.

        Held jobs begin anew when they are released, each with all items of its attempt. The whole
        run is also halted (see `halt`).

        Parameters
        ----------
        stage : str, optional
            Only the jobs of this stage, or DAGMan node.
        keys : iterable of str, optional
            Only the jobs with these items of the stage; the other items in them wait too.

        Returns
        -------
        int
            How many jobs are held now that were not.

        Raises
        ------
        RunEnded
            If the run has ended.
        UsageError
            If it runs on this machine, where `pause` does what can be done.
        """
        self._check_active("hold")
        if stage is None:
            self._check_can("hold")
            self._halt(True)
        return self._act("hold", stage, keys)

    def release(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """Release held jobs, whoever held them.

        For the whole run this also takes back `halt`; and where the run has ended because it was
        halted, it is resumed.

        Parameters
        ----------
        stage, keys
            As for `hold`.

        Returns
        -------
        int
            How many jobs were released.

        Raises
        ------
        RunEnded
            If the run has ended otherwise.
        """
        if stage is None and keys is None:
            self._check_can("release")
            if self._go_on_if_halted():
                return 0
        self._check_active("release")
        return self._act("release", stage, keys)

    def pause(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """Suspend jobs that run, with all that they have in memory; `continue_` lets them go on.

        Their slots stay taken; jobs that wait may still start in others. HTCondor's word for it is
        suspend.

        Parameters
        ----------
        stage, keys
            As for `hold`.

        Returns
        -------
        int
            How many jobs are paused now that were not.

        Raises
        ------
        RunEnded
            If the run has ended.
        """
        self._check_active("pause")
        return self._act("suspend", stage, keys)

    def continue_(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """Let jobs go on that are paused (suspended); the arguments are those of `pause`."""
        self._check_active("continue")
        return self._act("continue", stage, keys)

    def vacate(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """End jobs that run, and let them begin anew elsewhere; this counts as no attempt.

        Parameters
        ----------
        stage, keys
            As for `hold`.

        Returns
        -------
        int
            How many jobs have to begin anew.

        Raises
        ------
        RunEnded
            If the run has ended.
        UsageError
            If it runs on this machine.
        """
        self._check_active("vacate")
        return self._act("vacate", stage, keys)

    def priority(self, number: int, stage: str | None = None) -> int:
        """Give jobs another priority among all your jobs: higher ones start first.

        It is kept for later attempts and for `resume`.

        Parameters
        ----------
        number : int
            HTCondor's job priority; 0 is what jobs have that were given none.
        stage : str, optional
            Only the jobs of this stage, or DAGMan node.

        Returns
        -------
        int
            How many jobs in the queue were changed.
        """
        checked = _options.parse({"priority": number}, stage or self.tag).priority
        return self._change(stage, {"JobPrio": str(checked)})

    def edit(
        self,
        stage: str | None = None,
        *,
        request_memory: str | int | None = None,
        request_disk: str | int | None = None,
        time: float | timedelta | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> int:
        """Change what the jobs of a stage ask for.

        It holds for jobs that wait, that are on hold or are not in the queue yet, for later
        attempts and for `resume`. Jobs that run go on as they are; if they have to begin anew, it
        holds for them too. Held jobs stay on hold until `release`.

        Parameters
        ----------
        stage : str, optional
            The stage, or DAGMan node; None: all of them.
        request_memory : str or int, optional
            Such as ``"4GB"``, or a number of MB.
        request_disk : str or int, optional
            Such as ``"20GB"``, or a number of KB.
        time : float (seconds) or timedelta, optional
            How long a job may run before HTCondor puts it on hold.
        attributes : mapping, optional
            Any other attributes of the jobs' ads, such as ``{"RequestCpus": 4}``. Texts are
            expressions of HTCondor's.

        Returns
        -------
        int
            How many jobs in the queue were changed.

        Raises
        ------
        OptionError
            If a value cannot be one.
        UsageError
            If nothing is to be changed, or the run is on this machine.
        BackendError
            If HTCondor refuses; then nothing is changed.

        Examples
        --------
        >>> run.edit("fit", request_memory="4GB")  # doctest: +SKIP
        12
        >>> run.release("fit")  # doctest: +SKIP
        12
        """
        what = stage or self.tag
        changes: dict[str, str] = {}
        sizes = {"request_memory": request_memory, "request_disk": request_disk}
        given = _options.parse(sizes, what)
        if given.request_memory is not None:
            changes["RequestMemory"] = str(_megabytes(given.request_memory))
        if given.request_disk is not None:
            changes["RequestDisk"] = str(_megabytes(given.request_disk, "KB"))
        if time is not None:
            changes[self._duration(stage)] = str(_seconds(time))
        for name, value in (attributes or {}).items():
            if not _ATTRIBUTE.fullmatch(str(name)):
                raise OptionError(f"{name!r} is not the name of an attribute")
            try:
                changes[name] = _options.one_line(value)
            except OptionError as error:
                raise OptionError(f"attribute {name}={value!r}: {error}") from None
        if not changes:
            raise UsageError(
                "there is nothing to change: give request_memory, request_disk, time or attributes"
            )
        return self._change(stage, changes)

    def _change(self, stage: str | None, attributes: dict[str, str]) -> int:
        """Change attributes of jobs in the queue, then of those to come."""
        nodes = self._nodes(stage)
        ticket = self._ticket()
        backend = self._backend(ticket["backend"])
        self._check_can("edit")
        number = 0
        if not self.state.ended:
            number = backend.edit(self.path, ticket["ticket"], nodes, attributes)
        for node in nodes:
            values = {
                _COMMANDS.get(name.lower(), f"MY.{name}"): value
                for name, value in attributes.items()
            }
            submitfile.change(str(self.path), node, values)
        return number

    def _duration(self, stage: str | None) -> str:
        """Return which of the two limits on time the jobs have already, or the usual one."""
        for node in self._nodes(stage):
            if "allowed_job_duration" in submitfile.commands(str(self.path), node):
                return "AllowedJobDuration"
        return "AllowedExecuteDuration"

    def halt(self) -> None:
        """Let no further nodes begin. Jobs that are in the queue go on to their end.

        If all of them have ended before `unhalt`, the run ends too, as DAGMan does then: its state
        is ``stopped``, and `unhalt` or `resume` goes on.

        Raises
        ------
        RunEnded
            If the run has ended.
        """
        self._check_active("halt")
        self._halt(True)

    def unhalt(self) -> None:
        """Take back `halt`: further nodes may begin. A run that has ended meanwhile is resumed.

        Raises
        ------
        RunEnded
            If the run has ended otherwise.
        """
        if not self._go_on_if_halted():
            self._check_active("unhalt")

    def _go_on_if_halted(self) -> bool:
        """Take back a halt; where the run has ended because of it resume it, and return True."""
        self._halt(False)
        activity = self._activity()
        if activity.state is RunState.STOPPED and activity.reason == HALTED:
            self.resume()
            return True
        return False

    def _halt(self, on: bool) -> None:
        ticket = self._ticket()
        self._backend(ticket["backend"]).halt(self.path, ticket["ticket"], on)

    def why(self) -> list[Reason]:
        """Say why the run does not go on, or not faster, and what to do about it.

        It asks the schedd and the pool's collector: why jobs are on hold, which requests no slot
        can meet, whose turn it is, which nodes wait for others. Where they do not answer, the
        run's own files tell what they can.

        Returns
        -------
        list of Reason
            [] where all that can run is running.

        Examples
        --------
        >>> for reason in run.why():  # doctest: +SKIP
        ...     print(reason)
        """
        ticket = self._ticket()
        backend = self._backend(ticket["backend"])
        activity = self._activity()
        status = self._reader.read(self.tag, self.backend_name, activity)
        if activity.state.ended:
            return list(reasons(status, activity, self._plan, [], None))
        found = []
        facts = None
        try:
            jobs = self.jobs(ask=True)
            facts = backend.facts(self.path, ticket["ticket"])
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
        return found + list(reasons(status, activity, self._plan, jobs, facts))

    def _act(self, action: str, stage: str | None, keys: Iterable[str] | None) -> int:
        nodes = self._nodes(stage)
        which = None if keys is None else self._with_keys(stage, nodes, keys)
        ticket = self._ticket()
        backend = self._backend(ticket["backend"])
        return backend.act(self.path, ticket["ticket"], action, nodes, which)

    def _check_can(self, action: str) -> None:
        """Refuse what means nothing where the run is, before anything is done."""
        if self.backend_name == "local":
            from htdag.backends.local import refuse

            refuse(action)

    def _check_active(self, action: str) -> None:
        activity = self._activity()
        if activity.state.ended:
            raise RunEnded(
                f"run {self.tag!r} is {activity.state.value}: there are no jobs to {action}; "
                f"to go on with what is left: htdag resume {quote(self.tag)}"
            )

    def _nodes(self, stage: str | None) -> list[str]:
        """Return the nodes that compute a stage, or the node of that name; with None all."""
        nodes = self._plan["nodes"]
        if stage is None:
            return [node["name"] for node in nodes]
        found = [
            node["name"] for node in nodes if stage in (node["stages"] or node["outputs"])
        ] or [node["name"] for node in nodes if node["name"] == stage]
        if not found:
            names = [entry["name"] for entry in self._plan["stages"] if entry["node"] is not None]
            raise UsageError(
                f"run {self.tag!r} has no stage or node {stage!r} with jobs; it has: "
                f"{', '.join(names)}"
            )
        return found

    def _with_keys(
        self, stage: str | None, nodes: list[str], keys: Iterable[str]
    ) -> list[JobState]:
        """Return the jobs in the queue that have any of some items."""
        if stage is None:
            raise UsageError("keys need a stage: items of each stage have keys of their own")
        wanted = {str(key) for key in ([keys] if isinstance(keys, str) else keys)}
        seen: set[str] = set()
        found = []
        for job in self.jobs(stage, ask=self.backend_name == "condor"):
            if job.node not in nodes or job.chunk is None:
                continue
            here = wanted.intersection(keys_of(self.path, job.node, job.chunk))
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


def _megabytes(size: str, unit: str = "MB") -> int:
    """Return a size in normal form as a whole number of MB, or of KB."""
    from math import ceil

    found = submitfile.megabytes(size)
    assert found is not None  # it was checked
    return ceil(found * (1024 if unit == "KB" else 1))


def _seconds(time: Any) -> int:
    if isinstance(time, timedelta):
        time = time.total_seconds()
    if isinstance(time, bool) or not isinstance(time, int | float) or time <= 0:
        raise OptionError(f"time={time!r}: it takes seconds, or a timedelta, more than 0")
    return max(1, round(time))
