"""The text of the configuration of the user's own pool."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from htdag.errors import DirectoryError

FAST = {
    "NEGOTIATOR_INTERVAL": "1",
    "NEGOTIATOR_MIN_INTERVAL": "1",
    "NEGOTIATOR_CYCLE_DELAY": "1",
    "SCHEDD_INTERVAL": "1",
    "SCHEDD_MIN_INTERVAL": "1",
    "DAGMAN_USER_LOG_SCAN_INTERVAL": "1",
    "DAGMAN_HOLD_CLAIM_TIME": "0",
    "GUIDANCE_KEEP_CALM_AND": "True",
}
"""Settings that make DAGs of short jobs fast in a pool of a single user."""

OLDER_DAEMONS = {"SEC_FS_ENFORCE_CHANNEL_BINDING": "False"}
"""Newer clients make a check against intermediaries that older daemons cannot pass. Where all of
them are on one machine, there is no intermediary."""

FOLDERS = ("execute", "lock", "log", "spool")
CONFIG = "condor_config"
ACTIVATE = "activate"
DOMAIN = "htdag"

_MACRO = re.compile(r"\$\w*\(|[\r\n]")


def check_directory(path: str) -> None:
    """Raise `DirectoryError` for a path that a configuration cannot contain."""
    if _MACRO.search(path):
        raise DirectoryError(
            f"{path!r} holds '$(' or a line break, which mean something else in HTCondor's "
            f"configuration; choose another folder, in HTDAG_HOME"
        )


def pool_config(
    directory: Path,
    places: Mapping[str, str],
    cpus: int,
    memory: int | None,
    job_path: str,
    older: bool = False,
) -> str:
    """Return a complete configuration, which includes no other file.

    Parameters
    ----------
    directory : pathlib.Path
        The directory of the pool.
    places : mapping of str to str
        HTCondor's settings for its own folders (``SBIN`` ...).
    cpus : int
        How many jobs of one CPU run at once.
    memory : int or None
        Memory for jobs, in MB; None: all of the machine's.
    job_path : str
        The ``PATH`` of jobs.
    older : bool
        Whether the daemons are older than the bindings.
    """
    groups = [
        ("Where HTCondor and this pool are", {**places, **_own_places(directory)}),
        ("Only this user, and only from this machine", _PRIVATE),
        ("One slot, which jobs share", _slot(cpus, memory)),
        ("Jobs find the Python that started the pool", {"STARTER_JOB_ENVIRONMENT": ""}),
        ("Fast", FAST),
        ("Resume soon after a stop or a crash", _RESTART),
    ]
    groups[3][1]["STARTER_JOB_ENVIRONMENT"] = _job_environment(job_path)
    if older:
        groups.append(("Let the bindings log in to these older daemons", OLDER_DAEMONS))
    lines = ["# Written by `htdag pool start`, at each start."]
    for title, settings in groups:
        lines += ["", f"# {title}"]
        lines += [f"{name} = {value}".rstrip() for name, value in settings.items()]
        if settings is _PRIVATE:
            lines.append("use ROLE: Personal")
    return "\n".join(lines) + "\n"


_RESTART = {
    # The pause before a DAGMan that was ended is started again; 300 by default.
    "SCHEDULER_UNIVERSE_COOL_DOWN_DURATION": "1",
    # How long the schedd tries to reconnect to jobs after a crash of the machine; 2400 by default.
    "JOB_DEFAULT_LEASE_DURATION": "60",
    # How long jobs have to end by themselves when the pool is stopped; 600 by default.
    "MachineMaxVacateTime": "10",
}


def _own_places(directory: Path) -> dict[str, str]:
    return {
        "LOCAL_DIR": str(directory),
        **{name.upper(): f"$(LOCAL_DIR)/{name}" for name in FOLDERS},
        "RUN": "$(LOCK)",
        "LOCAL_CONFIG_FILE": "",
        "LOCAL_CONFIG_DIR": "",
        "MASTER_ADDRESS_FILE": "$(LOG)/.master_address",
        "COLLECTOR_ADDRESS_FILE": "$(LOG)/.collector_address",
        "SCHEDD_ADDRESS_FILE": "$(LOG)/.schedd_address",
    }


_ME = "$(USERNAME)@$(UID_DOMAIN)"
_PRIVATE = {
    "NETWORK_INTERFACE": "127.0.0.1",
    # Without this, daemons would still listen on all interfaces.
    "BIND_ALL_INTERFACES": "False",
    "ENABLE_IPV6": "False",
    "SHARED_PORT_PORT": "0",
    # A laptop's name and its name server change with the network.
    "NO_DNS": "True",
    "DEFAULT_DOMAIN_NAME": DOMAIN,
    "UID_DOMAIN": DOMAIN,
    "FILESYSTEM_DOMAIN": DOMAIN,
    # Other users of this machine can reach the ports, so they have to be told apart.
    "SEC_DEFAULT_AUTHENTICATION": "REQUIRED",
    "SEC_DEFAULT_AUTHENTICATION_METHODS": "FS",
    "COLLECTOR_BOOTSTRAP_SSL_CERTIFICATE": "False",
    **{
        f"ALLOW_{level}": _ME
        for level in ("READ", "WRITE", "DAEMON", "ADMINISTRATOR", "NEGOTIATOR")
    },
}


def _slot(cpus: int, memory: int | None) -> dict[str, str]:
    settings = {"NUM_CPUS": str(cpus)}
    if memory is not None:
        settings["MEMORY"] = str(memory)
    return settings | {
        "NUM_SLOTS": "1",
        "NUM_SLOTS_TYPE_1": "1",
        "SLOT_TYPE_1": "100%",
        "SLOT_TYPE_1_PARTITIONABLE": "True",
        "START": "True",
        "SUSPEND": "False",
        "PREEMPT": "False",
        "KILL": "False",
    }


def job_path(python: str, search: str) -> str:
    """Return the ``PATH`` of jobs: the folder of a Python, followed by those of the user."""
    folders = [str(Path(python).parent), *search.split(os.pathsep), "/usr/bin", "/bin"]
    return os.pathsep.join(
        dict.fromkeys(
            folder for folder in folders if folder.startswith("/") and not _MACRO.search(folder)
        )
    )


def _job_environment(path: str) -> str:
    # HTCondor's quoting: '' stands for ', and "" for ".
    quoted = path.replace("'", "''").replace('"', '""')
    return f"\"PATH='{quoted}'\""


def activate_script(directory: Path, programs: tuple[str, ...]) -> str:
    """Return a shell script that makes HTCondor's commands in a shell use the pool."""
    config = shlex.quote(str(directory / CONFIG))
    before = shlex.quote(os.pathsep.join(programs))
    name = shlex.quote(str(directory / ACTIVATE))
    return (
        f"# Makes condor_q and the like work with this pool:  . {name}\n"
        f"CONDOR_CONFIG={config}\n"
        f'PATH={before}:"$PATH"\n'
        f"export CONDOR_CONFIG PATH\n"
    )
