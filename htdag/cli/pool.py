"""The commands for the user's own pool."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from htdag.checks import quantities
from htdag.cli.console import DONE, FAILED, JSON, print_json, say
from htdag.cli.main import Verbs
from htdag.common.text import counted
from htdag.errors import OptionError, UsageError

if TYPE_CHECKING:
    from htdag.backends.condor.pool_state import PoolState


class _Memory(click.ParamType[int]):
    """An amount of memory, in MB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return quantities.units_of(quantities.size("MB")(value), "MB")
        except OptionError:
            self.fail(f"{value!r} is not a size; give one such as 512MB or 8GB", param, ctx)


@click.group(cls=Verbs)
def pool() -> None:
    """Start, stop or inspect an HTCondor pool of your own.

    It runs on this machine as your own processes, with settings that make many short jobs fast, and
    goes on when you log out. Scripts find it by themselves, unless another HTCondor answers here.

    \b
    Examples:
      htdag pool start --cpus 4 --memory 8GB
      htdag pool status
      htdag pool stop
    """


@pool.command()
@click.option(
    "--cpus",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many jobs of one CPU run at once; by default the number of CPUs.",
)
@click.option(
    "--memory",
    type=_Memory(),
    metavar="SIZE",
    help="Memory for all jobs together, such as 8GB; by default all of this machine's.",
)
@click.option(
    "--htcondor",
    "prefix",
    metavar="DIR",
    help="The folder with HTCondor's bin and sbin; remembered for later calls. By default "
    "$HTDAG_HTCONDOR, the folder of the last call, or that of condor_master on PATH.",
)
def start(cpus: int | None, memory: int | None, prefix: str | None) -> None:
    """Start your own pool, and wait until it answers.

    If it runs already, the command only says so. It needs HTCondor installed on this machine, and
    refuses to run as root. Jobs use the Python that runs this command, with all its packages.

    \b
    Examples:
      htdag pool start
      htdag pool start --cpus 4 --memory 8GB --htcondor ~/htcondor
    """
    from htdag.backends.condor.own_pool import OwnPool
    from htdag.show.pool import capacity

    own_pool = OwnPool()
    fresh = own_pool.start(prefix, cpus, memory, _notify)
    state = own_pool.state()
    already = "" if fresh else "already "
    say(f"your own pool is {already}running: {capacity(state)}, HTCondor {state.version}")
    other = _other()
    if other:
        say(f'htdag: on="auto" prefers another HTCondor that answers here: {other}', err=True)


def _other() -> str:
    """Return the name of an HTCondor that scripts prefer to the user's own pool; "" for none."""
    from htdag.backends.condor import backend

    setup, name = backend.find()
    return "" if setup is None or setup.own else name


@pool.command()
@click.option("--yes", is_flag=True, help="Do not ask, even if jobs are in its queue.")
def stop(yes: bool) -> None:
    """Stop your own pool.

    Its queue stays: runs that have not ended go on when the pool is started again. Running jobs end
    now and start again then, without the items that they have finished.

    \b
    Examples:
      htdag pool stop
      htdag pool stop --yes
    """
    from htdag.backends.condor.own_pool import OwnPool

    own_pool = OwnPool()
    state = own_pool.state()
    if not state.running:
        say("your own pool is not running")
        return
    waiting = _waiting(state)
    if waiting and not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"{waiting}. To stop the pool anyway: htdag pool stop --yes")
        say(f"{waiting}.", err=True)
        if not click.confirm("Stop the pool anyway?", err=True):
            say("your own pool keeps running", err=True)
            sys.exit(FAILED)
    own_pool.stop(_notify)
    say("your own pool is stopped")


def _waiting(state: PoolState) -> str:
    jobs = state.running_jobs + state.idle_jobs + state.held_jobs
    if not state.answers:
        return "it does not answer, so its queue is unknown"
    if not jobs and not state.runs:
        return ""
    held = f"{counted(state.runs, 'run')} and {counted(jobs, 'job')}"
    return f"its queue holds {held}, which go on when the pool is started again"


@pool.command()
@JSON
def status(as_json: bool) -> None:
    """Show whether your own pool is running, and what it is doing.

    The exit status is 0 if it runs and answers, and 1 otherwise.

    \b
    Example:
      htdag pool status && python survey.py
    """
    from htdag.backends.condor.own_pool import OwnPool

    state = OwnPool().state()
    if as_json:
        print_json(state.__dict__)
    else:
        from htdag.show.pool import print_pool

        print_pool(state)
    sys.exit(DONE if state.answers else FAILED)


def _notify(text: str) -> None:
    say(f"htdag: {text}", err=True)
