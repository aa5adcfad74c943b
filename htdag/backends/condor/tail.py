"""Read what a running job has written so far, where its files are not here.

A job on an execute point that does not share the file system writes to its scratch directory there.
``condor_tail`` fetches its output streams, and those files that it will send back: the record too.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from htdag.backends.condor.event_log import EventLog
from htdag.backends.condor.setup import Setup
from htdag.runtime import lanes
from htdag.runtime.layout import NodeFiles

MOST = 16 << 20
"""How many bytes are fetched at most; of a longer stream these are the last ones."""

_TIMEOUT = 30.0
_SUBMIT, _EXECUTE, _TERMINATED, _ABORTED = 0, 1, 5, 9
# After these a job runs no more, or not again yet.
_STOPPED = (4, 7, 10, 12, 24)


def running_jobs(log: Path) -> dict[str, dict[int, str]]:
    """Return the running jobs of a log, by what DAGMan calls their node and their number there."""
    nodes: dict[int, str] = {}
    running: dict[tuple[int, int], None] = {}
    for event in EventLog(log).events():
        job = (event.cluster, event.proc)
        if event.type == _SUBMIT and event.cluster not in nodes:
            nodes[event.cluster] = event.node
        elif event.type == _EXECUTE:
            running[job] = None
        elif event.type in (_TERMINATED, _ABORTED, *_STOPPED):
            running.pop(job, None)
    found: dict[str, dict[int, str]] = {}
    for cluster, proc in running:
        found.setdefault(nodes.get(cluster, ""), {})[proc] = f"{cluster}.{proc}"
    return found


def job_of(run: Path, dag: str, node: str, chunk: str) -> str | None:
    """Return the running job that works through a chunk, as ``cluster.proc``; None for none."""
    for name, jobs in running_jobs(run / f"{dag}.nodes.log").items():
        unit = lanes.unit(name)
        if unit.node != node:
            continue
        path = Path(NodeFiles(run, unit.node).chunk_list(unit.lane))
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, job in jobs.items():
            if number < len(lines) and lines[number].partition(",")[0] == chunk:
                return job
    return None


def peek(run: Path, ticket: dict[str, Any], node: str, chunk: str, what: str) -> bytes | None:
    """Return what a running job has written.

    Parameters
    ----------
    run : pathlib.Path
        The run directory.
    ticket : dict
        How the run was submitted.
    node, chunk : str
        Which job.
    what : str
        ``"out"`` or ``"err"`` for a stream, else the path of a file that it will send back.

    Returns
    -------
    bytes or None
        None where no such job runs, or it does not answer.
    """
    job = job_of(run, ticket["dag"], node, chunk)
    variables = Setup.of_ticket(ticket).variables()
    program = shutil.which("condor_tail", path=variables.get("PATH"))
    if job is None or program is None:
        return None
    words = {"out": [job], "err": ["-no-stdout", "-stderr", job]}
    command = [program, "-maxbytes", str(MOST), *words.get(what, ["-no-stdout", job, what])]
    try:
        done = subprocess.run(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
