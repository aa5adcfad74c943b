"""What is done with the jobs of a run while it is under way, on a real pool and on this machine."""

from __future__ import annotations

import functools
import json
import operator
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import htdag
from htdag.errors import RunEnded
from htdag.runtime import submitfile

if TYPE_CHECKING:
    from collections.abc import Callable

IMPOSSIBLE = "request_memory"


def wait_for(condition: Callable[[], Any], timeout: float = 60) -> Any:
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, condition
        time.sleep(0.1)


def called(folder: Path, item: Any) -> None:
    with open(folder / "calls", "a") as file:
        file.write(f"{item}\n")


def calls(folder: Path) -> list[str]:
    path = folder / "calls"
    return path.read_text().split() if path.exists() else []


def patient(folder: Path, x: int) -> int:
    """Wait for a file the first time, so that the test decides how long a job takes."""
    called(folder, x)
    while not (folder / "go").exists():
        time.sleep(0.05)
    return x


def cli(*arguments: str) -> Any:
    done = subprocess.run(
        ["htdag", *arguments, "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    tmp_path.chmod(0o777)
    return tmp_path


def states(run: htdag.Run, ask: bool = False) -> list[str]:
    return sorted(job.state for job in run.jobs(ask=ask))


@pytest.mark.pool
def test_hold_edit_release_pause_vacate_and_priority(pool: Any, runs_dir: Path, shared: Path):
    work = htdag.source(range(4), chunk_size=1).map(
        functools.partial(patient, shared), name="work", retries=1, max_materialize=3
    )
    run = htdag.Pipeline(work.reduce(operator.add, name="sum")).submit("jobs", on="condor")
    wait_for(lambda: states(run) == ["running"] * 3)
    t = time.time()

    def log(*a):
        print("%.1f" % (time.time() - t), *a, flush=True)

    log("pause", run.pause("work", keys=["1"]))
    wait_for(lambda: states(run) == ["running", "running", "suspended"])
    log("paused")
    log(run.status())
    assert run.pause("work", keys=["1"]) == 0
    assert run.continue_() == 1
    wait_for(lambda: states(run) == ["running"] * 3)
    log("cont")
    assert run.vacate("work", keys=["0"]) == 1
    wait_for(lambda: calls(shared).count("0") == 2)
    log("vacated")
    assert run.edit("work", request_memory="200MB", attributes={"Colour": '"red"'}) == 3
    assert run.priority(7, "work") == 3
    log("edited")
    assert run.hold("work") == 3
    wait_for(lambda: run.state is htdag.RunState.HELD)
    log("held")
    log(run.status())
    with pytest.raises(htdag.RunHeld, match="htdag release jobs work"):
        run.wait(progress=False)
    for r in run.why():
        log(r)
    (shared / "go").touch()
    assert run.release("work") == 3
    log("released")
    run.wait(timeout=60, progress=False)
    log("done")
    ads = pool.job_ads('DAGNodeName == "work"', ["ProcId", "RequestMemory", "Colour", "JobPrio"])
    log([(ad["ProcId"], ad["RequestMemory"], ad["Colour"], ad["JobPrio"]) for ad in ads])
    log(submitfile.commands(str(run.path), "work"))
    with pytest.raises(RunEnded):
        run.hold()
    for r in run.why():
        log(r)
