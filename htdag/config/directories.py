"""Where the runs of a user, the pool of her own, and what was made once for them are kept.

What lies there is unpickled, and so can do anything. So nobody else may be able to put anything
there: folders are made for the user alone, and a place that others can write to is refused.
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

    ``$HTDAG_HOME/runs`` where that variable is set, or ``home`` in the user's settings, else
    ``htdag/runs`` in the user's data directory (``~/.local/share`` on Linux).

    Raises
    ------
    DirectoryError
        If another user could write to it, as for the other folders.
    """
    return _folder("runs")


def pool_directory() -> Path:
    """Return the folder of the user's own HTCondor pool, beside that of the runs."""
    return _folder("pool")


def cache_directory() -> Path:
    """Return the folder of what stages with ``cache=True`` have finished."""
    return _folder("cache")


def environments_directory() -> Path:
    """Return the folder of packed environments, beside that of the runs."""
    return _folder("environments")


def runtime_directory() -> Path:
    """Return the folder of runtime archives, beside that of the runs."""
    return _folder("runtime")


def log_file() -> Path:
    """Return the file that htdag logs to, in the folder beside that of the runs."""
    return _folder("log") / "htdag.log"


def _folder(name: str) -> Path:
    home = _home()
    for place in _on_the_way(home):
        _check_writers(place, only_own=True)
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
    """Make a folder, and those above it that are missing, for this user alone; return it."""
    layout.make_folder(str(folder))
    return folder


def check_private(folder: Path) -> None:
    """Raise `DirectoryError` for a folder that is another user's, or that others can write to.

    Folders of root are as good as the user's own; there need be none.
    """
    try:
        owner = folder.stat().st_uid
    except OSError:
        return
    if owner not in (os.getuid(), 0) and owner != _unknown_user():
        raise DirectoryError(
            f"{str(folder)!r} belongs to another user, {_user_name(owner)}, whose pickles would "
            f"run with your rights. Give each user a folder of her own by HTDAG_HOME, and runs to "
            f"each other by htdag export and htdag import"
        )
    _check_writers(folder, only_own=False)


def _check_writers(folder: Path, *, only_own: bool) -> None:
    """Raise `DirectoryError` where others can exchange what is in a folder.

    ``only_own`` passes over folders of others: who owns those can do so anyway.
    """
    try:
        found = folder.stat()
    except OSError:
        return
    if only_own and found.st_uid != os.getuid():
        return
    who = _other_writers(found)
    if who:
        raise DirectoryError(
            f"{str(folder)!r} can be written to by {who} (its mode is "
            f"{stat.S_IMODE(found.st_mode):o}), who could put a run there whose pickles run with "
            f"your rights. Mend it with: chmod go-w {quote(str(folder))}"
        )


def _other_writers(found: os.stat_result) -> str:
    """Return who else can rename what is in a folder; "" where nobody can."""
    if found.st_mode & stat.S_ISVTX:
        return ""  # everyone only their own, as in /tmp
    if found.st_mode & stat.S_IWOTH:
        return "every user of this machine"
    if found.st_mode & stat.S_IWGRP and not _is_of_one(found.st_gid):
        return f"the group {_group_name(found.st_gid)}"
    return ""


def _is_of_one(group: int) -> bool:
    """Whether a group has this user only, as where each user has a group of her name."""
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
    """Return the number that stands for users that cannot be told, as of some network mounts."""
    try:
        return int(_OVERFLOW_UID.read_text())
    except (OSError, ValueError):
        return 65534


def _on_the_way(path: Path) -> Iterator[Path]:
    """Yield the folders that lead to a path, those that links on the way lead through too."""
    place, links = Path("/"), 0
    left = [*reversed(path.parts)]
    while left and links < _MOST_LINKS:
        part = left.pop()
        place = place.parent if part == ".." else place / part
        if place.is_symlink():
            links += 1
            left += reversed(Path(os.readlink(place)).parts)
            place = place.parent
        elif left:
            yield place


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
