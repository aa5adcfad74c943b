"""What a loop repeats: the plan of one round, and the check whether there is another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from htdag.options.pipeline_options import Throttles
from htdag.plan.chunk import Flow, flow_of
from htdag.plan.model import Node, Plan, Round
from htdag.plan.parts import Bind, Check, StoredSource
from htdag.stages import STATE, Loop, Stage
from htdag.stages.sources import LateSource

if TYPE_CHECKING:
    import networkx as nx

UNTIL = "until"
"""What the check of a loop is called in messages about it."""

PlanRound = Callable[["nx.DiGraph", str, Throttles, Loop], Plan]


def add_check(
    graph: nx.DiGraph, nodes: Sequence[Node], where: dict[str, str], loop: Loop
) -> tuple[Node, ...]:
    """Let the last job of a round find out whether the loop is over.

    A state that is one value is checked by the job that makes it. Of items no job sees all, so one
    more node collects them; what it collects goes nowhere.

    Parameters
    ----------
    graph : networkx.DiGraph
        The graph of one round.
    nodes : sequence of Node
        Its connected nodes.
    where : dict of str to str
        The nodes that write the stages.
    loop : Loop
        The loop.
    """
    if loop.until is None:
        return tuple(nodes)
    state = next(name for name, stage in graph.nodes(data="stage") if stage.kind == STATE)
    (result,) = (name for name, target in graph.nodes(data="target") if target)
    checked = result
    if loop.every is not None:
        checked = next(name for name in graph if not graph.out_degree(name) and name != result)
    found = []
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
        found.append(node)
    return tuple(found)


def plan_rounds(
    graph: nx.DiGraph,
    nodes: Sequence[Node],
    sources: Sequence[StoredSource],
    limits: Throttles,
    plan_round: PlanRound,
) -> tuple[Node, ...]:
    """Plan a round of each loop, by what is known of what it begins with and uses.

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
    found = []
    for node in nodes:
        if node.input.is_loop:
            attributes = graph.nodes[node.stages[0]]
            loop: Loop = attributes["stage"].loop
            names = attributes["names"]
            flows = [flow_of(graph, stream, done, stored) for stream in node.input.streams]
            stages = [names["state"], *(stream.stage for stream in node.input.streams[1:])]
            known = dict(zip(stages, flows, strict=True))
            first = flows[0]
            # The number of items that a later round begins with is known only when it does.
            known[names["state"]] = first._replace(cells=[1] if loop.one else None)
            inner = _with_sources(attributes["inner"], known)
            plan = plan_round(inner, names["result"], _limits_within(limits, inner), loop)
            until = loop.until is not None
            made = Round(plan, names["state"], names["result"], loop.one, until, loop.max_rounds)
            node = replace(node, round=made)
        found.append(node)
    return tuple(found)


def _with_sources(inner: nx.DiGraph, flows: dict[str, Flow]) -> nx.DiGraph:
    """Return the graph of a round in which its sources tell how many items there are."""
    graph = inner.copy()
    for name, flow in flows.items():
        stage: Stage = graph.nodes[name]["stage"]
        one = stage.kind == STATE and stage.single
        cells = flow.cells if flow.exact else None
        data = LateSource(1 if one else flow.estimate, 1 if one else flow.chunks, cells)
        graph.nodes[name]["stage"] = replace(stage, data=data)
    return graph


def _limits_within(limits: Throttles, inner: nx.DiGraph) -> Throttles:
    """Return the limits of the DAG of a round: of categories, those of its stages."""
    used = {stage.options.category for _, stage in inner.nodes(data="stage")}
    return replace(limits, maxjobs=tuple(each for each in limits.maxjobs if each[0] in used))
