"""The first pass: which stages share a node.

Neighbouring per-item stages flow through one job together, so that their values need no file, no
job start and no turn of DAGMan in between. An associative reduce is combined where its items are
made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import networkx as nx

from htdag._options import Options
from htdag.plan.model import Bind, Input, Node, Operation, Output, Reduction
from htdag.stages import PER_ITEM, Stage

BUILT_IN = Options(retries=0, on_error="finish", max_errors=0, fuse=True)


@dataclass(frozen=True)
class Needs:
    """What a stage reads: its items, and whole results by keyword."""

    stage: Stage
    upstream: Stage
    binds: tuple[tuple[str, str], ...]


def needs(graph: nx.DiGraph, name: str) -> Needs:
    """Return what a stage of the graph reads."""
    stage: Stage = graph.nodes[name]["stage"]
    upstream = next(u for u, _, kind in graph.in_edges(name, data="kind") if kind == "items")
    binds = tuple(
        (keyword, other)
        for other, _, keywords in graph.in_edges(name, data="keywords")
        for keyword in keywords
    )
    return Needs(stage, graph.nodes[upstream]["stage"], binds)


def job_options(graph: nx.DiGraph, stage: Stage, upstream: Stage) -> Options:
    """Return the options of a node that a stage begins.

    Of the chunk sizes the stage's own holds, then that of its source, then the pipeline's.
    """
    options = stage.options.over(BUILT_IN)
    size = options.chunk_size
    if size is None and upstream.data is not None:
        size = upstream.options.chunk_size
    return replace(options, chunk_size=graph.graph["chunk_size"] if size is None else size)


def can_fuse(graph: nx.DiGraph, wanted: Needs, node: Node) -> str:
    """Return "" where a stage can join the node that makes or reads its items, else why not."""
    stage = wanted.stage
    options = stage.options.over(BUILT_IN)
    if node.reduction is not None:
        return f"{wanted.upstream.name} is one value, made by a reduce"
    if stage.kind == "reduce" and (wanted.binds or not stage.associative):
        return "it needs all items in one job"
    if not options.fuse:
        return f"{stage.name} has fuse=False"
    if not node.options.fuse:
        first = node.stages[0] if node.stages else node.outputs[0].stage
        return f"{first} has fuse=False"
    # What the node waits for already is there when its jobs start; anything else would have to
    # wait for jobs of this very node, or hold back the stages before this one.
    if wanted.binds:
        ready = set().union(*(nx.ancestors(graph, other) for other in node.stages))
        waits = sorted({other for _, other in wanted.binds} - (ready - set(node.stages)))
        if waits:
            return f"its bind waits for {', '.join(waits)}"
    mine, theirs = options.of_jobs().given(), node.options.of_jobs().given()
    differing = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
    if differing:
        return f"other {', '.join(sorted(differing))}"
    if options.chunk_size not in (None, node.options.chunk_size):
        return f"another chunk_size ({options.chunk_size})"
    return ""


def fuse(graph: nx.DiGraph) -> tuple[Node, ...]:
    """Place every stage of a graph of stages in a node, fusing where it can be.

    The nodes are in topological order and not yet named, joined or chunked: their inputs and binds
    name stages.
    """
    nodes: list[Node] = []
    for name in graph:
        if graph.nodes[name]["stage"].data is not None:
            continue
        wanted = needs(graph, name)
        reason = ""
        for number, node in enumerate(nodes):
            if wanted.upstream.name in node.stages or _reads(node, wanted.upstream):
                reason = can_fuse(graph, wanted, node)
                if not reason:
                    nodes[number] = _joined(node, wanted)
                    break
        else:
            if wanted.stage.kind in PER_ITEM:
                nodes.append(_new_node(graph, wanted, reason))
                continue
            combines = _combining_node(graph, wanted)
            if combines is not None:
                nodes.append(combines)
                reason = ""
        if wanted.stage.kind == "reduce":
            nodes.append(_final_node(graph, wanted, reason))
    return tuple(nodes)


def _reads(node: Node, source: Stage) -> bool:
    return source.data is not None and node.input.stage == source.name and node.reduction is None


def _new_node(graph: nx.DiGraph, wanted: Needs, reason: str) -> Node:
    stage, upstream = wanted.stage, wanted.upstream
    if not reason:
        kind = "the source" if upstream.data is not None else "the value of"
        reason = f"it reads {kind} {upstream.name}"
    node = Node(
        name="",
        stages=(),
        input=Input(upstream.name, source=upstream.data),
        options=job_options(graph, stage, upstream),
    )
    return replace(_joined(node, wanted), reasons=(f"{stage.name} begins a node: {reason}",))


def _joined(node: Node, wanted: Needs) -> Node:
    stage, upstream = wanted.stage, wanted.upstream
    assert stage.function is not None
    after = upstream.name if upstream.name in node.stages else None
    if stage.kind == "reduce":
        return replace(
            node,
            outputs=(*node.outputs, Output(stage.name, after, stage.function)),
            reasons=(*node.reasons, f"{stage.name} is combined here, chunk by chunk (associative)"),
        )
    return replace(
        node,
        stages=(*node.stages, stage.name),
        operations=(
            *node.operations,
            Operation(stage.name, stage.kind, stage.function, after, wanted.binds),
        ),
        binds=_merged_binds(node.binds, wanted.binds),
        reasons=(
            *node.reasons,
            f"{stage.name} is fused with {upstream.name}: per item, and equal options",
        ),
    )


def _merged_binds(binds: tuple[Bind, ...], new: tuple[tuple[str, str], ...]) -> tuple[Bind, ...]:
    stages = dict.fromkeys([*(bind.stage for bind in binds), *(stage for _, stage in new)])
    return tuple(Bind(stage) for stage in stages)


def _combining_node(graph: nx.DiGraph, wanted: Needs) -> Node | None:
    """Return a node that combines the items of a source, where no other node reads it so."""
    stage, upstream = wanted.stage, wanted.upstream
    if upstream.data is None or not stage.associative or wanted.binds:
        return None
    assert stage.function is not None
    return Node(
        name="",
        stages=(),
        input=Input(upstream.name, source=upstream.data),
        options=job_options(graph, stage, upstream),
        outputs=(Output(stage.name, None, stage.function),),
        reasons=(
            f"{stage.name} is combined here, chunk by chunk of {upstream.name} (associative)",
        ),
    )


def _final_node(graph: nx.DiGraph, wanted: Needs, reason: str) -> Node:
    stage, upstream = wanted.stage, wanted.upstream
    assert stage.function is not None
    if not stage.associative:
        reason = "associative=False, so in order"
    elif wanted.binds:
        reason = "it has a bind"
    reads = Input(upstream.name, source=upstream.data) if reason else Input(stage.name)
    text = f"combines all items ({reason})" if reason else "combines what the chunks gave"
    return Node(
        name="",
        stages=(stage.name,),
        input=reads,
        reduction=Reduction(stage.name, stage.function, True, stage.initial, wanted.binds),
        outputs=(Output(stage.name, None),),
        binds=_merged_binds((), wanted.binds),
        options=job_options(graph, stage, upstream),
        reasons=(f"{stage.name}: one job {text}",),
    )
