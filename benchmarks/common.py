"""What the benchmarks share: the machine, tables, and where figures are kept."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs" / "benchmarks.md"

sys.path.insert(0, str(PROJECT / "tests" / "support"))  # for the tests' own pool


def machine() -> str:
    """Return what a reader has to know of this machine."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{len(os.sched_getaffinity(0))} cores ({model[1] if model else platform.machine()}), "
        f"{memory:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have."""
    made = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    made.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    made.add_argument(
        "--page", action="store_true", help=f"put the tables into {PAGE.relative_to(PROJECT)}"
    )
    return made


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """Return a median with its range, where there are several values."""
    text = f"{median(values):.2f}"
    return text if len(values) < 2 else f"{text} ({min(values):.2f}-{max(values):.2f})"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table whose columns are aligned in plain text, too."""
    cells = [list(map(str, head)), *(list(map(str, row)) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = []
    for row in cells:
        first, *rest = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("| " + " | ".join([first, *(cell.strip().rjust(len(cell)) for cell in rest)]))
    rule = "| " + " | ".join(["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])])
    return "\n".join(line + " |" for line in [lines[0], rule, *lines[1:]])


def report(name: str, text: str, figures: Any, args: argparse.Namespace) -> None:
    """Print tables, write figures, and keep the tables on the page of benchmarks.

    Parameters
    ----------
    name : str
        The benchmark's name; the page has the marks ``<!-- NAME -->`` and ``<!-- /NAME -->``.
    text : str
        Markdown, with the tables.
    figures : object
        What is to be written as JSON.
    args : argparse.Namespace
        Of `parser`.
    """
    day = time.strftime("%Y-%m-%d")
    text = f"{text}\n\nMeasured on {day}, {machine()}."
    print(f"\n{text}\n", flush=True)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"machine": machine(), "day": day, "figures": figures}
        args.json.write_text(json.dumps(content, indent=1) + "\n")
    if args.page:
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        page = PAGE.read_text(encoding="utf-8")
        before, mark, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not mark or not closed:
            raise SystemExit(f"{PAGE} has no place {begin} ... {end}")
        PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
