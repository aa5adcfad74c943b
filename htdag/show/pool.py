"""The user's own pool, and the findings of the doctor, as text."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from htdag.common.text import counted, size
from htdag.doctor.facts import Facts
from htdag.doctor.findings import Finding, Severity
from htdag.show.tables import _console, _print

if TYPE_CHECKING:
    from rich.console import Console

    from htdag.backends.condor.pool_state import PoolState

_STYLES = {Severity.BREAKS: "bold red", Severity.SLOWS: "yellow", Severity.NOTE: "cyan"}
_LABELS = {Severity.BREAKS: "breaks", Severity.SLOWS: "slows", Severity.NOTE: "note"}
_COLUMN = 10
_TEXT_WIDTH = 100  # a wider line is hard to read


def print_pool(state: PoolState) -> None:
    """Print the state of the user's own pool on standard output."""
    console = _console()
    line = Text("your own pool", "bold").append(": ", "not bold")
    if not state.running:
        made = Path(state.config).exists()
        line.append("not running", "not bold yellow")
        _print(console, line)
        if made:
            _row(console, "files", Text(state.path, "dim"))
        _row(console, "start it", Text("htdag pool start"))
        return
    word, style = ("running", "green") if state.answers else ("does not answer", "bold red")
    line.append(word, f"not bold {style}")
    if state.since is not None:
        began = datetime.fromisoformat(state.since)
        line.append(f", since {began:%Y-%m-%d %H:%M:%S}", "not bold")
    _print(console, line)
    if state.problem:
        _row(console, "problem", Text(state.problem))
    if state.answers:
        _row(console, "slots", Text(capacity(state)).append(f", {state.cpus_busy} CPUs in use"))
        jobs = f"{state.running_jobs} running, {state.idle_jobs} waiting, {state.held_jobs} on hold"
        _row(console, "queue", Text(f"{counted(state.runs, 'run')}; jobs: {jobs}"))
        _row(console, "HTCondor", Text(f"{state.version}, in {state.programs[0]}"))
    _row(console, "files", Text(state.path, "dim"))
    activate = shlex.quote(str(Path(state.path) / "activate"))
    _row(console, "condor_q", Text(f"and the like work with it after:  . {activate}", "dim"))


def capacity(state: PoolState) -> str:
    """Return the size of a pool in words."""
    return f"{counted(state.cpus, 'CPU')}, {size(state.memory_mb)} of memory"


def _row(console: Console, label: str, text: Text) -> None:
    _print(console, Text.assemble((f"{label:<{_COLUMN}}", "dim"), text))


def print_findings(facts: Facts, findings: Sequence[Finding]) -> None:
    """Print the findings of the doctor on standard output, the worst first."""
    console = _console()
    for text in _head(facts):
        _print(console, text)
    if not findings:
        _print(console, Text("\nnothing found that would slow or break a run", "green"))
        return
    for finding in findings:
        _print(console, Text())
        style = _STYLES[finding.severity]
        label = Text(f"{_LABELS[finding.severity]:<{_COLUMN}}", style)
        _paragraph(console, label, Text(finding.what, "bold"))
        for word, more in (("cost", finding.cost), ("remedy", finding.remedy)):
            if more:
                _paragraph(console, Text(f"{word:<{_COLUMN}}", "dim"), Text(more))
    _print(console, Text())
    _print(console, _sum(findings))


def _head(facts: Facts) -> list[Text]:
    """Return what was examined: where runs go, and its size."""
    where = {"own": "", "condor": "HTCondor, ", "local": ""}[facts.place]
    head = Text("runs go to ").append(f"{where}{facts.name}", "bold")
    lines = [head]
    if facts.place != "local":
        cpus = sum(point.cpus for point in facts.points)
        points = counted(len(facts.points), "execute point")
        lines.append(
            Text(
                f"{points} with slots of {counted(cpus, 'CPU')} together; schedd "
                f"{facts.schedd or 'unknown'}, Python bindings {facts.bindings}",
                "dim",
            )
        )
    return lines


def _sum(findings: Sequence[Finding]) -> Text:
    breaks, slows = (
        sum(finding.severity is severity for finding in findings)
        for severity in (Severity.BREAKS, Severity.SLOWS)
    )
    words = f"{_things(breaks)} would break runs"
    if slows:
        words += f"; {_things(slows)} slow{'s' if slows == 1 else ''} them down"
    return Text(words, _STYLES[Severity.BREAKS] if breaks else "green")


def _things(number: int) -> str:
    return {0: "nothing", 1: "one thing"}.get(number, f"{number} things")


def _paragraph(console: Console, label: Text, text: Text) -> None:
    """Print a label and a text next to it, whose lines are aligned."""
    if not console.is_terminal:
        _print(console, Text.assemble(label, text))
        return
    width = min(console.width, _TEXT_WIDTH) - _COLUMN
    for number, line in enumerate(text.wrap(console, max(width, 20))):
        line.rstrip()
        first = label if number == 0 else Text(" " * _COLUMN)
        _print(console, Text.assemble(first, line))
