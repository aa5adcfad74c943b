"""Disturb runs in the middle of their work, and look at what they make of it.

A run of six items in three jobs, and their sum. Items note that they were begun; every second one
waits until it is let go, so that a fault meets every job at a known place.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import os
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from pool import CPUS, POINTS, Pool, job_python, wait_until

import htdag

ITEMS, CHUNK = 6, 2
SECOND = 1  # of each pair
_TIMEOUT = 200  # seconds that a disturbed run may take in all

# Many jobs wait at once for little. What was killed is started again soon, and jobs that run where
# nobody can be reached any more are given up soon.
SETTINGS = {
    "NUM_CPUS": str(10 * CPUS),
    "MEMORY": str(10 * CPUS * 512),
    "MASTER_BACKOFF_CONSTANT": "1",
    "MASTER_BACKOFF_CEILING": "2",
    "JOB_DEFAULT_LEASE_DURATION": "20",
    "ALIVE_INTERVAL": "5",
    "SCHEDULER_UNIVERSE_COOL_DOWN_DURATION": "1",
}


def work(folder: Path, item: int) -> int:
    """Note the call, and who makes it; the second item of each chunk waits until it may go on."""
    with open(folder / "begun", "a") as file:
        file.write(f"{item}\n")
    (folder / f"process.{item}").write_text(f"{os.getpid()} {os.getppid()}")
    with open(folder / "processes", "a") as file:
        file.writelines(f"{pid} {began(pid)}\n" for pid in (os.getpid(), os.getppid()))
    if item % CHUNK == SECOND:
        deadline = time.monotonic() + _TIMEOUT
        while not (folder / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    with open(folder / "ended", "a") as file:
        file.write(f"{item}\n")
    return item


def with_a_clock_of_its_own(folder: Path) -> Path:
    """Write a Python whose clock is off by as many seconds as the file `clock` says at a time."""
    (folder / "clock").write_text("0")
    (folder / "clock.py").write_text(
        "import runpy, sys, time\n"
        "real = time.time\n"
        f"time.time = lambda: real() + float(open({str(folder / 'clock')!r}).read())\n"
        "del sys.argv[0]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    python = folder / "python"
    python.write_text(
        f"#!/bin/sh\n"
        f'[ "$1" = -E ] || exec {job_python()} "$@"\n'  # htdag asks for the version
        f'shift; exec {job_python()} -E {folder}/clock.py "$@"\n'
    )
    python.chmod(0o755)
    return python


def began(pid: int) -> str:
    """When a process began, in the kernel's count; "" where it has ended. Jobs have no psutil."""
    try:
        rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if rest[0] == "Z" else rest[19]


def notes(folder: Path, name: str) -> Counter[int]:
    try:
        return Counter(map(int, (folder / name).read_text().split()))
    except FileNotFoundError:
        return Counter()


