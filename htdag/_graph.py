"""From chained handles to a networkx graph with a name for every stage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import networkx as nx

from htdag._names import unique_name
from htdag._options import Options
from htdag._resources import PerItem
from htdag.errors import OptionError, StageNameError, UsageError
from htdag.stages import PER_ITEM, VIEWS, Stage


def build(targets: Sequence[Stage], defaults: Options) -> tuple[nx.DiGraph, tuple[str, ...]]:
    """Return the graph of all stages that the targets need, and the names of the targets.

    Parameters
    ----------
    targets : sequence of Stage
        The stages whose results are asked for.
    defaults : Options
        Options for stages that do not give them.

    Returns
    -------
    graph : networkx.DiGraph
        Nodes are stage names with the attributes ``stage`` (the handle, with its final name and
        options) and ``target``. Edges have ``kind``: ``"items"``, or ``"bind"``; ``positions``,
        as which of the later stage's inputs the earlier one is read (once for most stages); and
        ``keywords``, those to which its whole result is bound.
    names : tuple of str
        The targets' names in the order given.
    """
    order = _upstream_first(targets)
    names = _names(order)
    # The chunk size is no default of each stage: stages fused into a node share that of its first.
    graph = nx.DiGraph(chunk_size=defaults.chunk_size)
    defaults = replace(defaults, chunk_size=None)
    wanted = {id(target) for target in targets}
    for stage in order:
        name = names[id(stage)]
        options = stage.options if stage.data is not None else stage.options.over(defaults)
        final = replace(stage, name=name, options=options)
        graph.add_node(name, stage=final, target=id(stage) in wanted)
        for position, other in enumerate(stage.inputs):
            edge = _edge(graph, names[id(other)], name, "items")
            edge["positions"] = (*edge["positions"], position)
        for keyword, other in stage.binds:
            edge = _edge(graph, names[id(other)], name, "bind")
            edge["keywords"] = (*edge["keywords"], keyword)
    for name, stage in graph.nodes(data="stage"):
        _check_requests(stage, name)
    return graph, tuple(names[id(target)] for target in targets)


def _check_requests(stage: Stage, name: str) -> None:
    """Refuse requests that depend on items which are not there before the run begins."""
    depends = [key for key, value in stage.options.given().items() if isinstance(value, PerItem)]
    if not depends:
        return
    if stage.kind not in PER_ITEM:
        raise OptionError(
            f"stage {name!r}: {depends[0]} is a function of the item, but a {stage.kind} takes no "
            f"single items; give a fixed value"
        )
    above = list(stage.inputs)
    while above:
        other = above.pop()
        if other.kind in VIEWS:
            above += other.inputs
        elif other.data is None:
            raise OptionError(
                f"stage {name!r}: {depends[0]} is a function of the item, but the items are made "
                f"by {other.name!r} during the run, while jobs ask before they have them; give a "
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


def _upstream_first(targets: Iterable[Stage]) -> list[Stage]:
    """Return all stages, each after those it needs; chains may be longer than the stack."""
    order: list[Stage] = []
    done: set[int] = set()
    for target in targets:
        if not isinstance(target, Stage):
            raise UsageError(
                f"a pipeline's targets are stages, not {type(target).__name__}: {target!r}"
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
            needs = [*(other for _, other in stage.binds), *reversed(stage.inputs)]
            stack.extend((need, False) for need in needs if id(need) not in done)
    return order


def _names(order: Sequence[Stage]) -> dict[int, str]:
    names: dict[int, str] = {}
    taken: set[str] = set()
    for stage in order:
        if stage.named:
            if stage.name.lower() in {name.lower() for name in taken}:
                raise StageNameError(
                    f"two stages of the pipeline are named {stage.name!r}; names must differ, in "
                    f"more than the case of letters; give one another name=..."
                )
            names[id(stage)] = stage.name
            taken.add(stage.name)
    for stage in order:
        if not stage.named:
            names[id(stage)] = unique_name(stage.name, taken)
            taken.add(names[id(stage)])
    return names
