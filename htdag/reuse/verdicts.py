"""What is taken over from another run, stage by stage, in words."""

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
class Verdict:
    """What happens to one stage.

    Attributes
    ----------
    stage : str
        The stage.
    what : {"reuse", "reuse in part", "reuse later", "recompute"}
        ``"reuse later"``: what can be reused shows when the stages before it are done.
    why : str
        The reason.
    """

    stage: str
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.stage}: {self.what}: {self.why}"


def verdicts(run: Path, plan: Plan, matches: Mapping[str, Match]) -> list[Verdict]:
    """Return what happens to each stage of a run that was just written.

    Parameters
    ----------
    run : pathlib.Path
        The run directory.
    plan : dict
        Its plan.
    matches : mapping
        What of the other run its nodes were found to be.
    """
    unknown = (read_identity(run) or NO_IDENTITY).get("unknown", {})
    by_name = {node["name"]: node for node in plan["nodes"]}
    found = []
    for entry in plan["stages"]:
        if entry["node"] is None:
            continue
        name = entry["name"]
        match = matches.get(entry["node"])
        if match is None:
            found.append(Verdict(name, "recompute", "it was asked for"))
        elif not match.same:
            why = match.reasons.get(name, "it is new")
            found.append(Verdict(name, "recompute", _with(why, unknown.get(entry["node"]))))
        else:
            verdict = _of_items(name, run, by_name[entry["node"]])
            if verdict.what in ("recompute", "reuse in part"):
                why = _with(verdict.why, unknown.get(entry["node"]))
                verdict = dataclasses.replace(verdict, why=why)
            found.append(verdict)
    return found


def _with(why: str, unknown: str | None) -> str:
    return f"{why}; {unknown}" if unknown else why


def _of_items(stage: str, run: Path, node: NodeEntry) -> Verdict:
    if not node.get("reuse"):
        return Verdict(stage, "recompute", "nothing of it was finished")
    taken = adopt.taken(str(run), node)
    if taken is None:
        before = " and ".join(node["parents"][:3])
        return Verdict(stage, "reuse later", f"items whose input comes out of {before} as before")
    if taken.reused == taken.items:
        return Verdict(stage, "reuse", f"unchanged, {counted(taken.items, 'item')}")
    if node["mode"] == "reduce":
        return Verdict(stage, "recompute", "what it combines changed")
    if node["returns_files"]:
        left = taken.items - taken.reused
        text = (
            f"of {counted(taken.items, 'item')} {left:,} {'is' if left == 1 else 'are'} in chunks "
            f"with new, changed or unfinished ones, and returned files stay with whole chunks"
        )
        return Verdict(stage, "reuse in part" if taken.reused else "recompute", text)
    unfinished, new = taken.unfinished, taken.items - taken.reused - taken.unfinished
    missing = []
    if unfinished:
        missing.append(f"{unfinished:,} had not finished")
    if new:
        missing.append(f"{new:,} {'is' if new == 1 else 'are'} new or changed")
    of = f"of {counted(taken.items, 'item')} {' and '.join(missing)}"
    return Verdict(stage, "reuse in part" if taken.reused else "recompute", of)
