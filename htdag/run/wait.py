"""Wait for a run, and read its status."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from shlex import quote

from htdag.backends.base import HOW_TO_START, RunState
from htdag.checks import validation
from htdag.common.warn import is_terminal, say, warn
from htdag.config.log import LOGGER
from htdag.errors import BackendError, FinalFailed, NotDone, RunFailed, RunHeld, UsageError
from htdag.observe import outcomes
from htdag.observe.diagnosis import unmatched
from htdag.observe.status import Status
from htdag.run.directory import RunDirectory
from htdag.run.errors import Errors
from htdag.runtime.dag import progress as progress_of

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
_IDLE_FOR, _ASK_INTERVAL = 60.0, 180.0  # seconds


class Waiter:
    """The part of a run that waits for it and reads its status."""

    def __init__(self, run: RunDirectory, errors: Errors) -> None:
        self._run = run
        self._errors = errors

    _displayed_in: int | None = None
    """The number of the notebook cell in which `wait` has shown the progress."""

    def status(self, ask: bool = False) -> Status:
        """Return counts of items by stage and state."""
        if ask and not self._run.is_imported:
            self._run.submission().jobs(ask=True)
        status = self._run.reader.read(self._run.tag, self._run.backend_name, self._run.activity())
        if status.state is not RunState.RUNNING or self._run.parent is not None:
            return status
        return replace(status, notes=(*status.notes, *self._unmatched(time.time())))

    def _unmatched(self, now: float) -> tuple[str, ...]:
        """Return notes about jobs whose requests no slot of the pool can meet.

        The pool is queried when jobs have been idle for a minute, and then every few minutes.
        """
        if now < self._next_query:
            return self._unmatched_notes
        self._next_query, self._unmatched_notes = now + _IDLE_FOR, ()
        submission = self._run.submission()
        jobs = submission.jobs(ask=False)
        idle = (job for job in jobs if job.state == "idle" and not job.slot)
        if any(now - job.since > _IDLE_FOR for job in idle):
            self._next_query = now + _ASK_INTERVAL
            try:
                facts = submission.facts()
            except BackendError as error:
                LOGGER.info("run %r: cannot find out why jobs wait: %s", self._run.tag, error)
                return ()
            reasons = unmatched(facts, jobs, quote(self._run.tag), now)
            self._unmatched_notes = tuple(
                f"{each.about}: {each.why}. {each.remedy}" for each in reasons
            )
        return self._unmatched_notes

    _next_query = 0.0
    _unmatched_notes: tuple[str, ...] = ()

    def wait(
        self,
        timeout: float | timedelta | None = None,
        progress: bool | None = None,
        *,
        errors_ok: bool = False,
        holds_ok: bool = False,
        until: str = "end",
    ) -> None:
        """Wait until the run has ended."""
        try:
            self._wait(timeout, progress, until, errors_ok, holds_ok)
        except KeyboardInterrupt:
            tag = quote(self._run.tag)
            raise KeyboardInterrupt(
                f"the run {self._run.tag!r} goes on; to wait again: htdag wait {tag}, "
                f"to end it: htdag remove {tag}"
            ) from None

    def _wait(
        self,
        timeout: float | timedelta | None,
        progress: bool | None,
        until: str,
        errors_ok: bool,
        holds_ok: bool,
    ) -> None:
        from htdag.show import notebook
        from htdag.show.progress import Display

        if until not in ("end", "first error"):
            raise UsageError(f"until={validation.shown(until)}: it takes 'end' or 'first error'")
        shown = (is_terminal() or notebook.is_notebook()) if progress is None else progress
        self._displayed_in = notebook.cell_number() if shown else None
        with Display(shown) as display:
            for _ in poll_intervals(timeout):
                status = self.status()
                display.update(status)
                if status.state.ended:
                    self._run.gather(again=True, done=status.state is RunState.DONE)
                    self._warn_of_final()
                    self._errors.say_differences()
                    if not shown:
                        self._report_skipped(status)
                if status.state is RunState.DONE or (errors_ok and status.state.ended):
                    return
                if status.state.ended:
                    raise RunFailed(self.failure(status), self._errors.errors())
                if until == "first error" and any(stage.failed for stage in status.stages):
                    raise RunFailed(self.failure(status), self._errors.errors())
                if status.state is RunState.HELD and not holds_ok:
                    raise RunHeld(held_text(status))
        state = self.status().state.value
        raise NotDone(f"run {self._run.tag!r} is {state}, not done yet")

    def _report_skipped(self, status: Status) -> None:
        """Print once which items were skipped, before anyone takes the result as complete."""
        for note in status.notes:
            if note not in self._run.said and note.startswith("node ") and "skipped" in note:
                self._run.said.add(note)
                say(f"htdag: {note}")

    def _warn_of_final(self) -> None:
        calls = self._errors.final()
        if calls and calls[-1].error:
            text = f"run {self._run.tag!r}: {calls[-1]}; run.final() has its output"
            warn(text, FinalFailed)

    def html(self) -> str:
        """Return the representation of the run in a notebook: its status."""
        from htdag.show import notebook

        if self._displayed_in is not None and self._displayed_in == notebook.cell_number():
            return notebook.tag_html(self._run.tag)  # this cell already shows its bars
        return notebook.status_html(self.status())

    def wait_for(self, target: str, timeout: float | timedelta | None) -> None:
        """Wait until a target is complete, even if other parts of the run are not."""
        node = outcomes.writer_of(self._run.plan, target)
        for _ in poll_intervals(timeout):
            activity = self._run.activity()
            if activity.state is RunState.DONE:
                self._run.gather(done=True)
                return
            if all(state.complete for state in progress_of.examine(str(self._run.path), node)):
                return
            if activity.state.ended:
                raise RunFailed(self.failure(self.status()), self._errors.errors())
            if activity.state is RunState.HELD:
                raise RunHeld(held_text(self.status()))
        state = self._run.activity().state.value
        raise NotDone(
            f"run {self._run.tag!r} is {state}: the result of {target!r} is not "
            f"complete yet; give result() a timeout in seconds, or None to wait for it"
        )

    def failure(self, status: Status) -> str:
        """Return the message for a run that has failed or has errors."""
        errors = self._errors.errors()
        what = f"run {self._run.tag!r} {_ENDINGS.get(status.state, 'has errors, and goes on')}"
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
                "so there is no error of a function"
            )
        tag = quote(self._run.tag)
        return what + (
            f"\n\nMore: run.errors() or `htdag errors {tag}`. Once fixed: run.resume() or "
            f"`htdag resume {tag}`, with a corrected script `htdag resume {tag} --script`; "
            f"finished items are kept. Files: {self._run.path}"
        )


_ENDINGS = {
    RunState.FAILED: "failed",
    RunState.REMOVED: "was removed",
    RunState.STOPPED: "was stopped from outside",
    RunState.DONE: "is done",
}


def held_text(status: Status) -> str:
    """Return the message for a run that is on hold."""
    held = "\n".join(status.held) or status.reason
    if held.endswith(HOW_TO_START):
        return f"run {status.tag!r} is on hold, and will continue from where it is: {held}"
    tag = quote(status.tag)
    return (
        f"run {status.tag!r} is on hold: HTCondor waits for a person.\n{held}\n"
        f"To release all jobs: htdag release {tag}; to end the run: htdag remove {tag}"
    )


def poll_intervals(timeout: float | timedelta | None) -> Iterator[None]:
    """Yield at growing intervals, at least once, until the timeout is over."""
    limit = None if timeout is None else time.monotonic() + validation.seconds(timeout, "timeout")
    pause = _FIRST_PAUSE
    while True:
        yield
        remaining = float("inf") if limit is None else limit - time.monotonic()
        if remaining <= 0:
            return
        time.sleep(min(pause, remaining))
        pause = min(pause * 1.02, _LONGEST_PAUSE)  # the delay is about a fiftieth of the wait
