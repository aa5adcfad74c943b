"""Files of a run that are damaged or gone, as errors that say which, and what to do."""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote
from types import FunctionType, GeneratorType
from typing import Any, TypeVar

from htdag.errors import HtdagError, RunDamaged, RunNotFound
from htdag.runtime import layout

_Class = TypeVar("_Class", bound=type)
_OF_READING = (
    errno.ENOENT,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EACCES,
    errno.EIO,
    errno.EINVAL,
    errno.ELOOP,
    errno.ESTALE,
)
# What the object knows without its directory.
_KNOWN = ("created", "path", "pipeline_name", "script", "tag", "targets", "transient")
_OF_OTHERS = ("_groups", "_printed", "_repr_html_", "_with_examples")
"""Methods that are not public, but called by notebooks and the command line."""


def damaged(run: Path, error: layout.DamagedFile) -> RunDamaged:
    """Return the error that a file of a run is damaged, with the way out."""
    return RunDamaged(f"run {run.name!r}: {error}. {_way_out(run, Path(error.path))}")


def _way_out(run: Path, file: Path) -> str:
    tag = quote(run.name)
    parts = file.parts
    if file.name == layout.LOCAL_STATE:
        return f"To find out anew what is done, and go on from there: htdag resume {tag}"
    if layout.NODES in parts and ("out" in parts or "log" in parts):
        return f"run.resume() or `htdag resume {tag}` computes it again"
    return f"Put it back from a backup, or begin anew and remove the run: rm -r {quote(str(run))}"


@contextlib.contextmanager
def translated(tag: str, run: Path) -> Iterator[None]:
    """Raise what goes wrong with the files of a run as htdag's own errors.

    Raises
    ------
    RunNotFound
        If the run's directory is gone.
    RunDamaged
        If a file of it is missing, or is not what was written.
    """
    try:
        yield
    except HtdagError:
        raise
    except layout.DamagedFile as error:
        _check_there(tag, run)
        raise damaged(run, error) from error
    except OSError as error:
        _check_there(tag, run)
        file = error.filename
        if error.errno not in _OF_READING or not isinstance(file, str | os.PathLike):
            raise
        place = run / file
        if not place.is_relative_to(run):
            raise
        missing = error.errno == errno.ENOENT
        what = "it is missing" if missing else f"it cannot be read ({error.strerror})"
        raise damaged(run, layout.DamagedFile(str(place), what)) from error


def _check_there(tag: str, run: Path) -> None:
    if not run.is_dir():
        raise RunNotFound(f"the directory of run {tag!r} is gone: {str(run)!r}")


def translates(runs: _Class) -> _Class:
    """Have all public methods and properties of a class of runs raise errors as `translated`."""
    for name in dir(runs):
        if name in _KNOWN or (name.startswith("_") and name not in _OF_OTHERS):
            continue
        found = inspect.getattr_static(runs, name)
        if isinstance(found, property) and found.fget is not None:
            setattr(runs, name, property(_translating(found.fget), doc=found.__doc__))
        elif isinstance(found, FunctionType):
            setattr(runs, name, _translating(found))
    return runs


def _translating(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        with translated(self.tag, self.path):
            _check_there(self.tag, self.path)
            found = method(self, *arguments, **options)
        return _items(self, found) if isinstance(found, GeneratorType) else found

    return call


def _items(run: Any, found: Iterator[Any]) -> Iterator[Any]:
    with translated(run.tag, run.path):
        yield from found
