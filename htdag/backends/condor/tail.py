"""The output so far of running jobs on execute points that do not share the file system.

Such a job writes to its scratch directory there. ``condor_tail`` fetches its output streams and the
files that it will send back, such as its record.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from htdag.backends.condor.event_log import EventLog
from htdag.backends.condor.setup import Setup
from htdag.backends.tickets import Ticket
from htdag.runtime import lanes
from htdag.runtime.layout import NodeFiles

MOST = 16 << 20
"""The greatest number of bytes to fetch; of a longer stream, the last ones are fetched."""

_TIMEOUT = 30.0
_SUBMIT, _EXECUTE, _TERMINATED, _ABORTED = 0, 1, 5, 9
# Events after which a job is not running.
_STOPPED = (4, 7, 10, 12, 24)


def running_jobs(log: Path) -> dict[str, dict[int, str]]:
    """Return the running jobs of a log, by the names of their nodes and their numbers there."""
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
    jobs: dict[str, dict[int, str]] = {}
    for cluster, proc in running:
        jobs.setdefault(nodes.get(cluster, ""), {})[proc] = f"{cluster}.{proc}"
    return jobs


def job_of(run: Path, dag: str, node: str, chunk: str) -> str | None:
    """Return the running job of a chunk, as ``cluster.proc``; None if there is none."""
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


def peek(run: Path, ticket: Ticket, node: str, chunk: str, what: str) -> bytes | None:
    """Return the output of a running job.

    Parameters
    ----------
    run : pathlib.Path
        The run directory.
    ticket : dict
        The ticket of the run.
    node, chunk : str
        The node and the chunk of the job.
    what : str
        ``"out"`` or ``"err"`` for a stream, or else the path of a file that it will send back.

    Returns
    -------
    bytes or None
        None if no such job is running, or it does not answer.
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
