"""Learn how much memory a node needs, so that later attempts and a resume begin with that.

HTCondor raises what a job asks for by ``retry_request_memory`` when it was evicted for memory, in
the job alone: the next attempt would ask for the old amount, and be evicted once more.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Iterator, Optional

from .. import requests
from ..data import recordfile
from ..layout import NodeFiles

if TYPE_CHECKING:
    from ..formats.plan import NodeEntry
    from ..formats.record import RecordError

_SIGKILL = "signal 9 "


def learn(run: str, node: NodeEntry) -> str:
    """Raise a node's ``request_memory`` to what its jobs were seen to need; say so, or return "".

    That is the most that any of its jobs asked for in the end; and where memory ran out inside a
    job, what ``retry_request_memory`` says, and what it had used. It is never lowered.
    """
    if node.get("mode") == "loop":
        return ""  # its rounds have nodes of their own
    from . import submitfile  # it takes time, which jobs need not spend

    commands = submitfile.commands(run, node["name"])
    raised = requests.size_in("MB", commands.get("retry_request_memory"))
    given = commands.get("request_memory")
    now = requests.size_in("MB", given)
    if (given is not None and now is None) or (given is None and raised is None):
        return ""  # an expression of the user's, or nothing that was ever to grow
    wanted = max(_seen(run, node, raised), default=0)
    if wanted <= (now or 0):
        return ""
    submitfile.change(run, node["name"], {"request_memory": "%dMB" % wanted})
    return "later attempts ask for %d MB of memory" % wanted


def _seen(run: str, node: NodeEntry, raised: Optional[float]) -> Iterator[int]:
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
