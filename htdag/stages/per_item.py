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
            Options of the stage, such as ``retries=2``: all are in the :ref:`reference <options>`.

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
        StageNameError
            If DAGMan cannot take the name.

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

        Parameters
        ----------
        function : callable
            Called as ``function(*item, **bound)`` for items that are tuples or lists, and as
            ``function(**item, **bound)`` for dicts.
        name, bind, **options
            As for `map`.

        Returns
        -------
        Stage
            The results, one for each item, in the same order.

        Raises
        ------
        FunctionError, OptionError
            As for `map`.

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

        Parameters
        ----------
        function : callable
            Called as ``function(item, **bound)``; may be a generator function.
        name, bind, **options
            As for `map`.

        Returns
        -------
        Stage
            The elements, in order. The key of each is that of its item with its number behind it.

        Raises
        ------
        FunctionError, OptionError
            As for `map`.

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

        Parameters
        ----------
        predicate : callable
            Called as ``predicate(item, **bound)``. It may be true for no item.
        name, bind, **options
            As for `map`.

        Returns
        -------
        Stage
            The items that are kept, with their keys.

        Raises
        ------
        FunctionError, OptionError
            As for `map`.

        Examples
        --------
        >>> import htdag
        >>> even = htdag.source(range(10)).filter(lambda x: x % 2 == 0)
        """
        return self._next("filter", predicate, name, bind, options)
