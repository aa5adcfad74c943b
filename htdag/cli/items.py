"""The commands for single items, and for what jobs have used."""

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
@click.option("--keys", "only_keys", is_flag=True, help="Print keys only, one per line.")
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

    The items are those that the stage's node reads. A "waiting" item has no job now; the job of an
    "idle" item waits in the queue.

    \b
    Examples:
      htdag items "my survey" calibrate
      htdag items "my survey" calibrate --state failed --keys
    """
    import htdag

    run = htdag.load(tag)
    every = run.item_states(stage, ask=ask)
    matching = [item for item in every if not wanted or item.state in wanted]
    if as_json:
        print_json([asdict(item) for item in matching])
    elif as_csv:
        print_csv([asdict(item) for item in matching])
    elif only_keys:
        for item in matching:
            say(item.key)
    elif matching:
        from htdag.show.tables import print_items

        print_items(matching)
    else:
        what = f"is {' or '.join(wanted)}" if every else "is known yet: earlier stages make them"
        say(f"htdag: no item of {stage!r} in run {tag!r} {what}", err=True)


_FEW_JOBS = 20


@click.command(short_help="Show the time, memory and disk that jobs have used.")
@takes_stage
@click.option("--jobs", "each", is_flag=True, help="Show each job, even if there are many.")
@CSV
@JSON
def usage(chosen: Chosen, stage: str | None, each: bool, as_csv: bool, as_json: bool) -> int:
    """Show the time, memory and disk that jobs have used, of those that have ended.

    Memory is the peak of the largest process of a job, including Python. With chunk_size=1 each job
    has one item, whose key is shown. If there are more than 20 jobs, each node gets one line: the
    time of all its jobs, and the most memory and disk that one of them used.

    \b
    Examples:
      htdag usage "my survey" calibrate
      htdag usage "survey-*" --csv > usage.csv
    """
    rows: list[dict[str, Any]] = []

    def show(run: Run) -> None:
        entries = run.usage(stage)
        if as_json or as_csv:
            rows.extend({"tag": run.tag, **asdict(entry)} for entry in entries)
            return
        from htdag.show.tables import print_usage

        chosen.head(run)
        print_usage(entries, each or len(entries) <= _FEW_JOBS)

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
    """Print the folder of each run, one per line.

    \b
    Example:
      cd "$(htdag path 'my survey')"
    """
    return chosen.each(lambda run: say(str(run.path)))
