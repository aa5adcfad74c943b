"""The cache as a table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.table import Table

from htdag.reuse.cache import Entry


def size_text(size: float) -> str:
    """Return a number of bytes in a unit that people read.

    Examples
    --------
    >>> size_text(2_500_000)
    '2.5 MB'
    """
    units = ["bytes", "KB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        del units[0]
    return f"{size:.0f} bytes" if units[0] == "bytes" else f"{size:.1f} {units[0]}"


def print_entries(entries: Sequence[Entry]) -> None:
    """Print entries, and the size of all of them."""
    table = Table(box=None, pad_edge=False)
    for heading in ("used last", "size", "stages", "from run"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "size" else "left")
    for entry in entries:
        used = f"{datetime.fromtimestamp(entry.used):%Y-%m-%d %H:%M}"
        table.add_row(used, size_text(entry.size), ", ".join(entry.stages), entry.tag)
    console = Console()
    console.print(table)
    console.print(f"{size_text(sum(entry.size for entry in entries))} in all", highlight=False)
