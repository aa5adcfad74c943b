"""Where the runs of a user are kept."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from htdag.errors import DirectoryError


def runs_directory() -> Path:
    """Return the folder of run directories.

    ``$HTDAG_HOME/runs`` where that variable is set, else ``htdag/runs`` in the user's data
    directory (``~/.local/share`` on Linux).
    """
    home = os.environ.get("HTDAG_HOME")
    base = Path(home).expanduser() if home else Path(platformdirs.user_data_dir("htdag"))
    return base.absolute() / "runs"


def check_for_dagman(directory: Path) -> None:
    """Raise `DirectoryError` for a directory that DAGMan refuses to work in."""
    real = Path(os.path.realpath(directory))
    if str(real).startswith("/tmp") or str(directory).startswith("/tmp"):
        raise DirectoryError(
            f"{str(directory)!r} is under /tmp, where DAGMan refuses to keep its log, since a "
            f"machine may clear it at any time; choose a directory that lasts, by HTDAG_HOME or "
            f"Pipeline.compile(directory)"
        )
    if any(character in str(directory) for character in '\n\r"'):
        raise DirectoryError(
            f"{str(directory)!r} holds a double quote or a line break, which HTCondor's submit "
            f"descriptions cannot hold in a directory's name"
        )
