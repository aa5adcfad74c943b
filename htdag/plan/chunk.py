"""The pass *chunk*: the number of jobs of each node, and the items of each job."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

from htdag.common.text import counted
from htdag.plan.layouts import NO_LAYOUTS, Layouts, followed, followed_parts
from htdag.plan.model import Node
from htdag.plan.parts import Bind, Input, Output, Reduction, StoredSource, Stream
from htdag.plan.wording import left_out, reason_of
from htdag.runtime import chunking
from htdag.stages import MOST_PARTITIONS, Iterate
from htdag.stages.graph import stage_of
from htdag.stages.operations import Aggregation, Combinations, Concat, Elementwise, Product
from htdag.stages.sources import LateSource

if TYPE_CHECKING:
    from collections.abc import Callable

    import networkx as nx

MOST_JOBS = 100
FEW_JOBS = 10
"""So few jobs do not justify a DAGMan cycle for a POST script that counts their items."""
MOST_TUNED = 10_000
"""The most jobs of a node if earlier runs measured how long they take."""
FAN_IN = 100
MOST_FILES = 2000
"""About the most files that the partitions of a stage may have."""
MOST_TUNED_FILES = 10_000
"""The same if earlier runs suggest more partitions, because each is much work."""
STORED_FILE = 1 << 20
"""About the least bytes in a file of a source that is read by ranges, or whole: every such file is
sent with each job that reads it."""


class StreamEstimate(NamedTuple):
    """What is known about a stream before anything runs.

    ``blocks`` are the counts of its blocks, or None where data decides; ``items`` is the number of
    its items, counting as if filters kept all of them; ``chunks`` the number of its blocks, or of
    the jobs that a source is for. If the stream is not ``exact``, items that fail are skipped, so
    that there may be fewer.
    """

    blocks: list[int] | None
    items: int
    chunks: int
    settled: bool  # whether the number of blocks is known
    exact: bool = True


def stored_sources(graph: nx.DiGraph, nodes: tuple[Node, ...]) -> tuple[StoredSource, ...]:
    """Return the sources that are not just cut into the chunks of one node."""
    names = {
        stream.stage
        for node in nodes
        for stream in node.input.streams
        if stream.source is not None and node.input.source is None
    }
    names.update(bind.stage for node in nodes for bind in node.binds if bind.node is None)
    stored = []
    for name in graph:
        if name in names:
            source = graph.nodes[name]["stage"].source
            if source.is_late:
                continue
            files = min(len(source), MOST_JOBS, 1 + source.stored_bytes() // STORED_FILE)
            stored.append(StoredSource(name, source, tuple(chunking.even(len(source), files))))
    return tuple(stored)


def chunk(
    graph: nx.DiGraph,
    nodes: tuple[Node, ...],
    sources: tuple[StoredSource, ...],
    layouts: Layouts = NO_LAYOUTS,
) -> tuple[Node, ...]:
    """Cut the work of every node into chunks, and build the trees of wide reduces.

    Parameters
    ----------
    graph : networkx.DiGraph
        The graph of stages.
    nodes : tuple of Node
        Connected nodes in topological order.
    sources : tuple of StoredSource
        The sources that are read by ranges.
    layouts : mapping
        The layouts of the nodes of an earlier run, to be kept.

    Returns
    -------
    tuple of Node
        The nodes, with the combining nodes of each tree before its reduce.
    """
    stored = {source.stage: source for source in sources}
    done: dict[str, Node] = {}
    partitions = {node.input.stage: node.jobs for node in nodes if node.input.is_partitioned}
    for node in nodes:
        if node.reduction is None:
            laid_out = _chunked(node, done, stored, layouts)
            made = [_with_parts(graph, laid_out, done, layouts, partitions)]
        else:
            made = _reduce_levels(graph, node, done, stored)
        for level in made:
            # Which files a bind brings is known only when the jobs that write them are.
            waits = any(_comes_late(graph, bind, done) for bind in level.binds)
            exact = _is_exact(level, done)
            done[level.name] = replace(level, dynamic=level.dynamic or waits, exact=exact)
    return tuple(done.values())


def _comes_late(graph: nx.DiGraph, bind: Bind, done: dict[str, Node]) -> bool:
    """Return whether the files of a bind are known only at run time."""
    if bind.node is not None:
        return not done[bind.node].settled
    source = stage_of(graph, bind.stage).source
    return isinstance(source, LateSource) and source.blocks is None


def _is_exact(node: Node, done: dict[str, Node]) -> bool:
    """Return whether a node is certain to write as many values as planned."""
    if node.options.on_error == "skip":
        return False
    parents = [done[stream.node] for stream in node.input.streams if stream.node is not None]
    return node.reduction is not None or all(parent.exact for parent in parents)


def most_jobs(node: Node) -> int:
    """Return the most jobs that a node may have if no chunk size is set."""
    return MOST_TUNED if node.jobs else MOST_JOBS


def _chunked(
    node: Node,
    done: dict[str, Node],
    stored: dict[str, StoredSource],
    layouts: Layouts,
) -> Node:
    reads = node.input
    if reads.source is not None:
        return _source_chunked(node, layouts)
    streams = [estimate_of(stream, done, stored) for stream in reads.streams]
    if reads.is_partitioned:
        (estimate,) = streams
        parts = done[str(reads.node)].outputs
        chunks = next(output.parts for output in parts if output.stage == reads.stage)
        reason = f"{counted(chunks, 'job')}, one for each partition of the keys"
        return replace(
            node,
            chunks=chunks,
            dynamic=not estimate.settled,
            reasons=(*node.reasons, reason),
        )
    if isinstance(reads.operation, Iterate):
        return _loop_chunked(node, reads.operation, streams[0].chunks)
    if node.follows:
        return _following(node, streams[0])
    items = reads.total([stream.items for stream in streams])
    # A node that reads items one by one may get fewer of them; a view has to count.
    is_exact = all(
        stream.blocks is not None and (stream.exact or not reads.is_view) for stream in streams
    )
    if reads.is_sorted:
        return replace(
            node,
            items=items if is_exact else None,
            chunks=1,
            boundaries=(0, items) if is_exact else (),
            dynamic=not is_exact,
        )
    if _keeps_chunks(node, streams[0], done):
        chunks = streams[0].chunks
        what = counted(chunks, "job")
        return replace(
            node,
            chunks=chunks,
            boundaries=tuple(range(chunks + 1)),
            by_chunk=True,
            reasons=(
                *node.reasons,
                f"{what}, one for each chunk of {reads.node}: counting so few takes longer",
            ),
        )
    size = node.options.chunk_size
    per_job = node.per_job
    if not node.jobs:
        per_job = max(1.0, items / _jobs_before(node, streams, items))
    plainly = not reads.is_view
    blocks = streams[0].blocks or [] if plainly else []
    boundaries = chunking.boundaries(items, size, per_job, most_jobs(node), blocks)
    earlier = followed(node, items, layouts) if plainly and is_exact else ()
    boundaries = list(earlier) or boundaries
    if plainly and not is_exact and size is None:
        chunks = node.jobs or min(streams[0].chunks, MOST_JOBS)
    else:
        chunks = len(boundaries) - 1
    reasons = [left_out(node, [stream.items for stream in streams]) if is_exact else ""]
    reasons.append(reason_of(node, streams[0].chunks, items, chunks, is_exact, MOST_JOBS))
    return replace(
        node,
        items=items if is_exact else None,
        chunks=chunks,
        boundaries=tuple(boundaries) if is_exact else (),
        dynamic=not is_exact,
        per_job=per_job,
        reasons=(*node.reasons, *filter(None, reasons)),
    )


def _loop_chunked(node: Node, loop: Iterate, chunks: int) -> Node:
    """Return a loop, which starts when all that its rounds read exists.

    ``chunks`` is the number of chunks of its first state.
    """
    until = "" if loop.until is None else ", or fewer: until decides after each"
    return replace(
        node,
        items=1 if loop.one else None,
        chunks=1 if loop.one else chunks,
        boundaries=(0, 1) if loop.one else (),
        dynamic=True,
        reasons=(*node.reasons, f"{counted(loop.max_rounds, 'round')}{until}"),
    )


def _following(node: Node, stream: StreamEstimate) -> Node:
    """Return a node with the chunks of the node before it, for lanes."""
    reason = f"{counted(stream.chunks, 'job')}, one for each chunk of {node.input.node}, for lanes"
    edges = tuple(accumulate(stream.blocks, initial=0)) if stream.blocks is not None else None
    return replace(
        node,
        items=None if edges is None else edges[-1],
        chunks=stream.chunks,
        boundaries=edges or tuple(range(stream.chunks + 1)),
        by_chunk=edges is None,
        dynamic=not stream.settled,
        reasons=(*node.reasons, reason),
    )


def _keeps_chunks(node: Node, stream: StreamEstimate, done: dict[str, Node]) -> bool:
    """Return whether a node should keep the chunks of the node before it, whatever filters left."""
    reads = node.input
    if reads.is_view or reads.node is None or node.options.chunk_size or node.jobs:
        return False
    before = done[reads.node]
    return (
        stream.blocks is None
        and stream.settled
        and stream.chunks <= FEW_JOBS
        and not before.input.is_partitioned
        and _made_by(before, reads.stage, lambda operation: not operation.multiplies)
    )


def _source_chunked(node: Node, layouts: Layouts) -> Node:
    assert node.input.source is not None
    items = node.input.source.count(node.input.limit)
    size = node.options.chunk_size
    earlier = followed(node, items, layouts)
    if earlier:
        boundaries, why = list(earlier), "as in the earlier run"
    elif size is None:
        boundaries = chunking.even(items, min(items, node.jobs or MOST_JOBS))
        why = f"at most {MOST_JOBS} by default"
    else:
        boundaries = [*range(0, items, size), items]
        why = f"chunk_size={size}"
    chunks = len(boundaries) - 1
    reason = f"{counted(items, 'item')} in {counted(chunks, 'job')} ({why})"
    return replace(
        node,
        items=items,
        chunks=chunks,
        boundaries=tuple(boundaries),
        reasons=node.reasons if node.jobs else (*node.reasons, reason),
    )


def _jobs_before(node: Node, streams: list[StreamEstimate], items: int) -> int:
    """Return how many jobs a node should have if the estimate of its items holds."""
    match node.input.operation:
        case Product() | Combinations():
            jobs = MOST_JOBS
        case Concat():
            jobs = sum(stream.chunks for stream in streams)
        case _ if node.input.limit is not None:
            share = items / max(1, streams[0].items)
            jobs = math.ceil(streams[0].chunks * share)
        case _:
            jobs = max(stream.chunks for stream in streams)
    return max(1, min(jobs, MOST_JOBS, items))


def _with_parts(
    graph: nx.DiGraph,
    node: Node,
    done: dict[str, Node],
    layouts: Layouts,
    wanted: dict[str, int | None],
) -> Node:
    """Set the number of files of outputs that leave a node by key, or sorted.

    ``wanted`` are the partitions that earlier runs suggest, by keyed stage.
    """
    outputs = []
    for output in node.outputs:
        stage = stage_of(graph, output.stage)
        sorts = output.whole and node.input.is_sorted and output.after is None
        by_hash = output.map_side is not None and output.map_side.by_hash
        split = "hash" if by_hash else "rank" if sorts else ""
        if split:
            items = _items(node, done)
            if output.parts:
                parts = output.parts
            elif stage.options.chunk_size is not None:
                parts = min(MOST_PARTITIONS, math.ceil(items / stage.options.chunk_size))
            elif split == "hash" and followed_parts(node, output.stage, layouts):
                parts = followed_parts(node, output.stage, layouts)
            elif split == "hash" and wanted.get(output.stage):
                most = max(8, MOST_TUNED_FILES // max(1, node.chunks))
                parts = min(wanted[output.stage] or 1, MOST_PARTITIONS, most)
            elif split == "hash":
                parts = min(node.chunks, MOST_JOBS, max(8, MOST_FILES // max(1, node.chunks)))
                if not node.settled:  # an estimate, which a flat_map may have outgrown
                    parts = max(parts, FEW_JOBS)
            else:
                parts = min(MOST_JOBS, done[str(node.input.node)].chunks)
            output = replace(output, parts=max(1, parts), split=split)
        outputs.append(output)
    return replace(node, outputs=tuple(outputs))


def estimate_of(
    stream: Stream, done: dict[str, Node], stored: dict[str, StoredSource]
) -> StreamEstimate:
    """Return what is known about a stream."""
    if isinstance(stream.source, LateSource):
        late = stream.source
        return StreamEstimate(late.blocks, late.items, late.chunks, late.blocks is not None)
    if stream.source is not None:
        blocks = _lengths(stored[stream.stage].boundaries)
        items = len(stream.source)
        return StreamEstimate(blocks, items, min(items, MOST_JOBS), True)
    node = done[str(stream.node)]
    output = next(output for output in node.outputs if output.stage == stream.stage)
    if node.reduction is not None:
        ones = [1] * node.chunks if node.settled else None
        return StreamEstimate(ones, node.chunks, node.chunks, node.settled, node.exact)
    items = _items(node, done)
    if output.split == "rank":
        shares = [chunking.share_of(items, part, output.parts) for part in range(output.parts)]
        known = shares if node.boundaries else None
        return StreamEstimate(known, items, output.parts, True, node.exact)
    if not keeps_count(node, stream.stage):
        return StreamEstimate(None, items, node.chunks, node.settled, node.exact)
    return StreamEstimate(_lengths(node.boundaries), items, node.chunks, True, node.exact)


def _lengths(boundaries: tuple[int, ...]) -> list[int]:
    return [b - a for a, b in pairwise(boundaries)]


def keeps_count(node: Node, stage: str) -> bool:
    """Return whether a node writes as many values for a stage as it reads."""
    if node.reduction is not None or not node.boundaries or node.by_chunk:
        return False
    output = next((output for output in node.outputs if output.stage == stage), None)
    if output is None or output.split == "hash":
        return False
    if output.map_side is not None and output.map_side.one_a_job:
        return False
    return _made_by(node, stage, lambda operation: operation.one_of_one)


def _made_by(node: Node, stage: str, condition: Callable[[Elementwise], bool]) -> bool:
    """Return whether a condition holds for all steps of a node on the way to an output."""
    steps = {step.stage: step for step in node.steps}
    current = next(output.after for output in node.outputs if output.stage == stage)
    while current is not None:
        if not condition(steps[current].operation):
            return False
        current = steps[current].after
    return True


def _items(node: Node, done: dict[str, Node]) -> int:
    """Return how many items a node reads if filters keep all of them."""
    if node.items is not None:
        return node.items
    reads = node.input
    return reads.total(
        [
            _items(done[str(stream.node)], done)
            if stream.source is None
            else reads.count(stream.source)
            for stream in reads.streams
        ]
    )


def _reduce_levels(
    graph: nx.DiGraph, node: Node, done: dict[str, Node], stored: dict[str, StoredSource]
) -> list[Node]:
    """Return a reduce as one job, after as many combining levels as its fan-in requires."""
    reduction = node.reduction
    assert reduction is not None
    operation = stage_of(graph, reduction.stage).operation
    assert isinstance(operation, Aggregation)
    if node.input.source is not None:
        items = len(node.input.source)
        return [replace(node, items=items, chunks=1, boundaries=(0, items))]
    levels: list[Node] = []
    stream = estimate_of(node.input.streams[0], done, stored)
    chunks, settled = stream.chunks, stream.settled
    fan_in = operation.fan_in or FAN_IN
    before = done.get(str(node.input.node))
    partial = before is not None and any(
        output.stage == reduction.stage and not output.whole for output in before.outputs
    )
    in_parts = operation.associative and not reduction.binds and (partial or not operation.seeded)
    while in_parts and before is not None and chunks > fan_in:
        number = len(levels) + 1
        edges = chunking.even(chunks, math.ceil(chunks / fan_in))
        name = f"{node.name}.combine-{number}"
        stage = reduction.stage if levels or partial else node.input.stage
        before = Node(
            name=name,
            stages=(),
            input=Input((Stream(stage, before.name),)),
            reduction=Reduction(
                reduction.stage, reduction.function, False, seeded=reduction.seeded
            ),
            outputs=(Output(reduction.stage, None),),
            options=node.options,
            chunks=len(edges) - 1,
            boundaries=tuple(edges) if settled else (),
            dynamic=not settled,
            fan_in=fan_in,
            reasons=(f"{reduction.stage}: level {number} of a tree, by {fan_in} (fan_in)",),
        )
        levels.append(before)
        chunks = before.chunks
    reads = node.input
    if levels:
        reads = Input((Stream(reduction.stage, levels[-1].name),))
    values = None
    if levels or partial:
        values = chunks if settled else None
    elif stream.blocks is not None:
        values = sum(stream.blocks)
    final = replace(
        node,
        input=reads,
        chunks=1,
        boundaries=(0, chunks) if settled else (),
        dynamic=not settled,
        items=values,
    )
    return [*levels, final]
