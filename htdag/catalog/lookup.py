"""Look up runs by their tags."""

from __future__ import annotations

import contextlib
import fnmatch
from datetime import datetime
from pathlib import Path

from htdag.checks import validation
from htdag.checks.names import check_tag
from htdag.common.warn import warn
from htdag.config.directories import make_folder, runs_directory
from htdag.errors import DirectoryError, RunDamaged, RunNotFound
from htdag.reuse.swap import restore, restore_all
from htdag.run import Run
from htdag.runtime import layout

__all__ = ["load", "new_tag", "release_tag", "runs", "tags"]


def load(tag: str) -> Run:
    """Return the run with a tag.

    Parameters
    ----------
    tag : str
        The tag of the run, as `Run.tag` and ``htdag runs`` show it.

    Returns
    -------
    Run

    Raises
    ------
    RunNotFound
        If no run has this tag.

    Examples
    --------
    >>> import htdag
    >>> htdag.load("no such run")
    Traceback (most recent call last):
    ...
    htdag.errors.RunNotFound: there is no run with the tag 'no such run'
    """
    path = runs_directory() / check_tag(tag)
    with contextlib.suppress(OSError):  # it may belong to another user
        restore(path)
    if not any((path / name).exists() for name in (layout.RUN, layout.PLAN)):
        all_tags = [path.name for path in _run_paths("*")]
        hint = validation.did_you_mean(tag, all_tags, before="; ")
        raise RunNotFound(f"there is no run with the tag {tag!r}{hint}")
    return Run(path)


def runs(pattern: str = "*") -> list[Run]:
    """Return the runs whose tags match a pattern, oldest first.

    Parameters
    ----------
    pattern : str
        A pattern with ``*``, ``?`` and ``[...]``; by default all runs.

    Returns
    -------
    list of Run
        The runs whose directories are readable. For others, a warning is issued.

    Examples
    --------
    >>> import htdag
    >>> htdag.runs("no such *")
    []
    """
    matching = []
    for path in _run_paths(pattern):
        try:
            matching.append(Run(path))
        except RunNotFound:
            continue  # removed meanwhile
        except (RunDamaged, DirectoryError) as error:
            warn(f"skipped: {error}")
    return sorted(matching, key=lambda run: (run.created, run.tag))


def tags() -> list[str]:
    """Return the tags of all runs, sorted, without reading the runs."""
    return sorted(path.name for path in _run_paths("*"))


def _run_paths(pattern: str) -> list[Path]:
    validation.text(pattern, "pattern")
    restore_all(runs_directory())
    try:
        paths = list(runs_directory().iterdir())
    except FileNotFoundError:
        return []
    return [
        path
        for path in paths
        if fnmatch.fnmatchcase(path.name, pattern)
        and not path.name.startswith(".")
        and any((path / name).exists() for name in (layout.RUN, layout.PLAN))
    ]


def new_tag(pipeline: str) -> str:
    """Return a free tag, made from the pipeline's name and the time.

    An empty folder reserves it against other processes and threads until the run takes its place.
    """
    runs = make_folder(runs_directory())
    stem = f"{pipeline}-{datetime.now():%Y%m%d-%H%M%S}"
    tag, number = stem, 1
    while True:
        try:
            (runs / tag).mkdir(mode=0o700)
        except FileExistsError:
            number += 1
            tag = f"{stem}-{number}"
        else:
            return tag


def release_tag(tag: str) -> None:
    """Release a tag for which no run was made."""
    with contextlib.suppress(OSError):
        (runs_directory() / tag).rmdir()  # fails if a run is there
