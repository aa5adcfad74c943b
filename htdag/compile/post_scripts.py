"""The decision which nodes need no POST script, since exit statuses of jobs suffice.

A POST script costs a DAGMan cycle: DAGMan reads its log every 5 s by default. A node needs one if
it has retries, if failed items may be skipped, if returned files are delivered, and before a loop,
whose first round the script makes. Any other node is judged by its jobs, if their exit statuses
tell whether all items are done, and if DAGMan does not remove the other jobs when one fails. The
latter needs a setting that older versions do not have, unless the node has a single job.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from htdag.compile.environments import Placed
from htdag.compile.scheduler import Scheduler
from htdag.plan import Node, Plan
from htdag.runtime import lanes

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import NodeEntry, PlanContent


_BY_STATUS = ("max_retries", "retry_until", "success_exit_code", "on_exit_", "periodic_")


def keeps_jobs(plan: Plan) -> bool:
    """Return whether the other jobs of a node should go on if one fails.

    If a run should stop at the first error, DAGMan has to remove them.
    """
    nodes = [node for node in plan.nodes if node.round is None]
    return all(node.options.on_error != "stop" for node in nodes)


def judged_by_status(
    plan: Plan,
    content: PlanContent,
    placed: Mapping[str, Placed],
    scheduler: Scheduler,
) -> Collection[str]:
    """Return the nodes that need no POST script.

    Parameters
    ----------
    plan : Plan
        The plan.
    content : mapping
        The content of its ``plan.json``.
    placed : mapping of str to Placed
        The environment of each node's jobs.
    scheduler : Scheduler
        The HTCondor that will run it.
    """
    entries = {entry["name"]: entry for entry in content["nodes"]}
    if any(entry.get("reuse") for entry in entries.values()):
        return ()  # POST scripts take over results of other runs
    keeps = scheduler.keeps_jobs and keeps_jobs(plan)
    return {
        node.name
        for node in plan.nodes
        if node.round is None
        and _is_simple(entries[node.name])
        and not any(entries[child]["mode"] == "loop" for child in entries[node.name]["children"])
        and (keeps or _most_jobs(entries[node.name]) == 1)
        and not _condor_uses_status(node, placed[node.name])
    }


def _is_simple(entry: NodeEntry) -> bool:
    return entry["retries"] == 0 and not entry["delivers"] and entry["on_error"] in (None, "finish")


def _condor_uses_status(node: Node, place: Placed) -> bool:
    """Return whether HTCondor itself uses the exit status of the jobs."""
    names = [name for name, _ in (*place.prepared.submit, *(node.options.submit or ()))]
    return any(name.lower().startswith(_BY_STATUS) for name in names)


def _most_jobs(entry: NodeEntry) -> int:
    """Return the greatest number of jobs in a cluster of the node."""
    units = lanes.units(entry)
    return max(len(lanes.chunks(entry, unit.lane, entry["chunks"])) for unit in units)
