"""Whether a loop has another round: decided after each, by the records of its jobs alone."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, NamedTuple, Optional

from . import layout, progress, recordfile, rounds
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
        if returned == 0 and not os.path.exists(os.path.join(folder, layout.ROUND_DAG + ".dagman.out")):
            # This was decided before, by a script whose end DAGMan did not live to see.
            return Verdict(AGAIN, "round %d is still to come" % number)
        text = "round %d failed: %s" % (number, ", ".join(left))
        return Verdict(STOP if node["on_error"] == "stop" else FAILED, text)
    over = _answer(folder, inner) if node["loop"]["until"] else None
    if over is None and node["loop"]["until"]:
        return Verdict(FAILED, "round %d: there is no word of until in its records" % number)
    if not over and number < node["loop"]["max_rounds"]:
        given = progress.given_to_round(run, plan, node, number + 1)
        rounds.make(run, node, number + 1, given, progress.lay_out)
        return Verdict(AGAIN, "round %d is done; round %d is next" % (number, number + 1))
    _end(run, plan, node, number, over)
    why = "until holds" if over else "that is the most"
    if node["loop"]["until"] and not over:
        why += ", and until does not hold"
    return Verdict(DONE, "round %d is done: %s" % (number, why))


def _answer(folder: str, plan: Plan) -> Optional[bool]:
    """Return what the predicate said; None where no record has it."""
    found: Optional[bool] = None
    for node in plan["nodes"]:
        if node["check"]:
            for chunk, attempts in layout.attempts(folder, node["name"]).items():
                path = layout.record(node["name"], layout.chunk_name(chunk), attempts[-1])
                for line in recordfile.lines(os.path.join(folder, path)):
                    found = line.get("until", found)
    return found


def _end(run: str, plan: Plan, node: Dict[str, Any], number: int, over: Optional[bool]) -> None:
    """Make the last state the outcome of the loop, and prepare the nodes after it."""
    state = progress.state_after(run, node, number)
    rounds.hand_on(run, node, number, [(cell.files, cell.values) for cell in state.cells])
    content = json.dumps({"rounds": number, "until": over})
    layout.write_aside(os.path.join(run, layout.loop_end(node["name"])), content.encode())
    for child in node["children"]:
        progress.prepare_child(run, plan, plan["by_name"][child], {})
