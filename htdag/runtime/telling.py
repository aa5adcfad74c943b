"""Tell functions, and the programs that they start, what they work for.

By variables of the environment, and to `current`, which is imported only where a function asks.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional

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
        os.environ["HTDAG_ITEM"] = key


def over(cursor: Cursor, program: Dict[str, Any], functions: List[Any]) -> List[Any]:
    """Return the functions of a node so that the environment tells the stage of each.

    A variable takes longer to set than a stage's name to note, so where it is the same for all
    functions it is set once.
    """
    if not isinstance(cursor, _TellingCursor):
        return functions
    operations = program["operations"]
    os.environ["HTDAG_STAGE"] = program["stages"][0]
    if len({operation["stage"] for operation in operations}) < 2:
        return functions
    found = list(functions)
    for operation in operations:
        number = operation["function"]
        found[number] = _told(functions[number], operation["stage"])
    return found


def _told(function: Any, stage: str) -> Any:
    def call(*arguments: Any, **keywords: Any) -> Any:
        os.environ["HTDAG_STAGE"] = stage
        result = function(*arguments, **keywords)
        return elements(result) if hasattr(result, "__next__") else result

    def elements(result: Any) -> Any:
        while True:
            os.environ["HTDAG_STAGE"] = stage  # the stages after it have changed it
            try:
                element = next(result)
            except StopIteration:
                return
            yield element

    return call
