"""The networkx graph of chained stages, with a unique name for every stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from htdag.checks.names import unique_name
from htdag.checks.validation import shown
from htdag.errors import OptionError, StageNameError, UsageError
from htdag.options.resources import PerItem
from htdag.options.stage_options import Options
from htdag.stages.loops import Iterate
from htdag.stages.operations import Elementwise, Import, State, View
from htdag.stages.sources import LateSource
from htdag.stages.stage import Stage

if TYPE_CHECKING:
    import networkx as nx


def stage_of(graph: nx.DiGraph, name: str) -> Stage:
    """Return the stage of a name."""
    stage: Stage = graph.nodes[name]["stage"]
    return stage


def build(targets: Sequence[Stage], defaults: Options) -> tuple[nx.DiGraph, tuple[str, ...]]:
    """Return the graph of all stages that the targets need, and the names of the targets.

    Parameters
    ----------
    targets : sequence of Stage
        The target stages.
    defaults : Options
        The default options of stages.

    Returns
    -------
    graph : networkx.DiGraph
        Nodes are stage names with the attributes ``stage`` (the handle, with its final name and
        options) and ``target``. Edges have ``kind``: ``"items"`` or ``"bind"``; ``positions``, the
        inputs of the later stage that the earlier one is (usually one); and ``keywords``, the
        arguments to which its result is bound. A loop has ``inner``, the graph of one round, in
        which its state and outside stages are sources; and ``names``, the names of its state and
        result there, and of the input of `until` ("" if that is the result).
    names : tuple of str
        The targets' names, in the order of `targets`.
    """
    names = _names(_upstream_first(targets, into_loops=True))
    graph = _assembled(targets, targets, defaults, names, frozenset())
    for name, stage in graph.nodes(data="stage"):
        _check_requests(stage, name)
    return graph, tuple(names[id(target)] for target in targets)


def _assembled(
    ends: Sequence[Stage],
    targets: Sequence[Stage],
    defaults: Options,
    names: dict[int, str],
    given: frozenset[int],
) -> nx.DiGraph:
    """Return the graph of all that some stages need, without what `given` stages need."""
    # The chunk size is not a default of each stage: fused stages share that of the first one.
    import networkx as nx  # late, since importing it takes longer than all of htdag

    graph = nx.DiGraph(chunk_size=defaults.chunk_size)
    each = replace(defaults, chunk_size=None)
    target_ids = {id(target) for target in targets}
    for stage in _upstream_first(ends, given=given):
        name = names[id(stage)]
        if id(stage) in given:
            graph.add_node(name, stage=_placeholder(stage, name), target=False)
            continue
        if isinstance(stage.operation, State):
            raise UsageError(
                "a stage inside the step of a loop is used outside of it; continue from the stage "
                "that htdag.iterate returned"
            )
        options = stage.options.with_defaults(each) if stage.source is None else stage.options
        if stage.options.max_errors and options.on_error != "skip":
            raise OptionError(
                f"stage {name!r}: max_errors={stage.options.max_errors} has no effect with "
                f"on_error={options.on_error or 'finish'!r}; to go on without this many failed "
                f"items, give on_error='skip', too"
            )
        final = replace(stage, name=name, options=options)
        graph.add_node(name, stage=final, target=id(stage) in target_ids)
        for position, other in enumerate(stage.inputs):
            edge = _edge(graph, names[id(other)], name, "items")
            edge["positions"] = (*edge["positions"], position)
        for keyword, other in stage.binds:
            edge = _edge(graph, names[id(other)], name, "bind")
            edge["keywords"] = (*edge["keywords"], keyword)
        if isinstance(stage.operation, Iterate):
            loop = stage.operation
            # Category and priority belong to the loop as a whole.
            inner = replace(stage.options, category=None, node_priority=None)
            graph.nodes[name]["inner"] = _assembled(
                loop.ends,
                (loop.result,),
                inner.with_defaults(defaults),
                names,
                frozenset({id(loop.state), *map(id, stage.inputs[1:])}),
            )
            for within, stage_within in graph.nodes[name]["inner"].nodes(data="stage"):
                _refuse_functions(stage_within, within, name)
            graph.nodes[name]["names"] = {
                "state": names[id(loop.state)],
                "result": names[id(loop.result)],
                "until": "" if loop.every is None else names[id(loop.every)],
            }
    return graph


def _refuse_functions(stage: Stage, name: str, loop: str) -> None:
    """Raise `OptionError` for requests that depend on items made in the rounds of a loop."""
    for option, value in stage.options.given().items():
        if isinstance(value, PerItem) and not isinstance(stage.operation, State | Import):
            raise OptionError(
                f"stage {name!r}: {option} is a function of the item, but in the loop {loop!r} the "
                f"items are made during the run, after jobs have made their requests; give a "
                f"fixed value"
            )


def _placeholder(stage: Stage, name: str) -> Stage:
    """Return what represents the state, or an outside stage, in the graph of a round."""
    stands_for = State if isinstance(stage.operation, State) else Import
    return Stage(
        stands_for(LateSource(), stage.one),
        name=name,
        named=stage.named,
        options=Options() if stage.source is None else stage.options,
    )


def inner_graphs(graph: nx.DiGraph) -> Iterator[nx.DiGraph]:
    """Yield the graphs of the rounds of a graph's loops, and of the loops in them."""
    for _, inner in graph.nodes(data="inner"):
        if inner is not None:
            yield inner
            yield from inner_graphs(inner)


