"""Lines of a list that are too long for late materialisation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import reference

import htdag
from htdag.backends.base import Activity, RunState
from htdag.observe.status import Reader
from htdag.runtime import planfile
from htdag.runtime.dag import submitfile
from htdag.runtime.layout import NodeFiles

SHORT = "000000, 1, in/000000.1.json\n"
LONG = SHORT[:-1] + ", x" * submitfile.LONGEST_MATERIALIZED + "\n"


@pytest.mark.parametrize(
    ("options", "left_out"),
    [
        ({}, []),
        ({"max_materialize": 3}, ["max_materialize"]),
        ({"max_idle": 2}, ["max_idle"]),
        ({"max_materialize": 3, "max_idle": 2}, ["max_materialize", "max_idle"]),
    ],
)
def test_limits_that_long_lines_take_away_are_told(tmp_path, options, left_out):
    stage = htdag.source(range(4), chunk_size=1).map(abs, name="work", **options)
    run = reference.compiled(htdag.Pipeline(stage), tmp_path / "run")
    plan = planfile.read(str(run))
    (node,) = plan["nodes"]
    submit, log = (
        Path(NodeFiles(run, "work").submit),
        Path(NodeFiles(run, "work").logs) / "post.log",
    )
    before = submit.read_text()

    submitfile.drop_late_materialization(str(run), node, 0, [SHORT] * 2)
    assert submit.read_text() == before
    assert not log.exists()
    for _ in range(2):  # what is taken away is told once
        submitfile.drop_late_materialization(str(run), node, 0, [SHORT, LONG])
    kept = [line for line in before.splitlines() if not line.startswith("max_")]
    assert submit.read_text().splitlines() == kept
    assert submitfile.limits_left_out(str(run), "work") == left_out
    told = log.read_text().splitlines() if left_out else []
    assert [f"without {' and '.join(left_out)}: " in line for line in told] == [True] * len(told)
    assert len(told) == bool(left_out)
    if left_out:
        assert json.loads(Path(NodeFiles(run, "work").at_once).read_text())["characters"] == len(
            LONG
        )

    def notes(backend):
        return Reader(run, plan).read("tag", backend, Activity(RunState.RUNNING)).notes

    assert [f"without {' and '.join(left_out)};" in note for note in notes("condor")] == [
        True
    ] * len(told)
    assert notes("local") == ()  # there all limits hold
