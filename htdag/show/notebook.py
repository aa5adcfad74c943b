"""Progress in a notebook: HTML in the output of the cell, updated in place."""

from __future__ import annotations

import html
import sys
import time
from typing import Any

from htdag.backends.base import RunState
from htdag.common.text import visible
from htdag.observe.status import Status
from htdag.show.bars import PLACES, Bar, bars, jobs_text
from htdag.show.pace import Pace, clock_text, rate_text

_INTERVAL = 0.5  # seconds between two pictures

_COLOURS = {
    RunState.WAITING: "#b58900",
    RunState.RUNNING: "#268bd2",
    RunState.HELD: "#d33682",
    RunState.DONE: "#2e7d32",
    RunState.FAILED: "#c62828",
    RunState.REMOVED: "#b58900",
    RunState.STOPPED: "#c62828",
}
_PARTS = (("done", "#2e7d32"), ("failed", "#c62828"), ("running", "#268bd2"))


def is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    return getattr(_shell(), "kernel", None) is not None


def cell_number() -> int | None:
    """Return the number of the cell that is being executed; None outside of a notebook."""
    return int(_shell().execution_count) if is_notebook() else None


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


class Cell:
    """The progress of one or more runs in the output of a cell."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._statuses: dict[str, Status] = {}
        self._paces: dict[tuple[str, str], Pace] = {}
        self._start = time.monotonic()
        self._drawn = -_INTERVAL

    def show(self, status: Status) -> None:
        """Show a status, unless the last picture is very recent."""
        now = time.monotonic()
        self._statuses[status.tag] = status
        for bar in bars(status):
            pace = self._paces.setdefault((status.tag, bar.node), Pace())
            pace.take(now, bar.done + bar.failed)
        if now - self._drawn >= _INTERVAL:
            self._draw(now)

    def close(self) -> None:
        """Show the last status."""
        self._draw(time.monotonic())

    def _draw(self, now: float) -> None:
        from IPython.display import HTML, display

        self._drawn = now
        picture = HTML(
            "".join(
                status_html(
                    status,
                    {node: pace for (tag, node), pace in self._paces.items() if tag == status.tag},
                    now - self._start,
                )
                for status in self._statuses.values()
            )
        )
        if self._handle is None:
            self._handle = display(picture, display_id=True)
        else:
            self._handle.update(picture)


def status_html(
    status: Status, paces: dict[str, Pace] | None = None, elapsed: float | None = None
) -> str:
    """Return a status as HTML: a line for the run, and a bar for each node.

    Parameters
    ----------
    status : Status
        What to show.
    paces : dict of str to Pace, optional
        The paces of nodes by name.
    elapsed : float, optional
        For how many seconds the run has been watched.
    """
    facts = [PLACES.get(status.backend, status.backend)]
    facts += [] if elapsed is None else [clock_text(elapsed)]
    facts += [jobs_text(status)]
    reason = f" ({_text(' '.join(status.reason.split()))})" if status.reason else ""
    rows = "".join(_row(bar, (paces or {}).get(bar.node), status) for bar in bars(status))
    held = "".join(f"<div style='color:#d33682'>{_text(str(line))}</div>" for line in status.held)
    return (
        "<div style='font-family:monospace;line-height:1.5;margin-bottom:.6em'>"
        f"<b>{_text(status.tag)}</b>: "
        f"<span style='color:{_COLOURS[status.state]}'>{status.state.value}</span> "
        f"<span style='opacity:.7'>{_text(', '.join(facts))}</span>{reason}"
        f"<table style='border-collapse:collapse;margin:.2em 0'>{rows}</table>{held}</div>"
    )


def tag_html(tag: str) -> str:
    """Return the representation of a run whose status is shown above."""
    return f"<code>{_text(tag)}</code>"


def _row(bar: Bar, pace: Pace | None, status: Status) -> str:
    total = bar.total or 0
    widths = {
        "done": 100.0 if bar.complete and not bar.failed else 100 * bar.done / max(1, total),
        "failed": 100 * bar.failed / max(1, total),
        "running": 100 * bar.running / max(1, total),
    }
    parts = "".join(
        f"<div title='{name}' style='width:{widths[name]:.2f}%;background:{colour};"
        "height:100%;float:left'></div>"
        for name, colour in _PARTS
        if widths[name]
    )
    notes = [f"{bar.running} running"] if bar.running else []
    notes += [f"<span style='color:#c62828'>{bar.failed} failed</span>"] if bar.failed else []
    if pace is not None and pace.rate is not None and not bar.complete and not status.state.ended:
        left = pace.left(max(0, total - bar.done - bar.failed))
        notes.append(rate_text(pace.rate))
        notes += [] if left is None or bar.total is None else [f"{clock_text(left)} left"]
    cell = "style='padding:0 .8em 0 0;border:0;text-align:left;background:none'"
    return (
        f"<tr><td {cell}>{_text(bar.label)}</td>"
        f"<td {cell}><div style='width:16em;height:.8em;background:#8884;border-radius:3px;"
        f"overflow:hidden'>{parts}</div></td>"
        f"<td {cell}>{bar.count}</td><td {cell}>{', '.join(notes)}</td></tr>"
    )


def _text(text: str) -> str:
    return html.escape(visible(text))
