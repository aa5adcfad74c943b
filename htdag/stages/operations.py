"""The operations of stages: a frozen class for each, with its arguments and properties.

The planner, and the modules that write and show plans, match on these classes or use their
properties. ``kind`` is the name of an operation in plans, run directories and the history, so it
must not change.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from htdag.checks.functions import RETURN
from htdag.common import text
from htdag.functions.pickling import function_name
from htdag.runtime.code.reducers import counted
from htdag.stages.sources import SourceItems

MOST_PARTITIONS = 1000
"""The greatest number of partitions: a job writes a file for each."""

_LONGEST_VALUE = 30
_FLATTEN = "return a list, or use flat_map, which makes an item of each element"


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"

    def __reduce__(self) -> str:
        return "MISSING"  # copies are the same object


MISSING: Any = _Missing()
"""Means "no initial value", since None can be one."""


@dataclass(frozen=True)
class MapSide:
    """The part of an operation on many items that is done in the jobs that make these items.

    Attributes
    ----------
    kind : str
        Its name in jobs: values are combined (``"reduce"``, ``"fold"``, ``"reduce_by_key"``,
        ``"distinct"``), or stored with a key (``"group_by"``, ``"sort_by"``).
    words : str
        Its description in diagrams.
    reason : str
        Its description in the reasons of a node, with ``{stage}`` for the name of the stage.
    combine : callable or None
        Takes the accumulated value and another value.
    merge, initial : callable or None, object
        For a fold: takes two accumulated values; the first accumulated value.
    key : callable or None
        Returns the key of a value.
    by_hash : bool
        Whether each value goes to the partition of its key.
    one_a_job : bool
        Whether each job writes one value.
    """

    kind: str
    words: str
    reason: str
    combine: Callable[..., Any] | None = None
    merge: Callable[..., Any] | None = None
    initial: Any = MISSING
    key: Callable[..., Any] | None = None
    by_hash: bool = False
    one_a_job: bool = False

    @property
    def functions(self) -> tuple[tuple[str, Callable[..., Any]], ...]:
        """The functions that it calls, each with its role."""
        roles = ("combine", "merge", "key")
        return tuple((r, f) for r in roles if (f := getattr(self, r)) is not None)


@dataclass(frozen=True)
class Operation:
    """The operation of a stage.

    Attributes
    ----------
    kind : str
        The name of the method that makes such a stage.
    one_of_one : bool
        Whether it always makes exactly one item from one item (of each stage that it reads).
    takes_chunk_size : bool
        Whether it takes over the chunk size of its source, since it counts the same items.
    can_fail : bool
        Whether an item can fail in it.
    instead_of_yielding : str
        What its function should do instead of yielding; "" if it may be a generator function.
    """

    kind: ClassVar[str]
    one_of_one: ClassVar[bool] = False
    takes_chunk_size: ClassVar[bool] = True
    can_fail: ClassVar[bool] = True
    instead_of_yielding: ClassVar[str] = RETURN

    @property
    def one(self) -> bool:
        """Whether it has one value, not a sequence of items."""
        return False

    @property
    def map_side(self) -> MapSide | None:
        """The part that is done where its items are made; None if there is none."""
        return None

    @property
    def origin(self) -> Callable[..., Any] | None:
        """The function that identifies stages with derived names, if there is one."""
        return None

    def title(self, stage: str) -> str:
        """Return a description of the operation for a stage with a name."""
        return self.kind

    def arguments(self) -> Iterator[str]:
        """Yield its other arguments as in a script."""
        yield from ()


# Where items come from


@dataclass(frozen=True)
class Source(Operation):
    """The elements of an iterable.

    Attributes
    ----------
    items : SourceItems
        The items.
    word : str
        The word for an item.
    """

    kind = "source"
    word: ClassVar[str] = "item"

    items: SourceItems

    def title(self, stage: str) -> str:
        """Return how many items are known, in words."""
        number, complete = self.items.read
        return text.counted(number, self.word) + ("" if complete else " or more")


@dataclass(frozen=True)
class Files(Source):
    """Files that travel with their jobs."""

    kind = "files"
    word = "file"


@dataclass(frozen=True)
class Placeholder(Source):
    """What a round of a loop is given.

    Attributes
    ----------
    single : bool
        Whether it is one value, not items.
    """

    single: bool

    @property
    def one(self) -> bool:
        """Whether it is one value."""
        return self.single


@dataclass(frozen=True)
class State(Placeholder):
    """The state of a loop, in its step."""

    kind = "state"


@dataclass(frozen=True)
class Import(Placeholder):
    """A stage outside of a loop, in its rounds."""

    kind = "import"


# One item after another


@dataclass(frozen=True)
class Elementwise(Operation):
    """An operation that calls a function with each item.

    Attributes
    ----------
    function : callable
        The user's function.
    multiplies : bool
        Whether it may make several items from one.
    keeps_items : bool
        Whether its results are the items themselves, not what the function returns.
    """

    multiplies: ClassVar[bool] = False
    keeps_items: ClassVar[bool] = False

    function: Callable[..., Any]

    @property
    def origin(self) -> Callable[..., Any]:
        """The user's function."""
        return self.function

    def title(self, stage: str) -> str:
        """Return a description, with the function's name if the stage has another one."""
        return called(self.kind, self.function, stage)


