"""A run: wait for it, look at it, take its results, go on with it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from htdag.backends.base import JobState, RunState
from htdag.observe.diagnosis import Reason
from htdag.observe.final import FinalCall
from htdag.observe.groups import ErrorGroup
from htdag.observe.item_errors import ItemError
from htdag.observe.items import ItemState, JobUsage
from htdag.observe.missing import MissingItem
from htdag.observe.outcomes import Item
from htdag.observe.status import Status
from htdag.run.control import Control
from htdag.run.damage import translates
from htdag.run.debug import Debugging
from htdag.run.directory import RunDirectory
from htdag.run.edit import Editing
from htdag.run.errors import Errors
from htdag.run.items import ItemStates
from htdag.run.jobs import JobControl
from htdag.run.manage import Manager
from htdag.run.output import Output
from htdag.run.replay import Replay
from htdag.run.rerun import Rerun
from htdag.run.results import Results
from htdag.run.wait import Waiter
from htdag.stages import Stage

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import ScriptEntry


@translates
class Run:
    """One execution of a pipeline.

    Made by `Pipeline.submit`, `load` and `runs`. All that a run is lies in its directory, so any
    process of the same user can look at it, and several may at once.
    """

    def __init__(self, path: Path) -> None:
        self.directory = directory = RunDirectory(path)
        self._control = Control(directory)
        self._rerun = Rerun(directory, self._control)
        self._editing = Editing(directory)
        self._jobs = JobControl(directory, self._control, self._editing)
        self._items = ItemStates(directory, self._jobs)
        self._errors = Errors(directory)
        self._waiter = Waiter(directory, self._errors)
        self._results = Results(directory, self._errors, self._waiter)
        self._debugging = Debugging(directory)
        self._output = Output(directory)
        self._manager = Manager(directory)

    @property
    def tag(self) -> str:
        """The run's name."""
        return self.directory.tag

    @property
    def path(self) -> Path:
        """Its directory."""
        return self.directory.path

    @property
    def pipeline_name(self) -> str:
        """The name of the pipeline."""
        return self.directory.pipeline_name

    @property
    def created(self) -> datetime:
        """When the run was made, in local time."""
        return self.directory.created

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the stages whose results were asked for."""
        return self.directory.targets

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of all stages, those that loops repeat too; sources are among them."""
        return self.directory.stages

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of the DAGMan nodes that have jobs, the FINAL one included."""
        return self.directory.nodes

    @property
    def script(self) -> ScriptEntry | None:
        """How the script that made it was started; None for a notebook or the like.

        ``file``, ``module`` (of ``python -m``, else None), ``arguments``, ``python`` (the program)
        and ``folder`` (the current one).
        """
        return self.directory.script

    @property
    def backend_name(self) -> str:
        """Where it runs: ``"condor"`` or ``"local"``."""
        return self.directory.backend_name

    @property
    def state(self) -> RunState:
        """The state of the run as a whole, read anew."""
        return self.directory.state

    def status(self, ask: bool = False) -> Status:
        """Return counts by stage and by the state of items.

        Parameters
        ----------
        ask : bool
            Ask the schedd which jobs it has, for where the event log is behind, or lost something.
            By default the run's files alone tell, and the schedd is asked now and then whether the
            run as a whole is still there.

        Returns
        -------
        Status
            Printing it gives a line a stage; ``status["name"]`` is one stage's counts.

        Raises
        ------
        BackendError
            If the schedd was to be asked, and does not answer.

        Examples
        --------
        >>> print(run.status())  # doctest: +SKIP
        >>> run.status()["squares"].done  # doctest: +SKIP
        1000
        """
        return self._waiter.status(ask)

    def wait(
        self,
        timeout: float | timedelta | None = None,
        progress: bool | None = None,
        *,
        errors_ok: bool = False,
        holds_ok: bool = False,
        until: str = "end",
    ) -> Run:
        """Wait until the run has ended.

        Parameters
        ----------
        timeout : float (seconds) or timedelta, optional
            None waits for ever; 0 or less only looks.
        progress : bool, optional
            Show the progress: a live display in a terminal, HTML in a notebook, else a line now
            and then on stderr. None: in a terminal and a notebook only.
        errors_ok : bool
            Return also where it ended and not all of it succeeded; `state` tells.
        holds_ok : bool
            Go on waiting while jobs are on hold and nothing else is under way.
        until : {"end", "first error"}
            ``"first error"``: raise `RunFailed` as soon as a job tells of an item that failed; the
            run itself goes on.

        Returns
        -------
        Run
            The run itself, done.

        Raises
        ------
        RunFailed
            If it ended and not all of it succeeded, unless `errors_ok`; or at the first error.
        RunHeld
            If jobs are on hold and nothing else is under way, unless `holds_ok`.
        TimeoutError
            If it has not ended in time.

        Warns
        -----
        FinalFailed
            If a function of `Pipeline.on_success` or `on_failure` failed.

        Examples
        --------
        >>> pipeline.submit().wait().result()  # doctest: +SKIP
        499500
        """
        self._waiter.wait(timeout, progress, errors_ok=errors_ok, holds_ok=holds_ok, until=until)
        return self

    def result(
        self, target: str | Stage | None = None, timeout: float | timedelta | None = 0
    ) -> Any:
        """Return the result of a target, or of all.

        Parameters
        ----------
        target : str or Stage, optional
            A target, or another stage whose values are on disk; by default all targets.
        timeout : float (seconds), timedelta or None
            How long to wait for it; by default not at all, None for ever.

        Returns
        -------
        object
            The value of a reduce, else the list of the stage's items, in order. Without a `target`,
            where the run has several, a dict of them by name, as `Pipeline.run` returns it.

        Raises
        ------
        TimeoutError
            If the result is not there in time.
        RunFailed
            If the run ended without it.

        Warns
        -----
        ItemsMissing
            If items that failed were let go on the way to it (``on_error="skip"``).

        Examples
        --------
        >>> run.result()  # doctest: +SKIP
        499500
        >>> run.result("squares", timeout=60)  # doctest: +SKIP
        [0, 1, 4]
        """
        return self._results.result(target, timeout)

    def items(self, target: str | Stage | None = None, errors: str = "raise") -> Iterator[Item]:
        """Iterate over the items of a target in order, one in memory at a time.

        Parameters
        ----------
        target : str or Stage, optional
            A target, or another stage whose values are on disk; not needed where there is only one
            target.
        errors : {"raise", "skip", "return"}
            What to do about items that failed: raise `RunFailed` before the first item, pass over
            them, or yield an `Item` whose value is the `ItemError`, after the others.

        Yields
        ------
        Item
            ``key``, ``value`` and ``source``, the source item that it came from.

        Raises
        ------
        TimeoutError
            If the run has not ended.

        Warns
        -----
        ItemsMissing
            As for `result`, with ``errors="raise"``.

        Examples
        --------
        >>> for item in run.items("squares"):  # doctest: +SKIP
        ...     print(item.source, item.value)
        """
        return self._results.items(target, errors)

    def as_completed(
        self,
        target: str | Stage | None = None,
        *,
        timeout: float | timedelta | None = None,
        errors: str = "raise",
    ) -> Iterator[Item]:
        """Iterate over the items of a target as the jobs that make them end.

        Parameters
        ----------
        target : str or Stage, optional
            A target, or another stage whose values are on disk; not needed where there is only one
            target.
        timeout : float (seconds) or timedelta, optional
            How long to wait for all of them together; by default for ever.
        errors : {"raise", "skip", "return"}
            What to do when the run has ended and items are lacking, after the last one that there
            is: raise `RunFailed`, end, or yield an `Item` for each error, whose value is the
            `ItemError`.

        Yields
        ------
        Item
            In the order of completion; within a job in item order.

        Raises
        ------
        RunFailed, RunHeld
            After the last item that there is, if the run does not give all of them.
        TimeoutError
            If they are not all there in time.

        Examples
        --------
        >>> for item in run.as_completed():  # doctest: +SKIP
        ...     print(item.key, item.value)
        """
        return self._results.as_completed(target, timeout=timeout, errors=errors)

    def get(
        self, target: str | Stage, key: str | int, timeout: float | timedelta | None = 0
    ) -> Any:
        """Return the value of one item, also while others are under way.

        Parameters
        ----------
        target : str or Stage
            A target, or another stage whose values are on disk.
        key : str or int
            The key of the item.
        timeout : float (seconds), timedelta or None
            How long to wait for it; by default not at all, None for ever.

        Returns
        -------
        object

        Raises
        ------
        TimeoutError
            If the item is not there in time.
        RunFailed
            If the run ended without it.
        UsageError
            If the run is done and has no such item.

        Examples
        --------
        >>> run.get("spectra", 17, timeout=60)  # doctest: +SKIP
        """
        return self._results.get(target, key, timeout)

    def item_states(
        self, stage: str, *, ask: bool = False, round: int | None = None
    ) -> list[ItemState]:
        """Return the state of each item of a stage.

        What is done and what failed comes from the records of jobs that have ended, the rest from
        the jobs that wait or run. Where the file system is shared, items that a running job has
        finished are done already.

        Parameters
        ----------
        stage : str
            The stage. Its items are those that its DAGMan node takes, so stages that share a node
            share them.
        ask : bool
            Ask the schedd too. By default files alone tell.
        round : int, optional
            For a stage in a loop, the round; by default the present one.

        Returns
        -------
        list of ItemState
            In the order of items, without those that are not known yet since stages before have to
            make them.

        Raises
        ------
        UsageError
            If there is no such stage, or it is a source.
        BackendError
            If the schedd was to be asked, and does not answer.

        Examples
        --------
        >>> [item.key for item in run.item_states("fit") if item.state == "held"]  # doctest: +SKIP
        ['17', '18']
        """
        return self._items.item_states(stage, ask=ask, round=round)

    def usage(self, stage: str | None = None) -> list[JobUsage]:
        """Return what the jobs that have ended have used: time, memory, disk.

        With ``chunk_size=1`` each of them had one item.

        Parameters
        ----------
        stage : str, optional
            Only the jobs of this stage.

        Returns
        -------
        list of JobUsage
            In the order of the plan; jobs that were killed could not tell. Of a loop those of all
            of its rounds.

        Examples
        --------
        >>> max(run.usage("fit"), key=lambda job: job.memory).key  # doctest: +SKIP
        '17'
        """
        return self._items.usage(stage)

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
        return self._errors.errors(stage)

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
        return self._errors.error_groups(stage)

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
        return self._errors.missing(target)

    def final(self) -> list[FinalCall]:
        """Return how the functions of `Pipeline.on_success` and `on_failure` went.

        Returns
        -------
        list of FinalCall
            The oldest first; [] where none was called. After a `resume` they are called again.
        """
        return self._errors.final()

    def debug(
        self,
        stage: str,
        key: str | int,
        *,
        pdb: bool | None = None,
        step: bool = False,
        round: int | None = None,
    ) -> Replay:
        """Do an item again in this process, with its true input and function.

        It flows through the stages before this one that share its node, too. The run's files stay
        as they are, and the current directory is a scratch directory meanwhile. Side effects of
        the functions are real.

        Parameters
        ----------
        stage : str
            The stage.
        key : str or int
            The item's key, as `errors` and `items` tell it.
        pdb : bool, optional
            Open Python's debugger where the function raised. None: if stdin is a terminal.
        step : bool
            Open the debugger where the stage's function begins.
        round : int, optional
            For a stage in a loop, the round; by default the last one.

        Returns
        -------
        Replay
            What each stage was given and returned, and what was raised.

        Raises
        ------
        UsageError
            If there is no such stage or item.
        TimeoutError
            If what the item is made of is not there yet.

        Examples
        --------
        >>> print(htdag.load("survey").debug("calibrate", 7, pdb=False))  # doctest: +SKIP
        calibrate, item 7
          given: <ndarray of shape (512, 512), float64>
          calibrate raised: ZeroDivisionError: division by zero
        """
        return self._debugging.debug(stage, key, pdb=pdb, step=step, round=round)

    def stdout(self, stage: str, key: str | int | None = None, round: int | None = None) -> str:
        """Return what an item has printed while a job of a stage worked on it.

        Stages that are fused share their output. While its job is running, this is what it has
        printed so far; on HTCondor without a shared file system that is fetched from the execute
        point.

        Parameters
        ----------
        stage : str
            The stage.
        key : str or int, optional
            The item's key. None: all that the jobs of the stage have printed, in their order.
        round : int, optional
            For a stage in a loop, the round; by default the last one in which the stage ran.

        Returns
        -------
        str
            Of the last attempt at the item. Of a running job, what it has printed since its last
            item that is finished counts for each of those after it: nobody knows better yet.

        Raises
        ------
        TimeoutError
            If no job has begun with it.
        UsageError
            If there is no such stage or item.

        Examples
        --------
        >>> print(run.stdout("fit", 7))  # doctest: +SKIP
        """
        return self._output.stdout(stage, key, round)

    def stderr(self, stage: str, key: str | int | None = None, round: int | None = None) -> str:
        """Return what an item has written to standard error, such as the output of logging.

        For an item that failed its traceback follows.

        Parameters
        ----------
        stage, key, round
            As for `stdout`.

        Returns
        -------
        str
            As of `stdout`.

        Raises
        ------
        TimeoutError, UsageError
            As of `stdout`.

        Examples
        --------
        >>> print(run.stderr("fit", 7))  # doctest: +SKIP
        """
        return self._output.stderr(stage, key, round)

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
        return self._jobs.why()

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
        return self._jobs.jobs(stage, ask)

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
        return self._jobs.hold(stage, keys)

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
        return self._jobs.release(stage, keys)

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
        return self._jobs.pause(stage, keys)

    def continue_(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """Let jobs go on that are paused (suspended); the arguments are those of `pause`."""
        return self._jobs.continue_(stage, keys)

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
        return self._jobs.vacate(stage, keys)

    def halt(self) -> None:
        """Let no further nodes begin. Jobs that are in the queue go on to their end.

        If all of them have ended before `unhalt`, the run ends too, as DAGMan does then: its state
        is ``stopped``, and `unhalt` or `resume` goes on.

        Raises
        ------
        RunEnded
            If the run has ended.
        """
        self._jobs.halt()

    def unhalt(self) -> None:
        """Take back `halt`: further nodes may begin. A run that has ended meanwhile is resumed.

        Raises
        ------
        RunEnded
            If the run has ended otherwise.
        """
        self._jobs.unhalt()

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
        return self._editing.priority(number, stage)

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
        time : str, float (seconds) or timedelta, optional
            How long a job may run before HTCondor puts it on hold, such as ``"2h"``; as the option
            `allowed_job_duration` takes it.
        attributes : mapping, optional
            Any other attributes of the jobs' ads, such as ``{"RequestCpus": 4}``. Texts are
            expressions of HTCondor's.
        transfer_files : bool
            Have files transferred also where the file system seems to be shared.

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
        return self._editing.edit(
            stage,
            request_memory=request_memory,
            request_disk=request_disk,
            time=time,
            attributes=attributes,
            transfer_files=transfer_files,
        )

    def resume(self) -> Run:
        """Go on with a run that failed, was removed or was killed, from what is there.

        Items that have succeeded are not computed again; damaged outcome files are found and
        theirs are. On HTCondor this goes through a rescue DAG.

        Returns
        -------
        Run
            The run itself, under way again.

        Raises
        ------
        RunActive
            If it has not ended, or another process is about to go on with it.
        UsageError
            If it runs on this machine, and this Python is of another minor version than its own.
        BackendError
            If HTCondor refuses it.

        Examples
        --------
        >>> import htdag
        >>> htdag.load("survey").resume().wait()  # doctest: +SKIP
        """
        self._control.resume()
        return self

    def rerun(
        self,
        stage: str | None = None,
        keys: Iterable[str | int] | None = None,
        *,
        errors: bool = False,
    ) -> Run:
        """Compute all of a run again, or a part of it, with the same functions and items.

        What the run has stays until the new run is there, and what it was made from is kept in its
        directory, in ``replaced``, until it is done.

        Parameters
        ----------
        stage : str, optional
            Only this stage, with those that share its jobs, and all that depends on it.
        keys : iterable of str or int, optional
            Only the items with these keys, of `stage` or, without one, of all stages that have such
            items. Later stages compute again what comes out otherwise than before.
        errors : bool
            Only the items that failed, also those that ``on_error="skip"`` let go; later stages as
            for `keys`.

        Returns
        -------
        Run
            The run itself, under way again.

        Raises
        ------
        RunActive
            If it has not ended.
        UsageError
            If there is no such stage, or no such item.

        Examples
        --------
        >>> import htdag
        >>> run = htdag.load("survey")  # doctest: +SKIP
        >>> run.rerun("calibrate", keys=[7, 12]).wait()  # doctest: +SKIP
        """
        self._rerun.rerun(stage, keys, errors=errors)
        return self

    def remove(self, force: bool = False) -> None:
        """End the run; what is done stays, and `resume` can go on.

        Parameters
        ----------
        force : bool
            Do not wait for an orderly end.

        Raises
        ------
        BackendError
            If HTCondor does not answer.

        Examples
        --------
        >>> import htdag
        >>> for run in htdag.runs("survey-*"):
        ...     run.remove()
        """
        self._control.remove(force)

    def interrupted(self) -> None:
        """Do what Ctrl-C means for a run that was started by `Pipeline.run`, and say so."""
        self._control.interrupted()

    def retag(self, tag: str) -> Run:
        """Give the run another tag; its directory is renamed.

        Parameters
        ----------
        tag : str
            The new one.

        Returns
        -------
        Run
            The run itself.

        Raises
        ------
        StageNameError
            If there is such a run already, or it cannot be a tag.
        RunActive
            If it has not ended: DAGMan works in its directory, whose name must stay.

        Examples
        --------
        >>> import htdag
        >>> htdag.load("walks-20261125-103000").retag("walks")  # doctest: +SKIP
        """
        self._manager.retag(tag)
        return self

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Write the whole run to one file, for `htdag.import_run` elsewhere.

        The user's files that it reads (items of `htdag.files`) are in it too.

        Parameters
        ----------
        path : str or os.PathLike
            The file; its name ends with ``.tar``, ``.tar.gz`` or ``.tar.xz``. One that is there is
            replaced once the new one is whole.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        RunActive
            If the run has not ended.
        UsageError
            If the name ends otherwise.

        Examples
        --------
        >>> import htdag
        >>> htdag.load("survey").export("survey.tar.xz")  # doctest: +SKIP
        """
        return self._manager.export(path)

    def delete(self) -> None:
        """Delete the run's directory, with its results.

        Raises
        ------
        RunActive
            If the run has not ended; remove it first.

        Examples
        --------
        >>> import htdag
        >>> for run in htdag.runs("trial-*"):
        ...     run.delete()
        """
        self._manager.delete()

    def size(self) -> int:
        """Tell how much of the disk its directory occupies, without what links lead to.

        Returns
        -------
        int
            Bytes.

        Examples
        --------
        >>> import htdag
        >>> sum(run.size() for run in htdag.runs("survey-*"))
        0
        """
        return self._manager.size()

    @property
    def transient(self) -> bool:
        """Whether its tag was made up by htdag; a run that was given one, or got one, is kept."""
        return self._manager.transient

    @property
    def changed(self) -> datetime:
        """When anything was last written to its directory itself, in local time.

        Of a run that has ended, that is about when it ended.
        """
        return self._manager.changed

    def __repr__(self) -> str:
        return f"<htdag.Run {self.tag!r} in {str(self.path)!r}>"

    # For the command line

    def _printed(self, stage: str, key: str | None, which: str) -> bytes:
        return self._output.printed(stage, key, which)

    def _groups(self, stage: str | Stage | None) -> list[ErrorGroup]:
        return self._errors.groups(stage)

    def _with_examples(self, groups: Sequence[ErrorGroup]) -> list[ErrorGroup]:
        return self._errors.with_examples(groups)

    def _repr_html_(self) -> str:
        return self._waiter.html()
