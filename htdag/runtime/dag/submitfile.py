"""Changes to a node's submit description, which DAGMan reads for each attempt.

Users request other resources, or that later jobs are put on hold. The records of jobs say how much
memory the next ones need: when a job is evicted for memory, HTCondor raises its request by
``retry_request_memory``, but only in that job. And lists of jobs can have lines that are too long
for late materialization.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence

from .. import layout, planfile, requests
from ..data import recordfile
from ..lanes import Unit
from ..layout import NodeFiles
from . import postlog

if TYPE_CHECKING:
    from ..formats.plan import AtOnceFile, NodeEntry
    from ..formats.record import RecordError

# HTCondor 25.14.1 refuses a longer line of an item list, but only with late materialization.
LONGEST_MATERIALIZED = 65_000

NOT_HELD = "# Nothing: jobs are not to come on hold.\n"
"""What a submit description includes if its jobs are not put on hold."""

_HELD_BY = "MY.HtdagHeldBy"
_LIMITS = ("max_materialize", "max_idle")
_SIGKILL = "signal 9 "


def commands(run: str, node: str) -> Dict[str, str]:
    """Return the commands of a node's submit description, by names in lower case."""
    lines = _lines(run, node)
    return {_name(line): line.partition("=")[2].strip() for line in lines if _name(line)}


def change(run: str, node: str, values: Mapping[str, str], removed: Sequence[str] = ()) -> None:
    """Change, add or remove commands; DAGMan reads the old description or the new one."""
    lines = [line for line in _lines(run, node) if _name(line) not in removed]
    for name, value in values.items():
        text = "%s = %s\n" % (name, value)
        places = [n for n, line in enumerate(lines) if _name(line) == name.lower()]
        if places:
            lines[places[-1]] = text
        else:
            queue = next(n for n, line in enumerate(lines) if line.split(None, 1)[:1] == ["queue"])
            lines.insert(queue, text)
    layout.write_aside(NodeFiles(run, node).submit, "".join(lines).encode())


def _lines(run: str, node: str) -> List[str]:
    with open(NodeFiles(run, node).submit, encoding="utf-8") as file:
        return file.readlines()


def _name(line: str) -> str:
    """Return the name of the command in a line, in lower case, or ""."""
    name, equals, _ = line.partition("=")
    return name.strip().lower() if equals and not line.startswith("#") else ""


# Jobs on hold


def hold(run: str, node: str, by: str) -> None:
    """Put jobs on hold that are submitted later, for the action that requests it."""
    lines = ["%s = %s" % (_HELD_BY, json.dumps(by))]
    # With late materialization HTCondor forgets the hold. If the user did not request it, all jobs
    # are created at once; else none is created before the release.
    limited = _limits_given(planfile.read(run)["by_name"][node], commands(run, node))
    lines += ["MY.JobMaterializePaused = 1"] if limited else ["hold = True", "max_materialize ="]
    content = "".join(line + "\n" for line in lines)
    layout.write_aside(NodeFiles(run, node).held, content.encode())


def release(run: str, node: str) -> None:
    """Take `hold` back."""
    if held_by(run, node):
        layout.write_aside(NodeFiles(run, node).held, NOT_HELD.encode())


def held_by(run: str, node: str) -> str:
    """Return the action for which later jobs are put on hold, or ""."""
    try:
        with open(NodeFiles(run, node).held, encoding="utf-8") as file:
            name, _, action = file.readline().partition("=")
    except FileNotFoundError:
        return ""
    return str(json.loads(action)) if name.strip() == _HELD_BY else ""


# Late materialization


def drop_late_materialization(run: str, node: NodeEntry, lane: int, lines: Iterable[str]) -> None:
    """Remove late materialization from a submit description if a list has lines too long for it.

    If that removes a limit that the user set, it is noted.
    """
    longest = max(map(len, lines), default=0)
    if longest <= LONGEST_MATERIALIZED:
        return
    present = commands(run, node["name"])
    if present.keys().isdisjoint(_LIMITS):
        return
    change(run, node["name"], {}, removed=_LIMITS)
    limits = _limits_given(node, present)
    if limits:
        content: AtOnceFile = {"limits": limits, "characters": longest}
        path = NodeFiles(run, node["name"]).at_once
        layout.write_aside(path, json.dumps(content).encode())
        text = (
            "submit description without %s: a job reads so many files (%d characters of names) "
            "that HTCondor must take all jobs at once"
        )
        text %= " and ".join(limits), longest
        postlog.note(run, Unit(node["name"], lane), text)


def limits_left_out(run: str, name: str) -> List[str]:
    """Return the limits that the user set and a node was submitted without."""
    try:
        content: AtOnceFile = layout.read_json(NodeFiles(run, name).at_once, "limits")
    except FileNotFoundError:
        return []
    return content["limits"]


def _limits_given(node: NodeEntry, present: Mapping[str, str]) -> List[str]:
    """Return the limits on materialized jobs in a description that the user set."""
    limits = [name for name in _LIMITS if name in present]
    if node["max_materialize"] is None:
        limits = [name for name in limits if name != "max_materialize"]  # htdag's own
    return limits


# Memory


def raise_memory(run: str, node: NodeEntry) -> str:
    """Raise a node's ``request_memory`` to what its jobs needed; return a text about it, or "".

    That is the most that any of its jobs requested in the end; and if memory ran out inside a job,
    the value of ``retry_request_memory``, and what it had used. It is never lowered.
    """
    if node.get("mode") == "loop":
        return ""  # its rounds have nodes of their own
    present = commands(run, node["name"])
    raised = requests.size_in("MB", present.get("retry_request_memory"))
    request = present.get("request_memory")
    now = requests.size_in("MB", request)
    if (request is not None and now is None) or (request is None and raised is None):
        return ""  # an expression of the user's, or nothing that was ever to grow
    amount = max(_needed(run, node, raised), default=0)
    if amount <= (now or 0):
        return ""
    change(run, node["name"], {"request_memory": "%dMB" % amount})
    return "later attempts ask for %d MB of memory" % amount


def _needed(run: str, node: NodeEntry, raised: Optional[float]) -> Iterator[int]:
    files = NodeFiles(run, node["name"])
    for chunk, attempts in files.attempts().items():
        for attempt in attempts:
            ran_out = False
            for line in recordfile.lines(files.attempt(chunk, attempt).record):
                if "start" in line:
                    yield line["start"].get("request_memory") or 0
                elif "error" in line:
                    ran_out = ran_out or _is_of_memory(line["error"])
                elif "end" in line and ran_out and raised is not None:
                    yield math.ceil(raised)
                    yield math.ceil((line["end"].get("peak_kb") or 0) / 1024)


def _is_of_memory(error: RecordError) -> bool:
    if error["type"] == "ProcessDied":
        return _SIGKILL in error["message"]
    return error["type"].endswith("MemoryError")
