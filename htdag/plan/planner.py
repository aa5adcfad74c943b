"""From stages to a plan: the passes, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from htdag.options.pipeline_options import Throttles
from htdag.plan.chunk import chunk
from htdag.plan.following import NO_LAYOUTS, Layouts
from htdag.plan.fuse import fuse
from htdag.plan.lanes import lane
from htdag.plan.limits import stop_early
from htdag.plan.loops import add_check, plan_rounds
from htdag.plan.model import Node, Plan
from htdag.plan.outputs import add_outputs, connect, name_nodes
from htdag.plan.priorities import prioritize
from htdag.plan.simulate import Capacity
from htdag.plan.stored import stored_sources
from htdag.plan.tune import Measures, Settings, tune
from htdag.stages import Loop

if TYPE_CHECKING:
    import networkx as nx

_NOTHING: Measures = MappingProxyType({})


def make_plan(
    graph: nx.DiGraph,
    targets: Sequence[str],
    name: str,
    *,
    measures: Measures = _NOTHING,
    capacity: Capacity | None = None,
    settings: Settings | None = None,
    throttles: Throttles | None = None,
    layouts: Layouts = NO_LAYOUTS,
) -> Plan:
    """Plan a graph of stages.

    Parameters
    ----------
    graph : networkx.DiGraph
        The graph of stages, upstream first, as `htdag.Pipeline.graph` is.
    targets : sequence of str
        The stages whose results are asked for.
    name : str
        The pipeline's name.
    measures : mapping
        What earlier runs measured of stages, by `htdag.plan.stage_keys.stage_keys`.
    capacity : Capacity, optional
        How many jobs can run at once; used with measures only.
    settings : Settings, optional
        What to aim at; but for `lanes` used with measures only.
    throttles : Throttles, optional
        The options of the pipeline as a whole.
    layouts : mapping
        How an earlier run, which is to be followed, had laid out its nodes
        (`htdag.plan.following.layouts_of`).

    Returns
    -------
    Plan
        Equal arguments give equal plans.
    """
    aim, limits = settings or Settings(), throttles or Throttles()
    room = capacity or Capacity()

    def plan_round(inner: nx.DiGraph, result: str, limits: Throttles, loop: Loop) -> Plan:
        return planned(inner, (result,), limits, loop)

    def planned(
        graph: nx.DiGraph, targets: Sequence[str], limits: Throttles, loop: Loop | None
    ) -> Plan:
        connected, where = connect(graph, name_nodes(add_outputs(graph, fuse(graph))))
        if loop is not None:
            connected = add_check(graph, connected, where, loop)
        connected = stop_early(connected, targets)
        sources = stored_sources(graph, connected)

        def layout(followers: frozenset[str]) -> tuple[Node, ...]:
            marked = tuple(replace(node, follows=node.name in followers) for node in connected)
            tuned = tune(graph, name, marked, measures, room.slots, aim)
            return chunk(graph, tuned, sources, layouts if loop is None else NO_LAYOUTS)

        nodes, chains = lane(layout, aim.lanes, room, limits)
        nodes = prioritize(plan_rounds(graph, nodes, sources, limits, plan_round))
        return Plan(name, nodes, tuple(targets), where, graph, sources, limits, chains=chains)

    return planned(graph, targets, limits, None)
