"""The items that a result lacks because ``on_error="skip"`` skipped them."""

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
    """An item that failed and was skipped, so that it is not part of a result.

    Attributes
    ----------
    stage : str
        The stage whose function failed.
    key : str or None
        The key of the item; None for a whole job.
    source : object
        The source item that it was made from; None if unknown.
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
    """Yield the items that failed and were skipped in the nodes that a target depends on.

    Parameters
    ----------
    run : pathlib.Path
        The run directory.
    plan : dict
        Its plan.
    target : str
        The target.
    failed : bool
        Whether the run has failed, so that all its failed items are missing.
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
    stages, waiting = set(), [name]
    while waiting:
        current = waiting.pop()
        if current not in stages:
            stages.add(current)
            waiting += plan["by_name"][current]["parents"]
    return [node for node in plan["nodes"] if node["name"] in stages]


def warning(target: str, number: int, tag: str) -> str:
    """Return the warning about a result that lacks items."""
    what = "1 item that failed was" if number == 1 else f"{number} items that failed were"
    return (
        f"the result of {target!r} in run {tag!r} lacks items: {what} skipped (on_error='skip'); "
        f"run.missing({target!r}) lists them"
    )
