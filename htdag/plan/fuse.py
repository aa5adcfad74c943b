"""The pass *fuse*: which stages share a node.

Neighbouring per-item stages flow through one job together, so that their values need no file, no
job start and no turn of DAGMan in between. What combines items, or sends them to others with the
same key, begins where the items are made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from htdag.options.stage_options import BUILT_IN, Options
from htdag.plan.model import Node
from htdag.plan.parts import Bind, Input, Operation, Output, Reduction, Stream
from htdag.stages import COMBINING, KEYED, LOOP, PER_ITEM, VIEWS, Stage
from htdag.stages.graph import upstreams

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
    def in_parts(self) -> bool:
        """Whether parts of its items can be combined, or sorted out, where they are made."""
        return self.stage.kind in KEYED or (
            self.stage.kind in COMBINING and self.stage.associative and not self.binds
        )


def needs(graph: nx.DiGraph, name: str) -> Needs:
    """Return what a stage of the graph reads."""
    stage: Stage = graph.nodes[name]["stage"]
    binds = tuple(
        (keyword, other)
        for other, _, keywords in graph.in_edges(name, data="keywords")
        for keyword in keywords
    )
    inputs = tuple(graph.nodes[above]["stage"] for above in upstreams(graph, name))
    return Needs(stage, inputs, binds)


def job_options(graph: nx.DiGraph, stage: Stage, upstream: Stage) -> Options:
    """Return the options of a node that a stage begins.

    Of the chunk sizes the stage's own holds, then that of its source, then the pipeline's.
    """
    options = stage.options.over(BUILT_IN)
    size = options.chunk_size
    if size is None and upstream.data is not None and stage.kind not in ("batch", *KEYED):
        size = upstream.options.chunk_size
    return replace(options, chunk_size=graph.graph["chunk_size"] if size is None else size)


def can_fuse(graph: nx.DiGraph, wanted: Needs, node: Node) -> str:
    """Return "" where a stage can join the node that makes or reads its items, else why not."""
    stage = wanted.stage
    options = stage.options.over(BUILT_IN)
    if node.input.is_loop:
        return f"{wanted.upstream.name} is made by a loop"
    if node.reduction is not None:
        return f"{wanted.upstream.name} is one value, made by a {wanted.upstream.kind}"
    if node.input.view == "sort_by" and not stage.one:
        return f"{wanted.upstream.name} is sorted by one job"
    if stage.kind in COMBINING and not wanted.in_parts:
        return "it needs all items in one job"
    if not options.fuse:
        return f"{stage.name} has fuse=False"
    if not node.options.fuse:
        first = node.stages[0] if node.stages else node.outputs[0].stage
        return f"{first} has fuse=False"
    # What the node waits for already is there when its jobs start; anything else would have to
    # wait for jobs of this very node, or hold back the stages before this one.
    if wanted.binds:
        import networkx as nx  # here, since it takes longer to import than all of htdag

        ready = set().union(*(nx.ancestors(graph, other) for other in node.stages))
        waits = sorted({other for _, other in wanted.binds} - (ready - set(node.stages)))
        waits = [name for name in waits if graph.nodes[name]["stage"].data is None]
        own = set(node.stages)
        depends = any(own & ({name} | nx.ancestors(graph, name)) for name in waits)
        if waits and (depends or not _is_bare(node)):
            return f"its bind waits for {', '.join(waits)}"
    mine, theirs = options.of_jobs().given(), node.options.of_jobs().given()
    differing = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
    if differing and not (_is_bare(node) and stage.kind in PER_ITEM and _includes(mine, theirs)):
        names = ", ".join(sorted(differing))
        return f"other {names}: with_options gives it the same, and they share jobs"
    sized = stage.kind not in KEYED and options.chunk_size not in (None, node.options.chunk_size)
    takes = _is_bare(node) and node.options.chunk_size is None and stage.kind in PER_ITEM
    if sized and not takes:
        return f"another chunk_size ({options.chunk_size})"
    return _losing(graph, wanted, node)


def _losing(graph: nx.DiGraph, wanted: Needs, node: Node) -> str:
    """Return why an item that fails in a stage, and is let go, would take others along; or "".

    What fails in a job is an item that the node reads: with it goes all that was made of it.
    """
    stage, upstream = wanted.stage, wanted.upstream
    if stage.options.over(BUILT_IN).on_error != "skip" or stage.kind == "count":
        return ""
    several = next((op.stage for op in node.operations if op.kind == "flat_map"), "")
    if several:
        return f"what fails in {stage.name} would take along all that {several} made with it"
    last = node.operations[-1].stage if node.operations else upstream.name
    uses = graph.out_degree(upstream.name) + bool(graph.nodes[upstream.name]["target"])
    if node.outputs or last != upstream.name or (upstream.name in node.stages and uses > 1):
        return f"what fails in {stage.name} would be lost for other stages, too"
    return ""


def _is_bare(node: Node) -> bool:
    """Whether a node does nothing yet but read a view: then its first stage says how it runs."""
    return node.input.is_view and not node.operations and not node.outputs


def _includes(mine: dict[str, object], theirs: dict[str, object]) -> bool:
    return all(
        mine.get(key) == value or BUILT_IN.given().get(key) == value
        for key, value in theirs.items()
    )


def fuse(graph: nx.DiGraph) -> tuple[Node, ...]:
    """Place every stage of a graph of stages in a node, fusing where it can be.

    The nodes are in topological order and not yet named, joined or chunked: their inputs and binds
    name stages.
    """
    nodes = _Nodes()
    for name in graph:
        if graph.nodes[name]["stage"].data is not None:
            continue
        wanted = needs(graph, name)
        if wanted.stage.kind in VIEWS or wanted.stage.kind == LOOP:
            nodes.append(_view_node(graph, wanted))
            continue
        reason = ""
        for number, node in nodes.with_items_of(wanted.upstream):
            reason = can_fuse(graph, wanted, node)
            if not reason:
                nodes.replace(number, _joined(node, wanted))
                break
        else:
            if wanted.stage.kind in PER_ITEM:
                nodes.append(_new_node(graph, wanted, reason))
                continue
            if wanted.stage.kind in KEYED or (wanted.upstream.data is not None and wanted.in_parts):
                nodes.append(_first_node(graph, wanted, reason))
                reason = ""
        if wanted.stage.kind in COMBINING:
            nodes.append(_final_node(graph, wanted, reason))
        elif wanted.stage.kind in KEYED:
            nodes.append(_keyed_node(graph, wanted))
    return nodes.all()


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
        """Put the node that a stage has joined in place of the one that it was."""
        added = node.stages[len(self._nodes[number].stages) :]
        self._nodes[number] = node
        self._note(number, added)

    def _note(self, number: int, stages: Iterable[str]) -> None:
        for name in dict.fromkeys(stages):
            self._by_stage.setdefault(name, []).append(number)

    def with_items_of(self, stage: Stage) -> Iterator[tuple[int, Node]]:
        """Yield the nodes, with their numbers, in which a stage can find the items of another."""
        for number in sorted(self._by_stage.get(stage.name, ())):
            node = self._nodes[number]
            if stage.name in node.stages or _reads(node, stage):
                yield number, node

    def all(self) -> tuple[Node, ...]:
        """Return all of them, in the order in which they began."""
        return tuple(self._nodes)


def _reads(node: Node, source: Stage) -> bool:
    return (
        source.data is not None
        and not node.input.is_view
        and node.input.stage == source.name
        and node.reduction is None
    )


def _stream(stage: Stage) -> Stream:
    return Stream(stage.name, source=stage.data)


def _new_node(graph: nx.DiGraph, wanted: Needs, reason: str) -> Node:
    stage, upstream = wanted.stage, wanted.upstream
    if not reason:
        kind = "the source" if upstream.data is not None else "the value of"
        reason = f"it reads {kind} {upstream.name}"
    node = Node(
        name="",
        stages=(),
        input=Input.of(upstream.name, upstream.data),
        options=job_options(graph, stage, upstream),
    )
    return replace(_joined(node, wanted), reasons=(f"{stage.name} begins a node: {reason}",))


def _view_node(graph: nx.DiGraph, wanted: Needs) -> Node:
    stage = wanted.stage
    view, limit = (stage.kind, None) if stage.kind != "take" else ("items", stage.number)
    number = stage.number if limit is None else 0
    why = "it says which items are read, and how"
    if view == LOOP:
        why = "it is a loop, each round of it a DAG of its own"
    return Node(
        name="",
        stages=(stage.name,),
        input=Input(tuple(map(_stream, wanted.inputs)), view, number, limit),
        options=job_options(graph, stage, wanted.upstream),
        reasons=(f"{stage.name} begins a node: {why}",),
    )


def _joined(node: Node, wanted: Needs) -> Node:
    stage, upstream = wanted.stage, wanted.upstream
    made = {operation.stage for operation in node.operations}
    after = upstream.name if upstream.name in made else None
    if stage.kind not in PER_ITEM:
        output, reason = _first_part(stage, after)
        return replace(node, outputs=(*node.outputs, output), reasons=(*node.reasons, reason))
    assert stage.function is not None
    options = node.options
    if _is_bare(node):
        mine = stage.options.over(BUILT_IN)
        options = replace(mine, chunk_size=mine.chunk_size or options.chunk_size)
    return replace(
        node,
        stages=(*node.stages, stage.name),
        operations=(
            *node.operations,
            Operation(stage.name, stage.kind, stage.function, after, wanted.binds),
        ),
        binds=_merged_binds(node.binds, wanted.binds),
        options=options,
        reasons=(
            *node.reasons,
            f"{stage.name} is fused with {upstream.name}: per item, and equal options",
        ),
    )


def _first_part(stage: Stage, after: str | None) -> tuple[Output, str]:
    """Return what a stage that needs many items does where they are made, and why."""
    name = stage.name
    if stage.kind in ("group_by", "sort_by"):
        output = Output(name, after, kind=stage.kind, key=stage.key)
        why = (
            "items leave with the keys to sort by"
            if stage.kind == "sort_by"
            else ("items leave for the partitions of their keys")
        )
        return output, f"{name}: {why}"
    if stage.kind == "distinct":
        output = Output(name, after, kind=stage.kind, key=stage.key)
        return output, f"{name}: all but the first with a key are dropped here, chunk by chunk"
    if stage.kind == "reduce_by_key":
        output = Output(name, after, stage.function, stage.kind, key=stage.key)
        return output, f"{name}: values of equal keys are combined here, chunk by chunk"
    if stage.kind == "reduce":
        output = Output(name, after, stage.function, "reduce")
        return output, f"{name} is combined here, chunk by chunk (associative)"
    output = Output(name, after, stage.function, "fold", stage.combine, stage.initial)
    return output, f"{name} is accumulated here, chunk by chunk"


def _merged_binds(binds: tuple[Bind, ...], new: tuple[tuple[str, str], ...]) -> tuple[Bind, ...]:
    stages = dict.fromkeys([*(bind.stage for bind in binds), *(stage for _, stage in new)])
    return tuple(Bind(stage) for stage in stages)


def _first_node(graph: nx.DiGraph, wanted: Needs, reason: str) -> Node:
    """Return a node that only does the first part of a stage, where no other node can do it."""
    stage, upstream = wanted.stage, wanted.upstream
    output, what = _first_part(stage, None)
    options = job_options(graph, stage, upstream)
    if upstream.data is not None:
        size = upstream.options.chunk_size or graph.graph["chunk_size"]
        options = replace(options, chunk_size=size)
    what = what.replace("chunk by chunk", f"chunk by chunk of {upstream.name}")
    return Node(
        name="",
        stages=(),
        input=Input.of(upstream.name, upstream.data),
        options=options,
        outputs=(output,),
        reasons=(f"{what} in a node of its own: {reason}" if reason else what,),
    )


def _keyed_node(graph: nx.DiGraph, wanted: Needs) -> Node:
    stage = wanted.stage
    combine = stage.function if stage.kind == "reduce_by_key" else None
    what = {
        "group_by": "each job makes the groups of one partition of the keys",
        "reduce_by_key": "each job combines the values of one partition of the keys",
        "distinct": "each job keeps the first of each key, for one partition of the keys",
        "sort_by": "one job sorts, by way of its disk",
    }
    return Node(
        name="",
        stages=(stage.name,),
        input=Input((Stream(stage.name),), stage.kind, combine=combine, reverse=stage.reverse),
        options=job_options(graph, stage, wanted.upstream),
        reasons=(f"{stage.name}: {what[stage.kind]}",),
    )


def _final_node(graph: nx.DiGraph, wanted: Needs, reason: str) -> Node:
    stage, upstream = wanted.stage, wanted.upstream
    assert stage.function is not None
    if not stage.associative:
        reason = "associative=False, so in order"
    elif wanted.binds:
        reason = "it has a bind"
    reads = Input.of(upstream.name, upstream.data) if reason else Input.of(stage.name)
    text = f"combines all items ({reason})" if reason else "combines what the chunks gave"
    function = stage.function if reason or stage.combine is None else stage.combine
    begun = stage.combine is not None and not reason
    return Node(
        name="",
        stages=(stage.name,),
        input=reads,
        reduction=Reduction(stage.name, function, True, stage.initial, wanted.binds, begun),
        outputs=(Output(stage.name, None),),
        binds=_merged_binds((), wanted.binds),
        options=job_options(graph, stage, upstream),
        reasons=(f"{stage.name}: one job {text}",),
    )