class Disturbed:
    """A run that can be disturbed in the middle of its first stage."""

    def __init__(
        self, folder: Path, on: str = "condor", retries: int = 0, work: Any = work, **options: Any
    ) -> None:
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)  # the blind execute point shares it
        self.folder = folder
        # As many jobs at once as there may be: this machine may have one core.
        self.chunk = CHUNK if on == "condor" else ITEMS
        self.failures: list[str] = []
        stage = htdag.source(range(ITEMS), chunk_size=self.chunk).map(
            functools.partial(work, folder), name="work", retries=retries, **options
        )
        total = stage.reduce(operator.add, name="total")
        self.run = htdag.Pipeline(stage, total, name="disturbed", history=False).submit(on=on)

    def wait_for_the_middle(self) -> Disturbed:
        """Wait until every job has done its first item and is at its second."""
        seconds = set(range(SECOND, ITEMS, self.chunk))
        wait_until(lambda: set(notes(self.folder, "begun")) >= seconds, 200, "all jobs at work")
        return self

    def let_go(self) -> None:
        (self.folder / "go").touch()

    def finish(self, resumes: int = 3) -> int:
        """Let it go on, and resume it as often as a patient person would; return how often."""
        self.let_go()
        for turn in range(resumes + 1):
            try:
                self.run.wait(timeout=_TIMEOUT, progress=False)
            except htdag.RunFailed as failure:
                self.failures.append(str(failure))
                if turn == resumes:
                    raise
                self.run.resume()
            else:
                return turn
        raise AssertionError("not reached")

    def check(self, pool: Pool | None = None) -> None:
        """Check that the run has given what an undisturbed one gives, and has left nothing."""
        assert self.run.state is htdag.RunState.DONE
        assert self.run.result("work") == list(range(ITEMS))
        assert self.run.result("total") == sum(range(ITEMS))
        assert self.run.errors() == []
        check_nothing_is_left(self.run, self.folder, pool)

    def begun(self) -> Counter[int]:
        """How often each item was begun."""
        return notes(self.folder, "begun")

    # Its jobs

    def processes(self, item: int) -> tuple[psutil.Process, psutil.Process]:
        """The process that computes an item, and its supervisor."""
        child, supervisor = (self.folder / f"process.{item}").read_text().split()
        return psutil.Process(int(child)), psutil.Process(int(supervisor))

    def starter(self, item: int) -> psutil.Process:
        """The condor_starter of the job that computes an item."""
        process = self.processes(item)[1]
        while process.name() != "condor_starter":
            parent = process.parent()
            assert parent is not None, "the item is not computed in a job of HTCondor"
            process = parent
        return process

    def jobs(self, pool: Pool) -> list[str]:
        """The jobs of its first stage, such as ``12.0``, in the order of chunks."""
        constraint = f"DAGManJobId == {self.cluster()}"
        ads = pool.schedd.query(constraint, ["ClusterId", "ProcId"])
        return sorted(f"{ad['ClusterId']}.{ad['ProcId']}" for ad in ads)

    def cluster(self) -> int:
        """The cluster of its DAGMan job."""
        return int(self.run.directory.ticket()["ticket"]["cluster"])

    def dagman(self) -> psutil.Process:
        """The process of its DAGMan."""
        process = dagman_of(self.run)
        assert process is not None, "its DAGMan does not run"
        return process

    def shadow(self, pool: Pool, job: str) -> psutil.Process:
        """The condor_shadow of a job."""
        for process in psutil.process_iter(["name", "cmdline"]):
            words = process.info["cmdline"] or []
            if process.info["name"] == "condor_shadow" and job in words and is_of(pool, process):
                return process
        raise AssertionError(f"job {job} has no condor_shadow")


def dagman_of(run: htdag.Run) -> psutil.Process | None:
    """The process of the DAGMan of a run; None where none runs."""
    for process in psutil.process_iter(["name", "cmdline"]):
        words = process.info["cmdline"] or []
        named = process.info["name"] == "condor_dagman"
        if named and any(word.startswith(str(run.path)) for word in words):
            return process
    return None


def daemon(pool: Pool, name: str, point: str = "seeing") -> psutil.Process | None:
    """A daemon of a pool, on one of its points; None while it does not run."""
    config = str(pool.folder / point)
    for process in psutil.process_iter(["name", "status"]):
        if process.info["name"] == name and process.info["status"] != psutil.STATUS_ZOMBIE:
            with contextlib.suppress(psutil.Error):
                if process.environ().get("CONDOR_CONFIG", "").startswith(config):
                    return process
    return None


def kill_daemon(pool: Pool, name: str, point: str = "seeing") -> None:
    """Kill a daemon, and wait until the master has started another one."""
    old = daemon(pool, name, point)
    assert old is not None, f"no {name} runs on {point}"
    old.kill()
    wait_until(lambda: daemon(pool, name, point) not in (None, old), 200, f"another {name}")


# --- What may be left when a run has ended ----------------------------------------------

# docs/run-directory.md has all of them. Nothing aside (`.tmp`, `.new`, `.own`, `.kept`, `.part`),
# no lock of DAGMan, no folder of a job's work, and nothing of an earlier run is among them.
_JOB = r"\d{4}\.\d+"
_MAY_STAY = re.compile(
    r"[\w.-]+\.dag|dagman\.config|(post|list)\.sh|code/[\w.-]+|runtime\.pyz|plan\.json|identity\.json|run\.json"
    r"|submit\.json|again\.lock|local\.(state|jobs)\.json|local\.lock|local\.log"
    r"|[\w.-]+\.dag\.(condor\.sub|dagman\.log|dagman\.out|lib\.out|lib\.err|metrics|nodes\.log)"
    r"|[\w.-]+\.dag\.rescue\d{3}"
    r"|nodes/[\w.-]+/([\w.-]+\.sub|chunks\.txt(\.outdated)?|held\.txt|node\.json|functions\.pickle|chunking\.json)"
    r"|environments/[\w.-]+/(run|local)\.sh"
    rf"|nodes/[\w.-]+/in/(\d{{4}}\.items|{_JOB}\.json)"
    rf"|nodes/[\w.-]+/out/{_JOB}\.(record(\.damaged)?|[a-z]+\.items)"
    rf"|nodes/[\w.-]+/log/({_JOB}\.(out|err)|post\.log)"
)
_OF_HOME = re.compile(
    r"runs(/.*)?|log/htdag\.log|history\.json(\.lock)?|environments/unpacked|runtime/[0-9a-f]{64}"
)


