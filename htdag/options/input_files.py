"""The option ``input_files``: files for all jobs of a stage, each with a unique name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from htdag.checks.validation import shown
from htdag.errors import OptionError, UsageError
from htdag.options import transfer

InputFiles = tuple[tuple[str, str], ...]


def check_input_files(value: Any) -> InputFiles:
    """Check the option, and return names with absolute paths or URLs.

    Parameters
    ----------
    value : path, URL, list of them, or mapping
        A mapping gives each file a name in the job; otherwise that is its base name.

    Raises
    ------
    OptionError
        If a file does not exist, or two would have the same name.
    """
    files: dict[str, str] = {}
    for name, location in _named(value):
        if files.setdefault(name, location) != location:
            raise OptionError(
                f"{files[name]!r} and {location!r} would both be {name!r} in the job; give a dict "
                f"with a name for each, such as {{'one-{name}': {files[name]!r}, ...}}"
            )
    return tuple(sorted(files.items()))


def _named(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str | os.PathLike | transfer.TransferURL):
        value = [value]
    if isinstance(value, Mapping):
        for name, given in value.items():
            if not isinstance(name, str) or name in ("", ".", "..") or {"/", "\0"} & set(name):
                raise OptionError(f"{name!r} cannot be the name of a file")
            yield name, _checked(given)[1]
        return
    try:
        given = list(value)
    except TypeError:
        raise OptionError(
            "it takes a path or a URL, a list of these, or a dict of names to them"
        ) from None
    yield from map(_checked, given)


def _checked(given: Any) -> tuple[str, str]:
    if isinstance(given, transfer.TransferURL) or transfer.is_url(given):
        try:
            url = given if isinstance(given, transfer.TransferURL) else transfer.TransferURL(given)
        except UsageError as error:
            raise OptionError(str(error)) from None
        return url.name, url.url
    if not isinstance(given, str | os.PathLike):
        raise OptionError(f"{shown(given)} is neither a path nor a URL")
    path = os.path.abspath(os.path.expanduser(os.fsdecode(given)))
    try:
        transfer.check_readable(path)
    except UsageError as error:
        raise OptionError(str(error)) from None
    return os.path.basename(path), path


def merge_input_files(own: InputFiles | None, defaults: InputFiles | None) -> InputFiles | None:
    """Return the files of a stage and the default ones; the stage's own replace equal names."""
    if not own or not defaults:
        return own if own is not None else defaults
    return tuple(sorted({**dict(defaults), **dict(own)}.items()))
