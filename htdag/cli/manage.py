"""The verbs that keep house: rename, delete, export and import runs."""

from __future__ import annotations

import shlex
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from htdag.cli.arguments import OLDER_THAN, STDIN, TAG, complete_tags, with_stdin
from htdag.cli.console import DONE, FAILED, JSON, print_json, say
from htdag.errors import UsageError

if TYPE_CHECKING:
    from htdag.catalog.housekeeping import Cleaned

_STATES = ("done", "failed", "removed", "stopped", "not submitted")


@click.command(short_help="Give a run another tag.")
@TAG
@click.argument("new")
def retag(tag: str, new: str) -> None:
    """Give a run another tag. It must have ended.

    A run whose tag was made up by htdag is kept by `htdag clean` once it has another one.

    \b
    Example:
      htdag retag survey-20261122-185628 "the good survey"
    """
    import htdag

    run = htdag.load(tag).retag(new)
    say(f"run {tag!r} is now {run.tag!r}, in {run.path}")


@click.command(short_help="Delete runs that have ended, after a question.")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...", shell_complete=complete_tags)
@click.option("--all", "every", is_flag=True, help="All runs, not only transient ones.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(_STATES),
    help="Only runs in this state; may be given several times.",
)
@OLDER_THAN
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
@JSON
def clean(
    patterns: tuple[str, ...],
    every: bool,
    states: tuple[str, ...],
    older_than: timedelta | None,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Delete the directories of runs that have ended, with their results.

    Without PATTERN only transient runs, whose tags were made up by htdag; - stands for the tags on
    standard input, one a line. It shows which runs, and
    what they occupy, and asks. Runs that have not ended are left alone.

    \b
    Examples:
      htdag clean --older-than 30d
      htdag clean "test-*" --state failed
    """
    if every and patterns:
        raise UsageError("--all means all runs: leave the patterns out, or --all")
    chosen: list[str | None] = ["*"] if every else [*with_stdin(patterns)] or [None]
    found = _cleaned(chosen, states, older_than, dry_run=True)
    if as_json:
        print_json([entry.__dict__ | {"changed": entry.changed.isoformat()} for entry in found])
    elif found:
        _print_cleaned(found)
    else:
        what = "" if patterns or every else " whose tag was made up by htdag"
        say(f"htdag: there is no such run{what} that has ended", err=True)
    if not found or dry_run:
        return DONE
    if not yes:
        if STDIN in patterns or not sys.stdin.isatty():
            words = ["--all"] if every else [*patterns]
            words += [word for state in states for word in ("--state", state)]
            words += [] if older_than is None else [f"--older-than={older_than.total_seconds():g}s"]
            command = shlex.join(["htdag", "clean", *words, "--yes"])
            raise UsageError(f"to delete them without a question: {command}")
        runs = f"{len(found)} run{'' if len(found) == 1 else 's'}"
        if not click.confirm(f"Delete {runs} with all results?", err=True):
            say("nothing was deleted", err=True)
            return FAILED
    gone = _cleaned([entry.tag for entry in found], states, older_than, dry_run=False)
    if not as_json:
        say(f"deleted: {len(gone)}")
    return DONE


def _cleaned(
    patterns: list[Any], states: tuple[str, ...], older_than: timedelta | None, dry_run: bool
) -> list[Cleaned]:
    import htdag

    found = {}
    for pattern in patterns:
        for entry in htdag.clean(
            pattern, states=states or _STATES, older_than=older_than, dry_run=dry_run
        ):
            found[entry.tag] = entry
    return list(found.values())


@click.command(short_help="Write a run to one file.")
@TAG
@click.argument("file", type=click.Path(dir_okay=False))
def export(tag: str, file: str) -> None:
    """Write a whole run to one file: its results, errors, and all that is needed to go on with it.

    FILE ends with .tar, .tar.gz or .tar.xz. The run must have ended.

    \b
    Example:
      htdag export "my survey" survey.tar.gz
    """
    import htdag
    from htdag.common.text import size_of_file

    path = htdag.load(tag).export(file)
    say(f"run {tag!r} is in {path} ({size_of_file(path.stat().st_size)})")


@click.command("import", short_help="Bring a run from a file that was exported.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--tag", help="The tag that it gets here; if not given, its own.")
@click.option("--on", type=click.Choice(["condor", "local"]), help="Where it would go on.")
def import_(file: str, tag: str | None, on: str | None) -> None:
    """Bring a run that htdag export has written, maybe on another machine.

    Runs hold pickled functions and values, which can do anything when they are read: import only
    those that you trust.

    \b
    Example:
      htdag import survey.tar.gz --tag "Ada's survey"
    """
    import htdag

    run = htdag.import_run(file, tag, on=on)
    say(f"run {run.tag!r} is in {run.path}")


def _print_cleaned(rows: list[Cleaned]) -> None:
    """Print a table of runs that can be deleted, with their sizes, on standard output."""
    from rich.text import Text

    from htdag.common.text import size_of_file
    from htdag.show.tables import print_table, state_text

    cells = [
        [
            Text(row.tag, "bold"),
            state_text(row.state),
            Text(size_of_file(row.size)),
            Text(f"{row.changed:%Y-%m-%d %H:%M:%S}"),
        ]
        for row in rows
    ]
    if len(rows) > 1:
        total = size_of_file(sum(row.size for row in rows))
        cells.append([Text(f"{len(rows)} runs"), Text(""), Text(total, "bold"), Text("")])
    print_table(["tag", "state", "size", "ended"], cells, right=["size"])
