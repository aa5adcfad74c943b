"""Recording the errors of items and jobs."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Callable, Optional

from ..data import recordfile, views
from ..errors import StageError
from ..task import Job
from .shared_memory import RUNNING

# Most jobs have no errors, so what describes one is imported when there is one.
if TYPE_CHECKING:
    from ..formats.record import RecordError, RecordStreams
    from .describe import Details

_LONGEST_MESSAGE = 4000


class Reporter:
    """Adds the errors of the items of one process to the job's record.

    Parameters
    ----------
    job : Job
        The job.
    """

    def __init__(self, job: Job) -> None:
        self._record = job.record
        self._details: Optional[Details] = None

    def item(
        self,
        stage: str,
        key: Optional[str],
        sequence: int,
        error: BaseException,
        load: Optional[Callable[[], Any]] = None,
    ) -> str:
        """Add the error of one item; return it as text, for the error stream.

        ``load`` loads the item again.
        """
        if self._details is None:
            from .describe import Details

            self._details = Details(self._record)
        message = text_of(error)
        name = type_name(error)
        if isinstance(error, SystemExit):
            message = "the function called sys.exit(%r)" % (error.code,)
        content: RecordError = {
            "stage": stage,
            "key": key,
            "sequence": sequence,
            "type": name,
            "message": _explained(name, message),
            **self._details.of(error, load),
        }
        if isinstance(error, StageError):
            content["traceback"], content["locals"] = "", []
        recordfile.append(self._record, "error", content)
        what = "item %s" % key if key else "a whole job"
        trace = user_traceback(error).rstrip("\n") or "%s: %s" % (name, message)
        return "%s, %s failed:\n%s\n" % (stage, what, trace)


def child_error(job: Job, error: BaseException) -> None:
    """Record why the process of the functions could not continue."""
    from .describe import Details

    name, message = type_name(error), text_of(error)
    Details(job.record).tell()
    job_error(job, name, message, user_traceback(error))


def job_error(job: Job, name: str, message: str, trace: str = "") -> None:
    """Record why a whole job failed."""
    content: RecordError = {
        "stage": job.program["stages"][0],
        "key": None,
        "sequence": None,
        "type": name,
        "message": _explained(name, message),
        "traceback": trace,
    }
    recordfile.append(job.record, "error", content)


def record_crash(job: Job, sequence: int, message: str) -> None:
    """Record that the process died at an item, and what it printed."""
    key = views.key_of(job.description, sequence)
    stages = job.program["stages"]
    if len(stages) > 1:
        message += " (in one of the fused stages %s)" % ", ".join(stages)
    content: RecordError = {
        "stage": stages[-1] if len(stages) == 1 else stages[0],
        "key": key,
        "sequence": sequence,
        "type": "ProcessDied",
        "message": message,
        "traceback": "",
    }
    recordfile.append(job.record, "error", content)
    seen = [line["streams"] for line in recordfile.lines(job.record) if "streams" in line]
    last: RecordStreams = seen[-1] if seen else {"sequence": -1, "out": [0, 0], "err": [0, 0]}
    before = last.get("trace", last["err"][1])
    entry: RecordStreams = {
        "sequence": sequence,
        "out": [last["out"][1], os.fstat(1).st_size],
        "err": [before, os.fstat(2).st_size],
    }
    recordfile.append(job.record, "streams", entry)


def describe_exit(status: int) -> str:
    """Return, in words, how a process ended."""
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
    """Return " before its first item" if a process died there, else ""."""
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
    from . import shorten

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
    """Return a traceback as text, without the frames of htdag before the first of the user."""
    if isinstance(error, StageError):
        return ""
    from . import describe

    return describe.traceback_of(error)
