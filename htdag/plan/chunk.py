"""The pass *chunk*: how many jobs each node has and which items each of them takes."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

from htdag.common.text import counted
from htdag.plan.following import NO_LAYOUTS, Layouts, followed, followed_parts
from htdag.plan.layouts import comes_late, loop_chunked
from htdag.plan.model import Node
from htdag.plan.parts import Input, Output, Reduction, StoredSource, Stream
from htdag.plan.wording import left_out, reason_of
from htdag.runtime import chunking
from htdag.runtime.data.keyed import BY_HASH
from htdag.stages import MOST_PARTITIONS, Stage
from htdag.stages.sources import LateSource

if TYPE_CHECKING:
    import networkx as nx

MOST_JOBS = 100
FEW_JOBS = 10
"""So few jobs are not worth a turn of DAGMan, in which a POST script counts their items."""
MOST_TUNED = 10_000
"""How many jobs a node may have where earlier runs say how long they take."""
FAN_IN = 100
MOST_FILES = 2000
"""How many files the partitions of a stage may have, about."""
MOST_TUNED_FILES = 10_000
"""How many where earlier runs ask for more partitions, since each is much work."""


class Flow(NamedTuple):
    """What is known of a stream before anything runs.

    ``cells`` are the counts of its cells, or None where data decides; ``estimate`` is the number of
    its items, counting as if filters kept all of them; ``chunks`` the number of its cells, or of
    the jobs that a source is for. Where the stream is not ``exact``, items that fail are let go, so
    that there may be fewer.
    """

    cells: list[int] | None
    estimate: int
    chunks: int
    settled: bool  # whether the number of cells is known
    exact: bool = True


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
        How an earlier run, which is to be followed, had laid out its nodes.

    Returns
    -------
    tuple of Node
        The nodes, with the combining nodes of trees before the reduces that they serve.
    """
    stored = {source.stage: source for source in sources}
    done: dict[str, Node] = {}
    wanted = {node.input.stage: node.jobs for node in nodes if node.input.view in BY_HASH}
    for node in nodes:
        if node.reduction is None:
            laid_out = _chunked(graph, node, done, stored, layouts)
            made = [_with_parts(graph, laid_out, done, layouts, wanted)]
        else:
            made = _reduce_levels(graph, node, done, stored)
        for level in made:
            # Which files a bind brings is known only when the jobs that write them are.
            waits = any(comes_late(graph, bind, done) for bind in level.binds)
            exact = _is_exact(level, done)
            done[level.name] = replace(level, dynamic=level.dynamic or waits, exact=exact)
    return tuple(done.values())


def _is_exact(node: Node, done: dict[str, Node]) -> bool:
    """Whether a node surely gives as many values as are planned."""
    if node.options.on_error == "skip":
        return False
    parents = [done[stream.node] for stream in node.input.streams if stream.node is not None]
    return node.reduction is not None or all(parent.exact for parent in parents)


def most_jobs(node: Node) -> int:
    """Return how many jobs a node may have where no chunk size was given."""
    return MOST_TUNED if node.jobs else MOST_JOBS


