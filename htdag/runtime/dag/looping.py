"""The judgement of a round of a loop, from the records of its jobs alone."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple, Optional

from .. import lanes, layout, planfile
from ..data import recordfile
from ..layout import NodeFiles
from . import prepare, progress, rounds

if TYPE_CHECKING:
    from ..formats.plan import LoopEnd, NodeEntry, Plan

DONE, AGAIN, FAILED, STOP = 0, 1, 2, 3
"""Exit statuses of the POST script of a loop; DAGMan runs the node again only after `AGAIN`."""


class Verdict(NamedTuple):
    """The verdict on a round."""

    status: int
    text: str


def judge(run: str, plan: Plan, node: NodeEntry, returned: int) -> Verdict:
    """Decide whether a loop is over, and prepare its next round or the nodes after it.

    Call this when no job of the round is running; ``returned`` is 0 if its DAG succeeded.
    """
    files = NodeFiles(run, node["name"])
    number = files.last_round()
    folder = files.round(number)
    inner = planfile.read(folder)
    left = [each["name"] for each in inner["nodes"] if not progress.is_done(folder, each)]
    if left:
        if returned == 0 and not os.path.exists(
            os.path.join(folder, layout.ROUND_DAG + ".dagman.out")
        ):
            # An earlier script decided this, but DAGMan ended before it saw the exit status.
            return Verdict(AGAIN, "round %d is still to come" % number)
        text = "round %d failed: %s" % (number, ", ".join(left))
        return Verdict(STOP if node["on_error"] == "stop" else FAILED, text)
    repeats = planfile.loop(node)
    over = _answer(folder, inner) if repeats["until"] else None
    if over is None and repeats["until"]:
        # The item that is the state was skipped, by on_error="skip".
        return Verdict(FAILED, "round %d has no state that until could check" % number)
    if not over and number < repeats["max_rounds"]:
        inputs = prepare.given_to_round(run, plan, node, number + 1)
        rounds.make(run, node, number + 1, inputs, prepare.lay_out)
        return Verdict(AGAIN, "round %d is done; round %d is next" % (number, number + 1))
    _end(run, plan, node, number, over)
    why = "until holds" if over else "that is max_rounds"
    if repeats["until"] and not over:
        why += ", and until does not hold"
    return Verdict(DONE, "round %d is done: %s" % (number, why))


def _answer(folder: str, plan: Plan) -> Optional[bool]:
    """Return the last answer of the predicate; None if no record has it."""
    answer: Optional[bool] = None
    for node in plan["nodes"]:
        if node["check"]:
            files = NodeFiles(folder, node["name"])
            for chunk, attempts in files.attempts().items():
                for attempt in attempts:
                    for line in recordfile.lines(files.attempt(chunk, attempt).record):
                        answer = line.get("until", answer)
    return answer


def _end(run: str, plan: Plan, node: NodeEntry, number: int, over: Optional[bool]) -> None:
    """Make the last state the outcome of the loop, and prepare the nodes after it."""
    state = prepare.state_after(run, node, number)
    rounds.publish_outcome(
        run, node, number, [(block.files, block.values) for block in state.blocks]
    )
    end: LoopEnd = {"rounds": number, "until": over}
    layout.write_aside(NodeFiles(run, node["name"]).loop_end, json.dumps(end).encode())
    for child in lanes.children(plan, lanes.Unit(node["name"])):
        prepare.update_child(run, plan, child, {})
