"""The option ``output_destination``: where returned files go, beside or instead of the run."""

from __future__ import annotations

import os
from typing import Any

from htdag import _paths
from htdag.errors import OptionError


def output_destination(value: Any) -> str:
    """Check the option, and return an absolute folder, or a URL without a slash at its end.

    Raises
    ------
    OptionError
        If it is neither, or the folder cannot be made.
    """
    if _paths.is_url(value):
        if any(sign in value for sign in " ,;=\"'$?#\n"):
            raise OptionError("a URL that files go to has no blanks, quotes, commas, ; = $ ? nor #")
        return str(value).rstrip("/")
    if not isinstance(value, str | os.PathLike):
        raise OptionError("it takes a folder or a URL")
    folder = os.path.abspath(os.path.expanduser(os.fsdecode(value)))
    there = folder
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there) or not os.access(there, os.W_OK | os.X_OK):
        raise OptionError(f"{there!r} is no folder that you can write to")
    return folder
