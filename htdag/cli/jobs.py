"""The verbs for the jobs of a run that is under way."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from htdag.cli._group import JSON, TAG, print_json

if TYPE_CHECKING:
    from htdag.run import Run

STAGE = click.argument("stage", metavar="[STAGE]", required=False)
KEYS = click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="KEY",
    help="Only the jobs with this item of the stage; may be given several times.",
)


def _load(tag: str) -> Run:
    import htdag

    return htdag.load(tag)


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"


def _tell(content: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        print_json(content)
    else:
        click.echo(text)


def _act(
    name: str, method: str, done: str, short: str, text: str, examples: str, after: str = ""
) -> click.Command:
    """Return a verb that does one thing to the jobs of a run, of a stage or of some items."""

    @click.command(name, short_help=short, help=f"{short}\n\n{text}\n\n\b\n{examples}")
    @TAG
    @STAGE
    @KEYS
    @JSON
    def command(tag: str, stage: str | None, keys: tuple[str, ...], as_json: bool) -> None:
        run = _load(tag)
        doing: Callable[..., int] = getattr(run, method)
        number = doing(stage, keys or None)
        more = after.format(tag=shlex.quote(tag)) if number and after else ""
        _tell(
            {"tag": tag, "stage": stage, "jobs": number}, f"{_jobs(number)} {done}{more}", as_json
        )

    return command


hold = _act(
    "hold",
    "hold",
    "put on hold",
    "Put jobs on hold.",
    "Those that run end, and begin anew when they are released. Without STAGE all jobs of the run "
    "are held, and no further nodes begin.",
    'Examples:\n  htdag hold "my survey"\n  htdag hold "my survey" calibrate --key 17',
    "; to let them go on: htdag release {tag}",
)
release = _act(
    "release",
    "release",
    "released",
    "Release jobs that are on hold, whoever held them.",
    "Without STAGE this takes back a halt too; a run that has ended because it was halted is "
    "resumed.",
    'Examples:\n  htdag release "my survey"\n  htdag release "my survey" calibrate',
)
pause = _act(
    "pause",
    "pause",
    "paused",
    "Suspend jobs that run, with all they have in memory.",
    "Their slots stay taken. HTCondor's word for it is suspend.",
    'Examples:\n  htdag pause "my survey"\n  htdag pause "my survey" calibrate',
    "; to let them go on: htdag continue {tag}",
)
continue_ = _act(
    "continue",
    "continue_",
    "going on",
    "Let jobs go on that are paused.",
    "Also those that HTCondor has suspended for another reason.",
    'Example:\n  htdag continue "my survey"',
)
vacate = _act(
    "vacate",
    "vacate",
    "to begin anew",
    "End jobs that run and let them begin anew.",
    "They may do so elsewhere. This counts as no attempt.",
    'Examples:\n  htdag vacate "my survey"\n  htdag vacate "my survey" calibrate --key 17',
)


@click.command(short_help="Give jobs another priority among all your jobs.")
@TAG
@click.argument("number", type=int, metavar="NUMBER")
@STAGE
@JSON
def priority(tag: str, number: int, stage: str | None, as_json: bool) -> None:
    """Give jobs another priority among all your jobs.

    Those with higher numbers start first; 0 is what jobs have that were given none. It is kept for
    later attempts and for resume. For a negative NUMBER put -- before the TAG.

    \b
    Examples:
      htdag priority "my survey" 10
      htdag priority "my survey" 20 calibrate
      htdag priority -- "my survey" -5
    """
    changed = _load(tag).priority(number, stage)
    _tell(
        {"tag": tag, "stage": stage, "priority": number, "jobs": changed},
        f"{_jobs(changed)} in the queue, and all to come: priority {number}",
        as_json,
    )


@click.command()
@TAG
@STAGE
@click.option("--request-memory", metavar="SIZE", help="Such as 4GB, or a number of MB.")
@click.option("--request-disk", metavar="SIZE", help="Such as 20GB, or a number of KB.")
@click.option("--time", metavar="TIME", help="How long a job may run: seconds, or 30m, 8h, 2d.")
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    metavar="NAME=EXPRESSION",
    help="Any other attribute of the jobs' ads; may be given several times.",
)
@JSON
def edit(
    tag: str,
    stage: str | None,
    request_memory: str | None,
    request_disk: str | None,
    time: str | None,
    attributes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Change what the jobs of a stage ask HTCondor for.

    It holds for jobs that wait or are on hold, for those to come, for later attempts and for
    resume. Held jobs stay on hold until they are released.

    \b
    Examples:
      htdag edit "my survey" calibrate --request-memory 4GB
      htdag edit "my survey" --time 8h --attribute RequestCpus=2
    """
    given: dict[str, str] = {}
    for text in attributes:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--attribute {text!r}: it takes NAME=EXPRESSION")
        given[name.strip()] = value
    changed = _load(tag).edit(
        stage,
        request_memory=_size(request_memory),
        request_disk=_size(request_disk),
        time=None if time is None else _time(time),
        attributes=given,
    )
    _tell(
        {"tag": tag, "stage": stage, "jobs": changed},
        f"{_jobs(changed)} in the queue, and all to come, are changed",
        as_json,
    )


def _size(text: str | None) -> str | int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else text


_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def _time(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip(), re.ASCII)
    if match is None:
        raise click.UsageError(f"--time {text!r}: it takes seconds, or such as 30m, 8h, 2d")
    return float(match[1]) * _UNITS[match[2]]


@click.command()
@TAG
def halt(tag: str) -> None:
    """Let no further nodes of a run begin.

    Jobs in the queue go on to their end. If all of them have ended before `htdag unhalt`, the run
    ends too; unhalt, or resume, goes on with it then.

    \b
    Example:
      htdag halt "my survey"
    """
    _load(tag).halt()
    click.echo(
        f"run {tag!r} is halted: what is in the queue goes on, no further node begins. "
        f"To go on: htdag unhalt {shlex.quote(tag)}"
    )


@click.command()
@TAG
def unhalt(tag: str) -> None:
    """Take back a halt; a run that has ended meanwhile is resumed.

    \b
    Example:
      htdag unhalt "my survey"
    """
    run = _load(tag)
    run.unhalt()
    click.echo(f"run {tag!r} goes on: it is {run.state.value}")


@click.command()
@TAG
@JSON
def why(tag: str, as_json: bool) -> None:
    """Say why a run does not go on, or not faster, and what to do.

    Why jobs are on hold, which requests no slot can meet, whose turn it is, which nodes wait for
    others, why the run failed as a whole. It asks the schedd and the pool.

    \b
    Example:
      htdag why "my survey"
    """
    found = _load(tag).why()
    if as_json:
        from dataclasses import asdict

        print_json([asdict(reason) for reason in found])
        return
    for reason in found:
        click.echo(str(reason))
    if not found:
        click.echo("nothing keeps it: all that can run is running")


@click.command(short_help="List the jobs of a run that wait or run.")
@TAG
@STAGE
@click.option("--ask", is_flag=True, help="Ask the schedd too, not the event log alone.")
@JSON
def jobs(tag: str, stage: str | None, ask: bool, as_json: bool) -> None:
    """List the jobs of a run that wait or run, each with its state and since when.

    \b
    Examples:
      htdag jobs "my survey"
      htdag jobs "my survey" calibrate --ask
    """
    found = _load(tag).jobs(stage, ask)
    if as_json:
        from dataclasses import asdict

        print_json([asdict(job) for job in found])
        return
    from htdag.show.tables import print_jobs

    print_jobs(found)
