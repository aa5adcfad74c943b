"""A pass of its own: nodes of which only the first items are taken read no more than these."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from htdag.plan.model import Node

_ONE_BY_ONE = frozenset({"map", "starmap"})
"""Kinds that make one item of each."""


def can_stop_early(node: Node, nodes: Collection[Node], targets: Collection[str]) -> int | None:
    """Return how many of its first items are all that is wanted of a node; None for all.

    Parameters
    ----------
    node : Node
        The node.
    nodes : collection of Node
        All nodes, those after it with their limits.
    targets : collection of str
        The stages whose results are asked for.

    Notes
    -----
    That can be said where each item makes just one, and cannot be let go (``on_error="skip"``), and
    where whatever reads the node takes the first items.
    """
    made = {output.stage for output in node.outputs}
    one_by_one = (
        node.input.view == "items"
        and node.reduction is None
        and node.check is None
        and node.options.on_error != "skip"
        and all(step.kind in _ONE_BY_ONE for step in node.operations)
        and all(output.whole for output in node.outputs)
    )
    if not one_by_one or made & set(targets):
        return None
    wanted = []
    for other in nodes:
        if any(bind.node == node.name for bind in other.binds):
            return None
        if any(stream.node == node.name for stream in other.input.streams):
            if other.input.view != "items" or other.input.limit is None:
                return None
            wanted.append(other.input.limit)
    return max(wanted, default=None)


def stop_early(nodes: tuple[Node, ...], targets: Collection[str]) -> tuple[Node, ...]:
    """Let nodes of which only the first items are taken read only these.

    Parameters
    ----------
    nodes : tuple of Node
        Connected nodes in topological order.
    targets : collection of str
        The stages whose results are asked for.
    """
    found = {node.name: node for node in nodes}
    for name in reversed(list(found)):
        node = found[name]
        limit = can_stop_early(node, found.values(), targets)
        before = node.input.limit
        if limit is not None and (before is None or limit < before):
            items = "item" if limit == 1 else f"{limit:,} items"
            text = f"reads only the first {items}: no more are taken of what it makes"
            found[name] = replace(
                node,
                input=replace(node.input, limit=limit),
                reasons=(*node.reasons, text),
            )
    return tuple(found.values())
