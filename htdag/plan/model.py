"""Plans and their DAGMan nodes, all frozen: passes make new plans."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from htdag.options.pipeline_options import Throttles
from htdag.options.stage_options import Options
from htdag.plan.parts import Bind, Check, Input, Output, Reduction, Step, StoredSource
from htdag.plan.simulate import Chain, Cost
from htdag.runtime.chunking import even
from htdag.runtime.lanes import Unit
from htdag.stages.operations import State

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Round:
    """What a loop repeats.

    Attributes
    ----------
    plan : Plan
        The nodes of one round. Its sources are the state and outside stages.
    state, result : str
        The stages of the state before and after a round.
    one : bool
        Whether the state is one value, not items.
    until : bool
        Whether a predicate may end the loop.
    max_rounds : int
        The most rounds.
    """

    plan: Plan
    state: str
    result: str
    one: bool
    until: bool
    max_rounds: int


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
    steps : tuple of Step
        The fused per-item stages, upstream first.
    outputs : tuple of Output
        What it writes.
    reduction : Reduction or None
        The reduction of a node that combines values; such a node has no steps.
    binds : tuple of Bind
        Whole results that all its jobs read.
    options : Options
        The options of its jobs.
    chunks : int
        Its number of jobs; where it is `dynamic`, an estimate.
    boundaries : tuple of int
        Where its chunks begin, and the end: in the items that it reads, or, for a node that
        combines, in the chunks of the node before. () if keys of items or other data decide.
    dynamic : bool
        Whether its jobs are laid out only when the nodes before it are done, by the numbers of
        items that these wrote.
    exact : bool
        Whether it writes just as many values as planned, if that is known: neither it nor a node
        before it may skip failed items.
    by_chunk : bool
        Whether its jobs take whole chunks of the node before it, however many items these have.
    per_job : float
        About how many items a job should have then, if there is no chunk size.
    follows : bool
        Whether its chunks are those of the node that it reads, so that both can be in lanes.
    lanes : int
        Into how many lanes it is cut, each a DAGMan node of its own; 1 for none.
    fan_in : int or None
        For a level of a tree of combining nodes: how many values one job takes.
    items : int or None
        How many items it reads; None if that is known only when it runs.
    jobs : int or None
        About how many jobs earlier runs suggest; None if they do not decide.
    measured : str
        What earlier runs measured, in words.
    proposed : tuple of str
        The options that follow from that.
    cost : Cost or None
        What they say about its time, if they measured all that it does.
    priority : int
        Its PRIORITY for DAGMan: of the nodes that are ready, those with the highest start first.
    round : Round or None
        What a loop repeats. A loop has no jobs but those of its rounds.
    check : Check or None
        The check whether the loop is over, in the node that ends a round.
    reasons : tuple of str
        Why it is like this, in words.
    """

    name: str
    stages: tuple[str, ...]
    input: Input
    steps: tuple[Step, ...] = ()
    outputs: tuple[Output, ...] = ()
    reduction: Reduction | None = None
    binds: tuple[Bind, ...] = ()
    options: Options = field(default_factory=Options)
    chunks: int = 0
    boundaries: tuple[int, ...] = ()
    dynamic: bool = False
    exact: bool = True
    by_chunk: bool = False
    per_job: float = 1.0
    follows: bool = False
    lanes: int = 1
    fan_in: int | None = None
    items: int | None = None
    jobs: int | None = None
    measured: str = ""
    proposed: tuple[str, ...] = ()
    cost: Cost | None = None
    priority: int = 0
    round: Round | None = None
    check: Check | None = None
    reasons: tuple[str, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether its number of jobs is known before it runs."""
        return not self.dynamic or bool(self.boundaries) or self.input.is_partitioned

    @property
    def is_check_alone(self) -> bool:
        """Whether it exists only to check whether a loop is over."""
        return self.check is not None and not self.outputs

    @property
    def lane_parent(self) -> str | None:
        """The node whose lanes continue in its own, lane by lane."""
        return self.input.node if self.lanes > 1 and self.follows else None

    @property
    def units(self) -> tuple[Unit, ...]:
        """What DAGMan runs of it: the node, or its lanes."""
        if self.lanes == 1:
            return (Unit(self.name),)
        return tuple(Unit(self.name, lane) for lane in range(1, self.lanes + 1))

    @property
    def lane_edges(self) -> tuple[int, ...]:
        """Where the chunks of its lanes begin, and the end."""
        return tuple(even(self.chunks, self.lanes))

    @property
    def parents(self) -> tuple[str, ...]:
        """The nodes that must be done before this one, each once."""
        names = [stream.node for stream in self.input.streams]
        names += [bind.node for bind in self.binds]
        return tuple(dict.fromkeys(name for name in names if name is not None))


@dataclass(frozen=True)
class Plan:
    """DAGMan nodes in topological order, and which of them writes each stage.

    Attributes
    ----------
    name : str
        The pipeline's name.
    nodes : tuple of Node
        Parents before children.
    targets : tuple of str
        The target stages.
    where : dict of str to str
        For each stage whose values are written: the node that writes them whole.
    stages : networkx.DiGraph
        The graph of stages that was planned.
    sources : tuple of StoredSource
        The sources that are read by ranges of their items, or bound.
    throttles : Throttles
        The options of the pipeline as a whole.
    chains : tuple of Chain
        The chains that can have lanes, or cannot although lanes were requested.
    """

    name: str
    nodes: tuple[Node, ...]
    targets: tuple[str, ...]
    where: dict[str, str]
    stages: nx.DiGraph
    sources: tuple[StoredSource, ...] = ()
    throttles: Throttles = field(default_factory=Throttles)
    chains: tuple[Chain, ...] = ()

    @cached_property
    def is_round(self) -> bool:
        """Whether it is the plan of a round: one of its stages is the state of a loop."""
        return any(
            isinstance(stage.operation, State) for _, stage in self.stages.nodes(data="stage")
        )

    @cached_property
    def checked_alone(self) -> frozenset[str]:
        """The stages of nodes that only check whether a loop is over."""
        return frozenset(n for node in self.nodes if node.is_check_alone for n in node.stages)

    @cached_property
    def graph(self) -> nx.DiGraph:
        """The DAG of nodes: names, with the attribute ``node``."""
        import networkx as nx  # late, since importing it takes longer than all of htdag

        graph = nx.DiGraph()
        for node in self.nodes:
            graph.add_node(node.name, node=node)
        for node in self.nodes:
            graph.add_edges_from((parent, node.name) for parent in node.parents)
        return graph

    @property
    def jobs(self) -> int:
        """The number of jobs, counting no retries and one round of each loop."""
        return sum(
            node.chunks if node.round is None else node.round.plan.jobs for node in self.nodes
        )

    @property
    def nodes_with_jobs(self) -> tuple[Node, ...]:
        """The nodes that are clusters of jobs, including those of the rounds of loops."""
        nodes: list[Node] = []
        for node in self.nodes:
            nodes += (node,) if node.round is None else node.round.plan.nodes_with_jobs
        return tuple(nodes)

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)
