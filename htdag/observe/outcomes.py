"""The values that a run's jobs wrote, loaded for the user."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from htdag.errors import HtdagError, RunDamaged, ValueUnreadable
from htdag.observe.loading import loads
from htdag.runtime import layout
from htdag.runtime.dag import progress
from htdag.runtime.data import itemfile
from htdag.runtime.layout import NodeFiles, RunFiles

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import (
        NodeEntry,
        Plan,
        SkippedFile,
        SourceEntry,
        StageEntry,
        StreamEntry,
    )

# Views whose items have keys of their own, which lead to no source.
_OWN_KEYS = ("group_by", "reduce_by_key", "iterate")


@dataclass(frozen=True)
class Item:
    """One result.

    Attributes
    ----------
    key : str
        The number of its source item, with ``.n`` for each `flat_map`.
    value : object
        The value; an `ItemError` for a failed item, if errors are to be returned.
    """

    key: str
    value: Any
    origin: InitVar[tuple[Sources, str] | None] = None

    def __post_init__(self, origin: tuple[Sources, str] | None) -> None:
        # Not a field, since an item becomes a row of a table with a column for each field.
        object.__setattr__(self, "_origin", origin)

    @property
    def source(self) -> Any:
        """The source item that it was made from; for files the path.

        For a tuple made by `product` or `combinations` it is a tuple of source items; for a reduce,
        and for values made from groups, it is None.
        """
        origin: tuple[Sources, str] | None = self._origin  # type: ignore[attr-defined]
        if origin is None:
            return None
        sources, node = origin
        return sources.of(node, self.key)


class _NoSourceError(Exception):
    """An item was not made from a single source item."""


class Sources:
    """The source items of a run, found by key."""

    def __init__(self, run: Path, plan: Plan) -> None:
        self._run = run
        self._plan = plan
        self._last: tuple[str, int, dict[int, Any]] | None = None

    def of(self, node: str, key: str) -> Any:
        """Return the source item that an item of a node was made from; None if there is none.

        For a tuple of items of several stages, it is a tuple of their source items.
        """
        try:
            return self._of_node(self._plan["by_name"][node], iter(key.split("+")))
        except (_NoSourceError, ValueError, IndexError):
            return None

    def _of_node(self, node: NodeEntry, parts: Iterator[str]) -> Any:
        """Return the source item of an item; ``parts`` are what its key is joined of.

        Raises `_NoSourceError` if it has none, so that the rest of the key cannot be assigned.
        """
        reads = node["input"]
        view = reads["view"]
        if node["mode"] == "reduce":
            _next(parts)
            return None
        if reads["plain"]:
            return self._value(node["name"], _next(parts))
        streams = reads["streams"]
        if view in _OWN_KEYS:
            raise _NoSourceError
        if view == "product":
            return tuple(self._of_stream(stream, parts) for stream in streams)
        if view == "combinations":
            return tuple(self._of_stream(streams[0], parts) for _ in range(reads["number"]))
        if view == "concat":
            number, _, rest = _next(parts).partition(":")
            return self._of_stream(streams[int(number)], itertools.chain([rest], parts))
        return self._of_stream(streams[0], parts)

    def _of_stream(self, stream: StreamEntry, parts: Iterator[str]) -> Any:
        if stream["node"] is None:
            return self._value(stream["stage"], _next(parts))
        return self._of_node(self._plan["by_name"][stream["node"]], parts)

    def _value(self, root: str, key: str) -> Any:
        """Return an item of the source `root`, or of the source that the node `root` reads."""
        number = int(key.split(".")[0])
        source = self._plan["sources"].get(root)
        sizes = self._plan["by_name"][root]["sizes"] if source is None else _sizes(source)
        first = 0
        for chunk, size in enumerate(sizes):
            if number < first + size:
                return self._chunk(root, chunk)[number - first]
            first += size
        raise _NoSourceError

    def _chunk(self, root: str, chunk: int) -> dict[int, Any]:
        if self._last is None or self._last[:2] != (root, chunk):
            path = NodeFiles(self._run, root).source_items(chunk)
            if root in self._plan["sources"]:
                path = RunFiles(self._run).stored_items(root, chunk)
            values = {
                position: load_value(frame, self._run)
                for position, frame in enumerate(itemfile.read(path))
            }
            self._last = (root, chunk, values)
        return self._last[2]


def _next(parts: Iterator[str]) -> str:
    part = next(parts, None)
    if part is None:
        raise _NoSourceError
    return part


def _sizes(source: SourceEntry) -> list[int]:
    edges = source["boundaries"]
    return [b - a for a, b in itertools.pairwise(edges)]


def chunk_frames(
    run: Path, plan: Plan, stage: str, chunk: int, attempts: list[int]
) -> Iterator[itemfile.Frame]:
    """Yield the stored values of one chunk of a stage."""
    node = writer_of(plan, stage)
    parts = node["parts"].get(stage, 0)
    files = NodeFiles(run, node["name"])
    try:
        for stem in [layout.part(stage, part) for part in range(parts)] or [stage]:
            yield from itemfile.merge(
                [files.attempt(chunk, attempt).output(stem) for attempt in attempts]
            )
    except itemfile.DamagedFile as error:
        raise RunDamaged(
            f"stage {stage!r}, chunk {chunk}: {error}; run.resume() computes it again"
        ) from error


def stage_values(
    run: Path, plan: Plan, stage: str, *, whole: bool
) -> Iterator[tuple[int, itemfile.Frame]]:
    """Yield the stored values of a stage, each with the number of its chunk.

    Parameters
    ----------
    run : pathlib.Path
        The run directory.
    plan : dict
        Its plan.
    stage : str
        A stage whose values are stored.
    whole : bool
        Raise `RunDamaged` if values are missing, unless ``on_error="skip"`` skipped their items;
        otherwise ignore missing values.
    """
    node = writer_of(plan, stage)
    skipped = Path(NodeFiles(run, node["name"]).skipped).exists()
    for state in progress.examine(str(run), node):
        if whole and not state.complete and not skipped:
            problem = "; ".join(state.damaged) or "the record of its job is missing"
            raise RunDamaged(
                f"stage {stage!r}, chunk {state.number}: {problem}; run.resume() computes it again"
            )
        attempts = [attempt.number for attempt in state.attempts]
        if attempts:
            for frame in chunk_frames(run, plan, stage, state.number, attempts):
                yield state.number, frame


def skipped_items(run: Path, node: NodeEntry) -> int:
    """Return how many failed items of a node ``on_error="skip"`` skipped."""
    if node["on_error"] != "skip":
        return 0
    try:
        content: SkippedFile = layout.read_json(NodeFiles(run, node["name"]).skipped, "items")
    except FileNotFoundError:
        return 0
    return content["items"]


def stage_entry(plan: Plan, stage: str) -> StageEntry:
    """Return the entry of a stage in the plan."""
    for entry in plan["stages"]:
        if entry["name"] == stage:
            return entry
    raise KeyError(stage)


def writer_of(plan: Plan, stage: str) -> NodeEntry:
    """Return the node that writes the values of a stage."""
    name = stage_entry(plan, stage)["where"]
    if name is None:
        raise KeyError(stage)
    return plan["by_name"][name]


def load_value(frame: itemfile.Frame, run: Path, stage: str = "") -> Any:
    """Return the value of a frame; files that travelled with it become local paths.

    Raises
    ------
    ValueUnreadable
        If the value cannot be unpickled; the error names the item and, if given, the stage.
    """
    try:
        return loads(frame.payload, frame.buffers, run)
    except HtdagError:
        raise
    except Exception as error:
        what = f"{stage!r}, item {frame.key}" if stage else f"source item {frame.key}"
        raise ValueUnreadable(
            f"{what}: its value cannot be unpickled here: {type(error).__name__}: {error}. "
            f"run.items(errors='skip') gives the others"
        ) from error
