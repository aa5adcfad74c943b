"""Replace a run directory by a new one, and keep the old one until the new one is done."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from htdag.backends import descriptions, tickets
from htdag.backends.pending import restore_post_scripts
from htdag.errors import DirectoryError, RunActive, RunNotFound
from htdag.runtime import layout
from htdag.runtime.layout import NodeFiles

if TYPE_CHECKING:
    from htdag.runtime.formats.identity import Identity
    from htdag.runtime.formats.plan import Manifest


_LOCK = "again.lock"
_SOFT_LOCK = "again.soft.lock"  # for file systems without locks
_ROOT = re.compile(
    r"submit\.json|local\..*|.*\.dagman\..*|.*\.rescue\d+.*|.*\.condor\.sub|.*\.metrics|"
    r".*\.lib\.(out|err)|.*\.nodes\.log.*|.*\.tmp|.*\.lock|replaced|cache\.todo|"
    r".*\.dag\.halt|removed\.json"
)
_OF_NODE = re.compile(
    r"chunks(\.\d+)?\.txt(\.outdated)?|chunking\.json|skipped\.json|delivered\.json|rounds|current|loop\.json|"
    r"kept|kept(\.\d+)?\.json|final\.jsonl|\d+\.\d+\.work|.*\.tmp"
)
_TASK = re.compile(r"\d+\.\d+\.json")
_REPLACING = ("again", "rerun", "compared", "failed")  # purposes of `temporary_path`


def temporary_path(path: Path, purpose: str) -> Path:
    """Return a hidden path beside a file or directory, for what this process writes or removes."""
    return path.with_name(f".{path.name}.{os.getpid()}.{purpose}")


def _leftovers(directory: Path) -> Iterator[Path]:
    """Yield what killed processes have left of directories that were to replace a run."""
    name, purposes = re.escape(directory.name), "|".join(_REPLACING)
    # Behind one of them: what it was written to, before it had that name.
    leftover = re.compile(rf"\.{{1,2}}{name}\.\d+\.({purposes})(\.\d+\.\w+\.new)?")
    return (path for path in directory.parent.iterdir() if leftover.fullmatch(path.name))


def _aside(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.replaced")


def restore(directory: Path) -> None:
    """Restore a run whose replacement was interrupted, unless the new run was submitted."""
    aside, inside = _aside(directory), directory / layout.REPLACED
    old = aside if aside.exists() else inside
    if not old.exists() or (old is inside and _may_be_submitted(directory)):
        return
    with _try_lock(old) as is_locked:
        if not is_locked or not old.exists():
            return
        if not directory.exists():
            os.replace(aside, directory)
            return
        if old is aside:
            shutil.rmtree(inside, ignore_errors=True)
            os.replace(aside, inside)
        if not _may_be_submitted(directory):
            swap_back(directory)


def restore_all(runs: Path) -> None:
    """Restore all runs whose replacement was interrupted."""
    for aside in runs.glob(".*.replaced"):
        with contextlib.suppress(OSError):  # it may belong to another user
            restore(aside.with_name(aside.name[1 : -len(".replaced")]))


def _may_be_submitted(run: Path) -> bool:
    """Return whether a run was, or may have been, submitted: it has a ticket or DAGMan's files."""
    return tickets.read(run) is not None or any(run.glob("*.condor.sub"))


