"""The log of htdag: loggers below ``htdag``, and a file that does not grow for ever."""

from __future__ import annotations

import logging
import os
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from htdag.common.text import visible
from htdag.common.warn import say
from htdag.config import settings
from htdag.config.directories import log_file, make_folder
from htdag.errors import DirectoryError

_SIZE = 1 << 20  # bytes of one file
_FILES = 3  # older ones that are kept

LOGGER = logging.getLogger("htdag")


class _Formatter(logging.Formatter):
    """Writes out what would steer the terminal of who looks at the file."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


class _File(RotatingFileHandler):
    """A log file that is made when the first line is written, and readable by its owner only."""

    _complained = False

    def _open(self) -> Any:
        path = Path(self.baseFilename)
        make_folder(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Say once that nothing can be logged; it is no reason to stop anything."""
        if not self._complained:
            self._complained = True
            error = sys.exc_info()[1]
            say(f"htdag: cannot log to {self.baseFilename}: {error}")


def to_file() -> None:
    """Let htdag's loggers write to its log file, unless they do, or the user has switched it off.

    Handlers and levels that the program has set for the logger ``htdag`` stay as they are.
    """
    level = settings.resolve("log_level").value
    try:
        path = str(log_file())
    except DirectoryError:
        return  # whatever needs the folder says so
    ours = [handler for handler in LOGGER.handlers if isinstance(handler, _File)]
    if level != "off" and any(handler.baseFilename == path for handler in ours):
        return
    for handler in ours:
        LOGGER.removeHandler(handler)
        handler.close()
    if level == "off":
        return
    fresh = _File(path, maxBytes=_SIZE, backupCount=_FILES, delay=True)
    fresh.setLevel(level.upper())
    fresh.setFormatter(_Formatter("%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"))
    LOGGER.addHandler(fresh)
    if LOGGER.level == logging.NOTSET:
        LOGGER.setLevel(level.upper())
