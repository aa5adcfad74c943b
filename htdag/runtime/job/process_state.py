"""The state of the script's process that a job takes over before its functions are loaded.

``htdag/functions/surroundings.py`` decides what that is when a run is submitted.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from typing import TYPE_CHECKING, Any, List

from ..task import Job, cpus

if TYPE_CHECKING:
    from ..formats.task import Logging


THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "TF_NUM_THREADS",
    "ROOT_MAX_THREADS",
    "CUBACORES",
    "JULIA_NUM_THREADS",
    "GOMAXPROCS",
)
"""Variables for the number of threads of numerical libraries. HTCondor sets some of them."""

NUMPY = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
"""What numpy does about floating-point errors by default."""

_PATH = "/usr/local/bin:/usr/bin:/bin"


def take_over(job: Job, home: str) -> None:
    """Set up this process, which will run a job's functions, like that of the script.

    Parameters
    ----------
    job : Job
        The job.
    home : str
        A folder of its own, for programs that look for one.
    """
    state = job.program.get("surroundings", {})
    given = dict(job.program.get("environ", ()))
    variables = {**dict.fromkeys(THREADS, str(cpus(job))), "MPLBACKEND": "Agg"}
    variables.update(state.get("variables", {}))
    variables.update(given)
    for name, value in (("PATH", _PATH), ("HOME", home), ("LANG", "C.UTF-8")):
        if name not in os.environ:
            variables.setdefault(name, value)
    os.environ.update(variables)
    os.environ["PWD"] = os.getcwd()
    os.environ.pop("OLDPWD", None)
    if "TZ" in variables:
        time.tzset()
    if not state:
        return
    if state["umask"] is not None:
        os.umask(state["umask"])
    _raise_stack(state["stack"])
    sys.setrecursionlimit(max(sys.getrecursionlimit(), state["recursion"]))
    if "locale" in state["deciding"]:
        _set_locale(state["deciding"]["locale"])
    if state["logging"] is not None:
        _log(state["logging"])


def umask() -> int:
    """Return the umask of this process."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def locale() -> str:
    """Return the locale that this process has set; "" if it did not set any."""
    module = sys.modules.get("_locale")
    if module is None:
        return ""
    names = ("LC_NUMERIC", "LC_TIME", "LC_COLLATE", "LC_MONETARY")
    if all(module.setlocale(getattr(module, name), None) in ("C", "POSIX") for name in names):
        return ""
    return str(module.setlocale(module.LC_ALL, None))


def _set_locale(name: str) -> None:
    import locale

    try:
        locale.setlocale(locale.LC_ALL, name)
    except locale.Error as error:
        raise RuntimeError(
            "the script has set the locale %r, which %s does not have (%s); set it in the "
            "functions that need it, or choose other execute points by requirements"
            % (name, os.uname().nodename, error)
        ) from None


def _raise_stack(wanted: int) -> None:
    """Allow as large a stack as in the script, for recursive functions."""
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    infinite = resource.RLIM_INFINITY
    if soft == infinite or (wanted != infinite and wanted <= soft):
        return
    if hard != infinite and (wanted == infinite or wanted > hard):
        wanted = hard
    try:
        resource.setrlimit(resource.RLIMIT_STACK, (wanted, hard))
    except (OSError, ValueError):
        return


def _log(state: Logging) -> None:
    import logging

    stream = getattr(sys, state["stream"])
    form: Any = state["format"]  # None is that of `logging`, although its types do not say so
    logging.basicConfig(level=state["level"], format=form, datefmt=state["date"], stream=stream)
    for name, level in state["loggers"].items():
        logging.getLogger(name).setLevel(level)


def of_decimal(context: Any) -> List[Any]:
    """Return a context of `decimal` in a form for JSON."""
    return [
        *(context.prec, context.rounding, context.Emin, context.Emax),
        *(context.capitals, context.clamp),
        sorted(signal.__name__ for signal, on in context.traps.items() if on),
    ]


def context_of(state: List[Any]) -> Any:
    """Return the context of `decimal` from the result of `of_decimal`."""
    import decimal

    precision, rounding, smallest, largest, capitals, clamp, traps = state
    return decimal.Context(
        prec=precision,
        rounding=rounding,
        Emin=smallest,
        Emax=largest,
        capitals=capitals,
        clamp=clamp,
        flags=[],
        traps=[getattr(decimal, name) for name in traps],
    )
