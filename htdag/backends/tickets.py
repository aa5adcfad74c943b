"""The tickets of runs: what a backend needs to find a submitted run again.

A first ticket is written before a run is submitted, so that a process killed meanwhile leaves no
unknown run behind. On HTCondor this ticket lacks the cluster, which the log of the DAGMan job has
as soon as the job is in the queue.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from htdag.runtime import layout

IMPORTED = "imported"
"""In the ticket of an imported run: the state that the run had where it was exported.

In ``run.json``, where it stays: that the run was imported.
"""

_SUBMITTED = re.compile(rb"^000 \((\d+)\.", re.MULTILINE)


def write(run: Path, backend: str, ticket: dict[str, Any]) -> None:
    """Write the ticket of a run."""
    content = {"backend": backend, "time": time.time(), "ticket": ticket}
    layout.write_aside(str(run / layout.TICKET), json.dumps(content).encode())


def read(run: Path) -> dict[str, Any] | None:
    """Return the ticket of a run, with its backend; None if it was never submitted.

    Raises
    ------
    htdag.runtime.layout.DamagedFile
        If it cannot be read.
    """
    try:
        content: dict[str, Any] = layout.read_json(str(run / layout.TICKET), "backend", "ticket")
    except FileNotFoundError:
        return None
    ticket = content["ticket"]
    if IMPORTED in content:
        # It was not submitted here, and an archive must not decide which HTCondor is asked.
        return content | {"ticket": None}
    if ticket and ticket.get("cluster", 0) is None:
        cluster = _last_submitted(run / f"{ticket['dag']}.dagman.log") or ticket["before"]
        if cluster is None:
            return None
        content["ticket"] = {**ticket, "cluster": cluster}
    return content


def _last_submitted(log: Path) -> int | None:
    try:
        clusters = _SUBMITTED.findall(log.read_bytes())
    except FileNotFoundError:
        return None
    return int(clusters[-1]) if clusters else None
