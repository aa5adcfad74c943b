"""Warnings that show the user's own line, however deep in htdag they are given."""

from __future__ import annotations

import os
import sys
import warnings

from htdag._text import visible

_PACKAGE = os.path.dirname(__file__) + os.sep


def warn(message: str, category: type[Warning]) -> None:
    """Warn with the nearest line outside of htdag as its place."""
    level = 2  # who calls this
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
        level += 1
    warnings.warn(visible(message), category, stacklevel=level)
