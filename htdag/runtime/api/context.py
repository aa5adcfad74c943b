"""The job, stage and item at which this process works."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional

from ..task import Job


class Cursor:
    """The current stage and key, for error reports."""

    __slots__ = ("key", "stage")

    enter: Optional[Callable[[bytes], None]] = None
    """Tells programs too which stage begins."""

    def __init__(self) -> None:
        self.stage = ""
        self.key = ""

    def item(self, key: str) -> None:
        """Begin an item."""
        self.key = key


class _Place:
    """The job that this process works for."""

    def __init__(self) -> None:
        self.job: Optional[Job] = None
        self.cursor = Cursor()
        self.granted: Optional[Dict[str, Any]] = None  # by HTCondor; read when it is asked for


HERE = _Place()
