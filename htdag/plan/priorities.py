"""The pass *prioritize*: which node starts first if several are ready.

By default, the node on the critical path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from htdag.plan.model import Node


def prioritize(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Set the priorities of nodes: those with the longest path to the end start first.

    Only nodes that can be ready at the same time as others get one. Nodes with equally long paths
    to the end have equal priorities. A stage's ``node_priority`` overrides the computed one.

    Parameters
    ----------
    nodes : sequence of Node
        Parents before children.

    Returns
    -------
    tuple of Node
        The nodes in the same order.

    Notes
    -----
    The jobs of a node inherit its priority, unless its submit description has one. So if any stage
    has a ``priority``, the jobs of the others get HTCondor's default, 0: then the priorities of
    jobs are those that the user set.
    """
    lengths = _lengths(nodes)
    least = min(lengths.values(), default=0)
    job_priorities = any(node.options.priority is not None for node in nodes)
    return tuple(
        _prioritized(node, lengths.get(node.name), least, job_priorities) for node in nodes
    )


def _prioritized(node: Node, length: int | None, least: int, job_priorities: bool) -> Node:
    reasons = node.reasons
    priority = node.options.node_priority
    if priority is None:
        priority = 0 if length is None else length - least
        if priority:
            below = "1 node" if length == 1 else f"{length} nodes"
            reasons += (f"PRIORITY {priority}, for the longest path below it: {below}",)
    options = node.options
    if priority and job_priorities and options.priority is None:
        options = replace(options, priority=0)
        reasons += ("priority=0 for its jobs: other stages have a priority of their own",)
    return replace(node, priority=priority, options=options, reasons=reasons)


def _lengths(nodes: Sequence[Node]) -> dict[str, int]:
    """Return the longest path below each node that can be ready at the same time as others."""
    bits = {node.name: 1 << number for number, node in enumerate(nodes)}
    above = dict.fromkeys(bits, 0)  # sets of nodes, as bits: chains have thousands of them
    below = dict.fromkeys(bits, 0)
    length = dict.fromkeys(bits, 0)
    for node in nodes:
        for parent in node.parents:
            above[node.name] |= above[parent] | bits[parent]
    for node in reversed(nodes):
        for parent in node.parents:
            below[parent] |= below[node.name] | bits[node.name]
            length[parent] = max(length[parent], length[node.name] + 1)
    return {
        name: length[name]
        for name in bits
        if (above[name] | below[name]).bit_count() < len(bits) - 1
    }
