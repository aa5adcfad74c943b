"""Preparing what comes next: the lists of jobs of nodes, and the rounds of loops."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Iterable, List, Optional, Tuple

from .. import lanes, layout, planfile
from ..lanes import Unit
from ..layout import NodeFiles
from ..task import requests_of
from . import adopt, inputs, progress, rounds, submitfile
from .progress import ChunkState, Examined

if TYPE_CHECKING:
    from ..formats.plan import NodeEntry, Plan, StreamEntry
    from ..formats.task import Ranges


def write_list(
    run: str,
    node: NodeEntry,
    jobs: Iterable[Tuple[int, int, Ranges]],
    reading: inputs.Reading,
    lane: int = 0,
) -> int:
    """Write the descriptions of jobs, and the list that the node queues; return their number.

    ``jobs`` are chunk, attempt and what is left to do; those of a `lane` have a list of their own.
    """
    lines = []
    files = NodeFiles(run, node["name"])
    requests = requests_of(run, node["name"])
    for number, attempt, todo in jobs:
        description, transfer = reading.describe(number, todo)
        job = files.attempt(number, attempt)
        if node["checkpoints"]:
            earlier = job.with_earlier_checkpoints()
            if earlier is not None and os.listdir(earlier.checkpoints):
                transfer = [*transfer, earlier.under("").checkpoints]
        layout.write_aside(job.description, json.dumps(description).encode(), sync=False)
        values = [layout.chunk_name(number), str(attempt)]
        values += [str(each[number]) for each in requests.values()]
        lines.append("%s, %s\n" % (", ".join(values), ", ".join(transfer)))
    layout.write_aside(files.chunk_list(lane), "".join(lines).encode())
    submitfile.drop_late_materialization(run, node, lane, lines)
    with contextlib.suppress(FileNotFoundError):
        os.remove(files.outdated(lane))
    return len(lines)


def outdate(run: str, unit: Unit) -> None:
    """Mark the list of a unit to be written again when it is submitted."""
    open(NodeFiles(run, unit.node).outdated(unit.lane), "w").close()


def prepare(
    run: str,
    plan: Plan,
    node: NodeEntry,
    states: Optional[List[ChunkState]] = None,
    parents: Optional[Examined] = None,
    lane: int = 0,
) -> int:
    """Rewrite the list of a node, or of a lane of it, to what is left to do; return the jobs.

    A list is never empty, since HTCondor cannot submit zero jobs: if nothing is left, the last
    chunk is listed with nothing to do. ``states`` are those of the node, ``parents`` those of
    nodes before it, if they were examined already.
    """
    known = {} if parents is None else parents
    outcomes: inputs.Outcomes = {parent: [] for parent in node["parents"]}
    for unit in lanes.parents(plan, Unit(node["name"], lane)):
        own_outcomes = progress.outcomes_of(_examined(run, plan, unit, known))
        before = lanes.chunks(plan["by_name"][unit.node], unit.lane, 0).start
        # Of the lanes beside its own nothing is read; they keep the numbers of chunks right.
        missing = before - len(outcomes[unit.node])
        outcomes[unit.node] += [inputs.Outcome([], [])] * missing + own_outcomes
    if node["mode"] == "loop":
        prepare_loop(run, plan, node, outcomes)
        return 1
    # First, since it decides which chunks there are where the data of the parents do.
    reading = inputs.Reading(run, plan, node, outcomes)
    if adopt.is_wanted(run, node, lane):
        adopt.take_over(run, node, reading, lane)
        states = None
    states = progress.examine(run, node, lane=lane) if states is None else states
    left = [state for state in states if not state.complete]
    jobs: List[Tuple[int, int, Ranges]] = []
    files = NodeFiles(run, node["name"])
    for state in left or states[-1:]:
        todo = progress.ranges_left(files, node, state.number, state.attempts)
        jobs.append((state.number, state.last_attempt + 1, todo))
    if len(jobs) < len(states) or any(attempt > 1 for _, attempt, _ in jobs):
        for child in lanes.children(plan, Unit(node["name"], lane)):
            # Its list names the outcomes of first attempts.
            if plan["by_name"][child.node]["mode"] != "loop":
                outdate(run, child)
    return write_list(run, node, jobs, reading, lane)


def _examined(run: str, plan: Plan, unit: Unit, known: Examined) -> List[ChunkState]:
    if unit not in known:
        known[unit] = progress.examine(run, plan["by_name"][unit.node], lane=unit.lane)
    return known[unit]


def prepare_ready(run: str, plan: Plan) -> List[str]:
    """Prepare the units that can run at once, and return the names of those that are done.

    Call this when no job of the run is active. Units further down are prepared when their parents
    are done.
    """
    units = [unit for node in plan["nodes"] for unit in lanes.units(node)]
    done = {unit for unit in units if progress.is_done(run, plan["by_name"][unit.node], unit.lane)}
    for unit in units:
        if unit not in done and done.issuperset(lanes.parents(plan, unit)):
            submitfile.raise_memory(run, plan["by_name"][unit.node])
            prepare(run, plan, plan["by_name"][unit.node], lane=unit.lane)
    return [unit.name for unit in units if unit in done]


def update_child(run: str, plan: Plan, unit: Unit, parents: Examined) -> None:
    """Update the list of a child when the last of its parents is done.

    The list that was written with the run directory is right if all parents did all of their work
    in the first attempt, as usual.
    """
    child = plan["by_name"][unit.node]
    as_planned = not child["dynamic"] and not adopt.is_wanted(run, child, unit.lane)
    for parent in lanes.parents(plan, unit):
        states = _examined(run, plan, parent, parents)
        complete = progress.all_complete(states)
        if not complete and not progress.was_skipped(run, plan["by_name"][parent.node]):
            return
        first = all([attempt.number for attempt in state.attempts] == [1] for state in states)
        as_planned = as_planned and complete and first and not _carries_files(states)
    begun = NodeFiles(run, child["name"]).attempts()
    if unit.lane:
        chunks = lanes.chunks(child, unit.lane, 0)
        begun = {number: made for number, made in begun.items() if number in chunks}
    if not as_planned or begun:
        prepare(run, plan, child, parents=parents, lane=unit.lane)


def _carries_files(states: List[ChunkState]) -> bool:
    return any(sum(a.end.get("carrying", ())) for state in states for a in state.attempts)


def lay_out(run: str) -> None:
    """Write the lists of the nodes of a round that can run, or whose inputs are known enough."""
    plan = planfile.read(run)
    for node in plan["nodes"]:
        if node["dynamic"] or NodeFiles(run, node["name"]).attempts():
            continue
        reading = inputs.Reading(run, plan, node, None)
        for unit in lanes.units(node):
            numbers = lanes.chunks(node, unit.lane, node["chunks"])
            jobs = ((number, 1, None) for number in numbers)
            write_list(run, node, jobs, reading, unit.lane)
    prepare_ready(run, plan)


def prepare_loop(run: str, plan: Plan, node: NodeEntry, outcomes: inputs.Outcomes) -> None:
    """Make the first round of a loop, or update the round that continues."""
    rounds.retract_outcome(run, node)
    number = NodeFiles(run, node["name"]).last_round()
    while number > 1 and not _is_done(run, node, number):
        if _is_done(run, node, number - 1, only_state=True):
            break
        rounds.drop(run, node, number)
        number -= 1
    round_inputs = given_to_round(run, plan, node, max(number, 1), outcomes)
    begin = rounds.refresh if number else rounds.make
    begin(run, node, max(number, 1), round_inputs, lay_out)


def _is_done(run: str, node: NodeEntry, number: int, *, only_state: bool = False) -> bool:
    """Return whether a round is done, or at least has its final state."""
    folder = NodeFiles(run, node["name"]).round(number)
    plan = planfile.read(folder)
    nodes = [_maker(plan, node)] if only_state else plan["nodes"]
    return all(progress.is_done(folder, each) for each in nodes)


def _maker(plan: Plan, node: NodeEntry) -> NodeEntry:
    """Return the node, in the plan of a round, that makes the state."""
    result = planfile.loop(node)["result"]
    return next(
        plan["by_name"][entry["where"]]
        for entry in plan["stages"]
        if entry["name"] == result and entry["where"] is not None
    )


def given_to_round(
    run: str,
    plan: Plan,
    node: NodeEntry,
    number: int,
    outcomes: Optional[inputs.Outcomes] = None,
) -> List[rounds.Given]:
    """Return what a round of a loop reads: the state before it, and outside stages."""
    if outcomes is None:
        outcomes = {
            parent: progress.outcomes_of(progress.examine(run, plan["by_name"][parent]))
            for parent in node["parents"]
        }
    reading = inputs.Reading(run, plan, node, outcomes)
    round_inputs = [rounds.Given(run, blocks) for blocks in reading.blocks]
    if number > 1:
        round_inputs[0] = state_after(run, node, number - 1)
    return round_inputs


def state_after(run: str, node: NodeEntry, number: int) -> rounds.Given:
    """Return the place of the state after a round of a loop."""
    folder = NodeFiles(run, node["name"]).round(number)
    plan = planfile.read(folder)
    maker = _maker(plan, node)
    outcomes = progress.outcomes_of(progress.examine(folder, maker))
    stream: StreamEntry = {"stage": planfile.loop(node)["result"], "node": maker["name"]}
    return rounds.Given(folder, inputs.outcome_blocks(folder, plan, stream, outcomes))
