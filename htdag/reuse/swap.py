"""Put a new run directory in the place of an old one, which is kept until the new one is done."""

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
from htdag.compile.signatures import Identity
from htdag.errors import DirectoryError, RunActive, RunNotFound
from htdag.runtime import layout

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import Manifest


ASIDE = ("again", "rerun", "compared", "failed")
"""What run directories are written for that are to take the place of another one."""

_LOCK = "again.lock"
_SOFT_LOCK = "again.soft.lock"  # where the file system knows no locks
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


def _aside(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.replaced")


def restore(directory: Path) -> None:
    """Bring back a run that was being replaced when the process was killed.

    Where the new one was submitted already, it stays.
    """
    aside, inside = _aside(directory), directory / layout.REPLACED
    old = aside if aside.exists() else inside
    if not old.exists() or (old is inside and _may_have_begun(directory)):
        return
    with _at_rest(old) as is_mine:
        if not is_mine or not old.exists():
            return
        if not directory.exists():
            os.replace(aside, directory)
            return
        if old is aside:
            shutil.rmtree(inside, ignore_errors=True)
            os.replace(aside, inside)
        if not _may_have_begun(directory):
            swap_back(directory)


def restore_all(runs: Path) -> None:
    """Bring back the runs that are not there since they were being replaced."""
    for aside in runs.glob(".*.replaced"):
        with contextlib.suppress(OSError):  # another user's
            restore(aside.with_name(aside.name[1 : -len(".replaced")]))


def _may_have_begun(run: Path) -> bool:
    """Whether a run was submitted, or about to be: by then there is a ticket, or DAGMan's files."""
    return tickets.read(run) is not None or any(run.glob("*.condor.sub"))


@contextlib.contextmanager
def _at_rest(run: Path) -> Iterator[bool]:
    """Keep other processes from a run, if none is at it; tell whether that is so."""
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
def alone(directory: Path) -> Iterator[None]:
    """Keep other processes from replacing a run meanwhile, and clear what a killed one left.

    Raises `RunActive` where another one is at it, `RunNotFound` where the directory has vanished,
    and `DirectoryError` where nothing can be written there.
    """
    lock = contextlib.ExitStack()
    try:
        before = directory.stat().st_ino
        if not os.access(directory, os.W_OK):  # the lock itself may be there already
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        lock.enter_context(_locked(directory))
    except (BlockingIOError, TimeoutError):
        raise RunActive(
            f"another process is about to go on with run {directory.name!r}; wait for it with: "
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
            raise RunActive(f"another process has just gone on with run {directory.name!r}")
        left = re.compile(
            rf"\.{{1,2}}{re.escape(directory.name)}\.\d+\.({'|'.join(ASIDE)})(\.\d+\.\w+\.new)?"
        )
        for path in directory.parent.iterdir():
            if path.name.startswith(".") and left.fullmatch(path.name):
                remove_quietly(path)
        yield
    finally:
        lock.close()


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Lock a run directory; raise `BlockingIOError` or `TimeoutError` where another has done so."""
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    with contextlib.closing(os.fdopen(descriptor, "rb+")), contextlib.ExitStack() as stack:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            import filelock  # here, since it takes longer to import than to submit a small run

            soft = filelock.SoftFileLock(directory / _SOFT_LOCK, timeout=0, mode=0o600)
            stack.enter_context(soft)
        yield


def swap(new: Path, directory: Path) -> None:
    """Put a new run directory in the place of an old one, which moves into it."""
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
    failed = _let_go(directory)
    os.replace(directory, failed)
    os.replace(aside, directory)
    shutil.rmtree(failed, ignore_errors=True)


def _let_go(directory: Path) -> Path:
    """Return what a folder of a run is called while it is removed."""
    return directory.with_name(f".{directory.name}.{os.getpid()}.failed")


def _discard(run: Path) -> None:
    """Remove what a run was made from, so that no part of it is taken for the whole."""
    with contextlib.suppress(OSError):
        os.replace(run / layout.REPLACED, _let_go(run))
    shutil.rmtree(_let_go(run), ignore_errors=True)


def discard_replaced(run: Path) -> None:
    """Remove what a run that is done was made from."""
    _discard(run)
    for folder in run.glob(f"{layout.NODES}/*/kept"):
        shutil.rmtree(folder, ignore_errors=True)


def read_identity(run: Path) -> Identity | None:
    """Return what the nodes of a run compute; None of a run by an htdag that did not note it."""
    try:
        content: Identity = layout.read_json(str(run / layout.IDENTITY), "nodes", "stages")
    except FileNotFoundError:
        return None
    return content


def copy_of(run: Path, new: Path, dag: str) -> None:
    """Write a run directory that does the same as another one, and has done nothing yet.

    Files that nobody changes are shared with it.
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
        if _is_of_the_old_run(place):
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


def _is_of_the_old_run(place: Path) -> bool:
    """Whether a path in a run directory comes to be when it runs."""
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
    """Remove a directory that was written aside."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path)
