"""Stages: lazy handles that chain into a pipeline. Nothing runs here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from htdag import _options
from htdag._names import check_stage_name, derived_name
from htdag._options import Options
from htdag._pickling import check_function, function_name
from htdag._sources import FileSource, IterableSource, Source
from htdag.errors import FunctionError, OptionError, UsageError

__all__ = ["MISSING", "Stage", "files", "map", "source", "starmap"]


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()
"""Stands for "no initial value", so that None can be one."""

PER_ITEM = frozenset({"map", "starmap", "flat_map", "filter"})


@dataclass(frozen=True, eq=False, repr=False)
class Stage:
    """One operation of a pipeline on the items of the stage before it.

    Handles are made by `source`, `files` and the methods below, never directly. They are frozen:
    each method returns a new handle, and one handle may be continued in several ways.

    Attributes
    ----------
    name : str
        The name given, or one derived from the function. A `Pipeline` numbers derived names that
        would clash.
    kind : str
        ``"source"``, ``"files"``, ``"map"``, ``"starmap"``, ``"flat_map"``, ``"filter"`` or
        ``"reduce"``.
    options : Options
        The options given to this stage.

    Examples
    --------
    >>> import htdag
    >>> squares = htdag.source(range(10)).map(lambda x: x * x)
    >>> squares.name
    'map'
    """

    kind: str
    name: str
    named: bool
    options: Options
    function: Callable[..., Any] | None = None
    upstream: Stage | None = None
    binds: tuple[tuple[str, Stage], ...] = ()
    data: Source | None = field(default=None)
    initial: Any = MISSING
    associative: bool = True
    fan_in: int | None = None

    def map(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        bind: Mapping[str, Stage] | None = None,
        **options: Any,
    ) -> Stage:
        """Call a function on every item.

        Parameters
        ----------
        function : callable
            Called as ``function(item, **bound)``.
        name : str, optional
            A name for the stage; by default the function's.
        bind : dict of str to Stage, optional
            Keyword arguments taken from other stages: the value of a reduce, or the list of all
            items of any other stage.
        **options
            Options of the stage; see the reference.

        Returns
        -------
        Stage
            The results, one for each item, in the same order.

        Raises
        ------
        FunctionError
            If `function` cannot be called or pickled.
        OptionError
            If an option does not exist or has a wrong value.

        Examples
        --------
        >>> import htdag
        >>> numbers = htdag.source([1, 2, 3])
        >>> total = numbers.reduce(lambda a, b: a + b)
        >>> shares = numbers.map(lambda x, total: x / total, bind={"total": total})
        """
        return self._next("map", function, name, bind, options)

    def starmap(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        bind: Mapping[str, Stage] | None = None,
        **options: Any,
    ) -> Stage:
        """Call a function on every item, an item being the arguments.

        Items are tuples or lists (positional arguments) or dicts (keyword arguments). Parameters
        and errors are those of `map`.

        Examples
        --------
        >>> import htdag
        >>> powers = htdag.source([(2, 3), (3, 2)]).starmap(pow)
        """
        return self._next("starmap", function, name, bind, options)

    def flat_map(
        self,
        function: Callable[..., Iterable[Any]],
        *,
        name: str | None = None,
        bind: Mapping[str, Stage] | None = None,
        **options: Any,
    ) -> Stage:
        """Call a function that returns an iterable; every element of it becomes an item.

        Parameters and errors are those of `map`.

        Examples
        --------
        >>> import htdag
        >>> words = htdag.source(["to be", "or not"]).flat_map(str.split)
        """
        return self._next("flat_map", function, name, bind, options)

    def filter(
        self,
        predicate: Callable[..., Any],
        *,
        name: str | None = None,
        bind: Mapping[str, Stage] | None = None,
        **options: Any,
    ) -> Stage:
        """Keep the items for which a predicate is true.

        Parameters and errors are those of `map`. To filter everything away is no error.

        Examples
        --------
        >>> import htdag
        >>> even = htdag.source(range(10)).filter(lambda x: x % 2 == 0)
        """
        return self._next("filter", predicate, name, bind, options)

    def reduce(
        self,
        function: Callable[..., Any],
        *,
        initial: Any = MISSING,
        associative: bool = True,
        fan_in: int | None = None,
        name: str | None = None,
        bind: Mapping[str, Stage] | None = None,
        **options: Any,
    ) -> Stage:
        """Combine all items into one value, in their order.

        Parameters
        ----------
        function : callable
            Called as ``function(accumulated, item, **bound)``.
        initial : object, optional
            The value to begin with, once; and the value of a reduce that no item reaches.
        associative : bool
            True: ``f(f(a, b), c)`` equals ``f(a, f(b, c))``, so parts may be combined where the
            items are made, and in a tree. False: one job combines all items one after another.
        fan_in : int, optional
            How many values one job of the tree combines at most; None: the planner decides.
        name, bind, **options
            As for `map`. With `bind` one job combines all items, as with ``associative=False``.

        Returns
        -------
        Stage
            One item: the value.

        Raises
        ------
        FunctionError, OptionError
            As for `map`.

        Examples
        --------
        >>> import htdag
        >>> total = htdag.source(range(10)).reduce(lambda a, b: a + b, initial=0)
        """
        stage = self._next("reduce", function, name, bind, options)
        if not isinstance(associative, bool):
            raise OptionError(f"stage {stage.name!r}: associative takes True or False")
        if fan_in is not None and (type(fan_in) is not int or fan_in < 2):
            raise OptionError(f"stage {stage.name!r}: fan_in takes a whole number from 2")
        if initial is not MISSING:
            check_function(lambda: initial, f"{stage.name} (initial)")
        return replace(stage, initial=initial, associative=associative, fan_in=fan_in)

    def with_options(self, **options: Any) -> Stage:
        """Return a copy of this handle with options added or replaced; None takes one away.

        Examples
        --------
        >>> import htdag
        >>> squares = htdag.source(range(10)).map(lambda x: x * x)
        >>> squares = squares.with_options(retries=2)
        """
        if self.data is not None and set(options) - {"chunk_size"}:
            raise OptionError(
                f"source {self.name!r} takes chunk_size only: it runs no jobs; "
                f"give {sorted(set(options) - {'chunk_size'})[0]!r} to the stages after it"
            )
        parsed = _options.parse(options, self.name)
        changed = {name: getattr(parsed, name) for name in options}
        return replace(self, options=replace(self.options, **changed))

    def _next(
        self,
        kind: str,
        function: Any,
        name: str | None,
        bind: Mapping[str, Stage] | None,
        options: Mapping[str, Any],
    ) -> Stage:
        stage_name = _name(name, function_name(function) or kind, kind)
        check_function(function, stage_name)
        binds = _checked_binds(bind, stage_name)
        _check_signature(function, kind, [keyword for keyword, _ in binds], stage_name)
        return Stage(
            kind=kind,
            name=stage_name,
            named=name is not None,
            options=_options.parse(options, stage_name),
            function=function,
            upstream=self,
            binds=binds,
        )

    def __repr__(self) -> str:
        return f"<htdag.Stage {self.name!r}: {self.kind}>"

    def __bool__(self) -> NoReturn:
        raise TypeError(self._lazy("has no truth value"))

    def __iter__(self) -> NoReturn:
        raise TypeError(self._lazy("cannot be iterated"))

    def __len__(self) -> NoReturn:
        raise TypeError(self._lazy("has no length"))

    def __contains__(self, item: object) -> NoReturn:
        raise TypeError(self._lazy("cannot be searched"))

    def _lazy(self, what: str) -> str:
        return (
            f"stage {self.name!r} {what}: nothing has run yet. Continue it with .map, .filter, "
            f"..., or run it: htdag.Pipeline(stage).run()"
        )


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
    stage_name = _name(name, "source", "source")
    return Stage(
        kind="source",
        name=stage_name,
        named=name is not None,
        options=_options.parse({"chunk_size": chunk_size}, stage_name),
        data=IterableSource(iterable, stage_name),
    )


def files(
    pattern_or_paths: Any, name: str | None = None, *, chunk_size: int | None = None
) -> Stage:
    """Make a stage of local files or directories that travel with their job.

    Parameters
    ----------
    pattern_or_paths : str, path, or iterable of them
        A pattern such as ``"books/*.txt"`` (``**`` crosses folders), one path, or several.
    name : str, optional
        A name for the stage.
    chunk_size : int, optional
        How many files a job takes; None: the planner decides.

    Returns
    -------
    Stage
        Items are `pathlib.Path`: in a job, of the file as it is there.

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
    stage_name = _name(name, "files", "files")
    return Stage(
        kind="files",
        name=stage_name,
        named=name is not None,
        options=_options.parse({"chunk_size": chunk_size}, stage_name),
        data=FileSource(pattern_or_paths, stage_name),
    )


