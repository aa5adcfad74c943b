"""Amounts as people write them: sizes and durations."""

from __future__ import annotations

import datetime
import math
import numbers
import operator
import re
from collections.abc import Callable
from typing import Any

from htdag.errors import OptionError
from htdag.runtime import requests

_LARGEST = 10**15
_LONGEST = 2**31 - 1  # seconds; HTCondor's durations are no longer
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)
_CLOCK = re.compile(r"\s*(?:(\d+)-)?(\d+):([0-5]\d)(?::([0-5]\d))?\s*")
_SECONDS = {
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
    **dict.fromkeys(("w", "week", "weeks"), 604_800),
}


def whole(value: Any) -> int | None:
    """Return a whole number of any type (such as numpy's) as an int; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def real(value: Any) -> int | float | None:
    """Return a number of any type as an int or a float; None for anything else."""
    if isinstance(value, bool):
        return None
    number = whole(value)
    return float(value) if number is None and isinstance(value, numbers.Real) else number


def size(default_unit: str) -> Callable[[Any], str]:
    """Return a check that turns a size into HTCondor's form.

    A number without a unit is in `default_unit`: ``"MB"`` or ``"KB"``.
    """

    def check(value: Any) -> str:
        number = whole(value)
        if number is not None:
            if not 0 < number < _LARGEST:
                raise OptionError("it must be more than 0, and less than 10^15")
            return f"{number}{default_unit}"
        if isinstance(value, str):
            match = requests.SIZE.fullmatch(value)
            if match and 0 < float(match[1]) < _LARGEST:
                return f"{match[1]}{(match[2] or default_unit[0]).upper()}B"
        raise OptionError(
            f"it takes a number (of {default_unit}) or a text such as '512MB' or '2.5GB'"
        )

    return check


def units_of(text: str, unit: str) -> int:
    """Return a checked size in whole units (``"MB"`` or ``"KB"``), rounded up."""
    number = requests.size_in(unit, text)
    assert number is not None
    return math.ceil(number)


def duration(least: int = 1) -> Callable[[Any], int]:
    """Return a check that turns a duration into seconds."""

    def check(value: Any) -> int:
        try:
            seconds = _seconds(value)
        except (OverflowError, ValueError):  # too many digits
            raise OptionError(f"it must be at most {_LONGEST} s") from None
        if seconds is None:
            raise OptionError(
                "it takes seconds, a datetime.timedelta, or a text such as '90s', '30 min', '2h', "
                "'1d 12h' or '1:30:00' (hours, minutes, seconds)"
            )
        if seconds < least:
            raise OptionError(f"it must be at least {least} s")
        if seconds > _LONGEST:
            raise OptionError(f"it must be at most {_LONGEST} s")
        return seconds

    return check


def _seconds(value: Any) -> int | None:
    if isinstance(value, datetime.timedelta):
        return math.ceil(value.total_seconds())
    number = real(value)
    if number is not None and math.isfinite(number):
        return math.ceil(number)
    if not isinstance(value, str) or not value.strip():
        return None
    clock = _CLOCK.fullmatch(value)
    if clock:
        if clock[4] is None:
            return None  # 1:30 may be minutes or hours
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    position, total = 0, 0.0
    while position < len(value):
        part = _PART.match(value, position)
        if part is None or part[2].lower() not in _SECONDS:
            return None
        total += float(part[1]) * _SECONDS[part[2].lower()]
        position = part.end()
    return math.ceil(total)


def whole_number(low: int, high: int = 2**31 - 1) -> Any:
    """Return a check for a whole number in a range, both ends included."""

    def check(value: Any) -> int:
        number = whole(value)
        if number is None:
            raise OptionError("it takes a whole number")
        if not low <= number <= high:
            raise OptionError(f"it must be from {low} to {high}")
        return number

    return check
