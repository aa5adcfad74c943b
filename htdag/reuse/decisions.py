"""A report of what is reused from another run, stage by stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from htdag.common.text import counted
from htdag.compile.signatures import NO_IDENTITY
from htdag.reuse.compare import Match
from htdag.reuse.swap import read_identity
from htdag.runtime.dag import adopt

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import NodeEntry, Plan


@dataclass(frozen=True)
class ReuseDecision:
    """The decision for one stage: whether it is reused.

    Attributes
    ----------
    stage : str
        The stage.
    what : {"reuse", "reuse in part", "reuse later", "recompute"}
        ``"reuse later"``: it is decided when the stages before it are done.
    why : str
        The reason.
    """

    stage: str
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.stage}: {self.what}: {self.why}"


def decisions(run: Path, plan: Plan, matches: Mapping[str, Match]) -> list[ReuseDecision]:
    """Return the decision for each stage of a run that was just written.

    Parameters
    ----------
    run : pathlib.Path
        The run directory.
    plan : dict
        Its plan.
    matches : mapping
        The outcome of the comparison with the other run, by node.
    """
    unknown = (read_identity(run) or NO_IDENTITY).get("unknown", {})
    by_name = {node["name"]: node for node in plan["nodes"]}
    result = []
    for entry in plan["stages"]:
        if entry["node"] is None:
            continue
        name = entry["name"]
        match = matches.get(entry["node"])
        if match is None:
            result.append(ReuseDecision(name, "recompute", "it was requested"))
        elif not match.same:
            why = match.reasons.get(name, "it is new")
            result.append(ReuseDecision(name, "recompute", _with(why, unknown.get(entry["node"]))))
        else:
            decision = _of_items(name, run, by_name[entry["node"]])
            if decision.what in ("recompute", "reuse in part"):
                why = _with(decision.why, unknown.get(entry["node"]))
                decision = dataclasses.replace(decision, why=why)
            result.append(decision)
    return result


def _with(why: str, unknown: str | None) -> str:
    return f"{why}; {unknown}" if unknown else why


def _of_items(stage: str, run: Path, node: NodeEntry) -> ReuseDecision:
    if not node.get("reuse"):
        return ReuseDecision(stage, "recompute", "nothing of it was finished")
    adopted = adopt.taken(str(run), node)
    if adopted is None:
        before = " and ".join(node["parents"][:3])
        return ReuseDecision(stage, "reuse later", f"items with unchanged inputs from {before}")
    if adopted.reused == adopted.items:
        return ReuseDecision(stage, "reuse", f"unchanged, {counted(adopted.items, 'item')}")
    if node["mode"] == "reduce":
        return ReuseDecision(stage, "recompute", "what it combines changed")
    if node["returns_files"]:
        rest = adopted.items - adopted.reused
        text = (
            f"of {counted(adopted.items, 'item')}, {rest:,} {'is' if rest == 1 else 'are'} in "
            f"chunks with new, changed or unfinished ones; returned files stay with whole chunks"
        )
        return ReuseDecision(stage, "reuse in part" if adopted.reused else "recompute", text)
    unfinished, new = adopted.unfinished, adopted.items - adopted.reused - adopted.unfinished
    missing = []
    if unfinished:
        missing.append(f"{unfinished:,} had not finished")
    if new:
        missing.append(f"{new:,} {'is' if new == 1 else 'are'} new or changed")
    of = f"of {counted(adopted.items, 'item')} {' and '.join(missing)}"
    return ReuseDecision(stage, "reuse in part" if adopted.reused else "recompute", of)
