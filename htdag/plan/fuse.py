"""The pass *fuse*: which stages share a node.

Neighbouring per-item stages share a job, so that their values need no file, no job start and no
DAGMan cycle in between. Combining items, or partitioning them by key, begins in the job that makes
the items.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from htdag.options.stage_options import BUILT_IN, Options
from htdag.plan.model import Node
from htdag.plan.parts import Bind, Input, Output, Reduction, Step, Stream
from htdag.stages import Iterate, Stage
from htdag.stages.graph import stage_of, upstreams
from htdag.stages.operations import Aggregation, Elementwise, Keyed, MapSide, Operation, Take, View

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import networkx as nx


@dataclass(frozen=True)
class Needs:
    """What a stage reads: its items, and whole results by keyword."""

    stage: Stage
    inputs: tuple[Stage, ...]
    binds: tuple[tuple[str, str], ...]

    @property
    def upstream(self) -> Stage:
        """The (first) stage whose items it reads."""
        return self.inputs[0]

    @property
    def operation(self) -> Operation:
        """What the stage does."""
        return self.stage.operation

    @property
    def map_side(self) -> MapSide | None:
        """The part of its work that can be done where its items are made, or None."""
        return None if self.binds else self.operation.map_side


def needs(graph: nx.DiGraph, name: str) -> Needs:
    """Return what a stage of the graph reads."""
    stage = stage_of(graph, name)
    binds = tuple(
        (keyword, other)
        for other, _, keywords in graph.in_edges(name, data="keywords")
        for keyword in keywords
    )
    inputs = tuple(stage_of(graph, above) for above in upstreams(graph, name))
    return Needs(stage, inputs, binds)


def job_options(graph: nx.DiGraph, stage: Stage, upstream: Stage) -> Options:
    """Return the options of a node that starts with a stage.

    The chunk size of the stage takes precedence over that of its source and of the pipeline.
    """
    options = stage.options.with_defaults(BUILT_IN)
    size = options.chunk_size
    if size is None and upstream.source is not None and stage.operation.takes_chunk_size:
        size = upstream.options.chunk_size
    return replace(options, chunk_size=graph.graph["chunk_size"] if size is None else size)


def can_fuse(graph: nx.DiGraph, wanted: Needs, node: Node) -> str:
    """Return "" if a stage can join the node that makes or reads its items, else why not."""
    stage, operation = wanted.stage, wanted.operation
    options = stage.options.with_defaults(BUILT_IN)
    if node.input.is_loop:
        return f"{wanted.upstream.name} is made by a loop"
    if node.reduction is not None:
        return f"{wanted.upstream.name} is one value, made by a {wanted.upstream.kind}"
    if node.input.is_sorted and not stage.one:
        return f"{wanted.upstream.name} is sorted by one job"
    if isinstance(operation, Aggregation) and wanted.map_side is None:
        return "it needs all items in one job"
    if not options.fuse:
        return f"{stage.name} has fuse=False"
    if not node.options.fuse:
        first = node.stages[0] if node.stages else node.outputs[0].stage
        return f"{first} has fuse=False"
    # What the node waits for already is there when its jobs start; anything else would have to
    # wait for jobs of this very node, or hold back the stages before this one.
    if wanted.binds:
        import networkx as nx  # late, since importing it takes longer than all of htdag

        ready = set().union(*(nx.ancestors(graph, other) for other in node.stages))
        waits = sorted({other for _, other in wanted.binds} - (ready - set(node.stages)))
        waits = [name for name in waits if stage_of(graph, name).source is None]
        members = set(node.stages)
        depends = any(members & ({name} | nx.ancestors(graph, name)) for name in waits)
        if waits and (depends or not _is_bare(node)):
            return f"its bind waits for {', '.join(waits)}"
    of_stage, of_node = options.of_jobs().given(), node.options.of_jobs().given()
    differing = [key for key in {**of_stage, **of_node} if of_stage.get(key) != of_node.get(key)]
    begins = _is_bare(node) and isinstance(operation, Elementwise)
    if differing and not (begins and _includes(of_stage, of_node)):
        names = ", ".join(sorted(differing))
        return f"other {names}: with_options gives it the same, and they share jobs"
    sized = options.chunk_size not in (None, node.options.chunk_size)
    takes = begins and node.options.chunk_size is None
    if sized and not takes and not isinstance(operation, Keyed):
        return f"another chunk_size ({options.chunk_size})"
    return _losing(graph, wanted, node)


def _losing(graph: nx.DiGraph, wanted: Needs, node: Node) -> str:
    """Return why skipping an item that fails in a stage would lose other values; or "".

    What a job skips is an item that the node reads, with all that was made from it.
    """
    stage, upstream = wanted.stage, wanted.upstream
    if stage.options.with_defaults(BUILT_IN).on_error != "skip" or not stage.operation.can_fail:
        return ""
    several = next((step.stage for step in node.steps if step.operation.multiplies), "")
    if several:
        return f"an item that fails in {stage.name} would lose all that {several} made with it"
    last = node.steps[-1].stage if node.steps else upstream.name
    uses = graph.out_degree(upstream.name) + bool(graph.nodes[upstream.name]["target"])
    if node.outputs or last != upstream.name or (upstream.name in node.stages and uses > 1):
        return f"an item that fails in {stage.name} would be lost for other stages, too"
    return ""


def _is_bare(node: Node) -> bool:
    """Return whether a node only reads a view so far: then its first stage sets its options."""
    return node.input.is_view and not node.steps and not node.outputs


def _includes(asked: dict[str, object], given: dict[str, object]) -> bool:
    """Return whether options include all given ones, apart from defaults."""
    return all(
        asked.get(key) == value or BUILT_IN.given().get(key) == value
        for key, value in given.items()
    )


def fuse(graph: nx.DiGraph) -> tuple[Node, ...]:
    """Place every stage of a graph in a node, fused with others where possible.

    The nodes are in topological order and not yet named, connected or chunked: their inputs and
    binds name stages.
    """
    nodes = _Nodes()
    for name in graph:
        wanted = needs(graph, name)
        match wanted.operation:
            case View() | Iterate():
                nodes.append(_view_node(graph, wanted))
            case Elementwise():
                reason = _join(graph, wanted, nodes)
                if reason is not None:
                    nodes.append(_new_node(graph, wanted, reason))
            case Keyed():
                reason = _join(graph, wanted, nodes)
                if reason is not None:
                    nodes.append(_map_side_node(graph, wanted, reason))
                nodes.append(_keyed_node(graph, wanted))
            case Aggregation():
                reason = _join(graph, wanted, nodes)
                if reason is not None and _is_first(wanted):
                    nodes.append(_map_side_node(graph, wanted, reason))
                    reason = None
                nodes.append(_final_node(graph, wanted, reason or ""))
    return nodes.all()


def _join(graph: nx.DiGraph, wanted: Needs, nodes: _Nodes) -> str | None:
    """Add a stage to the first node that it can join; return why there is none, or None.

    The reason is "" if no node makes or reads its items.
    """
    reason = ""
    for number, node in nodes.with_items_of(wanted.upstream):
        reason = can_fuse(graph, wanted, node)
        if not reason:
            nodes.replace(number, _joined(node, wanted))
            return None
    return reason


def _is_first(wanted: Needs) -> bool:
    """Return whether a stage has a map side but reads a source, which no node makes."""
    return wanted.map_side is not None and wanted.upstream.source is not None


class _Nodes:
    """The nodes so far, found by the stages whose items they make or read."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._by_stage: dict[str, list[int]] = {}

    def append(self, node: Node) -> None:
        """Add a node."""
        self._nodes.append(node)
        self._note(len(self._nodes) - 1, (node.input.stage, *node.stages))

    def replace(self, number: int, node: Node) -> None:
        """Replace a node by the same with one more stage."""
        added = node.stages[len(self._nodes[number].stages) :]
        self._nodes[number] = node
        self._note(number, added)

    def _note(self, number: int, stages: Iterable[str]) -> None:
        for name in dict.fromkeys(stages):
            self._by_stage.setdefault(name, []).append(number)

    def with_items_of(self, stage: Stage) -> Iterator[tuple[int, Node]]:
        """Yield the nodes, with their numbers, that make or read the items of a stage."""
        for number in sorted(self._by_stage.get(stage.name, ())):
            node = self._nodes[number]
            if stage.name in node.stages or _reads(node, stage):
                yield number, node

    def all(self) -> tuple[Node, ...]:
        """Return all nodes in the order of their first stages."""
        return tuple(self._nodes)


