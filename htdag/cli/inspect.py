"""The verbs that look into a run: what its items printed, and what one of them does."""

from __future__ import annotations

import sys
from typing import Any

import click

from htdag.cli.arguments import TAG
from htdag.cli.console import DONE, FAILED, JSON, print_json, say
from htdag.errors import HtdagError


def _complete_stages(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[Any]:
    import htdag

    try:
        stages = htdag.load(context.params["tag"]).status().stages
    except (HtdagError, OSError, KeyError):
        return []
    return [stage.name for stage in stages if stage.name.startswith(incomplete)]


RAW = click.option(
    "--raw", is_flag=True, help="As it is, with whatever may steer the terminal, for files."
)
STAGE = click.argument("stage", shell_complete=_complete_stages)


def _show(tag: str, stage: str, key: str | None, which: str, raw: bool) -> None:
    import htdag

    printed = htdag.load(tag)._printed(stage, key, which)
    if raw:
        click.echo(printed, nl=False)
    else:
        say(printed.decode(errors="backslashreplace"), nl=False)


@click.command(short_help="Print what a stage, or an item of it, has printed.")
@TAG
@STAGE
@click.argument("key", required=False)
@RAW
def stdout(tag: str, stage: str, key: str | None, raw: bool) -> None:
    """Print what an item has printed; without KEY, what all jobs of the stage have.

    Also of jobs that are still running: what they have printed so far. On HTCondor it is fetched
    from the execute point, where that shares no files with this machine. Escape sequences and the
    like are written out; --raw gives every byte as it is.

    \b
    Examples:
      htdag stdout "my survey" calibrate 7
      htdag stdout "my survey" calibrate | grep -i warning
    """
    _show(tag, stage, key, "out", raw)


@click.command(short_help="Print what a stage, or an item of it, wrote to standard error.")
@TAG
@STAGE
@click.argument("key", required=False)
@RAW
def stderr(tag: str, stage: str, key: str | None, raw: bool) -> None:
    """Print what an item wrote to standard error; as htdag stdout.

    \b
    Example:
      htdag stderr "my survey" calibrate 7
    """
    _show(tag, stage, key, "err", raw)


@click.command(short_help="Do an item again here, in Python's debugger.")
@TAG
@STAGE
@click.argument("key")
@click.option("--no-pdb", is_flag=True, help="Only print what was called, and what it returned.")
@click.option("--step", is_flag=True, help="Stop where the stage's function begins.")
@JSON
def debug(tag: str, stage: str, key: str, no_pdb: bool, step: bool, as_json: bool) -> int:
    """Do an item again in this process, with its true input and the run's own function.

    It goes through the stages before this one that share its node, too. Where the function raises,
    Python's debugger opens: `p name` prints a variable, `up` goes to the caller, `q` leaves. The
    run stays as it is; the item works in a scratch directory. The exit status is 1 where it raised.

    Functions are those that the run was submitted with, also where the script was changed since;
    the debugger shows lines of the file as it is now.

    \b
    Examples:
      htdag debug "my survey" calibrate 7
      htdag debug "my survey" calibrate 7 --no-pdb
      htdag debug "my survey" calibrate 7 --step
    """
    import htdag

    done = htdag.load(tag).debug(
        stage, key, pdb=not no_pdb and not as_json and sys.stdin.isatty(), step=step
    )
    if as_json:
        print_json(done.as_dict())
    elif no_pdb or done.error is None or not sys.stdin.isatty():
        say(str(done))
        if done.error is not None:
            say(done.traceback(), nl=False)
    return FAILED if done.error is not None else DONE
