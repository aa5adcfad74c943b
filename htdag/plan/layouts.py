"""Layouts of earlier runs, kept so that their finished chunks fit into a new run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from htdag.plan.model import Node

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import PlanContent


MOST_CHUNKS = 1_000
"""A node that has grown beyond this is cut again, unless a chunk size is set."""


@dataclass(frozen=True)
class Layout:
    """The layout of a node in an earlier run.

    Attributes
    ----------
    boundaries : tuple of int
        Where its chunks begin, and the end.
    chunk_size : int or None
        The chunk size that was set.
    parts : dict of str to int
        The number of parts in which the values of each of its stages left it.
    """

    boundaries: tuple[int, ...] = ()
    chunk_size: int | None = None
    parts: Mapping[str, int] = field(default_factory=dict)


Layouts = Mapping[str, Layout]
"""Layouts by the names of nodes."""

NO_LAYOUTS: Layouts = MappingProxyType({})


def layouts_of(plan: PlanContent) -> Layouts:
    """Return the layouts of a run, from its ``plan.json``."""
    return {
        node["name"]: Layout(
            () if node["by_chunk"] else tuple(node["boundaries"] or ()),
            node["size"],
            node["parts"],
        )
        for node in plan["nodes"]
    }


def followed(node: Node, total: int, layouts: Layouts) -> tuple[int, ...]:
    """Return the boundaries of an earlier run, fitted to so many items; () to cut again.

    New items come last, in chunks as large as the others.

    Examples
    --------
    >>> from htdag.plan.parts import Input
    >>> node = Node("a", ("a",), Input(()))
    >>> followed(node, 7, {"a": Layout((0, 2, 4))})
    (0, 2, 4, 6, 7)
    >>> followed(node, 3, {"a": Layout((0, 2, 4))})
    (0, 2, 3)
    """
    layout = layouts.get(node.name)
    if layout is None or len(layout.boundaries) < 2 or total < 1:
        return ()
    if node.options.chunk_size != layout.chunk_size:
        return ()
    old = layout.boundaries
    boundaries = [edge for edge in old if edge < total]
    size = max(1, math.ceil(old[-1] / (len(old) - 1)))
    if old[-1] < total:
        boundaries += range(old[-1] + size, total, size)
    edges = tuple(dict.fromkeys((*boundaries, total)))
    return edges if len(edges) <= MOST_CHUNKS or node.options.chunk_size else ()


def followed_parts(node: Node, stage: str, layouts: Layouts) -> int:
    """Return in how many parts the values of a stage left a node; 0 if unknown."""
    layout = layouts.get(node.name)
    return 0 if layout is None else layout.parts.get(stage, 0)
