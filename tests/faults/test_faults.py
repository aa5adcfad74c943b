"""Runs bear what happens on a pool: the result is right, and what was done stays done.

docs/faults.md lists the faults, what a person sees of each, and what is lost.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults import (
    CHUNK,
    ITEMS,
    SETTINGS,
    Disturbed,
    check_nothing_is_left,
    kill_daemon,
    with_a_clock_of_its_own,
)
from pool import FAST, POINTS, Area, Pool, wait_until

import htdag
from htdag.backends.condor import abilities
from htdag.backends.condor.backend import why_unusable
from htdag.errors import DirectoryError, RunNotFound
from htdag.reuse import history
from htdag.runtime.data import recordfile

Fault = Callable[[Disturbed, Pool], None]


def condor(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)


# --- What happens to single jobs --------------------------------------------------------


def kill_the_function(disturbed: Disturbed, pool: Pool) -> None:
    """The process that computes an item dies, as of a fault in a compiled library."""
    disturbed.processes(3)[0].kill()


def kill_the_worker(disturbed: Disturbed, pool: Pool) -> None:
    """The process that HTCondor started dies, as when memory runs out."""
    disturbed.processes(3)[1].kill()


def kill_the_starter(disturbed: Disturbed, pool: Pool) -> None:
    disturbed.starter(3).kill()


def kill_the_shadow(disturbed: Disturbed, pool: Pool) -> None:
    disturbed.shadow(pool, disturbed.jobs(pool)[1]).kill()


def remove_one_job(disturbed: Disturbed, pool: Pool) -> None:
    condor("condor_rm", disturbed.jobs(pool)[1])


def hold_and_release_one_job(disturbed: Disturbed, pool: Pool) -> None:
    job = disturbed.jobs(pool)[1]
    condor("condor_hold", job)
    wait_until(lambda: disturbed.run.status().held, 200, "the hold to be seen")
    condor("condor_release", job)


def vacate_one_job(disturbed: Disturbed, pool: Pool) -> None:
    condor("condor_vacate_job", disturbed.jobs(pool)[1])


def remove_the_dag(disturbed: Disturbed, pool: Pool) -> None:
    disturbed.run.remove()
    assert disturbed.run.state is htdag.RunState.REMOVED


def kill_dagman(disturbed: Disturbed, pool: Pool) -> None:
    disturbed.dagman().kill()


def put_the_clock_of_jobs_back(disturbed: Disturbed, pool: Pool) -> None:
    """It went two hours ahead, and now it is two behind; a job is evicted besides."""
    set_clock(disturbed.folder, -2)
    condor("condor_vacate_job", disturbed.jobs(pool)[1])


def set_clock(folder: Path, hours: int) -> None:
    (folder / "clock.new").write_text(str(hours * 3600))
    (folder / "clock.new").replace(folder / "clock")


# Whether a person has to resume the run.
OF_JOBS: dict[Fault, bool] = {
    kill_the_function: True,
    kill_the_worker: True,
    kill_the_starter: False,
    kill_the_shadow: False,
    remove_one_job: True,
    hold_and_release_one_job: False,
    vacate_one_job: False,
    remove_the_dag: True,
    kill_dagman: False,
    put_the_clock_of_jobs_back: False,
}
# Where the job itself fails, not an item of it.
FAILED_JOBS = {kill_the_worker, remove_one_job}


def spares_others() -> bool:
    """Whether this DAGMan can leave the other jobs of a node alone."""
    dagman = shutil.which("condor_dagman")
    return dagman is not None and abilities.keeps_jobs(Path(dagman))


@pytest.fixture(scope="module")
def fault_pool(pool_area: Area) -> Iterator[Pool]:
    pool = Pool("faults", pool_area, {**FAST, **SETTINGS})
    yield pool
    pool.stop()


@pytest.fixture
def home(fault_pool: Pool, runs_dir: Path) -> Iterator[Path]:
    """A fresh home of runs, with that pool in use."""
    with fault_pool.use():
        yield runs_dir


@pytest.fixture(scope="module")
def after_faults(
    fault_pool: Pool, pool_area: Area, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Fault, tuple[Disturbed, int]]]:
    """Runs that were disturbed, all at the same time, and how often each had to be resumed."""
    with fault_pool.use(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTDAG_HOME", str(pool_area.new_runs_dir()))
        folders = {fault: tmp_path_factory.mktemp(fault.__name__) for fault in OF_JOBS}
        python = with_a_clock_of_its_own(folders[put_the_clock_of_jobs_back])
        set_clock(folders[put_the_clock_of_jobs_back], 2)
        slow = htdag.Environment.interpreter(python, requirements="true")
        options = {put_the_clock_of_jobs_back: {"environment": slow}}
        runs = {
            fault: Disturbed(folder, **options.get(fault, {})) for fault, folder in folders.items()
        }
        for disturbed in runs.values():
            disturbed.wait_for_the_middle()
        for fault, disturbed in runs.items():
            fault(disturbed, fault_pool)
        for disturbed in runs.values():
            disturbed.let_go()
        yield {fault: (disturbed, disturbed.finish()) for fault, disturbed in runs.items()}


@pytest.mark.pool
@pytest.mark.parametrize("fault", OF_JOBS, ids=lambda fault: fault.__name__)
def test_a_fault_of_one_job(
    after_faults: dict[Fault, tuple[Disturbed, int]], fault: Fault, fault_pool: Pool
):
    disturbed, resumes = after_faults[fault]
    with fault_pool.use():
        spared = spares_others()
    disturbed.check(fault_pool)
    assert resumes == OF_JOBS[fault], disturbed.failures
    begun = disturbed.begun()
    # The chunk that was cut in the middle may be computed again, no other is: but where DAGMan
    # removes the other jobs of a node as soon as it sees that one has failed.
    all_cut = fault is remove_the_dag or (fault in FAILED_JOBS and not spared)
    assert {item for item in begun if begun[item] > 1} <= (set(range(ITEMS)) if all_cut else {2, 3})
    assert max(begun.values()) <= 2


@pytest.mark.pool
def test_clocks_of_jobs_confuse_nobody(after_faults: dict[Fault, tuple[Disturbed, int]]):
    run = after_faults[put_the_clock_of_jobs_back][0].run
    lines = [
        line for path in run.path.rglob("work/out/*.record") for line in recordfile.lines(path)
    ]
    hours = Counter(
        round((line[kind]["time"] - time.time()) / 3600) for line in lines for kind in line
    )
    # All ended two hours behind, and the one that was evicted began so too: its first beginning is
    # told where the file system is shared.
    assert set(hours) == {2, -2}
    assert hours[-2] == ITEMS // CHUNK + 1
    assert hours[2] in (ITEMS // CHUNK - 1, ITEMS // CHUNK)
    seconds = [line["end"]["seconds"] for line in lines if "end" in line]
    assert len(seconds) == ITEMS // CHUNK
    assert all(0 <= each < 200 for each in seconds)
    assert all(0 <= each.seconds < 200 for each in history.measure_run(run.path).values())
    assert run.status()["work"].done == ITEMS
    run.resume()  # which finds nothing to do
    assert run.state is htdag.RunState.DONE
    assert set(after_faults[put_the_clock_of_jobs_back][0].begun().values()) <= {1, 2}


# --- What happens to daemons ------------------------------------------------------------


@pytest.mark.pool
def test_startds_are_killed(fault_pool: Pool, home: Path, tmp_path: Path):
    """Of a point that shares the files of the submit side, and of one that does not."""
    points = {}
    for point in POINTS:
        with fault_pool.only(point):
            points[point] = Disturbed(tmp_path / point).wait_for_the_middle()
    for point in POINTS:
        kill_daemon(fault_pool, "condor_startd", point)
    for disturbed in points.values():
        disturbed.let_go()
    assert [disturbed.finish() for disturbed in points.values()] == [0, 0]
    for disturbed in points.values():
        disturbed.check(fault_pool)
        assert max(disturbed.begun().values()) <= 2


@pytest.mark.pool
def test_the_schedd_is_killed(fault_pool: Pool, home: Path, tmp_path: Path):
    disturbed = Disturbed(tmp_path).wait_for_the_middle()
    assert len(disturbed.run.jobs(ask=True)) == ITEMS // CHUNK
    kill_daemon(fault_pool, "condor_schedd")
    # Nobody answers for a moment; files are enough.
    assert disturbed.run.status()["work"].jobs == ITEMS // CHUNK
    # It was asked before, and the new one is another; it may tell that no jobs run by now.
    wait_until(answers, 200, "the new schedd")
    assert why_unusable() == ""  # although this process still has a session with the old one
    assert len(disturbed.run.jobs(ask=True)) == ITEMS // CHUNK
    assert disturbed.finish() == 0
    disturbed.check(fault_pool)
    assert max(disturbed.begun().values()) <= 2


def answers() -> bool:
    """Tell whether the schedd answers to another process."""
    return subprocess.run(["condor_q"], capture_output=True, timeout=60).returncode == 0


# --- What happens to the run directory --------------------------------------------------


def test_the_run_directory_vanishes(runs_dir: Path, tmp_path: Path):
    disturbed = Disturbed(tmp_path, on="local").wait_for_the_middle()
    shutil.rmtree(disturbed.run.path)
    disturbed.let_go()
    with pytest.raises(htdag.HtdagError, match=r"disturbed"):
        disturbed.run.wait(timeout=200, progress=False)
    with pytest.raises(RunNotFound):
        htdag.load(disturbed.run.tag)
    check_nothing_is_left(disturbed.run, tmp_path)


def test_the_run_directory_is_read_only(runs_dir: Path, tmp_path: Path):
    disturbed = Disturbed(tmp_path, on="local")
    disturbed.finish()
    folders = [path for path in disturbed.run.path.rglob("*") if path.is_dir()]
    for folder in [*folders, disturbed.run.path]:
        folder.chmod(0o500)
    try:
        # What is done can be read, by others than root too.
        disturbed.check()
        assert disturbed.run.status()["work"].done == ITEMS
        if not os.access(disturbed.run.path, os.W_OK):  # root may write all the same
            with pytest.raises(DirectoryError, match="nothing can be written in its directory"):
                disturbed.run.resume()
    finally:
        for folder in [disturbed.run.path, *folders]:
            folder.chmod(0o700)


# --- What people and programs do at the same time ---------------------------------------

_CHILD = """
import sys, htdag
run = htdag.load(sys.argv[2])
try:
    getattr(run, sys.argv[1])()
    print("done")
