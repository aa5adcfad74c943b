"""The cost of nodes according to earlier runs, and the approximate time of chained nodes.

The model is as simple as its inputs are rough.

Jobs start in the order in which their nodes were submitted, wherever there is room, as a schedd
starts jobs of one user and one priority. The share of a pool's other users is unknown, and so is
the time of file transfers.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from htdag.runtime.chunking import even

NODE_SECONDS = 0.2
"""The cost of each further lane: DAGMan submits one node after another, with its POST script."""


@dataclass(frozen=True)
class Cost:
    """What earlier runs say about the time that a node takes.

    Attributes
    ----------
    items : float
        About how many items it reads.
    seconds : float
        Seconds per item in most jobs.
    slowest : float
        Seconds per item in the slowest job.
    jobs : float
        How many jobs were measured, including the slowest.
    """

    items: float
    seconds: float
    slowest: float
    jobs: float


@dataclass(frozen=True)
class Chain:
    """Nodes each of which has the chunks of the node before it, and whether they are in lanes.

    Attributes
    ----------
    nodes : tuple of str
        The first node and those that follow it.
    lanes : int
        Into how many lanes they are cut; 1 for none.
    reason : str
        Why.
    plain : float or None
        About how many seconds they take one after the other; None if unknown.
    laned : float or None
        The same in `tried` lanes.
    tried : int
        The number of lanes that `plain` was compared with.
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


@dataclass(frozen=True)
class Capacity:
    """The resources for jobs.

    Attributes
    ----------
    slots : int
        How many jobs of one CPU can run at once.
    gpus : int
        How many GPUs there are; 0 if unknown, then they limit nothing.
    turn : float
        Seconds from the end of a node's last job to the start of the first job of the next node, if
        a slot is free.
    """

    slots: int = 1
    gpus: int = 0
    turn: float = 20.0


@dataclass(frozen=True)
class Work:
    """The jobs of one node.

    Attributes
    ----------
    jobs : int
        How many there are.
    seconds : float
        How long most of them take; one in `one_in` takes `slowest`.
    slowest : float
        The seconds of those.
    one_in : int
        How many jobs there are for each slow one.
    cpus, gpus : int
        What each job takes.
    after : int or None
        The index of the work that it follows chunk by chunk.
    """

    jobs: int
    seconds: float
    slowest: float
    one_in: int
    cpus: int = 1
    gpus: int = 0
    after: int | None = None

    def time(self, chunk: int) -> float:
        """Return how long a chunk takes; slow ones are spread among the others."""
        return self.slowest if chunk % self.one_in == self.one_in // 2 else self.seconds


def makespan(works: Sequence[Work], lanes: int, capacity: Capacity) -> float:
    """Return about how many seconds chained nodes take.

    Parameters
    ----------
    works : sequence of Work
        The nodes, each after those that it follows.
    lanes : int
        Into how many lanes they are cut. With 1 they may have different numbers of jobs.
    capacity : Capacity
        How many jobs can run at once, and what a node costs.

    Examples
    --------
    Two nodes of four jobs, on one slot and without the cost of nodes:

    >>> works = [Work(4, 1.0, 1.0, 4), Work(4, 1.0, 1.0, 4, after=0)]
    >>> makespan(works, 1, Capacity(slots=1, turn=0.0))
    8.0

    If each node needs another kind of slot, the second need not wait for all of the first. The
    result includes the cost of three further lanes of two nodes:

    >>> works = [Work(4, 60.0, 60.0, 4), Work(4, 60.0, 60.0, 4, cpus=0, gpus=1, after=0)]
    >>> makespan(works, 1, Capacity(slots=1, turn=0.0, gpus=1))
    480.0
    >>> makespan(works, 4, Capacity(slots=1, turn=0.0, gpus=1))
    301.2
    """
    return _Simulation(works, lanes, capacity).run() + NODE_SECONDS * len(works) * (lanes - 1)


class _Simulation:
    def __init__(self, works: Sequence[Work], lanes: int, capacity: Capacity) -> None:
        self._works = works
        self._lanes = lanes
        self._turn = capacity.turn
        self._cpus = max(capacity.slots, *(work.cpus for work in works))
        self._gpus = max(capacity.gpus, *(work.gpus for work in works)) if capacity.gpus else None
        self._edges = [even(work.jobs, lanes) for work in works]
        self._ready: list[tuple[float, int, int]] = []  # when, and work and lane
        self._queue: list[list[int]] = []  # work, lane, next chunk and end of those submitted
        self._running: list[tuple[float, int, int]] = []  # end, work and lane
        self._open: dict[tuple[int, int], int] = {}

    def run(self) -> float:
        now = 0.0
        for number, work in enumerate(self._works):
            if work.after is None:
                self._submit_at(self._turn, number, range(self._lanes))
        while self._ready or self._running:
            now = min(heap[0][0] for heap in (self._ready, self._running) if heap)
            while self._ready and self._ready[0][0] <= now:
                _, number, lane = heapq.heappop(self._ready)
                first, last = self._edges[number][lane : lane + 2]
                self._queue.append([number, lane, first, last])
                self._open[number, lane] = last - first
            while self._running and self._running[0][0] <= now:
                self._end(*heapq.heappop(self._running))
            self._start(now)
        return now

    def _submit_at(self, time: float, number: int, lanes: Sequence[int]) -> None:
        for lane in lanes:
            heapq.heappush(self._ready, (time, number, lane))

    def _start(self, now: float) -> None:
        for entry in self._queue:
            number, lane, chunk, last = entry
            work = self._works[number]
            while chunk < last and self._fits(work):
                self._take(work, 1)
                heapq.heappush(self._running, (now + work.time(chunk), number, lane))
                chunk += 1
            entry[2] = chunk
        self._queue = [entry for entry in self._queue if entry[2] < entry[3]]

    def _fits(self, work: Work) -> bool:
        return work.cpus <= self._cpus and (self._gpus is None or work.gpus <= self._gpus)

    def _take(self, work: Work, times: int) -> None:
        self._cpus -= times * work.cpus
        if self._gpus is not None:
            self._gpus -= times * work.gpus

    def _end(self, now: float, number: int, lane: int) -> None:
        self._take(self._works[number], -1)
        self._open[number, lane] -= 1
        if self._open[number, lane]:
            return
        for other, work in enumerate(self._works):
            if work.after == number:
                self._submit_at(now + self._turn, other, [lane])
