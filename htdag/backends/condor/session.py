"""Connections to the HTCondor that a run was submitted to, with translated errors."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from htdag.backends.base import HOW_TO_START
from htdag.backends.condor.bindings import htcondor2, message_of, ping, using
from htdag.backends.condor.own_pool import OwnPool
from htdag.backends.condor.setup import Setup
from htdag.errors import BackendError

_DAGMAN_TIMEOUT = 30.0  # seconds for DAGMan to notice that its schedd is gone


def why_stopped(setup: Setup) -> str:
    """Return why an HTCondor is stopped, if it is a user's own pool; else ""."""
    if not setup.own or setup.config is None:
        return ""
    folder = Path(setup.config).parent
    if OwnPool(folder).is_running:
        return ""
    if not folder.is_dir():
        return f"the pool that it was submitted to, in {str(folder)!r}, is gone"
    return f"the pool that it was submitted to, in {str(folder)!r}, is not running; {HOW_TO_START}"


@contextlib.contextmanager
def connected(setup: Setup) -> Iterator[None]:
    """Make the bindings use an HTCondor; raise `BackendError` if its pool is stopped."""
    stopped = why_stopped(setup)
    if stopped:
        raise BackendError(stopped)
    with using(setup):
        ping()
        yield


@contextlib.contextmanager
def translated_errors(action: str) -> Iterator[None]:
    """Turn errors of the bindings during an action into `BackendError`."""
    try:
        yield
    except BackendError:
        raise
    except (htcondor2.HTCondorException, OSError, RuntimeError, ValueError) as error:
        raise BackendError(f"HTCondor: {action}: {message_of(error)}") from error


def wait_for_dagman(dag: Path) -> None:
    """Wait for the end of an earlier DAGMan, which may outlive a killed schedd for a while.

    Raises
    ------
    BackendError
        If it does not end.
    """
    import psutil

    deadline = time.monotonic() + _DAGMAN_TIMEOUT
    while True:
        dagman = None
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.name() == "condor_dagman" and str(dag) in process.cmdline():
                    dagman = process
        if dagman is None:
            return
        if time.monotonic() > deadline:
            raise BackendError(
                f"an earlier DAGMan, process {dagman.pid}, still works on {str(dag)!r}, although "
                f"it is no longer in a queue; end it (kill {dagman.pid}) and resume again"
            )
        time.sleep(0.2)