@dataclass(frozen=True)
class Map(Elementwise):
    """Makes one item from each."""

    kind = "map"
    one_of_one = True
    instead_of_yielding = _FLATTEN


@dataclass(frozen=True)
class Starmap(Elementwise):
    """Makes one item from each, whose elements are the arguments."""

    kind = "starmap"
    one_of_one = True
    instead_of_yielding = _FLATTEN


@dataclass(frozen=True)
class FlatMap(Elementwise):
    """Makes any number of items from each."""

    kind = "flat_map"
    multiplies = True
    instead_of_yielding = ""


@dataclass(frozen=True)
class Filter(Elementwise):
    """Keeps the items for which a predicate holds."""

    kind = "filter"
    keeps_items = True


# One value of all items


@dataclass(frozen=True, kw_only=True)
class Aggregation(Operation):
    """Combines all items into one value.

    Attributes
    ----------
    function : callable
        Takes the accumulated value and an item.
    initial : object
        The initial value.
    fan_in : int or None
        How many values a job of a tree combines at most.
    associative : bool
        Whether parts of the items can be combined separately.
    seeded : bool
        Whether each part starts with the initial value.
    """

    seeded: ClassVar[bool] = False

    function: Callable[..., Any]
    initial: Any = MISSING
    fan_in: int | None = None

    @property
    def one(self) -> bool:
        """Whether it has one value: always."""
        return True

    @property
    def associative(self) -> bool:
        """Whether parts of the items can be combined separately."""
        return True

    @property
    def merge(self) -> Callable[..., Any]:
        """The function that combines the values of parts."""
        return self.function

    @property
    def origin(self) -> Callable[..., Any]:
        """The user's function."""
        return self.function

    def title(self, stage: str) -> str:
        """Return a description, with the function's name if the stage has another one."""
        return called(self.kind, self.function, stage)

    def arguments(self) -> Iterator[str]:
        """Yield the arguments that are not the default."""
        if not self.associative:
            yield "associative=False"
        if self.initial is not MISSING:
            yield f"initial={_shown(self.initial)}"
        if self.fan_in is not None:
            yield f"fan_in={self.fan_in}"


@dataclass(frozen=True, kw_only=True)
class Reduce(Aggregation):
    """Combines items with an accumulated value of the same type."""

    kind = "reduce"

    associative: bool = True

    @property
    def map_side(self) -> MapSide | None:
        """The combination of the items of a chunk."""
        if not self.associative:
            return None
        return MapSide(
            "reduce",
            words="combined in each job",
            reason="{stage} is combined here, chunk by chunk (associative)",
            combine=self.function,
            one_a_job=True,
        )


@dataclass(frozen=True, kw_only=True)
class Fold(Aggregation):
    """Accumulates items into a value of another type."""

    kind = "fold"
    seeded = True

    combine: Callable[..., Any]

    @property
    def merge(self) -> Callable[..., Any]:
        """The function that combines the values of parts."""
        return self.combine

    @property
    def map_side(self) -> MapSide:
        """The accumulation of the items of a chunk."""
        return MapSide(
            "fold",
            words="accumulated in each job",
            reason="{stage} is accumulated here, chunk by chunk",
            combine=self.function,
            merge=self.combine,
            initial=self.initial,
            one_a_job=True,
        )


