"""The verbs that look at single items, and at what jobs have used."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from htdag.cli.arguments import TAG, Chosen, takes_runs, takes_stage
from htdag.cli.console import CSV, JSON, print_csv, print_json, say
from htdag.cli.inspect import STAGE

if TYPE_CHECKING:
    from htdag.run import Run

_STATES = ("done", "failed", "running", "suspended", "held", "idle", "waiting")


@click.command(short_help="List the items of a stage, each with its state.")
@TAG
@STAGE
@click.option(
    "--state",
    "wanted",
    multiple=True,
    type=click.Choice(_STATES),
    help="Only items in this state; may be given several times.",
)
@click.option("--keys", "only_keys", is_flag=True, help="Print keys only, one a line.")
@click.option("--ask", is_flag=True, help="Ask the schedd too, not the run's files alone.")
@CSV
@JSON
def items(
    tag: str,
    stage: str,
    wanted: tuple[str, ...],
    only_keys: bool,
    ask: bool,
    as_csv: bool,
    as_json: bool,
) -> None:
    """List the items of a stage, each with its state, its job, and since when.

    Items are those that the stage's node takes; "waiting" are those that have no job now, "idle"
    those whose job waits in the queue.

    \b
    Examples:
      htdag items "my survey" calibrate
      htdag items "my survey" calibrate --state failed --keys
    """
    import htdag

    run = htdag.load(tag)
    every = run.item_states(stage, ask=ask)
    found = [item for item in every if not wanted or item.state in wanted]
    if as_json:
        print_json([asdict(item) for item in found])
    elif as_csv:
        print_csv([asdict(item) for item in found])
    elif only_keys:
        for item in found:
            say(item.key)
    elif found:
        from htdag.show.tables import print_items

        print_items(found)
    else:
        what = f"is {' or '.join(wanted)}" if every else "is known yet: stages before make them"
        say(f"htdag: no item of {stage!r} in run {tag!r} {what}", err=True)


_FEW_JOBS = 20


@click.command(short_help="Show the time, memory and disk that jobs have used.")
@takes_stage
@click.option("--jobs", "each", is_flag=True, help="Show each job; by default only where few are.")
@CSV
@JSON
def usage(chosen: Chosen, stage: str | None, each: bool, as_csv: bool, as_json: bool) -> int:
    """Show the time, the memory and the disk that jobs have used, of those that have ended.

    Memory is the largest process of a job at its peak, Python included. With chunk_size=1 each job
    has one item, whose key is shown. Of more than 20 jobs those of a node are summed up in a line:
    the time of all, and the most memory and disk that one of them took.

    \b
    Examples:
      htdag usage "my survey" calibrate
      htdag usage "survey-*" --csv > usage.csv
    """
    rows: list[dict[str, Any]] = []

    def show(run: Run) -> None:
        found = run.usage(stage)
        if as_json or as_csv:
            rows.extend({"tag": run.tag, **asdict(entry)} for entry in found)
            return
        from htdag.show.tables import print_usage

        chosen.head(run)
        print_usage(found, each or len(found) <= _FEW_JOBS)

    worst = chosen.each(show)
    if as_json:
        print_json(rows)
    elif as_csv:
        for row in rows:
            row["rounds"] = ".".join(map(str, row["rounds"]))
            row["stages"] = "; ".join(f"{name} {sec:g}" for name, sec in row["stages"].items())
        print_csv(rows)
    return worst


@click.command(short_help="Print the folders of runs.")
@takes_runs
def path(chosen: Chosen) -> int:
    """Print the folder of each run, one a line.

    \b
    Example:
      cd "$(htdag path 'my survey')"
    """
    return chosen.each(lambda run: say(str(run.path)))
