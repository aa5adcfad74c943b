"""The local backend, which runs a run directory in processes of this machine."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from htdag.backends.base import HALTED, Activity, JobState, QueueFacts, RunState
from htdag.backends.tickets import Foreseen, Ticket
from htdag.compile.scheduler import ANY, Scheduler
from htdag.config.directories import environments_directory, make_folder
from htdag.errors import BackendError, UsageError
from htdag.runtime import layout
from htdag.runtime.layout import RunFiles

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import LocalState, Manifest


_STOP_TIMEOUT = 30.0


class LocalBackend:
    """A backend that runs a run directory in a detached process, with one job per core.

    The run goes on when the script that submitted it ends.
    """

    name = "local"
    turn = 0.1

    def check_directory(self, directory: Path) -> None:
        """Accept any directory."""

    def finds_packages(self) -> bool:
        """Return True: jobs run in this very Python."""
        return True

    def scheduler(self, before: Ticket | None = None) -> Scheduler:
        """Return no restrictions: there is no HTCondor."""
        return ANY

    def foreseen(self, dag: str, before: Ticket | None) -> Foreseen:
        """Return an empty dict, as `submit` does."""
        return {}

    def finish_removal(self, run: Path, ticket: Ticket) -> None:
        """Do nothing: `remove` returns only when all processes have ended."""

    def submit(self, run: Path, dag: str, before: Ticket | None = None) -> Ticket:
        """Start the process that runs the run directory, and wait until it has started."""
        if _is_alive(run):
            raise BackendError(f"the run in {str(run)!r} is running already")
        Path(RunFiles(run).halt(dag)).unlink(missing_ok=True)
        command = [sys.executable, "-E", str(run / layout.RUNTIME), "local", str(run)]
        command.append(str(cores()))
        store = make_folder(environments_directory() / "unpacked")  # unpacked once for all jobs
        with open(run / layout.LOCAL_LOG, "ab", opener=_closed_to_others) as log:
            # The process detaches itself once it holds the lock and has written its state.
            status = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "HTDAG_ENVIRONMENTS": str(store)},
                check=False,
            ).returncode
        if status != 0:
            text = (run / layout.LOCAL_LOG).read_text(errors="replace")[-2000:]
            raise BackendError(f"the local run in {str(run)!r} did not start:\n{text}")
        return {}

    def activity(self, run: Path, ticket: Ticket) -> Activity:
        """Return the activity by the state file; a "running" run without a lock was killed."""
        # The lock first: a run that ends in between has already written its last state.
        if _is_alive(run):
            halted = next(run.glob(RunFiles().halt("*.dag")), None) is not None
            stopped = sum(job.state == "suspended" for job in _jobs(run))
            return Activity(RunState.RUNNING, suspended=stopped, halted=halted)
        state = _read_state(run)
        if state is None:
            return Activity(RunState.STOPPED, "the process that should run it did not start")
        if state["state"] == "running":
            return Activity(RunState.STOPPED, "the process that ran it was killed")
        if state["state"] == "halted":
            return Activity(RunState.STOPPED, HALTED)
        return Activity(RunState(state["state"]), state["message"])

    def remove(self, run: Path, ticket: Ticket, force: bool) -> None:
        """Ask the process to stop, and wait until its jobs are gone."""
        state = _read_state(run)
        if state is None or not _is_alive(run):
            return
        try:
            os.kill(state["pid"], signal.SIGKILL if force else signal.SIGTERM)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + _STOP_TIMEOUT
        while _is_alive(run):
            if time.monotonic() > deadline:
                raise BackendError(
                    f"process {state['pid']}, which runs {str(run)!r}, does not stop; "
                    f"try again with force"
                )
            time.sleep(0.01)

    def jobs(self, run: Path, ticket: Ticket, ask: bool) -> tuple[JobState, ...]:
        """Return the running jobs; there is no queue of waiting ones."""
        return tuple(_jobs(run)) if _is_alive(run) else ()

    def act(
        self,
        run: Path,
        ticket: Ticket,
        action: str,
        nodes: list[str],
        which: list[JobState] | None,
    ) -> int:
        """Suspend or continue jobs; this backend supports nothing else."""
        signals = {"pause": signal.SIGSTOP, "continue": signal.SIGCONT}
        if action not in signals:
            refuse(action)
        affected_state = {"pause": "running", "continue": "suspended"}[action]
        number = 0
        for job in _jobs(run) if which is None else which:
            if job.node in nodes and job.state == affected_state:
                try:
                    os.killpg(job.cluster, signals[action])
                except ProcessLookupError:
                    continue  # it has just ended
                number += 1
        return number

    def edit(
        self,
        run: Path,
        ticket: Ticket,
        nodes: list[str],
        inside: set[str],
        attributes: dict[str, str],
    ) -> int:
        """Raise `UsageError`: jobs on this machine request nothing."""
        refuse("edit")

    def halt(self, run: Path, ticket: Ticket, on: bool) -> None:
        """Keep further nodes from starting, or let them start again."""
        manifest: Manifest = layout.read_json(str(run / layout.RUN), "dag")
        path = Path(RunFiles(run).halt(manifest["dag"]))
        if on:
            path.touch(mode=0o600)
        else:
            path.unlink(missing_ok=True)

    def facts(self, run: Path, ticket: Ticket) -> QueueFacts:
        """Return no facts: jobs on this machine wait only for a core."""
        return QueueFacts()

    def peek(self, run: Path, ticket: Ticket, node: str, chunk: str, what: str) -> bytes | None:
        """Return None: all that a job writes is at once in the run directory."""

    def slots(self) -> tuple[int, int]:
        """Return the number of cores; this backend does not manage GPUs."""
        return cores(), 0


_INSTEAD = {
    "hold": "pause suspends its jobs, and halt keeps further nodes from starting",
    "release": "continue is for jobs that are paused, and unhalt for a run that is halted",
    "vacate": "there is no other machine; remove and resume start the jobs again",
    "edit": "its jobs request no memory, disk or time",
    "give another priority": "the option priority of stages decides which jobs start first",
}


def refuse(action: str) -> NoReturn:
    """Raise a `UsageError` for an action that only runs on HTCondor support."""
    raise UsageError(f"the run is on this machine, where it cannot {action}: {_INSTEAD[action]}")


def _jobs(run: Path) -> list[JobState]:
    """Return the jobs of a run that is alive, running or suspended."""
    try:
        content = layout.read_json(str(run / layout.LOCAL_JOBS), kind=list)
    except FileNotFoundError:
        return []
    import psutil

    states = []
    for pid, node, lane, chunk, since in content:
        try:
            stopped = psutil.Process(pid).status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            continue
        state = "suspended" if stopped else "running"
        number = None if chunk is None else int(chunk)
        states.append(JobState(node, pid, 0, state, since, "local run", chunk=number, lane=lane))
    return states


def _closed_to_others(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def cores() -> int:
    """Return how many CPUs this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def _read_state(run: Path) -> LocalState | None:
    try:
        path = str(run / layout.LOCAL_STATE)
        content: LocalState = layout.read_json(path, "state", "message", "pid")
    except FileNotFoundError:
        return None
    if content["state"] not in _STATES:
        raise layout.DamagedFile(path, f"it has the unknown state {content['state']!r}")
    return content


_STATES = ("halted", *(state.value for state in RunState))


def _is_alive(run: Path) -> bool:
    try:
        lock = os.open(run / layout.LOCAL_LOCK, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False