@dataclass(frozen=True, kw_only=True)
class Count(Fold):
    """Counts items."""

    kind = "count"
    can_fail = False

    function: Callable[..., Any] = counted
    combine: Callable[..., Any] = operator.add
    initial: Any = 0

    def title(self, stage: str) -> str:
        """Return a description without functions, which are not the user's."""
        return self.kind

    def arguments(self) -> Iterator[str]:
        """Yield nothing: it has no arguments."""
        yield from ()


# Items with related keys


@dataclass(frozen=True, kw_only=True)
class Keyed(Operation):
    """Brings items with related keys together.

    Attributes
    ----------
    key : callable or None
        Returns the key of an item.
    partitions : int or None
        The requested number of partitions, or parts.
    task : str
        A description of the work of its node's jobs.
    """

    takes_chunk_size = False
    task: ClassVar[str]

    key: Callable[..., Any] | None
    partitions: int | None = None

    @property
    def combine(self) -> Callable[..., Any] | None:
        """The function that combines the values of a key."""
        return None

    @property
    def origin(self) -> Callable[..., Any] | None:
        """The function that returns the keys."""
        return self.key

    def arguments(self) -> Iterator[str]:
        """Yield the arguments that are not the default."""
        yield from self._key()
        yield from self._partitions()

    def _key(self) -> Iterator[str]:
        if self.key is not None:
            yield f"key={function_name(self.key) or '<lambda>'}"

    def _partitions(self) -> Iterator[str]:
        if self.partitions is not None:
            yield f"partitions={self.partitions}"


@dataclass(frozen=True, kw_only=True)
class Partitioned(Keyed):
    """Sends each item to the partition of its key; each partition has a job."""


@dataclass(frozen=True, kw_only=True)
class GroupBy(Partitioned):
    """Makes a list of the items of each key."""

    kind = "group_by"
    task = "each job makes the groups of one partition of the keys"

    @property
    def map_side(self) -> MapSide:
        """The partitioning of items by key."""
        return MapSide(
            "group_by",
            words="partitioned by key",
            reason="{stage}: items leave for the partitions of their keys",
            key=self.key,
            by_hash=True,
        )

    def title(self, stage: str) -> str:
        """Return a description, with the key's name if the stage has another one."""
        return called(self.kind, self.key, stage)

    def arguments(self) -> Iterator[str]:
        """Yield the arguments that are not the default, except the key."""
        yield from self._partitions()


@dataclass(frozen=True, kw_only=True)
class ReduceByKey(Partitioned):
    """Combines the values of each key."""

    kind = "reduce_by_key"
    task = "each job combines the values of one partition of the keys"

    function: Callable[..., Any]

    @property
    def combine(self) -> Callable[..., Any]:
        """The function that combines the values of a key."""
        return self.function

    @property
    def origin(self) -> Callable[..., Any]:
        """The user's function."""
        return self.function

    @property
    def map_side(self) -> MapSide:
        """The combination of values with equal keys."""
        return MapSide(
            "reduce_by_key",
            words="combined by key in each job",
            reason="{stage}: values of equal keys are combined here, chunk by chunk",
            combine=self.function,
            key=self.key,
            by_hash=True,
        )

    def title(self, stage: str) -> str:
        """Return a description, with the function's name if the stage has another one."""
        return called(self.kind, self.function, stage)


@dataclass(frozen=True, kw_only=True)
class Distinct(Partitioned):
    """Keeps the first item of each key."""

    kind = "distinct"
    task = "each job keeps the first of each key, for one partition of the keys"

    @property
    def map_side(self) -> MapSide:
        """The removal of items whose key was seen before."""
        return MapSide(
            "distinct",
            words="duplicates dropped in each job",
            reason="{stage}: all but the first with a key are dropped here, chunk by chunk",
            key=self.key,
            by_hash=True,
        )


