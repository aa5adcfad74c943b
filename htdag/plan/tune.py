"""The pass *tune*: the size of jobs, according to earlier runs.

The chunk size, memory and disk that the user left open follow from what was measured. Options that
the user set stay; nothing here decides which stages share a node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from htdag.common.text import duration, short_number, size
from htdag.options.stage_options import Options
from htdag.plan.chunk import MOST_JOBS, MOST_TUNED
from htdag.plan.model import Node
from htdag.plan.simulate import Cost, weighted_median
from htdag.plan.stage_keys import GROUPS, PARTS, stage_keys
from htdag.stages.operations import Keyed

if TYPE_CHECKING:
    import networkx as nx

JOBS_A_SLOT = 2
LEAST_SECONDS = 60.0
"""A node gets more jobs than it has without history, for idle slots, only if they take this long;
and a node after another keeps its number of jobs if all its work takes less."""

_MARGIN = 1.25  # memory and disk that are asked for, to what was measured
_WORKER_MB = 64.0  # Python, and the process that supervises the one which runs the functions
_LEAST_DISK_MB = 256.0
_RETRY = 2  # retry_request_memory, to request_memory


@dataclass(frozen=True)
class Measured:
    """The measurements of one stage in one run.

    Attributes
    ----------
    run : float
        When the run was created, in seconds since the epoch.
    node : str
        The node that computed the stage; memory and disk are those of its jobs.
    jobs : int
        How many jobs were measured.
    calls : int
        How often the function was called in them.
    seconds : float
        Seconds per call, the median of jobs.
    ratio : float
        The number of items made from each item.
    rest : float
        Seconds per item of the node that its jobs spent outside of functions, the median of jobs.
        0 for all but the first stage of a node.
    memory_mb : float
        The most by which the functions' process grew in any job.
    disk_mb : float
        The most disk that an item needed in any job.
    disk_fixed_mb : float
        The most disk that a job needed independent of its items.
    slowest : float
        Seconds per call in the slowest job; 0 if that was not measured.
    """

    run: float
    node: str
    jobs: int
    calls: int
    seconds: float
    ratio: float
    rest: float
    memory_mb: float
    disk_mb: float
    disk_fixed_mb: float
    slowest: float = 0.0


Measures = Mapping[str, tuple[Measured, ...]]
"""The measurements by key of the stage (`htdag.plan.stage_keys`), oldest run first."""


@dataclass(frozen=True)
class Settings:
    """The planner's goals.

    Attributes
    ----------
    target_job_seconds : float
        How long a job should take.
    lanes : int or None
        Into how many lanes chains of nodes are cut; None: as many as earlier runs suggest.
    """

    target_job_seconds: float = 600.0
    lanes: int | None = None


def tune(
    graph: nx.DiGraph,
    pipeline: str,
    nodes: tuple[Node, ...],
    measures: Measures,
    slots: int,
    settings: Settings,
) -> tuple[Node, ...]:
    """Set the number of jobs, the memory and the disk of nodes that leave them open.

    Parameters
    ----------
    graph : networkx.DiGraph
        The graph of stages.
    pipeline : str
        The pipeline's name.
    nodes : tuple of Node
        Connected nodes in topological order.
    measures : mapping
        The measurements of stages, by their keys.
    slots : int
        How many jobs of one CPU can run at once.
    settings : Settings
        The goals.

    Returns
    -------
    tuple of Node
        The nodes. Without measures they are the same.
    """
    if not measures:
        return nodes
    keys = stage_keys(graph, pipeline)
    streams = _Streams(keys, measures)
    tuned = []
    jobs: dict[str, float] = {}
    for node in nodes:
        parts = [_Part(key, calls, streams.of(node, key)) for key, calls in streams.parts(node)]
        items = streams.items_into(node)
        followed = jobs.get(str(node.input.node)) if node.follows else None
        if any(part.runs for part in parts):
            free = _decides(graph, node, streams)
            node = _tuned(node, parts, items, slots, settings, followed, free)
        streams.pass_on(node, items)
        share = max(1.0, _items_a_job(node, items, node.jobs))
        jobs[node.name] = max(1.0, items / share) if followed is None else followed
        tuned.append(node)
    return tuple(tuned)


@dataclass(frozen=True)
class _Part:
    """A node's work for one stage: its key, calls per item of the node, and measurements."""

    key: str
    calls: float
    runs: tuple[Measured, ...]

    def seconds(self) -> float:
        """Return the seconds that the stage takes for an item of the node."""
        return self.calls * self.median(lambda run: run.seconds)

    def slowest(self) -> float:
        """Return the seconds that the stage took for an item in the slowest job."""
        return self.calls * self.median(lambda run: run.slowest or run.seconds)

    def median(self, value: Callable[[Measured], float]) -> float:
        """Return the median over runs, each weighted by its calls up to a limit."""
        return weighted_median((value(run), min(run.calls, 1000) or 1) for run in self.runs)


