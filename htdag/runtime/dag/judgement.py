"""The judgement of a node after a try: done, skipped, or retried."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, List, NamedTuple, Tuple

from .. import lanes, layout
from ..lanes import Unit
from ..layout import NodeFiles
from . import delivery, prepare, progress, submitfile

if TYPE_CHECKING:
    from ..formats.plan import NodeEntry, Plan

NO_RETRY = 4
"""The exit status of a POST script for a node that no retry would help."""


class Verdict(NamedTuple):
    """The verdict on a try of a node."""

    succeeded: bool
    states: List[progress.ChunkState]
    text: str
    hopeless: bool  # no job found a matching environment: a retry would not either


def judge(run: str, plan: Plan, node: NodeEntry, *, last_try: bool, lane: int = 0) -> Verdict:
    """Decide whether a node, or a lane of it, is done, and prepare the next step.

    On success, the lists of its children are updated; else its own list is reduced to what is left.
    Call this when no job of the node, or of that lane, is running.
    """
    progress.finish_killed(run, node, lane)
    states = progress.examine(run, node, lane=lane)
    left = [state for state in states if not state.complete]
    succeeded = not left
    text = "%d of %d chunks complete" % (len(states) - len(left), len(states))
    hopeless = bool(left) and all(state.mismatch for state in states)
    if hopeless:
        text += "; the environment does not match"
    elif left and last_try and node["on_error"] == "skip":
        errors, items = _failed_items(run, node, states)
        limit = node["max_errors"] or 0
        allowed = limit * items if isinstance(limit, float) else limit
        untouched = [state for state in left if not state.attempts or state.mismatch]
        succeeded = errors <= allowed and not untouched
        if succeeded:
            content = json.dumps({"items": errors}).encode()
            layout.write_aside(NodeFiles(run, node["name"]).skipped, content)
        text += "; %d of %d items failed, %g allowed" % (errors, items, allowed)
    for state in states:
        for problem in state.damaged:
            text += "\n" + problem
    if succeeded and node["delivers"]:
        every = progress.examine(run, node) if lane else states
        problem = (
            delivery.deliver(run, node, every) if not lane or progress.all_complete(every) else ""
        )
        text += "\n" + problem if problem else ""
        succeeded = not problem
    if succeeded:
        unit = Unit(node["name"], lane)
        examined: progress.Examined = {unit: states}
        for child in lanes.children(plan, unit):
            prepare.update_child(run, plan, child, examined)
    else:
        learnt = submitfile.raise_memory(run, node)
        text += "; " + learnt if learnt else ""
        prepare.prepare(run, plan, node, states, lane=lane)
    return Verdict(succeeded, states, text, hopeless)


def _failed_items(run: str, node: NodeEntry, states: List[progress.ChunkState]) -> Tuple[int, int]:
    """Return how many items of a node are not done, and how many it has."""
    errors = 0
    files = NodeFiles(run, node["name"])
    for state in (state for state in states if not state.complete):
        ranges = progress.ranges_left(files, node, state.number, state.attempts)
        errors += sum(last - first + 1 for first, last in ranges or [(0, 0)])
    items = sum(
        attempts[0].end["items"] or 0
        for attempts in (state.attempts for state in states)
        if attempts
    )
    return errors, items