@contextlib.contextmanager
def _try_lock(run: Path) -> Iterator[bool]:
    """Try to lock a run against other processes; yield whether that succeeded."""
    try:
        lock = os.open(run / _LOCK, os.O_RDWR | os.O_NONBLOCK)
    except FileNotFoundError:
        yield True
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
    else:
        yield True
    finally:
        os.close(lock)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock a run against replacement by other processes, and remove what a killed one left.

    Raises `RunActive` if another process has the lock, `RunNotFound` if the directory has vanished,
    and `DirectoryError` if nothing can be written there.
    """
    lock = contextlib.ExitStack()
    try:
        before = directory.stat().st_ino
        if not os.access(directory, os.W_OK):  # an existing lock could be opened all the same
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        lock.enter_context(_lock_file(directory))
    except (BlockingIOError, TimeoutError):
        raise RunActive(
            f"another process is about to resume run {directory.name!r}; wait for it with: "
            f"htdag wait {quote(directory.name)}"
        ) from None
    except FileNotFoundError:
        raise RunNotFound(f"the directory of run {directory.name!r} has vanished") from None
    except OSError as error:
        raise DirectoryError(
            f"run {directory.name!r} cannot go on: nothing can be written in its directory "
            f"{str(directory)!r} ({error.strerror or error})"
        ) from error
    try:
        if directory.stat().st_ino != before:
            raise RunActive(f"another process has just resumed run {directory.name!r}")
        for path in _leftovers(directory):
            remove_quietly(path)
        yield
    finally:
        lock.close()


@contextlib.contextmanager
def _lock_file(directory: Path) -> Iterator[None]:
    """Lock a run directory; raise `BlockingIOError` or `TimeoutError` if another process has it."""
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    with contextlib.closing(os.fdopen(descriptor, "rb+")), contextlib.ExitStack() as stack:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            import filelock  # late, since importing it takes longer than submitting a small run

            soft = filelock.SoftFileLock(directory / _SOFT_LOCK, timeout=0, mode=0o600)
            stack.enter_context(soft)
        yield


def swap(new: Path, directory: Path) -> None:
    """Replace a run directory by a new one, and move the old one into it."""
    aside = _aside(directory)
    _discard(directory)
    os.replace(directory, aside)
    try:
        os.replace(new, directory)
    except BaseException:
        os.replace(aside, directory)
        raise
    os.replace(aside, directory / layout.REPLACED)


def swap_back(directory: Path) -> None:
    """Undo `swap`."""
    aside = _aside(directory)
    os.replace(directory / layout.REPLACED, aside)
    failed = temporary_path(directory, "failed")
    os.replace(directory, failed)
    os.replace(aside, directory)
    shutil.rmtree(failed, ignore_errors=True)


def _discard(run: Path) -> None:
    """Remove the run that a run has replaced; move it first, so that nobody sees a part of it."""
    with contextlib.suppress(OSError):
        os.replace(run / layout.REPLACED, temporary_path(run, "failed"))
    shutil.rmtree(temporary_path(run, "failed"), ignore_errors=True)


def discard_replaced(run: Path) -> None:
    """Remove the old run that a run replaced, now that the new run is done."""
    _discard(run)
    for folder in run.glob(NodeFiles("", "*").kept):
        shutil.rmtree(folder, ignore_errors=True)


def read_identity(run: Path) -> Identity | None:
    """Return the computations of a run's nodes; None if its htdag did not write them."""
    try:
        content: Identity = layout.read_json(str(run / layout.IDENTITY), "nodes", "stages")
    except FileNotFoundError:
        return None
    return content


def copy_of(run: Path, new: Path, dag: str) -> None:
    """Write a fresh copy of a run directory, without anything that the run has done.

    Files that nobody changes are links to the original ones.
    """
    new.mkdir(mode=0o700)
    try:
        _copy_folder(run, new, Path())
        restore_post_scripts(new, dag)
        descriptions.release(new)
        path = new / layout.RUN
        manifest: Manifest = layout.read_json(str(path))
        manifest["created"] = time.time()
        layout.write_aside(str(path), json.dumps(manifest, indent=1).encode())
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _copy_folder(run: Path, new: Path, inside: Path) -> None:
    for entry in sorted((run / inside).iterdir()):
        place = inside / entry.name
        if _is_made_by_running(place):
            continue
        if entry.is_symlink():
            (new / place).symlink_to(os.readlink(entry))
        elif entry.is_dir():
            (new / place).mkdir(mode=0o700)
            _copy_folder(run, new, place)
        elif entry.suffix in (".items", ".pickle", ".pyz", ".bin"):
            layout.link_or_copy(str(entry), str(new / place))
        else:
            shutil.copy2(entry, new / place)


def _is_made_by_running(place: Path) -> bool:
    """Return whether a path in a run directory is made when the run runs."""
    parts = place.parts
    if len(parts) == 1:
        return bool(_ROOT.fullmatch(parts[0]))
    if parts[0] != layout.NODES or len(parts) < 3:
        return False
    if len(parts) == 3:
        return bool(_OF_NODE.fullmatch(parts[2]))
    if parts[2] in ("out", "log"):
        return True
    return parts[2] == "in" and bool(_TASK.fullmatch(parts[-1]))


def remove_quietly(path: Path) -> None:
    """Remove a temporary directory; ignore errors."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path)
