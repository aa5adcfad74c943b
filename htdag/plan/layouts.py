"""What is known only at run time: what rounds of loops begin with, and how many there are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from htdag.common.text import counted
from htdag.plan.model import Node
from htdag.plan.parts import Bind

if TYPE_CHECKING:
    import networkx as nx


def comes_late(graph: nx.DiGraph, bind: Bind, done: dict[str, Node]) -> bool:
    """Whether it is known only at run time which files a bind brings."""
    if bind.node is not None:
        return not done[bind.node].settled
    source = graph.nodes[bind.stage]["stage"].data
    return bool(source.is_late and source.cells is None)


def loop_chunked(graph: nx.DiGraph, node: Node, chunks: int) -> Node:
    """Return a loop, which begins when all that its rounds read is there.

    ``chunks`` are those of the state that it begins with.
    """
    loop = graph.nodes[node.stages[0]]["stage"].loop
    until = "" if loop.until is None else ", or fewer: until decides after each"
    return replace(
        node,
        items=1 if loop.one else None,
        chunks=1 if loop.one else chunks,
        boundaries=(0, 1) if loop.one else (),
        dynamic=True,
        reasons=(*node.reasons, f"{counted(loop.max_rounds, 'round')}{until}"),
    )
