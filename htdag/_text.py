"""Words for people."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """Return a number of things, as ``1,000 items`` or ``1 item``.

    Examples
    --------
    >>> counted(1000, "item")
    '1,000 items'
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"
