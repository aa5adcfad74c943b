"""The commands for whole runs."""

from __future__ import annotations

import contextlib
import shlex
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from htdag.cli.arguments import TAG, Chosen, complete_tags, takes_runs
from htdag.cli.console import CSV, INTERRUPTED, JSON, NO_PROGRESS, print_csv, print_json, say
from htdag.errors import (
    BackendError,
    FinalFailed,
    NotDone,
    RunDamaged,
    RunNotFound,
    UsageError,
    ValueUnreadable,
)

if TYPE_CHECKING:
    from htdag.observe.status import Status
    from htdag.run import Run
    from htdag.show.tables import RunRow

# Modules that are slow to import are imported in the commands that need them.

STATES = ("waiting", "running", "held", "done", "failed", "removed", "stopped", "not submitted")


@click.command()
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...", shell_complete=complete_tags)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([*STATES]),
    help="Only runs in this state; may be given several times.",
)
@click.option("--tags", "only_tags", is_flag=True, help="Print tags only, one per line.")
@CSV
@JSON
def runs(
    patterns: tuple[str, ...],
    states: tuple[str, ...],
    only_tags: bool,
    as_csv: bool,
    as_json: bool,
) -> None:
    """List runs, oldest first.

    PATTERN selects tags: * matches any characters, ? any one, and [ab] a or b. Put it in quotes.

    \b
    Examples:
      htdag runs
      htdag runs "survey-2026*" --state running --state held
      htdag runs --state failed --tags | htdag resume -
    """
    import htdag
    from htdag.show.tables import RunRow

    chosen = {run.tag: run for pattern in patterns or ("*",) for run in htdag.runs(pattern)}
    if only_tags and not states:
        rows = [RunRow(tag, "", "", "", run.created, "") for tag, run in chosen.items()]
    else:
        rows = [_run_row(run) for run in chosen.values()]
    rows.sort(key=lambda row: (row.created, row.tag))
    rows = [row for row in rows if not states or row.state in states]
    if as_json or as_csv:
        show = print_csv if as_csv else print_json
        show([row.__dict__ | {"created": row.created.isoformat()} for row in rows])
    elif only_tags:
        for row in rows:
            say(row.tag)
    elif rows:
        from htdag.show.tables import print_runs

        print_runs(rows)
    else:
        named = " or ".join(map(repr, patterns))
        what = f"no run's tag matches {named}" if patterns else "there are no runs"
        if states and chosen:
            what = f"no run is {' or '.join(states)}"
        say(f"htdag: {what}", err=True)


def _run_row(run: Run) -> RunRow:
    from htdag.show.tables import RunRow

    backend = ""
    try:
        backend = run.backend_name
        state = run.state.value
    except RunNotFound:
        state = "not submitted"
    except RunDamaged as error:
        state = "damaged"
        say(f"htdag: {error}", err=True)
    except (BackendError, ImportError) as error:
        state = "unknown"
        say(f"htdag: {run.tag}: {error}", err=True)
    return RunRow(run.tag, state, backend, run.pipeline_name, run.created, str(run.path))


@click.command()
@takes_runs
@click.option("--ask", is_flag=True, help="Ask the schedd too, not the run's files alone.")
@CSV
@JSON
def status(chosen: Chosen, ask: bool, as_csv: bool, as_json: bool) -> int:
    """Show how far runs have come, stage by stage.

    Stages that are computed together in one node share their counts. The exit status is 0 whatever
    the run's state; that of `htdag wait TAG --timeout 0` depends on the state.

    \b
    Examples:
      htdag status "my survey"
      htdag status "survey-*" --json
    """
    contents: list[Any] = []

    def show(run: Run) -> None:
        status_of_run = run.status(ask)
        if as_csv:
            contents.extend(_status_rows(run, status_of_run))
            return
        if as_json:
            contents.append(_status_content(run, status_of_run))
            return
        from htdag.show.tables import print_status

        if contents:
            say()
        contents.append(None)
        print_status(status_of_run, str(run.path))

    worst = chosen.each(show)
    if as_csv:
        print_csv(contents)
    elif as_json:
        print_json(chosen.json(contents))
    return worst


def _status_rows(run: Run, status: Status) -> list[dict[str, Any]]:
    """Return a row for each stage, for CSV."""
    counts = ("total", "done", "running", "waiting", "held", "failed", "jobs", "jobs_done")
    return [
        {"tag": run.tag, "state": status.state.value, "stage": stage.name, "node": stage.node}
        | {count: getattr(stage, count) for count in counts}
        for stage in status.stages
    ]


def _status_content(run: Run, status: Status) -> dict[str, Any]:
    from dataclasses import asdict

    content = asdict(status) | {
        "state": status.state.value,
        "ended": status.state.ended,
        "pipeline": run.pipeline_name,
        "targets": list(run.targets),
        "created": run.created.isoformat(),
        "path": str(run.path),
    }
    for entry, stage in zip(content["stages"], status.stages, strict=True):
        entry["waiting"] = stage.waiting
    return content


