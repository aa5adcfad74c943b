"""A plan in words: what will run, and why."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from htdag._graph import upstreams
from htdag._pickling import function_name
from htdag._text import counted, duration
from htdag.plan import Chain, Node, Output, Plan
from htdag.plan.fuse import BUILT_IN
from htdag.stages import KEYED, MISSING, VIEWS, Stage

WIDTH = 96
_LABEL = 9  # the longest label of a node's lines, and a space
_LONGEST_VALUE = 30


def explain(plan: Plan) -> str:
    """Return a plan as text: its stages, its DAGMan nodes, and the reason for every decision.

    Parameters
    ----------
    plan : Plan
        What to explain.

    Returns
    -------
    str
        Lines of at most 96 characters, longer only for a word that is; the same plan gives the
        same text.
    """
    stages = counted(len(plan.stages), "stage")
    nodes = counted(len(plan.nodes), "DAGMan node")
    size = f"{stages} in {nodes}, {counted(plan.jobs, 'job')}"
    lines = list(_hanging(f"Pipeline {plan.name}: ", size, 2))
    limits = ", ".join(f"{name}={value}" for name, value in plan.throttles.given().items())
    if limits:
        lines += _hanging("  with ", limits, 7)
    lines += ["", "Stages", *_stage_lines(plan), "", "DAGMan nodes"]
    numbers = {node.name: number for number, node in enumerate(plan.nodes, 1)}
    for node in plan.nodes:
        lines += _node_lines(plan, node, numbers)
    if plan.chains:
        lines += ["", "Lanes"]
        for chain in plan.chains:
            lines += _chain_lines(chain)
    lines += ["", "What would change it", *_change_lines(plan)]
    return "\n".join(lines)


def called(kind: str, function: Callable[..., Any] | None, stage: str) -> str:
    """Return the kind of a stage, with its function's name where the stage has another.

    Examples
    --------
    >>> called("map", abs, "size")
    'map abs()'
    >>> called("map", abs, "abs")
    'map'
    """
    name = "".join(char if char.isprintable() else "?" for char in function_name(function))
    return kind if name in ("", stage) else f"{kind} {_shortened(name)}()"


def _stage_lines(plan: Plan) -> Iterator[str]:
    width = min(max(len(name) for name in plan.stages), 30)
    for name in plan.stages:
        stage: Stage = plan.stages.nodes[name]["stage"]
        start = f"  {name:<{width}}  "
        if len(name) > width:
            yield f"  {name}"
            start = " " * (width + 4)
        yield from _hanging(start, "; ".join(_stage_facts(plan, stage)), width + 4)


def _stage_facts(plan: Plan, stage: Stage) -> Iterator[str]:
    """Yield what the user wrote, but for the options: those are the nodes'."""
    if stage.data is not None:
        what = "file" if stage.kind == "files" else "item"
        yield f"source of {counted(len(stage.data), what)}"
    else:
        edges = list(plan.stages.in_edges(stage.name, data=True))
        above = ", ".join(upstreams(plan.stages, stage.name))
        what = called(
            stage.kind, None if stage.one and stage.kind == "count" else stage.function, stage.name
        )
        if stage.number:
            what += f" {stage.number}"
        yield f"{what} over {above}"
        for above, _, edge in edges:
            for keyword in edge["keywords"]:
                yield f"bind {keyword}" + ("" if keyword == above else f"={above}")
    yield from _stage_arguments(stage)
    if stage.name in plan.targets:
        yield "result"


def _stage_arguments(stage: Stage) -> Iterator[str]:
    if stage.key is not None and stage.key is not stage.function:
        yield f"key={function_name(stage.key) or '<lambda>'}"
    if stage.reverse:
        yield "reverse=True"
    if stage.partitions is not None:
        yield f"partitions={stage.partitions}"
    if stage.one and stage.kind != "count":
        if not stage.associative:
            yield "associative=False"
        if stage.initial is not MISSING:
            yield f"initial={_value(stage.initial)}"
        if stage.fan_in is not None:
            yield f"fan_in={stage.fan_in}"


def _node_lines(plan: Plan, node: Node, numbers: dict[str, int]) -> Iterator[str]:
    yield from _hanging(f"  {numbers[node.name]}. ", f"{node.name}: {_size(node)}", 5)
    yield from _entry("reads", "; ".join(_reads(node, numbers)))
    yield from _entry("runs", _runs(node))
    yield from _entry("writes", "; ".join(_written(plan, node, output) for output in node.outputs))
    yield from _entry("options", ", ".join(_options(node)))
    yield from _entry("measured", node.measured)
    for position, reason in enumerate(node.reasons):
        yield from _entry("why" if position == 0 else "", reason, bullet="- ")


