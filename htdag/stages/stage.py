"""The class `Stage`, which users chain, and the functions that start chains.

Each method returns a new handle that refers to the previous one. Functions, options, names and
signatures are checked here, so that errors appear where the mistake was made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from htdag.checks.functions import check_signature
from htdag.checks.names import checked_name
from htdag.checks.quantities import whole
from htdag.checks.validation import checked_number, shown
from htdag.errors import OptionError, UsageError
from htdag.functions.pickling import check_function, check_initial, function_name
from htdag.options import stage_options
from htdag.options.stage_options import Options
from htdag.stages import operations
from htdag.stages.decorator import decoration
from htdag.stages.operations import MISSING, MOST_PARTITIONS, Operation
from htdag.stages.sources import FileSource, IterableSource, SourceItems


@dataclass(frozen=True, eq=False, repr=False)
class Stage:
    """One operation of a pipeline on the items of the previous stage.

    `source`, `files` and the methods below make handles; do not make them directly. They are
    frozen: each method returns a new handle, and a handle can be continued in several ways.

    Attributes
    ----------
    name : str
        The given name, or one derived from the function. A `Pipeline` appends numbers to derived
        names that clash.
    kind : str
        ``"source"``, ``"files"``, or the name of the method that made it, such as ``"map"``.
    options : Options
        The options that were given to this stage.

    Examples
    --------
    >>> import htdag
    >>> squares = htdag.source(range(10)).map(lambda x: x * x)
    >>> squares.name
    'map'
    """

    operation: Operation
    name: str
    named: bool
    options: Options
    inputs: tuple[Stage, ...] = ()
    binds: tuple[tuple[str, Stage], ...] = ()

    @property
    def kind(self) -> str:
        """The kind of the stage."""
        return self.operation.kind

    @property
    def one(self) -> bool:
        """Whether the stage has one value, not a sequence of items."""
        return self.operation.one

    @property
    def source(self) -> SourceItems | None:
        """The items of a source; None for any other stage."""
        operation = self.operation
        return operation.items if isinstance(operation, operations.Source) else None

    def with_options(self, **options: Any) -> Stage:
        """Return a copy of this stage with options added or replaced.

        Parameters
        ----------
        **options
            As for `map`; None removes an option. A source takes only ``chunk_size``.

        Returns
        -------
        Stage
            The copy. Stages that were made from this one keep the old options.

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
        if self.source is not None and set(options) - {"chunk_size"}:
            raise OptionError(
                f"source {self.name!r} takes only chunk_size: it runs no jobs; "
                f"give {sorted(set(options) - {'chunk_size'})[0]!r} to the stages after it"
            )
        parsed = stage_options.parse(options, self.name)
        changed = {name: getattr(parsed, name) for name in options}
        return replace(self, options=replace(self.options, **changed))

    def apply(self, function: Callable[..., Any], *args: Any, **keywords: Any) -> Stage:
        """Continue this stage with a function that builds a part of a pipeline.

        Parameters
        ----------
        function : callable
            Called immediately as ``function(stage, *args, **keywords)``; it chains stages after its
            argument and returns the last of them. It is not a function of items, and runs in no
            job.
        *args, **keywords
            Passed to `function`.

        Returns
        -------
        Stage
            The stage that `function` returned.

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
            raise UsageError(f"stage {self.name!r}: apply takes a function, got {shown(function)}")
        made = function(self, *args, **keywords)
        if not isinstance(made, Stage):
            raise UsageError(
                f"stage {self.name!r}: apply calls {name} once, immediately, with this stage; it "
                f"has to return a stage, but returned {shown(made)}. For a function of items, use "
                f"map"
            )
        return made

    # One item after another

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
            Keyword arguments whose values come from other stages: the value of a reduce, or the
            list of all items of any other stage.
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
            If the name cannot be the name of a DAGMan node.

        Examples
        --------
        >>> import htdag
        >>> numbers = htdag.source([1, 2, 3])
        >>> total = numbers.reduce(lambda a, b: a + b)
        >>> shares = numbers.map(lambda x, total: x / total, bind={"total": total})
        """
        return self._calling(operations.Map(function), function, ("item",), name, bind, options)

    def starmap(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        bind: Mapping[str, Stage] | None = None,
        **options: Any,
    ) -> Stage:
        """Call a function on every item, with the elements of the item as arguments.

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
        operation = operations.Starmap(function)
        return self._calling(operation, function, ("*item",), name, bind, options)

    def flat_map(
        self,
        function: Callable[..., Iterable[Any]],
        *,
        name: str | None = None,
        bind: Mapping[str, Stage] | None = None,
        **options: Any,
    ) -> Stage:
        """Call a function that returns an iterable; each of its elements becomes an item.

        Parameters
        ----------
        function : callable
            Called as ``function(item, **bound)``; it may be a generator function.
        name, bind, **options
            As for `map`.

        Returns
        -------
        Stage
            The elements, in order. The key of each is that of its item, followed by its number.

        Raises
        ------
        FunctionError, OptionError
            As for `map`.

        Examples
        --------
        >>> import htdag
        >>> words = htdag.source(["to be", "or not"]).flat_map(str.split)
        """
        return self._calling(operations.FlatMap(function), function, ("item",), name, bind, options)

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
            Called as ``predicate(item, **bound)``. It need not be true for any item.
        name, bind, **options
            As for `map`.

        Returns
        -------
        Stage
            The kept items, with their keys.

        Raises
        ------
        FunctionError, OptionError
            As for `map`.

        Examples
        --------
        >>> import htdag
        >>> even = htdag.source(range(10)).filter(lambda x: x % 2 == 0)
        """
        operation = operations.Filter(predicate)
        return self._calling(operation, predicate, ("item",), name, bind, options)

    # One value of all items

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
        """Combine all items into one value, in order.

        Parameters
        ----------
        function : callable
            Called as ``function(accumulated, item, **bound)``.
        initial : object, optional
            The initial value, used once; it is also the value of a reduce without items.
        associative : bool
            True: ``f(f(a, b), c)`` equals ``f(a, f(b, c))``, so parts may be combined where the
            items are made, and in a tree. False: one job combines all items one by one.
        fan_in : int, optional
            How many values one job of the tree combines at most; None: the planner decides.
        name, bind, **options
            As for `map`. With `bind`, one job combines all items, as with ``associative=False``.

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
        operation = operations.Reduce(function=function, initial=initial, associative=associative)
        taken = ("accumulated", "item")
        stage = self._calling(operation, function, taken, name, bind, options)
        if not isinstance(associative, bool):
            raise OptionError(f"stage {stage.name!r}: associative takes True or False")
        _check_initial(initial, stage.name)
        return stage._with(fan_in=_checked_fan_in(fan_in, stage.name))

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
        """Accumulate the items of each chunk, and combine the results of the chunks.

        While `reduce` combines values of one type, a fold may accumulate into another type: for
        example, items into a histogram, and histograms into one.

        Parameters
        ----------
        binop : callable
            Called as ``binop(accumulated, item, **bound)``. It may change `accumulated` in place.
        combine : callable
            Called as ``combine(accumulated, accumulated)``; it must be associative.
        initial : object
            The initial value of each part, which gets a copy, and the value of a fold without
            items. Combined with another value it must not change that: 0 for sums, an empty dict
            for counts.
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
        operation = operations.Fold(function=binop, combine=combine, initial=initial)
        taken = ("accumulated", "item")
        stage = self._calling(operation, binop, taken, name, bind, options)
        check_function(combine, f"{stage.name} (combine)")
        check_signature(combine, "fold", ("accumulated", "accumulated"), (), stage.name)
        if initial is MISSING:
            raise OptionError(f"stage {stage.name!r}: a fold needs initial=...")
        _check_initial(initial, stage.name)
        return stage._with(fan_in=_checked_fan_in(fan_in, stage.name))

    def count(self, *, name: str | None = None, **options: Any) -> Stage:
        """Count the items.

        Parameters
        ----------
        name, **options
            As for `map`.

        Returns
        -------
        Stage
            One item: the number of items, an int.

        Examples
        --------
        >>> import htdag
        >>> evens = htdag.source(range(10)).filter(lambda x: x % 2 == 0).count()
        """
        stage_name = checked_name(name, "count", "count")
        return self._after(operations.Count(), stage_name, name, options)

    # Items with related keys: a hash of the key, which is the same in every process, decides the
    # partition of an item and the order of the results.

    def group_by(
        self,
        key: Callable[[Any], Any],
        *,
        partitions: int | None = None,
        name: str | None = None,
        **options: Any,
    ) -> Stage:
        """Bring the items with equal keys together.

        If you then combine the items of each group, `reduce_by_key` moves far less data.

        Parameters
        ----------
        key : callable
            Called as ``key(item)``. Keys that are equal in Python (``1 == 1.0``) are one key. A key
            consists of numbers, strings, bytes, None, dates and times, paths, enum members, and
            tuples, frozen sets or frozen dataclasses of these.
        partitions : int, optional
            How many jobs share the groups; None: the planner decides.
        name, **options
            As for `map`.

        Returns
        -------
        Stage
            A pair ``(key, [items])`` for each key. The items of a group are in their order, and the
            groups in the order of a hash of their keys, which is the same for all runs and plans.

        Raises
        ------
        FunctionError, OptionError
            As for `map`.

        Examples
        --------
        >>> import htdag
        >>> by_length = htdag.source(["to", "be", "or", "not"]).group_by(len)
        """
        stage = self._calling(operations.GroupBy(key=key), key, ("item",), name, None, options)
        return stage._with(partitions=_checked(partitions, stage.name))

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

        Values are first combined where they are made, so that little data travels.

        Parameters
        ----------
        function : callable
            Called as ``function(accumulated, value)``; it must be associative. It may change
            `accumulated` in place.
        key : callable, optional
            Called as ``key(item)``; the item is the value. None: items are pairs ``(key, value)``.
        partitions
            As for `group_by`, which also describes what can be a key.
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
        operation = operations.ReduceByKey(function=function, key=key)
        taken = ("accumulated", "value")
        stage = self._calling(operation, function, taken, name, None, options)
        _check_key(key, "reduce_by_key", stage.name)
        return stage._with(partitions=_checked(partitions, stage.name))

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
            As for `group_by`, which also describes what can be a key.
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
        stage = self._after(operations.Distinct(key=key), stage_name, name, options)
        return stage._with(partitions=_checked(partitions, stage_name))

    def sort_by(
        self,
        key: Callable[[Any], Any] | None = None,
        *,
        reverse: bool = False,
        partitions: int | None = None,
        name: str | None = None,
        **options: Any,
    ) -> Stage:
        """Sort the items; those with equal keys stay in their order, even with `reverse`.

        One job sorts, using its disk, so that memory need not hold all items at once. It writes
        them in parts, so that the jobs of later stages read only what they need.

        Parameters
        ----------
        key : callable, optional
            Called as ``key(item)``; keys must be comparable by ``<``. None: the item itself.
        reverse : bool
            True: the largest first.
        partitions : int, optional
            The number of parts of the sorted items; None: the planner decides.
        name, **options
            As for `map`.

        Returns
        -------
        Stage
            The items, in the order of ``sorted(items, key=key, reverse=reverse)``.

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
        operation = operations.SortBy(key=key, reverse=reverse)
        stage = self._after(operation, stage_name, name, options)
        return stage._with(partitions=_checked(partitions, stage_name))

    # Views, which only say how the items of other stages are read: no jobs run for them alone, and
    # their options apply to the jobs that read the items.

    def take(self, n: int, *, name: str | None = None, **options: Any) -> Stage:
        """Take the first items.

        Only these items of a source are sent, and earlier stages of `map` and `starmap` compute no
        more, unless another stage needs them. Other stages compute all their items.

        Options apply to the jobs that read the items; this also holds for the other views.

        Parameters
        ----------
        n : int
            How many items, from 1; if there are fewer, all of them.
        name, **options
            As for `map`.

        Returns
        -------
        Stage
            The items, with their keys.

        Raises
        ------
        OptionError
            If `n` is not a whole number from 1, or as for `map`.

        Examples
        --------
        >>> import htdag
        >>> few = htdag.source(range(1000)).take(10).map(lambda x: x * x)
        """
        return self._counted_view(operations.Take, n, name, options)

    def batch(self, n: int, *, name: str | None = None, **options: Any) -> Stage:
        """Group consecutive items into lists.

        Parameters
        ----------
        n : int
            The number of items in a list, from 1; the last list may have fewer.
        name, **options
            As for `map`. A `chunk_size` counts lists.

        Returns
        -------
        Stage
            Lists of items, in order. Each has the key of its first item.

        Raises
        ------
        OptionError
            If `n` is not a whole number from 1, or as for `map`.

        Examples
        --------
        >>> import htdag
        >>> sums = htdag.source(range(1000)).batch(32).map(sum)
        """
        return self._counted_view(operations.Batch, n, name, options)

    def enumerate(self, start: int = 0, *, name: str | None = None, **options: Any) -> Stage:
        """Number the items.

        Only items that reach this stage are numbered: those that a `filter` or ``on_error="skip"``
        dropped before leave no gaps. Items that are dropped later do.

        Parameters
        ----------
        start : int
            The number of the first item.
        name, **options
            As for `map`.

        Returns
        -------
        Stage
            Pairs ``(number, item)``, with the keys of the items.

        Raises
        ------
        OptionError
            If `start` is not a whole number, or as for `map`.

        Examples
        --------
        >>> import htdag
        >>> ranks = htdag.source(["oak", "elm", "ash"]).sort_by().enumerate(start=1)
        """
        stage_name = checked_name(name, "enumerate", "enumerate")
        number = whole(start)
        if number is None:
            raise OptionError(
                f"stage {stage_name!r}: start takes a whole number, not {shown(start)}"
            )
        return self._after(operations.Enumerate(number), stage_name, name, options)

    def zip(self, *others: Stage, name: str | None = None, **options: Any) -> Stage:
        """Combine the first items of several stages into a tuple, then the second ones, and so on.

        Parameters
        ----------
        *others : Stage
            One or more stages.
        name, **options
            As for `map`.

        Returns
        -------
        Stage
            Tuples, as many as the shortest stage has items. Each has the key of its first element.

        Raises
        ------
        UsageError
            If `others` are not stages.

        Examples
        --------
        >>> import htdag
        >>> numbers = htdag.source(range(10))
        >>> pairs = numbers.zip(numbers.map(lambda x: x * x))
        """
        return self._joined_view(operations.Zip(), others, name, options)

    def product(self, *others: Stage, name: str | None = None, **options: Any) -> Stage:
        """Make all tuples with one item of each stage; the last stage's items change fastest.

        The tuples are made one by one in the jobs that use them, and never stored all at once.

        Parameters
        ----------
        *others : Stage
            One or more stages.
        name, **options
            As for `map`.

        Returns
        -------
        Stage
            Tuples, in the order of `itertools.product`. The key of each consists of the keys of its
            elements, joined by ``+``.

        Raises
        ------
        UsageError
            If `others` are not stages.

        Examples
        --------
        >>> import htdag
        >>> settings = htdag.source([0.1, 0.5]).product(htdag.source(range(10)))
        """
        return self._joined_view(operations.Product(), others, name, options)

    def combinations(self, r: int, *, name: str | None = None, **options: Any) -> Stage:
        """Make all tuples of `r` different items, in the order of the items.

        As for `product`, the tuples are never stored all at once.

        Parameters
        ----------
        r : int
            The number of items in a tuple, from 1.
        name, **options
            As for `map`.

        Returns
        -------
        Stage
            Tuples, in the order of `itertools.combinations`, with keys as for `product`.

        Raises
        ------
        OptionError
            If `r` is not a whole number from 1, or as for `map`.

        Examples
        --------
        >>> import htdag
        >>> pairs = htdag.source(["oak", "elm", "ash"]).combinations(2)
        """
        return self._counted_view(operations.Combinations, r, name, options)

    def concat(self, *others: Stage, name: str | None = None, **options: Any) -> Stage:
        """Concatenate the items of several stages.

        Parameters
        ----------
        *others : Stage
            One or more stages.
        name, **options
            As for `map`.

        Returns
        -------
        Stage
            All items. Their keys begin with the number of their stage, from 0, and a colon.

        Raises
        ------
        UsageError
            If `others` are not stages.

        Examples
        --------
        >>> import htdag
        >>> both = htdag.source(range(10)).concat(htdag.source(range(90, 100)))
        """
        return self._joined_view(operations.Concat(), others, name, options)

    def _counted_view(
        self,
        view: type[operations.View],
        number: int,
        name: str | None,
        options: Mapping[str, Any],
    ) -> Stage:
        """Return a view that has a number from 1 as its argument."""
        stage_name = checked_name(name, view.kind, view.kind)
        operation = view(checked_number(stage_name, view.kind, number))
        return self._after(operation, stage_name, name, options)

    def _joined_view(
        self,
        view: operations.View,
        others: tuple[Stage, ...],
        name: str | None,
        options: Mapping[str, Any],
    ) -> Stage:
        """Return a view of the items of several stages."""
        stage_name = checked_name(name, view.kind, view.kind)
        if not others:
            raise UsageError(f"stage {stage_name!r}: {view.kind} needs at least one other stage")
        for other in others:
            if not isinstance(other, Stage):
                raise UsageError(
                    f"stage {stage_name!r}: {view.kind} takes stages, not {type(other).__name__}: "
                    f"{shown(other)}; make one with htdag.source(...)"
                )
        return self._after(view, stage_name, name, options, others)

    def _calling(
        self,
        operation: Operation,
        function: Any,
        arguments: Sequence[str],
        name: str | None,
        bind: Mapping[str, Stage] | None,
        options: Mapping[str, Any],
    ) -> Stage:
        """Return a stage that calls a function with the given arguments."""
        decorated = decoration(function)
        name = decorated.name if name is None else name
        kind = operation.kind
        stage_name = checked_name(name, function_name(function) or kind, kind)
        check_function(function, stage_name)
        binds = _checked_binds(bind, stage_name)
        keywords = [keyword for keyword, _ in binds]
        instead = operation.instead_of_yielding
        check_signature(function, kind, arguments, keywords, stage_name, instead)
        made = self._after(operation, stage_name, name, options)
        return replace(made, binds=binds, options=made.options.with_defaults(decorated.options))

    def _after(
        self,
        operation: Operation,
        stage_name: str,
        given: str | None,
        options: Mapping[str, Any],
        others: tuple[Stage, ...] = (),
    ) -> Stage:
        """Return a stage that reads this one."""
        return Stage(
            operation,
            name=stage_name,
            named=given is not None,
            options=stage_options.parse(options, stage_name),
            inputs=(self, *others),
        )

    def _with(self, **fields: Any) -> Stage:
        """Return this stage with other fields of its operation."""
        return replace(self, operation=replace(self.operation, **fields))

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
    """Make a stage whose items are the elements of an iterable.

    Parameters
    ----------
    iterable : iterable
        A list, a range, a generator, ... It is read once, and streamed to disk.
    name : str, optional
        A name for the stage.
    chunk_size : int, optional
        How many items a job processes; None: the planner decides.

    Returns
    -------
    Stage
        The stage.

    Raises
    ------
    EmptySourceError
        If there are no items (for a generator, when the pipeline is planned).
    UsageError
        If `iterable` is not iterable, or is a single string.

    Examples
    --------
    >>> import htdag
    >>> numbers = htdag.source(range(100), chunk_size=10)
    """
    stage_name = checked_name(name, "source", "source")
    return Stage(
        operations.Source(IterableSource(iterable, stage_name)),
        name=stage_name,
        named=name is not None,
        options=stage_options.parse({"chunk_size": chunk_size}, stage_name),
    )


def files(
    pattern_or_paths: Any, name: str | None = None, *, chunk_size: int | None = None
) -> Stage:
    """Make a stage of files or directories that travel with their jobs.

    Parameters
    ----------
    pattern_or_paths : str, path, or iterable of them
        A pattern such as ``"books/*.txt"`` (``**`` crosses folders), one path or URL, or several.
    name : str, optional
        A name for the stage.
    chunk_size : int, optional
        How many files a job processes; None: the planner decides.

    Returns
    -------
    Stage
        Items are `pathlib.Path`: in a job, the path of the file there; in results, your own path.

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
        operations.Files(FileSource(pattern_or_paths, stage_name)),
        name=stage_name,
        named=name is not None,
        options=stage_options.parse({"chunk_size": chunk_size}, stage_name),
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


def _check_initial(initial: Any, stage: str) -> None:
    if initial is not MISSING:
        check_initial(initial, stage)


def _checked_fan_in(fan_in: int | None, stage: str) -> int | None:
    return None if fan_in is None else checked_number(stage, "fan_in", fan_in, 2)


def _check_key(key: Any, kind: str, stage: str) -> None:
    if key is not None:
        check_function(key, stage)
        check_signature(key, f"{kind} (key)", ("item",), (), stage)


def _checked(partitions: int | None, stage: str) -> int | None:
    if partitions is None:
        return None
    partitions = checked_number(stage, "partitions", partitions)
    if partitions > MOST_PARTITIONS:
        raise OptionError(
            f"stage {stage!r}: partitions={partitions} is too many: each job before it writes as "
            f"many files; at most {MOST_PARTITIONS:,}"
        )
    return partitions
