"""Work with the HTCondor that a run was submitted to, with its errors as htdag's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from htdag.backends.base import HOW_TO_START
from htdag.backends.bindings import htcondor2, short, using
from htdag.backends.ownpool import OwnPool
from htdag.backends.setup import Setup
from htdag.errors import BackendError


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
def reached(setup: Setup) -> Iterator[None]:
    """Work with an HTCondor, or say how it could be reached."""
    stopped = why_stopped(setup)
    if stopped:
        raise BackendError(stopped)
    with using(setup):
        yield


@contextlib.contextmanager
def mapped(doing: str) -> Iterator[None]:
    """Turn errors of the bindings into htdag's."""
    try:
        yield
    except BackendError:
        raise
    except (htcondor2.HTCondorException, OSError, RuntimeError, ValueError) as error:
        raise BackendError(f"HTCondor: {doing}: {short(error)}") from error
