"""Stages that only say how the items of other stages are read: no job runs for them alone.

Their options hold for the jobs that read the items.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from htdag.errors import UsageError
from htdag.stages.handle import Handle, checked_name, whole_number

if TYPE_CHECKING:
    from htdag.stages.stage import Stage


class Views(Handle):
    """`take`, `batch`, `zip`, `product`, `combinations` and `concat`."""

    def take(self, n: int, *, name: str | None = None, **options: Any) -> Stage:
        """Take the first items.

        Of a source only so many items are sent, and stages of `map` and `starmap` before it compute
        no more, where nothing else needs them. Other stages compute all their items.

        Options hold for the jobs that read the items, here and in all stages that only say how
        items are read.

        Parameters
        ----------
        n : int
            How many, from 1; where there are fewer, all of them.
        name, **options
            As for `map`.

        Returns
        -------
        Stage
            The items, with their keys.

        Raises
        ------
        OptionError
            If `n` is no whole number from 1, or as for `map`.

        Examples
        --------
        >>> import htdag
        >>> few = htdag.source(range(1000)).take(10).map(lambda x: x * x)
        """
        return self._view("take", name, options, number=n)

    def batch(self, n: int, *, name: str | None = None, **options: Any) -> Stage:
        """Put items together into lists.

        Parameters
        ----------
        n : int
            How many items a list has, from 1; the last one may have fewer.
        name, **options
            As for `map`. A `chunk_size` counts lists.

        Returns
        -------
        Stage
            Lists of items, in their order. Each has the key of its first item.

        Raises
        ------
        OptionError
            If `n` is no whole number from 1, or as for `map`.

        Examples
        --------
        >>> import htdag
        >>> sums = htdag.source(range(1000)).batch(32).map(sum)
        """
        return self._view("batch", name, options, number=n)

    def zip(self, *others: Stage, name: str | None = None, **options: Any) -> Stage:
        """Put the first items of several stages together, the second ones, and so on.

        Parameters
        ----------
        *others : Stage
            One stage or more.
        name, **options
            As for `map`.

        Returns
        -------
        Stage
            Tuples, as many as the shortest of the stages has items. Each has the key of its first
            element.

        Raises
        ------
        UsageError
            If `others` are no stages.

        Examples
        --------
        >>> import htdag
        >>> numbers = htdag.source(range(10))
        >>> pairs = numbers.zip(numbers.map(lambda x: x * x))
        """
        return self._view("zip", name, options, others)

    def product(self, *others: Stage, name: str | None = None, **options: Any) -> Stage:
        """Make every tuple of an item of each stage, the last stage's items changing fastest.

        The tuples are made in the jobs that use them, one after another, and are nowhere all at
        once.

        Parameters
        ----------
        *others : Stage
            One stage or more.
        name, **options
            As for `map`.

        Returns
        -------
        Stage
            Tuples, as `itertools.product` gives them. The key of each is made of those of its
            elements, with ``+`` between them.

        Raises
        ------
        UsageError
            If `others` are no stages.

        Examples
        --------
        >>> import htdag
        >>> settings = htdag.source([0.1, 0.5]).product(htdag.source(range(10)))
        """
        return self._view("product", name, options, others)

    def combinations(self, r: int, *, name: str | None = None, **options: Any) -> Stage:
        """Make every tuple of `r` different items, in the order of the items.

        As for `product`, the tuples are nowhere all at once.

        Parameters
        ----------
        r : int
            How many items a tuple has, from 1.
        name, **options
            As for `map`.

        Returns
        -------
        Stage
            Tuples, as `itertools.combinations` gives them, with keys as for `product`.

        Raises
        ------
        OptionError
            If `r` is no whole number from 1, or as for `map`.

        Examples
        --------
        >>> import htdag
        >>> pairs = htdag.source(["oak", "elm", "ash"]).combinations(2)
        """
        return self._view("combinations", name, options, number=r)

    def concat(self, *others: Stage, name: str | None = None, **options: Any) -> Stage:
        """Put the items of several stages one after another.

        Parameters
        ----------
        *others : Stage
            One stage or more.
        name, **options
            As for `map`.

        Returns
        -------
        Stage
            All items. Their keys begin with the number of their stage, from 0, and a colon.

        Raises
        ------
        UsageError
            If `others` are no stages.

        Examples
        --------
        >>> import htdag
        >>> both = htdag.source(range(10)).concat(htdag.source(range(90, 100)))
        """
        return self._view("concat", name, options, others)

    def _view(
        self,
        kind: str,
        name: str | None,
        options: dict[str, Any],
        others: tuple[Stage, ...] | None = None,
        number: Any = 0,
    ) -> Stage:
        stage_name = checked_name(name, kind, kind)
        if others is None:
            number = whole_number(stage_name, kind, number)
        if others is not None and not others:
            raise UsageError(f"stage {stage_name!r}: {kind} needs at least one other stage")
        for other in others or ():
            if not isinstance(other, Handle):
                raise UsageError(
                    f"stage {stage_name!r}: {kind} takes stages, not {type(other).__name__}: "
                    f"{other!r}; make one with htdag.source(...)"
                )
        stage = self._after(kind, stage_name, name, options)
        return replace(stage, others=others or (), number=number)
