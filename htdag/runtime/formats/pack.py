"""``kept/index.jsonl``: finished items that another run may take over."""

from __future__ import annotations

from typing import List, Literal, Optional, Tuple, TypedDict, Union

from .record import RecordEnd, RecordStart, RecordStreams

FilePlace = Tuple[int, int, int, int]
"""File, start, end and values, as a list in JSON."""


class AtomContent(TypedDict):
    """Items that are taken over as a whole."""

    ids: List[str]
    """Their digests."""
    keys: List[str]
    """Their keys."""
    first: int
    """The number of the first one in its chunk."""
    places: List[Optional[FilePlace]]
    """The positions of their values in the file of each output."""


class ChunkContent(TypedDict):
    """A chunk that one attempt finished."""

    digest: str
    """The digest of its items."""
    items: int
    """How many it has."""
    files: List[int]
    """Its item files."""
    end: RecordEnd
    """The end of its record."""
    start: Optional[RecordStart]
    """The start of its record."""
    streams: List[RecordStreams]
    """The output of its items."""
    logs: List[int]
    """Its output streams; none if they are missing."""
    returned: str
    """The folder of its returned files, below the run directory; "" for none."""
    tree: Optional[int]
    """A copy of that folder."""


class LeftContent(TypedDict):
    """Items that were not finished."""

    ids: List[str]
    """Their digests."""


class SequenceContent(TypedDict):
    """All that a node reads."""

    digest: str
    """Its digest."""


class AtomLine(TypedDict):
    """A line about items."""

    kind: Literal["atom"]
    content: AtomContent


class ChunkLine(TypedDict):
    """A line about a chunk."""

    kind: Literal["chunk"]
    content: ChunkContent


class LeftLine(TypedDict):
    """A line about items that were not finished."""

    kind: Literal["left"]
    content: LeftContent


class SequenceLine(TypedDict):
    """A line about all that a node reads."""

    kind: Literal["sequence"]
    content: SequenceContent


PackLine = Union[AtomLine, ChunkLine, LeftLine, SequenceLine]
"""A line of the index."""
