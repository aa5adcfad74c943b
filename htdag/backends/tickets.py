"""The tickets of runs: what a backend needs to find a submitted run again.

A first ticket is written before a run is submitted, so that a process killed meanwhile leaves no
unknown run behind. On HTCondor this ticket lacks the cluster, which the log of the DAGMan job has
as soon as the job is in the queue.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypedDict, cast

from htdag.runtime import layout

IMPORTED: Final = "imported"
"""In the ticket of an imported run: the state that the run had where it was exported.

In ``run.json``, where it stays: that the run was imported.
"""

_SUBMITTED = re.compile(rb"^000 \((\d+)\.", re.MULTILINE)


class SetupEntry(TypedDict):
    """An HTCondor, as `htdag.backends.condor.setup.Setup` knows it."""

    config: str | None
    """Its configuration file."""
    programs: list[str]
    """The folders of its programs."""
    own: bool
    """Whether ``htdag pool start`` made it."""


class _Ticket(TypedDict, total=False):
    dag: str
    """The DAG file."""
    htcondor: SetupEntry
    """The HTCondor that it was submitted to; missing where that is the present one."""


class Ticket(_Ticket, total=False):
    """What a backend needs to find a run again; on this machine nothing."""

    cluster: int
    """The DAGMan job."""


class Foreseen(_Ticket, total=False):
    """What is known of a ticket before the run is submitted."""

    cluster: int | None
    """None: it will be in the log of the DAGMan job."""
    before: int | None
    """The DAGMan job of before, where there was one."""


class _TicketFile(TypedDict, total=False):
    imported: str
    """For a run that was brought from elsewhere: the state that it had there."""


class TicketFile(_TicketFile):
    """``submit.json``: where a run was submitted."""

    backend: str
    """The backend."""
    time: float
    """When, in seconds since the epoch."""
    ticket: Ticket | None
    """What the backend needs; None of a run that was brought from elsewhere."""


class _WrittenFile(_TicketFile):
    backend: str
    time: float
    ticket: Foreseen


def write(run: Path, backend: str, ticket: Ticket | Foreseen) -> None:
    """Write the ticket of a run."""
    content = {"backend": backend, "time": time.time(), "ticket": ticket}
    layout.write_aside(str(run / layout.TICKET), json.dumps(content).encode())


@contextlib.contextmanager
def announced(run: Path, backend: str, ticket: Foreseen) -> Iterator[None]:
    """Write a ticket for a submission that follows; if that fails, bring back the earlier ticket.

    If the process is killed during the submission, the ticket shows where the run has gone.
    """
    file = run / layout.TICKET
    before = file.read_bytes() if file.exists() else None
    write(run, backend, ticket)
    try:
        yield
    except Exception:
        if before is None:
            file.unlink()
        else:
            layout.write_aside(str(file), before)
        raise


def read(run: Path) -> TicketFile | None:
    """Return the ticket of a run, with its backend; None if it was never submitted.

    Raises
    ------
    htdag.runtime.layout.DamagedFile
        If it cannot be read.
    """
    try:
        content: _WrittenFile = layout.read_json(str(run / layout.TICKET), "backend", "ticket")
    except FileNotFoundError:
        return None
    if IMPORTED in content:
        # It was not submitted here, and an archive must not decide which HTCondor is asked.
        return {**content, "ticket": None}
    ticket = content["ticket"]
    if ticket and ticket.get("cluster", 0) is None:
        cluster = _last_submitted(run / f"{ticket['dag']}.dagman.log") or ticket["before"]
        if cluster is None:
            return None
        content["ticket"] = {**ticket, "cluster": cluster}
    return cast(TicketFile, content)


def _last_submitted(log: Path) -> int | None:
    try:
        clusters = _SUBMITTED.findall(log.read_bytes())
    except FileNotFoundError:
        return None
    return int(clusters[-1]) if clusters else None
