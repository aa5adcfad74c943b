"""What is done and what is left to do, from the records in a run directory alone."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from . import (
    checkpoint,
    chunkfile,
    deliver,
    itemfile,
    layout,
    outfiles,
    recordfile,
    requests,
    streams,
    worker,
)

# HTCondor 25.14.1 refuses a longer line of an item list, but only with late materialisation.
LONGEST_MATERIALIZED = 65_000

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


Examined = Dict[str, List[ChunkState]]


def read_plan(run: str) -> Plan:
    """Return the plan of a run directory, its nodes by name in topological order."""
    with open(os.path.join(run, layout.PLAN), encoding="utf-8") as file:
        plan: Plan = json.load(file)
    plan["by_name"] = {node["name"]: node for node in plan["nodes"]}
    return plan


def examine(run: str, node: Dict[str, Any], *, verify: bool = False) -> List[ChunkState]:
    """Return the state of every chunk of a node.

    Parameters
    ----------
    run : str
        The run directory.
    node : dict
        The node, from the plan.
    verify : bool
        Read all outcome files and check their checksums, not only their sizes.
    """
    made = layout.attempts(run, node["name"])
    return [
        _chunk_state(run, node, number, made.get(number, []), verify)
        for number in range(streams.chunks(run, node))
    ]


def _chunk_state(
    run: str, node: Dict[str, Any], number: int, made: List[int], verify: bool
) -> ChunkState:
    sound: List[Attempt] = []
    damaged: List[str] = []
    failed = 0
    chunk = layout.chunk_name(number)
    for attempt in made:
        end = recordfile.end(os.path.join(run, layout.record(node["name"], chunk, attempt)))
        if end is None:
            failed = 1
            continue
        failed = end["failed"] or (1 if end["remaining"] != 0 else 0)
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
        complete = len(sound) > 1 and _left(run, node, chunk, sound) == []
    return ChunkState(number, sound, made[-1] if made else 0, complete, failed, damaged)


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


def _left(
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


def close_killed(run: str, node: Dict[str, Any]) -> None:
    """Make usable what jobs left behind that were killed. No job of the node may be running."""
    name = node["name"]
    here = os.getcwd()
    os.chdir(run)
    try:
        for number, made in layout.attempts(".", name).items():
            chunk = layout.chunk_name(number)
            for attempt in made:
                if recordfile.end(layout.record(name, chunk, attempt)) is None:
                    worker.close_killed(name, chunk, attempt)
    finally:
        os.chdir(here)


def _outcomes(states: List[ChunkState]) -> List[streams.Outcome]:
    return [
        streams.Outcome([a.number for a in state.attempts], [a.end for a in state.attempts])
        for state in states
    ]


def write_list(
    run: str,
    node: Dict[str, Any],
    jobs: Iterable[Tuple[int, int, chunkfile.Ranges]],
    reading: streams.Reading,
) -> int:
    """Write the descriptions of jobs, and the list that the node queues; return their number.

    ``jobs`` are chunk, attempt and what is left to do.
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
    path = os.path.join(run, layout.chunk_list(node["name"]))
    layout.write_aside(path, "".join(lines).encode())
    if max(map(len, lines), default=0) > LONGEST_MATERIALIZED:
        _submit_at_once(os.path.join(run, layout.submit(node["name"])))
    return len(lines)


def _submit_at_once(path: str) -> None:
    """Take late materialisation, which does not bear long lines, out of a submit description."""
    with open(path, encoding="utf-8") as file:
        lines = file.readlines()
    kept = [line for line in lines if not line.startswith(("max_materialize", "max_idle"))]
    if len(kept) < len(lines):
        layout.write_aside(path, "".join(kept).encode())


def prepare(
    run: str,
    plan: Plan,
    node: Dict[str, Any],
    states: Optional[List[ChunkState]] = None,
    parents: Optional[Examined] = None,
) -> int:
    """Rewrite a node's list to what is left to do, and return the number of jobs.

    A list is never empty, since HTCondor cannot submit zero jobs: where nothing is left, the last
    chunk is listed with nothing to do. ``states`` are those of the node, ``parents`` those of
    nodes before it, where they were examined already.
    """
    known = {} if parents is None else parents
    outcomes = {
        parent: _outcomes(_examined(run, plan, parent, known)) for parent in node["parents"]
    }
    # First, since it decides which chunks there are where the data of the parents do.
    reading = streams.Reading(run, plan, node, outcomes)
    states = examine(run, node) if states is None else states
    left = [state for state in states if not state.complete]
    jobs: List[Tuple[int, int, chunkfile.Ranges]] = []
    for state in left or states[-1:]:
        todo = _left(run, node, layout.chunk_name(state.number), state.attempts)
        jobs.append((state.number, state.last_attempt + 1, todo))
    return write_list(run, node, jobs, reading)