class _Streams:
    """The number of items that reach each node and each of its stages, from earlier runs."""

    def __init__(self, keys: Mapping[str, str], measures: Measures) -> None:
        self._keys = keys
        self._measures = measures
        self._items: dict[tuple[str, str], float] = {}  # by node and output

    def of(self, node: Node, key: str) -> tuple[Measured, ...]:
        """Return the measurements of a stage, preferably in the same node."""
        runs = self._measures.get(key, ())
        return tuple(run for run in runs if run.node == node.name) or runs

    def parts(self, node: Node) -> list[tuple[str, float]]:
        """Return the keys of a node's work, with the calls of each per item of the node."""
        parts = []
        reach: dict[str | None, float] = {None: 1.0}  # items after each stage, per item of the node
        for step in node.steps:
            calls = reach.get(step.after, 1.0)
            key = self._keys[step.stage]
            reach[step.stage] = calls * self._ratio(key)
            parts.append((key, calls))
        for output in node.outputs:
            if output.functions:
                parts.append((self._keys[output.stage] + PARTS, reach.get(output.after, 1.0)))
        if node.reduction is not None:
            parts.append((self._keys[node.reduction.stage], 1.0))
        elif node.stages and (not node.steps or node.input.combine is not None):
            first = self._keys.get(node.stages[0])  # None for a source that is needed whole
            parts += [] if first is None else [(first, 1.0)]
        return parts

    def items_into(self, node: Node) -> float:
        """Return how many items a node reads."""
        reads = node.input
        totals = [
            reads.count(stream.source)
            if stream.source is not None
            else round(self._items.get((str(stream.node), stream.stage), 1.0))
            for stream in reads.streams
        ]
        total = float(reads.total(totals))
        groups = self.groups(node)
        return total if groups is None else min(total, groups)

    def groups(self, node: Node) -> float | None:
        """Return how many keys the stage of a partition has; None if unknown."""
        if not node.input.is_partitioned:
            return None
        runs = self._measures.get(self._keys[node.stages[0]] + GROUPS)
        return weighted_median((run.calls, 1) for run in runs) if runs else None

    def pass_on(self, node: Node, items: float) -> None:
        """Note how many items a node writes of those that it reads."""
        reach: dict[str | None, float] = {None: items}
        for step in node.steps:
            reach[step.stage] = reach.get(step.after, items) * self._ratio(self._keys[step.stage])
        for output in node.outputs:
            written = reach.get(output.after, items)
            if node.reduction is not None:
                written = 1.0
            elif output.map_side is not None and output.map_side.one_a_job:
                written = math.ceil(items / max(1.0, _items_a_job(node, items, node.jobs)))
            self._items[node.name, output.stage] = written

    def _ratio(self, key: str) -> float:
        runs = self._measures.get(key)
        return _Part(key, 1.0, runs).median(lambda run: run.ratio) if runs else 1.0


def _decides(graph: nx.DiGraph, node: Node, streams: _Streams) -> bool:
    """Return whether measures may decide how many jobs a node has.

    For a keyed stage that is its number of partitions, if that is not set.
    """
    if node.input.is_partitioned:
        return streams.groups(node) is not None and not _partitions(graph, node)
    return node.reduction is None and not node.input.is_sorted


def _partitions(graph: nx.DiGraph, node: Node) -> int | None:
    operation = graph.nodes[node.stages[0]]["stage"].operation
    return operation.partitions if isinstance(operation, Keyed) else None


