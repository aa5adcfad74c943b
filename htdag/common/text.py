"""Text for people: safe to print, with readable numbers, sizes and durations."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

_UNUSUAL = re.compile(r"[^\n\t -~]")


def visible(text: str) -> str:
    r"""Return a text with control and invisible characters escaped as Python escapes them.

    Use it on all text from jobs, files or other machines before a person sees it. It escapes
    terminal sequences, carriage returns and characters that change the direction of writing, but
    neither line feeds nor tabs.

    Examples
    --------
    >>> print(visible("red: \x1b[31m, two lines:\r\n as they are"))
    red: \x1b[31m, two lines:
     as they are
    """
    return _UNUSUAL.sub(_escaped, text.replace("\r\n", "\n"))


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if character.isprintable() or unicodedata.category(character) == "Zs":  # other spaces
        return character
    return character.encode("unicode_escape").decode()


class Text(str):
    """Text that notebooks and interactive sessions show as lines, not as a quoted string."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))


def counted(number: int, what: str) -> str:
    """Return a number of things, as ``1,000 items`` or ``1 item``.

    Examples
    --------
    >>> counted(1000, "item")
    '1,000 items'
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a duration in words.

    Examples
    --------
    >>> [duration(seconds) for seconds in (0, 0.000002, 0.0123, 8.04, 95, 600, 40_000, 500_000)]
    ['0 s', '2 us', '12 ms', '8 s', '1.6 min', '10 min', '11 h', '5.8 d']
    """
    for limit, unit, factor in (
        (1e-3, "us", 1e6),
        (1, "ms", 1e3),
        (90, "s", 1),
        (5400, "min", 1 / 60),
        (172_800, "h", 1 / 3600),
    ):
        if 0 < seconds < limit:
            return f"{short_number(seconds * factor)} {unit}"
    return f"{short_number(seconds / 86_400)} d" if seconds > 0 else "0 s"


def size(megabytes: float) -> str:
    """Return a size in words.

    Examples
    --------
    >>> [size(megabytes) for megabytes in (0.0004, 0.02, 3.14, 310, 1000, 2048, 12800)]
    ['1 KB', '20 KB', '3.1 MB', '310 MB', '1 GB', '2 GB', '12.5 GB']
    """
    if megabytes < 1:
        return f"{max(1, round(megabytes * 1024))} KB"
    if megabytes < 1000:
        return f"{short_number(megabytes)} MB"
    return f"{megabytes / 1024:,.1f}".removesuffix(".0") + " GB"


def size_of_file(size: float) -> str:
    """Return a number of bytes in words, as file managers do: in steps of 1000.

    Examples
    --------
    >>> [size_of_file(size) for size in (0, 999, 2500, 310_000_000, 2_500_000_000_000)]
    ['0 bytes', '999 bytes', '2.5 kB', '310 MB', '2.5 TB']
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def short_number(value: float) -> str:
    """Return a number with as many digits as an estimate deserves: ``2.5``, ``1,234``."""
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")
