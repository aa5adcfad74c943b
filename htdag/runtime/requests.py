"""Requests of jobs: sizes as users write them, and the ads of a job."""

from __future__ import annotations

import os
import re
from typing import Dict, Optional

SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", re.IGNORECASE)
"""A size: its number, and the first letter of its unit."""
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}


def size_in(unit: str, text: Optional[str]) -> Optional[float]:
    """Return a size in a unit (``"KB"`` or ``"MB"``), which is also its default unit.

    The result is None if the size is missing or an expression.
    """
    match = SIZE.fullmatch(text or "")
    if match is None:
        return None
    unit_power = _POWERS[unit[0].lower()]
    return float(match[1]) * 1024.0 ** (_POWERS.get(match[2].lower(), unit_power) - unit_power)


def ad(variable: str) -> Dict[str, str]:
    """Return the attributes, as text, of an ad that HTCondor left for this job.

    Parameters
    ----------
    variable : str
        The variable that names its file: ``_CONDOR_JOB_AD`` or ``_CONDOR_MACHINE_AD``.
    """
    path = os.environ.get(variable)
    if not path:
        return {}
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            pairs = [line.partition("=") for line in file]
    except OSError:
        return {}
    return {name.strip().lower(): value.strip() for name, equals, value in pairs if equals}


def number(attributes: Dict[str, str], name: str) -> Optional[int]:
    """Return an integer attribute of an ad; None if it is missing or an expression."""
    text = attributes.get(name.lower(), "")
    return int(text) if text.isdigit() else None
