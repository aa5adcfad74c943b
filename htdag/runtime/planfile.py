"""The plan of a run directory, and those in it: rounds of loops are run directories too."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Iterator, List, NamedTuple, Optional, Tuple

from . import layout
from .layout import NodeFiles

if TYPE_CHECKING:
    from .formats.plan import LoopEntry, NodeEntry, Plan, PlanContent


class RunPlan(NamedTuple):
    """A run directory with its plan: that of a run, or of a round of a loop in it."""

    folder: str
    plan: Plan
    loops: Tuple[str, ...] = ()  # which it is a round of, outermost first
    rounds: Tuple[int, ...] = ()  # their numbers; 0 stands for what all rounds are copies of

    def round_of(self, loop: str, number: int) -> RunPlan:
        """Return a round of a loop; for 0, its template."""
        files = NodeFiles(self.folder, loop)
        folder = files.round(number) if number else files.step
        return RunPlan(folder, read(folder), (*self.loops, loop), (*self.rounds, number))

    def rounds_of(
        self, loop: str, most: Optional[int] = None, *, template: bool = False
    ) -> Iterator[RunPlan]:
        """Yield the rounds of a loop that have begun: the last `most` ones, or all.

        With `template`, the template comes first.
        """
        last = NodeFiles(self.folder, loop).last_round()
        first = 1 if most is None else max(1, last - most + 1)
        for number in [*([0] if template else []), *range(first, last + 1)]:
            yield self.round_of(loop, number)


def read(run: str) -> Plan:
    """Return the plan of a run directory, its nodes by name in topological order."""
    path = os.path.join(run, layout.PLAN)
    content: PlanContent = layout.read_json(path, "nodes", "stages", "sources")
    return indexed(content)


def indexed(content: PlanContent) -> Plan:
    """Return a plan with its nodes by name."""
    return {**content, "by_name": {node["name"]: node for node in content["nodes"]}}


def loop(node: NodeEntry) -> LoopEntry:
    """Return what a loop repeats."""
    entry = node["loop"]
    assert entry is not None, "%s is not a loop" % node["name"]
    return entry


def loops_of(plan: Plan) -> List[str]:
    """Return the nodes of a plan that are loops."""
    return [node["name"] for node in plan["nodes"] if node["mode"] == "loop"]


def walk_loops(
    run: RunPlan, most: Optional[int] = None, *, template: bool = False
) -> Iterator[RunPlan]:
    """Yield a run, and the rounds of its loops, also of loops in these.

    A round comes before the rounds in it. `most` and `template` are as for
    `RunPlan.rounds_of`.
    """
    yield run
    for loop in loops_of(run.plan):
        for inner in run.rounds_of(loop, most, template=template):
            yield from walk_loops(inner, most, template=template)


def walk_nodes(
    run: RunPlan, most: Optional[int] = None, *, template: bool = False
) -> Iterator[Tuple[RunPlan, NodeEntry]]:
    """Yield the nodes with jobs in the order of the plan; in place of a loop those of its rounds.

    `most` and `template` are as for `RunPlan.rounds_of`.
    """
    for node in run.plan["nodes"]:
        if node["mode"] != "loop":
            yield run, node
            continue
        for inner in run.rounds_of(node["name"], most, template=template):
            yield from walk_nodes(inner, most, template=template)