@click.command()
@takes_runs
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Wait no longer than this; 0 only checks. The exit status is 3 if the time runs out.",
)
@click.option("--holds-ok", is_flag=True, help="Keep waiting while jobs are on hold.")
@NO_PROGRESS
def wait(chosen: Chosen, timeout: float | None, holds_ok: bool, no_progress: bool) -> int:
    """Wait until runs have ended.

    The exit status is 0 if all of a run succeeded, and 1 if it failed or is held; for several runs
    it is the highest. Ctrl-C ends the waiting, not the run.

    \b
    Examples:
      htdag wait "my survey" && htdag result "my survey"
      htdag wait "my survey" --timeout 3600 --no-progress
    """
    return wait_for(chosen, timeout, not no_progress, holds_ok)


def wait_for(chosen: Chosen, timeout: float | None, progress: bool, holds_ok: bool = False) -> int:
    """Wait for one run, or for several in one display, and return the highest exit status."""
    if len(chosen) > 1:
        try:
            _watch(list(chosen), timeout, progress, holds_ok)
        except KeyboardInterrupt:
            say(f"\nhtdag: interrupted; the {len(chosen)} runs go on", err=True)
            return INTERRUPTED
        timeout, progress = 0.0, False  # all that remains is to report how each has ended
    return chosen.each(lambda run: _wait(run, timeout, progress, holds_ok))


def _watch(runs: list[Run], timeout: float | None, progress: bool, holds_ok: bool) -> None:
    from htdag.run import RunState
    from htdag.run.wait import poll_intervals
    from htdag.show.progress import Display

    with Display(progress) as display:
        for _ in poll_intervals(timeout):
            unfinished = []
            for run in runs:
                status = run.status()
                display.update(status)
                if not status.state.ended and (holds_ok or status.state is not RunState.HELD):
                    unfinished.append(run)
            runs = unfinished
            if not runs:
                return


@contextlib.contextmanager
def _warnings_as_messages() -> Iterator[None]:
    """Print warnings as messages, without lines of htdag's source."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            yield
        finally:
            for warning in caught:
                say(f"htdag: {warning.message}", err=True)


def _wait(run: Run, timeout: float | None, progress: bool, holds_ok: bool) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FinalFailed)  # a note of the status reports it, too
            try:
                run.wait(timeout, progress, holds_ok=holds_ok)
            finally:
                # A progress display shows the notes by itself.
                for note in () if progress else run.status().notes:
                    if note not in run.directory.said:
                        say(f"htdag: {note}", err=True)
    except KeyboardInterrupt:
        tag = shlex.quote(run.tag)
        say(
            f"\nhtdag: interrupted; the run {run.tag!r} goes on. "
            f"To wait again: htdag wait {tag}; to end it: htdag remove {tag}",
            err=True,
        )
        sys.exit(INTERRUPTED)


@click.command()
@TAG
@click.option("--target", metavar="STAGE", help="The target, if the pipeline has several.")
@JSON
def result(tag: str, target: str | None, as_json: bool) -> None:
    """Print the result of a run.

    A list is printed one item per line, a string as it is, anything else as Python shows it.
    Results are Python objects; if Python does not find their modules, those of the run are used.

    \b
    Examples:
      htdag result "my survey"
      htdag result "my survey" --target by_star --json > by_star.json
    """
    run = _load(tag)
    if target is None and len(run.targets) > 1:
        raise UsageError(f"run {tag!r} has several targets, name one: {', '.join(run.targets)}")
    try:
        with _warnings_as_messages():
            value = run.result(target)
    except NotDone as error:
        raise NotDone(
            f"run {tag!r} is {run.state.value}, and has no result yet; "
            f"to wait for it: htdag wait {shlex.quote(tag)}"
        ) from error
    except ValueUnreadable as error:
        raise ValueUnreadable(
            f"{error}. Does it need a module of yours? Then go to its folder and use: "
            f"PYTHONPATH=. htdag result {shlex.quote(tag)}"
        ) from error
    if as_json:
        print_json(value)
    else:
        from htdag.show.results import value_lines

        for line in value_lines(value):
            say(line)


@click.command()
@takes_runs
@click.option("--force", is_flag=True, help="Do not wait for an orderly end.")
def remove(chosen: Chosen, force: bool) -> int:
    """End running runs.

    Their files stay, finished items are kept, and `htdag resume` can continue them.

    \b
    Example:
      htdag remove "my survey"
    """

    def end(run: Run) -> None:
        tag, state = run.tag, run.state
        if state.ended:
            say(f"run {tag!r} has already ended: it is {state.value}")
            return
        run.remove(force)
        state = run.state
        if not state.ended:
            raise BackendError(f"run {tag!r} is still {state.value}; try again, or use --force")
        say(
            f"run {tag!r} is removed; finished items are kept. "
            f"To resume it: htdag resume {shlex.quote(tag)}"
        )

    return chosen.each(end)


@click.command()
@JSON
def version(as_json: bool) -> None:
    """Print the versions of htdag, Python and HTCondor."""
    from htdag.show.versions import versions

    numbers = versions()
    if as_json:
        print_json(numbers)
        return
    say(f"htdag {numbers['htdag']}")
    say(f"Python {numbers['python']} ({sys.executable})")
    say(f"HTCondor's Python bindings {numbers['bindings'] or 'are not installed'}")
    say(f"HTCondor {numbers['htcondor'] or 'was not found (no condor_version in PATH)'}")


def _load(tag: str) -> Run:
    import htdag

    return htdag.load(tag)
