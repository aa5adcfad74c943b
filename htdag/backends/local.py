"""The embedded backend: a run directory, run in processes of this machine."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from htdag.backends.base import Activity, RunState
from htdag.errors import BackendError
from htdag.runtime import layout

_STOP_TIMEOUT = 30.0


class LocalBackend:
    """Runs a run directory in a detached process of this machine, one job a core.

    The run goes on when the script that submitted it ends.
    """

    name = "local"
    turn = 0.1

    def check_directory(self, directory: Path) -> None:
        """Accept any directory."""

    def submit(self, run: Path, dag: str, before: dict[str, Any] | None = None) -> dict[str, Any]:
        """Start the process that runs the run directory, and wait until it has begun."""
        if _is_alive(run):
            raise BackendError(f"the run in {str(run)!r} is running already")
        command = [sys.executable, "-E", str(run / layout.RUNTIME), "local", str(run)]
        command.append(str(cores()))
        with open(run / layout.LOCAL_LOG, "ab") as log:
            # It detaches itself once it holds the lock and has written its state.
            status = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
            ).returncode
        if status != 0:
            text = (run / layout.LOCAL_LOG).read_text(errors="replace")[-2000:]
            raise BackendError(f"the local run in {str(run)!r} did not start:\n{text}")
        return {}

    def activity(self, run: Path, ticket: dict[str, Any]) -> Activity:
        """Read the state file; a run that says it is running but holds no lock was killed."""
        # In this order: a run that ends in between has written its last state before.
        if _is_alive(run):
            return Activity(RunState.RUNNING)
        state = _read_state(run)
        if state is None or state["state"] == "running":
            return Activity(RunState.STOPPED, "the process that ran it was killed")
        return Activity(RunState(state["state"]), state["message"])

    def remove(self, run: Path, ticket: dict[str, Any], force: bool) -> None:
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

    def slots(self) -> tuple[int, int]:
        """Return the number of cores; GPUs are not looked for, nor given out."""
        return cores(), 0


def cores() -> int:
    """Return how many CPUs this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def _read_state(run: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads((run / layout.LOCAL_STATE).read_text())
    except FileNotFoundError:
        return None
    return content


def _is_alive(run: Path) -> bool:
    try:
        lock = os.open(run / layout.LOCAL_LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False
