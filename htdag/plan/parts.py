"""The parts of a node: its inputs, steps, reduction, outputs and binds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from htdag.runtime import chunking, layout
from htdag.stages import MISSING, Iterate
from htdag.stages.operations import Elementwise, Keyed, MapSide, Partitioned, SortBy, Take, View
from htdag.stages.sources import SourceItems


@dataclass(frozen=True)
class Step:
    """A per-item stage inside a node.

    ``after`` is the stage before it, in the same node, or None for the node's input; ``binds``
    are keyword and stage.
    """

    stage: str
    operation: Elementwise
    after: str | None
    binds: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Reduction:
    """How a node combines the values of a chunk.

    ``final`` is True for the one job that writes the value of the stage, False inside a tree.
    ``seeded``: the values already include the initial value, which counts only if there are none.
    """

    stage: str
    function: Callable[..., Any]
    final: bool
    initial: Any = MISSING
    binds: tuple[tuple[str, str], ...] = ()
    seeded: bool = False


@dataclass(frozen=True)
class Output:
    """Values that leave a node: those of ``after`` (None: the input), under the name ``stage``.

    Attributes
    ----------
    stage, after : str, str or None
        The stage, and the one in this node whose values these are.
    map_side : MapSide or None
        What is done to the values of each chunk, on the way to those of the stage; None: these are
        already the values of the stage.
    parts : int
        In how many files the values of a chunk are written; 0 for a single one.
    split : {"", "hash", "rank"}
        What decides which part a value is in: its key, or its number.
    """

    stage: str
    after: str | None
    map_side: MapSide | None = None
    parts: int = 0
    split: str = ""

    @property
    def whole(self) -> bool:
        """Whether these are the values of the stage, not an intermediate result."""
        return self.map_side is None

    @property
    def kind(self) -> str:
        """What its jobs do with the values; ``"items"``: only write them."""
        return "items" if self.map_side is None else self.map_side.kind

    @property
    def functions(self) -> tuple[tuple[str, Callable[..., Any]], ...]:
        """The functions that its jobs call for it, each with its role."""
        return () if self.map_side is None else self.map_side.functions

    @property
    def initial(self) -> Any:
        """What the values of a chunk are accumulated into, or `MISSING`."""
        return MISSING if self.map_side is None else self.map_side.initial

    @property
    def files(self) -> tuple[str, ...]:
        """The names that stand for the stage in the names of its files."""
        return (self.stage, *(layout.part(self.stage, part) for part in range(self.parts)))


@dataclass(frozen=True)
class Stream:
    """Items that a node reads: those of a source, or one output of another node."""

    stage: str
    node: str | None = None
    source: SourceItems | None = None


@dataclass(frozen=True)
class Input:
    """What a node reads, and how it makes items from that.

    Attributes
    ----------
    streams : tuple of Stream
        One, or several where the operation reads several stages.
    operation : View, Keyed, Iterate or None
        The operation that says how; None: the items are read as they are.
    limit : int or None
        Only so many of the first items.
    """

    streams: tuple[Stream, ...]
    operation: View | Keyed | Iterate | None = None
    limit: int | None = None

    @classmethod
    def of(cls, stage: str, source: SourceItems | None = None) -> Input:
        """Return an input of a single stream, read as it is."""
        return cls((Stream(stage, source=source),))

    @property
    def view(self) -> str:
        """The name, in jobs, of the way in which they read their items."""
        if self.operation is None or isinstance(self.operation, Take):
            return "items"
        return self.operation.kind

    @property
    def number(self) -> int:
        """The number that jobs need for it; 0 if they need none."""
        match self.operation:
            case Take():
                return 0
            case View(number):
                return number
            case _:
                return 0

    @property
    def combine(self) -> Callable[..., Any] | None:
        """What combines the values of a key."""
        return self.operation.combine if isinstance(self.operation, Keyed) else None

    @property
    def reverse(self) -> bool:
        """Whether sorted items are read with the largest first."""
        return isinstance(self.operation, SortBy) and self.operation.reverse

    @property
    def is_view(self) -> bool:
        """Whether a separate stage says how the items are read."""
        return self.operation is not None or self.limit is not None

    @property
    def is_partitioned(self) -> bool:
        """Whether its chunks are partitions of keys, written by earlier jobs."""
        return isinstance(self.operation, Partitioned)

    @property
    def is_sorted(self) -> bool:
        """Whether one job sorts the items."""
        return isinstance(self.operation, SortBy)

    @property
    def is_loop(self) -> bool:
        """Whether this is the input of a loop: its first state, and what it uses."""
        return isinstance(self.operation, Iterate)

    @property
    def keeps_positions(self) -> bool:
        """Whether its n-th item comes from the n-th item of its only stream."""
        if self.operation is None:
            return True
        return isinstance(self.operation, View) and self.operation.keeps_positions

    @property
    def stage(self) -> str:
        """The (first) stage that is read."""
        return self.streams[0].stage

    @property
    def node(self) -> str | None:
        """The node that the (first) stream comes from, or None for a source."""
        return self.streams[0].node

    @property
    def source(self) -> SourceItems | None:
        """The source, if one is read as it is: then each chunk gets a file of its own."""
        source = self.streams[0].source
        if source is None or self.view != "items" or source.is_late:
            return None
        return source

    def count(self, source: SourceItems) -> int:
        """Return how many items of a source are read."""
        return source.count(self.limit if self.keeps_positions else None)

    def total(self, totals: Sequence[int]) -> int:
        """Return how many items it has, given those of its streams."""
        return chunking.view_total(self.view, self.number, self.limit, totals)


@dataclass(frozen=True)
class Bind:
    """A whole result that every job of a node reads.

    ``one``: the single value of a reduce, not a list. ``node`` is None for a source.
    """

    stage: str
    node: str | None = None
    one: bool = False


@dataclass(frozen=True)
class StoredSource:
    """A source that is read by ranges of its items: ``boundaries`` are those of its files."""

    stage: str
    source: SourceItems
    boundaries: tuple[int, ...]


@dataclass(frozen=True)
class Check:
    """The check that the last job of a round makes of the loop's state: whether the loop is over.

    The values are those of ``after`` (None: what the node combines, or its input); ``previous`` is
    the stage of the state before the round if the function takes that, too.
    """

    stage: str
    function: Callable[..., Any]
    after: str | None
    previous: str | None
