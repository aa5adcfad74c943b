"""The second pass: what each node writes, and which node each input and bind comes from."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx

from htdag._names import unique_name
from htdag.errors import UsageError
from htdag.plan.fuse import job_options
from htdag.plan.model import Bind, Input, Node, Output
from htdag.stages import Stage

_LONGEST_NAME = 60


def add_outputs(graph: nx.DiGraph, nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Let each stage whose values are needed outside of its node leave it.

    Needed are the targets, whole results that are bound, and the inputs of other nodes. A source
    that is needed whole gets a node that only passes its items on.
    """
    made = {stage for node in nodes for stage in node.stages}
    partial = {output.stage for node in nodes for output in node.outputs}
    needed = {name for name, target in graph.nodes(data="target") if target}
    for node in nodes:
        needed.update(bind.stage for bind in node.binds)
        if node.input.source is None and node.input.stage in made - partial:
            needed.add(node.input.stage)
    combined = {
        output.after or node.input.stage
        for node in nodes
        for output in node.outputs
        if output.combine is not None
    }
    for stage in sorted(needed | combined):
        _check_not_files(graph, stage)
    complete: list[Node] = []
    for name in graph:
        stage_handle: Stage = graph.nodes[name]["stage"]
        if name in needed and stage_handle.data is not None:
            complete.append(
                Node(
                    name="",
                    stages=(name,),
                    input=Input(name, source=stage_handle.data),
                    outputs=(Output(name, None),),
                    options=job_options(graph, stage_handle, stage_handle),
                    reasons=(f"{name} is needed whole: a node passes its items on",),
                )
            )
    for node in nodes:
        outputs = list(node.outputs)
        for stage_name in node.stages:
            if stage_name in needed and node.reduction is None:
                outputs.append(Output(stage_name, stage_name))
        complete.append(replace(node, outputs=tuple(outputs)))
    return tuple(complete)


def _check_not_files(graph: nx.DiGraph, name: str) -> None:
    """Refuse to hand the items of `files` themselves from job to job or back to the user."""
    first = name
    while graph.nodes[first]["stage"].kind == "filter":
        first = next(u for u, _, kind in graph.in_edges(first, data="kind") if kind == "items")
    if graph.nodes[first]["stage"].kind == "files":
        raise UsageError(
            f"stage {name!r}: its items are files, which are there only in the job they were sent "
            f"to; map them to values (or path to name) in the same node first"
        )


def name_nodes(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Name each node after its stages."""
    taken: set[str] = set()
    named = []
    for node in nodes:
        stages = node.stages or tuple(output.stage + ".combine" for output in node.outputs[:1])
        name = ".".join(stages)
        if len(name) > _LONGEST_NAME and len(stages) > 1:
            name = f"{stages[0]}.to.{stages[-1]}"
        name = unique_name(name, taken)
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
            (where if output.combine is None else partial)[output.stage] = node.name
    connected = []
    for node in nodes:
        reads = node.input
        if reads.source is None:
            own = node.reduction is not None and node.reduction.stage == reads.stage
            reads = replace(reads, node=(partial if own else where)[reads.stage])
        binds = tuple(
            Bind(bind.stage, where[bind.stage], graph.nodes[bind.stage]["stage"].kind == "reduce")
            for bind in node.binds
        )
        connected.append(replace(node, input=reads, binds=binds))
    order = nx.DiGraph()
    by_name = {node.name: node for node in connected}
    order.add_nodes_from(by_name)
    order.add_edges_from((parent, node.name) for node in connected for parent in node.parents)
    position = {name: number for number, name in enumerate(by_name)}
    ordered = nx.lexicographical_topological_sort(order, key=position.__getitem__)
    return tuple(by_name[name] for name in ordered), where
