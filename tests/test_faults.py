"""Runs bear what happens on a pool: the result is right, and what was done stays done.

docs/faults.md lists the faults, what a person sees of each, and what is lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import CHUNK, ITEMS, SETTINGS, Disturbed, work
from pool import FAST, Area, Pool, wait_until

import htdag
from htdag.errors import RunActive, RunNotFound
from htdag.runtime import layout

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
    wait_until(lambda: disturbed.run.status().held, 30, "the hold to be seen")
    condor("condor_release", job)


def vacate_one_job(disturbed: Disturbed, pool: Pool) -> None:
    condor("condor_vacate_job", disturbed.jobs(pool)[1])


def remove_the_dag(disturbed: Disturbed, pool: Pool) -> None:
    disturbed.run.remove()
    assert disturbed.run.state is htdag.RunState.REMOVED


def kill_dagman(disturbed: Disturbed, pool: Pool) -> None:
    disturbed.dagman().kill()


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
}


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
        runs = {
            fault: Disturbed(tmp_path_factory.mktemp(fault.__name__))
            for fault in OF_JOBS
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
    disturbed.check()
    assert resumes == (1 if OF_JOBS[fault] else 0)
    begun = disturbed.begun()
    # The chunk that was cut in the middle may be computed again, no other is.
    cut = set(range(ITEMS)) if fault is remove_the_dag else {2, 3}
    assert {item for item in begun if begun[item] > 1} <= cut
    assert max(begun.values()) <= 2
