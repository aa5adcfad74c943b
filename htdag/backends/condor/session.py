"""Work with the HTCondor that a run was submitted to, with its errors as htdag's."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from htdag.backends.base import HOW_TO_START
from htdag.backends.condor.bindings import htcondor2, ping, short, using
from htdag.backends.condor.own_pool import OwnPool
from htdag.backends.condor.setup import Setup
from htdag.errors import BackendError

_DAGMAN_ENDS = 30.0  # seconds until it has noticed that its schedd is gone


def why_stopped(setup: Setup) -> str:
    """Return "" unless it is a pool of one's own that does not run."""
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
    """Work with an HTCondor, or say how it could be reached."""
    stopped = why_stopped(setup)
    if stopped:
        raise BackendError(stopped)
    with using(setup):
        ping()
        yield


@contextlib.contextmanager
def translated_errors(doing: str) -> Iterator[None]:
    """Turn errors of the bindings into htdag's."""
    try:
        yield
    except BackendError:
        raise
    except (htcondor2.HTCondorException, OSError, RuntimeError, ValueError) as error:
        raise BackendError(f"HTCondor: {doing}: {short(error)}") from error


def wait_for_dagman(dag: Path) -> None:
    """Wait for the end of a DAGMan of before, which outlives a schedd that was killed for a while.

    Raises
    ------
    BackendError
        If it does not end.
    """
    import psutil

    deadline = time.monotonic() + _DAGMAN_ENDS
    while True:
        found = None
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.name() == "condor_dagman" and str(dag) in process.cmdline():
                    found = process
        if found is None:
            return
        if time.monotonic() > deadline:
            raise BackendError(
                f"a DAGMan of before, process {found.pid}, still works on {str(dag)!r}, although "
                f"it is in no queue any more; end it (kill {found.pid}) and resume again"
            )
        time.sleep(0.2)
