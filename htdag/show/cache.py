"""The cache as a table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from htdag.common.text import size_of_file, visible
from htdag.reuse.cache import Entry


def print_entries(entries: Sequence[Entry]) -> None:
    """Print entries of the cache and their total size."""
    table = Table(box=None, pad_edge=False)
    for heading in ("used last", "size", "stages", "from run"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "size" else "left")
    for entry in entries:
        used = f"{datetime.fromtimestamp(entry.used):%Y-%m-%d %H:%M}"
        cells = (used, size_of_file(entry.size), ", ".join(entry.stages), entry.tag)
        table.add_row(*(Text(visible(cell)) for cell in cells))
    console = Console()
    console.print(table)
    console.print(f"{size_of_file(sum(entry.size for entry in entries))} in all", highlight=False)
