"""What nodes cost, by earlier runs, and what was decided by that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What earlier runs say of the time that a node takes.

    Attributes
    ----------
    items : float
        About how many items it reads.
    seconds : float
        Seconds an item, of most jobs.
    slowest : float
        Seconds an item of the slowest job.
    jobs : float
        How many jobs were measured, of which that was one.
    """

    items: float
    seconds: float
    slowest: float
    jobs: float


@dataclass(frozen=True)
class Chain:
    """Nodes each of which takes the chunks of the one before it, and whether they are in lanes.

    Attributes
    ----------
    nodes : tuple of str
        The first node, and those that follow it.
    lanes : int
        Into how many lanes they are cut; 1 for none.
    reason : str
        Why.
    plain : float or None
        About how many seconds they take one after the other; None where nothing says so.
    laned : float or None
        The same in `tried` lanes.
    tried : int
        The number of lanes that was compared.
    """

    nodes: tuple[str, ...]
    lanes: int
    reason: str
    plain: float | None = None
    laned: float | None = None
    tried: int = 1


def weighted_median(pairs: Iterable[tuple[float, int]]) -> float:
    """Return the median of values with weights; 0 of nothing.

    Examples
    --------
    >>> weighted_median([(1.0, 1), (2.0, 5), (9.0, 1)])
    2.0
    """
    ordered = sorted(pairs)
    half = sum(weight for _, weight in ordered) / 2
    for value, weight in ordered:
        half -= weight
        if half <= 0:
            return value
    return 0.0
