"""From stages to a plan: the passes, one after another."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx

from htdag.plan.chunk import chunk, stored_sources
from htdag.plan.fuse import fuse
from htdag.plan.join import add_outputs, connect, name_nodes
from htdag.plan.model import Plan


def make_plan(graph: nx.DiGraph, targets: Sequence[str], name: str) -> Plan:
    """Plan a graph of stages.

    Parameters
    ----------
    graph : networkx.DiGraph
        The graph of stages, upstream first, as `htdag.Pipeline.graph` is.
    targets : sequence of str
        The stages whose results are asked for.
    name : str
        The pipeline's name.

    Returns
    -------
    Plan
        Equal graphs give equal plans.
    """
    nodes, where = connect(graph, name_nodes(add_outputs(graph, fuse(graph))))
    sources = stored_sources(graph, nodes)
    return Plan(name, chunk(graph, nodes, sources), tuple(targets), where, graph, sources)
