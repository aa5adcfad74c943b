"""What all stages have in common: a frozen handle that refers to the handles before it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, cast

from htdag import _options
from htdag._names import check_stage_name, derived_name
from htdag._options import Options
from htdag._pickling import check_function, function_name
from htdag._sources import Source
from htdag._units import whole
from htdag.errors import FunctionError, OptionError, UsageError
from htdag.stages.decorated import decoration

if TYPE_CHECKING:
    from htdag.stages.loops import Loop
    from htdag.stages.stage import Stage


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()
"""Stands for "no initial value", so that None can be one."""

PER_ITEM = frozenset({"map", "starmap", "flat_map", "filter"})
"""Kinds that take one item after another."""
COMBINING = frozenset({"reduce", "fold", "count"})
"""Kinds that make one value of all items."""
KEYED = frozenset({"group_by", "reduce_by_key", "distinct", "sort_by"})
"""Kinds that bring items with related keys together."""
VIEWS = frozenset({"take", "batch", "zip", "product", "combinations", "concat"})
"""Kinds that only say how the items of other stages are read."""
LOOP = "iterate"
"""The kind of a loop."""
STATE = "state"
"""The kind of what stands for the state of a loop in its step."""
IMPORT = "import"
"""The kind of what stands, in a round of a loop, for a stage from outside."""


@dataclass(frozen=True, eq=False, repr=False)
class Handle:
    """The fields of a stage; `Stage` adds the operations."""

    kind: str
    name: str
    named: bool
    options: Options
    function: Callable[..., Any] | None = None
    upstream: Stage | None = None
    others: tuple[Stage, ...] = ()
    binds: tuple[tuple[str, Stage], ...] = ()
    data: Source | None = None
    initial: Any = MISSING
    associative: bool = True
    fan_in: int | None = None
    combine: Callable[..., Any] | None = None
    key: Callable[..., Any] | None = None
    reverse: bool = False
    partitions: int | None = None
    number: int = 0
    single: bool = False
    loop: Loop | None = None

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """The stages whose items this one reads, in order; none for a source."""
        return () if self.upstream is None else (self.upstream, *self.others)

    @property
    def one(self) -> bool:
        """Whether the stage gives one value, not a sequence of items."""
        return self.kind in COMBINING or self.single

    def with_options(self, **options: Any) -> Stage:
        """Return a copy of this stage with options added or replaced.

        Parameters
        ----------
        **options
            As for `map`; None takes one away. A source takes ``chunk_size`` only.

        Returns
        -------
        Stage
            The copy. Stages that were made of this one before still have the old options.

        Raises
        ------
        OptionError
            If an option does not exist, has a wrong value, or has no meaning for a source.

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
        return cast("Stage", replace(self, options=replace(self.options, **changed)))

    def apply(self, function: Callable[..., Any], *args: Any, **keywords: Any) -> Stage:
        """Continue this stage with a function that builds a part of a pipeline.

        Parameters
        ----------
        function : callable
            Called now, as ``function(stage, *args, **keywords)``; it chains stages after the one
            it gets and returns the last of them. It is no function of items, and runs in no job.
        *args, **keywords
            Handed on to `function`.

        Returns
        -------
        Stage
            What `function` returned.

        Raises
        ------
        UsageError
            If that is not a stage.

        Examples
        --------
        >>> import htdag
        >>> def normalised(words):
        ...     return words.map(str.casefold).filter(str.isalpha)
        >>> words = htdag.source(["To", "be", "2B"]).apply(normalised)
        """
        name = function_name(function) or "the function"
        if not callable(function):
            raise UsageError(f"stage {self.name!r}: apply takes a function, got {function!r}")
        made = function(self, *args, **keywords)
        if not isinstance(made, Handle):
            raise UsageError(
                f"stage {self.name!r}: apply calls {name} once, now, with this stage; it has to "
                f"return a stage, but returned {made!r}. For a function of items use map"
            )
        return cast("Stage", made)

    def _next(
        self,
        kind: str,
        function: Any,
        name: str | None,
        bind: Mapping[str, Stage] | None,
        options: Mapping[str, Any],
        arguments: Sequence[str] = ("item",),
        **fields: Any,
    ) -> Stage:
        """Return a stage that calls a function; `arguments` are what it is called with."""
        decorated = decoration(function)
        name = decorated.name if name is None else name
        stage_name = checked_name(name, function_name(function) or kind, kind)
        check_function(function, stage_name)
        binds = _checked_binds(bind, stage_name)
        check_signature(function, kind, arguments, [keyword for keyword, _ in binds], stage_name)
        made = self._after(
            kind, stage_name, name, options, function=function, binds=binds, **fields
        )
        return replace(made, options=made.options.over(decorated.options))

    def _after(
        self, kind: str, stage_name: str, given: str | None, options: Mapping[str, Any], **rest: Any
    ) -> Stage:
        """Return a stage that reads this one."""
        handle = type(self)(
            kind=kind,
            name=stage_name,
            named=given is not None,
            options=_options.parse(options, stage_name),
            upstream=cast("Stage", self),
            **rest,
        )
        return cast("Stage", handle)

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


