"""Runs bear full disks, damaged outcomes, jobs that run twice or too long; others read nothing.

docs/faults.md lists the faults, what a person sees of each, and what is lost.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from faults import CHUNK, ITEMS, SETTINGS, Disturbed, check_nothing_is_left, living, notes, work
from pool import FAST, Area, Pool, wait_until

import htdag
from htdag.errors import RunDamaged
from htdag.runtime import layout
from htdag.runtime.data import itemfile, recordfile
from htdag.runtime.layout import NodeFiles

NODE = "work"


class SmallDisks(Pool):
    """A pool whose blind execute point has a disk of 40 MB for all of its jobs."""

    def _blind_script(self) -> str:
        disk = f"mount -t tmpfs -o size=40m,mode=1777 none '{self.folder}/blind/execute'\n"
        return super()._blind_script().replace("exec unshare", disk + "exec unshare")


@pytest.fixture(scope="module")
def small_disks_pool(pool_area: Area) -> Iterator[Pool]:
    pool = SmallDisks("small-disks", pool_area, {**FAST, **SETTINGS})
    yield pool
    pool.stop()


@pytest.fixture
def small_disks(small_disks_pool: Pool) -> Iterator[Pool]:
    with small_disks_pool.use():
        yield small_disks_pool


# --- Full disks -------------------------------------------------------------------------


LARGE = 100_000  # bytes


def work_where_disks_are_full(folder: Path, item: int) -> bytes:
    """Fill the disk of the job before the second item of the second chunk is stored, once."""
    work(folder, item)
    if item == CHUNK + 1 and notes(folder, "begun")[item] == 1:
        deadline = time.monotonic() + 200
        while len(notes(folder, "ended")) < ITEMS and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)  # the other jobs store what they have
        with contextlib.suppress(OSError), open("ballast", "wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 12))
    return bytes([item]) * LARGE


@pytest.mark.pool
def test_the_disk_of_an_execute_point_is_full(small_disks: Pool, runs_dir: Path, tmp_path: Path):
    tmp_path.chmod(0o777)
    (tmp_path / "go").touch()
    stage = htdag.source(range(ITEMS), chunk_size=CHUNK).map(
        functools.partial(work_where_disks_are_full, tmp_path), name=NODE
    )
    with small_disks.only("blind"):
        flow = htdag.Pipeline(stage, name="full", history=False, request_disk="5MB")
        run = flow.submit(on="condor")
        with pytest.raises(htdag.RunFailed, match="No space left on device"):
            run.wait(timeout=200, progress=False)
        run.resume().wait(timeout=200, progress=False)
    assert run.result() == [bytes([item]) * LARGE for item in range(ITEMS)]
    check_nothing_is_left(run, tmp_path, small_disks)
    begun = notes(tmp_path, "begun")
    assert {item for item in begun if begun[item] > 1} <= {2, 3}


_FULL = """
import functools, os, pathlib, subprocess, sys, time
import htdag

def large(folder, item):
    with open(folder / "begun", "a") as file:
        file.write(f"{item}\\n")
    return os.urandom(1 << 20)

notes = pathlib.Path(sys.argv[1])
disk = os.environ["HTDAG_HOME"]
stage = htdag.map(functools.partial(large, notes), range(8), chunk_size=2, name="large")
sizes = stage.map(len, name="sizes", fuse=False)
run = htdag.Pipeline(stage, sizes, history=False).submit(on="local")
try:
    run.wait(timeout=200, progress=False)
except htdag.RunFailed as error:
    print("No space left on device" in str(error) or str(error))