def check_nothing_is_left(run: htdag.Run, folder: Path, pool: Pool | None = None) -> None:
    """Check that a run that has ended has left nothing but its directory, whatever happened to it.

    Parameters
    ----------
    run : Run
        It, and all others of its pool, have ended.
    folder : Path
        Where its functions noted their calls.
    pool : Pool, optional
        Where it ran; None for a run on this machine.
    """
    check_files(run.path)
    wait_until(lambda: not processes_of(run, folder), 200, f"{processes_of(run, folder)} to end")
    if pool is None:
        return
    wait_until(lambda: not queued(pool, run), 200, f"{queued(pool, run)} to leave the queue")
    daemons = ("condor_shadow", "condor_starter", "condor_dagman")
    for name in daemons:
        wait_until(lambda name=name: daemon(pool, name, "") is None, 200, f"the end of {name}")
    for point in POINTS:
        left = scratch(pool, point)
        wait_until(lambda point=point: not scratch(pool, point), 200, f"{left} to go")
    wait_until(lambda: not spooled(pool), 200, f"{spooled(pool)} to go")


def check_files(directory: Path) -> None:
    """Check that there are no files in a run directory, and beside it, but those that may stay."""
    of_run = _files(directory)
    of_home = _files(directory.parent.parent)
    strange = {path for path in of_run if not _MAY_STAY.fullmatch(path)}
    strange |= {path for path in of_home if not _OF_HOME.fullmatch(path)}
    # Aside of the run directory: no half of another one.
    strange |= {path.name for path in directory.parent.iterdir() if path.name.startswith(".")}
    assert strange == set(), strange


def _files(folder: Path) -> set[str]:
    """All files below a folder, and the folders that are empty."""
    found = (path for path in folder.rglob("*") if not path.is_dir() or not any(path.iterdir()))
    return {str(path.relative_to(folder)) for path in found}


def processes_of(run: htdag.Run, folder: Path) -> list[str]:
    """The processes that work for a run: of its functions, and all that name its directory."""
    return living(folder) + [
        " ".join(process.info["cmdline"])
        for process in psutil.process_iter(["pid", "cmdline"])
        if any(str(run.path) in word for word in process.info["cmdline"] or [])
        and process.info["pid"] != os.getpid()
    ]


def living(folder: Path) -> list[str]:
    """The processes that called functions, and their supervisors, that have not ended."""
    with contextlib.suppress(FileNotFoundError):
        noted = map(str.split, set((folder / "processes").read_text().splitlines()))
        return [f"job {pid}" for pid, *since in noted if since and began(int(pid)) == since[0]]
    return []


def queued(pool: Pool, run: htdag.Run) -> list[str]:
    """The jobs of a run that are in the queue: DAGMan's, and those of all of its submissions."""
    names = ["ClusterId", "ProcId", "JobStatus", "Iwd", "UserLog", "Arguments", "DAGManJobId"]
    ads = pool.schedd.query("true", names)
    return [str(ad) for ad in ads if str(run.path) in str(ad)]


def spooled(pool: Pool) -> list[str]:
    """What the schedd keeps for jobs, such as their checkpoints."""
    folder = pool.folder / "seeing" / "spool"
    return [str(path.relative_to(folder)) for path in folder.rglob("cluster*")]


def scratch(pool: Pool, point: str) -> list[str]:
    """What is in the folder of the jobs of an execute point, as that sees it."""
    master = daemon(pool, "condor_master", point)
    assert master is not None
    return os.listdir(f"/proc/{master.pid}/root{pool.folder / point / 'execute'}")


def is_of(pool: Pool, process: psutil.Process, point: str = "") -> bool:
    """Tell whether a process belongs to a pool, or a point of it, and to no other one here."""
    with contextlib.suppress(psutil.Error):
        return str(pool.folder / point) in process.environ().get("CONDOR_CONFIG", "")
    return False
