"""Groups of errors by cause, the cause of the greatest loss first.

Pure: errors, holds, the plan and the counts of nodes are arguments.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from htdag.common.text import visible
from htdag.observe.item_errors import ItemError
from htdag.observe.status import NodeCounts

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import NodeEntry, Plan

HELD = "Held"
"""The type of a group of jobs on hold."""

_FRAME = re.compile(r'^  File "(.*)", line (\d+), in (.*)$', re.MULTILINE)
# Parts of a message that may differ from item to item.
_VARYING = (
    (re.compile(r"0x[0-9a-fA-F]+"), "0x_"),
    (re.compile(r"'[^']*'|\"[^\"]*\""), "'_'"),
    (re.compile(r"(?:/[^\s/:,;'\"()]+)+/?"), "/_"),
    (re.compile(r"\b[0-9a-fA-F]{8,}\b"), "_"),
    (re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"), "N"),
)
# Consequences of something else, such as jobs that were removed because another one failed.
_CONSEQUENCES = ("JobEnded",)


@dataclass(frozen=True)
class Hold:
    """A job that is on hold.

    Attributes
    ----------
    node : str
        Its DAGMan node.
    job : str
        The job, as ``cluster.proc``.
    code, subcode : int or None
        HTCondor's ``HoldReasonCode`` and ``HoldReasonSubCode``.
    reason : str
        HTCondor's reason.
    host : str
        Where it last ran; "" if unknown.
    why, remedy : str
        The cause in words, and what to do.
    """

    node: str
    job: str
    code: int | None
    subcode: int | None
    reason: str
    host: str = ""
    why: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class ErrorGroup:
    """Errors that have the same cause, judging by their tracebacks and messages.

    Attributes
    ----------
    type : str
        The exception's type, or ``"Held"`` for jobs on hold.
    message : str
        The message of the first error.
    stage : str
        The stage whose function failed.
    node : str
        The DAGMan node that computes it; for a stage in a loop, the node of the loop.
    count : int
        The number of errors.
    keys : tuple of str
        The keys of the items; "" for a whole job. For jobs on hold, their numbers.
    hosts : dict of str to int
        How many errors occurred on each machine, the highest number first.
    example : ItemError or None
        The first error; None for jobs on hold.
    hold_code : int or None
        HTCondor's ``HoldReasonCode``, for jobs on hold.
    futile_stages : tuple of str
        The stages that get fewer items, or none, because the node failed.
    futile_items : int
        How many items of other nodes are not computed because of it, as far as known.
    why, remedy : str
        For jobs on hold: the cause in words, and what to do.
    """

    type: str
    message: str
    stage: str
    node: str
    count: int
    keys: tuple[str, ...]
    hosts: dict[str, int]
    example: ItemError | None
    hold_code: int | None
    futile_stages: tuple[str, ...]
    futile_items: int
    why: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        return visible(f"{self.count} x {self.type} in {self.stage}: {self.message}")

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print it as text in IPython and notebooks."""
        printer.text(str(self))

    def as_dict(self) -> dict[str, Any]:
        """Return all fields, as values that JSON can represent."""
        content = dict(vars(self))
        content["example"] = None if self.example is None else self.example.as_dict()
        return content


def normalized(message: str) -> str:
    """Return the first line of a message, with the parts replaced that differ between items."""
    first = message.strip().split("\n", 1)[0][:500]
    for pattern, placeholder in _VARYING:
        first = pattern.sub(placeholder, first)
    return first


def identity(error: ItemError) -> tuple[str, ...]:
    """Return what all errors of a group have in common."""
    # Each frame counts once, so that the depth of a recursion does not matter.
    frames = dict.fromkeys(_FRAME.findall(error.traceback))
    places = (":".join(frame) for frame in frames)
    return (
        (*error._loops, error.node)[0],
        error.stage,
        error.type,
        normalized(error.message),
        *places,
    )


