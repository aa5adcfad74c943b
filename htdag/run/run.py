"""The class `Run`: wait for a run, inspect it, get its results, resume it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

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
from htdag.run.directory import RunDirectory
from htdag.run.edit import Editor
from htdag.run.errors import Errors
from htdag.run.items import ItemStates
from htdag.run.jobs import JobControl
from htdag.run.manage import Manager
from htdag.run.output import Output
from htdag.run.replay import Debugger, Replay
from htdag.run.rerun import Rerun
from htdag.run.results import Results
from htdag.run.wait import Waiter
from htdag.stages import Stage


@translates
class Run:
    """One execution of a pipeline.

    `Pipeline.submit`, `load` and `runs` return it. All of a run is in its directory, so any process
    of the same user can use it, and several can do so at once.
    """

    def __init__(self, path: Path) -> None:
        self.directory = directory = RunDirectory(path)
        self._control = Control(directory)
        self._rerun = Rerun(directory, self._control)
        self._editing = Editor(directory)
        self._jobs = JobControl(directory, self._control, self._editing)
        self._items = ItemStates(directory, self._jobs)
        self._errors = Errors(directory)
        self._waiter = Waiter(directory, self._errors)
        self._results = Results(directory, self._errors, self._waiter)
        self._debugging = Debugger(directory)
        self._output = Output(directory)
        self._manager = Manager(directory)

    @property
    def tag(self) -> str:
        """The tag of the run."""
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
        """The time when the run was made, in local time."""
        return self.directory.created

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the target stages, whose results are kept."""
        return self.directory.targets

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of all stages, including sources and the stages that loops repeat."""
        return self.directory.stages

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of the DAGMan nodes that have jobs, including the FINAL node."""
        return self.directory.nodes

    @property
    def script(self) -> Mapping[str, Any] | None:
        """The command that started the script of the run; None for a notebook or a session.

        It has the keys ``file``, ``module`` (of ``python -m``, else None), ``arguments``,
        ``python`` (the program) and ``folder`` (the working directory).
        """
        return self.directory.script

    @property
    def backend_name(self) -> str:
        """The name of its backend: ``"condor"`` or ``"local"``."""
        return self.directory.backend_name

    @property
    def state(self) -> RunState:
        """The current state of the run as a whole."""
        return self.directory.state

    def status(self, ask: bool = False) -> Status:
        """Return counts of items by stage and state.

        Parameters
        ----------
        ask : bool
            Ask the schedd which jobs it has, in case the event log is late or incomplete. By
            default the counts are from the run's files alone, and the schedd is only asked now and
            then whether the run as a whole still exists.

        Returns
        -------
        Status
            Printing it shows a line per stage; ``status["name"]`` has the counts of one stage.

        Raises
        ------
        BackendError
            If `ask` is true and the schedd does not answer.

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
            How long to wait; None: forever; 0 or less: only check.
        progress : bool, optional
            Show the progress: a live display in a terminal, HTML in a notebook, or else a line now
            and then on stderr. None: only in a terminal or notebook.
        errors_ok : bool
            Return even if not all of the run succeeded; then `state` shows it.
        holds_ok : bool
            Keep waiting while jobs are on hold and no other job is running.
        until : {"end", "first error"}
            ``"first error"``: raise `RunFailed` as soon as a job reports a failed item; the run
            itself goes on.

        Returns
        -------
        Run
            The run itself, done.

        Raises
        ------
        RunFailed
            If it ended but not all of it succeeded, unless `errors_ok`; or at the first error.
        RunHeld
            If jobs are on hold and no other job is running, unless `holds_ok`.
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
        """Return the result of a target, or of all targets.

        Parameters
        ----------
        target : str or Stage, optional
            A target, or another stage whose values are on disk; by default all targets.
        timeout : float (seconds), timedelta or None
            How long to wait; by default not at all; None: forever.

        Returns
        -------
        object
            The value of a reduce, or the list of the stage's items, in order. If the run has
            several targets and none is given, a dict of all by name, as `Pipeline.run` returns it.

        Raises
        ------
        TimeoutError
            If the result is not complete in time.
        RunFailed
            If the run ended without it.

        Warns
        -----
        ItemsMissing
            If the result lacks items that failed and were skipped (``on_error="skip"``).

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
            A target, or another stage whose values are on disk; optional if there is only one
            target.
        errors : {"raise", "skip", "return"}
            What to do about failed items: raise `RunFailed` before the first item, skip them, or
            yield, after the others, an `Item` for each whose value is the `ItemError`.

        Yields
        ------
        Item
            With the attributes ``key``, ``value``, and ``source``: the source item that it is from.

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
        """Iterate over the items of a target as jobs complete them.

        Parameters
        ----------
        target : str or Stage, optional
            A target, or another stage whose values are on disk; optional if there is only one
            target.
        timeout : float (seconds) or timedelta, optional
            How long to wait for all items together; by default forever.
        errors : {"raise", "skip", "return"}
            What to do, after the last item, if the run has ended and items are missing: raise
            `RunFailed`, stop, or yield an `Item` for each error whose value is the `ItemError`.

        Yields
        ------
        Item
            In the order of completion; within a job in item order.

        Raises
        ------
        RunFailed, RunHeld
            After the last item, if the run does not produce all of them.
        TimeoutError
            If not all items are complete in time.

        Examples
        --------
        >>> for item in run.as_completed():  # doctest: +SKIP
        ...     print(item.key, item.value)
        """
        return self._results.as_completed(target, timeout=timeout, errors=errors)

    def get(
        self, target: str | Stage, key: str | int, timeout: float | timedelta | None = 0
    ) -> Any:
        """Return the value of one item, even while others are being computed.

        Parameters
        ----------
        target : str or Stage
            A target, or another stage whose values are on disk.
        key : str or int
            The key of the item.
        timeout : float (seconds), timedelta or None
            How long to wait; by default not at all; None: forever.

        Returns
        -------
        object
            The value.

        Raises
        ------
        TimeoutError
            If the item is not complete in time.
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

        Done and failed items come from the records of ended jobs, other states from the jobs that
        wait or run. On a shared file system, items that a running job has finished count as done.

        Parameters
        ----------
        stage : str
            The stage. Its items are those that its DAGMan node reads, so stages that share a node
            have the same items.
        ask : bool
            Ask the schedd, too. By default only files are read.
        round : int, optional
            For a stage in a loop, the round; by default the current one.

        Returns
        -------
        list of ItemState
            In the order of items, without those that are unknown because earlier stages have yet to
            make them.

        Raises
        ------
        UsageError
            If there is no such stage, or it is a source.
        BackendError
            If `ask` is true and the schedd does not answer.

        Examples
        --------
        >>> [item.key for item in run.item_states("fit") if item.state == "held"]  # doctest: +SKIP
        ['17', '18']
        """
        return self._items.item_states(stage, ask=ask, round=round)

    def usage(self, stage: str | None = None) -> list[JobUsage]:
        """Return the time, memory and disk that ended jobs have used.

        With ``chunk_size=1`` each of them had one item.

        Parameters
        ----------
        stage : str, optional
            Only the jobs of this stage.

        Returns
        -------
        list of JobUsage
            In the order of the plan, without jobs that were killed; for a loop, the jobs of all
            rounds.

        Examples
        --------
        >>> max(run.usage("fit"), key=lambda job: job.memory).key  # doctest: +SKIP
        '17'
        """
        return self._items.usage(stage)

    def errors(self, stage: str | Stage | None = None) -> list[ItemError]:
        """Return the errors, in the order of the pipeline.

        Parameters
        ----------
        stage : str or Stage, optional
            Only the errors of this stage; for a loop, those of all its stages.

        Returns
        -------
        list of ItemError
            The errors of the last attempt of each job; [] if nothing failed.
        """
        return self._errors.errors(stage)

    def error_groups(self, stage: str | Stage | None = None) -> list[ErrorGroup]:
        """Return the errors and held jobs, grouped by cause.

        Errors with the same traceback form one group if their messages differ only in numbers,
        quoted names and paths.

        Parameters
        ----------
        stage : str or Stage, optional
            Only the groups of this stage.

        Returns
        -------
        list of ErrorGroup
            The groups, those with the greatest loss of other work first; [] if nothing failed.

        Examples
        --------
        >>> for group in htdag.load("survey").error_groups():  # doctest: +SKIP
        ...     print(group, "on", *group.hosts)
        40 x ValueError in calibrate: no star in frame 7 on node3 node12
        """
        return self._errors.error_groups(stage)

    def missing(self, target: str | Stage | None = None) -> list[MissingItem]:
        """Return the items that a result lacks because they failed and were skipped.

        With ``on_error="skip"``, a run goes on without failed items. This lists them for all stages
        that the target depends on, even if the target is a single value, as from a reduce. For a
        run that has failed, it lists all failed items in these stages.

        Parameters
        ----------
        target : str or Stage, optional
            The name of a target; optional if there is only one.

        Returns
        -------
        list of MissingItem
            The items; [] if the result is complete.

        Examples
        --------
        >>> [(item.key, item.source) for item in run.missing()]  # doctest: +SKIP
        [('17', PosixPath('scan-17.fits'))]
        """
        return self._errors.missing(target)

    def final(self) -> list[FinalCall]:
        """Return the calls of the functions of `Pipeline.on_success` and `on_failure`.

        Returns
        -------
        list of FinalCall
            The calls, oldest first; [] if there were none. After a `resume` they are called again.
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
        """Repeat an item in this process, with its true input and function.

        The item passes through earlier stages of the same node, too. The run's files stay as they
        are; meanwhile the working directory is a scratch directory. Side effects of the functions
        are real.

        Parameters
        ----------
        stage : str
            The stage.
        key : str or int
            The item's key, as in `errors` and `items`.
        pdb : bool, optional
            Open Python's debugger where the function raised an exception. None: if stdin is a
            terminal.
        step : bool
            Open the debugger at the start of the stage's function.
        round : int, optional
            For a stage in a loop, the round; by default the last one.

        Returns
        -------
        Replay
            The item, the value that each stage returned, and the exception if there was one.

        Raises
        ------
        UsageError
            If there is no such stage or item.
        TimeoutError
            If the input of the item does not exist yet.

        Examples
        --------
        >>> print(htdag.load("survey").debug("calibrate", 7, pdb=False))  # doctest: +SKIP
        calibrate, item 7
          given: <ndarray of shape (512, 512), float64>
          calibrate raised: ZeroDivisionError: division by zero
        """
        return self._debugging.debug(stage, key, pdb=pdb, step=step, round=round)

    def stdout(self, stage: str, key: str | int | None = None, round: int | None = None) -> str:
        """Return the standard output of an item in a stage.

        Fused stages share their output. While the job is running, this is the output so far; on
        HTCondor without a shared file system, it is fetched from the execute point.

        Parameters
        ----------
        stage : str
            The stage.
        key : str or int, optional
            The item's key. None: the output of all jobs of the stage, in their order.
        round : int, optional
            For a stage in a loop, the round; by default the last one in which the stage ran.

        Returns
        -------
        str
            The output of the last attempt at the item. The output of a running job since its last
            finished item counts for each later item, since it cannot be assigned yet.

        Raises
        ------
        TimeoutError
            If no job has started the item yet.
        UsageError
            If there is no such stage or item.

        Examples
        --------
        >>> print(run.stdout("fit", 7))  # doctest: +SKIP
        """
        return self._output.stdout(stage, key, round)

    def stderr(self, stage: str, key: str | int | None = None, round: int | None = None) -> str:
        """Return the standard error of an item in a stage, such as the output of logging.

        If the item failed, its traceback follows.

        Parameters
        ----------
        stage, key, round
            As for `stdout`.

        Returns
        -------
        str
            As for `stdout`.

        Raises
        ------
        TimeoutError, UsageError
            As for `stdout`.

        Examples
        --------
        >>> print(run.stderr("fit", 7))  # doctest: +SKIP
        """
        return self._output.stderr(stage, key, round)

    def why(self) -> list[Reason]:
        """Return why the run does not progress, or not faster, and what to do.

        Reasons are, for example, jobs on hold, requests that no slot can meet, users with a better
        priority, and nodes that wait for others. They come from the schedd and the pool's collector
        or, if these do not answer, from the run's files.

        Returns
        -------
        list of Reason
            The reasons; [] if all that can run is running.

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
            Ask the schedd, too. By default only the event log is read. If the two differ, the newer
            information counts: jobs that the schedd no longer has are omitted.

        Returns
        -------
        list of JobState
            The jobs; [] if none are in the queue.

        Raises
        ------
        BackendError
            If `ask` is true and the schedd does not answer.

        Examples
        --------
        >>> [job.state for job in run.jobs("work")]  # doctest: +SKIP
        ['running', 'idle']
        """
        return self._jobs.jobs(stage, ask)

    def hold(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """Put jobs on hold: running ones end, and none starts until `release`.

        When held jobs are released, they start again with all items of their attempt. Without
        `keys`, jobs that are not in the queue yet are submitted on hold, too.

        Parameters
        ----------
        stage : str, optional
            Only the jobs of this stage, or DAGMan node.
        keys : iterable of str, optional
            Only the jobs with these items of the stage; other items of these jobs wait, too.

        Returns
        -------
        int
            How many jobs in the queue were put on hold.

        Raises
        ------
        RunEnded
            If the run has ended.
        UsageError
            If it runs on this machine; use `pause` there.
        """
        return self._jobs.hold(stage, keys)

    def release(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """Release held jobs, whoever held them.

        For the whole run, this also undoes `halt`; if the run has ended because it was halted, it
        is resumed.

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
            If the run has ended for another reason.
        """
        return self._jobs.release(stage, keys)

    def pause(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """Suspend running jobs, with all that they have in memory, until `continue_`.

        They keep their slots. HTCondor calls this suspend. On HTCondor, waiting jobs do not start
        until then, either, nor (without `keys`) do jobs that are not in the queue yet.

        Parameters
        ----------
        stage, keys
            As for `hold`.

        Returns
        -------
        int
            How many jobs in the queue were paused.

        Raises
        ------
        RunEnded
            If the run has ended.
        """
        return self._jobs.pause(stage, keys)

    def continue_(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """Continue paused (suspended) jobs; the arguments are those of `pause`."""
        return self._jobs.continue_(stage, keys)

    def vacate(self, stage: str | None = None, keys: Iterable[str] | None = None) -> int:
        """End running jobs, and let them start again; this does not count as an attempt.

        Parameters
        ----------
        stage, keys
            As for `hold`; only running jobs are affected.

        Returns
        -------
        int
            How many jobs have to start again.

        Raises
        ------
        RunEnded
            If the run has ended.
        UsageError
            If it runs on this machine.
        """
        return self._jobs.vacate(stage, keys)

    def halt(self) -> None:
        """Start no further nodes. Jobs that are in the queue run to their end.

        If all of them have ended before `unhalt`, the run ends, too, as DAGMan does then: its state
        is ``stopped``, and `unhalt` or `resume` continues it.

        Raises
        ------
        RunEnded
            If the run has ended.
        """
        self._jobs.halt()

    def unhalt(self) -> None:
        """Undo `halt`, so that further nodes start. A run that has ended meanwhile is resumed.

        Raises
        ------
        RunEnded
            If the run has ended for another reason.
        """
        self._jobs.unhalt()

    def priority(self, number: int, stage: str | None = None) -> int:
        """Change the priority of jobs among all your jobs; higher ones start first.

        The priority also applies to later attempts and to `resume`.

        Parameters
        ----------
        number : int
            HTCondor's job priority; the default of jobs is 0.
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
        """Change the requests of the jobs of a stage.

        The change applies to jobs that wait, are on hold or are not in the queue yet, to later
        attempts, and to `resume`. Running jobs stay as they are, but if they have to start again,
        it applies to them, too. Held jobs stay on hold until `release`.

        Parameters
        ----------
        stage : str, optional
            The stage, or DAGMan node; None: all of them.
        request_memory : str or int, optional
            Such as ``"4GB"``, or a number of MB.
        request_disk : str or int, optional
            Such as ``"20GB"``, or a number of KB.
        time : str, float (seconds) or timedelta, optional
            How long a job may run before HTCondor puts it on hold, such as ``"2h"``, in the form of
            the option `allowed_job_duration`.
        attributes : mapping, optional
            Other attributes of the jobs' ads, such as ``{"RequestCpus": 4}``. Strings are ClassAd
            expressions.
        transfer_files : bool
            Transfer files even if the file system seems to be shared.

        Returns
        -------
        int
            How many jobs in the queue were changed.

        Raises
        ------
        OptionError
            If a value is not valid.
        UsageError
            If there is nothing to change, or the run is on this machine.
        BackendError
            If HTCondor refuses the change; then nothing is changed.

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
        """Continue a run that failed, was removed or was killed.

        Finished items are not computed again, unless their files are damaged. On HTCondor this uses
        a rescue DAG.

        Returns
        -------
        Run
            The run itself, running again.

        Raises
        ------
        RunActive
            If it has not ended, or another process is about to resume it.
        UsageError
            If it runs on this machine, and its Python has another minor version than this one.
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
        """Compute a run again, or a part of it, with the same functions and items.

        The old results stay until the new run has been written, and then in the folder ``replaced``
        of its directory until it is done.

        Parameters
        ----------
        stage : str, optional
            Only this stage, those that share its jobs, and all that depend on it.
        keys : iterable of str or int, optional
            Only the items with these keys, of `stage` or else of all stages with such items. Later
            stages recompute the items whose inputs change.
        errors : bool
            Only the failed items, including those that ``on_error="skip"`` skipped; later stages as
            for `keys`.

        Returns
        -------
        Run
            The run itself, running again.

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
        """End the run; finished items are kept, and `resume` can continue it.

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
        """Handle Ctrl-C in `Pipeline.run`: stop a local run, leave others alone, and say so."""
        self._control.interrupted()

    def retag(self, tag: str) -> Run:
        """Give the run another tag; its directory is renamed.

        Parameters
        ----------
        tag : str
            The new tag.

        Returns
        -------
        Run
            The run itself.

        Raises
        ------
        StageNameError
            If another run has this tag, or it is not a valid tag.
        RunActive
            If it has not ended: DAGMan works in its directory, so that must keep its name.

        Examples
        --------
        >>> import htdag
        >>> htdag.load("walks-20261125-103000").retag("walks")  # doctest: +SKIP
        """
        self._manager.retag(tag)
        return self

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Write the whole run to one file, for `htdag.import_run` elsewhere.

        The file includes the user's files that the run reads (items of `htdag.files`).

        Parameters
        ----------
        path : str or os.PathLike
            The file; its name ends with ``.tar``, ``.tar.gz`` or ``.tar.xz``. An existing file is
            replaced when the new one is complete.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        RunActive
            If the run has not ended.
        UsageError
            If the name has another suffix.

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
        """Return how much disk space its directory occupies, without the targets of links.

        Returns
        -------
        int
            The size in bytes.

        Examples
        --------
        >>> import htdag
        >>> sum(run.size() for run in htdag.runs("survey-*"))
        0
        """
        return self._manager.size()

    @property
    def transient(self) -> bool:
        """Whether htdag made up its tag, so that `htdag.clean` deletes it by default."""
        return self._manager.transient

    @property
    def changed(self) -> datetime:
        """The time of the last change in the run's directory itself, in local time.

        For a run that has ended, this is about when it ended.
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
