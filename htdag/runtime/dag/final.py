"""The work at the end of a run: functions of the user, called on the access point.

On HTCondor it is DAGMan's FINAL node, on this machine the last step of the local run. Its own
success or failure does not affect the run: the exit status says how the rest went.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple

from .. import layout, planfile, process
from ..code import image
from ..data import recordfile
from ..job import report
from ..layout import NodeFiles

if TYPE_CHECKING:
    from ..formats.plan import Manifest
    from ..formats.record import FinalEntry, FinalError, RecordError
    from ..formats.task import FinalFunction, FinalProgram

DONE, REMOVED, HALTED = 0, 4, 6  # DAGMan's $DAG_STATUS; all others are failures
_MOST_ERRORS = 1_000


class SummaryError(NamedTuple):
    """The error of an item, or of a whole job (then ``key`` is None)."""

    stage: str
    key: Optional[str]
    type: str
    message: str
    traceback: str


class RunSummary(NamedTuple):
    """The end of a run, the argument of functions for `on_success` and `on_failure`.

    Attributes
    ----------
    tag : str
        The run.
    path : str
        Its directory.
    state : str
        ``"done"`` or ``"failed"``.
    errors : tuple of SummaryError
        The errors of the last attempts, at most 1,000: ``stage``, ``key``, ``type``, ``message``
        and ``traceback``. A run that is done has them, too, if it skipped failed items.
    """

    tag: str
    path: str
    state: str
    errors: Tuple[SummaryError, ...]


def final(node: str, status: int) -> int:
    """Call the functions for the way in which a run ended; return 0 if it is done, else 1.

    Parameters
    ----------
    node : str
        The FINAL node, whose folder holds the functions.
    status : int
        DAGMan's ``$DAG_STATUS``. If the run was removed or halted, nothing is called.
    """
    if status not in (REMOVED, HALTED):
        state = "done" if status == DONE else "failed"
        program: FinalProgram = layout.read_json(NodeFiles("", node).program, "functions")
        for number, entry in enumerate(program["functions"]):
            if entry["when"] == ("success" if status == DONE else "failure"):
                _call(node, number, entry, state)
    return 0 if status == DONE else 1


def _call(node: str, number: int, entry: FinalFunction, state: str) -> None:
    """Call one function in a process of its own, and record the outcome."""
    stem = _next_stem(node)
    read, write = os.pipe()
    started, begun = time.time(), time.monotonic()
    child = process.fork()
    if child == 0:
        raised: Optional[FinalError] = None
        try:
            os.close(read)
            process.redirect(1, stem + ".out")
            process.redirect(2, stem + ".err")
            _function(node, number)(_summary(state))
        except BaseException as problem:
            raised = {
                "type": report.type_name(problem),
                "message": report.text_of(problem),
                "traceback": report.user_traceback(problem),
            }
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            with os.fdopen(write, "w") as pipe:
                json.dump({"error": raised}, pipe)
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    _, died = os.waitpid(child, 0)
    error: Optional[FinalError]
    try:
        error = json.loads(said)["error"]
    except ValueError:
        error = {"type": "ProcessDied", "message": report.describe_exit(died), "traceback": ""}
    content: FinalEntry = {
        "when": entry["when"],
        "function": entry["name"],
        "stem": os.path.basename(stem),
        "time": started,
        "seconds": round(time.monotonic() - begun, 6),
        "error": error,
    }
    recordfile.append(NodeFiles("", node).final_record, "final", content, sync=True)


def _next_stem(node: str) -> str:
    """Return the path for the output of the next call, without its suffix."""
    number = sum(1 for _ in recordfile.final_calls(NodeFiles("", node).final_record)) + 1
    return "%s/%04d" % (NodeFiles("", node).logs, number)


def _function(node: str, number: int) -> Any:
    return image.enter(os.getcwd(), NodeFiles("", node).payload, "")["functions"][number]


def _summary(state: str) -> RunSummary:
    """Return the summary of the run in the current directory."""
    path = os.getcwd()
    manifest: Manifest = layout.read_json(layout.RUN, "tag")
    runs = os.path.dirname(path)
    if os.path.basename(runs) == "runs":
        # So that htdag.load(tag) finds the run, also where DAGMan knows nothing of the setting.
        os.environ.setdefault("HTDAG_HOME", os.path.dirname(runs))
    return RunSummary(manifest["tag"], path, state, tuple(_errors()))


def _summary_error(error: RecordError, texts: Dict[str, str]) -> SummaryError:
    trace = recordfile.whole_traceback(error["traceback"], texts)
    return SummaryError(error["stage"], error["key"], error["type"], error["message"], trace)


def _errors() -> List[SummaryError]:
    summaries: List[SummaryError] = []
    for node in planfile.read(".")["nodes"]:
        files = NodeFiles(".", node["name"])
        for chunk, attempts in sorted(files.attempts().items()):
            texts: Dict[str, str] = {}
            for line in recordfile.lines(files.attempt(chunk, attempts[-1]).record):
                if "error" in line:
                    summaries.append(_summary_error(line["error"], texts))
                    if len(summaries) == _MOST_ERRORS:
                        return summaries
    return summaries
