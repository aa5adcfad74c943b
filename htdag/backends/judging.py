"""Let the exit statuses of jobs judge the first try of a node, where that is enough.

A POST script costs a turn of DAGMan, which looks at its log once in 5 s by default. It is needed
to list what is left: for another try, for items that are let go, for the nodes after one that
needed several attempts, and for those that are laid out by what it gave, or read files that came
with it. The first try of another node without retries needs none of it, if its jobs tell by their
exit status whether all of their items are done, and DAGMan does not remove the others at the first
that fails. For that it needs a setting that older versions do not have; a node of one job does
without.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from htdag.backends import abilities
from htdag.runtime import lanes, layout, progress

_KEEPS_OTHERS = "DAGMAN_REMOVE_JOB_LIST_ON_FAILURE"
_SPARED = "# Not needed at the first try, the exit status of the jobs tells: "
_SCRIPT = re.compile(r"^SCRIPT POST (\S+) .*$", re.MULTILINE)
_BY_STATUS = re.compile(
    r"^\s*(max_retries|retry_until|success_exit_code|on_exit_\w+|periodic_\w+)\s*=",
    re.MULTILINE | re.IGNORECASE,
)


def spare_scripts(run: Path, dag: str, dagman: Path) -> None:
    """Take POST scripts that are not needed out of a run that was never submitted.

    Parameters
    ----------
    run : pathlib.Path
        The run directory.
    dag : str
        The name of its DAG file.
    dagman : pathlib.Path
        The program ``condor_dagman`` that will run it.
    """
    all_nodes = progress.read_plan(str(run))["nodes"]
    if any(node.get("reuse") for node in all_nodes):
        return  # what is taken over from another run is done by POST scripts
    nodes = [node for node in all_nodes if node["mode"] != "loop"]
    dynamic = {node["name"] for node in all_nodes if node["dynamic"]}
    # Where a run is to stop at the first error, DAGMan has to remove the other jobs.
    keeps = all(node["on_error"] != "stop" for node in nodes) and abilities.keeps_others(dagman)
    spared = {
        node["name"]
        for node in nodes
        if node["retries"] == 0
        and not dynamic.intersection(node["children"])
        and not (node["carries_files"] and node["children"])
        and not node["delivers"]
        and node["on_error"] == "finish"
        and (keeps or _most_jobs(node) == 1)
        and not _BY_STATUS.search((run / layout.submit(node["name"])).read_text(encoding="utf-8"))
    }

    def without(match: re.Match[str]) -> str:
        return _SPARED + match[0] if lanes.unit(match[1]).node in spared else match[0]

    for name in spared:
        _edit(run / layout.submit(name), "arguments = work ", "arguments = work-status ")
    if keeps and spared:
        _append(run / layout.CONFIG, _CONFIG)
    path = run / dag
    layout.write_aside(
        str(path), _SCRIPT.sub(without, path.read_text(encoding="utf-8")).encode(), sync=False
    )


def restore_scripts(run: Path, dag: str) -> None:
    """Give all nodes their POST scripts again: what is left to do is no longer as planned."""
    _edit(run / dag, _SPARED, "")
    for _, submit in abilities.described(run):
        _edit(submit, "arguments = work-status ", "arguments = work ")


_CONFIG = f"""
# Where a job fails, the others of its node go on to their end.
{_KEEPS_OTHERS} = False
"""


def _most_jobs(node: dict[str, Any]) -> int:
    """Return how many jobs a cluster of the node has, at most."""
    units = lanes.units(node)
    return max(len(lanes.chunks(node, unit.lane, node["chunks"])) for unit in units)


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    if old in text:
        layout.write_aside(str(path), text.replace(old, new).encode(), sync=False)


def _append(path: Path, text: str) -> None:
    layout.write_aside(str(path), (path.read_text(encoding="utf-8") + text).encode(), sync=False)
