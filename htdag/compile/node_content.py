"""The content of ``plan.json``, and of the programs and payloads of nodes."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from htdag.compile.dag import stops
from htdag.compile.file_flow import FileFlow
from htdag.functions.image import Image, Payload
from htdag.functions.pickling import dump_content
from htdag.functions.reach import reach
from htdag.options.resources import fixed
from htdag.plan import Node, Plan
from htdag.plan.chunk import keeps_count, most_jobs
from htdag.plan.stage_keys import stage_keys
from htdag.stages import MISSING

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import (
        LoopEntry,
        NodeEntry,
        PlanContent,
        SourceEntry,
        StageEntry,
    )
    from htdag.runtime.formats.task import StructureEntry


PLAN_FORMAT = 4
"""The version of ``run.json`` and ``plan.json``, for other programs: htdag never compares it."""


def plan_content(
    plan: Plan, flows: Mapping[str, FileFlow], checkpoints: Collection[str] = ()
) -> PlanContent:
    """Return the content of ``plan.json``, for htdag and the scripts of the DAG.

    ``checkpoints`` are the nodes whose functions call `htdag.checkpoint`.
    """
    nodes = [
        _node_content(plan, node, flows[node.name], checkpoints=node.name in checkpoints)
        for node in plan.nodes
    ]
    keys = stage_keys(plan.stages, plan.name)
    stages: list[StageEntry] = [
        {
            "name": name,
            "kind": data["stage"].kind,
            "one": data["stage"].one,
            "node": next((node.name for node in plan.nodes if name in node.stages), None),
            "where": plan.where.get(name),
            "history": keys.get(name),
        }
        for name, data in plan.stages.nodes(data=True)
    ]
    sources: dict[str, SourceEntry] = {
        stored.stage: {
            "boundaries": list(stored.boundaries),
            "carries": bool(stored.source.travelling),
        }
        for stored in plan.sources
    }
    # The sources of a round are written into its own copy of the plan.
    sources.update(
        {
            name: {"boundaries": [], "carries": False}
            for name, stage in plan.stages.nodes(data="stage")
            if stage.source is not None and stage.source.is_late
        }
    )
    return {
        "format": PLAN_FORMAT,
        "name": plan.name,
        "max_jobs_submitted": plan.throttles.max_jobs_submitted,
        "maxjobs": dict(plan.throttles.maxjobs),
        "nodes": nodes,
        "stages": stages,
        "sources": sources,
    }


def _of_loop(node: Node) -> str:
    return "stop" if stops(node) else "finish"


def _mode(node: Node) -> str:
    if node.round is not None:
        return "loop"
    return "items" if node.reduction is None else "reduce"


def _loop_content(node: Node) -> LoopEntry | None:
    """Return the description of a loop; its sources are in the order in which rounds get them."""
    if node.round is None:
        return None
    made = node.round
    return {
        "max_rounds": made.max_rounds,
        "until": made.until,
        "one": made.one,
        "result": made.result,
        "sources": [made.state, *(stream.stage for stream in node.input.streams[1:])],
    }


def _node_content(plan: Plan, node: Node, flow: FileFlow, *, checkpoints: bool) -> NodeEntry:
    reads, edges = node.input, node.boundaries
    known = node.reduction is None and not node.by_chunk
    return {
        "name": node.name,
        "stages": list(node.stages),
        "parents": list(node.parents),
        "children": list(plan.graph.successors(node.name)),
        "mode": _mode(node),
        "loop": _loop_content(node),
        "check": node.check is not None,
        "input": {
            "view": reads.view,
            "number": reads.number,
            "limit": reads.limit,
            "reverse": reads.reverse,
            "plain": reads.source is not None,
            "carries": reads.source is not None and bool(reads.source.travelling),
            "streams": [{"stage": each.stage, "node": each.node} for each in reads.streams],
        },
        "outputs": [output.stage for output in node.outputs],
        "files": [file for output in node.outputs for file in output.files],
        "carries_files": flow.carries,
        "returns_files": flow.returns,
        "input_urls": flow.input_urls,
        "delivers": flow.delivers,
        "parts": {output.stage: output.parts for output in node.outputs if output.parts},
        "known": [output.stage for output in node.outputs if keeps_count(node, output.stage)],
        "binds": {
            bind.stage: {"node": bind.node, "stage": bind.stage, "one": bind.one}
            for bind in node.binds
        },
        "chunks": node.chunks,
        "boundaries": list(edges) or None,
        "dynamic": node.dynamic,
        "by_chunk": node.by_chunk,
        "lanes": list(node.lane_edges) if node.lanes > 1 else None,
        "lane_parent": node.lane_parent,
        "size": node.options.chunk_size,
        "per_job": node.per_job,
        "most": most_jobs(node),
        "fan_in": node.fan_in,
        "sizes": [b - a for a, b in itertools.pairwise(edges)] if known else [],
        "items": node.items,
        "retries": 0 if node.round is not None else node.options.retries or 0,
        "on_error": node.options.on_error if node.round is None else _of_loop(node),
        "max_errors": node.options.max_errors,
        "request_cpus": fixed(node.options.request_cpus),
        "max_materialize": node.options.max_materialize,
        "category": node.options.category,
        "priority": node.priority,
        "job_priority": node.options.priority,
        "checkpoints": checkpoints,
    }


def program(node: Node, flow: FileFlow, tag: str, *, checkpoints: bool) -> StructureEntry:
    """Return the program of a node's jobs, in the run with a tag.

    ``checkpoints``: whether its functions call `htdag.checkpoint`.
    """
    position = {step.stage: number for number, step in enumerate(node.steps)}
    roles = [role for role, _ in functions(node)]

    def index(*role: str) -> int | None:
        return roles.index(role) if role in roles else None

    numbers = iter(range(len(initials(node))))
    # No pauses if HTCondor transfers returned files to URLs, since it would do so at each pause.
    pauses = node.reduction is None and not flow.output_url
    interval = node.options.checkpoint_interval if pauses else None
    content: StructureEntry = {
        "python": list(sys.version_info[:2]),
        "run": tag,
        "node": node.name,
        "cpus": fixed(node.options.request_cpus) or 1,
        "checkpoints": checkpoints,
        "checkpoint_interval": interval,
        "stages": list(node.stages) or [node.outputs[0].stage],
        "mode": "items" if node.reduction is None else "reduce",
        "on_error": node.options.on_error,
        "reads_files": flow.reads,
        "returns_files": flow.returns,
        "carries_files": flow.carries,
        "input_files": list(flow.inputs),
        "output_url": flow.output_url,
        "combine": index("view", node.stages[0]) if node.stages else None,
        "check": None
        if node.check is None
        else {
            "stage": node.check.stage,
            "function": roles.index(("check", node.check.stage)),
            "after": -1 if node.check.after is None else position[node.check.after],
            "previous": node.check.previous,
        },
        "operations": [
            {
                "stage": step.stage,
                "kind": step.operation.kind,
                "function": roles.index(("operation", step.stage)),
                "after": -1 if step.after is None else position[step.after],
                "bind": dict(step.binds),
            }
            for step in node.steps
        ],
        "outputs": [
            {
                "stage": output.stage,
                "after": -1 if output.after is None else position[output.after],
                "kind": output.kind,
                "parts": output.parts,
                "split": output.split,
                "combine": index("combine", output.stage),
                "merge": index("merge", output.stage),
                "key": index("key", output.stage),
                "initial": None if output.initial is MISSING else next(numbers),
            }
            for output in node.outputs
        ],
    }
    if node.reduction is not None:
        content["reduction"] = {
            "stage": node.reduction.stage,
            "function": roles.index(("reduce", node.reduction.stage)),
            "final": node.reduction.final,
            "begun": node.reduction.seeded,
            "initial": None if node.reduction.initial is MISSING else next(numbers),
            "bind": dict(node.reduction.binds),
        }
    return content


def functions(node: Node) -> list[tuple[tuple[str, str], Any]]:
    """Return the functions of a node, each with its role and stage, in the payload's order."""
    result: list[tuple[tuple[str, str], Any]] = []
    if node.input.combine is not None:
        result.append((("view", node.stages[0]), node.input.combine))
    result += [(("operation", step.stage), step.operation.function) for step in node.steps]
    for output in node.outputs:
        result += [((role, output.stage), function) for role, function in output.functions]
    if node.reduction is not None:
        result.append((("reduce", node.reduction.stage), node.reduction.function))
    if node.check is not None:
        result.append((("check", node.check.stage), node.check.function))
    return result


def functions_of(node: Node) -> list[Any]:
    """Return the functions and initial values of a node, which are its payload."""
    return [*(function for _, function in functions(node)), *initials(node)]


def initials(node: Node) -> list[Any]:
    """Return the initial values of a node's combining functions."""
    values = [output.initial for output in node.outputs]
    if node.reduction is not None:
        values.append(node.reduction.initial)
    return [initial for initial in values if initial is not MISSING]


def calls_checkpoint(node: Node) -> bool:
    """Return whether a node's functions may call `htdag.checkpoint`, under any name."""
    return node.reduction is None and "checkpoint" in reach(functions_of(node)).names


def payload(node: Node, image: Image) -> Payload:
    """Return the pickled functions of a node."""
    roles_and_functions = functions(node)
    content = {
        "functions": [function for _, function in roles_and_functions],
        "initials": initials(node),
    }
    return dump_content(
        image, content, [(stage, function) for (_, stage), function in roles_and_functions]
    )