except htdag.HtdagError as error:
    print(type(error).__name__)
"""


def at_the_same_time(run: htdag.Run, *verbs: str) -> list[str]:
    """What several processes said that did something with one run at the same time."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _CHILD, verb, run.tag], stdout=subprocess.PIPE, text=True
        )
        for verb in verbs
    ]
    return [child.communicate(timeout=120)[0].strip() for child in children]


@pytest.mark.parametrize("on", ["local", pytest.param("condor", marks=pytest.mark.pool)])
def test_several_wait_resume_and_remove_one_run(
    request: pytest.FixtureRequest, runs_dir: Path, tmp_path: Path, on: str
):
    with contextlib.ExitStack() as stack:
        pool = None
        if on == "condor":
            pool = stack.enter_context(request.getfixturevalue("fault_pool").use())
        disturbed = Disturbed(tmp_path, on=on).wait_for_the_middle()
        said = at_the_same_time(disturbed.run, "remove", "remove", "wait")
        assert said == ["done", "done", "RunFailed"]
        assert disturbed.run.state is htdag.RunState.REMOVED
        said = at_the_same_time(disturbed.run, "resume", "resume", "resume")
        assert sorted(said) == ["RunActive", "RunActive", "done"]
        disturbed.let_go()
        assert at_the_same_time(disturbed.run, "wait", "wait") == ["done", "done"]
        disturbed.check(pool)
        assert max(disturbed.begun().values()) <= 2


# --- What happens to the machine --------------------------------------------------------


def test_the_clock_jumps(runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    disturbed = Disturbed(tmp_path, on="local").wait_for_the_middle()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 7200)
    assert disturbed.run.status().state is htdag.RunState.RUNNING
    disturbed.let_go()
    disturbed.run.wait(timeout=200, progress=False)
    monkeypatch.setattr(time, "time", lambda: real() + 7200)
    disturbed.check()
