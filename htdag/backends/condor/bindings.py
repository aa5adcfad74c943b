"""HTCondor's Python bindings, with a switch from one HTCondor to another."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from typing import Any

from htdag.backends.base import Ad
from htdag.backends.condor.setup import Setup, environment_lock

with warnings.catch_warnings():
    # Without a configuration, the bindings warn on import; `why_unusable` reports it instead.
    warnings.simplefilter("ignore")
    import classad2
    import htcondor2

__all__ = [
    "evaluate",
    "htcondor2",
    "message_of",
    "ping",
    "queue",
    "slots",
    "syntax_problem",
    "using",
    "version_number",
]


@contextlib.contextmanager
def using(setup: Setup | None) -> Iterator[Any]:
    """Make the bindings use an HTCondor within the context.

    The bindings have one configuration per process. So this changes it only if necessary, and
    restores it afterwards (less than 1 ms each).

    Parameters
    ----------
    setup : Setup or None
        The HTCondor; None: the one that the environment of the process selects.

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
        # Some machines have no configuration at all.
        warnings.simplefilter("ignore")
        htcondor2.reload_config()


def ping() -> None:
    """Send an empty query to the schedd that the bindings use; raise if it does not answer.

    A restarted schedd refuses the first query of each process that has a session with its
    predecessor, and answers the next one. So this query comes first, and is repeated.
    """
    for refused in (False, True):
        try:
            htcondor2.Schedd().query(constraint="false", projection=["ClusterId"])
        except htcondor2.HTCondorException as error:
            if refused or "session id" not in str(error):
                raise
        else:
            return


def queue(setup: Setup | None) -> list[Ad]:
    """Return the job ads in the queue, with the attributes that describe their state."""
    with using(setup) as bindings:
        return list(
            bindings.Schedd().query(
                projection=["ClusterId", "ProcId", "JobStatus", "JobUniverse", "JobBatchName"],
            )
        )


def slots(setup: Setup | None, projection: list[str], constraint: str = "true") -> list[Ad]:
    """Return the ads of the pool's slots."""
    with using(setup) as bindings:
        kind = bindings.AdType.Startd
        return list(bindings.Collector().query(kind, constraint, projection))


def syntax_problem(expression: str) -> str:
    """Return "" for a valid ClassAd expression, or else what may be wrong with it.

    Expressions with macros of a submit description are not checked, since their values are unknown
    before the submission; nor are those with backslashes, which condor_submit treats differently.
    """
    if "$" in expression or "\\" in expression:
        return ""
    try:
        classad2.ExprTree(expression)
    except (ValueError, TypeError, RuntimeError, classad2.ClassAdException):
        plain = expression.strip()
        words = plain.replace("_", "").replace(" ", "").isalnum()
        return f"; strings need quotes: '\"{plain}\"'" if words else " (is something missing?)"
    return ""


def evaluate(expression: str, ad: Any, other: Any) -> Any:
    """Return the value of an expression of one ad matched against another.

    It is None if the expression has no value or is invalid.
    """
    try:
        value = classad2.ExprTree(expression).eval(_ad(ad), _ad(other))
    except (ValueError, TypeError, RuntimeError, classad2.ClassAdException):
        return None
    return None if isinstance(value, classad2.Value) else value


def _ad(content: Any) -> Any:
    return content if isinstance(content, classad2.ClassAd) else classad2.ClassAd(dict(content))


def version_number(text: str) -> str:
    """Return ``25.14.1`` from ``$CondorVersion: 25.14.1 2026-09-24 BuildID ... $``."""
    match = re.search(r"\d+\.\d+\.\d+", text)
    return match[0] if match else text


_OLD_DAEMONS = "Directory name doesn't match"


def message_of(error: BaseException) -> str:
    """Return the message of an error of the bindings as one line, with the remedy if known."""
    text = " ".join(str(error).split()) or type(error).__name__
    if _OLD_DAEMONS in text:
        text += (
            f". These bindings ({version_number(htcondor2.version())}) make a security check that "
            f"this daemon is too old to pass. Set "
            f"_CONDOR_SEC_FS_ENFORCE_CHANNEL_BINDING=False in the environment, or install the "
            f"bindings of the daemons' version"
        )
    return text
