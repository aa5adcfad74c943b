"""Loops: what a step may be, what rounds give, and how a loop goes on after a failure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from reference import evaluate

import htdag
from htdag.errors import FunctionError, OptionError, UsageError
from htdag.runtime import layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from pool import Pool

PLACES = [
    "local",
    pytest.param("blind", marks=pytest.mark.pool),
    pytest.param("seeing", marks=pytest.mark.pool),
]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, runs_dir: Path):
    """Where to run, and the options that send the jobs there."""
    if request.param == "local":
        yield {"on": "local", "options": {}}
        return
    pool = request.getfixturevalue("pool")
    with pool.use():
        needs = f'Machine =?= Machine && regexp("{request.param}", Name)'
        yield {"on": "condor", "options": {"requirements": needs}}


def nearest(x: float, centres: list[float]) -> tuple[int, float]:
    return min(range(len(centres)), key=lambda number: abs(x - centres[number])), x


def note(sums: dict, found: tuple[int, float]) -> dict:
    count, total = sums.get(found[0], (0, 0.0))
    sums[found[0]] = (count + 1, total + found[1])
    return sums


def merge(a: dict, b: dict) -> dict:
    for key, (count, total) in b.items():
        before = a.get(key, (0, 0.0))
        a[key] = (before[0] + count, before[1] + total)
    return a


def means(sums: dict) -> list[float]:
    return [total / count for count, total in (sums[key] for key in sorted(sums))]


def settled(new: list[float], old: list[float]) -> bool:
    return max(abs(a - b) for a, b in zip(new, old, strict=True)) < 0.001


def k_means(most: int = 20) -> htdag.Stage:
    """Three groups of points; which of them an item is near to depends on the state."""
    points = htdag.source([c + n / 100 for n in range(20) for c in (0, 5, 9)], chunk_size=20)
    points = points.map(float, name="points", fuse=False)

    def step(centres: htdag.Stage) -> htdag.Stage:
        near = points.map(nearest, bind={"centres": centres})
        return near.fold(note, merge, initial={}, name="sums").map(means)

    return htdag.iterate(step, [4.0, 6.0, 7.0], until=settled, max_rounds=most, name="k_means")


def test_k_means(place: dict[str, Any]):
    loop = k_means()
    flow = htdag.Pipeline(loop, loop.map(sum, name="total"), **place["options"])
    run = flow.submit(on=place["on"]).wait(timeout=200, progress=False)
    expected = evaluate(flow.graph)
    assert run.result("k_means") == expected["k_means"] == pytest.approx([0.095, 5.095, 9.095])
    assert run.result("total") == expected["total"]
    end = json.loads((run.path / layout.loop_end("k_means")).read_text())
    assert end == {"rounds": layout.last_round(str(run.path), "k_means"), "until": True}
    assert run.status()["k_means"].note == f"{end['rounds']} rounds, until holds"
