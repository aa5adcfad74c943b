"""Tickets of runs: whenever a process is killed, what it has submitted is known."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import htdag
from htdag.backends import tickets
from htdag.errors import RunActive

if TYPE_CHECKING:
    from pathlib import Path

LOG = "000 (17.000.000) 2026-11-30 23:00:00 Job submitted from host: <127.0.0.1>\n...\n"


@pytest.mark.parametrize(
    ("before", "log", "cluster"),
    [(None, None, None), (None, LOG, 17), (9, None, 9), (9, LOG.replace("17", "9") + LOG, 17)],
)
def test_a_ticket_from_before_the_submission(tmp_path: Path, before: Any, log: Any, cluster: Any):
    tickets.write(tmp_path, "condor", {"cluster": None, "before": before, "dag": "a.dag"})
    if log is not None:
        (tmp_path / "a.dag.dagman.log").write_text(log)
    found = tickets.read(tmp_path)
    assert (found["ticket"]["cluster"] if found else None) == cluster


SCRIPT = """
import os
import htdag
from htdag.backends import tickets

def die(run, backend, ticket):
    if ticket.get("cluster") is not None:
        os._exit(9)
    write(run, backend, ticket)

write, tickets.write = tickets.write, die

flow = htdag.Pipeline(htdag.source([1, 2]).map(lambda x: x), name="killed")
flow.submit("killed", on="condor", resume=True)
"""


@pytest.mark.pool
def test_a_process_that_is_killed_once_it_has_submitted(pool: Any, runs_dir: Path, tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script)]
    assert subprocess.run(command, check=False).returncode == 9
    run = htdag.load("killed")
    if not run.state.ended:
        with pytest.raises(RunActive):
            run.resume()
    assert run.wait(200, progress=False).result() == [1, 2]
    assert subprocess.run(command, check=False).returncode == 0  # nothing is left to do
