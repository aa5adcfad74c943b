"""What stages do: one frozen class an operation, with what it needs and what it knows of itself.

The planner, and what writes and shows plans, match on these classes or ask them. ``kind`` is what
an operation is called in plans, in run directories and in the history: it must not change.
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
"""How many files a job may write for the keys of its items."""

_LONGEST_VALUE = 30
_FLATTEN = "return a list, or use flat_map, which makes an item of each element"


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"

    def __reduce__(self) -> str:
        return "MISSING"  # its copies are itself


MISSING: Any = _Missing()
"""Stands for "no initial value", so that None can be one."""


@dataclass(frozen=True)
class MapSide:
    """What is done for a stage that needs many items in the jobs that make these items.

    Attributes
    ----------
    kind : str
        How jobs know it: values are combined (``"reduce"``, ``"fold"``, ``"reduce_by_key"``,
        ``"distinct"``), or stored with a key (``"group_by"``, ``"sort_by"``).
    words : str
        What it is, as a diagram says it.
    reason : str
        What it is, as the reasons of a node say it, with ``{stage}`` for the name of the stage.
    combine : callable or None
        Takes what is combined so far and a value.
    merge, initial : callable or None, object
        Of a fold: takes two accumulated values; where each begins.
    key : callable or None
        Gives the key of a value.
    by_hash : bool
        Whether each value goes to the partition of its key.
    one_a_job : bool
        Whether one value leaves each job.
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
    """What a stage does.

    Attributes
    ----------
    kind : str
        The name of the method that makes such a stage.
    one_of_one : bool
        Whether one item, or one of each stage that it reads, always becomes exactly one.
    takes_chunk_size : bool
        Whether a chunk size that was given for its source holds for it: it counts the same items.
    can_fail : bool
        Whether an item can fail in it.
    instead_of_yielding : str
        What its function, if it is a generator function, is to do instead; "" if it may be one.
    """

    kind: ClassVar[str]
    one_of_one: ClassVar[bool] = False
    takes_chunk_size: ClassVar[bool] = True
    can_fail: ClassVar[bool] = True
    instead_of_yielding: ClassVar[str] = RETURN

    @property
    def one(self) -> bool:
        """Whether it gives one value, not a sequence of items."""
        return False

    @property
    def map_side(self) -> MapSide | None:
        """What is done where its items are made; None if it needs none, or all of them at once."""
        return None

    @property
    def origin(self) -> Callable[..., Any] | None:
        """The function that tells stages with derived names apart, if it has one."""
        return None

    def title(self, stage: str) -> str:
        """Return what a stage of some name does, in words."""
        return self.kind

    def arguments(self) -> Iterator[str]:
        """Yield its other arguments as they stand in a script."""
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
        What one of them is called.
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
    """Files that travel with their job."""

    kind = "files"
    word = "file"


@dataclass(frozen=True)
class State(Source):
    """What stands for the state of a loop in its step."""

    kind = "state"

    single: bool

    @property
    def one(self) -> bool:
        """Whether the state is one value."""
        return self.single


@dataclass(frozen=True)
class Import(Source):
    """What stands, in a round of a loop, for a stage from outside."""

    kind = "import"

    single: bool

    @property
    def one(self) -> bool:
        """Whether that stage gives one value."""
        return self.single


# One item after another


@dataclass(frozen=True)
class Elementwise(Operation):
    """Calls a function with one item after another.

    Attributes
    ----------
    function : callable
        The user's function.
    multiplies : bool
        Whether it may make several items of one.
    keeps_items : bool
        Whether what it gives are the items themselves, not what the function returns.
    """

    multiplies: ClassVar[bool] = False
    keeps_items: ClassVar[bool] = False

    function: Callable[..., Any]

    @property
    def origin(self) -> Callable[..., Any]:
        """The user's function."""
        return self.function

    def title(self, stage: str) -> str:
        """Return what it does, with the function's name where the stage has another."""
        return called(self.kind, self.function, stage)


