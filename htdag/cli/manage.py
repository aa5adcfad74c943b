"""The commands that manage runs: rename, delete, export and import them."""

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
    """Give another tag to a run that has ended.

    `htdag clean` deletes runs whose tag htdag made up, but no longer once they have another one.

    \b
    Example:
      htdag retag survey-20261122-185628 "the good survey"
    """
    import htdag

    run = htdag.load(tag).retag(new)
    say(f"run {tag!r} is now {run.tag!r}, in {run.path}")


@click.command(short_help="Delete runs that have ended; asks first.")
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

    Without PATTERN, these are only transient runs, whose tags htdag made up. - stands for the tags
    on standard input, one per line. The command shows the runs and their sizes, and asks before it
    deletes them. Runs that have not ended stay.

    \b
    Examples:
      htdag clean --older-than 30d
      htdag clean "test-*" --state failed
    """
    if every and patterns:
        raise UsageError("--all means all runs: omit the patterns, or --all")
    chosen: list[str | None] = ["*"] if every else [*with_stdin(patterns)] or [None]
    entries = _cleaned(chosen, states, older_than, dry_run=True)
    if as_json:
        print_json([entry.__dict__ | {"changed": entry.changed.isoformat()} for entry in entries])
    elif entries:
        _print_cleaned(entries)
    else:
        what = "" if patterns or every else " whose tag htdag made up"
        say(f"htdag: no such run{what} has ended", err=True)
    if not entries or dry_run:
        return DONE
    if not yes:
        if STDIN in patterns or not sys.stdin.isatty():
            words = ["--all"] if every else [*patterns]
            words += [word for state in states for word in ("--state", state)]
            words += [] if older_than is None else [f"--older-than={older_than.total_seconds():g}s"]
            command = shlex.join(["htdag", "clean", *words, "--yes"])
            raise UsageError(f"to delete them without a question: {command}")
        runs = f"{len(entries)} run{'' if len(entries) == 1 else 's'}"
        if not click.confirm(f"Delete {runs} with all results?", err=True):
            say("nothing was deleted", err=True)
            return FAILED
    deleted = _cleaned([entry.tag for entry in entries], states, older_than, dry_run=False)
    if not as_json:
        say(f"deleted: {len(deleted)}")
    return DONE


def _cleaned(
    patterns: list[Any], states: tuple[str, ...], older_than: timedelta | None, dry_run: bool
) -> list[Cleaned]:
    import htdag

    entries = {}
    for pattern in patterns:
        for entry in htdag.clean(
            pattern, states=states or _STATES, older_than=older_than, dry_run=dry_run
        ):
            entries[entry.tag] = entry
    return list(entries.values())


@click.command(short_help="Write a run to one file.")
@TAG
@click.argument("file", type=click.Path(dir_okay=False))
def export(tag: str, file: str) -> None:
    """Write a whole run to one file: its results, errors, and all that resuming it needs.

    FILE ends with .tar, .tar.gz or .tar.xz. The run must have ended.

    \b
    Example:
      htdag export "my survey" survey.tar.gz
    """
    import htdag
    from htdag.common.text import size_of_file

    path = htdag.load(tag).export(file)
    say(f"run {tag!r} is in {path} ({size_of_file(path.stat().st_size)})")


@click.command("import", short_help="Import a run from an exported file.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--tag", help="The tag that the run gets here; by default its own.")
@click.option(
    "--on", type=click.Choice(["condor", "local"]), help="Where the run would be resumed."
)
def import_(file: str, tag: str | None, on: str | None) -> None:
    """Import a run that htdag export wrote, possibly on another machine.

    Runs hold pickled functions and values, which can run any code when they are read: import only
    runs that you trust.

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
