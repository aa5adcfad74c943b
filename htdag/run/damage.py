"""Errors for damaged or missing files of a run, which name the file and the remedy."""

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
# Attributes that do not need the directory.
_KNOWN = ("created", "path", "pipeline_name", "script", "tag", "targets", "transient")
_INTERNAL = ("_groups", "_printed", "_repr_html_", "_with_examples")
"""Methods that are not public, but that notebooks and the command line call."""


def damaged(run: Path, error: layout.DamagedFile) -> RunDamaged:
    """Return the error for a damaged file of a run, with the remedy."""
    return RunDamaged(f"run {run.name!r}: {error}. {_remedy(run, Path(error.path))}")


def _remedy(run: Path, file: Path) -> str:
    tag = quote(run.name)
    parts = file.parts
    if file.name == layout.LOCAL_STATE:
        return f"To check what is done, and continue from there: htdag resume {tag}"
    if layout.NODES in parts and ("out" in parts or "log" in parts):
        return f"run.resume() or `htdag resume {tag}` computes it again"
    return f"Restore it from a backup, or remove the run and start again: rm -r {quote(str(run))}"


@contextlib.contextmanager
def translated(tag: str, run: Path) -> Iterator[None]:
    """Translate errors from the files of a run into htdag's own.

    Raises
    ------
    RunNotFound
        If the run's directory is gone.
    RunDamaged
        If one of its files is missing or damaged.
    """
    try:
        yield
    except HtdagError:
        raise
    except layout.DamagedFile as error:
        _check_directory(tag, run)
        raise damaged(run, error) from error
    except OSError as error:
        _check_directory(tag, run)
        file = error.filename
        if error.errno not in _OF_READING or not isinstance(file, str | os.PathLike):
            raise
        place = run / file
        if not place.is_relative_to(run):
            raise
        missing = error.errno == errno.ENOENT
        what = "it is missing" if missing else f"it cannot be read ({error.strerror})"
        raise damaged(run, layout.DamagedFile(str(place), what)) from error


def _check_directory(tag: str, run: Path) -> None:
    if not run.is_dir():
        raise RunNotFound(f"the directory of run {tag!r} is gone: {str(run)!r}")


def translates(runs: _Class) -> _Class:
    """Make all public members of a class of runs raise errors as `translated` does."""
    for name in dir(runs):
        if name in _KNOWN or (name.startswith("_") and name not in _INTERNAL):
            continue
        member = inspect.getattr_static(runs, name)
        if isinstance(member, property) and member.fget is not None:
            setattr(runs, name, property(_translating(member.fget), doc=member.__doc__))
        elif isinstance(member, FunctionType):
            setattr(runs, name, _translating(member))
    return runs


def _translating(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        with translated(self.tag, self.path):
            _check_directory(self.tag, self.path)
            value = method(self, *arguments, **options)
        return _items(self, value) if isinstance(value, GeneratorType) else value

    return call


def _items(run: Any, values: Iterator[Any]) -> Iterator[Any]:
    with translated(run.tag, run.path):
        yield from values
