"""Whether a loop has another round: decided after each, by the records of its jobs alone."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from . import lanes, layout, progress, recordfile, rounds, streams
from .progress import Plan

DONE, AGAIN, FAILED, STOP = 0, 1, 2, 3
"""What the POST script of a loop ends with; DAGMan tries the node again after `AGAIN` only."""


class Verdict(NamedTuple):
    """What to make of a round."""

    status: int
    text: str


def judge(run: str, plan: Plan, node: Dict[str, Any], returned: int) -> Verdict:
    """Decide whether a loop is over, and prepare what comes next: a round, or what is after it.

    To be called when no job of the round is running; ``returned`` is 0 where its DAG succeeded.
    """
    name = node["name"]
    number = layout.last_round(run, name)
    folder = os.path.join(run, layout.one_round(name, number))
    inner = progress.read_plan(folder)
    left = [each["name"] for each in inner["nodes"] if not progress.is_done(folder, each)]
    if left:
        if returned == 0 and not os.path.exists(
            os.path.join(folder, layout.ROUND_DAG + ".dagman.out")
        ):
            # This was decided before, by a script whose end DAGMan did not live to see.
            return Verdict(AGAIN, "round %d is still to come" % number)
        text = "round %d failed: %s" % (number, ", ".join(left))
        return Verdict(STOP if node["on_error"] == "stop" else FAILED, text)
    over = _answer(folder, inner) if node["loop"]["until"] else None
    if over is None and node["loop"]["until"]:
        # The item that is the state was let go, by on_error="skip".
        return Verdict(FAILED, "round %d has no state, of which until could be asked" % number)
    if not over and number < node["loop"]["max_rounds"]:
        given = given_to_round(run, plan, node, number + 1)
        rounds.make(run, node, number + 1, given, lay_out)
        return Verdict(AGAIN, "round %d is done; round %d is next" % (number, number + 1))
    _end(run, plan, node, number, over)
    why = "until holds" if over else "that is the most"
    if node["loop"]["until"] and not over:
        why += ", and until does not hold"
    return Verdict(DONE, "round %d is done: %s" % (number, why))


def _answer(folder: str, plan: Plan) -> Optional[bool]:
    """Return what the predicate said last; None where no record has it."""
    found: Optional[bool] = None
    for node in plan["nodes"]:
        if node["check"]:
            for chunk, attempts in layout.attempts(folder, node["name"]).items():
                for attempt in attempts:
                    path = layout.record(node["name"], layout.chunk_name(chunk), attempt)
                    for line in recordfile.lines(os.path.join(folder, path)):
                        found = line.get("until", found)
    return found


def _end(run: str, plan: Plan, node: Dict[str, Any], number: int, over: Optional[bool]) -> None:
    """Make the last state the outcome of the loop, and prepare the nodes after it."""
    state = state_after(run, node, number)
    rounds.hand_on(run, node, number, [(cell.files, cell.values) for cell in state.cells])
    content = json.dumps({"rounds": number, "until": over})
    layout.write_aside(os.path.join(run, layout.loop_end(node["name"])), content.encode())
    for child in lanes.children(plan, lanes.Unit(node["name"])):
        progress.prepare_child(run, plan, child, {})


def lay_out(run: str) -> None:
    """Write the lists of the nodes of a round that can run, and of those that are known enough."""
    plan = progress.read_plan(run)
    for node in plan["nodes"]:
        if node["dynamic"] or layout.attempts(run, node["name"]):
            continue
        reading = streams.Reading(run, plan, node, None)
        for unit in lanes.units(node):
            numbers = lanes.chunks(node, unit.lane, node["chunks"])
            jobs = ((number, 1, None) for number in numbers)
            progress.write_list(run, node, jobs, reading, unit.lane)
    progress.prepare_rest(run, plan)


def prepare(run: str, plan: Plan, node: Dict[str, Any], outcomes: streams.Outcomes) -> None:
    """Make the first round of a loop, or bring the one up to date that is to go on."""
    name = node["name"]
    rounds.withdraw(run, node)
    number = layout.last_round(run, name)
    while number > 1 and not _is_done(run, node, number):
        if _is_done(run, node, number - 1, only_state=True):
            break
        rounds.drop(run, node, number)
        number -= 1
    given = given_to_round(run, plan, node, max(number, 1), outcomes)
    begin = rounds.refresh if number else rounds.make
    begin(run, node, max(number, 1), given, lay_out)


def last_rounds(
    run: str, plan: Plan, most: Optional[int] = None
) -> Iterator[Tuple[Tuple[int, ...], str, Plan]]:
    """Yield the rounds of all loops, also of loops in them: their numbers, folders and plans.

    Of each loop the last `most` ones, or all; a round comes before the rounds in it.
    """
    for node in plan["nodes"]:
        if node["mode"] == "loop":
            last = layout.last_round(run, node["name"])
            first = 1 if most is None else max(1, last - most + 1)
            for number in range(first, last + 1):
                folder = os.path.join(run, layout.one_round(node["name"], number))
                inner = progress.read_plan(folder)
                yield (number,), folder, inner
                for numbers, deeper, plan_there in last_rounds(folder, inner, most):
                    yield (number, *numbers), deeper, plan_there


def _is_done(run: str, node: Dict[str, Any], number: int, *, only_state: bool = False) -> bool:
    """Tell whether a round is done, or at least the state that it ends with is there."""
    folder = os.path.join(run, layout.one_round(node["name"], number))
    plan = progress.read_plan(folder)
    wanted = [_maker(plan, node)] if only_state else plan["nodes"]
    return all(progress.is_done(folder, each) for each in wanted)


def _maker(plan: Plan, node: Dict[str, Any]) -> Dict[str, Any]:
    """Return the node, in the plan of a round, that makes the state."""
    result = node["loop"]["result"]
    where = next(entry["where"] for entry in plan["stages"] if entry["name"] == result)
    found: Dict[str, Any] = plan["by_name"][where]
    return found


def given_to_round(
    run: str,
    plan: Plan,
    node: Dict[str, Any],
    number: int,
    outcomes: Optional[streams.Outcomes] = None,
) -> List[rounds.Given]:
    """Return what a round of a loop reads: the state before it, and what is from outside."""
    if outcomes is None:
        outcomes = {
            parent: progress.outcomes_of(progress.examine(run, plan["by_name"][parent]))
            for parent in node["parents"]
        }
    reading = streams.Reading(run, plan, node, outcomes)
    given = [rounds.Given(run, cells) for cells in reading.cells]
    if number > 1:
        given[0] = state_after(run, node, number - 1)
    return given


def state_after(run: str, node: Dict[str, Any], number: int) -> rounds.Given:
    """Return where the state is that a round of a loop ended with."""
    folder = os.path.join(run, layout.one_round(node["name"], number))
    plan = progress.read_plan(folder)
    maker = _maker(plan, node)
    outcomes = progress.outcomes_of(progress.examine(folder, maker))
    stream = {"stage": node["loop"]["result"], "node": maker["name"]}
    return rounds.Given(folder, streams.outcome_cells(folder, plan, stream, outcomes))
