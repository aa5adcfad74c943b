"""Lanes: a chain of nodes cut lengthwise, so that chunks continue while others are in progress.

Nodes that have the chunks of the node before them are cut in the same way. A lane of such a node is
a DAGMan node of its own, with the chunks of one range; all its files are those of the node. A
*unit* is what DAGMan runs and a POST script judges: a node, or one lane of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, List, NamedTuple

if TYPE_CHECKING:
    from .formats.plan import NodeEntry, Plan


# No name of a stage begins with a digit, so this is nothing that a node could be called.
_LANE = re.compile(r"(?P<node>.+)\.(?P<lane>[1-9]\d*)")


class Unit(NamedTuple):
    """A node, or one lane of it."""

    node: str
    lane: int = 0  # from 1; 0 for a node that has none

    @property
    def name(self) -> str:
        """Its name in DAGMan: that of the node, and after a dot the number of the lane."""
        return "%s.%d" % self if self.lane else self.node


def unit(name: str) -> Unit:
    """Return the unit of a name in DAGMan.

    Examples
    --------
    >>> unit("resize.crop.12")
    Unit(node='resize.crop', lane=12)
    >>> unit("resize.crop")
    Unit(node='resize.crop', lane=0)
    """
    match = _LANE.fullmatch(name)
    return Unit(match.group("node"), int(match.group("lane"))) if match else Unit(name)


def units(node: NodeEntry) -> List[Unit]:
    """Return the units of a node of a plan."""
    edges = node.get("lanes")
    if not edges:
        return [Unit(node["name"])]
    return [Unit(node["name"], lane) for lane in range(1, len(edges))]


def chunks(node: NodeEntry, lane: int, total: int) -> range:
    """Return the numbers of the chunks of a unit, given how many the node has."""
    edges = node.get("lanes")
    return range(edges[lane - 1], edges[lane]) if lane and edges else range(total)


def parents(plan: Plan, of: Unit) -> List[Unit]:
    """Return the units that must be done before another."""
    node = plan["by_name"][of.node]
    upstream = []
    for name in node["parents"]:
        if name == node.get("lane_parent"):
            upstream.append(Unit(name, of.lane))
        else:
            upstream += units(plan["by_name"][name])
    return upstream


def children(plan: Plan, of: Unit) -> List[Unit]:
    """Return the units that wait for another."""
    downstream = []
    for name in plan["by_name"][of.node]["children"]:
        child = plan["by_name"][name]
        downstream += [Unit(name, of.lane)] if child.get("lane_parent") == of.node else units(child)
    return downstream
