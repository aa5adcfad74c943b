"""The errors of items and jobs, as they go into a record."""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from types import TracebackType
from typing import List, Optional

from . import recordfile, views
from .job import RUNNING, Job
from .program import StageError


def item_error(
    job: Job, stage: str, key: Optional[str], sequence: int, error: BaseException
) -> None:
    """Add the error of one item to the record."""
    message = text_of(error)
    name = type_name(error)
    if isinstance(error, SystemExit):
        message = "the function called sys.exit(%r)" % (error.code,)
    content = {
        "stage": stage,
        "key": key,
        "sequence": sequence,
        "type": name,
        "message": _explained(name, message),
        "traceback": user_traceback(error),
    }
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
            socket.gethostname(),
        )
    return message


def version_mismatch(wanted: List[int]) -> str:
    """Return "" where this Python can read what was pickled, else what to do."""
    if list(sys.version_info[:2]) == list(wanted):
        return ""
    return (
        "the functions were pickled by Python %d.%d, but %s on %s is Python %s: pickled functions "
        "do not cross minor versions. Run the script with Python %d.%d, or choose execute nodes "
        "that have python%d.%d (or python3 of that version) on their PATH."
        % (
            wanted[0],
            wanted[1],
            sys.executable,
            socket.gethostname(),
            sys.version.split()[0],
            sys.version_info[0],
            sys.version_info[1],
            wanted[0],
            wanted[1],
        )
    )


def text_of(error: BaseException) -> str:
    """Return an exception's message, whatever its class does."""
    try:
        return str(error)
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
    trace: Optional[TracebackType] = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__package__") == __package__:
        trace = trace.tb_next
    if trace is None:
        if type(error).__module__ == "htdag":
            return ""  # a program's error, which has none of the user's code in it
        trace = error.__traceback__
    return "".join(traceback.format_exception(type(error), error, trace))