@dataclass(frozen=True)
class Map(Elementwise):
    """Makes an item of each."""

    kind = "map"
    one_of_one = True
    instead_of_yielding = _FLATTEN


@dataclass(frozen=True)
class Starmap(Elementwise):
    """Makes an item of each, which is the arguments."""

    kind = "starmap"
    one_of_one = True
    instead_of_yielding = _FLATTEN


@dataclass(frozen=True)
class FlatMap(Elementwise):
    """Makes any number of items of each."""

    kind = "flat_map"
    multiplies = True
    instead_of_yielding = ""


@dataclass(frozen=True)
class Filter(Elementwise):
    """Keeps items."""

    kind = "filter"
    keeps_items = True


# One value of all items


@dataclass(frozen=True, kw_only=True)
class Aggregation(Operation):
    """Combines all items into one value.

    Attributes
    ----------
    function : callable
        Takes what is accumulated and an item.
    initial : object
        The value to begin with.
    fan_in : int or None
        How many values a job of a tree combines at most.
    associative : bool
        Whether parts of the items can be combined on their own.
    seeded : bool
        Whether each part begins with the initial value, and is no item then.
    """

    seeded: ClassVar[bool] = False

    function: Callable[..., Any]
    initial: Any = MISSING
    fan_in: int | None = None

    @property
    def one(self) -> bool:
        """Whether it gives one value: always."""
        return True

    @property
    def associative(self) -> bool:
        """Whether parts of the items can be combined on their own."""
        return True

    @property
    def merge(self) -> Callable[..., Any]:
        """What combines the values of parts."""
        return self.function

    @property
    def origin(self) -> Callable[..., Any]:
        """The user's function."""
        return self.function

    def title(self, stage: str) -> str:
        """Return what it does, with the function's name where the stage has another."""
        return called(self.kind, self.function, stage)

    def arguments(self) -> Iterator[str]:
        """Yield what is not the default."""
        if not self.associative:
            yield "associative=False"
        if self.initial is not MISSING:
            yield f"initial={_shown(self.initial)}"
        if self.fan_in is not None:
            yield f"fan_in={self.fan_in}"


@dataclass(frozen=True, kw_only=True)
class Reduce(Aggregation):
    """Combines items that are of one type with what is accumulated of them."""

    kind = "reduce"

    associative: bool = True

    @property
    def map_side(self) -> MapSide | None:
        """The items of a chunk are combined."""
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
        """What combines the values of parts."""
        return self.combine

    @property
    def map_side(self) -> MapSide:
        """The items of a chunk are accumulated."""
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
        """Return what it does: its functions are not the user's."""
        return self.kind

    def arguments(self) -> Iterator[str]:
        """Yield nothing: it takes none."""
        yield from ()


# Items with related keys


@dataclass(frozen=True, kw_only=True)
class Keyed(Operation):
    """Brings items with related keys together.

    Attributes
    ----------
    key : callable or None
        Gives the key of an item.
    partitions : int or None
        How many partitions, or parts, were asked for.
    task : str
        What the jobs of its node do.
    """

    takes_chunk_size = False
    task: ClassVar[str]

    key: Callable[..., Any] | None
    partitions: int | None = None

    @property
    def combine(self) -> Callable[..., Any] | None:
        """What combines the values of a key."""
        return None

    @property
    def origin(self) -> Callable[..., Any] | None:
        """The function that gives the keys."""
        return self.key

    def arguments(self) -> Iterator[str]:
        """Yield what is not the default."""
        if self.key is not None:
            yield f"key={function_name(self.key) or '<lambda>'}"
        yield from self._partitions()

    def _partitions(self) -> Iterator[str]:
        if self.partitions is not None:
            yield f"partitions={self.partitions}"


@dataclass(frozen=True, kw_only=True)
class Partitioned(Keyed):
    """Sends items to the partition of their key, each of which is a job's."""


