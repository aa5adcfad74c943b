"""The progress of a run while it is waited for."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from htdag.observe.status import StageStatus, Status

_LINE_EVERY = 10.0  # seconds between lines where there is no terminal


class Display:
    """A live display in a terminal, a line now and then elsewhere; use it in ``with``.

    Parameters
    ----------
    shown : bool
        False: show nothing.
    """

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._live: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last_line = ""
        self._last_time = 0.0

    def __enter__(self) -> Display:
        if self._shown and sys.stderr.isatty():
            self._live = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=False,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, status: Status) -> None:
        """Show a status."""
        if not self._shown:
            return
        if self._live is None:
            self._line(status)
            return
        for name, stages in _by_node(status).items():
            stage = stages[0]
            if name not in self._tasks:
                label = ", ".join(entry.name for entry in stages)
                self._tasks[name] = self._live.add_task(label, total=None, note="", start=False)
            task = self._tasks[name]
            if stage.done or stage.running or stage.failed:
                self._live.start_task(task)
            self._live.update(task, completed=stage.done, total=stage.total, note=_note(stage))
            if stage.jobs_done == stage.jobs:
                self._live.stop_task(task)

    def _line(self, status: Status) -> None:
        parts = []
        for stages in _by_node(status).values():
            stage = stages[0]
            total = "?" if stage.total is None else f"{stage.total}"
            failed = f" ({stage.failed} failed)" if stage.failed else ""
            parts.append(f"{stages[-1].name} {stage.done}/{total}{failed}")
        line = f"{status.tag}: {status.state.value}: {', '.join(parts)}"
        now = time.monotonic()
        due = now - self._last_time >= _LINE_EVERY or status.state.ended
        if line != self._last_line and due:
            print(line, file=sys.stderr, flush=True)
            self._last_line, self._last_time = line, now


def _by_node(status: Status) -> dict[str, list[StageStatus]]:
    nodes: dict[str, list[StageStatus]] = {}
    for stage in status.stages:
        nodes.setdefault(stage.node, []).append(stage)
    return nodes


def _note(stage: StageStatus) -> str:
    notes = []
    if stage.running:
        notes.append(f"{stage.running} running")
    if stage.failed:
        notes.append(f"[red]{stage.failed} failed[/red]")
    return ", ".join(notes)
