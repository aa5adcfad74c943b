"""The verb that tells what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from htdag.cli.arguments import Chosen, takes_stage
from htdag.cli.console import JSON, print_json, say

if TYPE_CHECKING:
    from htdag.run import Run

_MOST, _FEW = 10, 3
"""How many groups are shown if nobody says how many: where there are more, a screen of them."""


@click.command(short_help="Show what failed in runs, and why.")
@takes_stage
@click.option("--items", is_flag=True, help="Show each error by itself, and not in groups.")
@click.option("--item", "key", metavar="KEY", help="All that is known of this item's errors.")
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
    """Show what failed in runs: causes in groups, the one by which most is lost first.

    Each group comes with one example: its traceback with the variables of the frames, and what it
    had printed. Of more than ten groups the first three are shown; --limit shows more. Jobs on hold
    are groups by HTCondor's hold code.

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
            found: list[Any] = [
                error for error in run.errors(stage) if key is None or error.key == key
            ][: limit if as_json else None]
        else:
            groups = run._groups(stage)
            if limit is None and not as_json:
                limit = len(groups) if len(groups) <= _MOST else _FEW
            found = run._with_examples(groups[:limit])
            found += [] if as_json else groups[len(found) :]
        if as_json:
            contents.append([entry.as_dict() for entry in found])
            return
        for line in _lines(run, found, listed, key, limit):
            say(line)

    def titled(run: Run) -> None:
        if not as_json:
            chosen.head(run)
        show(run)

    worst = chosen.each(titled)
    if as_json:
        print_json(chosen.json(contents))
    return worst


def _failed(run: Run) -> bool:
    from htdag.run import RunState

    return run.state is RunState.FAILED


def _lines(run: Run, found: list[Any], listed: bool, key: str | None, limit: int | None) -> Any:
    from htdag.show.errors import error_lines, group_lines

    if not found:
        what = "no errors" if key is None else f"no errors of item {key}"
        whole = (
            [reason for reason in run.why() if reason.about == "the run"] if _failed(run) else []
        )
        return [what, *(f"{reason}" for reason in whole if key is None)]
    if listed:
        return error_lines(found, limit, context=key is not None)
    return group_lines(found, limit or len(found), ended=run.state.ended, tag=run.tag)
