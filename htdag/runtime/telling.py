"""Tell functions, and the programs that they start, what they work for.

By variables of the environment, and to `current`, which is imported only where a function asks.
"""

from __future__ import annotations

import os
from typing import Any, Dict, Optional

from . import surroundings
from .job import Job
from .program import Cursor


class _Place:
    """The job that this process works for."""

    def __init__(self) -> None:
        self.job: Optional[Job] = None
        self.cursor = Cursor()
        self.granted: Optional[Dict[str, Any]] = None  # by HTCondor; read when it is asked for


HERE = _Place()


def enter(job: Job) -> Cursor:
    """Make `current` tell of a job, and return the cursor to keep up to date."""
    HERE.job = job
    HERE.granted = None
    HERE.cursor = _TellingCursor()
    os.environ["HTDAG_STAGE"] = job.program["stages"][0]
    os.environ["HTDAG_RUN"] = job.program["run"]
    os.environ["HTDAG_NODE"] = job.node
    os.environ["HTDAG_CHUNK"] = job.chunk
    os.environ["HTDAG_ATTEMPT"] = str(job.attempt)
    return HERE.cursor


class _TellingCursor(Cursor):
    """A cursor that tells programs started by functions too, by the environment."""

    __slots__ = ()

    def item(self, key: str) -> None:
        self.key = key
        surroundings.tell(b"HTDAG_ITEM", key.encode())

    def enter(self, name: bytes) -> None:
        surroundings.VARIABLES[b"HTDAG_STAGE"] = name
        surroundings.putenv(b"HTDAG_STAGE", name)