@dataclass(frozen=True, kw_only=True)
class GroupBy(Partitioned):
    """Makes a list of the items of each key."""

    kind = "group_by"
    task = "each job makes the groups of one partition of the keys"

    @property
    def map_side(self) -> MapSide:
        """Items are stored by key."""
        return MapSide(
            "group_by",
            words="parted by key",
            reason="{stage}: items leave for the partitions of their keys",
            key=self.key,
            by_hash=True,
        )

    def title(self, stage: str) -> str:
        """Return what it does, with the key's name where the stage has another."""
        return called(self.kind, self.key, stage)

    def arguments(self) -> Iterator[str]:
        """Yield what is not the default, but for the key."""
        yield from self._partitions()


@dataclass(frozen=True, kw_only=True)
class ReduceByKey(Partitioned):
    """Combines the values of each key."""

    kind = "reduce_by_key"
    task = "each job combines the values of one partition of the keys"

    function: Callable[..., Any]

    @property
    def combine(self) -> Callable[..., Any]:
        """What combines the values of a key."""
        return self.function

    @property
    def origin(self) -> Callable[..., Any]:
        """The user's function."""
        return self.function

    @property
    def map_side(self) -> MapSide:
        """Values with the same key are combined."""
        return MapSide(
            "reduce_by_key",
            words="combined by key in each job",
            reason="{stage}: values of equal keys are combined here, chunk by chunk",
            combine=self.function,
            key=self.key,
            by_hash=True,
        )

    def title(self, stage: str) -> str:
        """Return what it does, with the function's name where the stage has another."""
        return called(self.kind, self.function, stage)


@dataclass(frozen=True, kw_only=True)
class Distinct(Partitioned):
    """Keeps the first item of each key."""

    kind = "distinct"
    task = "each job keeps the first of each key, for one partition of the keys"

    @property
    def map_side(self) -> MapSide:
        """Items with a key that was seen are dropped."""
        return MapSide(
            "distinct",
            words="repeated ones dropped in each job",
            reason="{stage}: all but the first with a key are dropped here, chunk by chunk",
            key=self.key,
            by_hash=True,
        )


@dataclass(frozen=True, kw_only=True)
class SortBy(Keyed):
    """Sorts items, in one job."""

    kind = "sort_by"
    task = "one job sorts, by way of its disk"

    reverse: bool = False

    @property
    def map_side(self) -> MapSide:
        """Items are stored with their keys."""
        return MapSide(
            "sort_by",
            words="with keys to sort by",
            reason="{stage}: items leave with the keys to sort by",
            key=self.key,
        )

    def arguments(self) -> Iterator[str]:
        """Yield what is not the default."""
        if self.key is not None:
            yield f"key={function_name(self.key) or '<lambda>'}"
        if self.reverse:
            yield "reverse=True"
        yield from self._partitions()


# How the items of other stages are read


@dataclass(frozen=True)
class View(Operation):
    """Says how the items of other stages are read.

    Attributes
    ----------
    number : int
        The n of `take` and `batch`, the r of `combinations`, the start of `enumerate`.
    keeps_positions : bool
        Whether its n-th item is made of the n-th item that is read.
    """

    keeps_positions: ClassVar[bool] = False

    number: int = 0

    def read(self, *inputs: Iterable[Any]) -> Iterator[Any]:
        """Return the items of the view, in plain Python."""
        raise NotImplementedError

    def title(self, stage: str) -> str:
        """Return what it does."""
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
    """Tuples of the first items, of the second ones, ..."""

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
        """Return what it does: its number is an argument."""
        return self.kind

    def arguments(self) -> Iterator[str]:
        """Yield what is not the default."""
        if self.number:
            yield f"start={self.number}"


# In words


def called(kind: str, function: Callable[..., Any] | None, stage: str) -> str:
    """Return the kind of a stage, with its function's name where the stage has another.

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
    """Return a value as in a script, or only its type where that could be long or vary."""
    plain = value is None or isinstance(value, bool | int | float | str)
    empty = isinstance(value, dict | list | tuple) and not value
    return _shortened(repr(value)) if plain or empty else f"<{type(value).__name__}>"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
