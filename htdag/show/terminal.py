"""The progress of a run in a terminal: a line for the run and a bar for each DAGMan node."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from htdag.backends.base import RunState
from htdag.common.text import visible
from htdag.observe.status import Status
from htdag.show.bars import PLACES, Bar, bars, jobs_text
from htdag.show.pace import Pace, clock_text, rate_text

_LONGEST_BAR, _SHORTEST_BAR, _SHORTEST_LABEL = 40, 8, 12
_SHORT_NOTE = len("00 running")
_MOST_HELD_LINES = 3
_MOST_NOTES = 3
_GAP = "  "

STATE_STYLES = {
    RunState.WAITING: "yellow",
    RunState.RUNNING: "cyan",
    RunState.HELD: "bold magenta",
    RunState.DONE: "green",
    RunState.FAILED: "bold red",
    RunState.REMOVED: "yellow",
    RunState.STOPPED: "red",
}
"""The colour in which each state of a run is shown."""


class _Clock:
    """The time that a node has been running, as far as this display has seen it."""

    def __init__(self, start: float | None) -> None:
        self._start = start
        self._end: float | None = None

    def tick(self, now: float, ended: bool) -> None:
        """Advance, or stop if the node has ended; a node that is retried goes on."""
        if not ended:
            self._end = None
        elif self._end is None:
            self._end = now

    def text(self, now: float) -> str:
        if self._start is None:
            return ""
        return clock_text((now if self._end is None else self._end) - self._start)


class Frame:
    """The picture of one run in the live display, which rich draws again and again.

    It fits any width: it gives up the time first, then words, then the bar. If the terminal is too
    low for all nodes, a line sums up those that are done, and another those that wait.
    """

    def __init__(self) -> None:
        self._status: Status | None = None
        self._clocks: dict[str, _Clock] = {}
        self._paces: dict[str, Pace] = {}
        self._run_clock: _Clock | None = None
        self._note_width = _SHORT_NOTE
        self._closed = False

    def take(self, status: Status) -> None:
        """Draw a new status from now on."""
        now = time.monotonic()
        first = self._status is None
        if self._run_clock is None:
            self._run_clock = _Clock(now)
        for bar in bars(status):
            self._paces.setdefault(bar.node, Pace()).take(now, bar.done + bar.failed)
            if bar.node not in self._clocks and bar.started:
                # It started before the display did, at an unknown time.
                is_late = first and bool(bar.done or bar.failed)
                self._clocks[bar.node] = _Clock(None if is_late else now)
            if bar.node in self._clocks:
                self._clocks[bar.node].tick(now, bar.ended or status.state.ended)
        self._run_clock.tick(now, status.state.ended)
        self._status = status

    def close(self) -> None:
        """Draw all of it once more, whatever the height."""
        self._closed = True

    def lines(self, width: int, height: int, encoding: str = "utf-8") -> list[Text]:
        """Return the lines of the picture.

        Parameters
        ----------
        width, height : int
            The size of the terminal.
        encoding : str
            The encoding of the terminal.
        """
        status = self._status
        if status is None or self._run_clock is None:
            return []
        now = time.monotonic()
        lines = [_state_line(status, self._run_clock.text(now), width)]
        remarks = [_text(held, "magenta") for held in status.held[:_MOST_HELD_LINES]]
        remarks += [_text(note, "yellow") for note in status.notes[:_MOST_NOTES]]
        room = height - 2 - len(remarks)
        before, shown, after = _selected(bars(status), None if self._closed else max(3, room))
        if before:
            lines.append(_text(f"({before} nodes before are done)", "dim"))
        lines += self._rows(shown, width, now, _Glyphs.of(encoding))
        if after:
            lines.append(_text(f"({after} nodes more)", "dim"))
        lines += remarks
        for line in lines:
            line.plain = visible(line.plain)
            _fit(line, width, encoding)
        return lines

    def _rows(self, shown: list[Bar], width: int, now: float, glyphs: _Glyphs) -> Iterator[Text]:
        times = [
            self._clocks[bar.node].text(now) if bar.node in self._clocks else "" for bar in shown
        ]
        # If there is room, a running node also has its pace and remaining time.
        paces = [self._pace_text(bar) for bar in shown]
        pace_width = max((len(pace) for pace in paces), default=0)
        self._note_width = max([self._note_width, *(len(_note(bar).plain) for bar in shown)])
        elapsed = max((len(text) for text in times), default=0)
        columns = _Columns.fit(
            width - (pace_width + len(_GAP) if pace_width else 0),
            label=max((len(bar.label) for bar in shown), default=0),
            count=max((bar.count_width for bar in shown), default=0),
            note=self._note_width,
            time=elapsed,
        )
        if pace_width and (not columns.bar or (elapsed and not columns.time)):
            paces, pace_width = ["" for _ in shown], 0
            columns = _Columns.fit(
                width,
                label=max((len(bar.label) for bar in shown), default=0),
                count=max((bar.count_width for bar in shown), default=0),
                note=self._note_width,
                time=elapsed,
            )
        for bar, text, pace in zip(shown, times, paces, strict=True):
            row = _row(bar, text, columns, glyphs)
            yield row.append(_GAP).append(pace, "dim") if pace else row

    def _pace_text(self, bar: Bar) -> str:
        if self._status is None or self._status.state.ended or bar.complete or bar.total is None:
            return ""
        pace = self._paces[bar.node]
        left = pace.left(bar.total - bar.done - bar.failed)
        if pace.rate is None or not left:
            return ""
        return f"{rate_text(pace.rate)}, {clock_text(left)} left"


class Frames:
    """The pictures of several runs, one below the other."""

    def __init__(self, frames: dict[str, Frame]) -> None:
        self._frames = frames

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        frames = list(self._frames.values())
        height = console.height // max(1, len(frames))
        for frame in frames:
            yield from frame.lines(options.max_width, height, options.encoding)


@dataclass(frozen=True)
class _Columns:
    """The widths of a row's columns; 0: omitted."""

    label: int
    bar: int
    count: int
    note: int
    time: int

    @classmethod
    def fit(cls, width: int, label: int, count: int, note: int, time: int) -> _Columns:
        """Return the widest columns that fit; the least important ones are dropped first."""
        short = min(label, _SHORTEST_LABEL)
        for least, notes, times in (
            (label, note, time),
            (short, _SHORT_NOTE, time),
            (short, _SHORT_NOTE, 0),
            (short, 0, 0),
        ):
            rest = width - count - 2 * len(_GAP)
            rest -= sum(size + len(_GAP) for size in (notes, times) if size)
            bar = min(_LONGEST_BAR, max(rest - label, min(rest - least, _SHORTEST_BAR)))
            if bar >= _SHORTEST_BAR:
                return cls(min(label, rest - bar), bar, count, notes, times)
        return cls(max(1, min(label, width - count - len(_GAP))), 0, count, 0, 0)