begun = len((notes / "begun").read_text().split())
stored = {item.key for item in run.items("large", errors="skip")}
print(run.state.value)
subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
run.resume()
print(run.wait(timeout=200, progress=False).result("sizes") == [1 << 20] * 8)
again = (notes / "begun").read_text().split()[begun:]
print(len(stored), len(again), len(stored.intersection(again)))
"""


def test_the_disk_of_the_submit_side_is_full(runs_dir: Path, tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(_FULL)
    mounted = 'mount -t tmpfs -o size=5m none "$HTDAG_HOME" && exec "$@"'
    words = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(
        ["unshare", "-U", "-r", "-m", "sh", "-c", mounted, "sh", *words],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    said = done.stdout.split()
    assert said[:3] == ["True", "failed", "True"], done.stdout + done.stderr
    stored, again, both = map(int, said[3:])
    assert 1 <= stored <= 4
    # Of a job that could not even write its end, resume finds what it had stored.
    assert 4 <= again <= 8 - stored
    assert both == 0


# --- Damaged outcomes -------------------------------------------------------------------


def truncate(outcome: Path) -> None:
    outcome.write_bytes(outcome.read_bytes()[:-9])


def flip_a_bit(outcome: Path) -> None:
    content = bytearray(outcome.read_bytes())
    content[len(content) // 2] ^= 4
    outcome.write_bytes(content)


DAMAGE = (truncate, flip_a_bit, Path.unlink)


@pytest.mark.pool
def test_outcomes_are_damaged(small_disks: Pool, runs_dir: Path, tmp_path: Path):
    def double(item: int) -> int:
        return 2 * item

    stage = htdag.source(range(ITEMS), chunk_size=CHUNK).map(
        functools.partial(work, tmp_path), name=NODE
    )
    doubled = stage.map(double, name="doubled", fuse=False)
    tmp_path.chmod(0o777)
    (tmp_path / "go").touch()
    run = htdag.Pipeline(stage, doubled, name="damaged", history=False).submit(on="condor")
    run.wait(timeout=200, progress=False)
    if small_disks.version >= (25,):  # what jobs ask for that ask for nothing, in KB
        mine = (
            f'DAGManJobId == {run.directory.ticket()["ticket"]["cluster"]} && DAGNodeName == "work"'
        )
        (ad, *_) = small_disks.job_ads(mine, ["RequestDisk"])
        assert ad.eval("RequestDisk") == 1 << 20
    for chunk, damage in enumerate(DAMAGE):
        damage(Path(NodeFiles(run.path, NODE).attempt(chunk, 1).output(NODE)))
    with pytest.raises(RunDamaged, match=r"chunk 0: .*resume\(\) computes it again"):
        run.result(NODE)
    assert run.result("doubled") == [0, 2, 4, 6, 8, 10]
    run.resume().wait(timeout=200, progress=False)
    assert run.result(NODE) == list(range(ITEMS))
    assert run.result("doubled") == [0, 2, 4, 6, 8, 10]
    assert notes(tmp_path, "begun") == dict.fromkeys(range(ITEMS), 2)
    check_nothing_is_left(run, tmp_path, small_disks)


# --- A job that runs twice --------------------------------------------------------------


def work_until_told(folder: Path, item: int) -> str:
    """Work, but the second item goes on when its own process may; what it gives tells which."""
    second = (folder / "again").exists()
    if item == 1:
        own = folder / ("go.second" if second else "go.first")
        (folder / "waiting").write_text(own.name)
        deadline = time.monotonic() + 200
        while not own.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    work(folder, item)
    return f"{item} second;" if second else f"{item} first {'x' * 3000};"


def test_a_job_runs_twice_at_the_same_time(runs_dir: Path, tmp_path: Path):
    """As where HTCondor lost sight of a job on a shared file system, and started it again."""
    (tmp_path / "go").touch()
    stage = htdag.source(range(ITEMS), chunk_size=ITEMS).map(
        functools.partial(work_until_told, tmp_path), name=NODE
    )
    run = htdag.Pipeline(stage, name="twice", history=False).compile(runs_dir / "run").parent
    job = NodeFiles(run, NODE).attempt(0, 1)
    record, items = job.record, job.output(NODE)

    def start(name: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, layout.RUNTIME, "work", NODE, "0000", "1"]
        job = subprocess.Popen(words, cwd=run)
        waiting = tmp_path / "waiting"
        wait_until(lambda: waiting.exists() and waiting.read_text() == name, 200, name)
        return job

    first = start("go.first")
    (tmp_path / "again").touch()
    second = start("go.second")
    (tmp_path / "again").unlink()  # the first one goes on as such
    (tmp_path / "go.first").touch()
    # It notices that another one has taken its place, and writes nothing any more.
    assert first.wait(timeout=200) == 143
    assert recordfile.end(record) is None
    (tmp_path / "again").touch()
    (tmp_path / "go.second").touch()
    assert second.wait(timeout=200) == 0
    end = recordfile.end(record)
    assert end is not None
    assert (end["done"], end["failed"]) == (ITEMS, 0)
    assert end["sizes"] == [Path(items).stat().st_size]
    values = [pickle.loads(frame.payload).split() for frame in itemfile.read(items)]
    assert [value[:2] for value in values] == [
        [str(item), "first" if item == 0 else "second;"] for item in range(ITEMS)
    ]
    assert notes(tmp_path, "begun")[0] == 1


# --- A job whose starter dies ------------------------------------------------------------

_STARTER = """
import subprocess, sys, time
with open("/proc/self/comm", "w") as file:
    file.write(sys.argv[1])
