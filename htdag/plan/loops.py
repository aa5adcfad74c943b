"""Loops: the plan of one round, and the check whether another follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from htdag.options.pipeline_options import Throttles
from htdag.plan.chunk import StreamEstimate, estimate_of
from htdag.plan.model import Node, Plan, Round
from htdag.plan.parts import Bind, Check, StoredSource
from htdag.stages import Iterate, Stage
from htdag.stages.graph import stage_of
from htdag.stages.operations import Import, State
from htdag.stages.sources import LateSource

if TYPE_CHECKING:
    import networkx as nx

UNTIL = "until"
"""The name of the check of a loop in messages."""

PlanRound = Callable[["nx.DiGraph", str, Throttles, Iterate], Plan]


def add_check(
    graph: nx.DiGraph, nodes: Sequence[Node], where: Mapping[str, str], loop: Iterate
) -> tuple[Node, ...]:
    """Add the check whether the loop is over to the last job of a round.

    The job that makes the state checks it if it is one value. No job sees all items of a state, so
    one more node collects them, only for the check.

    Parameters
    ----------
    graph : networkx.DiGraph
        The graph of one round.
    nodes : sequence of Node
        Its connected nodes.
    where : mapping
        The nodes that write the stages.
    loop : Iterate
        The loop.
    """
    if loop.until is None:
        return tuple(nodes)
    state = next(name for name, stage in graph.nodes(data="stage") if _is_state(stage))
    (result,) = (name for name, target in graph.nodes(data="target") if target)
    checked = result
    if loop.every is not None:
        checked = next(name for name in graph if not graph.out_degree(name) and name != result)
    checking = []
    for node in nodes:
        if node.name == where[checked]:
            after = next(output.after for output in node.outputs if output.stage == checked)
            previous = state if loop.previous else None
            check = Check(UNTIL, loop.until, after, previous)
            binds = node.binds
            if loop.previous and state not in {bind.stage for bind in binds}:
                binds = (*binds, Bind(state, None, loop.one))
            outputs = node.outputs if checked == result else ()
            node = replace(node, check=check, binds=binds, outputs=outputs)
        checking.append(node)
    return tuple(checking)


def _is_state(stage: Stage) -> bool:
    return isinstance(stage.operation, State)


def plan_rounds(
    graph: nx.DiGraph,
    nodes: Sequence[Node],
    sources: Sequence[StoredSource],
    limits: Throttles,
    plan_round: PlanRound,
) -> tuple[Node, ...]:
    """Plan a round of each loop, from what is known about its first state and its inputs.

    Parameters
    ----------
    graph : networkx.DiGraph
        The graph of stages.
    nodes : sequence of Node
        Its nodes, chunked.
    sources : sequence of StoredSource
        Its sources that are read by ranges.
    limits : Throttles
        The options of the pipeline as a whole.
    plan_round : callable
        Plans the graph of a round.
    """
    done = {node.name: node for node in nodes}
    stored = {source.stage: source for source in sources}
    planned = []
    for node in nodes:
        loop = node.input.operation
        if isinstance(loop, Iterate):
            attributes = graph.nodes[node.stages[0]]
            names = attributes["names"]
            streams = [estimate_of(stream, done, stored) for stream in node.input.streams]
            stages = [names["state"], *(stream.stage for stream in node.input.streams[1:])]
            known = dict(zip(stages, streams, strict=True))
            # The number of items of a later round is known only when it begins.
            blocks = [1] if loop.one else None
            known[names["state"]] = streams[0]._replace(blocks=blocks)
            inner = _with_sources(attributes["inner"], known)
            plan = plan_round(inner, names["result"], _limits_within(limits, inner), loop)
            until = loop.until is not None
            made = Round(plan, names["state"], names["result"], loop.one, until, loop.max_rounds)
            node = replace(node, round=made)
        planned.append(node)
    return tuple(planned)


def _with_sources(inner: nx.DiGraph, streams: dict[str, StreamEstimate]) -> nx.DiGraph:
    """Return the graph of a round with the number of items of each of its sources."""
    graph = inner.copy()
    for name, stream in streams.items():
        stage = stage_of(graph, name)
        one = _is_state(stage) and stage.one
        blocks = stream.blocks if stream.exact else None
        items = LateSource(1 if one else stream.items, 1 if one else stream.chunks, blocks)
        operation = State(items, one) if _is_state(stage) else Import(items, stage.one)
        graph.nodes[name]["stage"] = replace(stage, operation=operation)
    return graph


def _limits_within(limits: Throttles, inner: nx.DiGraph) -> Throttles:
    """Return the limits of the DAG of a round, with only the categories of its stages."""
    used = {stage.options.category for _, stage in inner.nodes(data="stage")}
    return replace(limits, maxjobs=tuple(each for each in limits.maxjobs if each[0] in used))