def _reads(node: Node, source: Stage) -> bool:
    return (
        source.source is not None
        and not node.input.is_view
        and node.input.stage == source.name
        and node.reduction is None
    )


def _stream(stage: Stage) -> Stream:
    return Stream(stage.name, source=stage.source)


def _new_node(graph: nx.DiGraph, wanted: Needs, reason: str) -> Node:
    stage, upstream = wanted.stage, wanted.upstream
    if not reason:
        what = "the value of" if upstream.source is None else "the source"
        reason = f"it reads {what} {upstream.name}"
    node = Node(
        name="",
        stages=(),
        input=Input.of(upstream.name, upstream.source),
        options=job_options(graph, stage, upstream),
    )
    return replace(_joined(node, wanted), reasons=(f"{stage.name} begins a node: {reason}",))


def _view_node(graph: nx.DiGraph, wanted: Needs) -> Node:
    stage, operation = wanted.stage, wanted.operation
    assert isinstance(operation, View | Iterate)
    why = "it says which items are read, and how"
    if isinstance(operation, Iterate):
        why = "it is a loop, each round of it a DAG of its own"
    limit = operation.number if isinstance(operation, Take) else None
    return Node(
        name="",
        stages=(stage.name,),
        input=Input(tuple(map(_stream, wanted.inputs)), operation, limit),
        options=job_options(graph, stage, wanted.upstream),
        reasons=(f"{stage.name} begins a node: {why}",),
    )


