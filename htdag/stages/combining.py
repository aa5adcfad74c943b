"""Stages that make one value of all items."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from htdag._pickling import check_function
from htdag.errors import OptionError
from htdag.stages.handle import MISSING, Handle, check_signature, checked_name, whole_number

if TYPE_CHECKING:
    from htdag.stages.stage import Stage


class Combining(Handle):
    """`reduce`, `fold` and `count`."""

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
        stage = self._next("reduce", function, name, bind, options, ("accumulated", "item"))
        if not isinstance(associative, bool):
            raise OptionError(f"stage {stage.name!r}: associative takes True or False")
        _check_initial(initial, stage.name)
        return replace(
            stage,
            initial=initial,
            associative=associative,
            fan_in=_checked_fan_in(fan_in, stage.name),
        )

    def fold(
        self,
        binop: Callable[..., Any],
        combine: Callable[[Any, Any], Any],
        *,
        initial: Any,
        fan_in: int | None = None,
        name: str | None = None,
        bind: Mapping[str, Stage] | None = None,
        **options: Any,
    ) -> Stage:
        """Accumulate the items of each chunk, and combine what the chunks gave.

        Where `reduce` combines values of one type, a fold may accumulate into another one: items
        into a histogram, say, and histograms into one.

        Parameters
        ----------
        binop : callable
            Called as ``binop(accumulated, item, **bound)``. It may change `accumulated` in place.
        combine : callable
            Called as ``combine(accumulated, accumulated)``; has to be associative.
        initial : object
            The value that each part begins with, each time a copy, and the value of a fold that no
            item reaches. Combined with another value it must change nothing: 0 for sums, an empty
            dict for counts.
        fan_in
            As for `reduce`.
        name, bind, **options
            As for `map`.

        Returns
        -------
        Stage
            One item: the value, ``functools.reduce(binop, items, initial)``.

        Raises
        ------
        FunctionError, OptionError
            As for `map`.

        Examples
        --------
        >>> import htdag
        >>> def note(longest, word):
        ...     return max(longest, len(word))
        >>> longest = htdag.source(["to", "be"]).fold(note, max, initial=0)
        """
        stage = self._next("fold", binop, name, bind, options, ("accumulated", "item"))
        check_function(combine, f"{stage.name} (combine)")
        check_signature(combine, "fold", ("accumulated", "accumulated"), (), stage.name)
        if initial is MISSING:
            raise OptionError(f"stage {stage.name!r}: a fold needs initial=...")
        _check_initial(initial, stage.name)
        return replace(
            stage, combine=combine, initial=initial, fan_in=_checked_fan_in(fan_in, stage.name)
        )

    def count(self, *, name: str | None = None, **options: Any) -> Stage:
        """Count the items.

        Parameters
        ----------
        name, **options
            As for `map`.

        Returns
        -------
        Stage
            One item: the number, an int; 0 where there are none.

        Examples
        --------
        >>> import htdag
        >>> evens = htdag.source(range(10)).filter(lambda x: x % 2 == 0).count()
        """
        stage_name = checked_name(name, "count", "count")
        # A lambda travels by value: jobs have no htdag.
        return self._after(
            "count",
            stage_name,
            name,
            options,
            function=lambda number, item: number + 1,
            combine=operator.add,
            initial=0,
        )


def _check_initial(initial: Any, stage: str) -> None:
    if initial is not MISSING:
        check_function(lambda: initial, f"{stage} (initial)")


def _checked_fan_in(fan_in: int | None, stage: str) -> int | None:
    return None if fan_in is None else whole_number(stage, "fan_in", fan_in, 2)
