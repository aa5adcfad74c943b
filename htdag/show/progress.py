"""The progress of a run while it is waited for."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from htdag._warn import is_terminal, say
from htdag.backends.base import RunState
from htdag.observe.status import StageStatus, Status
from htdag.show.pace import Pace, duration

if TYPE_CHECKING:
    from rich.live import Live

    from htdag.show.frame import Frame

_LINE_EVERY = 10.0  # seconds between lines where there is no terminal
_FRAMES_PER_SECOND = 5.0

PLACES = {"local": "on this machine", "condor": "on HTCondor"}
"""What a backend is called in a sentence."""


class Display:
    """A live display in a terminal or notebook, a line now and then elsewhere; use it in ``with``.

    It shows one run, or several under each other: as many as there are tags.

    Parameters
    ----------
    shown : bool
        False: show nothing.

    Examples
    --------
    >>> with Display(False) as display:  # as `Run.wait` does, with the status again and again
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

    if notebook.is_here():
        return notebook.Cell()
    return _Screen() if _can_draw() else _Lines()


def _can_draw() -> bool:
    return is_terminal() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


class _Sink(Protocol):
    def show(self, status: Status) -> None: ...

    def close(self) -> None: ...


class _Lines:
    """A line at once, then one when something has changed, not too often, and the last one."""

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
        if tag not in self._printed or now - self._time[tag] >= _LINE_EVERY:
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
        if counts != self._printed.get(tag):  # the time that is left changes always
            say(line)
            self._printed[tag], self._time[tag] = counts, time.monotonic()


def progress_line(status: Status, paces: Mapping[str, Pace] | None = None) -> str:
    """Return a status as one line.

    Parameters
    ----------
    status : Status
        What to show.
    paces : mapping of str to Pace, optional
        The paces of nodes by name, for the time that is left.

    Returns
    -------
    str
        Such as ``tag: running: square + even 5/20 (1 failed, 1:30 left), reduce 0/4``.
    """
    parts = []
    for bar in bars(status):
        notes = [f"{bar.failed} failed"] if bar.failed else []
        pace = (paces or {}).get(bar.node)
        if pace is not None and bar.total is not None and not bar.complete:
            left = pace.left(bar.total - bar.done - bar.failed)
            if left and not status.state.ended:
                notes.append(f"{duration(left)} left")
        parts.append(f"{bar.label} {bar.count}" + (f" ({', '.join(notes)})" if notes else ""))
    return f"{status.tag}: {status.state.value}: {', '.join(parts)}"


def jobs_text(status: Status) -> str:
    """Return how many jobs are in which state, such as ``jobs: 4 running, 96 waiting``."""
    nodes = {stage.node: stage for stage in status.stages}.values()
    running = sum(stage.jobs_running for stage in nodes)
    done = sum(stage.jobs_done for stage in nodes)
    held = sum(stage.jobs_held for stage in nodes)
    others = sum(stage.jobs for stage in nodes) - running - held - done
    what = "waiting"
    if status.state.ended:  # they have failed or did not run; or their failed items were let go
        what = "with items let go" if status.state is RunState.DONE else "not done"
    counts = [(running, "running"), (held, "on hold"), (others, what), (done, "done")]
    return "jobs: " + ", ".join(f"{count} {what}" for count, what in counts if count)


@dataclass(frozen=True)
class Bar:
    """What is shown of one DAGMan node.

    Attributes
    ----------
    node : str
        Its name.
    label : str
        The stages that it computes.
    count : str
        Items done, of how many.
    total : int or None
        How many items it takes; None while that is not known.
    done, failed, running : int
        Its items by state.
    complete : bool
        Whether all its jobs are.
    """

    node: str
    label: str
    count: str
    total: int | None
    done: int
    failed: int
    running: int
    complete: bool

    @property
    def count_width(self) -> int:
        """How wide the count will become at most."""
        return max(len(self.count), 2 * len(str(self.total or 0)) + 1)

    @property
    def over(self) -> bool:
        """Whether nothing of it is under way or left, but what has failed."""
        failed = self.total is not None and self.done + self.failed >= self.total
        return self.complete or (failed and not self.running)

    @property
    def begun(self) -> bool:
        """Whether any of its jobs has run."""
        return bool(self.done or self.failed or self.running or self.complete)


def bars(status: Status) -> list[Bar]:
    """Return one bar a DAGMan node; stages that are fused share it.

    Nodes without a stage of their own (the levels of a reduction's tree) have none.
    """
    nodes: dict[str, list[StageStatus]] = {}
    for stage in status.stages:
        # Those of each round of a loop are others.
        within = f"{stage.loop} {stage.rounds} " if stage.loop else ""
        nodes.setdefault(within + stage.node, []).append(stage)
    found = []
    for name, stages in nodes.items():
        one = stages[0]
        found.append(
            Bar(
                name,
                " + ".join(stage.name for stage in stages),
                f"{one.done}/{'?' if one.total is None else one.total}",
                one.total,
                one.done,
                one.failed,
                one.running,
                one.jobs_done == one.jobs,
            )
        )
    return found


class _Screen:
    """A live display of one run or several, started with the first status."""

    def __init__(self) -> None:
        self._frames: dict[str, Frame] = {}
        self._live: Live | None = None

    def show(self, status: Status) -> None:
        # Only here: rich takes its time, and whoever waits for a run imports this module.
        from htdag.show.frame import Frame, Frames

        if status.tag not in self._frames:
            self._frames[status.tag] = Frame()
        self._frames[status.tag].take(status)
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            # Known before it starts, so that Ctrl-C at any moment leaves the cursor visible.
            self._live = Live(
                Frames(self._frames),
                console=Console(stderr=True),
                refresh_per_second=_FRAMES_PER_SECOND,
                # What goes into a pipe must not appear in the terminal instead.
                redirect_stdout=sys.stdout.isatty(),
            )
            self._live.start(refresh=True)

    def close(self) -> None:
        if self._live is not None:
            for frame in self._frames.values():
                frame.close()
            self._live.stop()
