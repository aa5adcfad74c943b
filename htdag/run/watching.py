"""Wait for runs, and look at how far they have come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from shlex import quote
from typing import TypeVar

from htdag import _checks
from htdag._logging import LOGGER
from htdag._warn import is_terminal, say, warn
from htdag.backends.base import HOW_TO_START, RunState
from htdag.errors import BackendError, FinalFailed, NotDone, RunFailed, RunHeld, UsageError
from htdag.observe import outcomes
from htdag.observe.reasons import unmatched
from htdag.observe.status import Status
from htdag.run.troubles import Troubles
from htdag.runtime import progress as progress_of

_Self = TypeVar("_Self", bound="Watching")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
_IDLE_FOR, _ASK_EVERY = 60.0, 180.0  # seconds


class Watching(Troubles):
    """The state of a run, and waiting for it."""

    _displayed_in: int | None = None
    """The cell of a notebook in which `wait` has shown the progress."""

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
        if ask and not self._is_imported:
            ticket = self._ticket()
            self._backend(ticket["backend"]).jobs(self.path, ticket["ticket"], True)
        status = self._reader.read(self.tag, self.backend_name, self._activity())
        if status.state is not RunState.RUNNING or self._around is not None:
            return status
        return replace(status, notes=(*status.notes, *self._unmatched(time.time())))

    def _unmatched(self, now: float) -> tuple[str, ...]:
        """Return which jobs wait for what no slot of the pool has.

        The pool is asked when jobs have been idle for a minute, and then every few minutes.
        """
        if now < self._next_question:
            return self._answers
        self._next_question, self._answers = now + _IDLE_FOR, ()
        ticket = self._ticket()
        backend = self._backend(ticket["backend"])
        jobs = backend.jobs(self.path, ticket["ticket"], False)
        idle = (job for job in jobs if job.state == "idle" and not job.slot)
        if any(now - job.since > _IDLE_FOR for job in idle):
            self._next_question = now + _ASK_EVERY
            try:
                facts = backend.facts(self.path, ticket["ticket"])
            except BackendError as error:
                LOGGER.info("run %r: why jobs wait is not known: %s", self.tag, error)
                return ()
            found = unmatched(facts, jobs, quote(self.tag), now)
            self._answers = tuple(f"{each.about}: {each.why}. {each.remedy}" for each in found)
        return self._answers

    _next_question = 0.0
    _answers: tuple[str, ...] = ()

    def wait(
        self: _Self,
        timeout: float | timedelta | None = None,
        progress: bool | None = None,
        *,
        errors_ok: bool = False,
        holds_ok: bool = False,
        until: str = "end",
    ) -> _Self:
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
        try:
            return self._wait(timeout, progress, until, errors_ok, holds_ok)
        except KeyboardInterrupt:
            tag = quote(self.tag)
            raise KeyboardInterrupt(
                f"the run {self.tag!r} goes on; to wait again: htdag wait {tag}, "
                f"to end it: htdag remove {tag}"
            ) from None

    def _wait(
        self: _Self,
        timeout: float | timedelta | None,
        progress: bool | None,
        until: str,
        errors_ok: bool,
        holds_ok: bool,
    ) -> _Self:
        from htdag.show import notebook
        from htdag.show.progress import Display

        if until not in ("end", "first error"):
            raise UsageError(f"until={_checks.shown(until)}: it takes 'end' or 'first error'")
        shown = (is_terminal() or notebook.is_here()) if progress is None else progress
        self._displayed_in = notebook.cell_number() if shown else None
        with Display(shown) as display:
            for _ in looks(timeout):
                status = self.status()
                display.update(status)
                if status.state.ended:
                    self._remember(again=True, done=status.state is RunState.DONE)
                    self._warn_of_final()
                    self._say_differences()
                    if not shown:
                        self._say_let_go(status)
                if status.state is RunState.DONE or (errors_ok and status.state.ended):
                    return self
                if status.state.ended:
                    raise RunFailed(self._failure(status), self.errors())
                if until == "first error" and any(stage.failed for stage in status.stages):
                    raise RunFailed(self._failure(status), self.errors())
                if status.state is RunState.HELD and not holds_ok:
                    raise RunHeld(held_text(status))
        raise NotDone(f"run {self.tag!r} is {status.state.value}, not done yet")

    def _say_let_go(self, status: Status) -> None:
        """Say once which items were let go, before anyone takes the result for whole."""
        for note in status.notes:
            if note not in self._said and note.startswith("node ") and "let go" in note:
                self._said.add(note)
                say(f"htdag: {note}")

    def _warn_of_final(self) -> None:
        calls = self.final()
        if calls and calls[-1].error:
            text = f"run {self.tag!r}: {calls[-1]}; run.final() has its output"
            warn(text, FinalFailed)

    def _repr_html_(self) -> str:
        """Show how far it has come where a notebook shows a value."""
        from htdag.show import notebook

        if self._displayed_in is not None and self._displayed_in == notebook.cell_number():
            return notebook.tag_html(self.tag)  # its bars are in the output of this cell already
        return notebook.status_html(self.status())

    def _await(self, target: str, timeout: float | timedelta | None) -> None:
        """Wait until a target is complete; other parts of the run may still be under way."""
        node = self._plan["by_name"][outcomes.stage_entry(self._plan, target)["where"]]
        for _ in looks(timeout):
            activity = self._activity()
            if activity.state is RunState.DONE:
                self._remember(done=True)
                return
            if all(state.complete for state in progress_of.examine(str(self.path), node)):
                return
            if activity.state.ended:
                raise RunFailed(self._failure(self.status()), self.errors())
            if activity.state is RunState.HELD:
                raise RunHeld(held_text(self.status()))
        raise NotDone(
            f"run {self.tag!r} is {activity.state.value}: the result of {target!r} is not there "
            f"yet; give result a timeout in seconds, or None to wait for it"
        )

    def _failure(self, status: Status) -> str:
        errors = self.errors()
        what = f"run {self.tag!r} {_ENDINGS.get(status.state, 'has errors, and goes on')}"
        if status.reason:
            what += f" ({status.reason})"
        if errors:
            first = errors[0]
            more = f", the first of {len(errors)} errors" if len(errors) > 1 else ""
            what += f": {first}{more}"
            if first.traceback:
                what += "\n\n" + first.traceback.rstrip()
        elif status.state is RunState.FAILED:
            what += (
                ": a job was removed, evicted or killed before it did anything, or never started, "
                "so no function left an error"
            )
        tag = quote(self.tag)
        return what + (
            f"\n\nMore: run.errors() or `htdag errors {tag}`. Once mended: run.resume() or "
            f"`htdag resume {tag}`, with a corrected script `htdag resume {tag} --script`; what is "
            f"done is kept. Files: {self.path}"
        )


_ENDINGS = {
    RunState.FAILED: "failed",
    RunState.REMOVED: "was removed",
    RunState.STOPPED: "was stopped from outside",
    RunState.DONE: "is done",
}


def held_text(status: Status) -> str:
    held = "\n".join(status.held) or status.reason
    if held.endswith(HOW_TO_START):
        return f"run {status.tag!r} is on hold, and goes on from where it is: {held}"
    tag = quote(status.tag)
    return (
        f"run {status.tag!r} is on hold: HTCondor waits for a person.\n{held}\n"
        f"To let all of it go on: htdag release {tag}; to end it: htdag remove {tag}"
    )


def looks(timeout: float | timedelta | None) -> Iterator[None]:
    """Yield when it is time to look, at least once, at growing intervals, until the time is up."""
    limit = None if timeout is None else time.monotonic() + _checks.seconds(timeout, "timeout")
    pause = _FIRST_PAUSE
    while True:
        yield
        left = float("inf") if limit is None else limit - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(pause, left))
        pause = min(pause * 1.02, _LONGEST_PAUSE)  # so about a fiftieth of the time is lost
