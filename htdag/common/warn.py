"""Output on standard error: lines, and warnings that point to the user's line."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings

from htdag.common.package import FOLDER
from htdag.common.text import visible

_PACKAGE = FOLDER + os.sep


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning that points to the nearest line outside of htdag."""
    level = 2  # the caller
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
        level += 1
    warnings.warn(visible(message), category, stacklevel=level)


def say(text: str) -> None:
    """Write a line on standard error, unless that is closed or full."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(visible(text) + "\n")
            sys.stderr.flush()


def is_terminal() -> bool:
    """Return whether standard error is a terminal."""
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()
