"""Where the runs of a user, the pool of her own, and packed environments are kept."""

from __future__ import annotations

import os
import re
from pathlib import Path

import platformdirs

from htdag import _settings
from htdag.errors import DirectoryError

_MACRO = re.compile(r"\$\w*\(")


def runs_directory() -> Path:
    """Return the folder of run directories.

    ``$HTDAG_HOME/runs`` where that variable is set, or ``home`` in the user's settings, else
    ``htdag/runs`` in the user's data directory (``~/.local/share`` on Linux).
    """
    return _home() / "runs"


def pool_directory() -> Path:
    """Return the folder of the user's own HTCondor pool, beside that of the runs."""
    return _home() / "pool"


def cache_directory() -> Path:
    """Return the folder of what stages with ``cache=True`` have finished."""
    return _home() / "cache"


def environments_directory() -> Path:
    """Return the folder of packed environments, beside that of the runs."""
    return _home() / "environments"


def _home() -> Path:
    home = _settings.resolve("home").value
    return Path(platformdirs.user_data_dir("htdag")).absolute() if home is None else Path(home)


def log_file() -> Path:
    """Return the file that htdag logs to, in the folder beside that of the runs."""
    return _home() / "log" / "htdag.log"


def check_for_dagman(directory: Path) -> None:
    """Raise `DirectoryError` for a directory that DAGMan refuses to work in."""
    if not str(directory).isprintable():
        raise DirectoryError(
            f"{str(directory)!r} holds characters that cannot be printed, which HTCondor would "
            f"take for the end of a line, or could not read; choose another name"
        )
    real = Path(os.path.realpath(directory))
    if str(real).startswith("/tmp") or str(directory).startswith("/tmp"):
        raise DirectoryError(
            f"{str(directory)!r} is under /tmp, where DAGMan refuses to keep its log, since a "
            f"machine may clear it at any time; choose a directory that lasts, by HTDAG_HOME or "
            f"Pipeline.compile(directory)"
        )
    if _MACRO.search(str(directory)):
        raise DirectoryError(
            f"{str(directory)!r} holds '$(', which HTCondor would take for a macro in the submit "
            f"description of the DAG; choose another name"
        )
