"""What a node is made of: what it reads, what it does with that, and what leaves it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from htdag.runtime import layout
from htdag.stages import LOOP, MISSING
from htdag.stages.sources import Source


@dataclass(frozen=True)
class Operation:
    """A per-item stage inside a node.

    ``after`` is the stage before it, in the same node, or None for the node's input; ``binds``
    are keyword and stage.
    """

    stage: str
    kind: str
    function: Callable[..., Any]
    after: str | None
    binds: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Reduction:
    """What a node that combines values does with all values of a chunk.

    ``final`` is True for the one job that gives the value of the stage, False inside a tree.
    ``begun``: the values have begun with the initial value, which counts only where there are none.
    """

    stage: str
    function: Callable[..., Any]
    final: bool
    initial: Any = MISSING
    binds: tuple[tuple[str, str], ...] = ()
    begun: bool = False


@dataclass(frozen=True)
class Output:
    """Values that leave a node: those of ``after`` (None: the input), under the name ``stage``.

    Attributes
    ----------
    stage, after : str, str or None
        The stage, and the one in this node whose values these are.
    kind : str
        ``"items"``, or how they are combined in each chunk (``"reduce"``, ``"fold"``,
        ``"reduce_by_key"``, ``"distinct"``) or stored with a key (``"group_by"``, ``"sort_by"``).
    combine : callable or None
        Takes what is combined so far and a value.
    merge, initial : callable or None, object
        Of a fold: takes two accumulated values; where each begins.
    key : callable or None
        Gives the key of a value.
    parts : int
        In how many files the values of a chunk are written; 0 for one that holds all of them.
    split : {"", "hash", "rank"}
        What decides which part a value is in: its key, or its number.
    """

    stage: str
    after: str | None
    combine: Callable[..., Any] | None = None
    kind: str = "items"
    merge: Callable[..., Any] | None = None
    initial: Any = MISSING
    key: Callable[..., Any] | None = None
    parts: int = 0
    split: str = ""

    @property
    def whole(self) -> bool:
        """Whether these are the values of the stage, not something on the way to them."""
        return self.kind == "items"

    @property
    def files(self) -> tuple[str, ...]:
        """What stands for the stage in the names of its files in each chunk."""
        return (self.stage, *(layout.part(self.stage, part) for part in range(self.parts)))


@dataclass(frozen=True)
class Stream:
    """Items that a node reads: those of a source, or one output of another node."""

    stage: str
    node: str | None = None
    source: Source | None = None


@dataclass(frozen=True)
class Input:
    """What a node reads, and how its items are made of that.

    Attributes
    ----------
    streams : tuple of Stream
        One, or several for ``"zip"``, ``"product"`` and ``"concat"``.
    view : str
        ``"items"``: as they are; else the kind of the stage that says how.
    number : int
        The n of a batch, or the r of combinations.
    limit : int or None
        Only so many of the first items.
    combine : callable or None
        Combines the values of a key, for ``"reduce_by_key"``.
    reverse : bool
        For ``"sort_by"``: the largest first.
    """

    streams: tuple[Stream, ...]
    view: str = "items"
    number: int = 0
    limit: int | None = None
    combine: Callable[..., Any] | None = None
    reverse: bool = False

    @classmethod
    def of(cls, stage: str, source: Source | None = None) -> Input:
        """Return an input of a single stream, read as it is."""
        return cls((Stream(stage, source=source),))

    @property
    def is_view(self) -> bool:
        """Whether a stage of its own says how the items are read."""
        return self.view != "items" or self.limit is not None

    @property
    def stage(self) -> str:
        """The (first) stage that is read."""
        return self.streams[0].stage

    @property
    def node(self) -> str | None:
        """The node that the (first) stream comes from, or None for a source."""
        return self.streams[0].node

    @property
    def source(self) -> Source | None:
        """The source, where one is read as it is: then each chunk gets a file of its own."""
        source = self.streams[0].source
        return (
            source if source is not None and self.view == "items" and not source.is_late else None
        )

    @property
    def is_loop(self) -> bool:
        """Whether this is what a loop begins with, and what it uses."""
        return self.view == LOOP


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
    source: Source
    boundaries: tuple[int, ...]


@dataclass(frozen=True)
class Check:
    """What the last job of a round asks of the loop's state: whether the loop is over.

    The values are those of ``after`` (None: what the node combines, or its input); ``previous`` is
    the stage of the state before the round where the function takes that, too.
    """

    stage: str
    function: Callable[..., Any]
    after: str | None
    previous: str | None
