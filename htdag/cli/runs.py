"""The verbs for runs: one for each thing that a person does with them."""

from __future__ import annotations

import contextlib
import shlex
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from htdag.cli._group import INTERRUPTED, JSON, NO_PROGRESS, TAG, print_json
from htdag.errors import BackendError, FinalFailed, HtdagError, NotDone, RunDamaged, RunNotFound

if TYPE_CHECKING:
    from htdag.run import Run
    from htdag.show.tables import RunRow

# What takes time to import is imported in the commands that need it.

_ERRORS_SHOWN = 10


@click.command()
@click.argument("pattern", default="*")
@JSON
def runs(pattern: str, as_json: bool) -> None:
    """List runs, oldest first.

    PATTERN selects tags: * stands for any letters, ? for one, [ab] for a or b. Put it in quotes.

    \b
    Examples:
      htdag runs
      htdag runs "survey-2026*"
    """
    import htdag

    rows = [_run_row(run) for run in htdag.runs(pattern)]
    if as_json:
        print_json([row.__dict__ | {"created": row.created.isoformat()} for row in rows])
    elif rows:
        from htdag.show.tables import print_runs

        print_runs(rows)
    else:
        what = "there are no runs" if pattern == "*" else f"no run's tag matches {pattern!r}"
        click.echo(f"htdag: {what}", err=True)


def _run_row(run: Run) -> RunRow:
    from htdag.show.tables import RunRow

    backend = ""
    try:
        backend = run.backend_name
        state = run.state.value
    except RunNotFound:
        state = "not submitted"
    except RunDamaged:
        state = "damaged"
    except (BackendError, ImportError) as error:
        state = "unknown"
        click.echo(f"htdag: {run.tag}: {error}", err=True)
    return RunRow(run.tag, state, backend, run.pipeline_name, run.created, str(run.path))


@click.command()
@TAG
@click.option("--ask", is_flag=True, help="Ask the schedd too, not the run's files alone.")
@JSON
def status(tag: str, ask: bool, as_json: bool) -> None:
    """Show how far a run has come, stage by stage.

    Stages that HTCondor computes together in one node share their counts. The exit status is 0
    whatever the run's state; `htdag wait TAG --timeout 0` tells it by its exit status.

    \b
    Example:
      htdag status "my survey"
    """
    run = _load(tag)
    found = run.status(ask)
    if not as_json:
        from htdag.show.tables import print_status

        print_status(found, str(run.path))
        return
    from dataclasses import asdict

    content = asdict(found) | {
        "state": found.state.value,
        "ended": found.state.ended,
        "pipeline": run.pipeline_name,
        "targets": list(run.targets),
        "created": run.created.isoformat(),
        "path": str(run.path),
    }
    for entry, stage in zip(content["stages"], found.stages, strict=True):
        entry["waiting"] = stage.waiting
    print_json(content)


@click.command()
@TAG
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Wait no longer than this; 0 only looks. The exit status is 3 then.",
)
@NO_PROGRESS
def wait(tag: str, timeout: float | None, no_progress: bool) -> None:
    """Wait until a run has ended.

    The exit status is 0 when all of it succeeded, and 1 when it failed or waits for a person (is
    held). Ctrl-C ends the waiting, not the run.

    \b
    Examples:
      htdag wait "my survey" && htdag result "my survey"
      htdag wait "my survey" --timeout 3600 --no-progress
    """
    _wait(_load(tag), timeout, not no_progress)


