"""DAGs that are submitted and gone on with by hand: nothing that is done is computed again."""

from __future__ import annotations

import functools
import operator
import re
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import reference

import htdag
from htdag.runtime import layout, planfile
from htdag.runtime.layout import NodeFiles

if TYPE_CHECKING:
    from pool import Pool

pytestmark = pytest.mark.pool


def record(folder: Path, name: str, x: int) -> None:
    with open(folder / f"{name}.calls", "a") as file:
        file.write(f"{x}\n")


def first(folder: Path, x: int) -> int:
    """Fail for 4 until that is mended, and take long for 7 and 10 until that is quick."""
    record(folder, "first", x)
    if x == 4 and (folder / "broken").exists():
        raise ValueError("not yet")
    while x in (7, 10) and (folder / f"slow-{x}").exists():
        time.sleep(0.1)
    return x


def second(folder: Path, x: int, total: int) -> int:
    record(folder, "second", x)
    return x + total


def calls(folder: Path, name: str) -> Counter[int]:
    path = folder / f"{name}.calls"
    return Counter(map(int, path.read_text().split() if path.exists() else []))


def each_once(folder: Path, *again: int) -> bool:
    once = Counter(range(12))
    return calls(folder, "second") == once and calls(folder, "first") == once + Counter(again)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    tmp_path.chmod(0o777)  # the blind execute point shares it
    return tmp_path


class ByHand:
    """A run directory of twelve items in four chunks, and HTCondor's own commands."""

    def __init__(self, pool: Pool, directory: Path, notes: Path, **options: Any) -> None:
        items = htdag.source(range(12), chunk_size=3).map(
            functools.partial(first, notes), name="first", **options
        )
        total = items.reduce(operator.add, name="total")
        both = items.map(functools.partial(second, notes), bind={"total": total}, name="second")
        self.pool, self.run = pool, directory
        self.dag = htdag.Pipeline(both, name="flow").compile(directory)
        self.cluster = 0

    def submit(self, *options: str) -> None:
        done = subprocess.run(
            ["condor_submit_dag", *options, self.dag.name],
            cwd=self.run,
            check=True,
            capture_output=True,
            text=True,
        )
        match = re.search(r"submitted to cluster (\d+)", done.stdout)
        assert match is not None, done.stdout
        self.cluster = int(match[1])

    def queue(self, constraint: str) -> list[Any]:
        return list(self.pool.schedd.query(constraint, ["ClusterId", "ProcId"]))

    def end(self) -> int:
        """Wait for the end of the DAG, and return its exit status."""
        mine = f"ClusterId == {self.cluster} || DAGManJobId == {self.cluster}"
        self.pool.wait_until(lambda: not self.queue(mine), 200, "the end of the DAG")
        (ad,) = self.pool.schedd.history(f"ClusterId == {self.cluster}", ["ExitCode"], 1)
        return int(ad.get("ExitCode", -1))

    def result(self) -> list[int]:
        return reference.result(self.run, "second")


RESULT = [x + sum(range(12)) for x in range(12)]


@pytest.mark.parametrize("options", [{}, {"retries": 1}], ids=["status", "script"])
@pytest.mark.parametrize("again", [(), ("-force",)], ids=["rescue", "force"])
def test_after_a_failure(
    pool: Pool, runs_dir: Path, notes: Path, options: dict[str, int], again: tuple[str, ...]
):
    hand = ByHand(pool, runs_dir / "run", notes, **options)
    (notes / "broken").touch()
    hand.submit()
    assert hand.end() == 1
    tries = 1 + options.get("retries", 0)
    assert calls(notes, "first") == Counter(range(12)) + Counter([4] * (tries - 1))
    (notes / "broken").unlink()
    hand.submit(*again)
    assert hand.end() == 0
    assert hand.result() == RESULT
    assert each_once(notes, *[4] * tries)
    # Nor does anything happen when all is done.
    hand.submit("-force")
    assert hand.end() == 0
    assert hand.result() == RESULT
    assert each_once(notes, *[4] * tries)


