"""The search for an installed HTCondor to start a pool with."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from htdag.backends.condor.setup import Setup
from htdag.errors import BackendError, UsageError

VARIABLE = "HTDAG_HTCONDOR"
"""The environment variable that names an HTCondor's prefix."""

_SYSTEM = ("/usr/local/sbin", "/usr/sbin")  # often not on the PATH of ordinary users
_PLACES = ("RELEASE_DIR", "BIN", "SBIN", "LIB", "LIBEXEC", "SHARE")
_CONFIGS = ("condor_config", "etc/condor_config", "etc/condor/condor_config")
_HOW = (
    "Install HTCondor (https://htcondor.org), so that condor_master is on PATH; or give the folder "
    f"with its bin and sbin, as --htcondor DIR or in {VARIABLE}"
)


@dataclass(frozen=True)
class Install:
    """An installed HTCondor.

    Attributes
    ----------
    master : str
        The program condor_master.
    programs : tuple of str
        The folders of its programs.
    prefix : str or None
        The folder that the user named; None: it was found on PATH.
    places : dict of str to str
        HTCondor's settings for its own folders.
    """

    master: str
    programs: tuple[str, ...]
    prefix: str | None
    places: Mapping[str, str]


def find(prefix: str | None, remembered: str | None) -> Install:
    """Return the HTCondor to use.

    Parameters
    ----------
    prefix : str or None
        A folder named on the command line.
    remembered : str or None
        The folder of the last start.

    Raises
    ------
    UsageError
        If a folder that the user named has no HTCondor.
    BackendError
        If no HTCondor is installed.
    """
    for folder, who in ((prefix, "--htcondor"), (os.environ.get(VARIABLE), VARIABLE)):
        if folder:
            install = _in_prefix(Path(folder).expanduser())
            if install is None:
                raise UsageError(
                    f"{who} names {folder!r}, but there is no sbin/condor_master in it. {_HOW}"
                )
            return install
    if remembered is not None and (install := _in_prefix(Path(remembered))) is not None:
        return install
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM])
    master = shutil.which("condor_master", path=search)
    if master is not None:
        return _install(Path(master), None, os.environ.get("CONDOR_CONFIG"))
    lost = f"the HTCondor used last, in {remembered!r}, is gone, and " if remembered else ""
    raise BackendError(f"{lost}there is no HTCondor on this machine. {_HOW}")


def _in_prefix(prefix: Path) -> Install | None:
    prefix = prefix.absolute()
    for folder in (prefix / "usr/sbin", prefix / "sbin", prefix):
        master = folder / "condor_master"
        if os.access(master, os.X_OK):
            configs = [prefix / name for name in _CONFIGS if (prefix / name).is_file()]
            return _install(master, str(prefix), str(configs[0]) if configs else None)
    return None


def _install(master: Path, prefix: str | None, config: str | None) -> Install:
    sbin = master.parent
    # Some packages have all programs in one folder.
    folders = [str(sbin.parent / "bin"), str(sbin)] if sbin.name == "sbin" else [str(sbin)]
    programs = tuple(folders)
    return Install(str(master), programs, prefix, _places(sbin, programs, config))


def _places(sbin: Path, programs: tuple[str, ...], config: str | None) -> dict[str, str]:
    """Return HTCondor's folders: those in its settings, others next to its programs."""
    release = sbin.parent
    places = {"RELEASE_DIR": str(release), "BIN": programs[0], "SBIN": str(sbin)}
    for name, candidates in {
        "LIB": ("lib/condor", "lib64/condor", "lib"),
        "LIBEXEC": ("libexec/condor", "libexec"),
        "SHARE": ("share/condor", "share"),
    }.items():
        folders = [release / folder for folder in candidates if (release / folder).is_dir()]
        if folders:
            places[name] = str(folders[0])
    variables = Setup(config if config != os.devnull else None, programs).variables()
    ask = shutil.which("condor_config_val", path=variables["PATH"])
    for name in _PLACES if ask else ():
        try:
            done = subprocess.run(
                [str(ask), name],
                env=variables,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            break
        value = done.stdout.strip()
        if done.returncode == 0 and Path(value).is_dir():
            places[name] = value
    return places