job = subprocess.Popen(sys.argv[2:])
job.wait()
"""


def test_a_job_ends_with_its_starter_and_blames_no_item(runs_dir: Path, tmp_path: Path):
    stage = htdag.source(range(ITEMS), chunk_size=ITEMS).map(
        functools.partial(work, tmp_path), name=NODE
    )
    run = htdag.Pipeline(stage, name="lonely", history=False).compile(runs_dir / "run").parent
    job = [sys.executable, layout.RUNTIME, "work", NODE, "0000", "1"]
    record = Path(NodeFiles(run, NODE).attempt(0, 1).record)
    starter = subprocess.Popen([sys.executable, "-c", _STARTER, "condor_starter", *job], cwd=run)
    wait_until(lambda: notes(tmp_path, "begun")[1], 200, "the second item")
    starter.kill()
    starter.wait()
    wait_until(lambda: not living(tmp_path), 200, "the end of both processes")
    assert [kind for line in recordfile.lines(str(record)) for kind in line] == ["start"]
    # Any other parent may go.
    shell = subprocess.Popen([sys.executable, "-c", _STARTER, "sh", *job], cwd=run)
    wait_until(lambda: notes(tmp_path, "begun")[1] == 2, 200, "the second item again")
    shell.kill()
    shell.wait()
    (tmp_path / "go").touch()
    wait_until(lambda: recordfile.end(str(record)), 200, "the end of the record")
    assert notes(tmp_path, "ended") == dict.fromkeys(range(ITEMS), 1)


# --- Limits -----------------------------------------------------------------------------


def work_for_seconds(seconds: int, folder: Path, item: int) -> int:
    work(folder, item)
    if item == CHUNK + 1:
        time.sleep(seconds)
    return item


@pytest.mark.pool
def test_time_that_is_exceeded(small_disks: Pool, runs_dir: Path, tmp_path: Path):
    limit, seconds = "allowed_execute_duration", 3
    options: dict[str, Any] = {"submit": {limit: seconds}}
    if small_disks.version < (25, 8, 2):
        # It passes over jobs that begin in the second of their shadow. The other limit counts the
        # start of a job too, which may take long.
        limit, seconds = "allowed_job_duration", 8
        options = {limit: seconds}
    tmp_path.chmod(0o777)
    (tmp_path / "go").touch()
    slow = functools.partial(work_for_seconds, seconds + 3)
    with small_disks.only("seeing"):
        disturbed = Disturbed(tmp_path, work=slow, **options)
        told = wait_until(lambda: disturbed.run.status().held, 200, "the job to be held")
        assert f"it ran longer than {limit}" in told[0]
        disturbed.run.edit(NODE, time=timedelta(minutes=2))
        assert disturbed.run.release() == 1
        assert disturbed.finish() == 0
    disturbed.check(small_disks)
    begun = disturbed.begun()
    assert {item for item in begun if begun[item] > 1} <= {2, 3}


# --- Others on the machine --------------------------------------------------------------


@pytest.mark.parametrize("on", ["local", pytest.param("condor", marks=pytest.mark.pool)])
def test_a_run_is_readable_by_its_owner_only(
    request: pytest.FixtureRequest, runs_dir: Path, tmp_path: Path, on: str
):
    pool = request.getfixturevalue("small_disks") if on == "condor" else None
    before = os.umask(0)
    try:
        disturbed = Disturbed(tmp_path, on=on)
        disturbed.finish()
        disturbed.check(pool)
        disturbed.run.resume()
    finally:
        os.umask(before)
    path = disturbed.run.path
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    # Nobody gets into it. What htdag writes is closed besides; HTCondor's logs are not.
    open_to_others = {
        str(each.relative_to(path))
        for each in path.rglob("*")
        if each.is_file() and not each.is_symlink() and stat.S_IMODE(each.stat().st_mode) & 0o077
    }
    theirs = ("disturbed.dag.", "nodes/work/log/0", "nodes/total/log/0") if on == "condor" else ()
    assert {each for each in open_to_others if not each.startswith(theirs)} == set()
