"""Tell functions, and the programs that they start, what they work for.

By variables of the environment, and to `current`, which is imported only where a function asks.
"""

from __future__ import annotations

import os

from .. import layout
from ..api.context import HERE, Cursor
from ..task import Job
from . import surroundings


def enter(job: Job) -> Cursor:
    """Make `current` tell of a job, and return the cursor to keep up to date."""
    HERE.job = job
    HERE.granted = None
    HERE.cursor = _TellingCursor()
    os.environ["HTDAG_STAGE"] = job.program["stages"][0]
    os.environ["HTDAG_RUN"] = job.program["run"]
    os.environ["HTDAG_NODE"] = job.node
    os.environ["HTDAG_CHUNK"] = layout.chunk_name(job.chunk)
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
