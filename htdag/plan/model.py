"""What a plan is made of. All of it frozen: passes make new plans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import networkx as nx

from htdag._options import Options
from htdag._sources import Source
from htdag._throttles import Throttles
from htdag.stages import MISSING


@dataclass(frozen=True)
class Operation:
    """A per-item stage inside a node.

    ``after`` is the stage before it, in the same node, or None for the node's input; ``binds``
    are keyword and stage.
    """

    stage: str
    kind: str
    function: Callable[..., Any]
    after: str | None
    binds: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Reduction:
    """What a node that combines values does with all values of a chunk.

    ``final`` is True for the one job that gives the value of the reduce, False inside a tree.
    """

    stage: str
    function: Callable[..., Any]
    final: bool
    initial: Any = MISSING
    binds: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Output:
    """Values that leave a node: those of ``after`` (None: the input), under the name ``stage``.

    With ``combine`` they are combined within each chunk first.
    """

    stage: str
    after: str | None
    combine: Callable[..., Any] | None = None


@dataclass(frozen=True)
class Input:
    """What a node reads: a source, or one output of another node."""

    stage: str
    node: str | None = None
    source: Source | None = None


@dataclass(frozen=True)
class Bind:
    """A whole result that every job of a node reads.

    ``one``: the single value of a reduce, not a list.
    """

    stage: str
    node: str = ""
    one: bool = False


@dataclass(frozen=True)
class Take:
    """What a chunk reads of the node before: chunks ``first`` to ``last``, or a part of one.

    ``part`` is None, or (k, m): the k-th of m equal parts.
    """

    first: int
    last: int
    part: tuple[int, int] | None = None


@dataclass(frozen=True)
class Node:
    """One DAGMan node: a cluster of jobs that do the same on different chunks.

    Attributes
    ----------
    name : str
        Its name, made of its stages' names.
    stages : tuple of str
        The stages that it computes.
    input : Input
        What it reads.
    operations : tuple of Operation
        The fused per-item stages, upstream first.
    outputs : tuple of Output
        What it writes.
    reduction : Reduction or None
        For a node that combines; such a node has no operations.
    binds : tuple of Bind
        Whole results that all its jobs read.
    options : Options
        The options of its jobs.
    chunks : int
        Its number of jobs.
    boundaries : tuple of int
        For a node that reads a source: the number of the first item of each chunk, and the end.
    takes : tuple of Take
        For any other node: what each chunk reads.
    items : int or None
        How many items it reads; None where that is known only when it runs.
    priority : int
        Its PRIORITY for DAGMan: of the nodes that are ready, those with the highest go first.
    reasons : tuple of str
        Why it is as it is.
    """

    name: str
    stages: tuple[str, ...]
    input: Input
    operations: tuple[Operation, ...] = ()
    outputs: tuple[Output, ...] = ()
    reduction: Reduction | None = None
    binds: tuple[Bind, ...] = ()
    options: Options = field(default_factory=Options)
    chunks: int = 0
    boundaries: tuple[int, ...] = ()
    takes: tuple[Take, ...] = ()
    items: int | None = None
    priority: int = 0
    reasons: tuple[str, ...] = ()

    @property
    def parents(self) -> tuple[str, ...]:
        """The nodes that must be done before this one, each once."""
        names = [self.input.node] if self.input.node else []
        names += [bind.node for bind in self.binds]
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class Plan:
    """DAGMan nodes in topological order, and where each stage's values come to be.

    Attributes
    ----------
    name : str
        The pipeline's name.
    nodes : tuple of Node
        Parents before children.
    targets : tuple of str
        The stages whose results were asked for.
    where : dict of str to str
        For each stage whose values are written: the node that writes them whole.
    stages : networkx.DiGraph
        The graph of stages that was planned.
    throttles : Throttles
        The options of the pipeline as a whole.
    """

    name: str
    nodes: tuple[Node, ...]
    targets: tuple[str, ...]
    where: dict[str, str]
    stages: nx.DiGraph
    throttles: Throttles = field(default_factory=Throttles)

    @cached_property
    def graph(self) -> nx.DiGraph:
        """The DAG of nodes: names, with the attribute ``node``."""
        graph = nx.DiGraph()
        for node in self.nodes:
            graph.add_node(node.name, node=node)
        for node in self.nodes:
            graph.add_edges_from((parent, node.name) for parent in node.parents)
        return graph

    @property
    def jobs(self) -> int:
        """The number of jobs, when none has to be tried again."""
        return sum(node.chunks for node in self.nodes)

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)
