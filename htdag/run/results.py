"""The results of runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from htdag import _checks
from htdag._warn import warn
from htdag.backends.base import RunState
from htdag.errors import ItemsMissing, NotDone, RunFailed, RunHeld, UsageError, ValueUnreadable
from htdag.observe import outcomes
from htdag.observe.missing import ancestors, warning
from htdag.observe.outcomes import Item
from htdag.run.watching import Watching, held_text, looks
from htdag.runtime import progress, streams
from htdag.stages import Stage


class Results(Watching):
    """The values that a run has made."""

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
        if target is None and len(self.targets) > 1:
            if timeout is None:
                return {name: self.result(name, None) for name in self.targets}
            end = time.monotonic() + _checks.seconds(timeout, "timeout")
            return {name: self.result(name, end - time.monotonic()) for name in self.targets}
        name = self._target(target)
        entry = outcomes.stage_entry(self._plan, name)
        self._await(name, timeout)
        self._warn_of_missing(name)
        values = (
            outcomes.load_value(frame, self.path, name)
            for _, frame in outcomes.stage_values(self.path, self._plan, name, whole=True)
        )
        return next(values) if entry["one"] else list(values)

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
        _check_errors(errors)
        name = self._target(target)
        if errors == "raise":
            self._await(name, 0)
            self._warn_of_missing(name)
        elif not self.state.ended:
            raise NotDone(f"run {self.tag!r} is {self.state.value}; wait for it first")
        return self._items(name, errors)

    def _warn_of_missing(self, name: str) -> None:
        where = outcomes.stage_entry(self._plan, name)["where"]
        lacking = sum(outcomes.let_go(self.path, node) for node in ancestors(self._plan, where))
        if lacking:
            warn(warning(name, lacking, self.tag), ItemsMissing)

    def _items(self, name: str, errors: str) -> Iterator[Item]:
        sources, where = self._origin(name)
        for _, frame in outcomes.stage_values(self.path, self._plan, name, whole=errors == "raise"):
            yield from self._item(frame, name, sources, where, errors)
        if errors == "return":
            yield from self._failed_items(sources)

    def _item(
        self, frame: Any, name: str, sources: outcomes.Sources, where: str, errors: str
    ) -> Iterator[Item]:
        """Yield an item; what cannot be unpickled here counts as one that failed."""
        try:
            value = outcomes.load_value(frame, self.path, name)
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
        _check_errors(errors)
        return self._as_completed(self._target(target), timeout, errors)

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
        name, wanted = self._target(target), str(key)
        try:
            for item in self._as_completed(name, timeout, "raise"):
                if item.key == wanted:
                    return item.value
        except RunFailed as error:
            failed = [one for one in error.errors if one.key == wanted]
            raise RunFailed(str(failed[0] if failed else error), failed or error.errors) from None
        raise UsageError(f"run {self.tag!r} has no item {wanted!r} of {name!r}")

    def _as_completed(
        self, name: str, timeout: float | timedelta | None, errors: str
    ) -> Iterator[Item]:
        sources, where = self._origin(name)
        node = self._plan["by_name"][outcomes.stage_entry(self._plan, name)["where"]]
        given: set[int] = set()
        for _ in looks(timeout):
            status = self.status()
            ended = status.state.ended
            states = list(progress.examine(str(self.path), node))
            # At the end also what failed items left of chunks.
            fresh = [
                state for state in states if state.number not in given and (state.complete or ended)
            ]
            for state in fresh:
                given.add(state.number)
                attempts = [attempt.number for attempt in state.attempts]
                for frame in outcomes.chunk_frames(
                    self.path, self._plan, name, state.number, attempts
                ):
                    yield from self._item(frame, name, sources, where, errors)
            complete = len(given) == streams.chunks(str(self.path), node)
            if status.state is RunState.DONE or (complete and all(s.complete for s in states)):
                return
            if ended:
                if errors == "raise":
                    raise RunFailed(self._failure(status), self.errors())
                if errors == "return":
                    yield from self._failed_items(sources)
                return
            if status.state is RunState.HELD and not fresh:
                raise RunHeld(held_text(status))
        raise NotDone(f"run {self.tag!r} is {status.state.value}: {name!r} is not complete yet")

    def _failed_items(self, sources: outcomes.Sources) -> Iterator[Item]:
        for error in self.errors():
            known = error.key and error.node in self._plan["by_name"] and not error.rounds
            origin = (sources, error.node) if known else None
            yield Item(error.key or "", error, origin)

    def _origin(self, target: str) -> tuple[outcomes.Sources, str]:
        sources = outcomes.Sources(self.path, self._plan)
        where = outcomes.stage_entry(self._plan, target)["where"]
        return sources, str(where)


def _check_errors(errors: str) -> None:
    if _checks.text(errors, "errors") not in ("raise", "skip", "return"):
        raise UsageError(f"errors={errors!r}: it takes 'raise', 'skip' or 'return'")