@dataclass(frozen=True, kw_only=True)
class SortBy(Keyed):
    """Sorts items in one job."""

    kind = "sort_by"
    task = "one job sorts, by way of its disk"

    reverse: bool = False

    @property
    def map_side(self) -> MapSide:
        """The storage of items with their keys."""
        return MapSide(
            "sort_by",
            words="with keys to sort by",
            reason="{stage}: items leave with the keys to sort by",
            key=self.key,
        )

    def arguments(self) -> Iterator[str]:
        """Yield the arguments that are not the default."""
        yield from self._key()
        if self.reverse:
            yield "reverse=True"
        yield from self._partitions()


# How the items of other stages are read


@dataclass(frozen=True)
class View(Operation):
    """An operation that only says how the items of other stages are read.

    Attributes
    ----------
    number : int
        The n of `take` and `batch`, the r of `combinations`, the start of `enumerate`.
    keeps_positions : bool
        Whether its n-th item is made from the n-th item of its input.
    """

    keeps_positions: ClassVar[bool] = False

    number: int = 0

    def read(self, *inputs: Iterable[Any]) -> Iterator[Any]:
        """Return the items of the view, in plain Python."""
        raise NotImplementedError

    def title(self, stage: str) -> str:
        """Return a description."""
        return f"{self.kind} {self.number}" if self.number else self.kind


@dataclass(frozen=True)
class Take(View):
    """The first items."""

    kind = "take"
    keeps_positions = True

    def read(self, *inputs: Iterable[Any]) -> Iterator[Any]:
        """Return the first items."""
        return itertools.islice(inputs[0], self.number)


@dataclass(frozen=True)
class Batch(View):
    """Lists of items."""

    kind = "batch"
    takes_chunk_size = False

    def read(self, *inputs: Iterable[Any]) -> Iterator[Any]:
        """Return lists of items."""
        items = iter(inputs[0])
        return iter(lambda: list(itertools.islice(items, self.number)), [])


@dataclass(frozen=True)
class Zip(View):
    """Tuples of the first items, of the second items, ..."""

    kind = "zip"
    one_of_one = True

    def read(self, *inputs: Iterable[Any]) -> Iterator[Any]:
        """Return tuples of an item of each input."""
        return zip(*inputs, strict=False)


@dataclass(frozen=True)
class Product(View):
    """Every tuple of an item of each stage."""

    kind = "product"
    one_of_one = True

    def read(self, *inputs: Iterable[Any]) -> Iterator[Any]:
        """Return all tuples."""
        return itertools.product(*inputs)


@dataclass(frozen=True)
class Combinations(View):
    """Every tuple of different items."""

    kind = "combinations"

    def read(self, *inputs: Iterable[Any]) -> Iterator[Any]:
        """Return all tuples of different items."""
        return itertools.combinations(inputs[0], self.number)


@dataclass(frozen=True)
class Concat(View):
    """The items of one stage after those of another."""

    kind = "concat"

    def read(self, *inputs: Iterable[Any]) -> Iterator[Any]:
        """Return the items of all inputs."""
        return itertools.chain(*inputs)


@dataclass(frozen=True)
class Enumerate(View):
    """Pairs of a number and an item."""

    kind = "enumerate"
    one_of_one = True
    keeps_positions = True

    def read(self, *inputs: Iterable[Any]) -> Iterator[Any]:
        """Return pairs of a number and an item."""
        return enumerate(inputs[0], self.number)

    def title(self, stage: str) -> str:
        """Return a description without the number, which is an argument."""
        return self.kind

    def arguments(self) -> Iterator[str]:
        """Yield the arguments that are not the default."""
        if self.number:
            yield f"start={self.number}"


# In words


def called(kind: str, function: Callable[..., Any] | None, stage: str) -> str:
    """Return the kind of a stage, with the name of its function if the stage has another one.

    Examples
    --------
    >>> called("map", abs, "size")
    'map abs()'
    >>> called("map", abs, "abs")
    'map'
    """
    name = "".join(char if char.isprintable() else "?" for char in function_name(function))
    return kind if name in ("", stage) else f"{kind} {_shortened(name)}()"


def _shown(value: Any) -> str:
    """Return a value as in a script, or only its type if the value could be long or vary."""
    plain = value is None or isinstance(value, bool | int | float | str)
    empty = isinstance(value, dict | list | tuple) and not value
    return _shortened(repr(value)) if plain or empty else f"<{type(value).__name__}>"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
