"""A plan in words: what will run, and why."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from htdag.common.text import counted, duration
from htdag.functions.pickling import function_name
from htdag.plan import Chain, Node, Output, Plan
from htdag.plan.wording import jobs_of
from htdag.stages import Iterate, Stage
from htdag.stages.graph import stage_of, upstreams
from htdag.stages.operations import Import, Operation, Source, State

if TYPE_CHECKING:
    from htdag.reuse.decisions import ReuseDecision

WIDTH = 100
_LABEL = 9  # the longest label of a node's lines, and a space


def explain(plan: Plan) -> str:
    """Return a plan as text: its stages, its DAGMan nodes, and the reason for every decision.

    Parameters
    ----------
    plan : Plan
        The plan.

    Returns
    -------
    str
        Lines of at most 100 characters, unless a single word is longer; the same plan gives the
        same text.
    """
    stages = counted(len(plan.stages), "stage")
    nodes = counted(len(plan.nodes), "DAGMan node")
    size = f"{stages} in {nodes}, {counted(plan.jobs, 'job')}"
    lines = list(_hanging(f"Pipeline {plan.name}: ", size, 2))
    limits = ", ".join(f"{name}={value}" for name, value in plan.throttles.given().items())
    if limits:
        lines += _hanging("  with ", limits, 7)
    shared = _shared_proposal(plan)
    lines += _hanging("  with ", f"{shared}, as measured", 7) if shared else []
    numbers = dict(_numbers(plan))
    lines += [*_stage_lines(plan, numbers), "", *_nodes_of(plan, numbers)]
    if plan.chains:
        lines += ["", "Lanes"]
        for chain in plan.chains:
            lines += _chain_lines(chain)
    lines += ["", *_change_lines(plan)]
    return "\n".join(lines)


def explain_reuse(tag: str, decisions: Sequence[ReuseDecision]) -> str:
    """Return what another run can reuse of a run, stage by stage.

    Parameters
    ----------
    tag : str
        The tag of the run.
    decisions : sequence of ReuseDecision
        The decision for each stage.
    """
    lines = [f"With what the run {tag!r} has finished"]
    width = min(max((len(decision.stage) for decision in decisions), default=0), 30)
    for decision in decisions:
        start = f"  {decision.stage:<{width}}  "
        lines += _hanging(start, f"{decision.what}: {decision.why}", width + 4)
    return "\n".join(lines)


def explain_first(missing: str) -> str:
    """Return the text that stands for reuse where there is no earlier run; `missing` says why.

    Examples
    --------
    >>> explain_first("there is no run with the tag 'walks'")
    "There is no run with the tag 'walks': it would be the first, and compute all of this."
    """
    return f"{missing[0].upper()}{missing[1:]}: it would be the first, and compute all of this."


def _numbers(plan: Plan, before: str = "") -> Iterator[tuple[str, str]]:
    """Yield the name and number of each node; ``2.1`` is a node in the rounds of a loop.

    Names of nodes are unique within a round only, so they begin with the number of the loop.
    """
    for position, node in enumerate(plan.nodes, 1):
        number = f"{before}{position}"
        yield f"{before}{node.name}", number
        if node.round is not None:
            yield from _numbers(node.round.plan, f"{number}.")


def _nodes_of(
    plan: Plan, numbers: dict[str, str], before: str = "", margin: str = ""
) -> Iterator[str]:
    """Yield the lines of all nodes; those of the rounds of a loop follow the loop."""
    own_numbers = {node.name: numbers[f"{before}{node.name}"] for node in plan.nodes}
    proposal = _shared_proposal(plan)
    blocks = {
        node.name: list(_node_lines(plan, node, own_numbers, proposal)) for node in plan.nodes
    }
    alike = _alike({name: " ".join(lines) for name, lines in blocks.items()}, plan)
    for node in plan.nodes:
        group = alike[node.name]
        if group[0] != node.name:
            continue
        yield from (margin + line for line in blocks[node.name])
        if node.round is not None:
            within = f"{own_numbers[node.name]}."
            yield from _nodes_of(node.round.plan, numbers, within, margin + "  ")
        if len(group) > 1:
            first, last = own_numbers[node.name], own_numbers[group[-1]]
            more = f"{counted(len(group) - 1, 'more node')} like node {first}; the last is {last}"
            yield from (margin + line for line in _hanging("  ", f"{more}, {group[-1]}", 5))


def _alike(texts: dict[str, str], plan: Plan) -> dict[str, list[str]]:
    """Return for each node or stage the group of those whose texts differ in names alone.

    If that group is small, each of its members is a group of its own.

    Parameters
    ----------
    texts : dict of str to str
        The text of each.
    plan : Plan
        The plan, for the names in the texts.
    """
    names = {*plan.stages, *(node.name for node in plan.nodes)}
    groups: dict[str, list[str]] = {}
    for name, text in texts.items():
        words = ("" if word in names else word for word in _WORD.split(_NODE_NUMBER.sub("", text)))
        groups.setdefault(" ".join(filter(None, words)), []).append(name)
    group_of = {}
    for group in groups.values():
        for name in group:
            group_of[name] = group if len(group) >= _MANY else [name]
    return group_of


_MANY = 8
_WORD = re.compile(r"[\s,;:()=]+")
_NODE_NUMBER = re.compile(r"node [\d.]+|^ *[\d.]+\. ")


def _stage_lines(
    plan: Plan, numbers: dict[str, str], before: str = "", margin: str = ""
) -> Iterator[str]:
    """Yield the stages, each with the nodes that compute it."""
    rounds = {node.stages[0]: node for node in plan.nodes if node.round is not None}
    # A stage from outside of the loop is listed where it is made.
    names = [name for name in plan.stages if not isinstance(_operation(plan, name), Import)]
    width = min(max(map(len, names)), 30)
    places = dict(_places(plan, numbers, before))
    column = max(4, *(len(places.get(name, "")) for name in names))
    if not before:
        yield f"  {'node':<{column}}  stage"
    facts = {name: "; ".join(_stage_facts(plan, stage_of(plan.stages, name))) for name in names}
    alike = _alike(facts, plan)
    for name in names:
        if alike[name][0] != name:
            continue
        start = f"  {places.get(name, ''):<{column}}  {margin}{name:<{width}}  "
        if len(name) > width:
            yield start.rstrip()
            start = " " * (len(start) - len(name) + width)
        more = len(alike[name]) - 1
        like = f"; and {more:,} more like it, the last {alike[name][-1]}" if more else ""
        yield from _hanging(start, facts[name] + like, len(start))
        if name in rounds:
            loop = rounds[name]
            assert loop.round is not None
            within = f"{numbers[before + loop.name]}."
            yield from _stage_lines(loop.round.plan, numbers, within, margin + "  ")


def _places(plan: Plan, numbers: dict[str, str], before: str) -> Iterator[tuple[str, str]]:
    """Yield each stage with the numbers of the nodes that compute it: a reduce has several."""
    places_of: dict[str, list[str]] = {}
    for node in plan.nodes:
        partial = [output.stage for output in node.outputs if not output.whole]
        partial += [node.reduction.stage] if node.reduction is not None else []
        for name in dict.fromkeys([*node.stages, *partial]):
            places_of.setdefault(name, []).append(numbers[before + node.name])
    for name, places in places_of.items():
        yield name, ", ".join(places)


def _stage_facts(plan: Plan, stage: Stage) -> Iterator[str]:
    """Yield what the user wrote, without the options, which are shown with the nodes."""
    operation = stage.operation
    above = upstreams(plan.stages, stage.name)
    if stage.name in plan.checked_alone:
        yield f"asks of all items of {', '.join(above)} whether to end"
        return
    match operation:
        case State():
            yield f"the {'value' if operation.one else 'items'} that a round begins with"
        case Source():
            yield f"source of {operation.title(stage.name)}"
        case Iterate():
            yield from _loop_facts(operation, above)
        case _:
            yield f"{operation.title(stage.name)} over {', '.join(above)}"
            for other, _, edge in plan.stages.in_edges(stage.name, data=True):
                for keyword in edge["keywords"]:
                    yield f"bind {keyword}" + ("" if keyword == other else f"={other}")
    yield from operation.arguments()
    if stage.name in plan.targets:
        yield _target_name(plan)


def _loop_facts(loop: Iterate, above: Sequence[str]) -> Iterator[str]:
    start, *others = above
    yield f"loop, begins with {start}"
    if others:
        yield f"uses {', '.join(others)}"
    rounds = f"at most {counted(loop.max_rounds, 'round')}"
    if loop.until is not None:
        rounds += f", until {function_name(loop.until) or 'the predicate'} holds"
    yield rounds


def _operation(plan: Plan, stage: str) -> Operation:
    return stage_of(plan.stages, stage).operation


def _target_name(plan: Plan) -> str:
    """Return the word for the targets of a plan: those of a round are the state of the next."""
    return "the next state" if plan.is_round else "result"


def _node_lines(
    plan: Plan, node: Node, numbers: dict[str, str], shared_proposal: str
) -> Iterator[str]:
    start = f"  {numbers[node.name]}. "
    yield from _hanging(start, f"{node.name}: {_size(node)}", len(start))
    reads = "; ".join(_reads(plan, node, numbers))
    writes = ", ".join(_written(plan, node, output) for output in node.outputs)
    if reads and writes and len(f"     {reads}; writes {writes}") + _LABEL <= WIDTH:
        yield from _entry("reads", f"{reads}; writes {writes}")
    else:
        yield from _entry("reads", reads)
        yield from _entry("writes", writes)
    yield from _entry("asks", _asks(node))
    yield from _entry("options", ", ".join(_options(node)))
    if not shared_proposal:
        yield from _entry("proposed", _proposal(node))
    yield from _entry("measured", node.measured)
    yield from _entry("why", _with_numbers("; ".join(_joined_reasons(node)), numbers))


_FUSED = re.compile(r"(?P<stage>\S+) is fused with (?P<other>\S+): (?P<why>.*)")

# Reasons that repeat the lines ``reads`` and ``proposed``.
_REDUNDANT = re.compile(
    r"\S+ begins a node: it reads the source \S+|(memory|disk).*: as measured.*"
)


def _with_numbers(text: str, numbers: dict[str, str]) -> str:
    """Return a text with node numbers in place of node names that combine several stages."""
    for name in sorted(numbers, key=len, reverse=True):
        if "." in name:
            text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", f"node {numbers[name]}", text)
    return text


def _joined_reasons(node: Node) -> Iterator[str]:
    """Yield the reasons of a node; stages that are fused for the same reason share one."""
    fused: dict[str, list[str]] = {}
    for reason in node.reasons:
        match = _FUSED.fullmatch(reason)
        if match is not None:
            fused.setdefault(match["why"], []).append(match["stage"])
    printed = set()
    for reason in node.reasons:
        match = _FUSED.fullmatch(reason)
        if match is None:
            if not _REDUNDANT.fullmatch(reason):
                yield reason
        elif match["why"] not in printed:
            printed.add(match["why"])
            stages = fused[match["why"]]
            verb = "is" if len(stages) == 1 else "are"
            yield f"{_listed(stages)} {verb} fused with {match['other']}: {match['why']}"


def _listed(names: Sequence[str]) -> str:
    if len(names) <= _MANY:
        return ", ".join(names)
    return f"{', '.join(names[: _MANY - 2])}, and {len(names) - _MANY + 2:,} more"


def _asks(node: Node) -> str:
    """Return what this node checks of the state of a loop, or ""."""
    if node.is_check_alone:
        return "whether the loop is over, of all items of the state"
    return "" if node.check is None else "whether the loop is over"


def _chain_lines(chain: Chain) -> Iterator[str]:
    """Yield whether nodes are in lanes, why, and how long either way would take."""
    how = f"{chain.lanes} lanes" if chain.lanes > 1 else "one after the other"
    yield from _hanging("  ", f"{', '.join(chain.nodes)}: {how}; {chain.reason}", 4)
    if chain.plain is not None and chain.laned is not None:
        cost = f"one after the other about {duration(chain.plain)}, "
        cost += f"in {chain.tried} lanes about {duration(chain.laned)}, by what was measured"
        yield from _hanging("    ", cost, 4)


def _change_lines(plan: Plan) -> Iterator[str]:
    """Yield what a user can do to get another plan."""
    ways = ["chunk_size=N (items of a job)"]
    if any(len(node.stages) > 1 for node in plan.nodes):
        ways.append("fuse=False (a stage in jobs of its own)")
    if not any(node.measured for node in plan.nodes):
        ways.append("earlier runs, by what they measured")
    else:
        ways.append("request_memory=... and request_disk=... (what jobs ask for)")
        if any(node.jobs for node in plan.nodes):
            ways.append("target_job_seconds=... or other slots (the number of jobs)")
        ways.append("a new run, which is measured too")
        ways.append("history=False (a plan without earlier runs)")
    yield from _hanging("What would change it: ", "; ".join(ways), 2)


def _size(node: Node) -> str:
    if node.round is not None:
        made = node.round
        each = f"{counted(len(made.plan.nodes), 'node')}, {counted(made.plan.jobs, 'job')}"
        return f"at most {counted(made.max_rounds, 'round')} of {each}"
    size = jobs_of(node)
    if node.reduction is not None:
        return size
    if node.items is None:
        return f"{size}, number of items known at run time"
    return f"{size}, {counted(node.items, 'item')}"


def _reads(plan: Plan, node: Node, numbers: dict[str, str]) -> Iterator[str]:
    reads = node.input
    for stream in reads.streams:
        is_combining = node.reduction is not None and stream.stage == node.reduction.stage
        what = "parts" if is_combining else "items"
        if stream.source is not None and stream.source.is_late:
            outside = isinstance(_operation(plan, stream.stage), Import)
            what = "the items, from outside, of" if outside else "the items of the round's"
            yield f"{what} {stream.stage}"
        elif stream.node is None:
            yield f"the source {stream.stage}"
        else:
            yield f"the {what} of {stream.stage} from node {numbers[stream.node]}"
    for bind in node.binds:
        what = "the value" if bind.one else "all items"
        where = "the source" if bind.node is None else f"node {numbers[bind.node]}"
        if isinstance(_operation(plan, bind.stage), State):
            yield f"the round's {bind.stage}, in every job"
            continue
        if isinstance(_operation(plan, bind.stage), Import):
            where = "outside"
        yield f"{what} of {bind.stage} from {where}, in every job"


def _written(plan: Plan, node: Node, output: Output) -> str:
    inside_tree = node.reduction is not None and not node.reduction.final
    if output.split == "hash":
        return f"{output.stage} (in {counted(output.parts, 'partition')} from each job)"
    if output.map_side is not None and not output.map_side.one_a_job:
        return f"{output.stage} (with keys)"
    if not output.whole or inside_tree:
        return f"parts of {output.stage} (one from each job)"
    if output.split == "rank" and output.parts > 1:
        end = f"{_target_name(plan)}, " if output.stage in plan.targets else ""
        return f"{output.stage} ({end}in {output.parts:,} files)"
    return output.stage + (f" ({_target_name(plan)})" if output.stage in plan.targets else "")


def _options(node: Node) -> Iterator[str]:
    """Yield the options that were given for a node, but not the chunk size, which has a reason."""
    for name, value in node.options.departures().items():
        if name != "chunk_size" and name not in node.proposed:
            yield f"{name}={_option(name, value)}"


def _proposal(node: Node) -> str:
    """Return the options that follow from earlier runs, in the form a script would give them."""
    options = node.options.given()
    return ", ".join(f"{name}={_option(name, options[name])}" for name in node.proposed)


def _shared_proposal(plan: Plan) -> str:
    """Return the proposal for the nodes of a plan, if it has several and all have the same."""
    proposals = {_proposal(node) for node in plan.nodes}
    return proposals.pop() if len(proposals) == 1 and len(plan.nodes) > 1 else ""


def _option(name: str, value: Any) -> str:
    if name == "environment":
        return f"({value})"
    return repr(dict(value) if isinstance(value, tuple) else value)


def _entry(label: str, text: str) -> Iterator[str]:
    if not text:
        return
    start = f"     {label:<{_LABEL}}"
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
