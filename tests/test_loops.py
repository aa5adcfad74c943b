"""Loops: what a step may be, what rounds give, and how a loop goes on after a failure."""

from __future__ import annotations

import json
import operator
import os
import signal
import subprocess
from functools import partial
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


def nearest(x: int, centres: list[int]) -> tuple[int, int]:
    return min(range(len(centres)), key=lambda number: abs(x - centres[number])), x


def note(sums: dict, found: tuple[int, int]) -> dict:
    count, total = sums.get(found[0], (0, 0))
    sums[found[0]] = (count + 1, total + found[1])
    return sums


def merge(a: dict, b: dict) -> dict:
    for key, (count, total) in b.items():
        before = a.get(key, (0, 0))
        a[key] = (before[0] + count, before[1] + total)
    return a


def means(sums: dict) -> list[int]:
    return [total // count for count, total in (sums[key] for key in sorted(sums))]


def k_means(most: int = 20, number: Callable[[int], int] = int) -> htdag.Stage:
    """Three groups of points; which of them an item is near to depends on the state."""
    points = htdag.source([100 * c + n for n in range(20) for c in (0, 5, 9)], chunk_size=30)
    points = points.map(number, name="points", fuse=False)

    def step(centres: htdag.Stage) -> htdag.Stage:
        near = points.map(nearest, bind={"centres": centres})
        return near.fold(note, merge, initial={}, name="sums").map(means)

    return htdag.iterate(step, [100, 550, 700], until=operator.eq, max_rounds=most, name="k_means")


def test_k_means(place: dict[str, Any]):
    loop = k_means()
    flow = htdag.Pipeline(loop, loop.map(sum, name="total"), **place["options"])
    run = flow.submit(on=place["on"]).wait(timeout=200, progress=False)
    expected = evaluate(flow.graph)
    assert run.result("k_means") == expected["k_means"] == [9, 509, 909]
    assert run.result("total") == expected["total"]
    end = json.loads((run.path / layout.loop_end("k_means")).read_text())
    assert end == {"rounds": layout.last_round(str(run.path), "k_means"), "until": True}
    assert run.status()["k_means"].note == f"{end['rounds']} rounds, until holds"


def multiplied(row: tuple[int, ...], vector: list[float]) -> float:
    return sum(a * b for a, b in zip(row, vector, strict=True))


def scaled(vector: list[float]) -> list[float]:
    most = max(map(abs, vector))
    return [x / most for x in vector]


def is_close(new: list[float], old: list[float]) -> bool:
    return max(abs(a - b) for a, b in zip(new, old, strict=True)) < 1e-3


def test_a_power_iteration_in_as_few_nodes_as_can_be(place: dict[str, Any]):
    """The eigenvector of a matrix; one node a round combines the rows, and scales."""
    rows = htdag.source([(2, 1), (1, 3)])

    def step(vector: htdag.Stage) -> htdag.Stage:
        products = rows.map(multiplied, bind={"vector": vector}, name="products")
        return products.reduce(as_list, initial=[], associative=False).map(scaled)

    loop = htdag.iterate(step, [1.0, 1.0], until=is_close, max_rounds=30, name="power")
    flow = htdag.Pipeline(loop, history=False, **place["options"])
    if place["on"] == "condor":  # a round takes seconds there
        loop = htdag.iterate(step, [0.6, 1.0], until=is_close, max_rounds=2, name="power")
        flow = htdag.Pipeline(loop, history=False, **place["options"])
    run = flow.submit(on=place["on"]).wait(timeout=200, progress=False)
    assert run.result() == evaluate(flow.graph)["power"]
    assert run.result() == pytest.approx([0.618, 1.0], abs=0.01)


def as_list(found: list[float], x: float) -> list[float]:
    return [*found, x]


# Going on


def fails_once(mark: Path, most: int, x: int, n: int) -> int:
    print(f"item {x} of round {n}")
    if (x, n) == (5, 2) and not mark.exists():
        raise ValueError(f"{x} in {n}")
    return min(x, most)


def counting(mark: Path) -> htdag.Pipeline:
    numbers = htdag.source(range(8), chunk_size=4)

    def step(n: htdag.Stage) -> htdag.Stage:
        worked = numbers.map(partial(fails_once, mark, 99), bind={"n": n}, name="work")
        return worked.count(name="how_many").zip(n, name="both").starmap(next_number)

    loop = htdag.iterate(step, 1, until=lambda n: n == 4, max_rounds=9, name="counting")
    return htdag.Pipeline(loop.map(str, name="text"), history=False)


def next_number(count: int, n: int) -> int:
    assert count == 8
    return n + 1


def test_a_failure_in_a_round_and_then_resume(place: dict[str, Any], tmp_path_factory):
    mark = Path("/var/tmp") / f"htdag-loops-{os.getpid()}-{tmp_path_factory.getbasetemp().name}"
    run = counting(mark).submit(on=place["on"])
    with pytest.raises(htdag.RunFailed, match="work, round 2, item 5 .*ValueError: 5 in 2"):
        run.wait(timeout=200, progress=False)
    (error,) = run.errors()
    assert (error.stage, error.key, error.rounds) == ("work", "5", (2,))
    assert run.errors("counting") == run.errors("work") == [error]
    assert error.stdout == run.stdout("work", "5") == "item 5 of round 2\n"
    assert run.stdout("work", "5", round=1) == "item 5 of round 1\n"
    status = run.status()
    assert status["counting"].note == "round 2 of at most 9"
    assert (status["work"].done, status["work"].failed, status["work"].rounds) == (7, 1, (2,))
    assert "  counting: round 2 of at most 9\n    work: 7/8 done" in str(status)
    outcomes = {
        path: path.stat().st_mtime_ns
        for path in run.path.glob("nodes/counting/rounds/*/nodes/work/out/*")
    }
    mark.touch()
    try:
        run.resume().wait(timeout=200, progress=False)
    finally:
        mark.unlink()
    assert run.result() == ["4"]
    assert run.status()["counting"].note == "3 rounds, until holds"
    assert {path: path.stat().st_mtime_ns for path in outcomes} == outcomes
    assert len(list(run.path.glob("nodes/counting/rounds/0002/nodes/work/out/*.2.record"))) == 1
    assert run.errors() == []
