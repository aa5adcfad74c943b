"""Runs, settings, jobs and items as tables in a terminal, or as plain columns in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from htdag.backends.base import JobState
from htdag.common.text import duration, size, visible
from htdag.config.settings import Value
from htdag.observe.holds import explain
from htdag.observe.items import ItemState, JobUsage
from htdag.observe.status import Status
from htdag.show.bars import PLACES
from htdag.show.terminal import STATE_STYLES

_STYLES = {state.value: style for state, style in STATE_STYLES.items()}
_ROOM_FOR_EXTRA = 70
_WIDE = 100_000  # a pipe has no width, so nothing is cut or wrapped


@dataclass(frozen=True)
class RunRow:
    """A row of the table of runs.

    Attributes
    ----------
    tag, pipeline : str
        Its names.
    state : str
        Its state, or why that is unknown.
    backend : str
        Where it runs: ``"condor"`` or ``"local"``; "" for a run that was never submitted.
    created : datetime.datetime
        When it was created.
    path : str
        Its directory.
    """

    tag: str
    state: str
    backend: str
    pipeline: str
    created: datetime
    path: str


def print_runs(rows: Sequence[RunRow]) -> None:
    """Print a table of runs on standard output."""
    cells = [
        [
            Text(row.tag, "bold"),
            state_text(row.state),
            Text(row.backend),
            Text(row.pipeline),
            Text(f"{row.created:%Y-%m-%d %H:%M:%S}"),
        ]
        for row in rows
    ]
    print_table(["tag", "state", "on", "pipeline", "created"], cells, extra=["pipeline"])


def print_settings(values: Sequence[Value], options: dict[str, Any], path: str) -> None:
    """Print a table of settings on standard output, with the default options of the user's file."""
    cells = [
        [
            Text(each.setting.name, "bold"),
            Text("-" if each.value is None else _setting_text(each.value)),
            Text(each.origin, "dim" if each.origin == "default" else "cyan"),
            Text(each.setting.variable, "dim"),
            Text(each.setting.meaning),
        ]
        for each in values
    ]
    cells += [
        [
            Text(f"options.{name}", "bold"),
            Text(str(value)),
            Text(path, "cyan"),
            Text(""),
            Text("default of all stages"),
        ]
        for name, value in options.items()
    ]
    titles = ["setting", "value", "from", "variable", "meaning"]
    print_table(titles, cells, extra=["variable", "meaning"])


def _setting_text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def print_folders(folders: dict[str, str]) -> None:
    """Print a table of the folders where htdag keeps its files."""
    print_table(["files", "where"], [[Text(name), Text(path)] for name, path in folders.items()])


def print_status(status: Status, path: str) -> None:
    """Print the status of a run on standard output: a line for the run and a table of stages."""
    console = _console()
    line = Text(status.tag, "bold").append(": ", "not bold")
    line.append(status.state.value, f"not bold {_STYLES[status.state.value]}")
    line.append(f" {PLACES.get(status.backend, status.backend)}", "not bold")
    if status.reason:
        line.append(f" ({' '.join(status.reason.split())})", "not bold")
    _print(console, line)
    cells = [
        [
            Text("  " * len(stage.rounds) + stage.name),
            _count(stage.total),
            _count(stage.done, "green"),
            _count(stage.running, "cyan"),
            _count(stage.waiting),
            _count(stage.held, "magenta"),
            _count(stage.failed, "red"),
            Text(f"{stage.jobs_done}/{stage.jobs}"),
            Text(stage.node, "dim"),
        ]
        for stage in status.stages
    ]
    titles = ["stage", "items", "done", "running", "waiting", "held", "failed", "jobs", "node"]
    if not any(stage.held for stage in status.stages):
        column = titles.index("held")
        del titles[column]
        for row in cells:
            del row[column]
    print_table(titles, cells, right=titles[1:-1], extra=["waiting", "node"])
    for stage in status.stages:
        if stage.note:
            _print(console, Text(f"{stage.name}: {stage.note}"))
    for held in status.held:
        _print(console, Text(held, "magenta"))
    for note in status.notes:
        _print(console, Text(note, "yellow"))
    _print(console, Text(f"files: {path}", "dim"))


def print_jobs(jobs: Sequence[JobState]) -> None:
    """Print a table of jobs that wait or run on standard output."""
    now = time.time()
    cells = [
        [
            Text(job.place),
            Text("?" if job.chunk is None else str(job.chunk)),
            Text(f"{job.cluster}.{job.proc}", "dim"),
            Text(job.state, _JOB_STYLES[job.state]),
            Text(duration(now - job.since)),
            Text(job.source, "dim"),
            Text(explain(job, "TAG").why if job.state == "held" else job.slot),
        ]
        for job in jobs
    ]
    titles = ["node", "chunk", "job", "state", "since", "by", "where or why"]
    print_table(titles, cells, right=["chunk", "since"], extra=["by"])


