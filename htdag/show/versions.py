"""The versions of htdag and of the software that it works with."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shutil
import subprocess

from htdag.common.package import VERSION


def versions() -> dict[str, str | None]:
    """Return the versions of htdag and related software; None for what is not installed.

    Returns
    -------
    dict
        With the keys ``htdag``, ``python``, ``bindings`` (HTCondor's Python bindings) and
        ``htcondor`` (what the command ``condor_version`` prints).
    """
    try:
        bindings = importlib.metadata.version("htcondor")
    except importlib.metadata.PackageNotFoundError:
        bindings = None
    return {
        "htdag": VERSION,
        "python": platform.python_version(),
        "bindings": bindings,
        "htcondor": _condor_version(),
    }


def _condor_version() -> str | None:
    """Return the version of the HTCondor whose commands are on PATH, if there is one."""
    command = shutil.which("condor_version")
    if command is None:
        return None
    try:
        printed = subprocess.run(
            [command], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"CondorVersion: (\S+)", printed.decode(errors="replace"))
    return match[1] if match else None
