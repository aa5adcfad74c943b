"""Leases: whether a running job is still the one whose outcome counts.

If HTCondor has lost sight of a job it starts it again, and then two may run at once. If both see
the same files the later one counts: it has item files of its own, or HTCondor brings those that it
made. The earlier one must not write any more, neither to these nor to the record. Nor must a job
whose outcome was completed on the access point, where it was believed to be killed.
"""

from __future__ import annotations

import os
import time

_START, _END = b'{"start": ', b'{"end": '
_EVERY = 1.0  # seconds


class Claim:
    """The claim of a job to its files, made when it has written its start into the record.

    Parameters
    ----------
    record : str
        The path of the record.
    """

    def __init__(self, record: str) -> None:
        self._record = os.path.abspath(record)
        with open(record, "rb") as file:
            data = file.read()
        self._offset = max(0, data.rfind(_START))
        self._own = data[self._offset :]
        self._read = len(data)
        self._next = time.monotonic() + _EVERY
        self._lost = False

    def is_lost_by_now(self) -> bool:
        """Return `is_lost`, checked at most once a second, since items may be short."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + _EVERY
        return self.is_lost()

    def is_lost(self) -> bool:
        """Return whether another job has replaced this one."""
        self._lost = self._lost or self._look()
        return self._lost

    def _look(self) -> bool:
        try:
            with open(self._record, "rb") as file:
                file.seek(self._offset)
                if file.read(len(self._own)) != self._own:
                    return True
                file.seek(self._read)
                data = file.read()
        except FileNotFoundError:
            return True
        except OSError:
            return (
                False  # it cannot be told now, such as where a function has opened too many files
            )
        self._read += data.rfind(b"\n") + 1
        return _START in data or _END in data
