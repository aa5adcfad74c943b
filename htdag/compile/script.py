"""The script that makes a run: how it was started, so that it can be started again."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import ScriptEntry


def script_of_this_process() -> ScriptEntry | None:
    """Return how the script that runs here was started; None where it is no script.

    A notebook, an interactive session, or Python code that was given as text or on standard input
    cannot be started again.
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
    """Return where this process works; where it worked, if that folder was removed."""
    try:
        return os.getcwd()
    except OSError:
        return os.environ.get("PWD", os.sep)
