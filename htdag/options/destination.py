"""The options ``output_destination`` and ``output_files``: where returned files go."""

from __future__ import annotations

import os
import string
from collections.abc import Mapping
from typing import Any

from htdag.checks.validation import shown
from htdag.errors import OptionError
from htdag.options import transfer

Remaps = tuple[tuple[str, str], ...]

_FIELDS = {"key", "name", "stem", "suffix"}


def output_files(value: Any) -> Remaps:
    """Check the option: patterns of names, and where the files go that match.

    Returns
    -------
    tuple of (str, str)
        Pattern, and an absolute path with fields; a folder ends with a slash.

    Raises
    ------
    OptionError
        If it is no mapping of texts to paths, or a folder cannot be made.
    """
    if not isinstance(value, Mapping):
        raise OptionError("it takes a dict: the name of a returned file, or a pattern, and a path")
    found = []
    for name, given in value.items():
        if not isinstance(name, str) or not name or "/" in name:
            raise OptionError(f"{name!r} is no name of a file, nor a pattern such as '*.png'")
        if transfer.is_url(given):
            raise OptionError(f"{given!r}: for a URL take output_destination")
        if not isinstance(given, str | os.PathLike):
            raise OptionError(f"{shown(given)} is no path")
        found.append((name, _template(os.fsdecode(given))))
    return tuple(found)


def _template(given: str) -> str:
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(given) if field is not None}
    except ValueError as error:
        raise OptionError(f"{given!r}: {error}") from None
    if not fields <= _FIELDS:
        wrong = ", ".join(sorted(fields - _FIELDS))
        raise OptionError(
            f"{given!r}: there is {{key}}, {{name}}, {{stem}}, {{suffix}}, not {wrong}"
        )
    path = os.path.abspath(os.path.expanduser(given))
    folder = given.endswith("/") or os.path.isdir(path)
    _check_writable((path if folder else os.path.dirname(path)).partition("{")[0])
    return path + "/" if folder else path


def merged(own: Remaps | None, defaults: Remaps | None) -> Remaps | None:
    """Return what a stage says, and after it what holds for all stages."""
    if not own or not defaults:
        return own if own is not None else defaults
    return own + tuple(rule for rule in defaults if rule[0] not in dict(own))


def _check_writable(folder: str) -> None:
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        raise OptionError(f"{folder!r} is no folder that you can write to")


def output_destination(value: Any) -> str:
    """Check the option, and return an absolute folder, or a URL without a slash at its end.

    Raises
    ------
    OptionError
        If it is neither, or the folder cannot be made.
    """
    if transfer.is_url(value):
        if any(sign in value for sign in " ,;=\"'$?#\n"):
            raise OptionError("a URL that files go to has no blanks, quotes, commas, ; = $ ? nor #")
        return str(value).rstrip("/")
    if not isinstance(value, str | os.PathLike):
        raise OptionError("it takes a folder or a URL")
    folder = os.path.abspath(os.path.expanduser(os.fsdecode(value)))
    _check_writable(folder)
    return folder
