"""The options ``output_destination`` and ``output_files``: the destinations of returned files."""

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
    """Check the option, which maps patterns of file names to destinations.

    Returns
    -------
    tuple of (str, str)
        The pattern, and an absolute path with fields; a folder ends with a slash.

    Raises
    ------
    OptionError
        If it is not a mapping of strings to paths, or a folder cannot be made.
    """
    if not isinstance(value, Mapping):
        raise OptionError("it takes a dict: the name of a returned file, or a pattern, and a path")
    remaps = []
    for name, given in value.items():
        if not isinstance(name, str) or not name or "/" in name:
            raise OptionError(f"{name!r} is neither a file name nor a pattern such as '*.png'")
        if transfer.is_url(given):
            raise OptionError(f"{given!r}: for a URL, use output_destination")
        if not isinstance(given, str | os.PathLike):
            raise OptionError(f"{shown(given)} is not a path")
        remaps.append((name, _template(os.fsdecode(given))))
    return tuple(remaps)


def _template(given: str) -> str:
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(given) if field is not None}
    except ValueError as error:
        raise OptionError(f"{given!r}: {error}") from None
    if not fields <= _FIELDS:
        wrong = ", ".join(sorted(fields - _FIELDS))
        raise OptionError(
            f"{given!r}: fields are {{key}}, {{name}}, {{stem}} and {{suffix}}, not {wrong}"
        )
    path = os.path.abspath(os.path.expanduser(given))
    folder = given.endswith("/") or os.path.isdir(path)
    _check_writable((path if folder else os.path.dirname(path)).partition("{")[0])
    return path + "/" if folder else path


def merged(of_stage: Remaps | None, defaults: Remaps | None) -> Remaps | None:
    """Return the rules of a stage, followed by the default rules."""
    if not of_stage or not defaults:
        return of_stage if of_stage is not None else defaults
    return of_stage + tuple(rule for rule in defaults if rule[0] not in dict(of_stage))


def _check_writable(folder: str) -> None:
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        raise OptionError(f"{folder!r} is not a folder that you can write to")


def output_destination(value: Any) -> str:
    """Check the option, and return an absolute folder, or a URL without a trailing slash.

    Raises
    ------
    OptionError
        If it is neither, or the folder cannot be made.
    """
    if transfer.is_url(value):
        if any(sign in value for sign in " ,;=\"'$?#\n"):
            raise OptionError("a URL for files must not have blanks, quotes, commas, ; = $ ? or #")
        return str(value).rstrip("/")
    if not isinstance(value, str | os.PathLike):
        raise OptionError("it takes a folder or a URL")
    folder = os.path.abspath(os.path.expanduser(os.fsdecode(value)))
    _check_writable(folder)
    return folder
