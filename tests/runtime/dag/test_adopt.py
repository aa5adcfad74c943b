"""When a node takes over what another run has finished."""

from __future__ import annotations

from pathlib import Path

import pytest
import reference

import htdag
from htdag.runtime import planfile
from htdag.runtime.dag import adopt
from htdag.runtime.layout import NodeFiles


@pytest.fixture
def run(tmp_path: Path) -> Path:
    first = htdag.source(range(8), chunk_size=2).map(abs, name="first")
    flow = htdag.Pipeline(first.map(abs, name="second", fuse=False), name="flow", lanes=2)
    return reference.compiled(flow, tmp_path / "run")


def test_a_node_may_where_it_was_compared_once_and_before_its_jobs_run(run: Path):
    node = planfile.read(str(run))["by_name"]["first"]
    files = NodeFiles(str(run), "first")

    def wanted() -> list[bool]:
        return [adopt.is_wanted(str(run), node, lane) for lane in (0, 1, 2)]

    assert wanted() == [False, False, False]  # there is no other run
    node["reuse"] = True
    assert wanted() == [True, True, True]
    reference.work(run, "first", 0, 1)  # of the first lane
    assert wanted() == [False, False, True]
    Path(files.taken(2)).touch()
    assert wanted() == [False, False, False]


def test_what_was_taken_over_is_known_when_all_lanes_know_theirs(run: Path):
    node = planfile.read(str(run))["by_name"]["first"]
    files = NodeFiles(str(run), "first")
    assert adopt.taken(str(run), node) is None
    Path(files.taken(1)).write_text('{"items": 4, "reused": 3, "unfinished": 1, "same": true}')
    assert adopt.taken(str(run), node) is None
    Path(files.taken(2)).write_text('{"items": 4, "reused": 2, "unfinished": 0, "same": false}')
    assert adopt.taken(str(run), node) == adopt.Taken(8, 5, 1, False)
