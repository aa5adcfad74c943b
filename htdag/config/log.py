"""The log of htdag: loggers below ``htdag``, and a file of limited size."""

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
_FILES = 3  # older files that are kept

LOGGER = logging.getLogger("htdag")


class _Formatter(logging.Formatter):
    """A formatter that escapes control characters, for whoever prints the file in a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


class _File(RotatingFileHandler):
    """A log file that only its owner can read, made when the first line is written."""

    _complained = False

    def _open(self) -> Any:
        path = Path(self.baseFilename)
        make_folder(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Report once that the file cannot be written, and go on."""
        if not self._complained:
            self._complained = True
            error = sys.exc_info()[1]
            say(f"htdag: cannot log to {self.baseFilename}: {error}")


def log_to_file() -> None:
    """Make htdag's loggers write to its log file, unless the user has switched that off.

    Handlers and levels that the program has set for the logger ``htdag`` stay.
    """
    level = settings.resolve("log_level").value
    try:
        path = str(log_file())
    except DirectoryError:
        return  # whatever needs the folder reports it
    handlers = [handler for handler in LOGGER.handlers if isinstance(handler, _File)]
    if level != "off" and any(handler.baseFilename == path for handler in handlers):
        return
    for handler in handlers:
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
