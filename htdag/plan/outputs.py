"""The pass *join*: what each node writes, and which node each input and bind comes from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from htdag.checks.names import node_name, unique_name
from htdag.plan.fuse import job_options
from htdag.plan.model import Node
from htdag.plan.parts import Input, Output
from htdag.runtime.data.keyed import BY_HASH
from htdag.stages import KEYED, Stage

if TYPE_CHECKING:
    import networkx as nx

_LONGEST_NAME = 60


def add_outputs(graph: nx.DiGraph, nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Let each stage whose values are needed outside of its node leave it.

    Needed are the targets, whole results that are bound, and the inputs of other nodes. A source
    that is a target gets a node that only passes its items on.
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
        stage_handle: Stage = graph.nodes[name]["stage"]
        if name in targets and stage_handle.data is not None:
            complete.append(
                Node(
                    name="",
                    stages=(name,),
                    input=Input.of(name, stage_handle.data),
                    outputs=(Output(name, None),),
                    options=job_options(graph, stage_handle, stage_handle),
                    reasons=(f"{name} is a target: a node passes its items on",),
                )
            )
    for node in nodes:
        outputs = [_with_partitions(graph, output) for output in node.outputs]
        by_operation = {operation.stage for operation in node.operations}
        for stage_name in node.stages:
            if stage_name in needed and node.reduction is None:
                output = Output(stage_name, stage_name if stage_name in by_operation else None)
                outputs.append(_with_partitions(graph, output))
        complete.append(replace(node, outputs=tuple(outputs)))
    return tuple(complete)


def _made_in_parts(node: Node) -> set[str]:
    """Return the stage of a node that reads what was made of its items elsewhere, in parts."""
    if node.reduction is not None:
        return {node.reduction.stage}
    return set(node.stages[:1]) if node.input.view in KEYED else set()


def _with_partitions(graph: nx.DiGraph, output: Output) -> Output:
    """Note how many partitions the user asked for."""
    stage: Stage = graph.nodes[output.stage]["stage"]
    wanted = output.kind in BY_HASH or (output.whole and stage.kind == "sort_by")
    return replace(output, parts=stage.partitions or 0) if wanted else output


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
        own = _made_in_parts(node)
        streams = tuple(
            stream
            if stream.source is not None
            else replace(stream, node=(partial if stream.stage in own else where)[stream.stage])
            for stream in reads.streams
        )
        binds = tuple(
            replace(bind, node=where[bind.stage], one=graph.nodes[bind.stage]["stage"].one)
            if graph.nodes[bind.stage]["stage"].data is None
            else replace(bind, one=graph.nodes[bind.stage]["stage"].one)
            for bind in node.binds
        )
        connected.append(replace(node, input=replace(reads, streams=streams), binds=binds))
    import networkx as nx  # here, since it takes longer to import than all of htdag

    order = nx.DiGraph()
    by_name = {node.name: node for node in connected}
    order.add_nodes_from(by_name)
    order.add_edges_from((parent, node.name) for node in connected for parent in node.parents)
    position = {name: number for number, name in enumerate(by_name)}
    ordered = nx.lexicographical_topological_sort(order, key=position.__getitem__)
    return tuple(by_name[name] for name in ordered), where
