"""What is done and what is left to do, from the records in a run directory alone."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from . import (
    atonce,
    checkpoint,
    chunkfile,
    deliver,
    itemfile,
    lanes,
    layout,
    memory,
    outfiles,
    recordfile,
    requests,
    reuse,
    streams,
    worker,
)
from .lanes import Unit

Plan = Dict[str, Any]


class Attempt(NamedTuple):
    """One job that has ended, with an outcome that can be used."""

    number: int
    end: Dict[str, Any]


class ChunkState(NamedTuple):
    """How far a chunk has come over all its attempts."""

    number: int
    attempts: List[Attempt]  # those whose outcome is sound
    last_attempt: int  # 0: none was made
    complete: bool
    failed: int  # items that the last attempt tried in vain
    damaged: List[str]
    mismatch: bool = False  # the last attempt ran in an environment that did not fit


Examined = Dict[Unit, List[ChunkState]]


def read_plan(run: str) -> Plan:
    """Return the plan of a run directory, its nodes by name in topological order."""
    path = os.path.join(run, layout.PLAN)
    plan: Plan = layout.read_json(path, "nodes", "stages", "sources")
    plan["by_name"] = {node["name"]: node for node in plan["nodes"]}
    return plan


def examine(
    run: str, node: Dict[str, Any], *, verify: bool = False, lane: int = 0
) -> List[ChunkState]:
    """Return the state of every chunk of a node.

    Parameters
    ----------
    run : str
        The run directory.
    node : dict
        The node, from the plan.
    verify : bool
        Read all outcome files and check their checksums, not only their sizes.
    lane : int
        Only the chunks of this lane; 0 for all.
    """
    made = layout.attempts(run, node["name"])
    return [
        _chunk_state(run, node, number, made.get(number, []), verify)
        for number in lanes.chunks(node, lane, streams.chunks(run, node))
    ]


def _chunk_state(
    run: str, node: Dict[str, Any], number: int, made: List[int], verify: bool
) -> ChunkState:
    sound: List[Attempt] = []
    damaged: List[str] = []
    failed = 0
    mismatch = False
    chunk = layout.chunk_name(number)
    for attempt in made:
        end = recordfile.end(os.path.join(run, layout.record(node["name"], chunk, attempt)))
        mismatch = end is not None and "mismatch" in end
        if end is None:
            failed = 1
            continue
        # What was taken over from another run is not whole, but nothing failed.
        in_vain = end["remaining"] != 0 and "reused" not in end
        failed = end["failed"] or (1 if in_vain else 0)
        if 0 in end["sizes"]:
            continue  # it could not even begin to write
        problem = _problem(run, node, chunk, attempt, end, verify)
        if problem:
            damaged.append(problem)
            failed = 1
        else:
            sound.append(Attempt(attempt, end))
    if any(attempt.end["whole"] and attempt.end["remaining"] == 0 for attempt in sound):
        complete = True
    else:
        complete = len(sound) > 1 and ranges_left(run, node, chunk, sound) == []
    return ChunkState(number, sound, made[-1] if made else 0, complete, failed, damaged, mismatch)


def _problem(
    run: str, node: Dict[str, Any], chunk: str, attempt: int, end: Dict[str, Any], verify: bool
) -> str:
    for stem, size in zip(node["files"], end["sizes"]):
        path = os.path.join(run, layout.output(node["name"], chunk, attempt, stem))
        try:
            found = os.path.getsize(path)
        except FileNotFoundError:
            return "%s is missing" % path
        if found != size:
            return "%s has %d bytes, not the %d that were written" % (path, found, size)
        if verify:
            try:
                for _ in itemfile.read(path):
                    pass
            except itemfile.DamagedFile as error:
                return str(error)
    if not any(end.get("carrying", ())):
        return ""
    folder = layout.returned(node["name"], chunk, attempt)
    if not verify:
        return outfiles.missing(run, folder, end["returned"]) if end["returned"] else ""
    stems = (layout.output(node["name"], chunk, attempt, stem) for stem in node["files"])
    return outfiles.problem(run, folder, [os.path.join(run, stem) for stem in stems])


def ranges_left(
    run: str, node: Dict[str, Any], chunk: str, sound: List[Attempt]
) -> Optional[List[Tuple[int, int]]]:
    """Return the ranges of items that no sound attempt finished; None means all of them."""
    if not sound:
        return None
    if node["mode"] == "reduce":
        return [] if sound[-1].end["remaining"] == 0 else None
    totals = [a.end["items"] for a in sound if a.end["items"] is not None]
    if not totals:
        return None  # none of them could count the items
    done: Set[int] = set()
    for attempt in sound:
        paths = [
            os.path.join(run, layout.output(node["name"], chunk, attempt.number, stage))
            for stage in node["outputs"]
        ]
        for first, last in itemfile.finished(paths):
            done.update(range(first, last + 1))
    return itemfile.to_ranges(set(range(totals[-1])) - done)


def close_killed(run: str, node: Dict[str, Any], lane: int = 0) -> None:
    """Make usable what jobs left behind that were killed.

    No job of the node may be running, or of the `lane`, where only that is looked at.
    """
    name = node["name"]
    chosen = lanes.chunks(node, lane, 0)
    here = os.getcwd()
    os.chdir(run)
    try:
        for number, made in layout.attempts(".", name).items():
            if lane and number not in chosen:
                continue
            chunk = layout.chunk_name(number)
            for attempt in made:
                if recordfile.end(layout.record(name, chunk, attempt)) is None:
                    worker.close_killed(name, chunk, attempt)
    finally:
        os.chdir(here)


def outcomes_of(states: List[ChunkState]) -> List[streams.Outcome]:
    return [
        streams.Outcome([a.number for a in state.attempts], [a.end for a in state.attempts])
        for state in states
    ]


def write_list(
    run: str,
    node: Dict[str, Any],
    jobs: Iterable[Tuple[int, int, chunkfile.Ranges]],
    reading: streams.Reading,
    lane: int = 0,
) -> int:
    """Write the descriptions of jobs, and the list that the node queues; return their number.

    ``jobs`` are chunk, attempt and what is left to do; where they are those of a `lane`, the list
    is its own.
    """
    lines = []
    asked = requests.of_chunks(run, node["name"])
    for number, attempt, todo in jobs:
        description, transfer = reading.describe(number, todo)
        chunk = layout.chunk_name(number)
        if node["checkpoints"]:
            earlier = checkpoint.of_earlier_attempt(run, node["name"], chunk, attempt)
            if earlier and os.listdir(os.path.join(run, earlier)):
                transfer = [*transfer, earlier]
        path = os.path.join(run, layout.chunk(node["name"], chunk, attempt))
        layout.write_aside(path, json.dumps(description).encode(), sync=False)
        values = [chunk, str(attempt), *(str(each[number]) for each in asked.values())]
        lines.append("%s, %s\n" % (", ".join(values), ", ".join(transfer)))
    path = os.path.join(run, layout.chunk_list(node["name"], lane))
    layout.write_aside(path, "".join(lines).encode())
    atonce.heed(run, node, lane, lines)
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(run, layout.outdated(node["name"], lane)))
    return len(lines)


def outdate(run: str, unit: Unit) -> None:
    """Have the list of a unit made anew when it is submitted."""
    open(os.path.join(run, layout.outdated(*unit)), "w").close()


def prepare(
    run: str,
    plan: Plan,
    node: Dict[str, Any],
    states: Optional[List[ChunkState]] = None,
    parents: Optional[Examined] = None,
    lane: int = 0,
) -> int:
    """Rewrite the list of a node, or of a lane of it, to what is left to do; return the jobs.

    A list is never empty, since HTCondor cannot submit zero jobs: where nothing is left, the last
    chunk is listed with nothing to do. ``states`` are those of the node, ``parents`` those of
    nodes before it, where they were examined already.
    """
    known = {} if parents is None else parents
    outcomes: streams.Outcomes = {parent: [] for parent in node["parents"]}
    for unit in lanes.parents(plan, Unit(node["name"], lane)):
        found = outcomes_of(_examined(run, plan, unit, known))
        before = lanes.chunks(plan["by_name"][unit.node], unit.lane, 0).start
        # Of the lanes beside its own nothing is read; they keep the numbers of chunks right.
        missing = before - len(outcomes[unit.node])
        outcomes[unit.node] += [streams.Outcome([], [])] * missing + found
    if node["mode"] == "loop":
        from . import looping  # which builds on this module

        looping.prepare(run, plan, node, outcomes)
        return 1
    # First, since it decides which chunks there are where the data of the parents do.
    reading = streams.Reading(run, plan, node, outcomes)
    if reuse.is_wanted(run, node, lane):
        reuse.take_over(run, node, reading, lane)
        states = None
    states = examine(run, node, lane=lane) if states is None else states
    left = [state for state in states if not state.complete]
    jobs: List[Tuple[int, int, chunkfile.Ranges]] = []
    for state in left or states[-1:]:
        todo = ranges_left(run, node, layout.chunk_name(state.number), state.attempts)
        jobs.append((state.number, state.last_attempt + 1, todo))
    if len(jobs) < len(states) or any(attempt > 1 for _, attempt, _ in jobs):
        for child in lanes.children(plan, Unit(node["name"], lane)):
            # Its list names the outcomes of first attempts.
            if plan["by_name"][child.node]["mode"] != "loop":
                outdate(run, child)
    return write_list(run, node, jobs, reading, lane)


def _examined(run: str, plan: Plan, unit: Unit, known: Examined) -> List[ChunkState]:
    if unit not in known:
        known[unit] = examine(run, plan["by_name"][unit.node], lane=unit.lane)
    return known[unit]


def is_done(run: str, node: Dict[str, Any], lane: int = 0) -> bool:
    """Tell whether a node needs no more work: complete, or its failed items were let go."""
    if node["mode"] == "loop" and not os.path.exists(
        os.path.join(run, layout.loop_end(node["name"]))
    ):
        return False
    done = _was_skipped(run, node) or all_complete(examine(run, node, lane=lane))
    return done and not _is_undelivered(run, node, lane)


def _is_undelivered(run: str, node: Dict[str, Any], lane: int) -> bool:
    """Tell whether a unit has still to put files where they are wanted: the last, if all is done.

    The last of the units to be judged does that; when it could not, the last by number does.
    """
    if not deliver.is_left(run, node) or lane != lanes.units(node)[-1].lane:
        return False
    return _was_skipped(run, node) or all_complete(examine(run, node))


def all_complete(states: List[ChunkState]) -> bool:
    """Tell whether nothing is left to do in these chunks."""
    return all(state.complete for state in states)


def _was_skipped(run: str, node: Dict[str, Any]) -> bool:
    return os.path.exists(os.path.join(run, layout.skipped(node["name"])))


def prepare_rest(run: str, plan: Plan) -> List[str]:
    """Prepare what can run at once, and return the names of the units that are done.

    To be called when nothing of the run is under way. What is further down is prepared when its
    parents are done.
    """
    units = [unit for node in plan["nodes"] for unit in lanes.units(node)]
    done = {unit for unit in units if is_done(run, plan["by_name"][unit.node], unit.lane)}
    for unit in units:
        if unit not in done and done.issuperset(lanes.parents(plan, unit)):
            memory.learn(run, plan["by_name"][unit.node])
            prepare(run, plan, plan["by_name"][unit.node], lane=unit.lane)
    return [unit.name for unit in units if unit in done]


def prepare_child(run: str, plan: Plan, unit: Unit, parents: Examined) -> None:
    """Bring the list of a child up to date when the last of its parents is done.

    The list that was written with the run directory holds while all parents did all of their work
    at the first attempt, which is the rule.
    """
    child = plan["by_name"][unit.node]
    as_planned = not child["dynamic"] and not reuse.is_wanted(run, child, unit.lane)
    for parent in lanes.parents(plan, unit):
        states = _examined(run, plan, parent, parents)
        complete = all_complete(states)
        if not complete and not _was_skipped(run, plan["by_name"][parent.node]):
            return
        first = all([attempt.number for attempt in state.attempts] == [1] for state in states)
        as_planned = as_planned and complete and first and not _carries_files(states)
    begun = layout.attempts(run, child["name"])
    if unit.lane:
        own = lanes.chunks(child, unit.lane, 0)
        begun = {number: made for number, made in begun.items() if number in own}
    if not as_planned or begun:
        prepare(run, plan, child, parents=parents, lane=unit.lane)


def _carries_files(states: List[ChunkState]) -> bool:
    return any(sum(a.end.get("carrying", ())) for state in states for a in state.attempts)


def discard_damaged(run: str, node: Dict[str, Any]) -> List[str]:
    """Rename the records of a node's damaged outcomes, so that their items count as not done.

    Returns what was wrong with each.
    """
    problems = []
    for number, made in layout.attempts(run, node["name"]).items():
        chunk = layout.chunk_name(number)
        for attempt in made:
            path = os.path.join(run, layout.record(node["name"], chunk, attempt))
            end = recordfile.end(path)
            problem = (
                "it has no record of its end"
                if end is None
                else _problem(run, node, chunk, attempt, end, True)
            )
            if problem:
                os.replace(path, path + ".damaged")
                # Another attempt of this number may bring files of the same names.
                folder = layout.returned(node["name"], chunk, attempt)
                shutil.rmtree(os.path.join(run, folder), ignore_errors=True)
                problems.append(problem)
    return problems