@contextlib.contextmanager
def _warnings_told() -> Iterator[None]:
    """Say what htdag warns of as a message, not as a line of its source."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            yield
        finally:
            for warning in caught:
                click.echo(f"htdag: {warning.message}", err=True)


def _wait(run: Run, timeout: float | None, progress: bool) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FinalFailed)  # a note of the status says it too
            try:
                run.wait(timeout, progress)
            finally:
                for note in run.status().notes:
                    click.echo(f"htdag: {note}", err=True)
    except KeyboardInterrupt:
        tag = shlex.quote(run.tag)
        click.echo(
            f"\nhtdag: interrupted; the run {run.tag!r} goes on. "
            f"To wait again: htdag wait {tag}; to end it: htdag remove {tag}",
            err=True,
        )
        sys.exit(INTERRUPTED)


@click.command(short_help="Show what failed in a run, and why.")
@TAG
@click.option("--stage", metavar="STAGE", help="Only the errors of this stage.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Show at most N errors; {_ERRORS_SHOWN} if not given (with --json all).",
)
@click.option("--all", "show_all", is_flag=True, help="Show all errors.")
@JSON
def errors(tag: str, stage: str | None, limit: int | None, show_all: bool, as_json: bool) -> None:
    """Show what failed in a run: which items, the traceback, and what they had printed.

    \b
    Examples:
      htdag errors "my survey"
      htdag errors "my survey" --stage calibrate --all
    """
    if show_all and limit is not None:
        raise click.UsageError("--limit and --all exclude each other")
    found = _load(tag).errors(stage)
    if as_json:
        from dataclasses import asdict

        print_json([asdict(error) for error in found[:limit]])
        return
    if not found:
        click.echo("no errors")
        return
    from htdag.show.tables import error_lines

    for line in error_lines(found, None if show_all else limit or _ERRORS_SHOWN):
        click.echo(line)


@click.command()
@TAG
@click.option(
    "--target", metavar="STAGE", help="Which result, where the pipeline has several targets."
)
@JSON
def result(tag: str, target: str | None, as_json: bool) -> None:
    """Print the result of a run.

    A list is printed one item a line, a text as it is, anything else as Python shows it. Results
    are Python objects: where they need a module of yours, run this where Python finds that module.

    \b
    Examples:
      htdag result "my survey"
      htdag result "my survey" --target by_star --json > by_star.json
    """
    run = _load(tag)
    try:
        with _warnings_told():
            value = run.result(target)
    except NotDone as error:
        raise NotDone(
            f"run {tag!r} is {run.state.value}, and its result is not there yet; "
            f"to wait for it: htdag wait {shlex.quote(tag)}"
        ) from error
    except (HtdagError, OSError):
        raise
    except Exception as error:
        raise HtdagError(
            f"the result of run {tag!r} cannot be loaded here: {type(error).__name__}: {error}. "
            f"Does it need a module of yours? Then go to its folder and use: "
            f"PYTHONPATH=. htdag result {shlex.quote(tag)}"
        ) from error
    if as_json:
        print_json(value)
    else:
        from htdag.show.values import value_lines

        for line in value_lines(value):
            click.echo(line)


@click.command()
@TAG
@click.option("--wait", "then_wait", is_flag=True, help="Then wait for it, as htdag wait does.")
@NO_PROGRESS
def resume(tag: str, then_wait: bool, no_progress: bool) -> None:
    """Go on with a run that failed, was removed or was killed.

    What is done is kept: only what is missing is computed. The functions are those that the run was
    started with; to use mended ones, start a new run.

    \b
    Examples:
      htdag resume "my survey"
      htdag resume "my survey" --wait
    """
    run = _load(tag).resume()
    state = run.state
    if state.value == "done" and not then_wait:
        click.echo(f"run {tag!r} is done")
        return
    if not then_wait:
        from htdag.show.progress import PLACES

        where = PLACES.get(run.backend_name, run.backend_name)
        click.echo(
            f"run {tag!r} is under way again {where}; to wait for it: htdag wait {shlex.quote(tag)}"
        )
        return
    _wait(run, None, not no_progress)


@click.command()
@TAG
@click.option("--force", is_flag=True, help="Do not wait for an orderly end.")
def remove(tag: str, force: bool) -> None:
    """End a run that is under way.

    Its files stay, what is done is kept, and `htdag resume` can go on from there.

    \b
    Example:
      htdag remove "my survey"
    """
    run = _load(tag)
    state = run.state
    if state.ended:
        click.echo(f"run {tag!r} had ended before: it is {state.value}")
        return
    run.remove(force)
    state = run.state
    if not state.ended:
        raise BackendError(f"run {tag!r} is still {state.value}; try again, or use --force")
    click.echo(
        f"run {tag!r} is removed; what is done is kept. To go on: htdag resume {shlex.quote(tag)}"
    )


@click.command()
@JSON
def version(as_json: bool) -> None:
    """Print the versions of htdag, Python and HTCondor."""
    from htdag.show.versions import versions

    found = versions()
    if as_json:
        print_json(found)
        return
    click.echo(f"htdag {found['htdag']}")
    click.echo(f"Python {found['python']} ({sys.executable})")
    click.echo(f"HTCondor's Python bindings {found['bindings'] or 'are not installed'}")
    click.echo(f"HTCondor {found['htcondor'] or 'was not found (no condor_version in PATH)'}")


def _load(tag: str) -> Run:
    import htdag

    return htdag.load(tag)
