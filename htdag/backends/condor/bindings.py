"""HTCondor's Python bindings, turned to one HTCondor or another."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from typing import Any

from htdag.backends.condor.setup import Setup, environment_lock

with warnings.catch_warnings():
    # Without any configuration the bindings warn when they are imported; `why_unusable` says it.
    warnings.simplefilter("ignore")
    import classad2
    import htcondor2

__all__ = [
    "evaluate",
    "htcondor2",
    "ping",
    "queue",
    "short",
    "slots",
    "syntax_problem",
    "using",
    "version_number",
]


@contextlib.contextmanager
def using(setup: Setup | None) -> Iterator[Any]:
    """Make an HTCondor the one that the bindings work with, for a while.

    The bindings have one configuration in a process. So it is changed only where it must be, and
    put back afterwards (less than 1 ms each).

    Parameters
    ----------
    setup : Setup or None
        None: the one that the environment of the process leads to.

    Yields
    ------
    module
        The bindings.
    """
    with environment_lock:
        if setup is None or setup.in_use:
            yield htcondor2
            return
        try:
            with setup.environment():
                _reload()
                yield htcondor2
        finally:
            _reload()


def _reload() -> None:
    with warnings.catch_warnings():
        # No configuration at all is what some machines have.
        warnings.simplefilter("ignore")
        htcondor2.reload_config()


def ping() -> None:
    """Ask the schedd that the bindings work with for nothing, and raise where it does not answer.

    One that was started again refuses the first question of each process that had asked the one
    before, as it does not know their session; the next is answered. So ask for nothing first.
    """
    for refused in (False, True):
        try:
            htcondor2.Schedd().query(constraint="false", projection=["ClusterId"])
        except htcondor2.HTCondorException as error:
            if refused or "session id" not in str(error):
                raise
        else:
            return


def queue(setup: Setup | None, constraint: str = "true") -> list[Any]:
    """Return the job ads in the queue, with the attributes that tell their state."""
    with using(setup) as bindings:
        return list(
            bindings.Schedd().query(
                constraint=constraint,
                projection=["ClusterId", "ProcId", "JobStatus", "JobUniverse", "JobBatchName"],
            )
        )


def slots(setup: Setup | None, projection: list[str], constraint: str = "true") -> list[Any]:
    """Return the ads of the pool's slots."""
    with using(setup) as bindings:
        kind = bindings.AdType.Startd
        return list(bindings.Collector().query(kind, constraint, projection))


def syntax_problem(expression: str) -> str:
    """Return "" for an expression of ClassAds that can be read, else what may be wrong with it.

    One with macros of a submit description is not known before it is submitted, nor is one with
    backslashes, which mean something else to condor_submit.
    """
    if "$" in expression or "\\" in expression:
        return ""
    try:
        classad2.ExprTree(expression)
    except (ValueError, TypeError, RuntimeError, classad2.ClassAdException):
        plain = expression.strip()
        words = plain.replace("_", "").replace(" ", "").isalnum()
        return f"; a text stands in quotes: '\"{plain}\"'" if words else " (is something missing?)"
    return ""


def evaluate(expression: str, own: Any, other: Any) -> Any:
    """Return the value of an expression of one ad that is matched with another.

    What has no value, or cannot be read, is None.
    """
    try:
        found = classad2.ExprTree(expression).eval(_ad(own), _ad(other))
    except (ValueError, TypeError, RuntimeError, classad2.ClassAdException):
        return None
    return None if isinstance(found, classad2.Value) else found


def _ad(content: Any) -> Any:
    return content if isinstance(content, classad2.ClassAd) else classad2.ClassAd(dict(content))


def version_number(text: str) -> str:
    """Return ``25.14.1`` of ``$CondorVersion: 25.14.1 2026-09-24 BuildID ... $``."""
    match = re.search(r"\d+\.\d+\.\d+", text)
    return match[0] if match else text


_OLD_DAEMONS = "Directory name doesn't match"


def short(error: BaseException) -> str:
    """Return an error of the bindings as one line, with the remedy where it is known."""
    text = " ".join(str(error).split()) or type(error).__name__
    if _OLD_DAEMONS in text:
        text += (
            f". These bindings ({version_number(htcondor2.version())}) check how a daemon asks for "
            f"a login, and this daemon is too old to pass. Set "
            f"_CONDOR_SEC_FS_ENFORCE_CHANNEL_BINDING=False in the environment, or install the "
            f"bindings of the daemons' version"
        )
    return text
