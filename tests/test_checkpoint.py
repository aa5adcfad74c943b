"""Checkpoint: what an evicted job had done, and what functions have put aside."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import htdag

if TYPE_CHECKING:
    from pool import Pool


def slow(seconds: float) -> dict[str, Any]:
    """Say where an item was computed, and when."""
    sys.stdout.write(f"item {htdag.current().key}\n")
    time.sleep(seconds)
    return {"scratch": str(htdag.current().scratch), "time": time.time()}


def count(last: int) -> list[str]:
    """Count in steps that are put aside; return where each step was made."""
    state, folder = Path("state.json"), Path("steps")
    done = json.loads(state.read_text()) if state.exists() else []
    if len(done) != len(list(folder.glob("*/*"))):  # not by assert, for which pytest has its own
        raise ValueError("a part of a checkpoint")
    for number in range(len(done), last):
        done.append(str(htdag.current().scratch))
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "done").write_text("x")
        state.write_text(json.dumps(done))
        htdag.checkpoint(state, folder)
        sys.stdout.write(f"step {number}\n")
        time.sleep(0.5)
    return done


def job_events(run: htdag.Run, kind: str) -> int:
    log = run.path / f"{run.pipeline_name}.dag.nodes.log"
    text = log.read_text() if log.exists() else ""
    return sum(line.startswith(kind) for line in text.splitlines())


def vacate(pool: Pool, run: htdag.Run, *options: str) -> None:
    """Evict the run's only job when it runs, and wait until it runs again."""
    before = job_events(run, "004")
    found = pool.schedd.query("JobUniverse == 5 && JobStatus == 2", ["ClusterId"])
    assert len(found) == 1, [str(error) for error in run.errors()]
    (ad,) = found
    subprocess.run(["condor_vacate_job", *options, str(ad["ClusterId"])], check=True)
    pool.wait_until(lambda: job_events(run, "004") > before, 30, "the eviction")


def starts(run: htdag.Run, pool: Pool, number: int) -> None:
    pool.wait_until(lambda: job_events(run, "001") >= number, 60, f"{number} starts of the job")


@pytest.mark.pool
def test_an_evicted_chunk_keeps_what_is_done(pool: Pool, runs_dir: Path):
    stage = htdag.source([1.5] * 6).map(slow, chunk_size=6, checkpoint_interval="1s")
    with pool.only("blind"):
        run = htdag.Pipeline(stage, name="evicted").submit(on="condor")
        starts(run, pool, 1)
        time.sleep(5)
        vacate(pool, run)
        starts(run, pool, 2)
        time.sleep(3)
        vacate(pool, run, "-fast")
        run.wait(timeout=120)
    values = run.result()
    assert len({value["scratch"] for value in values}) > 1
    assert [value["time"] for value in values] == sorted(value["time"] for value in values)
    assert [run.stdout("slow", str(n)) for n in range(6)] == [f"item {n}\n" for n in range(6)]


@pytest.mark.pool
def test_a_second_eviction_does_not_lose_the_first_checkpoint(pool: Pool, runs_dir: Path):
    stage = htdag.source([12]).map(count, checkpoint_interval="1s")
    with pool.only("blind"):
        run = htdag.Pipeline(stage, name="counted").submit(on="condor")
        starts(run, pool, 1)
        time.sleep(4)
        vacate(pool, run)
        starts(run, pool, 2)
        vacate(pool, run, "-fast")  # before it has put anything aside
        run.wait(timeout=120)
    (steps,) = run.result()
    assert len(steps) == 12
    assert len(set(steps)) > 1
    assert "step 0\n" in run.stdout("count", "0")
