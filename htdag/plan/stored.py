"""Sources that are read by ranges, or whole: in how many files they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from htdag.plan.chunk import MOST_JOBS
from htdag.plan.model import Node
from htdag.plan.parts import StoredSource
from htdag.runtime import chunking

if TYPE_CHECKING:
    import networkx as nx

STORED_FILE = 1 << 20
"""About how many bytes at least a file of a source has that is read by ranges, or whole: each one
more is sent with each job that reads it."""


def stored_sources(graph: nx.DiGraph, nodes: tuple[Node, ...]) -> tuple[StoredSource, ...]:
    """Return the sources that are not simply cut into the chunks of one node."""
    names = {
        stream.stage
        for node in nodes
        for stream in node.input.streams
        if stream.source is not None and node.input.source is None
    }
    names.update(bind.stage for node in nodes for bind in node.binds if bind.node is None)
    found = []
    for name in graph:
        if name in names:
            source = graph.nodes[name]["stage"].data
            if source.is_late:
                continue
            files = min(len(source), MOST_JOBS, 1 + source.stored_bytes() // STORED_FILE)
            found.append(StoredSource(name, source, tuple(chunking.even(len(source), files))))
    return tuple(found)
