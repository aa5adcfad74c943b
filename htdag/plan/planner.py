"""From stages to a plan: the passes, one after another."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx

from htdag._throttles import Throttles
from htdag.plan.chunk import chunk, stored_sources
from htdag.plan.fuse import fuse
from htdag.plan.join import add_outputs, connect, name_nodes
from htdag.plan.model import Plan
from htdag.plan.priority import prioritize


def make_plan(
    graph: nx.DiGraph, targets: Sequence[str], name: str, throttles: Throttles | None = None
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
    throttles : Throttles, optional
        The options of the pipeline as a whole.

    Returns
    -------
    Plan
        Equal graphs give equal plans.
    """
    nodes, where = connect(graph, name_nodes(add_outputs(graph, fuse(graph))))
    sources = stored_sources(graph, nodes)
    nodes = prioritize(chunk(graph, nodes, sources))
    return Plan(name, nodes, tuple(targets), where, graph, sources, throttles or Throttles())
