"""The folders of a user's runs, of their own pool, and of caches.

htdag unpickles files from these folders, and a pickle can run any code. So nobody else may be able
to write there: htdag makes folders for the user alone, and refuses those that others can write to.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

import platformdirs

from htdag.config import settings
from htdag.errors import DirectoryError
from htdag.runtime import layout

_MACRO = re.compile(r"\$\w*\(")
_MOST_LINKS = 40
_OVERFLOW_UID = Path("/proc/sys/kernel/overflowuid")


def runs_directory() -> Path:
    """Return the folder of run directories.

    It is ``$HTDAG_HOME/runs``, or ``runs`` in the folder that the setting ``home`` names, or else
    ``htdag/runs`` in the user's data directory (``~/.local/share`` on Linux).

    Raises
    ------
    DirectoryError
        If another user could write to it. The functions for other folders raise it, too.
    """
    return _folder("runs")


def pool_directory() -> Path:
    """Return the folder of the user's own HTCondor pool, next to that of the runs."""
    return _folder("pool")


def cache_directory() -> Path:
    """Return the folder of results of stages with ``cache=True``."""
    return _folder("cache")


def environments_directory() -> Path:
    """Return the folder of packed environments, next to that of the runs."""
    return _folder("environments")


def runtime_directory() -> Path:
    """Return the folder of runtime archives, next to that of the runs."""
    return _folder("runtime")


def log_file() -> Path:
    """Return the file that htdag logs to, in a folder next to that of the runs."""
    return _folder("log") / "htdag.log"


def _folder(name: str) -> Path:
    home = _home()
    for parent in _parents(home):
        _check_writers(parent, only_own=True)
    for folder in (home, home / name):
        check_private(folder)
    return home / name


def _home() -> Path:
    home = settings.resolve("home").value
    if home is not None:
        return Path(home)
    try:
        return Path(platformdirs.user_data_dir("htdag")).absolute()
    except RuntimeError:
        raise DirectoryError(
            f"user {os.getuid()} has no home directory here, in which htdag could keep runs. Set "
            f"HTDAG_HOME to a folder of your own"
        ) from None


def make_folder(folder: Path) -> Path:
    """Make a folder, and missing ones above it, for this user alone; return it."""
    layout.make_folder(str(folder))
    return folder


def check_private(folder: Path) -> None:
    """Raise `DirectoryError` if a folder belongs to another user or others can write to it.

    Folders of root count as the user's own. A folder that does not exist passes.
    """
    try:
        owner = folder.stat().st_uid
    except OSError:
        return
    if owner not in (os.getuid(), 0) and owner != _unknown_user():
        raise DirectoryError(
            f"{str(folder)!r} belongs to another user, {_user_name(owner)}, whose pickles would "
            f"run with your rights. Give each user a folder of their own by HTDAG_HOME, and "
            f"exchange runs by htdag export and htdag import"
        )
    _check_writers(folder, only_own=False)


def _check_writers(folder: Path, *, only_own: bool) -> None:
    """Raise `DirectoryError` if others can replace files in a folder.

    ``only_own`` skips folders of other users, whose owners can do so anyway.
    """
    try:
        status = folder.stat()
    except OSError:
        return
    if only_own and status.st_uid != os.getuid():
        return
    others = _other_writers(status)
    if others:
        raise DirectoryError(
            f"{str(folder)!r} can be written to by {others} (its mode is "
            f"{stat.S_IMODE(status.st_mode):o}), who could put a run there whose pickles run with "
            f"your rights. Fix it with: chmod go-w {quote(str(folder))}"
        )


def _other_writers(status: os.stat_result) -> str:
    """Return who else can rename files in a folder; "" if nobody can."""
    if status.st_mode & stat.S_ISVTX:
        return ""  # sticky, as /tmp is: everyone can rename only their own files
    if status.st_mode & stat.S_IWOTH:
        return "every user of this machine"
    if status.st_mode & stat.S_IWGRP and not _is_private_group(status.st_gid):
        return f"the group {_group_name(status.st_gid)}"
    return ""


def _is_private_group(group: int) -> bool:
    """Return whether a group has this user only: many systems give each user such a group."""
    user = _user_name(os.getuid())
    try:
        entry = grp.getgrgid(group)
    except KeyError:
        return group == os.getuid()
    return entry.gr_name in (user, "root") and {*entry.gr_mem} <= {user, "root"}


def _user_name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _group_name(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)


def _unknown_user() -> int:
    """Return the id that the kernel shows for users it cannot map, as on some network mounts."""
    try:
        return int(_OVERFLOW_UID.read_text())
    except (OSError, ValueError):
        return 65534


def _parents(path: Path) -> Iterator[Path]:
    """Yield the folders that lead to a path, through symbolic links too."""
    folder, links = Path("/"), 0
    remaining = [*reversed(path.parts)]
    while remaining and links < _MOST_LINKS:
        part = remaining.pop()
        folder = folder.parent if part == ".." else folder / part
        if folder.is_symlink():
            links += 1
            remaining += reversed(Path(os.readlink(folder)).parts)
            folder = folder.parent
        elif remaining:
            yield folder


def check_for_dagman(directory: Path) -> None:
    """Raise `DirectoryError` if DAGMan refuses to work in a directory."""
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
    if "|" in str(directory):
        raise DirectoryError(
            f"{str(directory)!r} holds '|', and DAGMan would take the path of its configuration "
            f"for a command; choose another name"
        )
    if _MACRO.search(str(directory)):
        raise DirectoryError(
            f"{str(directory)!r} holds '$(', which HTCondor would take for a macro in the submit "
            f"description of the DAG; choose another name"
        )
