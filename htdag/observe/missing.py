"""What a result lacks: the items that ``on_error="skip"`` let go on the way to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from htdag.common.text import visible
from htdag.observe import item_errors, outcomes
from htdag.observe.item_errors import ItemError

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import NodeEntry, Plan


@dataclass(frozen=True)
class MissingItem:
    """An item that failed and was let go, and so is not part of a result.

    Attributes
    ----------
    stage : str
        The stage at whose function it failed.
    key : str or None
        The item; None where a whole job is meant.
    source : object
        The source item that it was made from; None where that is not known.
    error : ItemError
        Why it failed.
    """

    stage: str
    key: str | None
    source: Any
    error: ItemError

    def __str__(self) -> str:
        text = f"{self.stage}, item {self.key}: {self.error.type}: {self.error.message}"
        return visible(text)


def missing(run: Path, plan: Plan, target: str, failed: bool = False) -> Iterator[MissingItem]:
    """Yield the items that failed, and were let go, in any node that a target depends on.

    Parameters
    ----------
    run : pathlib.Path
        The run directory.
    plan : dict
        Its plan.
    target : str
        The target.
    failed : bool
        Whether the run has failed, so that all that failed in it is missing.
    """
    sources = outcomes.Sources(run, plan)
    needed = ancestors(plan, outcomes.writer_of(plan, target)["name"])
    lossy = {node["name"] for node in needed if failed or outcomes.skipped_items(run, node)}
    for error in item_errors.errors(run, plan) if lossy else ():
        if error.node in lossy:
            source = sources.of(error.node, error.key) if error.key else None
            yield MissingItem(error.stage, error.key, source, error)


def ancestors(plan: Plan, name: str) -> list[NodeEntry]:
    """Return a node and all nodes that it depends on, in the order of the plan."""
    wanted, left = set(), [name]
    while left:
        here = left.pop()
        if here not in wanted:
            wanted.add(here)
            left += plan["by_name"][here]["parents"]
    return [node for node in plan["nodes"] if node["name"] in wanted]


def warning(target: str, number: int, tag: str) -> str:
    """Return what is said when a result is taken that lacks items."""
    what = "1 item that failed was" if number == 1 else f"{number} items that failed were"
    return (
        f"the result of {target!r} in run {tag!r} is not of all items: {what} let go "
        f"(on_error='skip'); run.missing({target!r}) lists them"
    )