def print_items(items: Sequence[ItemState]) -> None:
    """Print a table of items with their states on standard output."""
    now = time.time()
    cells = [
        [
            Text(item.key or "all"),
            Text(item.state, _ITEM_STYLES.get(item.state, "")),
            Text("" if item.since is None else duration(now - item.since)),
            Text(str(item.chunk)),
            Text(item.job, "dim"),
            Text(item.source, "dim"),
        ]
        for item in items
    ]
    titles = ["item", "state", "since", "chunk", "job", "by"]
    print_table(titles, cells, right=["since", "chunk"], extra=["by"])


def print_usage(jobs: Sequence[JobUsage], each: bool) -> None:
    """Print a table of what jobs used on standard output: a row for each job, or for each node."""
    if each:
        cells = [
            [
                Text("".join(f"round {number}, " for number in job.rounds) + job.node),
                Text(f"{job.chunk}.{job.attempt}"),
                Text(job.key or ""),
                *_amounts([job]),
                Text(job.host, "dim"),
            ]
            for job in jobs
        ]
        if len(jobs) > 1:
            cells.append(
                [Text("all"), Text(f"{len(jobs)} jobs"), Text(""), *_amounts(jobs), Text()]
            )
        titles = ["node", "chunk.attempt", "item", *_AMOUNTS, "on"]
    else:
        nodes: dict[str, list[JobUsage]] = {}
        for job in jobs:
            nodes.setdefault(job.node, []).append(job)
        cells = [
            [Text(name), Text(f"{len(of_node):,}"), *_amounts(of_node)]
            for name, of_node in [*nodes.items(), ("all", jobs)]
        ]
        titles = ["node", "jobs", *_AMOUNTS]
    print_table(titles, cells, right=["jobs", *_AMOUNTS], extra=["on"])


_AMOUNTS = ("items", "time", "memory", "disk")


def _amounts(jobs: Sequence[JobUsage]) -> list[Text]:
    """Return cells with the total items and time of jobs, and the most memory and disk of one."""
    seconds = sum(job.seconds for job in jobs)
    return [
        Text(f"{sum(job.items for job in jobs):,}"),
        Text(f"{seconds:.3g} s" if len(jobs) == 1 else duration(seconds)),
        Text(size(max(job.memory for job in jobs))),
        Text(size(max(job.disk for job in jobs) / 1024)),
    ]


_ITEM_STYLES = {
    "done": "green",
    "failed": "red",
    "running": "cyan",
    "suspended": "blue",
    "held": "magenta",
    "idle": "yellow",
}
_JOB_STYLES = {"idle": "yellow", "running": "cyan", "suspended": "blue", "held": "magenta"}


def state_text(state: str) -> Text:
    """Return the state of a run in its colour."""
    return Text(state, _STYLES.get(state, "yellow"))


def _count(number: int | None, style: str = "") -> Text:
    if number is None:
        return Text("?", "dim")
    return Text(str(number), style if number else "dim")


def _printable(cell: Text, encoding: str) -> Text:
    """Escape characters that the terminal cannot or must not show, before columns are laid out.

    A cell is one line.
    """
    text = visible(cell.plain).replace("\n", "\\n").replace("\t", "\\t")
    cell.plain = text.encode(encoding, "backslashreplace").decode(encoding)
    return cell


def _console() -> Console:
    if sys.stdout.isatty():
        return Console()
    return Console(width=_WIDE, color_system=None)


def print_table(
    titles: Sequence[str],
    rows: Iterable[Sequence[Text]],
    right: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> None:
    """Print a table; narrow terminals do not show the ``extra`` columns."""
    console = _console()
    table = Table(
        box=box.SIMPLE_HEAD if console.is_terminal else None,
        header_style="bold" if console.is_terminal else "",
        pad_edge=False,
        padding=(0, 2, 0, 0) if not console.is_terminal else (0, 1),
        show_edge=False,
    )
    kept = [
        number
        for number, title in enumerate(titles)
        if title not in extra or console.width >= _ROOM_FOR_EXTRA
    ]
    for number in kept:
        # A name that is too long continues in the next line, so that it can be copied whole.
        table.add_column(
            titles[number],
            overflow="fold",
            no_wrap=number > 0 and titles[number] not in extra,
            justify="right" if titles[number] in right else "left",
        )
    for row in rows:
        table.add_row(*(_printable(row[number], console.encoding) for number in kept))
    _print(console, table)


def _print(console: Console, content: Table | Text) -> None:
    if isinstance(content, Text):
        content.plain = visible(content.plain)
    with console.capture() as capture:
        console.print(content, soft_wrap=isinstance(content, Text), highlight=False)
    text = capture.get()
    if not console.is_terminal:
        text = "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    sys.stdout.write(text)