def _chunked(
    graph: nx.DiGraph,
    node: Node,
    done: dict[str, Node],
    stored: dict[str, StoredSource],
    layouts: Layouts,
) -> Node:
    reads = node.input
    if reads.source is not None:
        return _source_chunked(node, layouts)
    flows = [flow_of(graph, stream, done, stored) for stream in reads.streams]
    if reads.view in BY_HASH:
        (flow,) = flows
        parts = done[str(reads.node)].outputs
        chunks = next(output.parts for output in parts if output.stage == reads.stage)
        reason = f"{counted(chunks, 'job')}, one for each partition of the keys"
        return replace(
            node,
            chunks=chunks,
            dynamic=not flow.settled,
            reasons=(*node.reasons, reason),
        )
    if reads.is_loop:
        return loop_chunked(graph, node, flows[0].chunks)
    if node.follows:
        return _following(node, flows[0])
    estimate = chunking.view_total(
        reads.view, reads.number, reads.limit, [flow.estimate for flow in flows]
    )
    # Whoever reads items one after another may get fewer of them; a view has to count.
    known = all(flow.cells is not None and (flow.exact or not reads.is_view) for flow in flows)
    if reads.view == "sort_by":
        return replace(
            node,
            items=estimate if known else None,
            chunks=1,
            boundaries=(0, estimate) if known else (),
            dynamic=not known,
        )
    if _keeps_chunks(graph, node, flows[0], done):
        chunks = flows[0].chunks
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
        per_job = max(1.0, estimate / _jobs_before(node, flows, estimate))
    plainly = not reads.is_view
    cells = flows[0].cells or [] if plainly else []
    boundaries = chunking.boundaries(estimate, size, per_job, most_jobs(node), cells)
    earlier = followed(node, estimate, layouts) if plainly and known else ()
    boundaries = list(earlier) or boundaries
    if plainly and not known and size is None:
        chunks = node.jobs or min(flows[0].chunks, MOST_JOBS)
    else:
        chunks = len(boundaries) - 1
    reasons = [left_out(node, [flow.estimate for flow in flows]) if known else ""]
    reasons.append(reason_of(node, flows[0].chunks, estimate, chunks, known, MOST_JOBS))
    return replace(
        node,
        items=estimate if known else None,
        chunks=chunks,
        boundaries=tuple(boundaries) if known else (),
        dynamic=not known,
        per_job=per_job,
        reasons=(*node.reasons, *filter(None, reasons)),
    )


def _following(node: Node, flow: Flow) -> Node:
    """Return a node with the chunks of the one before it, for lanes."""
    reason = f"{counted(flow.chunks, 'job')}, one for each chunk of {node.input.node}, for lanes"
    edges = tuple(accumulate(flow.cells, initial=0)) if flow.cells is not None else None
    return replace(
        node,
        items=None if edges is None else edges[-1],
        chunks=flow.chunks,
        boundaries=edges or tuple(range(flow.chunks + 1)),
        by_chunk=edges is None,
        dynamic=not flow.settled,
        reasons=(*node.reasons, reason),
    )