def _tuned(
    node: Node,
    parts: Sequence[_Part],
    items: float,
    slots: int,
    settings: Settings,
    followed: float | None,
    free: bool,
) -> Node:
    """Return a node with what follows from its measurements.

    ``followed`` is the number of jobs that it takes from the node before it, ``free`` whether the
    measures decide, if there is none.
    """
    unknown = [part.key for part in parts if not part.runs]
    measured = [part for part in parts if part.runs]
    reasons = []
    each = sum(part.seconds() for part in measured)
    rest = max(part.median(lambda run: run.rest) for part in measured)
    each += rest
    jobs = None if followed is None else round(followed)
    if free and node.options.chunk_size is None and followed is None:
        if unknown:
            names = ", ".join(dict.fromkeys(key.split("/")[1] for key in unknown))
            reasons.append(f"the number of jobs is the default: nothing was measured of {names}")
        elif node.input.source is None and items * each < LEAST_SECONDS:
            text = f"so little work ({duration(items * each)} in all) that its jobs are the default"
            reasons.append(text)
        else:
            cpus = node.options.request_cpus
            slots = max(1, slots // (cpus if isinstance(cpus, int) else 1))
            jobs, reason = _jobs(items, each, slots, settings)
            reasons.append(reason)
    options, request_reasons = _requests(node, measured, _items_a_job(node, items, jobs))
    before = node.options.given()
    return replace(
        node,
        options=options,
        jobs=jobs,
        per_job=node.per_job if jobs is None else max(1.0, items / jobs),
        cost=None
        if unknown
        else Cost(
            items,
            each,
            rest + sum(part.slowest() for part in measured),
            min(part.median(lambda run: run.jobs) for part in measured),
        ),
        measured=_measured(measured, each if node.reduction is None or not unknown else None),
        proposed=tuple(name for name in options.given() if name not in before),
        reasons=(*node.reasons, *reasons, *request_reasons),
    )


def _requests(node: Node, known: Sequence[_Part], share: float) -> tuple[Options, list[str]]:
    """Return the options of a node with memory and disk for jobs of `share` items, and why."""
    options = node.options
    runs = [run for part in known for run in part.runs]
    proposed = []
    if options.request_memory is None:
        amount = rounded(max(run.memory_mb for run in runs) * _MARGIN + _WORKER_MB)
        options = replace(options, request_memory=f"{amount}MB")
        if options.retry_request_memory is None:
            options = replace(options, retry_request_memory=f"{rounded(amount * _RETRY)}MB")
        proposed.append("memory")
    disk = max(run.disk_mb for run in runs) * share + max(run.disk_fixed_mb for run in runs)
    if options.request_disk is None and disk > 0:
        amount = rounded(max(_LEAST_DISK_MB, disk * _MARGIN))
        options = replace(options, request_disk=f"{amount}MB")
        proposed.append("disk")
    if not proposed:
        return options, []
    text = f"{' and '.join(proposed)}: as measured, for {_items(share)} a job, with a margin"
    return options, [text]


def _measured(known: Sequence[_Part], each: float | None) -> str:
    """Return what is known about a node, in words; ``each`` are its seconds per item."""
    runs = [run for part in known for run in part.runs]
    number = len({run.run for run in runs})
    text = f"in {number} run{'' if number == 1 else 's'}: "
    if each is not None:
        text += f"{duration(each)} an item"
        if len(known) > 1:
            slow = max(known, key=_Part.seconds)
            text += f" ({slow.key.split('/')[1]}: {duration(slow.seconds())})"
        text += ", "
    memory, disk = (max(run.memory_mb for run in runs), max(run.disk_mb for run in runs))
    return text + f"{size(memory)} at the peak, disk {size(disk)} an item"


def _jobs(items: float, each: float, slots: int, settings: Settings) -> tuple[int, str]:
    """Return how many jobs a node should have, and why."""
    total = items * each
    target = settings.target_job_seconds
    by_time = math.ceil(total / target)
    by_slots = JOBS_A_SLOT * slots
    enough = max(MOST_JOBS, math.floor(total / LEAST_SECONDS))
    most = max(1, min(math.floor(items), MOST_TUNED))
    jobs = max(1, min(max(by_time, min(by_slots, enough)), most))
    if jobs == math.floor(items) and items <= max(by_time, by_slots):
        why = "one for each item"
    elif jobs == MOST_TUNED:
        why = "the most that are made"
    elif by_time >= min(by_slots, enough):
        why = f"for jobs of about {duration(target)} (target_job_seconds)"
    elif enough < by_slots:
        why = f"fewer than two for each of {slots:,} slots, since those would be short"
    else:
        why = f"two for each of {slots:,} slot{'' if slots == 1 else 's'}"
    return jobs, (
        f"about {jobs:,} job{'' if jobs == 1 else 's'} of {duration(total / jobs)}: "
        f"{_items(items)} of {duration(each)}, {why}"
    )


def _items_a_job(node: Node, items: float, jobs: int | None) -> float:
    if node.reduction is not None:
        return items
    if node.options.chunk_size is not None:
        return min(float(node.options.chunk_size), items)
    return math.ceil(items / (jobs or min(MOST_JOBS, max(1, math.ceil(items)))))


def rounded(megabytes: float) -> int:
    """Return a size in MB, rounded up to one that a person would ask for.

    Examples
    --------
    >>> [rounded(size) for size in (3, 300, 1500, 9000, 70_000)]
    [128, 384, 1536, 9216, 73728]
    """
    step = 128
    while megabytes > 16 * step and step < 4096:
        step *= 2
    return max(1, math.ceil(megabytes / step)) * step


def _items(number: float) -> str:
    text = short_number(number)
    return f"{text} item{'' if text == '1' else 's'}"
