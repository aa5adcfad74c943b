"""The progress of a run while `Run.wait` waits for it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from htdag.common.warn import is_terminal, say
from htdag.observe.status import Status
from htdag.show.bars import bars
from htdag.show.pace import Pace, clock_text

if TYPE_CHECKING:
    from rich.live import Live

    from htdag.show.terminal import Frame

_LINE_INTERVAL = 10.0  # seconds between lines where there is no terminal
_FRAMES_PER_SECOND = 5.0


class Display:
    """A live display in a terminal or notebook, or else a line now and then; a context manager.

    It shows one run or several, one below the other.

    Parameters
    ----------
    shown : bool
        False: show nothing.

    Examples
    --------
    >>> with Display(False) as display:  # as `Run.wait` does, for each new status
    ...     display.update(run.status())  # doctest: +SKIP
    """

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._sink: _Sink | None = None

    def __enter__(self) -> Display:
        if self._shown:
            self._sink = _sink()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._sink is not None:
            self._sink.close()
            self._sink = None

    def update(self, status: Status) -> None:
        """Show a status."""
        if self._sink is not None:
            self._sink.show(status)


def _sink() -> _Sink:
    from htdag.show import notebook

    if notebook.is_notebook():
        return notebook.Cell()
    return _Screen() if _can_draw() else _Lines()


def _can_draw() -> bool:
    return is_terminal() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


class _Sink(Protocol):
    def show(self, status: Status) -> None: ...

    def close(self) -> None: ...


class _Lines:
    """A first line at once, a last one at the end, and now and then one if counts have changed."""

    def __init__(self) -> None:
        self._line: dict[str, tuple[str, str]] = {}
        self._printed: dict[str, str] = {}
        self._notes: dict[str, tuple[str, ...]] = {}
        self._time: dict[str, float] = {}
        self._paces: dict[tuple[str, str], Pace] = {}

    def show(self, status: Status) -> None:
        now, tag = time.monotonic(), status.tag
        for bar in bars(status):
            pace = self._paces.setdefault((tag, bar.node), Pace())
            pace.take(now, bar.done + bar.failed)
        paces = {node: pace for (of, node), pace in self._paces.items() if of == tag}
        self._line[tag] = (progress_line(status), progress_line(status, paces))
        if tag not in self._printed or now - self._time[tag] >= _LINE_INTERVAL:
            self._print(tag)
        for note in status.notes:
            if note not in self._notes.get(tag, ()):
                say(f"{tag}: {note}")
        self._notes[tag] = status.notes

    def close(self) -> None:
        for tag in self._line:
            self._print(tag)

    def _print(self, tag: str) -> None:
        counts, line = self._line[tag]
        if counts != self._printed.get(tag):  # the remaining time always changes
            say(line)
            self._printed[tag], self._time[tag] = counts, time.monotonic()


def progress_line(status: Status, paces: Mapping[str, Pace] | None = None) -> str:
    """Return a status as one line.

    Parameters
    ----------
    status : Status
        The status.
    paces : mapping of str to Pace, optional
        The paces of nodes by name, for the remaining time.

    Returns
    -------
    str
        A line such as ``tag: running: square + even 5/20 (1 failed, 1:30 left), reduce 0/4``.
    """
    parts = []
    for bar in bars(status):
        notes = [f"{bar.failed} failed"] if bar.failed else []
        pace = (paces or {}).get(bar.node)
        if pace is not None and bar.total is not None and not bar.complete:
            left = pace.left(bar.total - bar.done - bar.failed)
            if left and not status.state.ended:
                notes.append(f"{clock_text(left)} left")
        parts.append(f"{bar.label} {bar.count}" + (f" ({', '.join(notes)})" if notes else ""))
    return f"{status.tag}: {status.state.value}: {', '.join(parts)}"


class _Screen:
    """A live display of one or more runs, which starts with the first status."""

    def __init__(self) -> None:
        self._frames: dict[str, Frame] = {}
        self._live: Live | None = None

    def show(self, status: Status) -> None:
        # A late import: rich is slow to import, and all that wait for runs import this module.
        from htdag.show.terminal import Frame, Frames

        if status.tag not in self._frames:
            self._frames[status.tag] = Frame()
        self._frames[status.tag].take(status)
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            # Assigned before it starts, so that Ctrl-C at any moment leaves the cursor visible.
            self._live = Live(
                Frames(self._frames),
                console=Console(stderr=True),
                refresh_per_second=_FRAMES_PER_SECOND,
                # Output for a pipe must not appear in the terminal instead.
                redirect_stdout=sys.stdout.isatty(),
            )
            self._live.start(refresh=True)

    def close(self) -> None:
        if self._live is not None:
            for frame in self._frames.values():
                frame.close()
            self._live.stop()
