"""The command line of the script that makes a run, with which it can be started again."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import ScriptEntry


def script_of_this_process() -> ScriptEntry | None:
    """Return how the script of this process was started; None if it is not a script.

    Notebooks, interactive sessions, and code from ``python -c`` or standard input cannot be started
    again.
    """
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if hasattr(sys, "ps1") or file is None or not os.path.isfile(file):
        return None
    options = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv[1:])]
    module = options[-1] if len(options) > 1 and options[-2] == "-m" else None
    return {
        "file": os.path.abspath(file),
        "module": module,
        "arguments": sys.argv[1:],
        "python": sys.executable,
        "folder": _folder(),
    }


def _folder() -> str:
    """Return the working directory; if it was removed, the one that the shell knows."""
    try:
        return os.getcwd()
    except OSError:
        return os.environ.get("PWD", os.sep)
