"""Results as text."""

from __future__ import annotations

import json
import os
import pprint
from typing import Any

from htdag.errors import HtdagError


def value_lines(value: Any) -> list[str]:
    """Return a result as lines for people.

    Parameters
    ----------
    value : object
        The result. Each item of a list gets a line, a str stays as it is, and anything else is
        shown as Python shows it.
    """
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [repr(item) for item in value]
    return [pprint.pformat(value, width=100, sort_dicts=False)]


def json_text(value: Any) -> str:
    """Return a value as JSON; numpy arrays and numbers become lists and numbers, paths strings.

    Raises
    ------
    HtdagError
        If JSON cannot represent it.
    """
    try:
        return json.dumps(value, indent=1, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise HtdagError(f"this value cannot be written as JSON: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"it holds a {type(value).__name__}")