def groups(
    errors: Iterable[ItemError],
    plan: Plan,
    counts: Mapping[str, NodeCounts],
    holds: Sequence[Hold] = (),
) -> list[ErrorGroup]:
    """Return errors and holds in groups, the group with the greatest loss first.

    Parameters
    ----------
    errors : iterable of ItemError
        The errors.
    plan : mapping
        The run's plan.
    counts : mapping
        The counts of each node by name.
    holds : sequence of Hold
        The jobs on hold.
    """
    kinds: dict[tuple[str, ...], list[ItemError]] = {}
    for error in errors:
        kinds.setdefault(identity(error), []).append(error)
    held: dict[tuple[str, ...], list[Hold]] = {}
    for hold in holds:
        code = normalized(hold.reason) if hold.code is None else f"{hold.code}.{hold.subcode}"
        held.setdefault((hold.node, code), []).append(hold)
    result = [_of_errors(kind, plan, counts) for kind in kinds.values()]
    result += [_of_holds(kind, plan, counts) for kind in held.values()]
    order = {node["name"]: number for number, node in enumerate(plan["nodes"])}
    return sorted(
        result,
        key=lambda group: (
            group.type in _CONSEQUENCES,
            -group.futile_items,
            order[group.node],
            -group.count,
        ),
    )


def _of_errors(errors: list[ItemError], plan: Plan, counts: Mapping[str, NodeCounts]) -> ErrorGroup:
    first = errors[0]
    node = (*first._loops, first.node)[0]  # of a stage in a loop: the node of the loop
    stages, items = futile(node, first.stage, plan, counts)
    return ErrorGroup(
        type=first.type,
        message=first.message,
        stage=first.stage,
        node=node,
        count=len(errors),
        keys=tuple(error.key or "" for error in errors),
        hosts=dict(Counter(error.host for error in errors).most_common()),
        example=first,
        hold_code=None,
        futile_stages=stages,
        futile_items=items,
    )


def _of_holds(holds: list[Hold], plan: Plan, counts: Mapping[str, NodeCounts]) -> ErrorGroup:
    first = holds[0]
    node = plan["by_name"][first.node]
    stage = (node["stages"] or node["outputs"])[0]
    stages, items = futile(first.node, stage, plan, counts)
    return ErrorGroup(
        type=HELD,
        message=first.reason,
        stage=stage,
        node=first.node,
        count=len(holds),
        keys=tuple(hold.job for hold in holds),
        hosts=dict(Counter(hold.host for hold in holds if hold.host).most_common()),
        example=None,
        hold_code=first.code,
        futile_stages=stages,
        futile_items=items,
        why=first.why,
        remedy=first.remedy,
    )


def futile(
    name: str, stage: str, plan: Plan, counts: Mapping[str, NodeCounts]
) -> tuple[tuple[str, ...], int]:
    """Return the stages, and the number of items of other nodes, that a failure makes futile.

    These are the later stages of its own node, which lack the failed items, and the stages of
    unfinished nodes that depend on it.
    """
    node = plan["by_name"][name]
    fused = node["stages"]
    stages = list(fused[fused.index(stage) + 1 :]) if stage in fused else []
    items = 0
    for other in _descendants(name, plan):
        other_counts = counts[other["name"]]
        if other_counts.settled:
            continue
        stages += other["stages"]
        if other["mode"] in ("reduce", "loop"):
            items += bool(other["stages"])  # it yields one value; inner levels of a tree yield none
        else:
            items += max(0, _expected(other, plan, counts) - other_counts.done)
    return tuple(dict.fromkeys(stages)), items


def _expected(node: NodeEntry, plan: Plan, counts: Mapping[str, NodeCounts]) -> int:
    """Return how many items a node has; if that is unknown yet, how many it can have at most."""
    total = counts[node["name"]].total
    total = node["items"] if total is None else total
    reads = node["input"]
    before = reads["streams"][0]["node"]
    if total is None and reads["view"] == "items" and before is not None:
        return _expected(plan["by_name"][before], plan, counts)
    return total or 0


def _descendants(name: str, plan: Plan) -> list[NodeEntry]:
    seen: set[str] = set()
    waiting = list(plan["by_name"][name]["children"])
    while waiting:
        child = waiting.pop()
        if child not in seen:
            seen.add(child)
            waiting += plan["by_name"][child]["children"]
    return [node for node in plan["nodes"] if node["name"] in seen]
