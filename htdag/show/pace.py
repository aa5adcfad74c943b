"""How fast items are done, and how long the others will take at that pace."""

from __future__ import annotations

from collections import deque

_WINDOW = 120.0  # seconds; older looks say little about the pace of today
_SHORTEST = 2.0  # seconds between the looks that a pace is made of


class Pace:
    """The pace of one node, from the counts that were seen.

    Examples
    --------
    >>> pace = Pace()
    >>> pace.take(0.0, 10)
    >>> pace.take(10.0, 30)
    >>> pace.rate, pace.left(100)
    (2.0, 50.0)
    """

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()

    def take(self, now: float, done: int) -> None:
        """Take a look: how many items are done at a time, in seconds."""
        if self._looks and done < self._looks[-1][1]:
            self._looks.clear()  # begun anew
        self._looks.append((now, done))
        while len(self._looks) > 2 and now - self._looks[1][0] > _WINDOW:
            self._looks.popleft()

    @property
    def rate(self) -> float | None:
        """Items a second; None while it is not known."""
        if len(self._looks) < 2:
            return None
        (begun, before), (now, done) = self._looks[0], self._looks[-1]
        if now - begun < _SHORTEST or done == before:
            return None
        return (done - before) / (now - begun)

    def left(self, items: int) -> float | None:
        """Return how many seconds so many items will take; None while that is not known."""
        rate = self.rate
        return None if rate is None else items / rate


def rate_text(rate: float) -> str:
    """Return a rate for people: items a second, a minute or an hour."""
    for unit, seconds in (("s", 1), ("min", 60), ("h", 3600)):
        if rate * seconds >= 1 or unit == "h":
            number = rate * seconds
            return f"{number:.0f}/{unit}" if number >= 10 else f"{number:.1f}/{unit}"
    raise AssertionError


def duration(seconds: float) -> str:
    """Return a length of time such as ``1:05`` or ``2:00:00``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
