"""The capabilities of an HTCondor, from its programs and its configuration."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from htdag.backends.condor.bindings import htcondor2
from htdag.compile.dag import KEEPS_JOBS
from htdag.compile.scheduler import ANY, Scheduler, Version

_VERSION = re.compile(rb"\$CondorVersion: (\d+)\.(\d+)\.(\d+)")
_FREQUENT = 5.0  # seconds from one negotiation cycle to the next


def scheduler() -> Scheduler:
    """Return the capabilities of the HTCondor that the bindings use, without asking its daemons."""
    program = shutil.which("condor_dagman")
    if program is None:
        return ANY
    dagman = Path(program)
    return Scheduler(
        version(dagman),
        keeps_jobs(dagman),
        _negotiation_interval() <= _FREQUENT,
        _setting("FILESYSTEM_DOMAIN"),
    )


def version(program: Path) -> Version | None:
    """Return the version that is stored in a program of HTCondor; None if it is unreadable."""
    try:
        match = _VERSION.search(program.read_bytes())
    except OSError:
        return None
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def keeps_jobs(dagman: Path) -> bool:
    """Return whether DAGMan can let the other jobs of a node go on when one has failed."""
    try:
        return KEEPS_JOBS.encode() in dagman.read_bytes()
    except OSError:
        return False


def _setting(name: str) -> str:
    """Return a setting of this machine's configuration; "" if it has no value."""
    try:
        return str(htcondor2.param[name])
    except KeyError:
        return ""


def _negotiation_interval() -> float:
    """Return the seconds between negotiation cycles."""
    try:
        return float(_setting("NEGOTIATOR_INTERVAL"))
    except ValueError:
        return 60.0
