"""The memory that the process of a job's functions shares with its supervisor."""

from __future__ import annotations

import json
import mmap
import struct
from typing import TYPE_CHECKING, NamedTuple, Optional

from .lease import Claim

if TYPE_CHECKING:
    from ..formats.record import JobMeasures

STARTING, RUNNING, FINISHED, GAVE_UP, PAUSED, ALTERED = 0, 1, 2, 3, 4, 5


class Counts(NamedTuple):
    """The progress of the child."""

    state: int
    position: int  # the sequence number of the item at hand + 1, or 0
    items: int
    done: int
    failed: int


class Shared:
    """Shared memory in which the child notes its progress, in case it dies."""

    _COUNTS = struct.Struct("<QQQQQ")
    _LENGTH = struct.Struct("<Q")
    _NOTE_AT = _COUNTS.size + _LENGTH.size
    # For the note, which becomes a part of a record's last line: see `recordfile.end`.
    _ROOM = 32_768

    def __init__(self, claim: Optional[Claim] = None) -> None:
        self.claim = claim
        self._memory = mmap.mmap(-1, self._NOTE_AT + self._ROOM)

    def put(self, state: int, position: int, items: int, done: int, failed: int) -> None:
        """Note the progress."""
        self._COUNTS.pack_into(self._memory, 0, state, position, items, done, failed)

    def get(self) -> Counts:
        """Return the last noted progress."""
        return Counts(*self._COUNTS.unpack_from(self._memory))

    def note(self, content: JobMeasures) -> None:
        """Leave a note for the supervisor; it is dropped if there is no room."""
        data = json.dumps(content).encode()
        if len(data) <= self._ROOM:
            self._memory[self._NOTE_AT : self._NOTE_AT + len(data)] = data
            self._LENGTH.pack_into(self._memory, self._COUNTS.size, len(data))

    def noted(self) -> Optional[JobMeasures]:
        """Return the note that was left, or None."""
        (size,) = self._LENGTH.unpack_from(self._memory, self._COUNTS.size)
        if not size:
            return None
        content: JobMeasures = json.loads(self._memory[self._NOTE_AT : self._NOTE_AT + size])
        return content
