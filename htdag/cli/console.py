"""The exit statuses and the output of commands: text, JSON and CSV."""

from __future__ import annotations

import sys
from typing import Any

import click

from htdag.common.text import visible
from htdag.errors import HtdagError, NotDone, RunActive, RunEnded, RunNotFound, UsageError

DONE, FAILED, MISTAKE, NOT_DONE, INTERRUPTED = 0, 1, 2, 3, 130
"""The exit statuses."""


def say(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text on standard output or standard error, with control characters escaped."""
    click.echo(visible(text), err=err, nl=nl)


def status_of(error: HtdagError) -> int:
    """Return the exit status for an error."""
    if isinstance(error, NotDone):
        return NOT_DONE
    return MISTAKE if isinstance(error, UsageError | RunNotFound | RunActive | RunEnded) else FAILED


JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


CSV = click.option("--csv", "as_csv", is_flag=True, help="Print CSV, for spreadsheets.")


NO_PROGRESS = click.option(
    "--no-progress", is_flag=True, help="Show no progress on standard error."
)


def print_json(content: Any) -> None:
    """Print a value as JSON on standard output."""
    from htdag.show.results import json_text

    click.echo(json_text(content))  # ASCII only, so nothing needs to be escaped


def print_csv(rows: list[dict[str, Any]]) -> None:
    """Print rows as CSV with a header line, or nothing if there are no rows."""
    import csv

    if rows:
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {
                name: visible(value) if isinstance(value, str) else value
                for name, value in row.items()
            }
            for row in rows
        )
