"""Delete old runs, and import runs from files."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from htdag.backends.base import RunState
from htdag.backends.tickets import TicketFile
from htdag.catalog.lookup import runs
from htdag.checks import validation
from htdag.checks.names import check_tag
from htdag.common.warn import warn
from htdag.config.directories import make_folder, runs_directory
from htdag.errors import (
    BackendError,
    RunActive,
    RunDamaged,
    RunNotFound,
    StageNameError,
    UsageError,
)
from htdag.run import Run, archive
from htdag.run.directory import read_manifest
from htdag.runtime import layout, planfile

_ENDED = tuple(state.value for state in RunState if state.ended)
NOT_SUBMITTED = "not submitted"
_PLACES = ("condor", "local")


@dataclass(frozen=True)
class Cleaned:
    """A run that was deleted, or would be without ``dry_run``.

    Attributes
    ----------
    tag : str
        Its tag.
    state : str
        Its state, or ``"not submitted"``.
    size : int
        How many bytes it occupied.
    changed : datetime.datetime
        When any of its files was last written.
    """

    tag: str
    state: str
    size: int
    changed: datetime


def clean(
    pattern: str | None = None,
    *,
    states: Iterable[str] | str = (*_ENDED, NOT_SUBMITTED),
    older_than: float | timedelta | None = None,
    dry_run: bool = False,
) -> list[Cleaned]:
    """Delete the directories of runs that have ended, with their results.

    Runs that have not ended are skipped.

    Parameters
    ----------
    pattern : str, optional
        Only runs whose tags match. None: only transient ones, whose tags htdag made up.
    states : str or iterable of str
        Only runs in these states; by default all states in which a run has ended.
    older_than : float (seconds) or timedelta, optional
        Only runs that ended at least this long ago.
    dry_run : bool
        Delete nothing, and only return the runs that would be deleted.

    Returns
    -------
    list of Cleaned
        The runs that were deleted, oldest first.

    Raises
    ------
    UsageError
        If a state is not one in which a run has ended.

    Examples
    --------
    >>> import htdag
    >>> htdag.clean("test-*", states="failed", dry_run=True)
    []
    """
    wanted = set(validation.texts(states, "states"))
    unknown = wanted - {*_ENDED, NOT_SUBMITTED}
    if unknown:
        raise UsageError(
            f"states={sorted(unknown)[0]!r}: it takes states of runs that have ended: "
            f"{', '.join((*_ENDED, NOT_SUBMITTED))}"
        )
    age = None if older_than is None else validation.seconds(older_than, "older_than")
    cleaned = []
    for run in runs("*" if pattern is None else pattern):
        try:
            state = _state(run)
            if state not in wanted or (pattern is None and not run.transient):
                continue
            if age is not None and time.time() - run.changed.timestamp() < age:
                continue
            entry = Cleaned(run.tag, state, run.size(), run.changed)
            if not dry_run:
                run.delete()
        except (RunActive, RunNotFound):
            continue  # it has just been submitted, resumed or deleted
        except (RunDamaged, BackendError) as error:
            warn(f"skipped: {error}")
            continue
        cleaned.append(entry)
    return cleaned


def _state(run: Run) -> str:
    try:
        return run.state.value
    except RunNotFound:
        return NOT_SUBMITTED


def import_run(
    path: str | os.PathLike[str], tag: str | None = None, *, on: str | None = None
) -> Run:
    """Import a run that `Run.export` wrote, possibly on another machine.

    Its results, errors and output are unchanged, and `Run.resume` continues it here. Runs hold
    pickled functions and values, which can run any code: import only runs that you trust.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    tag : str, optional
        The tag that the run gets here; by default its own.
    on : {"condor", "local"}, optional
        Where the run would be resumed; by default where it was.

    Returns
    -------
    Run
        The run.

    Raises
    ------
    RunDamaged
        If the file is damaged or not an exported run; nothing is left behind.
    StageNameError
        If there is a run with this tag already.
    """
    source = validation.path(path, "path")
    if on is not None and validation.text(on, "on") not in _PLACES:
        raise UsageError(f"on={on!r}: it takes 'condor' or 'local'")
    if tag is not None:
        _check_free(tag)
    home = make_folder(runs_directory())
    aside = Path(tempfile.mkdtemp(".new", f".import.{os.getpid()}.", dir=home))
    try:
        about = archive.read(source, aside)
        name = _check_free(about["tag"] if tag is None else tag)
        try:
            _localize(aside, name, about["state"], on)
        except (layout.DamagedFile, RunDamaged, RunNotFound) as error:
            message = str(error).replace(f"{aside}/", "")
            raise RunDamaged(f"{str(source)!r} holds no complete run: {message}") from error
        os.sync()
        os.replace(aside, home / name)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return Run(home / name)


def _check_free(tag: str) -> str:
    if (runs_directory() / check_tag(tag)).exists():
        raise StageNameError(f"there is a run with the tag {tag!r} already; give another tag")
    return tag


def _localize(run: Path, tag: str, state: str | None, on: str | None) -> None:
    """Give an imported run its new tag, and remove what refers to programs, jobs and processes.

    The author of an archive must not decide which HTCondor, program or process is asked about the
    run on this machine, nor add to the cache.
    """
    manifest = read_manifest(run)
    manifest |= {"tag": tag, "script": None, "imported": True}
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    layout.write_aside(str(run / layout.RUN), text.encode())
    planfile.read(str(run))  # it is whole
    # The number of a cluster there may be that of another one here.
    for log in [*run.glob("*.dagman.log"), *run.glob("*.nodes.log")]:
        log.rename(log.with_name(log.name + ".exported"))
    for name in (layout.CACHE_TODO, layout.LOCAL_STATE, layout.LOCAL_JOBS, layout.LOCAL_LOCK):
        (run / name).unlink(missing_ok=True)
    backend = "local"
    with contextlib.suppress(FileNotFoundError):
        written: TicketFile = layout.read_json(str(run / layout.TICKET), "backend")
        backend = written["backend"]
        (run / layout.TICKET).unlink()
    if state is not None:
        has_ended = state in _ENDED
        ticket: TicketFile = {
            "backend": on or (backend if backend in _PLACES else "local"),
            "time": time.time(),
            "ticket": {},
            "imported": state if has_ended else RunState.STOPPED.value,
        }
        layout.write_aside(str(run / layout.TICKET), json.dumps(ticket).encode())