def _examined(run: str, plan: Plan, name: str, known: Examined) -> List[ChunkState]:
    if name not in known:
        known[name] = examine(run, plan["by_name"][name])
    return known[name]


def is_done(run: str, node: Dict[str, Any]) -> bool:
    """Tell whether a node needs no more work: complete, or its failed items were let go."""
    done = _was_skipped(run, node) or all(state.complete for state in examine(run, node))
    return done and not deliver.is_left(run, node)


def _was_skipped(run: str, node: Dict[str, Any]) -> bool:
    return os.path.exists(os.path.join(run, layout.skipped(node["name"])))


def prepare_rest(run: str, plan: Plan) -> List[str]:
    """Prepare what can run at once, and return the names of the nodes that are done.

    To be called when nothing of the run is under way. Nodes further down are prepared when their
    parents are done.
    """
    done = [node["name"] for node in plan["nodes"] if is_done(run, node)]
    for node in plan["nodes"]:
        if node["name"] not in done and set(node["parents"]) <= set(done):
            prepare(run, plan, node)
    return done


class Verdict(NamedTuple):
    """What to make of an attempt of a node."""

    succeeded: bool
    states: List[ChunkState]
    text: str


def judge(run: str, plan: Plan, node: Dict[str, Any], *, last_try: bool) -> Verdict:
    """Decide whether a node is done, and prepare what comes next.

    On success the lists of its children are brought up to date; else its own list is cut to what
    is left. To be called when no job of the node is running.
    """
    close_killed(run, node)
    states = examine(run, node)
    left = [state for state in states if not state.complete]
    succeeded = not left
    text = "%d of %d chunks complete" % (len(states) - len(left), len(states))
    if left and last_try and node["on_error"] == "skip":
        errors, items = _errors(run, node, states)
        limit = node["max_errors"]
        allowed = limit * items if isinstance(limit, float) else limit
        untouched = [state for state in left if not state.attempts]
        succeeded = errors <= allowed and not untouched
        if succeeded:
            content = json.dumps({"items": errors}).encode()
            layout.write_aside(os.path.join(run, layout.skipped(node["name"])), content)
        text += "; %d failed items, %g may be skipped" % (errors, allowed)
    for state in states:
        for problem in state.damaged:
            text += "\n" + problem
    if succeeded and node["delivers"]:
        made = [
            (layout.chunk_name(state.number), [attempt.number for attempt in state.attempts])
            for state in states
            if state.attempts
        ]
        problem = deliver.deliver(run, node, made)
        text += "\n" + problem if problem else ""
        succeeded = not problem
    if succeeded:
        for child in node["children"]:
            _prepare_child(run, plan, plan["by_name"][child], {node["name"]: states})
    else:
        prepare(run, plan, node, states)
    return Verdict(succeeded, states, text)


def _prepare_child(run: str, plan: Plan, child: Dict[str, Any], parents: Examined) -> None:
    """Bring the list of a node up to date when the last of its parents is done.

    The list that was written with the run directory holds while all parents did all of their work
    at the first attempt, which is the rule.
    """
    as_planned = not child["dynamic"]
    for name in child["parents"]:
        states = _examined(run, plan, name, parents)
        complete = all(state.complete for state in states)
        if not complete and not _was_skipped(run, plan["by_name"][name]):
            return
        first = all([attempt.number for attempt in state.attempts] == [1] for state in states)
        as_planned = as_planned and complete and first and not _carries_files(states)
    if not as_planned or layout.attempts(run, child["name"]):
        prepare(run, plan, child, parents=parents)


def _carries_files(states: List[ChunkState]) -> bool:
    return any(sum(a.end.get("carrying", ())) for state in states for a in state.attempts)


def _errors(run: str, node: Dict[str, Any], states: List[ChunkState]) -> Tuple[int, int]:
    """Return how many items of a node are not done, and how many it has."""
    errors = 0
    for state in (state for state in states if not state.complete):
        ranges = _left(run, node, layout.chunk_name(state.number), state.attempts)
        errors += sum(last - first + 1 for first, last in ranges or [(0, 0)])
    items = sum(
        attempts[0].end["items"] or 0
        for attempts in (state.attempts for state in states)
        if attempts
    )
    return errors, items


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
