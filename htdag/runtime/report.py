"""The errors of items and jobs, as they go into a record."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, Dict, Optional

from . import detail, recordfile, shorten, views
from .job import RUNNING, Job
from .program import StageError

_LONGEST_MESSAGE = 4000


def item_error(
    job: Job,
    stage: str,
    key: Optional[str],
    sequence: int,
    error: BaseException,
    details: detail.Details,
) -> None:
    """Add the error of one item to the record."""
    message = text_of(error)
    name = type_name(error)
    if isinstance(error, SystemExit):
        message = "the function called sys.exit(%r)" % (error.code,)
    content: Dict[str, Any] = {
        "stage": stage,
        "key": key,
        "sequence": sequence,
        "type": name,
        "message": _explained(name, message),
    }
    content.update(details.of(error))
    if isinstance(error, StageError):
        content.update({"traceback": "", "locals": []})
    recordfile.append(job.record, "error", content)


def job_error(job: Job, name: str, message: str, trace: str = "") -> None:
    """Add to the record why a whole job failed."""
    content = {
        "stage": job.program["stages"][0],
        "key": None,
        "sequence": None,
        "type": name,
        "message": _explained(name, message),
        "traceback": trace,
    }
    recordfile.append(job.record, "error", content)


def blame(job: Job, sequence: int, message: str) -> None:
    """Add to the record that the process died at an item, and what it printed."""
    key = views.key_of(job.description, sequence)
    stages = job.program["stages"]
    if len(stages) > 1:
        message += " (in one of the fused stages %s)" % ", ".join(stages)
    content = {
        "stage": stages[-1] if len(stages) == 1 else stages[0],
        "key": key,
        "sequence": sequence,
        "type": "ProcessDied",
        "message": message,
        "traceback": "",
    }
    recordfile.append(job.record, "error", content)
    seen = [line["streams"] for line in recordfile.lines(job.record) if "streams" in line]
    last = seen[-1] if seen else {"out": [0, 0], "err": [0, 0]}
    entry = {
        "sequence": sequence,
        "key": key,
        "out": [last["out"][1], os.fstat(1).st_size],
        "err": [last["err"][1], os.fstat(2).st_size],
    }
    recordfile.append(job.record, "streams", entry)


def death(status: int) -> str:
    """Say in words how a process ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = "signal"
        hint = {
            "SIGKILL": "; often a sign that memory ran out",
            "SIGSEGV": "; a crash in compiled code",
        }.get(name, "")
        return "the process of the function was killed by signal %d (%s)%s" % (number, name, hint)
    return "the function ended its process with exit status %d, as os._exit does" % os.WEXITSTATUS(
        status
    )


def where(state: int) -> str:
    """Say whether a process died before its first item."""
    return "" if state == RUNNING else " before its first item"


def _explained(name: str, message: str) -> str:
    if name in ("ModuleNotFoundError", "ImportError"):
        return message + " (imported in the job; %s on %s does not have it)" % (
            sys.executable,
            os.uname().nodename,
        )
    return message


def text_of(error: BaseException) -> str:
    """Return an exception's message, whatever its class does."""
    try:
        return shorten.cut(str(error), _LONGEST_MESSAGE)
    except Exception as second:
        return "(its message cannot be printed: %s)" % type(second).__name__


def type_name(error: BaseException) -> str:
    """Return the name of an exception's type, with its module unless it is a built-in one."""
    kind = type(error)
    if isinstance(error, StageError):
        return "StageError"
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return "%s.%s" % (kind.__module__, kind.__qualname__)


def user_traceback(error: BaseException) -> str:
    """Return the traceback as text, without the frames of htdag before the user's first."""
    if isinstance(error, StageError):
        return ""
    return detail.traceback_of(error)
