"""Stages that bring items with related keys together, wherever they were made.

Items travel between jobs by a hash of their key that is the same in every process. So the order of
the results is the same whatever the chunks are: that of the hashes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from htdag._pickling import check_function
from htdag.errors import OptionError
from htdag.stages.handle import Handle, check_signature, checked_name, whole_number

if TYPE_CHECKING:
    from htdag.stages.stage import Stage

MOST_PARTITIONS = 1000
"""How many files a job may write for the keys of its items."""


class Keyed(Handle):
    """`group_by`, `reduce_by_key`, `distinct` and `sort_by`."""

    def group_by(
        self,
        key: Callable[[Any], Any],
        *,
        partitions: int | None = None,
        name: str | None = None,
        **options: Any,
    ) -> Stage:
        """Bring the items with equal keys together.

        Where the items of a group are to be combined, `reduce_by_key` moves far less data.

        Parameters
        ----------
        key : callable
            Called as ``key(item)``. Keys that are equal in Python (``1 == 1.0``) are one key. A key
            is made of numbers, texts, bytes, None, dates and times, paths, members of enums, and
            tuples, frozen sets or frozen dataclasses of them.
        partitions : int, optional
            How many jobs share the groups; None: the planner decides.
        name, **options
            As for `map`.

        Returns
        -------
        Stage
            A pair ``(key, [items])`` for each key. The items of a group are in their order, the
            groups in that of a hash of their keys: one order for all runs and plans.

        Raises
        ------
        FunctionError, OptionError
            As for `map`.

        Examples
        --------
        >>> import htdag
        >>> by_length = htdag.source(["to", "be", "or", "not"]).group_by(len)
        """
        stage = self._next("group_by", key, name, None, options)
        return replace(stage, key=key, partitions=_checked(partitions, stage.name))

    def reduce_by_key(
        self,
        function: Callable[[Any, Any], Any],
        *,
        key: Callable[[Any], Any] | None = None,
        partitions: int | None = None,
        name: str | None = None,
        **options: Any,
    ) -> Stage:
        """Combine the values of each key into one.

        Values are combined where they are made first, so that little travels.

        Parameters
        ----------
        function : callable
            Called as ``function(accumulated, value)``; has to be associative. It may change
            `accumulated` in place.
        key : callable, optional
            Called as ``key(item)``; the item is the value. None: items are pairs ``(key, value)``.
        partitions
            As for `group_by`, which also says what can be a key.
        name, **options
            As for `map`.

        Returns
        -------
        Stage
            A pair ``(key, value)`` for each key, in the order of `group_by`.

        Raises
        ------
        FunctionError, OptionError
            As for `map`.

        Examples
        --------
        >>> import htdag
        >>> import operator
        >>> words = htdag.source(["to be or", "not to be"]).flat_map(str.split)
        >>> counts = words.map(lambda word: (word, 1)).reduce_by_key(operator.add)
        """
        stage = self._next("reduce_by_key", function, name, None, options, ("accumulated", "value"))
        _check_key(key, "reduce_by_key", stage.name)
        return replace(stage, key=key, partitions=_checked(partitions, stage.name))

    def distinct(
        self,
        key: Callable[[Any], Any] | None = None,
        *,
        partitions: int | None = None,
        name: str | None = None,
        **options: Any,
    ) -> Stage:
        """Keep the first of all items that are equal, or that have equal keys.

        Parameters
        ----------
        key : callable, optional
            Called as ``key(item)``. None: the item itself is the key.
        partitions
            As for `group_by`, which also says what can be a key.
        name, **options
            As for `map`.

        Returns
        -------
        Stage
            The items, in the order of a hash of their keys, as for `group_by`.

        Raises
        ------
        FunctionError, OptionError
            As for `map`.

        Examples
        --------
        >>> import htdag
        >>> words = htdag.source(["to", "be", "or", "not", "to", "be"]).distinct()
        """
        stage_name = checked_name(name, "distinct", "distinct")
        _check_key(key, "distinct", stage_name)
        stage = self._after("distinct", stage_name, name, options, key=key)
        return replace(stage, partitions=_checked(partitions, stage_name))

    def sort_by(
        self,
        key: Callable[[Any], Any] | None = None,
        *,
        reverse: bool = False,
        partitions: int | None = None,
        name: str | None = None,
        **options: Any,
    ) -> Stage:
        """Sort the items; those with equal keys stay in their order, with `reverse` too.

        One job sorts, by way of its disk, so that memory need not hold all items at once. It gives
        them out in parts, so that the jobs of later stages read only what they need.

        Parameters
        ----------
        key : callable, optional
            Called as ``key(item)``; keys have to be comparable by ``<``. None: the item itself.
        reverse : bool
            True: the largest first.
        partitions : int, optional
            In how many parts the sorted items are given out; None: the planner decides.
        name, **options
            As for `map`.

        Returns
        -------
        Stage
            The items, as ``sorted(items, key=key, reverse=reverse)`` gives them.

        Raises
        ------
        FunctionError, OptionError
            As for `map`.

        Examples
        --------
        >>> import htdag
        >>> words = htdag.source(["to", "be", "or", "not"]).sort_by(len, reverse=True)
        """
        stage_name = checked_name(name, "sort_by", "sort_by")
        _check_key(key, "sort_by", stage_name)
        if not isinstance(reverse, bool):
            raise OptionError(f"stage {stage_name!r}: reverse takes True or False")
        stage = self._after("sort_by", stage_name, name, options, key=key, reverse=reverse)
        return replace(stage, partitions=_checked(partitions, stage_name))


def _check_key(key: Any, kind: str, stage: str) -> None:
    if key is not None:
        check_function(key, stage)
        check_signature(key, f"{kind} (key)", ("item",), (), stage)


def _checked(partitions: int | None, stage: str) -> int | None:
    if partitions is None:
        return None
    partitions = whole_number(stage, "partitions", partitions)
    if partitions > MOST_PARTITIONS:
        raise OptionError(
            f"stage {stage!r}: partitions={partitions} is too many: each job before it writes as "
            f"many files; at most {MOST_PARTITIONS:,}"
        )
    return partitions
