"""What can be done with the jobs of a run while it is under way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from shlex import quote

from htdag.backends.base import HALTED, JobState, RunState
from htdag.errors import BackendError, RunEnded, UsageError
from htdag.observe.itemkeys import keys_of
from htdag.observe.reasons import Reason, reasons
from htdag.run.editing import Editing
from htdag.runtime import layout, submitfile


class JobControl(Editing):
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
        if ticket["ticket"] is None:
            return []  # it was submitted elsewhere
        found = self._backend(ticket["backend"]).jobs(self.path, ticket["ticket"], ask)
        inside = self._inside(stage)
        return [job for job in found if (job.node in inside if job.within else job.node in nodes)]

    def hold(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """Put jobs on hold: those that run end, and none begins until `release`.

        Held jobs begin anew when they are released, each with all items of its attempt. Without
        keys that holds for jobs that are not in the queue yet, too: they come on hold.

        Parameters
        ----------
        stage : str, optional
            Only the jobs of this stage, or DAGMan node.
        keys : iterable of str, optional
            Only the jobs with these items of the stage; the other items in them wait too.

        Returns
        -------
        int
            How many jobs in the queue are held now that were not.

        Raises
        ------
        RunEnded
            If the run has ended.
        UsageError
            If it runs on this machine, where `pause` does what can be done.
        """
        self._check_active("hold")
        self._check_can("hold")
        if keys is None:
            self._hold_to_come(stage, "hold")
        return self._act("hold", stage, keys)

    def _hold_to_come(self, stage: str | None, by: str) -> None:
        self._nodes(stage)  # refuses what is no stage

        def hold(run: str, node: str) -> None:
            if submitfile.held_by(run, node) != "hold":  # which is more than a pause
                submitfile.hold(run, node, by)

        self._describe(stage, hold)

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
        self._check_can("release")
        if keys is None:
            self._nodes(stage)
            self._describe(stage, submitfile.release)
        return self._act("release", stage, keys)

    def pause(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """Suspend jobs that run, with all that they have in memory; `continue_` lets them go on.

        Their slots stay taken. HTCondor's word for it is suspend. There, jobs that wait, and
        without keys those that are not in the queue yet, are kept from beginning until then.

        Parameters
        ----------
        stage, keys
            As for `hold`.

        Returns
        -------
        int
            How many jobs in the queue are paused now that were not.

        Raises
        ------
        RunEnded
            If the run has ended.
        """
        self._check_active("pause")
        if keys is None and self.backend_name != "local":
            self._hold_to_come(stage, "pause")
        return self._act("pause", stage, keys)

    def continue_(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """Let jobs go on that are paused (suspended); the arguments are those of `pause`."""
        self._check_active("continue")
        if keys is None:
            self._nodes(stage)
            self._describe(stage, _unpause)
        return self._act("continue", stage, keys)

    def vacate(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """End jobs that run, and let them begin anew elsewhere; this counts as no attempt.

        Parameters
        ----------
        stage, keys
            As for `hold`; jobs that do not run yet have nothing to end.

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
        if ticket["ticket"] is None:
            return
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
        which = None if keys is None else self._with_keys(stage, keys)
        ticket = self._ticket()
        backend = self._backend(ticket["backend"])
        return backend.act(self.path, ticket["ticket"], action, nodes, which)

    def _check_active(self, action: str) -> None:
        activity = self._activity()
        if activity.state.ended:
            raise RunEnded(
                f"run {self.tag!r} is {activity.state.value}: there are no jobs to {action}; "
                f"to go on with what is left: htdag resume {quote(self.tag)}"
            )

    def _with_keys(self, stage: str | None, keys: Iterable[str]) -> list[JobState]:
        """Return the jobs in the queue that have any of some items."""
        if stage is None:
            raise UsageError("keys need a stage: items of each stage have keys of their own")
        wanted = {str(key) for key in ([keys] if isinstance(keys, str) else keys)}
        seen: set[str] = set()
        found = []
        for job in self.jobs(stage, ask=self.backend_name == "condor"):
            if job.chunk is None:
                continue
            folder = self.path
            for loop, number in job.within:
                folder /= layout.one_round(loop, number)
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
