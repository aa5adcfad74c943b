"""The command that shows errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from htdag.cli.arguments import Chosen, takes_stage
from htdag.cli.console import JSON, print_json, say

if TYPE_CHECKING:
    from htdag.run import Run

_MOST, _FEW = 10, 3
"""How many groups are shown without --limit: all up to `_MOST`, else only `_FEW`."""


@click.command(short_help="Show what failed in runs, and why.")
@takes_stage
@click.option("--items", is_flag=True, help="Show each error by itself, not in groups.")
@click.option(
    "--item", "key", metavar="KEY", help="Show all that is known about the errors of this item."
)
@click.option(
    "--limit",
    "most",
    type=click.IntRange(min=1),
    metavar="N",
    help="Show at most N groups or errors.",
)
@JSON
def errors(
    chosen: Chosen,
    stage: str | None,
    items: bool,
    key: str | None,
    most: int | None,
    as_json: bool,
) -> int:
    """Show what failed in runs: errors grouped by cause, the most costly cause first.

    Each group comes with one example: its traceback with the variables of the frames, and its
    output. If there are more than ten groups, the first three are shown; --limit shows more. Jobs
    on hold are grouped by HTCondor's hold code.

    \b
    Examples:
      htdag errors "my survey"
      htdag errors "my survey" calibrate --items --limit 100
      htdag errors "my survey" --item 17
    """
    contents: list[Any] = []
    listed = items or key is not None

    def show(run: Run) -> None:
        limit = most
        if listed:
            entries: list[Any] = [
                error for error in run.errors(stage) if key is None or error.key == key
            ][: limit if as_json else None]
        else:
            groups = run._groups(stage)
            if limit is None and not as_json:
                limit = len(groups) if len(groups) <= _MOST else _FEW
            entries = run._with_examples(groups[:limit])
            entries += [] if as_json else groups[len(entries) :]
        if as_json:
            contents.append([entry.as_dict() for entry in entries])
            return
        for line in _lines(run, entries, listed, key, limit):
            say(line)

    def show_with_heading(run: Run) -> None:
        if not as_json:
            chosen.head(run)
        show(run)

    worst = chosen.each(show_with_heading)
    if as_json:
        print_json(chosen.json(contents))
    return worst


def _failed(run: Run) -> bool:
    from htdag.run import RunState

    return run.state is RunState.FAILED


def _lines(run: Run, entries: list[Any], listed: bool, key: str | None, limit: int | None) -> Any:
    from htdag.show.errors import error_lines, group_lines

    if not entries:
        what = "no errors" if key is None else f"no errors of item {key}"
        whole = (
            [reason for reason in run.why() if reason.about == "the run"] if _failed(run) else []
        )
        return [what, *(f"{reason}" for reason in whole if key is None)]
    if listed:
        return error_lines(entries, limit, context=key is not None)
    return group_lines(entries, limit or len(entries), ended=run.state.ended, tag=run.tag)