@dataclass(frozen=True)
class _Glyphs:
    """The characters of a bar, which differ even without colours."""

    done: str
    failed: str
    running: str
    left: str
    more: str

    @classmethod
    def of(cls, encoding: str) -> _Glyphs:
        if encoding.lower().startswith("utf"):
            return cls("━", "\N{MULTIPLICATION SIGN}", "╍", "─", "…")
        return cls("#", "x", "=", "-", "~")


def _row(bar: Bar, elapsed: str, columns: _Columns, glyphs: _Glyphs) -> Text:
    label = bar.label
    if len(label) > columns.label:
        label = label[: columns.label - 1] + glyphs.more
    row = _text(label.ljust(columns.label), "" if bar.started else "dim")
    if columns.bar:
        row.append(_GAP).append_text(_drawn(bar, columns.bar, glyphs))
    row.append(_GAP).append(bar.count.rjust(columns.count), "" if bar.started else "dim")
    if columns.note:
        note = _note(bar)
        if len(note.plain) > columns.note:
            note = _note(bar, running=False)
        note.pad_right(columns.note - len(note.plain))
        row.append(_GAP).append_text(note)
    if columns.time:
        row.append(_GAP).append(elapsed.rjust(columns.time), "dim")
    return row


def _drawn(bar: Bar, width: int, glyphs: _Glyphs) -> Text:
    """Return the items of a node to scale; failed items always show, however few they are."""
    failed = running = 0
    if bar.complete and not bar.failed:
        done = width
    elif not bar.total:
        done = 0
    else:
        failed = min(width, -(-bar.failed * width // bar.total))
        done = min(width - failed, bar.done * width // bar.total)
        running = min(width - failed - done, -(-bar.running * width // bar.total))
    drawn = _text(glyphs.done * done, "green")
    drawn.append(glyphs.failed * failed, "red").append(glyphs.running * running, "cyan")
    return drawn.append(glyphs.left * (width - done - failed - running), "bright_black")


def _note(bar: Bar, running: bool = True) -> Text:
    note = _text("")
    if running and bar.running:
        note.append(f"{bar.running} running", "cyan")
    if bar.failed:
        note.append(", " if note.plain else "").append(f"{bar.failed} failed", "red")
    return note


def _state_line(status: Status, elapsed: str, width: int) -> Text:
    line = _text(status.tag, "bold")
    line.append(": ").append(status.state.value, STATE_STYLES[status.state])
    place = f" {PLACES.get(status.backend, status.backend)}"
    if line.cell_len + len(place) + len(elapsed) + 2 <= width:
        line.append(place)
    line.append(f", {elapsed}", "dim")
    jobs = jobs_text(status)
    if jobs and line.cell_len + len(jobs) + 2 <= width:
        line.append(f"; {jobs}", "dim")
    if status.reason:
        line.append(f" ({' '.join(status.reason.split())})")
    return line


def _selected(all_bars: list[Bar], room: int | None) -> tuple[int, list[Bar], int]:
    """Return how many bars are omitted before, the bars to show, and how many after."""
    if room is None or len(all_bars) <= room:
        return 0, all_bars, 0
    room -= 2  # for the lines that sum up the others
    busy = next((at for at, bar in enumerate(all_bars) if not bar.complete), len(all_bars))
    start = max(0, min(busy, len(all_bars) - room))
    return start, all_bars[start : start + room], max(0, len(all_bars) - start - room)


def _text(text: str, style: str = "") -> Text:
    return Text(no_wrap=True, overflow="crop").append(text, style or None)


def _fit(line: Text, width: int, encoding: str) -> None:
    utf8 = encoding.lower().startswith("utf")
    if not utf8:
        line.plain = line.plain.encode(encoding, "replace").decode(encoding)
    line.truncate(width, overflow="ellipsis" if utf8 else "crop")
