"""Collect the facts: query HTCondor, examine this machine, send probe jobs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from htdag.config.directories import runs_directory
from htdag.doctor.facts import Facts, Probe
from htdag.doctor.findings import LOCAL_SETTINGS, NEGOTIATOR_SETTINGS


def collect(probe: bool = False, limit: int = 20, timeout: float = 60) -> Facts:
    """Return the facts about where ``on="auto"`` would run now.

    Parameters
    ----------
    probe : bool
        Send a small job to each execute point, to find out which Python it has.
    limit : int
        The greatest number of execute points to probe.
    timeout : float
        How many seconds to wait for them.
    """
    runs = runs_directory()
    base: dict[str, Any] = {
        "python": platform.python_version(),
        "root": os.getuid() == 0,
        "runs_directory": str(runs),
        "runs_filesystem": _filesystem(runs),
        "bindings": _installed("htcondor"),
    }
    local: dict[str, Any] = {"place": "local", "name": "this machine"}
    try:
        from htdag.backends.condor import backend
        from htdag.doctor import survey
    except ImportError as error:
        return Facts(**base, **local, reason=f"there are no HTCondor bindings ({error})")
    setup, what = backend.find()
    schedd = survey.schedd_version(setup)
    base |= {"schedd_answers": schedd is not None, "schedd": schedd or ""}
    if setup is None:
        return Facts(**base, **local, reason=what, dagman_found=survey.dagman_found(None))
    points = survey.points(setup)
    probes = None
    if probe:
        from htdag.doctor import probe as jobs

        some = [point.name for point in points[:limit]]
        answers = jobs.run_probes(setup, some, runs, timeout)
        probes = tuple(Probe(name, *answers[name]) for name in some)
    return Facts(
        **base,
        place="own" if setup.own else "condor",
        name=what,
        dagman_found=True,
        settings=survey.settings(setup, LOCAL_SETTINGS, NEGOTIATOR_SETTINGS),
        points=points,
        probes=probes,
        probes_left_out=max(0, len(points) - limit) if probe else 0,
    )


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _filesystem(path: Path) -> str:
    """Return the type of the file system that a folder is on, or will be on when it is made."""
    import psutil

    real = os.path.realpath(path)
    kinds = {disk.mountpoint: disk.fstype for disk in psutil.disk_partitions(all=True)}
    for folder in [real, *map(str, Path(real).parents)]:
        if folder in kinds:
            return kinds[folder]
    return ""