def _joined(node: Node, wanted: Needs) -> Node:
    stage, upstream, operation = wanted.stage, wanted.upstream, wanted.operation
    after = upstream.name if upstream.name in {step.stage for step in node.steps} else None
    if not isinstance(operation, Elementwise):
        output, reason = _map_side_output(wanted, after)
        return replace(node, outputs=(*node.outputs, output), reasons=(*node.reasons, reason))
    options = node.options
    if _is_bare(node):
        asked = stage.options.with_defaults(BUILT_IN)
        options = replace(asked, chunk_size=asked.chunk_size or options.chunk_size)
    return replace(
        node,
        stages=(*node.stages, stage.name),
        steps=(*node.steps, Step(stage.name, operation, after, wanted.binds)),
        binds=_merged_binds(node.binds, wanted.binds),
        options=options,
        reasons=(
            *node.reasons,
            f"{stage.name} is fused with {upstream.name}: per item, and equal options",
        ),
    )


def _map_side_output(wanted: Needs, after: str | None) -> tuple[Output, str]:
    """Return the output of the jobs that do the map side of a stage, and the reason."""
    map_side = wanted.map_side
    assert map_side is not None
    name = wanted.stage.name
    return Output(name, after, map_side), map_side.reason.format(stage=name)


def _merged_binds(binds: tuple[Bind, ...], new: tuple[tuple[str, str], ...]) -> tuple[Bind, ...]:
    stages = dict.fromkeys([*(bind.stage for bind in binds), *(stage for _, stage in new)])
    return tuple(Bind(stage) for stage in stages)


def _map_side_node(graph: nx.DiGraph, wanted: Needs, reason: str) -> Node:
    """Return a node that does only the map side of a stage, for when no other node can."""
    stage, upstream = wanted.stage, wanted.upstream
    output, what = _map_side_output(wanted, None)
    options = job_options(graph, stage, upstream)
    if upstream.source is not None:
        size = upstream.options.chunk_size or graph.graph["chunk_size"]
        options = replace(options, chunk_size=size)
    what = what.replace("chunk by chunk", f"chunk by chunk of {upstream.name}")
    return Node(
        name="",
        stages=(),
        input=Input.of(upstream.name, upstream.source),
        options=options,
        outputs=(output,),
        reasons=(f"{what} in a node of its own: {reason}" if reason else what,),
    )


def _keyed_node(graph: nx.DiGraph, wanted: Needs) -> Node:
    stage, operation = wanted.stage, wanted.operation
    assert isinstance(operation, Keyed)
    return Node(
        name="",
        stages=(stage.name,),
        input=Input((Stream(stage.name),), operation),
        options=job_options(graph, stage, wanted.upstream),
        reasons=(f"{stage.name}: {operation.task}",),
    )


def _final_node(graph: nx.DiGraph, wanted: Needs, reason: str) -> Node:
    stage, upstream, operation = wanted.stage, wanted.upstream, wanted.operation
    assert isinstance(operation, Aggregation)
    if not operation.associative:
        reason = "associative=False, so in order"
    elif wanted.binds:
        reason = "it has a bind"
    reads = Input.of(upstream.name, upstream.source) if reason else Input.of(stage.name)
    text = f"combines all items ({reason})" if reason else "combines what the chunks gave"
    return Node(
        name="",
        stages=(stage.name,),
        input=reads,
        reduction=Reduction(
            stage.name,
            operation.function if reason else operation.merge,
            True,
            operation.initial,
            wanted.binds,
            seeded=operation.seeded and not reason,
        ),
        outputs=(Output(stage.name, None),),
        binds=_merged_binds((), wanted.binds),
        options=job_options(graph, stage, upstream),
        reasons=(f"{stage.name}: one job {text}",),
    )