def test_one_job_is_removed_and_then_the_dag(pool: Pool, runs_dir: Path, notes: Path):
    """The third chunk is removed while the others are done or, as the fourth, under way."""
    for number in (7, 10):
        (notes / f"slow-{number}").touch()
    hand = ByHand(pool, runs_dir / "run", notes)
    with pool.only("seeing"):
        hand.submit()
        pool.wait_until(lambda: calls(notes, "first").total() == 10, 200, "the calls for 7 and 10")
        (ad,) = hand.queue(f"DAGManJobId == {hand.cluster} && ProcId == 2")
        job = f"{ad['ClusterId']}.{ad['ProcId']}"
        subprocess.run(["condor_rm", job], check=True, capture_output=True)
        said = runs_dir / "run" / f"{hand.dag.name}.dagman.out"
        pool.wait_until(lambda: "ULOG_JOB_ABORTED for" in said.read_text(), 200, "DAGMan to notice")
        # Before 25.14.0 DAGMan removes the other jobs too.
        keeps = pool.version >= (25, 14, 0)
        if not keeps:
            mine = f"DAGManJobId == {hand.cluster}"
            pool.wait_until(lambda: not hand.queue(mine), 200, "the end of the other jobs")
        (notes / "slow-10").unlink()
        assert hand.end() == 1
        assert calls(notes, "first")[11] == keeps
        hand.submit()
        pool.wait_until(lambda: calls(notes, "first")[7] == 2, 200, "the second call for 7")
        subprocess.run(["condor_rm", str(hand.cluster)], check=True, capture_output=True)
        hand.end()
        (notes / "slow-7").unlink()
        hand.submit()
        assert hand.end() == 0
    assert hand.result() == RESULT
    assert each_once(notes, 7, 7, *([] if keeps else [10]))


def needing(folder: Path, x: int) -> int:
    """Run out of memory until that is mended."""
    if (folder / "broken").exists():
        raise MemoryError
    return x


def test_memory_that_ran_out(pool: Pool, runs_dir: Path, notes: Path):
    """A node that exit statuses judge asks for more memory as soon as it is submitted again."""
    (notes / "broken").touch()
    stage = htdag.source([5]).map(
        functools.partial(needing, notes),
        name="needing",
        request_memory="100MB",
        retry_request_memory="300MB",
    )
    hand = ByHand.__new__(ByHand)
    hand.pool, hand.run = pool, runs_dir / "run"
    hand.dag = htdag.Pipeline(stage, name="flow").compile(hand.run)
    asked = []
    for status in (1, 0):
        hand.submit()
        assert hand.end() == status
        (ad,) = pool.job_ads(f"DAGManJobId == {hand.cluster}", ["RequestMemory"])
        asked.append(ad["RequestMemory"])
        (notes / "broken").unlink(missing_ok=True)
    assert asked == [100, 300]
    assert reference.result(hand.run, "needing") == [5]


def test_a_run_that_htdag_submitted(pool: Pool, runs_dir: Path, notes: Path):
    (notes / "broken").touch()
    items = htdag.source(range(12), chunk_size=3).map(functools.partial(first, notes), name="first")
    flow = htdag.Pipeline(items.map(str, fuse=False, name="texts"), name="flow")
    run = flow.submit(on="condor").wait(timeout=200, errors_ok=True)
    (notes / "broken").unlink()
    hand = ByHand.__new__(ByHand)
    hand.pool, hand.run, hand.dag = pool, run.path, run.path / "flow.dag"
    hand.submit()
    assert hand.end() == 0
    assert run.result() == [str(x) for x in range(12)]
    assert calls(notes, "first") == Counter(range(12)) + Counter([4])


def test_what_is_compiled_is_what_is_submitted(pool: Pool, runs_dir: Path, notes: Path):
    items = htdag.source(range(12), chunk_size=3).map(functools.partial(first, notes), name="first")
    flow = htdag.Pipeline(items.reduce(operator.add), items.map(abs, retries=1), name="flow")
    flow.compile(runs_dir / "run")
    run = flow.submit(on="condor").wait(timeout=200)
    names = ["flow.dag", layout.CONFIG, layout.LIST, layout.POST]
    names += [NodeFiles("", node["name"]).submit for node in planfile.read(str(run.path))["nodes"]]
    for name in names:
        assert (run.path / name).read_text() == (runs_dir / "run" / name).read_text(), name
