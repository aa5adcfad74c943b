"""A plan in words: what will run, and why."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from htdag._graph import upstreams
from htdag._pickling import function_name
from htdag._text import counted, duration
from htdag.plan import Chain, Node, Output, Plan
from htdag.plan.fuse import BUILT_IN
from htdag.stages import COMBINING, IMPORT, KEYED, MISSING, STATE, VIEWS, Stage

if TYPE_CHECKING:
    from htdag.reuse.report import Verdict

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
    lines += _nodes_of(plan)
    if plan.chains:
        lines += ["", "Lanes"]
        for chain in plan.chains:
            lines += _chain_lines(chain)
    lines += ["", "What would change it", *_change_lines(plan)]
    return "\n".join(lines)


def explain_reuse(tag: str, verdicts: Sequence[Verdict]) -> str:
    """Return what a run with this tag has for another one, stage by stage.

    Parameters
    ----------
    tag : str
        The run.
    verdicts : sequence of Verdict
        What happens to each stage.
    """
    lines = [f"With what the run {tag!r} has finished"]
    width = min(max((len(verdict.stage) for verdict in verdicts), default=0), 30)
    for verdict in verdicts:
        start = f"  {verdict.stage:<{width}}  "
        lines += _hanging(start, f"{verdict.what}: {verdict.why}", width + 4)
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


def _nodes_of(plan: Plan, before: str = "", margin: str = "") -> Iterator[str]:
    """Yield the lines of all nodes, those of a loop's rounds after the loop."""
    numbers = {node.name: f"{before}{number}" for number, node in enumerate(plan.nodes, 1)}
    for node in plan.nodes:
        yield from (margin + line for line in _node_lines(plan, node, numbers))
        if node.round is not None:
            within = f"{numbers[node.name]}."
            yield from _nodes_of(node.round.plan, within, margin + "  ")


def _stage_lines(plan: Plan, margin: str = "  ") -> Iterator[str]:
    rounds = {node.stages[0]: node.round for node in plan.nodes if node.round is not None}
    # What comes from outside is told where it is made.
    names = [name for name, stage in plan.stages.nodes(data="stage") if stage.kind != IMPORT]
    width = min(max(map(len, names)), 30)
    for name in names:
        stage: Stage = plan.stages.nodes[name]["stage"]
        start = f"{margin}{name:<{width}}  "
        if len(name) > width:
            yield f"{margin}{name}"
            start = " " * len(start)
        yield from _hanging(start, "; ".join(_stage_facts(plan, stage)), len(start))
        if name in rounds:
            yield from _stage_lines(rounds[name].plan, margin + "  ")


def _stage_facts(plan: Plan, stage: Stage) -> Iterator[str]:
    """Yield what the user wrote, but for the options: those are the nodes'."""
    if stage.kind == STATE:
        what = "value" if stage.single else "items"
        yield f"the {what} that a round begins with"
    elif any(node.is_check_alone and stage.name in node.stages for node in plan.nodes):
        yield f"asks of all items of {', '.join(upstreams(plan.stages, stage.name))} whether to end"
        return
    elif stage.loop is not None:
        start, *others = upstreams(plan.stages, stage.name)
        yield f"loop, begins with {start}"
        if others:
            yield f"uses {', '.join(others)}"
        until = stage.loop.until
        yield f"at most {counted(stage.loop.max_rounds, 'round')}" + (
            f", until {function_name(until) or 'the predicate'} holds" if until else ""
        )
    elif stage.data is not None:
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
        yield _end_of(plan)


def _end_of(plan: Plan) -> str:
    """Return what the targets of a plan are called: those of a round go into the next one."""
    within = any(stage.kind == STATE for _, stage in plan.stages.nodes(data="stage"))
    return "the next state" if within else "result"


def _stage_arguments(stage: Stage) -> Iterator[str]:
    if stage.key is not None and stage.key is not stage.function:
        yield f"key={function_name(stage.key) or '<lambda>'}"
    if stage.reverse:
        yield "reverse=True"
    if stage.partitions is not None:
        yield f"partitions={stage.partitions}"
    if stage.kind in COMBINING and stage.kind != "count":
        if not stage.associative:
            yield "associative=False"
        if stage.initial is not MISSING:
            yield f"initial={_value(stage.initial)}"
        if stage.fan_in is not None:
            yield f"fan_in={stage.fan_in}"


def _node_lines(plan: Plan, node: Node, numbers: dict[str, str]) -> Iterator[str]:
    start = f"  {numbers[node.name]}. "
    yield from _hanging(start, f"{node.name}: {_size(node)}", len(start))
    yield from _entry("reads", "; ".join(_reads(plan, node, numbers)))
    runs = _runs(node)
    if node.check is not None:
        runs += ", and ask whether the loop is over"
    yield from _entry("runs", runs)
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
    if node.round is not None:
        made = node.round
        each = f"{counted(len(made.plan.nodes), 'node')}, {counted(made.plan.jobs, 'job')}"
        return f"at most {counted(made.max_rounds, 'round')} of {each}"
    size = counted(node.chunks, "job")
    if node.lanes > 1:
        size += f" in {node.lanes} lanes"
    if node.reduction is not None:
        return size
    if node.items is None:
        return f"{size}, number of items known at run time"
    return f"{size}, {counted(node.items, 'item')}"


_LATE = {STATE: "the items of the round's", IMPORT: "the items, from outside, of"}


def _reads(plan: Plan, node: Node, numbers: dict[str, str]) -> Iterator[str]:
    reads = node.input
    for stream in reads.streams:
        own = node.reduction is not None and stream.stage == node.reduction.stage
        what = "parts" if own else "items"
        if stream.source is not None and stream.source.is_late:
            yield f"{_LATE[plan.stages.nodes[stream.stage]['stage'].kind]} {stream.stage}"
        elif stream.node is None:
            yield f"the source {stream.stage}"
        else:
            yield f"the {what} of {stream.stage} from node {numbers[stream.node]}"
    for bind in node.binds:
        what = "the value" if bind.one else "all items"
        where = "the source" if bind.node is None else f"node {numbers[bind.node]}"
        if plan.stages.nodes[bind.stage]["stage"].kind == STATE:
            yield f"the round's {bind.stage}, in every job"
            continue
        if plan.stages.nodes[bind.stage]["stage"].kind == IMPORT:
            where = "outside"
        yield f"{what} of {bind.stage} from {where}, in every job"


def _runs(node: Node) -> str:
    if node.round is not None:
        return "a DAG of its own for each round"
    if node.is_check_alone:
        return "collect the items of the state"
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
            f" ({_end_of(plan)})" if output.stage in plan.targets else ""
        )
    return output.stage + (f" ({_end_of(plan)})" if output.stage in plan.targets else "")


def _options(node: Node) -> Iterator[str]:
    """Yield the options of a node that were given; its reasons tell of the chunk size."""
    default = BUILT_IN.given()
    for name, value in node.options.given().items():
        if name != "chunk_size" and default.get(name) != value:
            yield f"{name}={_option(name, value)}"


def _option(name: str, value: Any) -> str:
    if name == "environment":
        return f"({value})"
    return repr(dict(value) if isinstance(value, tuple) else value)


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
