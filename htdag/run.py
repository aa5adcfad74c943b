"""Runs: wait for them, look at them, take their results, go on with them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import Any

from htdag import _settings, backends, history
from htdag.backends import Backend
from htdag.backends.base import HOW_TO_START, Activity, RunState
from htdag.errors import (
    NotDone,
    RunActive,
    RunDamaged,
    RunFailed,
    RunHeld,
    RunNotFound,
    UsageError,
)
from htdag.observe import failures, outcomes
from htdag.observe.failures import ItemError
from htdag.observe.outcomes import Item
from htdag.observe.status import Reader, Status
from htdag.runtime import layout, progress, streams

__all__ = ["Item", "ItemError", "Run", "RunState", "Status"]

_TICKET = "submit.json"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5


class Run:
    """One execution of a pipeline.

    Made by `Pipeline.submit`, `load` and `runs`. All that a run is lies in its directory, so any
    process of the same user can look at it, and several may at once.

    Attributes
    ----------
    tag : str
        The run's name.
    path : pathlib.Path
        Its directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        manifest = _read_json(path / layout.RUN)
        if manifest is None:
            raise RunNotFound(f"there is no run in {str(path)!r}")
        missing = {"tag", "pipeline", "dag", "created", "targets"} - set(manifest)
        if missing:
            raise RunDamaged(f"{str(path / layout.RUN)!r} lacks {', '.join(sorted(missing))}")
        self._manifest = manifest
        self.tag: str = manifest["tag"]

    @classmethod
    def start(cls, path: Path, backend: Backend) -> Run:
        """Submit a run directory that was just written; where that fails, remove it again."""
        import shutil

        run = cls(path)
        try:
            run._submit(backend)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return run

    def _submit(self, backend: Backend) -> None:
        before = (_read_json(self.path / _TICKET) or {}).get("ticket")
        ticket = backend.submit(self.path, self._manifest["dag"], before)
        content = {"backend": backend.name, "time": time.time(), "ticket": ticket}
        layout.write_aside(str(self.path / _TICKET), json.dumps(content).encode())
        self.__dict__.pop("_reader", None)

    # What it is

    @property
    def pipeline_name(self) -> str:
        """The name of the pipeline."""
        return str(self._manifest["pipeline"])

    @property
    def created(self) -> datetime:
        """When the run was made, in local time."""
        return datetime.fromtimestamp(self._manifest["created"]).astimezone()

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the stages whose results were asked for."""
        return tuple(self._manifest["targets"])

    @property
    def backend_name(self) -> str:
        """Where it runs: ``"condor"`` or ``"local"``."""
        return str(self._ticket()["backend"])

    @property
    def state(self) -> RunState:
        """The state of the run as a whole, read anew."""
        return self._activity().state

    def _ticket(self) -> dict[str, Any]:
        content = _read_json(self.path / _TICKET)
        if content is None:
            raise RunNotFound(f"the run {self.tag!r} was written, but never submitted")
        return content

    def _activity(self) -> Activity:
        ticket = self._ticket()
        return self._backend(ticket["backend"]).activity(self.path, ticket["ticket"])

    def _backend(self, name: str) -> Backend:
        if self._backend_in_use is None or self._backend_in_use.name != name:
            self._backend_in_use = backends.backend(name)
        return self._backend_in_use

    _backend_in_use: Backend | None = None

    @cached_property
    def _plan(self) -> dict[str, Any]:
        try:
            return progress.read_plan(str(self.path))
        except (FileNotFoundError, ValueError) as error:
            raise RunDamaged(f"run {self.tag!r}: {layout.PLAN} cannot be read: {error}") from error

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self.path, self._plan)

    # Waiting and looking

    def status(self) -> Status:
        """Return counts by stage and by the state of items.

        Returns
        -------
        Status
            Printing it gives a line a stage; ``status["name"]`` is one stage's counts.
        """
        return self._reader.read(self.tag, self.backend_name, self._activity())

    def wait(self, timeout: float | timedelta | None = None, progress: bool | None = None) -> Run:
        """Wait until the run has ended.

        Parameters
        ----------
        timeout : float (seconds) or timedelta, optional
            None waits for ever; 0 or less only looks.
        progress : bool, optional
            Show the progress on stderr: a live display in a terminal, else a line now and then.
            None: in a terminal only.

        Returns
        -------
        Run
            The run itself, done.

        Raises
        ------
        RunFailed
            If it ended and not all of it succeeded.
        RunHeld
            If jobs are on hold and nothing else is under way.
        TimeoutError
            If it has not ended in time.
        """
        from htdag.show.progress import Display

        shown = sys.stderr.isatty() if progress is None else progress
        with Display(shown) as display:
            for _ in _looks(timeout):
                status = self.status()
                display.update(status)
                if status.state.ended:
                    self._remember(again=True)
                    self._say_differences()
                if status.state is RunState.DONE:
                    return self
                if status.state.ended:
                    raise RunFailed(self._failure(status), self.errors())
                if status.state is RunState.HELD:
                    raise RunHeld(_held_text(status))
        raise NotDone(f"run {self.tag!r} is {status.state.value}, not done yet")

    def result(self, target: str | None = None, timeout: float | timedelta | None = 0) -> Any:
        """Return the result of a target.

        Parameters
        ----------
        target : str, optional
            The name of a target; not needed where there is only one.
        timeout : float (seconds), timedelta or None
            How long to wait for it; by default not at all, None for ever.

        Returns
        -------
        object
            The value of a reduce, else the list of the stage's items, in order.

        Raises
        ------
        TimeoutError
            If the result is not there in time.
        RunFailed
            If the run ended without it.
        """
        name = self._target(target)
        entry = outcomes.stage_entry(self._plan, name)
        self._await(name, timeout)
        values = (
            outcomes.load_value(frame, self.path)
            for _, frame in outcomes.stage_values(self.path, self._plan, name, whole=True)
        )
        return next(values) if entry["one"] else list(values)

    def items(self, target: str | None = None, errors: str = "raise") -> Iterator[Item]:
        """Iterate over the items of a target in order, one in memory at a time.

        Parameters
        ----------
        target : str, optional
            The name of a target; not needed where there is only one.
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
        """
        if errors not in ("raise", "skip", "return"):
            raise UsageError(f"errors={errors!r}: it takes 'raise', 'skip' or 'return'")
        name = self._target(target)
        if errors == "raise":
            self._await(name, 0)
        elif not self.state.ended:
            raise NotDone(f"run {self.tag!r} is {self.state.value}; wait for it first")
        return self._items(name, errors)

    def _items(self, name: str, errors: str) -> Iterator[Item]:
        sources, root = self._origin(name)
        for _, frame in outcomes.stage_values(self.path, self._plan, name, whole=errors == "raise"):
            yield _item(frame, self.path, sources, root)
        if errors == "return":
            for error in self.errors():
                origin = None if root is None or not error.key else (sources, root)
                yield Item(error.key or "", error, origin)

    def as_completed(self, target: str | None = None) -> Iterator[Item]:
        """Iterate over the items of a target as the jobs that make them end.

        Parameters
        ----------
        target : str, optional
            The name of a target; not needed where there is only one.

        Yields
        ------
        Item
            In the order of completion; within a job in item order.

        Raises
        ------
        RunFailed, RunHeld
            After the last item that there is, if the run does not give all of them.
        """
        name = self._target(target)
        return self._as_completed(name)

    def _as_completed(self, name: str) -> Iterator[Item]:
        sources, root = self._origin(name)
        node = self._plan["by_name"][outcomes.stage_entry(self._plan, name)["where"]]
        given: set[int] = set()
        for _ in _looks(None):
            status = self.status()
            # At the end also what failed items left of chunks, if they were let go.
            whole = status.state is not RunState.DONE
            fresh = [
                state
                for state in progress.examine(str(self.path), node)
                if state.number not in given and (state.complete or not whole)
            ]
            for state in fresh:
                given.add(state.number)
                attempts = [attempt.number for attempt in state.attempts]
                for frame in outcomes.chunk_frames(
                    self.path, self._plan, name, state.number, attempts
                ):
                    yield _item(frame, self.path, sources, root)
            if len(given) == streams.chunks(str(self.path), node):
                return
            if status.state.ended and not fresh:
                raise RunFailed(self._failure(status), self.errors())
            if status.state is RunState.HELD and not fresh:
                raise RunHeld(_held_text(status))

    def errors(self, stage: str | None = None) -> list[ItemError]:
        """Return what failed, in the order of the pipeline.

        Parameters
        ----------
        stage : str, optional
            Only the errors of this stage.

        Returns
        -------
        list of ItemError
            The errors of the last attempt of each job; [] where nothing failed.
        """
        if stage is not None:
            self._stage(stage)
        return list(failures.errors(self.path, self._plan, stage))

    def stdout(self, stage: str, key: str) -> str:
        """Return what an item printed while the jobs of a stage worked on it.

        Stages that are fused share their output.

        Parameters
        ----------
        stage : str
            The stage.
        key : str
            The item's key.

        Raises
        ------
        TimeoutError
            If no job of the stage has run yet.
        """
        return self._stream(stage, key, "out")

    def stderr(self, stage: str, key: str) -> str:
        """Return what an item wrote to standard error; as `stdout`."""
        return self._stream(stage, key, "err")

    def _stream(self, stage: str, key: str, which: str) -> str:
        self._stage(stage)
        text = failures.printed(self.path, self._plan, stage, str(key), which)
        if text is None:
            raise NotDone(f"run {self.tag!r}: no job of stage {stage!r} has run yet")
        return text

    # Going on and ending

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
            If it has not ended.
        """
        activity = self._activity()
        if not activity.state.ended:
            if activity.reason.endswith(HOW_TO_START):
                raise RunActive(f"run {self.tag!r} goes on by itself: {activity.reason}")
            raise RunActive(
                f"run {self.tag!r} is {activity.state.value}: there is nothing to resume; "
                f"to begin anew from what is there, remove it first"
            )
        if activity.state is RunState.DONE and all(
            state.complete
            for node in self._plan["nodes"]
            for state in progress.examine(str(self.path), node, verify=True)
        ):
            return self
        self._discard_damaged()
        self._submit(self._backend(self.backend_name))
        return self

    def _discard_damaged(self) -> None:
        """Set aside the records of outcomes that are damaged, so that they are made again."""
        for node in self._plan["nodes"]:
            progress.close_killed(str(self.path), node)
            progress.discard_damaged(str(self.path), node)

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
        """
        ticket = self._ticket()
        self._backend(ticket["backend"]).remove(self.path, ticket["ticket"], force)

    def interrupted(self) -> None:
        """Do what Ctrl-C means for a run that was started by `Pipeline.run`, and say so."""
        if self.backend_name == "local":
            self.remove()
            state = "stopped; what is done is kept"
        else:
            state = "goes on; htdag remove would end it"
        print(
            f"\nhtdag: interrupted. The run {state}. "
            f"Go on with: htdag {'resume' if 'stopped' in state else 'wait'} {quote(self.tag)}",
            file=sys.stderr,
        )

    # Within

    def _target(self, target: str | None) -> str:
        if target is None:
            if len(self.targets) > 1:
                raise UsageError(
                    f"run {self.tag!r} has several targets, name one: {', '.join(self.targets)}"
                )
            return self.targets[0]
        if target not in self.targets:
            raise UsageError(
                f"run {self.tag!r} has no target {target!r}; it has: {', '.join(self.targets)}"
            )
        return target

    def _stage(self, stage: str) -> None:
        names = [entry["name"] for entry in self._plan["stages"]]
        if stage not in names:
            raise UsageError(f"run {self.tag!r} has no stage {stage!r}; it has: {', '.join(names)}")

    def _await(self, target: str, timeout: float | timedelta | None) -> None:
        """Wait until a target is complete; other parts of the run may still be under way."""
        node = self._plan["by_name"][outcomes.stage_entry(self._plan, target)["where"]]
        for _ in _looks(timeout):
            activity = self._activity()
            if activity.state is RunState.DONE:
                self._remember()
                return
            if all(state.complete for state in progress.examine(str(self.path), node)):
                return
            if activity.state.ended:
                raise RunFailed(self._failure(self.status()), self.errors())
            if activity.state is RunState.HELD:
                raise RunHeld(_held_text(self.status()))
        raise NotDone(
            f"run {self.tag!r} is {activity.state.value}: the result of {target!r} is not there "
            f"yet; give result a timeout in seconds, or None to wait for it"
        )

    def _remember(self, again: bool = False) -> None:
        """Keep what the run has measured for later plans."""
        if _settings.use_history(None):
            history.gather(self.path, again=again)

    def _say_differences(self) -> None:
        """Say once in which packages the environments of jobs differ from that of the script."""
        found = failures.differences(self.path, self._plan)
        if found and not self._said_differences:
            print(f"htdag: other versions of packages: {found}", file=sys.stderr)
        self._said_differences = True

    _said_differences = False

    def _origin(self, target: str) -> tuple[outcomes.Sources, str | None]:
        sources = outcomes.Sources(self.path, self._plan)
        where = outcomes.stage_entry(self._plan, target)["where"]
        return sources, sources.root(self._plan["by_name"][where])

    def _failure(self, status: Status) -> str:
        errors = self.errors()
        what = f"run {self.tag!r} {_ENDINGS[status.state]}"
        if status.reason:
            what += f" ({status.reason})"
        if errors:
            first = errors[0]
            more = f", the first of {len(errors)} errors" if len(errors) > 1 else ""
            what += f": {first}{more}"
            if first.traceback:
                what += "\n\n" + first.traceback.rstrip()
        tag = quote(self.tag)
        return what + (
            f"\n\nMore: run.errors() or `htdag errors {tag}`. Once mended: run.resume() or "
            f"`htdag resume {tag}`; what is done is kept. Files: {self.path}"
        )

    def __repr__(self) -> str:
        return f"<htdag.Run {self.tag!r} in {str(self.path)!r}>"


_ENDINGS = {
    RunState.FAILED: "failed",
    RunState.REMOVED: "was removed",
    RunState.STOPPED: "was stopped from outside",
    RunState.DONE: "is done",
}


def _item(frame: Any, path: Path, sources: outcomes.Sources, root: str | None) -> Item:
    origin = None if root is None else (sources, root)
    return Item(frame.key, outcomes.load_value(frame, path), origin)


def _held_text(status: Status) -> str:
    held = "\n".join(status.held) or status.reason
    if held.endswith(HOW_TO_START):
        return f"run {status.tag!r} is on hold, and goes on from where it is: {held}"
    return (
        f"run {status.tag!r} is on hold: HTCondor waits for a person.\n{held}\n"
        f"Mend the cause and use condor_release; or htdag remove {quote(status.tag)}, then resume"
    )


def _looks(timeout: float | timedelta | None) -> Iterator[None]:
    """Yield when it is time to look, at least once, at growing intervals, until the time is up."""
    limit = None if timeout is None else time.monotonic() + _seconds(timeout)
    pause = _FIRST_PAUSE
    while True:
        yield
        left = float("inf") if limit is None else limit - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(pause, left))
        pause = min(pause * 1.02, _LONGEST_PAUSE)  # so about a fiftieth of the time is lost


def _seconds(timeout: float | timedelta) -> float:
    if isinstance(timeout, timedelta):
        return timeout.total_seconds()
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise UsageError(f"timeout={timeout!r}: it takes seconds, a timedelta or None")
    return float(timeout)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise RunDamaged(f"{str(path)!r} cannot be read: {error}") from error
    return content
