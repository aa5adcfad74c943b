"""Stages that take one item after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from htdag.stages.handle import Handle

if TYPE_CHECKING:
    from htdag.stages.stage import Stage


class PerItem(Handle):
    """`map` and its relatives."""

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
        return self._next("starmap", function, name, bind, options, ("*item",))

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
