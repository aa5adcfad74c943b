"""What the HTCondor at hand can do, told by its programs and its configuration."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from htdag.backends.condor.bindings import htcondor2
from htdag.compile.dag import KEEPS_JOBS
from htdag.compile.scheduler import ANY, Scheduler, Version

_VERSION = re.compile(rb"\$CondorVersion: (\d+)\.(\d+)\.(\d+)")
_OFTEN = 5.0  # seconds from one periodic negotiation to the next


def scheduler() -> Scheduler:
    """Return what the HTCondor can do that the bindings are turned to; nobody is asked for it."""
    program = shutil.which("condor_dagman")
    if program is None:
        return ANY
    dagman = Path(program)
    return Scheduler(
        version(dagman),
        keeps_jobs(dagman),
        _negotiation_interval() <= _OFTEN,
        _setting("FILESYSTEM_DOMAIN"),
    )


def version(program: Path) -> Version | None:
    """Return the version that a program of HTCondor's carries; None where it cannot be read."""
    try:
        match = _VERSION.search(program.read_bytes())
    except OSError:
        return None
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def keeps_jobs(dagman: Path) -> bool:
    """Return whether DAGMan can leave the other jobs of a node alone when one has failed."""
    try:
        return KEEPS_JOBS.encode() in dagman.read_bytes()
    except OSError:
        return False


def _setting(name: str) -> str:
    """Return a setting, as far as this machine knows; "" where there is none."""
    try:
        return str(htcondor2.param[name])
    except KeyError:
        return ""


def _negotiation_interval() -> float:
    """Return the seconds between periodic negotiations."""
    try:
        return float(_setting("NEGOTIATOR_INTERVAL"))
    except ValueError:
        return 60.0
