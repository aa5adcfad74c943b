"""Checks of the user's values, by kind; each raises a `UsageError` that says what it takes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from htdag.checks.quantities import real, whole
from htdag.errors import OptionError, UsageError
from htdag.runtime.job import shorten


def text(value: Any, what: str) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise UsageError(f"{what}={shown(value)}: it takes a text, not {type(value).__name__}")
    return value


def texts(value: Any, what: str) -> list[str]:
    """Return a list of texts; a single text becomes a list of one."""
    if isinstance(value, str):
        return [value]
    try:
        return [text(each, what) for each in value]
    except TypeError:
        raise UsageError(f"{what}={shown(value)}: it takes texts") from None


def path(value: Any, what: str) -> Path:
    """Return a path."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise UsageError(f"{what}={shown(value)}: it takes a path, not {type(value).__name__}")
    return Path(value)


def seconds(value: Any, what: str) -> float:
    """Return a duration in seconds."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    number = real(value)
    if number is None or math.isnan(number):
        raise UsageError(f"{what}={shown(value)}: it takes seconds or a timedelta")
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def checked_number(stage: str, what: str, value: Any, least: int = 1) -> int:
    """Return a whole number that was given for a stage, or raise `OptionError`."""
    number = whole(value)
    if number is None or number < least:
        raise OptionError(
            f"stage {stage!r}: {what} takes a whole number from {least}, not {shown(value)}"
        )
    return number


def shown(value: Any) -> str:
    """Return a value for an error message, shortened where it is long."""
    return shorten.short(value)


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "", *, before: str = "") -> str:
    """Return the hint for a name that does not exist.

    Parameters
    ----------
    name : str
        The name that the user gave.
    known : iterable of str
        The names that exist.
    otherwise : str
        The hint if no name is similar.
    before : str
        Text to put before a hint, if there is one.

    Examples
    --------
    >>> did_you_mean("sttus", ["runs", "status"])
    "did you mean 'status'?"
    """
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]!r}?" if near else otherwise
    return f"{before}{hint}" if hint else ""