def categories(graph: nx.DiGraph) -> dict[str, str]:
    """Return the categories of stages, including those in loops, each with one of its stages."""
    return {
        stage.options.category: stage.name
        for each in (graph, *inner_graphs(graph))
        for _, stage in each.nodes(data="stage")
        if stage.options.category is not None
    }


def _check_requests(stage: Stage, name: str) -> None:
    """Raise `OptionError` for requests that depend on items made during the run."""
    depends = [key for key, value in stage.options.given().items() if isinstance(value, PerItem)]
    if not depends:
        return
    if not isinstance(stage.operation, Elementwise):
        raise OptionError(
            f"stage {name!r}: {depends[0]} is a function of the item, but a {stage.kind} does not "
            f"process single items; give a fixed value"
        )
    above = list(stage.inputs)
    while above:
        other = above.pop()
        if isinstance(other.operation, View):
            above += other.inputs
        elif other.source is None:
            raise OptionError(
                f"stage {name!r}: {depends[0]} is a function of the item, but the items are made "
                f"by {other.name!r} during the run, after jobs have made their requests; give a "
                f"fixed value, or apply the function to the items of a source"
            )


def upstreams(graph: nx.DiGraph, name: str) -> tuple[str, ...]:
    """Return the names of the stages whose items a stage reads, in the order of its inputs."""
    by_position = {
        position: above
        for above, _, positions in graph.in_edges(name, data="positions")
        for position in positions
    }
    return tuple(by_position[position] for position in sorted(by_position))


def _edge(graph: nx.DiGraph, above: str, name: str, kind: str) -> dict[str, Any]:
    if not graph.has_edge(above, name):
        graph.add_edge(above, name, kind=kind, positions=(), keywords=())
    return cast("dict[str, Any]", graph.edges[above, name])


def _upstream_first(
    targets: Iterable[Stage], *, into_loops: bool = False, given: frozenset[int] = frozenset()
) -> list[Stage]:
    """Return all stages, each after those that it needs, without recursion.

    Stages inside loops are included only with `into_loops`, and none that only `given` stages need.
    """
    order: list[Stage] = []
    done: set[int] = set()
    for target in targets:
        if not isinstance(target, Stage):
            raise UsageError(
                f"a pipeline's targets are stages, not {type(target).__name__}: {shown(target)}"
            )
        stack = [(target, False)]
        while stack:
            stage, expanded = stack.pop()
            if id(stage) in done:
                continue
            if expanded:
                done.add(id(stage))
                order.append(stage)
                continue
            stack.append((stage, True))
            if id(stage) in given:
                continue
            needs = [*(other for _, other in stage.binds), *reversed(stage.inputs)]
            if into_loops and isinstance(stage.operation, Iterate):
                needs = [*reversed(stage.operation.ends), *needs]
            stack.extend((need, False) for need in needs if id(need) not in done)
    return order


def _names(order: Sequence[Stage]) -> dict[int, str]:
    names: dict[int, str] = {}
    taken: set[str] = set()
    for stage in order:
        if stage.named:
            if stage.name.lower() in {name.lower() for name in taken}:
                raise StageNameError(
                    f"two stages of the pipeline are named {stage.name!r}; names must differ in "
                    f"more than upper and lower case; give one of them another name=..."
                )
            names[id(stage)] = stage.name
            taken.add(stage.name)
    for stage in order:
        if not stage.named:
            names[id(stage)] = unique_name(stage.name, taken)
            taken.add(names[id(stage)])
    return names