def _keeps_chunks(graph: nx.DiGraph, node: Node, flow: Flow, done: dict[str, Node]) -> bool:
    """Whether a node had better take the chunks of the one before it, whatever filters left."""
    reads = node.input
    if reads.is_view or reads.node is None or node.options.chunk_size or node.jobs:
        return False
    before = done[reads.node]
    return (
        flow.cells is None
        and flow.settled
        and flow.chunks <= FEW_JOBS
        and before.input.view not in BY_HASH
        and _made_by(graph, before, reads.stage, ("map", "starmap", "filter"))
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


def _jobs_before(node: Node, flows: list[Flow], estimate: int) -> int:
    """Return how many jobs a node is to have where its items are as many as estimated."""
    view = node.input.view
    if view in ("product", "combinations"):
        wanted = MOST_JOBS
    elif view == "concat":
        wanted = sum(flow.chunks for flow in flows)
    elif node.input.limit is not None:
        share = estimate / max(1, flows[0].estimate)
        wanted = math.ceil(flows[0].chunks * share)
    else:
        wanted = max(flow.chunks for flow in flows)
    return max(1, min(wanted, MOST_JOBS, estimate))


def _with_parts(
    graph: nx.DiGraph,
    node: Node,
    done: dict[str, Node],
    layouts: Layouts,
    wanted: dict[str, int | None],
) -> Node:
    """Say in how many files what leaves a node by key, or sorted, is written.

    ``wanted`` are the partitions that earlier runs ask for, by the keyed stage.
    """
    outputs = []
    for output in node.outputs:
        stage: Stage = graph.nodes[output.stage]["stage"]
        sorts = output.whole and node.input.view == "sort_by" and output.after is None
        split = "hash" if output.kind in BY_HASH else "rank" if sorts else ""
        if split:
            estimate = _estimate(node, done)
            if output.parts:
                parts = output.parts
            elif stage.options.chunk_size is not None:
                parts = min(MOST_PARTITIONS, math.ceil(estimate / stage.options.chunk_size))
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


def flow_of(
    graph: nx.DiGraph, stream: Stream, done: dict[str, Node], stored: dict[str, StoredSource]
) -> Flow:
    """Return what is known of a stream."""
    if isinstance(stream.source, LateSource):
        late = stream.source
        return Flow(late.cells, late.items, late.chunks, late.cells is not None)
    if stream.source is not None:
        edges = stored[stream.stage].boundaries
        cells = [b - a for a, b in pairwise(edges)]
        return Flow(cells, len(stream.source), min(len(stream.source), MOST_JOBS), True)
    node = done[str(stream.node)]
    output = next(output for output in node.outputs if output.stage == stream.stage)
    if node.reduction is not None:
        ones = [1] * node.chunks if node.settled else None
        return Flow(ones, node.chunks, node.chunks, node.settled, node.exact)
    if output.split == "rank":
        estimate = _estimate(node, done)
        cells = [chunking.share_of(estimate, part, output.parts) for part in range(output.parts)]
        counts = cells if node.boundaries else None
        return Flow(counts, estimate, output.parts, True, node.exact)
    estimate = _estimate(node, done)
    if not keeps_count(graph, node, stream.stage):
        return Flow(None, estimate, node.chunks, node.settled, node.exact)
    edges = node.boundaries
    known = [b - a for a, b in pairwise(edges)]
    return Flow(known, estimate, node.chunks, True, node.exact)


def keeps_count(graph: nx.DiGraph, node: Node, stage: str) -> bool:
    """Whether a node writes, for a stage, just as many values as it reads, a known number."""
    if node.reduction is not None or not node.boundaries or node.by_chunk:
        return False
    output = next((output for output in node.outputs if output.stage == stage), None)
    if output is None or not (output.whole or output.kind in ("group_by", "sort_by")):
        return False
    return output.split != "hash" and _made_by(graph, node, stage, ("map", "starmap"))


def _made_by(graph: nx.DiGraph, node: Node, stage: str, kinds: tuple[str, ...]) -> bool:
    """Whether all stages of a node on the way to an output are of some kinds."""
    after = {operation.stage: operation for operation in node.operations}
    current = next(output.after for output in node.outputs if output.stage == stage)
    while current is not None:
        if graph.nodes[current]["stage"].kind not in kinds:
            return False
        current = after[current].after
    return True


def _estimate(node: Node, done: dict[str, Node]) -> int:
    """Return how many items a node reads, counting as if filters kept all of them."""
    if node.items is not None:
        return node.items
    reads = node.input
    totals = [
        stream.source.count(reads.limit if reads.view == "items" else None)
        if stream.source is not None
        else _estimate(done[str(stream.node)], done)
        for stream in reads.streams
    ]
    return chunking.view_total(reads.view, reads.number, reads.limit, totals)


def _reduce_levels(
    graph: nx.DiGraph, node: Node, done: dict[str, Node], stored: dict[str, StoredSource]
) -> list[Node]:
    """Return a reduce as one job, after as many combining levels as its fan-in asks for."""
    reduction = node.reduction
    assert reduction is not None
    handle: Stage = graph.nodes[reduction.stage]["stage"]
    if node.input.source is not None:
        items = len(node.input.source)
        return [replace(node, items=items, chunks=1, boundaries=(0, items))]
    levels: list[Node] = []
    flow = flow_of(graph, node.input.streams[0], done, stored)
    chunks, settled = flow.chunks, flow.settled
    fan_in = handle.fan_in or FAN_IN
    before = done.get(str(node.input.node))
    partial = before is not None and any(
        output.stage == handle.name and output.kind in ("reduce", "fold")
        for output in before.outputs
    )
    in_parts = handle.associative and not reduction.binds and (partial or handle.combine is None)
    while in_parts and before is not None and chunks > fan_in:
        number = len(levels) + 1
        edges = chunking.even(chunks, math.ceil(chunks / fan_in))
        name = f"{node.name}.combine-{number}"
        stage = reduction.stage if levels or partial else node.input.stage
        before = Node(
            name=name,
            stages=(),
            input=Input((Stream(stage, before.name),)),
            reduction=Reduction(reduction.stage, reduction.function, False, begun=reduction.begun),
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
    elif flow.cells is not None:
        values = sum(flow.cells)
    final = replace(
        node,
        input=reads,
        chunks=1,
        boundaries=(0, chunks) if settled else (),
        dynamic=not settled,
        items=values,
    )
    return [*levels, final]
