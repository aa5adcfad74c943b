"""Settings of the planner: what a pipeline says, else the environment, else the default."""

from __future__ import annotations

import math
import os
from typing import Any

from htdag._options import whole_number
from htdag.errors import OptionError

TARGET = "HTDAG_TARGET_JOB_SECONDS"
HISTORY = "HTDAG_HISTORY"
MOST_LANES = 1_000
_YES = ("1", "on", "true", "yes")
_NO = ("0", "off", "false", "no")


def target_job_seconds(given: Any, default: float) -> float:
    """Return how long a job should take.

    Raises
    ------
    OptionError
        If it is not a number of seconds above 0; the error says where it was given.
    """
    name = "target_job_seconds"
    if given is None:
        text = os.environ.get(TARGET, "").strip()
        if not text:
            return default
        name = TARGET
        try:
            given = float(text)
        except ValueError:
            given = text
    right = isinstance(given, int | float) and not isinstance(given, bool)
    if not right or not 0 < given < math.inf:
        raise OptionError(f"{name}={given!r}: it takes a number of seconds, more than 0")
    return float(given)


def lanes(given: Any) -> int | None:
    """Return into how many lanes chains of nodes are to be cut; None where the planner decides.

    Raises
    ------
    OptionError
        If it is not a whole number from 1 to `MOST_LANES`.
    """
    if given is None:
        return None
    try:
        return int(whole_number(1, MOST_LANES)(given))
    except OptionError as error:
        raise OptionError(f"lanes={given!r}: {error}, or None: the planner decides") from None


def use_history(given: Any) -> bool:
    """Return whether plans follow earlier runs.

    Raises
    ------
    OptionError
        If it is neither True nor False (in the environment: on nor off).
    """
    if given is None:
        text = os.environ.get(HISTORY, "").strip().lower()
        if text and text not in (*_YES, *_NO):
            raise OptionError(f"{HISTORY}={text!r}: it takes on or off")
        return text not in _NO
    if not isinstance(given, bool):
        raise OptionError(f"history={given!r}: it takes True or False")
    return given
