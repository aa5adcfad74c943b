"""Diagrams of pipelines: stages in the DAGMan nodes that run them.

Labels are plain text, not Graphviz's HTML-like labels, which the renderer for machines without
Graphviz does not support.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import graphviz

from htdag.common.text import counted
from htdag.errors import UsageError
from htdag.functions.pickling import function_name
from htdag.plan import Node, Plan, Round
from htdag.show import diagram_style, rendering
from htdag.stages import Stage
from htdag.stages.graph import stage_of
from htdag.stages.operations import Files, Keyed

LEVELS = ("stages", "nodes")
_LONGEST_LINE = 34
_LONGEST_ROW = 24  # characters of a node's name in a row


@dataclass(frozen=True)
class _Box:
    """A box inside a node: a stage, or a part of a reduce."""

    stage: str
    lines: tuple[str, ...]
    look: dict[str, str]
    reads: tuple[str, str]
    binds: tuple[tuple[str, tuple[str, str]], ...] = ()
    final: bool = True


def draw(plan: Plan, path: str | os.PathLike[str] | None, level: str) -> graphviz.Digraph:
    """Draw a plan, and write the picture to a file.

    Parameters
    ----------
    plan : Plan
        The plan.
    path : path or None
        The file to write, in the format that its suffix gives; None: write no file.
    level : {"stages", "nodes"}
        Draw stages, grouped by the DAGMan node that runs them, or the DAGMan nodes alone.

    Returns
    -------
    graphviz.Digraph
        The drawing.

    Raises
    ------
    UsageError
        If the level, the format or the path is not usable, or the format needs the program ``dot``
        and it is not installed.
    """
    if level not in LEVELS:
        raise UsageError(f"render: level is 'stages' or 'nodes', not {level!r}")
    target = None if path is None else rendering.checked_path(path)
    diagram = rendering.Diagram(
        plan.name,
        graph_attr=diagram_style.GRAPH,
        node_attr=diagram_style.NODE,
        edge_attr=diagram_style.EDGE,
    )
    if level == "stages":
        _add_stages(diagram, plan)
    else:
        _add_nodes(diagram, plan)
    if target is not None:
        rendering.write(diagram, target)
    return diagram


_Drawn = dict[tuple[str, str], str]
"""The box that stands for the values of a stage, by node and stage, if it is not the usual one."""
_Edges = list[tuple[str, str, dict[str, Any]]]


def _add_stages(diagram: graphviz.Digraph, plan: Plan) -> None:
    for source in _sources_read(plan):
        _add_source(diagram, stage_of(plan.stages, source))
    edges: _Edges = []
    _add_plan(diagram, plan, {}, edges, set(plan.targets))
    # Edges come last: Graphviz puts a box into the innermost frame that mentions it.
    for tail, head, attributes in edges:
        diagram.edge(tail, head, **attributes)


def _add_plan(
    graph: graphviz.Digraph, plan: Plan, drawn: _Drawn, edges: _Edges, targets: set[str]
) -> None:
    for node in plan.nodes:
        if node.round is not None:
            _add_loop(graph, plan, node, node.round, drawn, edges, targets)
            continue
        boxes = list(_boxes(plan, node))
        first = [box for box in boxes if box.reads[0] != node.name]
        with graph.subgraph(name=f"cluster_{node.name}") as cluster:
            cluster.attr(
                label=_label(_padded((*_name_in_rows(node.name), _node_line(node))), end="\\l"),
                tooltip=_label(node.reasons),
                **diagram_style.CLUSTER,
            )
            for box in boxes:
                marked = box.final and box.stage in targets
                _add_box(cluster, _id(node.name, box.stage), box.lines, box.look, marked)
            if len(first) > 1:  # one input, read once, that several stages use
                cluster.node(
                    _id(node.name, ""), label="", tooltip=node.input.stage, **diagram_style.FORK
                )
                cluster.edges((_id(node.name, ""), _id(node.name, box.stage)) for box in first)
        edges += _edges_of(node, boxes, first, drawn)


def _add_loop(
    graph: graphviz.Digraph,
    plan: Plan,
    node: Node,
    made: Round,
    drawn: _Drawn,
    edges: _Edges,
    targets: set[str],
) -> None:
    """Draw a loop as a frame around the nodes of a round, with an arrow back to its state."""
    (name,) = node.stages
    state = _id(node.name, made.state)
    within: _Drawn = {("", made.state): state}
    for stream in node.input.streams[1:]:
        within["", stream.stage] = _at(drawn, stream.node or "", stream.stage)
    frame = f"cluster_{node.name}"
    with graph.subgraph(name=frame) as cluster:
        lines = [f"loop {name}", f"at most {counted(made.max_rounds, 'round')}"]
        until = plan.stages.nodes[name]["stage"].operation.until
        if until is not None:
            lines.append(f"until {function_name(until) or 'it is over'}")
        label = _label(tuple(lines), end="\\l")
        cluster.attr(label=label, tooltip=_label(node.reasons), **diagram_style.LOOP)
        what = "one value" if made.one else "items"
        _add_box(cluster, state, (made.state, what), diagram_style.STATE, False)
        marked = {made.result} if name in targets else set()
        _add_plan(cluster, made.plan, within, edges, marked)
    begins = _at(drawn, node.input.node or "", node.input.stage)
    edges.append((begins, state, {"lhead": frame, "minlen": "2"}))
    result = _at(within, made.plan.where[made.result], made.result)
    # An edge from the state to the result, drawn backwards, gets more room than one back.
    edges.append((state, result, {"tooltip": "the next round", **diagram_style.NEXT_ROUND}))
    drawn[node.name, name] = result


def _edges_of(node: Node, boxes: list[_Box], first: list[_Box], drawn: _Drawn) -> _Edges:
    # Arrows to the first stage of a node end at its border, so that they do not cross its label.
    border = {"lhead": f"cluster_{node.name}", "minlen": "2"}
    entry = first[0].stage if len(first) == 1 else ""
    edges: _Edges = []
    for stream in dict.fromkeys(node.input.streams):
        tail = _at(drawn, stream.node or "", stream.stage)
        edges.append((tail, _id(node.name, entry), border))
    for box in boxes:
        head = _id(node.name, box.stage)
        if box not in first:
            edges.append((_id(*box.reads), head, {}))
        ending = border if box.stage == entry else {"minlen": "2"}
        for origin, keywords in _by_origin(box.binds).items():
            label = _label((f"  {', '.join(keywords)}  ",))
            edges.append(
                (_at(drawn, *origin), head, {"label": label, **diagram_style.BIND, **ending})
            )
    return edges


def _by_origin(
    binds: tuple[tuple[str, tuple[str, str]], ...],
) -> dict[tuple[str, str], list[str]]:
    origins: dict[tuple[str, str], list[str]] = {}
    for keyword, origin in binds:
        origins.setdefault(origin, []).append(keyword)
    return origins


def _sources_read(plan: Plan) -> Iterator[str]:
    read = {stream.stage for node in plan.nodes for stream in node.input.streams if stream.source}
    read |= {bind.stage for node in plan.nodes for bind in node.binds if bind.node is None}
    yield from (stage for stage in plan.stages if stage in read)


def _add_source(diagram: graphviz.Digraph, stage: Stage) -> None:
    lines = (stage.name, stage.operation.title(stage.name))
    shape = "folder" if isinstance(stage.operation, Files) else "cylinder"
    look = {**diagram_style.SOURCE, "shape": shape, "style": "filled"}
    _add_box(diagram, _id("", stage.name), lines, look, False)


def _boxes(plan: Plan, node: Node) -> Iterator[_Box]:
    """Yield the boxes of a node, upstream first."""
    entry = (node.input.node or "", node.input.stage)
    bound = {bind.stage: (bind.node or "", bind.stage) for bind in node.binds}
    if node.reduction is not None:
        reduction = node.reduction
        binds = tuple((keyword, bound[stage]) for keyword, stage in reduction.binds)
        lines = _reduction_lines(plan, node)
        yield _Box(
            reduction.stage, lines, diagram_style.REDUCE, entry, binds, final=reduction.final
        )
        return
    if node.input.is_view:
        first = node.stages[0]
        keyed = isinstance(node.input.operation, Keyed)
        look = diagram_style.REDUCE if keyed else diagram_style.PER_ITEM
        yield _Box(first, (first, _title(plan, first)), look, entry)
        entry = (node.name, first)
    for step in node.steps:
        reads = entry if step.after is None else (node.name, step.after)
        binds = tuple((keyword, bound[stage]) for keyword, stage in step.binds)
        lines = (step.stage, _title(plan, step.stage))
        yield _Box(step.stage, lines, diagram_style.PER_ITEM, reads, binds)
    for output in node.outputs:
        reads = entry if output.after is None else (node.name, output.after)
        if output.map_side is not None:
            lines = (output.stage, output.map_side.words)
            yield _Box(output.stage, lines, diagram_style.PARTIAL, reads, final=False)
        elif output.after is None and not node.input.is_view:
            yield _Box(
                output.stage, (output.stage, "all items, passed on"), diagram_style.PER_ITEM, reads
            )


def _title(plan: Plan, name: str) -> str:
    stage = stage_of(plan.stages, name)
    return stage.operation.title(name)


def _reduction_lines(plan: Plan, node: Node) -> tuple[str, ...]:
    reduction = node.reduction
    assert reduction is not None
    if node.is_check_alone:
        return reduction.stage, "sees all items of the state"
    if not reduction.final:
        return reduction.stage, f"up to {counted(node.fan_in or 1, 'part')} a job"
    kind = _title(plan, reduction.stage)
    if node.input.stage == reduction.stage:
        return reduction.stage, kind, f"of {counted(plan[str(node.input.node)].chunks, 'part')}"
    return reduction.stage, kind, "all items in one job"


def _add_nodes(diagram: graphviz.Digraph, plan: Plan) -> None:
    finals = {plan.where[target] for target in plan.targets}
    for node in plan.nodes:
        look = diagram_style.PER_ITEM if node.reduction is None else diagram_style.REDUCE
        look = look if node.round is None else diagram_style.ROUND
        lines = (node.name, _node_line(node))
        _add_box(diagram, node.name, lines, look, node.name in finals, _label(node.reasons))
    diagram.edges(plan.graph.edges)


def _node_line(node: Node) -> str:
    if node.round is not None:
        return f"loop of at most {counted(node.round.max_rounds, 'round')}"
    line = counted(node.chunks, "job")
    if not node.settled and node.chunks > 1:
        line = f"about {line}"
    if node.lanes > 1:
        line += f" in {node.lanes} lanes"
    if node.items is not None and node.reduction is None:
        line += f" · {counted(node.items, 'item')}"
    return line


def _add_box(
    graph: graphviz.Digraph,
    name: str,
    lines: tuple[str, ...],
    look: dict[str, str],
    target: bool,
    tooltip: str = "",
) -> None:
    if target:
        lines = (*lines[:-1], f"{lines[-1]} · result")
        look = {**look, **diagram_style.TARGET}
    label = _label(lines)
    graph.node(name, label=label, tooltip=tooltip or label, **look)


def _at(drawn: _Drawn, node: str, stage: str) -> str:
    return drawn.get((node, stage), _id(node, stage))


def _id(node: str, stage: str) -> str:
    return f"{node}/{stage}"


def _name_in_rows(name: str) -> list[str]:
    """Split a long node name after dots, since a viewer's font may be wider than Graphviz's."""
    lines = [""]
    for part in re.split(r"(?<=\.)", name):
        if lines[-1] and len(lines[-1]) + len(part) > _LONGEST_ROW:
            lines.append("")
        lines[-1] += part
    return lines


def _padded(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Return lines with trailing blanks: a frame is as wide as its label, and fonts differ."""
    return tuple(line + " " * (1 + len(line) // 6) for line in lines)


def _label(lines: tuple[str, ...], end: str = "\\n") -> Any:
    """Return lines as a label, with the characters escaped that mean something to Graphviz."""
    safe = []
    for line in lines:
        printable = "".join(char if char.isprintable() else "?" for char in line)
        safe += [part.replace("\\", "\\\\").replace("&", "&amp;") for part in _wrapped(printable)]
    return graphviz.nohtml(end.join([*safe, ""] if end == "\\l" else safe))


def _wrapped(line: str) -> Iterator[str]:
    """Break a long line after a blank or punctuation, so that boxes do not get too wide."""
    while len(line) > _LONGEST_LINE:
        cut = max(line.rfind(mark, 8, _LONGEST_LINE) for mark in " ._-") + 1
        cut = cut or _LONGEST_LINE
        yield line[:cut].rstrip()
        line = line[cut:]
    yield line
