"""Where pipelines begin: sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from htdag.options import stage_options
from htdag.stages.checks import checked_name
from htdag.stages.sources import FileSource, IterableSource
from htdag.stages.stage import Stage


def source(
    iterable: Iterable[Any], name: str | None = None, *, chunk_size: int | None = None
) -> Stage:
    """Make a stage of the elements of any iterable, each an item.

    Parameters
    ----------
    iterable : iterable
        A list, a range, a generator, ... It is read once, and streamed to disk.
    name : str, optional
        A name for the stage.
    chunk_size : int, optional
        How many items a job takes; None: the planner decides.

    Returns
    -------
    Stage

    Raises
    ------
    EmptySourceError
        If there are no items (for a generator: when the pipeline is planned).
    UsageError
        If `iterable` is not one, or is a single string.

    Examples
    --------
    >>> import htdag
    >>> numbers = htdag.source(range(100), chunk_size=10)
    """
    stage_name = checked_name(name, "source", "source")
    return Stage(
        kind="source",
        name=stage_name,
        named=name is not None,
        options=stage_options.parse({"chunk_size": chunk_size}, stage_name),
        data=IterableSource(iterable, stage_name),
    )


def files(
    pattern_or_paths: Any, name: str | None = None, *, chunk_size: int | None = None
) -> Stage:
    """Make a stage of files or directories that travel with their job.

    Parameters
    ----------
    pattern_or_paths : str, path, or iterable of them
        A pattern such as ``"books/*.txt"`` (``**`` crosses folders), one path or URL, or several.
    name : str, optional
        A name for the stage.
    chunk_size : int, optional
        How many files a job takes; None: the planner decides.

    Returns
    -------
    Stage
        Items are `pathlib.Path`: in a job, of the file as it is there; in results, your own.

    Raises
    ------
    EmptySourceError
        If nothing matches.
    UsageError
        If a path does not exist or cannot be read.

    Examples
    --------
    >>> import htdag
    >>> sizes = htdag.files(__file__).map(lambda path: len(path.read_text()))
    """
    stage_name = checked_name(name, "files", "files")
    return Stage(
        kind="files",
        name=stage_name,
        named=name is not None,
        options=stage_options.parse({"chunk_size": chunk_size}, stage_name),
        data=FileSource(pattern_or_paths, stage_name),
    )


def map(function: Callable[..., Any], iterable: Iterable[Any], **options: Any) -> Stage:
    """Call a function on every element: ``source(iterable).map(function, **options)``.

    Parameters
    ----------
    function, **options
        As for `Stage.map`.
    iterable : iterable
        As for `source`.

    Returns
    -------
    Stage
        The results, one for each element, in the same order.

    Raises
    ------
    FunctionError, OptionError, EmptySourceError, UsageError
        As for `source` and `Stage.map`.

    Examples
    --------
    >>> import htdag
    >>> squares = htdag.map(lambda x: x * x, range(10))
    """
    return source(iterable).map(function, **options)


def starmap(function: Callable[..., Any], iterable_of_args: Iterable[Any], **options: Any) -> Stage:
    """Call a function with every element's arguments: ``source(...).starmap(function)``.

    Parameters
    ----------
    function, **options
        As for `Stage.starmap`.
    iterable_of_args : iterable
        Tuples, lists or dicts of arguments; else as for `source`.

    Returns
    -------
    Stage
        The results, one for each element, in the same order.

    Raises
    ------
    FunctionError, OptionError, EmptySourceError, UsageError
        As for `source` and `Stage.starmap`.

    Examples
    --------
    >>> import htdag
    >>> powers = htdag.starmap(pow, [(2, 3), (3, 2)])
    """
    return source(iterable_of_args).starmap(function, **options)