def _chain_lines(chain: Chain) -> Iterator[str]:
    """Yield whether nodes are in lanes, why, and what both ways cost."""
    how = f"{chain.lanes} lanes" if chain.lanes > 1 else "one after the other"
    yield from _hanging("  ", f"{', '.join(chain.nodes)}: {how}; {chain.reason}", 4)
    if chain.plain is not None and chain.laned is not None:
        cost = f"one after the other about {duration(chain.plain)}, "
        cost += f"in {chain.tried} lanes about {duration(chain.laned)}, by what was measured"
        yield from _hanging("    ", cost, 4)


def _change_lines(plan: Plan) -> Iterator[str]:
    """Yield what a user can do to have another plan, as far as it would change this one."""
    ways = ["chunk_size=N on a stage or its source sets the items of a job"]
    if any(len(node.stages) > 1 for node in plan.nodes):
        ways[0] += "; fuse=False gives a stage jobs of its own"
    if not any(node.measured for node in plan.nodes):
        ways.append(
            "earlier runs: jobs, memory and disk that are left open follow what they measured, "
            "unless history=False"
        )
    else:
        ways.append("request_memory=... and request_disk=... set what jobs ask for")
        if any(node.jobs for node in plan.nodes):
            ways.append("target_job_seconds=... or other slots give another number of jobs")
        ways.append("every run is measured, and later plans follow; history=False plans without")
    for way in ways:
        yield from _hanging("  - ", way, 4)


def _size(node: Node) -> str:
    size = counted(node.chunks, "job")
    if node.lanes > 1:
        size += f" in {node.lanes} lanes"
    if node.reduction is not None:
        return size
    if node.items is None:
        return f"{size}, number of items known at run time"
    return f"{size}, {counted(node.items, 'item')}"


def _reads(node: Node, numbers: dict[str, int]) -> Iterator[str]:
    reads = node.input
    for stream in reads.streams:
        own = node.reduction is not None and stream.stage == node.reduction.stage
        what = "parts" if own else "items"
        if stream.node is None:
            yield f"the source {stream.stage}"
        else:
            yield f"the {what} of {stream.stage} from node {numbers[stream.node]}"
    for bind in node.binds:
        what = "the value" if bind.one else "all items"
        where = "the source" if bind.node is None else f"node {numbers[bind.node]}"
        yield f"{what} of {bind.stage} from {where}, in every job"


def _runs(node: Node) -> str:
    if node.reduction is not None:
        what = "reduce" if node.reduction.final else "combine"
        return f"{what} {node.reduction.stage}"
    view = node.input.view if node.input.limit is None else f"take {node.input.limit}"
    steps = [] if view == "items" else [f"{view} {node.stages[0]}" if view in _VIEWED else view]
    steps += [f"{step.kind} {step.stage}" for step in node.operations]
    steps += [
        f"{_FIRST_PARTS[output.kind]} {output.stage}" for output in node.outputs if not output.whole
    ]
    return ", ".join(steps)


_VIEWED = KEYED | VIEWS
_FIRST_PARTS = {
    "reduce": "combine",
    "fold": "accumulate",
    "reduce_by_key": "combine by key",
    "distinct": "drop repeated",
    "group_by": "part by key",
    "sort_by": "find keys of",
}


def _written(plan: Plan, node: Node, output: Output) -> str:
    inside_tree = node.reduction is not None and not node.reduction.final
    if output.split == "hash":
        return f"{output.stage}, in {counted(output.parts, 'partition')} from each job"
    if output.kind == "sort_by":
        return f"{output.stage}, with keys"
    if not output.whole or inside_tree:
        return f"parts of {output.stage}, one from each job"
    if output.split == "rank" and output.parts > 1:
        return f"{output.stage}, in {output.parts:,} files" + (
            " (result)" if output.stage in plan.targets else ""
        )
    return output.stage + (" (result)" if output.stage in plan.targets else "")


def _options(node: Node) -> Iterator[str]:
    """Yield the options of a node that were given; its reasons tell of the chunk size."""
    default = BUILT_IN.given()
    for name, value in node.options.given().items():
        if name != "chunk_size" and default.get(name) != value:
            yield f"{name}={dict(value) if isinstance(value, tuple) else value!r}"


def _value(value: Any) -> str:
    """Return a value as in a script, or only its type where that could be long or vary."""
    plain = value is None or isinstance(value, bool | int | float | str)
    empty = isinstance(value, dict | list | tuple) and not value
    return _shortened(repr(value)) if plain or empty else f"<{type(value).__name__}>"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _entry(label: str, text: str, bullet: str = "") -> Iterator[str]:
    if not text:
        return
    start = f"     {label:<{_LABEL}}{bullet}"
    yield from _hanging(start, text, len(start))


def _hanging(start: str, text: str, indent: int) -> Iterator[str]:
    yield from textwrap.wrap(
        text,
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
