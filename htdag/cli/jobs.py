"""The commands for the jobs of running runs."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from htdag.cli.arguments import Chosen, takes_runs, takes_stage
from htdag.cli.console import JSON, print_json, say
from htdag.common.text import counted
from htdag.errors import RunEnded

if TYPE_CHECKING:
    from htdag.observe.diagnosis import Reason
    from htdag.run import Run

KEYS = click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="KEY",
    help="Only the jobs with this item of the stage; may be given several times.",
)


def _change(
    chosen: Chosen,
    act: Callable[[Run], tuple[dict[str, Any], str]],
    as_json: bool = False,
) -> int:
    """Change each run, and print the outcome as JSON or text.

    If there can be several runs, those that have ended are only mentioned.
    """
    contents: list[dict[str, Any]] = []

    def one(run: Run) -> None:
        try:
            content, text = act(run)
        except RunEnded:
            if not chosen.several:
                raise
            say(f"htdag: run {run.tag!r} has already ended: {run.state.value}", err=True)
            return
        contents.append({"tag": run.tag, **content})
        if not as_json:
            say(f"{run.tag}: {text}" if chosen.several else text)

    worst = chosen.each(one)
    if as_json:
        print_json(chosen.json(contents))
    return worst


def _show(
    chosen: Chosen,
    query: Callable[[Run], list[Any]],
    show: Callable[[list[Any]], None],
    as_json: bool,
) -> int:
    """Query each run, and print the results as JSON or text."""
    from dataclasses import asdict

    contents: list[Any] = []

    def one(run: Run) -> None:
        results = query(run)
        if as_json:
            entries = [asdict(entry) for entry in results]
            contents.extend({"tag": run.tag, **entry} for entry in entries)
            return
        chosen.head(run)
        show(results)

    worst = chosen.each(one)
    if as_json:
        print_json(contents)
    return worst


def _act(
    name: str, method: str, done: str, short: str, text: str, examples: str, after: str = ""
) -> click.Command:
    """Return a command that acts on the jobs of runs, of a stage or of some items."""

    @click.command(name, short_help=short, help=f"{short}\n\n{text}\n\n\b\n{examples}")
    @takes_stage
    @KEYS
    @JSON
    def command(chosen: Chosen, stage: str | None, keys: tuple[str, ...], as_json: bool) -> int:
        def act(run: Run) -> tuple[dict[str, Any], str]:
            action: Callable[..., int] = getattr(run, method)
            number = action(stage, keys or None)
            which = shlex.join([run.tag, *([stage] if stage else [])])
            more = after.format(which=which) if number and after else ""
            return {"stage": stage, "jobs": number}, f"{counted(number, 'job')} {done}{more}"

        return _change(chosen, act, as_json)

    return command


hold = _act(
    "hold",
    "hold",
    "put on hold",
    "Put jobs on hold.",
    "Running jobs end, and start again when they are released. Without STAGE, all jobs of the run "
    "are held, and no further nodes start.",
    'Examples:\n  htdag hold "my survey"\n  htdag hold "my survey" calibrate --key 17',
    "; to release them: htdag release {which}",
)
release = _act(
    "release",
    "release",
    "released",
    "Release jobs that are on hold, whoever held them.",
    "Without STAGE, this also undoes a halt; a run that has ended because of it is resumed.",
    'Examples:\n  htdag release "my survey"\n  htdag release "my survey" calibrate',
)
pause = _act(
    "pause",
    "pause",
    "paused",
    "Suspend running jobs, with all they have in memory.",
    "They keep their slots. HTCondor calls this suspend.",
    'Examples:\n  htdag pause "my survey"\n  htdag pause "my survey" calibrate',
    "; to continue them: htdag continue {which}",
)
continue_ = _act(
    "continue",
    "continue_",
    "continued",
    "Continue jobs that are paused.",
    "This includes jobs that HTCondor suspended for another reason.",
    'Example:\n  htdag continue "my survey"',
)
vacate = _act(
    "vacate",
    "vacate",
    "to start again",
    "End running jobs and let them start again.",
    "They may start on another machine. This does not count as an attempt.",
    'Examples:\n  htdag vacate "my survey"\n  htdag vacate "my survey" calibrate --key 17',
)


@click.command(short_help="Give jobs another priority among all your jobs.")
@takes_stage
@click.argument("number", type=int, metavar="NUMBER")
@JSON
def priority(chosen: Chosen, number: int, stage: str | None, as_json: bool) -> int:
    """Give jobs another priority among all your jobs.

    Jobs with higher numbers start first; the default is 0. The priority also applies to later
    attempts and to resume. For a negative NUMBER, put -- before the TAG.

    \b
    Examples:
      htdag priority "my survey" 10
      htdag priority "my survey" calibrate 20
      htdag priority -- "my survey" -5
    """

    def act(run: Run) -> tuple[dict[str, Any], str]:
        changed = run.priority(number, stage)
        return (
            {"stage": stage, "priority": number, "jobs": changed},
            f"{counted(changed, 'job')} in the queue, and all later ones: priority {number}",
        )

    return _change(chosen, act, as_json)


@click.command()
@takes_stage
@click.option("--request-memory", metavar="SIZE", help="Such as 4GB, or a number of MB.")
@click.option("--request-disk", metavar="SIZE", help="Such as 20GB, or a number of KB.")
@click.option("--time", metavar="TIME", help="How long a job may run: seconds, or 30m, 8h, 1d 12h.")
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    metavar="NAME=EXPRESSION",
    help="Any other attribute of the jobs' ads; may be given several times.",
)
@click.option("--transfer-files", is_flag=True, help="Send files even if they seem to be shared.")
@JSON
def edit(
    chosen: Chosen,
    stage: str | None,
    request_memory: str | None,
    request_disk: str | None,
    time: str | None,
    attributes: tuple[str, ...],
    transfer_files: bool,
    as_json: bool,
) -> int:
    """Change what the jobs of a stage request from HTCondor.

    The change applies to jobs that wait or are on hold, to later jobs and attempts, and to resume.
    Held jobs stay on hold until they are released.

    \b
    Examples:
      htdag edit "my survey" calibrate --request-memory 4GB
      htdag edit "my survey" --time 8h --attribute RequestCpus=2
    """
    expressions: dict[str, str] = {}
    for text in attributes:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--attribute {text!r}: it takes NAME=EXPRESSION")
        expressions[name.strip()] = value

    def act(run: Run) -> tuple[dict[str, Any], str]:
        changed = run.edit(
            stage,
            request_memory=_size(request_memory),
            request_disk=_size(request_disk),
            time=time,
            attributes=expressions,
            transfer_files=transfer_files,
        )
        text = f"{counted(changed, 'job')} in the queue, and all later ones, are changed"
        return {"stage": stage, "jobs": changed}, text

    return _change(chosen, act, as_json)


def _size(text: str | None) -> str | int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else text


@click.command()
@takes_runs
@JSON
def halt(chosen: Chosen, as_json: bool) -> int:
    """Start no further nodes of runs.

    Jobs in the queue run to their end. If all of them have ended before `htdag unhalt`, the run
    ends too; unhalt or resume continues it then.

    \b
    Examples:
      htdag halt "my survey"
      htdag runs --state running --tags | htdag halt -
    """

    def act(run: Run) -> tuple[dict[str, Any], str]:
        run.halt()
        return {"halted": True}, (
            f"halted: jobs in the queue go on, but no further node starts; "
            f"to undo it: htdag unhalt {shlex.quote(run.tag)}"
        )

    return _change(chosen, act, as_json)


@click.command()
@takes_runs
@JSON
def unhalt(chosen: Chosen, as_json: bool) -> int:
    """Undo a halt; a run that has ended meanwhile is resumed.

    \b
    Example:
      htdag unhalt "my survey"
    """

    def act(run: Run) -> tuple[dict[str, Any], str]:
        run.unhalt()
        state = run.state.value
        return {"halted": False, "state": state}, f"no longer halted: it is {state}"

    return _change(chosen, act, as_json)


@click.command(short_help="Show why runs do not progress, or not faster.")
@takes_runs
@JSON
def why(chosen: Chosen, as_json: bool) -> int:
    """Show why runs do not progress, or not faster, and what to do.

    Reasons are, for example, jobs on hold, requests that no slot can meet, users with a better
    priority, nodes that wait for others, or a failure of the whole run. The command asks the schedd
    and the pool.

    \b
    Examples:
      htdag why "my survey"
      htdag why "survey-*" --json
    """

    def show(reasons: list[Any]) -> None:
        for reason in _merged(reasons):
            say(str(reason))
        if not reasons:
            say("nothing holds it up: all that can run is running")

    return _show(chosen, lambda run: run.why(), show, as_json)


def _merged(reasons: list[Reason]) -> list[Reason]:
    """Return reasons, with those that are the same for several nodes merged into one."""
    from dataclasses import replace

    alike: dict[tuple[Any, ...], list[Reason]] = {}
    for reason in reasons:
        alike.setdefault((reason.why, reason.remedy, reason.clauses), []).append(reason)
    return [
        replace(same[0], about="; ".join(dict.fromkeys(reason.about for reason in same)))
        for same in alike.values()
    ]


@click.command(short_help="List the jobs of runs that wait or run.")
@takes_stage
@click.option("--ask", is_flag=True, help="Ask the schedd too, not the event log alone.")
@JSON
def jobs(chosen: Chosen, stage: str | None, ask: bool, as_json: bool) -> int:
    """List the jobs of runs that wait or run, each with its state and since when.

    \b
    Examples:
      htdag jobs "my survey"
      htdag jobs "my survey" calibrate --ask
    """
    from htdag.show.tables import print_jobs

    return _show(chosen, lambda run: run.jobs(stage, ask), print_jobs, as_json)
