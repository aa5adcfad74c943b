"""Which job works through a chunk, and what it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from htdag.backends.base import Activity, JobState, RunState
from htdag.backends.condor.tail import job_of, peek, running_jobs
from htdag.run.errors import holds

SUBMIT = """000 ({job}.000) 2026-11-25 14:00:00 Job submitted from host: <127.0.0.1:9618>
    [ DAGNodeName = "{node}"; JobBatchName = "d" ]
...
"""
OTHER = "{kind:03d} ({job}.000) 2026-11-25 14:00:01 Something happened\n...\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a node in one piece and one of two lanes, of which some jobs run."""
    lists = {"one/chunks.txt": "0000 0001", "cut/chunks.1.txt": "0000", "cut/chunks.2.txt": "0001"}
    for name, chunks in lists.items():
        path = tmp_path / "nodes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{chunk}, 1, x.items\n" for chunk in chunks.split()))
    log = ""
    for job, node, kinds in (
        ("007.000", "one", (1, 5)),
        ("007.001", "one", (1, 4, 1)),
        ("008.000", "cut.1", (1, 12)),
        ("009.000", "cut.2", (1,)),
    ):
        log += SUBMIT.format(job=job, node=node)
        log += "".join(OTHER.format(job=job, kind=kind) for kind in kinds)
    (tmp_path / "d.dag.nodes.log").write_text(log)
    return tmp_path


def test_the_job_of_a_chunk(run):
    assert running_jobs(run / "d.dag.nodes.log") == {"one": {1: "7.1"}, "cut.2": {0: "9.0"}}
    found = {
        (node, chunk): job_of(run, "d.dag", node, chunk)
        for node in ("one", "cut")
        for chunk in ("0000", "0001")
    }
    assert found == {
        ("one", "0000"): None,
        ("one", "0001"): "7.1",
        ("cut", "0000"): None,
        ("cut", "0001"): "9.0",
    }


def test_condor_tail_is_asked_for_streams_and_files(run, tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "condor_tail"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{programs}:/bin:/usr/bin")
    ticket = {"cluster": 6, "dag": "d.dag"}
    size = str(16 << 20)
    for what, words in (
        ("out", "7.1"),
        ("err", "-no-stdout -stderr 7.1"),
        ("nodes/one/out/0001.1.record", "-no-stdout 7.1 nodes/one/out/0001.1.record"),
    ):
        assert peek(run, ticket, "one", "0001", what) == f"-maxbytes {size} {words}\n".encode()
    assert peek(run, ticket, "one", "0000", "out") is None
    program.write_text("#!/bin/sh\necho no such job; exit 1\n")
    assert peek(run, ticket, "one", "0001", "out") is None


def test_jobs_on_hold_are_those_of_the_node_that_a_lane_is_of():
    reason = "Transfer failed: no file"
    job = JobState("cut.2", 8, 0, "held", 0.0, reason=reason)
    (hold,) = holds(Activity(RunState.RUNNING, held=(job,)), "tag")
    assert (hold.node, hold.job, hold.reason) == ("cut", "8.0", reason)
