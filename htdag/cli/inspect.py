"""The commands that look into a run: the output of its items, and a replay of one item."""

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
    "--raw", is_flag=True, help="Print every byte as it is, escape sequences too; for files."
)
STAGE = click.argument("stage", shell_complete=_complete_stages)


def _show(tag: str, stage: str, key: str | None, which: str, raw: bool) -> None:
    import htdag

    printed = htdag.load(tag)._printed(stage, key, which)
    if raw:
        click.echo(printed, nl=False)
    else:
        say(printed.decode(errors="backslashreplace"), nl=False)


@click.command(short_help="Print the standard output of a stage, or of an item.")
@TAG
@STAGE
@click.argument("key", required=False)
@RAW
def stdout(tag: str, stage: str, key: str | None, raw: bool) -> None:
    """Print the standard output of an item; without KEY, of all jobs of the stage.

    Jobs that are still running count, too, with their output so far. On HTCondor it is fetched from
    the execute point, if that shares no files with this machine. Escape sequences and other control
    characters are escaped; --raw prints every byte as it is.

    \b
    Examples:
      htdag stdout "my survey" calibrate 7
      htdag stdout "my survey" calibrate | grep -i warning
    """
    _show(tag, stage, key, "out", raw)


@click.command(short_help="Print the standard error of a stage, or of an item.")
@TAG
@STAGE
@click.argument("key", required=False)
@RAW
def stderr(tag: str, stage: str, key: str | None, raw: bool) -> None:
    """Print the standard error of an item; see htdag stdout.

    \b
    Example:
      htdag stderr "my survey" calibrate 7
    """
    _show(tag, stage, key, "err", raw)


@click.command(short_help="Repeat an item here, in Python's debugger.")
@TAG
@STAGE
@click.argument("key")
@click.option("--no-pdb", is_flag=True, help="Only print what was called and returned.")
@click.option("--step", is_flag=True, help="Stop at the start of the stage's function.")
@JSON
def debug(tag: str, stage: str, key: str, no_pdb: bool, step: bool, as_json: bool) -> int:
    """Repeat an item in this process, with its true input and the run's own function.

    The item passes through earlier stages of the same node, too. If the function raises an
    exception, Python's debugger opens: `p name` prints a variable, `up` goes to the caller, `q`
    quits. The run stays as it is; the item works in a scratch directory. The exit status is 1 if
    the function raised an exception.

    The functions are those that the run was submitted with, even if the script has changed since;
    the debugger shows the lines of the file as it is now.

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
