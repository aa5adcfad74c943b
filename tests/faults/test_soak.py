"""What takes minutes: `make soak`, and not `make test`.

A run of 10,000 items, killed and resumed at ten random moments. `HTDAG_SOAK_SEED` repeats one.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import full_disk
import psutil
import pytest
from faults import CHUNK as CHUNK_OF_FAULTS
from faults import ITEMS as ITEMS_OF_FAULTS
from faults import SECOND, SETTINGS, Disturbed, check_nothing_is_left, dagman_of, is_of, work
from pool import FAST, Area, Pool, wait_until

import htdag
from htdag.backends.local import cores
from htdag.runtime import layout

pytestmark = pytest.mark.soak

ITEMS, CHUNK, MOMENTS = 10_000, 50, 10


def slow_square(folder: Path, item: int) -> int:
    """Note the call in a file of this process, and take a little time."""
    with open(folder / f"calls.{os.getpid()}", "a") as file:
        file.write(f"{item}\n")
    time.sleep(0.004)
    return item * item


def calls(folder: Path) -> Counter[int]:
    found: Counter[int] = Counter()
    for file in folder.glob("calls.*"):
        found.update(map(int, file.read_text().split()))
    return found


def pipeline(folder: Path) -> htdag.Pipeline:
    squares = htdag.source(range(ITEMS), chunk_size=CHUNK).map(
        functools.partial(slow_square, folder), name="squares"
    )
    odd = squares.filter(lambda x: x % 2 == 1, name="odd")
    return htdag.Pipeline(squares, odd.reduce(max, name="largest"), history=False)


@pytest.fixture
def dice() -> random.Random:
    seed = os.environ.get("HTDAG_SOAK_SEED") or str(random.randrange(10**9))
    print("HTDAG_SOAK_SEED =", seed)  # noqa: T201  (shown where the test fails)
    return random.Random(seed)


@pytest.fixture(scope="module")
def soak_pool(pool_area: Area) -> Iterator[Pool]:
    pool = Pool("soak", pool_area, {**FAST, **SETTINGS})
    yield pool
    pool.stop()


def kill_local_process(run: htdag.Run) -> None:
    """Kill what runs it, and with it all of its jobs."""
    state = json.loads((run.path / layout.LOCAL_STATE).read_text())
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(state["pid"]).kill()


def wait_for_items(run: htdag.Run, folder: Path, number: int) -> None:
    wait_until(lambda: len(calls(folder)) >= number or run.state.ended, 300, "items")


class Kept:
    """What had come back at each kill, and how often each of these items was called by then."""

    def __init__(self) -> None:
        self.calls: dict[int, int] = {}

    def look(self, run: htdag.Run, folder: Path) -> None:
        """Take note of what a run has that was killed, and has ended."""
        back = [int(item.key) for item in run.items("squares", errors="skip")]
        so_far = calls(folder)
        for item in back:
            self.calls.setdefault(item, so_far[item])
        # What had come back once is there for good.
        assert set(back) == set(self.calls)

    def check(self, run: htdag.Run, folder: Path, pool: Pool | None = None) -> None:
        """Check the result, that none of these was called again, and that nothing is left."""
        assert run.result("squares") == [item * item for item in range(ITEMS)]
        assert run.result("largest") == (ITEMS - 1) ** 2
        in_all = calls(folder)
        assert set(in_all) == set(range(ITEMS))
        assert len(self.calls) > ITEMS // 10, "hardly anything had come back at the kills"
        again = {item: (then, in_all[item]) for item, then in self.calls.items()}
        assert {item: both for item, both in again.items() if both[0] != both[1]} == {}
        check_nothing_is_left(run, folder, pool)


@pytest.mark.timeout(1200)
def test_ten_thousand_items_killed_ten_times_here(
    runs_dir: Path, tmp_path: Path, dice: random.Random
):
    run = pipeline(tmp_path).submit(on="local")
    kept = Kept()
    for _ in range(MOMENTS):
        begun = len(calls(tmp_path))
        wanted = begun + dice.randrange(1, ITEMS // MOMENTS)
        wait_for_items(run, tmp_path, wanted)
        kill_local_process(run)
        wait_until(lambda: run.state.ended, 60, "the end")
        kept.look(run, tmp_path)
        run.resume()
    run.wait(900, progress=False)
    kept.check(run, tmp_path)
    # Here also what jobs had stored that were killed is kept: all but the items at hand.
    again = sum(number - 1 for number in calls(tmp_path).values())
    assert again <= MOMENTS * cores()


@pytest.mark.pool
@pytest.mark.timeout(2400)
def test_ten_thousand_items_killed_ten_times_on_a_pool(
    soak_pool: Pool, runs_dir: Path, tmp_path: Path, dice: random.Random
):
    tmp_path.chmod(0o777)
    with soak_pool.use():
        run = pipeline(tmp_path).submit(on="condor")
        kept = Kept()
        for _ in range(MOMENTS):
            begun = len(calls(tmp_path))
            wanted = begun + dice.randrange(1, ITEMS // MOMENTS)
            wait_for_items(run, tmp_path, wanted)
            if dice.random() < 0.5:
                process: Any = dagman_of(run)
                if process is not None:
                    process.kill()
            with contextlib.suppress(htdag.HtdagError):
                run.remove()
            wait_until(lambda: run.state.ended, 120, "the end")
            kept.look(run, tmp_path)
            run.resume()
        run.wait(1500, progress=False)
        kept.check(run, tmp_path, soak_pool)


@pytest.mark.pool
@pytest.mark.timeout(500)
def test_the_disk_of_the_submit_side_is_full_on_a_pool(runs_dir: Path, tmp_path: Path):
    tmp_path.chmod(0o777)
    done = full_disk.on_a_small_disk(runs_dir, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def work_in_turn(folder: Path, item: int) -> str:
    """Work; the second item of a chunk goes on when the one of both jobs may that calls it."""
    turn = "second" if (folder / "again").exists() else "first"
    if item % CHUNK_OF_FAULTS == SECOND:
        (folder / f"waiting.{turn}.{item}").touch()
        while not (folder / turn).exists():
            time.sleep(0.05)
    work(folder, item)
    # What the one that was lost gives is shorter, so that it would write into the other's.
    return f"{item} {turn} {'x' * (9000 if turn == 'second' else 300)};"


@pytest.mark.pool
@pytest.mark.timeout(900)
def test_jobs_run_twice_at_the_same_time_on_a_pool(soak_pool: Pool, runs_dir: Path, tmp_path: Path):
    """HTCondor loses sight of jobs that share the run directory, and runs them elsewhere too."""
    runs: dict[str, Disturbed] = {}
    seconds = range(SECOND, ITEMS_OF_FAULTS, CHUNK_OF_FAULTS)

    def all_wait(turn: str, seconds_at_most: float) -> None:
        for disturbed in runs.values():
            files = [disturbed.folder / f"waiting.{turn}.{item}" for item in seconds]
            wait_until(lambda files=files: all(f.exists() for f in files), seconds_at_most, turn)

    with soak_pool.use():
        with soak_pool.only("seeing"):
            for name in ("first", "second"):
                (tmp_path / name).mkdir()
                (tmp_path / name / "go").touch()
                runs[name] = Disturbed(tmp_path / name, work=work_in_turn)
            all_wait("first", 120)
        for disturbed in runs.values():
            (disturbed.folder / "again").touch()
        with soak_pool.only("blind"), frozen(soak_pool, "seeing"):
            # Of one that goes on the schedd never loses sight.
            starters = [each.starter(item - SECOND) for each in runs.values() for item in seconds]
            stopped = psutil.STATUS_STOPPED
            wait_until(lambda: all(each.status() == stopped for each in starters), 20, "the stops")
            all_wait("second", 400)  # 130 s on an idle machine
            for name, other in (("first", "second"), ("second", "first")):
                disturbed = runs[name]
                (disturbed.folder / name).touch()
                if name == "second":
                    disturbed.run.wait(120, progress=False)  # before the lost ones go on
                else:
                    number = ITEMS_OF_FAULTS + len(seconds)  # the second ones are at their middle
                    ended = disturbed.folder / "ended"
                    wait_until(lambda ended=ended, n=number: len(ended.read_text().split()) >= n)
                (disturbed.folder / other).touch()
        for disturbed in runs.values():
            run = disturbed.run.wait(120, progress=False)
            check_nothing_is_left(run, disturbed.folder, soak_pool)
            values = run.result("work")
            turns = [value.split()[:2] for value in values]
            assert turns == [[str(item), "second"] for item in range(ITEMS_OF_FAULTS)]
            assert run.result("total") == "".join(values)
            before = disturbed.begun()
            assert set(before.values()) == {2}
            run.resume()  # which looks at all checksums
            assert run.state is htdag.RunState.DONE
            assert disturbed.begun() == before


@contextlib.contextmanager
def frozen(pool: Pool, point: str) -> Iterator[None]:
    """Let the startd and the starters of a point do nothing for a while; its jobs go on."""
    stopped = [
        process
        for process in psutil.process_iter(["name"])
        if process.info["name"] in ("condor_startd", "condor_starter")
        and is_of(pool, process, point)
    ]
    for process in stopped:
        process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            process.resume()
