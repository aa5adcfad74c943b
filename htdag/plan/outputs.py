"""What each node writes, and which node writes what it reads: the passes *outputs* to *limits*."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from htdag.checks.names import node_name, unique_name
from htdag.plan.fuse import job_options
from htdag.plan.model import Node
from htdag.plan.parts import Input, Output
from htdag.stages.graph import stage_of
from htdag.stages.operations import Keyed, Partitioned, SortBy

if TYPE_CHECKING:
    import networkx as nx

_LONGEST_NAME = 60


def add_outputs(graph: nx.DiGraph, nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Add an output for each stage whose values are needed outside of its node.

    These are the targets, bound results, and the inputs of other nodes. A source that is a target
    gets a node that only passes its items on.
    """
    targets = {name for name, target in graph.nodes(data="target") if target}
    needed = set(targets)
    for node in nodes:
        needed.update(bind.stage for bind in node.binds)
        needed.update(
            stream.stage
            for stream in node.input.streams
            if stream.source is None and stream.stage not in _made_in_parts(node)
        )
    complete: list[Node] = []
    for name in graph:
        stage = stage_of(graph, name)
        if name in targets and stage.source is not None:
            complete.append(
                Node(
                    name="",
                    stages=(name,),
                    input=Input.of(name, stage.source),
                    outputs=(Output(name, None),),
                    options=job_options(graph, stage, stage),
                    reasons=(f"{name} is a target: a node passes its items on",),
                )
            )
    for node in nodes:
        outputs = [_with_partitions(graph, output) for output in node.outputs]
        steps = {step.stage for step in node.steps}
        for name in node.stages:
            if name in needed and node.reduction is None:
                output = Output(name, name if name in steps else None)
                outputs.append(_with_partitions(graph, output))
        complete.append(replace(node, outputs=tuple(outputs)))
    return tuple(complete)


def _made_in_parts(node: Node) -> set[str]:
    """Return the stages of a node whose map side other nodes do."""
    if node.reduction is not None:
        return {node.reduction.stage}
    return set(node.stages[:1]) if isinstance(node.input.operation, Keyed) else set()


def _with_partitions(graph: nx.DiGraph, output: Output) -> Output:
    """Return an output with the number of partitions that the user set."""
    match stage_of(graph, output.stage).operation:
        case Partitioned(partitions=partitions) if not output.whole:
            return replace(output, parts=partitions or 0)
        case SortBy(partitions=partitions) if output.whole:
            return replace(output, parts=partitions or 0)
    return output


def name_nodes(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Name each node after its stages."""
    taken: set[str] = set()
    named = []
    for node in nodes:
        stages = node.stages or tuple(output.stage + ".combine" for output in node.outputs[:1])
        name = ".".join(stages)
        if len(name) > _LONGEST_NAME and len(stages) > 1:
            name = f"{stages[0]}.to.{stages[-1]}"
        name = unique_name(node_name(name), taken)
        taken.add(name)
        named.append(replace(node, name=name))
    return tuple(named)


def connect(graph: nx.DiGraph, nodes: tuple[Node, ...]) -> tuple[tuple[Node, ...], dict[str, str]]:
    """Fill in which node each input and bind comes from, and sort the nodes topologically.

    Returns
    -------
    nodes : tuple of Node
        Parents before children.
    where : dict of str to str
        The node that writes the whole values of each stage.
    """
    where: dict[str, str] = {}
    partial: dict[str, str] = {}
    for node in nodes:
        for output in node.outputs:
            (where if output.whole else partial)[output.stage] = node.name
    connected = []
    for node in nodes:
        reads = node.input
        in_parts = _made_in_parts(node)
        streams = tuple(
            stream
            if stream.source is not None
            else replace(
                stream, node=(partial if stream.stage in in_parts else where)[stream.stage]
            )
            for stream in reads.streams
        )
        binds = tuple(
            replace(bind, node=where[bind.stage], one=stage_of(graph, bind.stage).one)
            if stage_of(graph, bind.stage).source is None
            else replace(bind, one=stage_of(graph, bind.stage).one)
            for bind in node.binds
        )
        connected.append(replace(node, input=replace(reads, streams=streams), binds=binds))
    import networkx as nx  # late, since importing it takes longer than all of htdag

    order = nx.DiGraph()
    by_name = {node.name: node for node in connected}
    order.add_nodes_from(by_name)
    order.add_edges_from((parent, node.name) for node in connected for parent in node.parents)
    position = {name: number for number, name in enumerate(by_name)}
    ordered = nx.lexicographical_topological_sort(order, key=position.__getitem__)
    return tuple(by_name[name] for name in ordered), where


def can_stop_early(node: Node, nodes: Collection[Node], targets: Collection[str]) -> int | None:
    """Return how many of its first items a node needs to read; None for all.

    Parameters
    ----------
    node : Node
        The node.
    nodes : collection of Node
        All nodes, those after it with their limits.
    targets : collection of str
        The target stages.

    Notes
    -----
    A node can stop early if each item makes just one value and cannot be skipped
    (``on_error="skip"``), and if whatever reads the node takes only the first items.
    """
    made = {output.stage for output in node.outputs}
    one_by_one = (
        node.input.keeps_positions
        and node.reduction is None
        and node.check is None
        and node.options.on_error != "skip"
        and all(step.operation.one_of_one for step in node.steps)
        and all(output.whole for output in node.outputs)
    )
    if not one_by_one or made & set(targets):
        return None
    limits = []
    for other in nodes:
        if any(bind.node == node.name for bind in other.binds):
            return None
        if any(stream.node == node.name for stream in other.input.streams):
            if not other.input.keeps_positions or other.input.limit is None:
                return None
            limits.append(other.input.limit)
    return max(limits, default=None)


def push_limits(nodes: tuple[Node, ...], targets: Collection[str]) -> tuple[Node, ...]:
    """Limit the input of nodes of which only the first items are used.

    Parameters
    ----------
    nodes : tuple of Node
        Connected nodes in topological order.
    targets : collection of str
        The target stages.
    """
    limited = {node.name: node for node in nodes}
    for name in reversed(list(limited)):
        node = limited[name]
        limit = can_stop_early(node, limited.values(), targets)
        before = node.input.limit
        if limit is not None and (before is None or limit < before):
            items = "item" if limit == 1 else f"{limit:,} items"
            text = f"reads only the first {items}: no more are taken of what it makes"
            limited[name] = replace(
                node,
                input=replace(node.input, limit=limit),
                reasons=(*node.reasons, text),
            )
    return tuple(limited.values())
