"""The verbs for a pool of one's own."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import click

from htdag.cli.console import DONE, FAILED, JSON, print_json, say
from htdag.cli.main import Verbs
from htdag.common.text import counted
from htdag.errors import UsageError

if TYPE_CHECKING:
    from htdag.backends.condor.pool_state import PoolState

_UNITS = {"": 1, "m": 1, "g": 1024, "t": 1024**2}  # in MB


class _Memory(click.ParamType[int]):
    """An amount of memory, in MB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([mgt]?)i?b?\s*", value, re.IGNORECASE)
        amount = round(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
        if amount < 1:
            self.fail(f"{value!r} is no size; give one such as 512MB or 8GB", param, ctx)
        return amount


@click.group(cls=Verbs)
def pool() -> None:
    """Start, stop or look at an HTCondor pool of your own.

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
    help="How many jobs of one CPU run at once; if not given, as many as there are CPUs.",
)
@click.option(
    "--memory",
    type=_Memory(),
    metavar="SIZE",
    help="Memory for all jobs together, such as 8GB; if not given, all of this machine's.",
)
@click.option(
    "--htcondor",
    "prefix",
    metavar="DIR",
    help="The folder with HTCondor's bin and sbin; remembered for later calls. If not given: "
    "$HTDAG_HTCONDOR, that of the last time, or condor_master on PATH.",
)
def start(cpus: int | None, memory: int | None, prefix: str | None) -> None:
    """Start your own pool, and wait until it answers.

    Where it runs already, this says so. It needs an HTCondor that is installed here, and an
    ordinary user. Jobs find the Python that htdag is started with here, with all its packages.

    \b
    Examples:
      htdag pool start
      htdag pool start --cpus 4 --memory 8GB --htcondor ~/htcondor
    """
    from htdag.backends.condor.own_pool import OwnPool
    from htdag.show.pool import size

    own = OwnPool()
    fresh = own.start(prefix, cpus, memory, _notify)
    state = own.state()
    already = "" if fresh else "already "
    say(f"your own pool is {already}running: {size(state)}, HTCondor {state.version}")
    other = _other()
    if other:
        say(f'htdag: on="auto" takes another HTCondor that answers here first: {other}', err=True)


def _other() -> str:
    """Return the name of an HTCondor that scripts take before one's own pool; "" for none."""
    from htdag.backends.condor import backend

    setup, name = backend.find()
    return "" if setup is None or setup.own else name


@pool.command()
@click.option("--yes", is_flag=True, help="Do not ask, even where jobs are in its queue.")
def stop(yes: bool) -> None:
    """Stop your own pool.

    Its queue stays: runs that have not ended go on when it is started again. Jobs that are running
    are ended, and begin anew then, without the items that they have finished.

    \b
    Examples:
      htdag pool stop
      htdag pool stop --yes
    """
    from htdag.backends.condor.own_pool import OwnPool

    own = OwnPool()
    state = own.state()
    if not state.running:
        say("your own pool is not running")
        return
    waiting = _waiting(state)
    if waiting and not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"{waiting}. To stop the pool all the same: htdag pool stop --yes")
        say(f"{waiting}.", err=True)
        if not click.confirm("Stop the pool all the same?", err=True):
            say("your own pool goes on", err=True)
            sys.exit(FAILED)
    own.stop(_notify)
    say("your own pool is stopped")


def _waiting(state: PoolState) -> str:
    jobs = state.running_jobs + state.idle_jobs + state.held_jobs
    if not state.answers:
        return "it does not answer, so what is in its queue is not known"
    if not jobs and not state.runs:
        return ""
    held = f"{counted(state.runs, 'run')} and {counted(jobs, 'job')}"
    return f"its queue holds {held}, which go on when the pool is started again"


@pool.command()
@JSON
def status(as_json: bool) -> None:
    """Show whether your own pool runs, and what it is doing.

    The exit status is 0 where it runs and answers, else 1.

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