def map(function: Callable[..., Any], iterable: Iterable[Any], **options: Any) -> Stage:
    """Call a function on every element: ``source(iterable).map(function, **options)``.

    Examples
    --------
    >>> import htdag
    >>> squares = htdag.map(lambda x: x * x, range(10))
    """
    return source(iterable).map(function, **options)


def starmap(function: Callable[..., Any], iterable_of_args: Iterable[Any], **options: Any) -> Stage:
    """Call a function with every element's arguments: ``source(...).starmap(function)``.

    Examples
    --------
    >>> import htdag
    >>> powers = htdag.starmap(pow, [(2, 3), (3, 2)])
    """
    return source(iterable_of_args).starmap(function, **options)


def _name(given: str | None, derived: str, kind: str) -> str:
    return derived_name(derived, kind) if given is None else check_stage_name(given)


def _checked_binds(bind: Mapping[str, Stage] | None, stage: str) -> tuple[tuple[str, Stage], ...]:
    if bind is None:
        return ()
    if not isinstance(bind, Mapping):
        raise UsageError(f"stage {stage!r}: bind takes a dict of keyword to stage, got {bind!r}")
    for keyword, other in bind.items():
        if not str(keyword).isidentifier():
            raise UsageError(f"stage {stage!r}: bind: {keyword!r} is not the name of an argument")
        if not isinstance(other, Stage):
            raise UsageError(
                f"stage {stage!r}: bind[{keyword!r}] is a {type(other).__name__}, not a stage; "
                f"give plain values with functools.partial"
            )
    return tuple(bind.items())


def _check_signature(function: Any, kind: str, keywords: list[str], stage: str) -> None:
    """Find arguments that can never fit now, not in a job."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # built-in functions may not tell
    if kind == "starmap":
        arguments: tuple[Any, ...] = ()
        bind = signature.bind_partial
    else:
        arguments = (None, None) if kind == "reduce" else (None,)
        bind = signature.bind
    try:
        bind(*arguments, **dict.fromkeys(keywords))
    except TypeError as error:
        called = ["accumulated", "item"] if kind == "reduce" else ["item"]
        if kind == "starmap":
            called = ["*item"]
        called += [f"{keyword}=..." for keyword in keywords]
        raise FunctionError(
            f"stage {stage!r}: {kind} calls the function as f({', '.join(called)}), "
            f"but its arguments are {signature}: {error}"
        ) from None