def checked_name(given: str | None, derived: str, kind: str) -> str:
    """Return the name that was given, checked, or one made of what the stage does."""
    return derived_name(derived, kind) if given is None else check_stage_name(given)


def whole_number(stage: str, what: str, value: Any, least: int = 1) -> int:
    """Return a whole number that the user gave, or raise `OptionError`."""
    number = whole(value)
    if number is None or number < least:
        raise OptionError(
            f"stage {stage!r}: {what} takes a whole number from {least}, not {value!r}"
        )
    return number


def _checked_binds(bind: Mapping[str, Stage] | None, stage: str) -> tuple[tuple[str, Stage], ...]:
    if bind is None:
        return ()
    if not isinstance(bind, Mapping):
        raise UsageError(f"stage {stage!r}: bind takes a dict of keyword to stage, got {bind!r}")
    for keyword, other in bind.items():
        if not str(keyword).isidentifier():
            raise UsageError(f"stage {stage!r}: bind: {keyword!r} is not the name of an argument")
        if not isinstance(other, Handle):
            raise UsageError(
                f"stage {stage!r}: bind[{keyword!r}] is a {type(other).__name__}, not a stage; "
                f"give plain values with functools.partial"
            )
    return tuple(bind.items())


def check_works(function: Any, kind: str, stage: str) -> None:
    """Refuse a function whose call only makes something that would work later."""
    while isinstance(function, functools.partial):
        function = function.func
    for each in (function, vars(type(function)).get("__call__")):
        if inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each):
            raise FunctionError(
                f"stage {stage!r}: {kind} calls the function as it is, and a call of an async "
                f"function does nothing yet. Give a function that calls "
                f"asyncio.run(...) itself and returns the result"
            )
        if inspect.isgeneratorfunction(each) and kind != "flat_map":
            way = (
                "return a list, or use flat_map, which makes an item of each element"
                if kind in ("map", "starmap")
                else "let it return, not yield"
            )
            raise FunctionError(
                f"stage {stage!r}: {kind} takes what the function returns, and a generator "
                f"function returns a generator, which has not begun: {way}"
            )


def check_signature(
    function: Any, kind: str, arguments: Sequence[str], keywords: Sequence[str], stage: str
) -> None:
    """Find arguments that can never fit now, not in a job, and functions that do no work."""
    check_works(function, kind, stage)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # built-in functions may not tell
    if arguments and arguments[-1].startswith("*"):
        values: tuple[Any, ...] = ()
        bind = signature.bind_partial
    else:
        values = (None,) * len(arguments)
        bind = signature.bind
    try:
        bind(*values, **dict.fromkeys(keywords))
    except TypeError as error:
        called = [*arguments, *(f"{keyword}=..." for keyword in keywords)]
        raise FunctionError(
            f"stage {stage!r}: {kind} calls the function as f({', '.join(called)}), "
            f"but its arguments are {signature}: {error}"
        ) from None
