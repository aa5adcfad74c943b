"""The third pass: how many jobs each node has and which items each of them takes."""

from __future__ import annotations

import math
from dataclasses import replace

import networkx as nx

from htdag.plan.model import Input, Node, Output, Reduction, Take
from htdag.stages import Stage

MOST_JOBS = 100
FAN_IN = 100


def chunk(graph: nx.DiGraph, nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Cut the work of every node into chunks, and build the trees of wide reduces.

    Parameters
    ----------
    graph : networkx.DiGraph
        The graph of stages.
    nodes : tuple of Node
        Connected nodes in topological order.

    Returns
    -------
    tuple of Node
        The nodes, with the combining nodes of trees before the reduces that they serve.
    """
    done: dict[str, Node] = {}
    for node in nodes:
        if node.reduction is None:
            done[node.name] = _chunked(graph, node, done)
        else:
            for level in _reduce_levels(graph, node, done):
                done[level.name] = level
    return tuple(done.values())


def even(total: int, parts: int) -> tuple[int, ...]:
    """Return the boundaries of `parts` nearly equal parts of `total`."""
    return tuple(total * part // parts for part in range(parts + 1))


def _chunked(graph: nx.DiGraph, node: Node, done: dict[str, Node]) -> Node:
    size = node.options.chunk_size
    if node.input.source is not None:
        items = len(node.input.source)
        if size is None:
            chunks = min(items, node.jobs or MOST_JOBS)
            boundaries = even(items, chunks)
            reason = f"{items:,} items in {chunks:,} jobs (at most {MOST_JOBS} by default)"
        else:
            boundaries = (*range(0, items, size), items)
            chunks = len(boundaries) - 1
            reason = f"{items:,} items in {chunks:,} jobs (chunk_size={size})"
        return replace(
            node,
            items=items,
            chunks=chunks,
            boundaries=boundaries,
            reasons=node.reasons if node.jobs else (*node.reasons, reason),
        )
    before = done[str(node.input.node)]
    items_before = _output_items(graph, before, node.input.stage)
    estimate = items_before if items_before is not None else _estimate(before, done)
    if size is None and node.jobs:
        wanted, reason = node.jobs, ""  # it was given where the number was found
    elif size is None:
        wanted = min(before.chunks, MOST_JOBS)
        reason = (
            f"{wanted:,} jobs, one for each chunk of {before.name}"
            if wanted == before.chunks
            else f"{before.chunks:,} chunks of {before.name} in {wanted:,} jobs "
            f"(at most {MOST_JOBS} by default)"
        )
    else:
        wanted = max(1, math.ceil(estimate / size))
        about = "" if items_before is not None else "about "
        reason = f"{about}{estimate:,} items in {wanted:,} jobs (chunk_size={size})"
    takes = spread(before.chunks, wanted)
    return replace(
        node,
        items=items_before,
        chunks=len(takes),
        takes=takes,
        reasons=node.reasons if node.jobs else (*node.reasons, reason),
    )


def spread(before: int, wanted: int) -> tuple[Take, ...]:
    """Return which of the chunks before each of about `wanted` chunks takes.

    Whole chunks are grouped evenly; where more are wanted than there are, each is cut in parts.
    """
    if wanted <= before:
        edges = even(before, wanted)
        return tuple(Take(edges[n], edges[n + 1] - 1) for n in range(wanted))
    parts = math.ceil(wanted / before)
    return tuple(Take(n, n, (part, parts)) for n in range(before) for part in range(parts))


def _output_items(graph: nx.DiGraph, node: Node, stage: str) -> int | None:
    """Return how many values a node writes for a stage, where that is known before it runs."""
    if node.reduction is not None:
        return 1
    after = {operation.stage: operation for operation in node.operations}
    current: str | None = stage if stage in after else None
    while current is not None:
        handle: Stage = graph.nodes[current]["stage"]
        if handle.kind not in ("map", "starmap"):
            return None
        current = after[current].after
    return node.items


def _estimate(node: Node, done: dict[str, Node]) -> int:
    """Return how many items a node reads, counting as if filters kept all of them."""
    while node.items is None:
        node = done[str(node.input.node)]
    return node.items


def _reduce_levels(graph: nx.DiGraph, node: Node, done: dict[str, Node]) -> list[Node]:
    """Return a reduce as one job, after as many combining levels as its fan-in asks for."""
    reduction = node.reduction
    assert reduction is not None
    handle: Stage = graph.nodes[reduction.stage]["stage"]
    if node.input.source is not None:
        items = len(node.input.source)
        return [replace(node, items=items, chunks=1, boundaries=(0, items))]
    levels: list[Node] = []
    before = done[str(node.input.node)]
    fan_in = handle.fan_in or FAN_IN
    partial = any(o.stage == handle.name and o.combine is not None for o in before.outputs)
    while handle.associative and not reduction.binds and before.chunks > fan_in:
        number = len(levels) + 1
        takes = spread(before.chunks, math.ceil(before.chunks / fan_in))
        name = f"{node.name}.combine-{number}"
        before = Node(
            name=name,
            stages=(),
            input=Input(reduction.stage if levels or partial else node.input.stage, before.name),
            reduction=Reduction(reduction.stage, reduction.function, False),
            outputs=(Output(reduction.stage, None),),
            options=node.options,
            chunks=len(takes),
            takes=takes,
            reasons=(f"{reduction.stage}: level {number} of a tree, by {fan_in} (fan_in)",),
        )
        levels.append(before)
    reads = Input(reduction.stage, before.name) if levels else node.input
    take = Take(0, before.chunks - 1)
    values = before.chunks if levels or partial else _output_items(graph, before, reads.stage)
    return [*levels, replace(node, input=reads, chunks=1, takes=(take,), items=values)]
