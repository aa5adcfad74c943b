"""The results of runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from htdag.backends.base import RunState
from htdag.checks import validation
from htdag.common.warn import warn
from htdag.errors import ItemsMissing, NotDone, RunFailed, RunHeld, UsageError, ValueUnreadable
from htdag.observe import outcomes
from htdag.observe.missing import ancestors, warning
from htdag.observe.outcomes import Item
from htdag.run.directory import RunDirectory
from htdag.run.errors import Errors
from htdag.run.wait import Waiter, held_text, poll_intervals
from htdag.runtime.dag import inputs, progress
from htdag.stages import Stage


class Results:
    """The part of a run that reads its values."""

    def __init__(self, run: RunDirectory, errors: Errors, waiter: Waiter) -> None:
        self._run = run
        self._errors = errors
        self._waiter = waiter

    def result(
        self, target: str | Stage | None = None, timeout: float | timedelta | None = 0
    ) -> Any:
        """Return the result of a target, or of all targets."""
        if target is None and len(self._run.targets) > 1:
            if timeout is None:
                return {name: self.result(name, None) for name in self._run.targets}
            end = time.monotonic() + validation.seconds(timeout, "timeout")
            return {name: self.result(name, end - time.monotonic()) for name in self._run.targets}
        name = self._run.target(target)
        entry = outcomes.stage_entry(self._run.plan, name)
        self._waiter.wait_for(name, timeout)
        self._warn_of_missing(name)
        values = (
            outcomes.load_value(frame, self._run.path, name)
            for _, frame in outcomes.stage_values(self._run.path, self._run.plan, name, whole=True)
        )
        return next(values) if entry["one"] else list(values)

    def items(self, target: str | Stage | None = None, errors: str = "raise") -> Iterator[Item]:
        """Iterate over the items of a target in order, one in memory at a time."""
        _check_errors(errors)
        name = self._run.target(target)
        if errors == "raise":
            self._waiter.wait_for(name, 0)
            self._warn_of_missing(name)
        elif not self._run.state.ended:
            raise NotDone(f"run {self._run.tag!r} is {self._run.state.value}; wait for it first")
        return self._items(name, errors)

    def _warn_of_missing(self, name: str) -> None:
        writer = outcomes.writer_of(self._run.plan, name)
        lacking = sum(
            outcomes.skipped_items(self._run.path, node)
            for node in ancestors(self._run.plan, writer["name"])
        )
        if lacking:
            warn(warning(name, lacking, self._run.tag), ItemsMissing)

    def _items(self, name: str, errors: str) -> Iterator[Item]:
        sources, where = self._origin(name)
        for _, frame in outcomes.stage_values(
            self._run.path, self._run.plan, name, whole=errors == "raise"
        ):
            yield from self._item(frame, name, sources, where, errors)
        if errors == "return":
            yield from self._failed_items(sources)

    def _item(
        self, frame: Any, name: str, sources: outcomes.Sources, where: str, errors: str
    ) -> Iterator[Item]:
        """Yield an item; one that cannot be unpickled here counts as failed."""
        try:
            value = outcomes.load_value(frame, self._run.path, name)
        except ValueUnreadable as error:
            if errors == "raise":
                raise
            if errors == "skip":
                return
            value = error
        yield Item(frame.key, value, (sources, where))

    def as_completed(
        self,
        target: str | Stage | None = None,
        *,
        timeout: float | timedelta | None = None,
        errors: str = "raise",
    ) -> Iterator[Item]:
        """Iterate over the items of a target as jobs complete them."""
        _check_errors(errors)
        return self._as_completed(self._run.target(target), timeout, errors)

    def get(
        self, target: str | Stage, key: str | int, timeout: float | timedelta | None = 0
    ) -> Any:
        """Return the value of one item, even while others are being computed."""
        name, item_key = self._run.target(target), str(key)
        try:
            for item in self._as_completed(name, timeout, "raise"):
                if item.key == item_key:
                    return item.value
        except RunFailed as error:
            failed = [one for one in error.errors if one.key == item_key]
            raise RunFailed(str(failed[0] if failed else error), failed or error.errors) from None
        raise UsageError(f"run {self._run.tag!r} has no item {item_key!r} of {name!r}")

    def _as_completed(
        self, name: str, timeout: float | timedelta | None, errors: str
    ) -> Iterator[Item]:
        sources, where = self._origin(name)
        node = outcomes.writer_of(self._run.plan, name)
        yielded: set[int] = set()
        for _ in poll_intervals(timeout):
            status = self._waiter.status()
            ended = status.state.ended
            states = list(progress.examine(str(self._run.path), node))
            # When the run has ended, incomplete chunks have values, too.
            fresh = [
                state
                for state in states
                if state.number not in yielded and (state.complete or ended)
            ]
            for state in fresh:
                yielded.add(state.number)
                attempts = [attempt.number for attempt in state.attempts]
                for frame in outcomes.chunk_frames(
                    self._run.path, self._run.plan, name, state.number, attempts
                ):
                    yield from self._item(frame, name, sources, where, errors)
            complete = len(yielded) == inputs.chunks(str(self._run.path), node)
            if status.state is RunState.DONE or (complete and all(s.complete for s in states)):
                return
            if ended:
                if errors == "raise":
                    raise RunFailed(self._waiter.failure(status), self._errors.errors())
                if errors == "return":
                    yield from self._failed_items(sources)
                return
            if status.state is RunState.HELD and not fresh:
                raise RunHeld(held_text(status))
        run_state = self._waiter.status().state.value
        raise NotDone(f"run {self._run.tag!r} is {run_state}: {name!r} is not complete yet")

    def _failed_items(self, sources: outcomes.Sources) -> Iterator[Item]:
        for error in self._errors.errors():
            has_source = error.key and error.node in self._run.plan["by_name"] and not error.rounds
            origin = (sources, error.node) if has_source else None
            yield Item(error.key or "", error, origin)

    def _origin(self, target: str) -> tuple[outcomes.Sources, str]:
        sources = outcomes.Sources(self._run.path, self._run.plan)
        return sources, outcomes.writer_of(self._run.plan, target)["name"]


def _check_errors(errors: str) -> None:
    if validation.text(errors, "errors") not in ("raise", "skip", "return"):
        raise UsageError(f"errors={errors!r}: it takes 'raise', 'skip' or 'return'")
