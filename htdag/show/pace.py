"""The pace at which items are done, and the time that remains at that pace."""

from __future__ import annotations

from collections import deque

_WINDOW = 120.0  # seconds; older samples say little about the current pace
_SHORTEST = 2.0  # seconds between the samples that a pace is computed from


class Pace:
    """The pace of one node, from samples of its counts.

    Examples
    --------
    >>> pace = Pace()
    >>> pace.take(0.0, 10)
    >>> pace.take(10.0, 30)
    >>> pace.rate, pace.left(100)
    (2.0, 50.0)
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def take(self, now: float, done: int) -> None:
        """Add a sample: the time in seconds, and how many items are done."""
        if self._samples and done < self._samples[-1][1]:
            self._samples.clear()  # the node has started again
        self._samples.append((now, done))
        while len(self._samples) > 2 and now - self._samples[1][0] > _WINDOW:
            self._samples.popleft()

    @property
    def rate(self) -> float | None:
        """Items per second; None while it is unknown."""
        if len(self._samples) < 2:
            return None
        (start, before), (now, done) = self._samples[0], self._samples[-1]
        if now - start < _SHORTEST or done == before:
            return None
        return (done - before) / (now - start)

    def left(self, items: int) -> float | None:
        """Return how many seconds this many items will take; None while that is unknown."""
        rate = self.rate
        return None if rate is None else items / rate


def rate_text(rate: float) -> str:
    """Return a rate for people: items per second, minute or hour."""
    for unit, seconds in (("s", 1), ("min", 60), ("h", 3600)):
        if rate * seconds >= 1 or unit == "h":
            number = rate * seconds
            return f"{number:.0f}/{unit}" if number >= 10 else f"{number:.1f}/{unit}"
    raise AssertionError


def clock_text(seconds: float) -> str:
    """Return a duration such as ``1:05`` or ``2:00:00``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
