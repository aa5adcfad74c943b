"""Results that a node has finished, kept for a run that computes the same from the same items.

A folder with links to item files, and an index. An *atom* is what can be taken over as a whole: an
item, or the items whose values were combined; its key in the index is the content of its items. So
a run may have other items, in another order and in other chunks.
"""

from __future__ import annotations

import json
import os
import shutil
from typing import (
    TYPE_CHECKING,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from .. import layout
from ..data import item_digests

if TYPE_CHECKING:
    from ..formats.pack import ChunkContent, PackLine
    from ..formats.record import RecordEnd, RecordStart, RecordStreams

Place = Tuple[int, int, int, int]  # file, start, end, values


class Atom(NamedTuple):
    """Finished items, with the position of their values in the file of each output.

    ``first`` is the number of the first item in the chunk that it was finished in.
    """

    ids: List[bytes]
    keys: List[str]
    first: int
    places: List[Optional[Place]]


class Chunk(NamedTuple):
    """A chunk that one attempt finished completely: its files can be taken as they are.

    The files that its functions returned are in ``returned``, below the run directory, as its
    values say; "" if there are none. ``tree`` is the folder here with links to them.
    """

    digest: bytes
    items: int
    files: List[int]
    end: RecordEnd
    start: Optional[RecordStart]
    streams: List[RecordStreams]
    logs: List[int]
    returned: str
    tree: Optional[int]


def link_tree(path: str, new: str) -> None:
    """Give all files of a folder another name."""
    shutil.copytree(path, new, copy_function=layout.link_or_copy)


def file(folder: str, number: int) -> str:
    """Return the path of a file of a folder."""
    return os.path.join(folder, str(number))


def whole_digest(ids: Sequence[bytes], keys: Sequence[str]) -> bytes:
    """Return the digest of a chunk: of its items and their keys, in their order."""
    return item_digests.digest(*ids, "\n".join(keys).encode())


def sequence_digest(node: str, chunks: Iterable[Tuple[Sequence[bytes], Sequence[str]]]) -> bytes:
    """Return the digest of all that a node reads: its items and their keys, in their order."""
    every = [(item_id, key) for ids, keys in chunks for item_id, key in zip(ids, keys)]
    whole = whole_digest([item_id for item_id, _ in every], [key for _, key in every])
    return item_digests.digest(node.encode(), whole)


def lines(folder: str) -> Iterator[PackLine]:
    """Yield the lines of the index of a folder; none if it does not exist."""
    path = os.path.join(folder, layout.PACK_INDEX)
    try:
        with open(path, encoding="utf-8", opener=layout.unblocked) as index:
            for line in index:
                yield json.loads(line)
    except FileNotFoundError:
        return
    except ValueError as error:
        raise layout.DamagedFile(path, "it is not JSON (%s)" % error) from error


class Pack(NamedTuple):
    """The content of a folder of finished items."""

    folder: str
    atoms: List[Atom]
    chunks: Dict[bytes, Chunk]
    left: List[bytes]
    sequences: Set[bytes]

    def path(self, number: int) -> str:
        """Return the path of a file of the folder."""
        return file(self.folder, number)


def _chunk(content: ChunkContent) -> Chunk:
    return Chunk(
        bytes.fromhex(content["digest"]),
        content["items"],
        content["files"],
        content["end"],
        content["start"] or None,
        content["streams"],
        content["logs"],
        content["returned"],
        content["tree"],
    )


def read(folder: str) -> Pack:
    """Return the content of a folder; nothing if it does not exist."""
    atoms = []
    chunks = {}
    left = []
    sequences = set()
    for line in lines(folder):
        if line["kind"] == "atom":
            atom = line["content"]
            ids = [bytes.fromhex(item_id) for item_id in atom["ids"]]
            atoms.append(Atom(ids, atom["keys"], atom["first"], atom["places"]))
        elif line["kind"] == "chunk":
            chunk = _chunk(line["content"])
            chunks[chunk.digest] = chunk
        elif line["kind"] == "sequence":
            sequences.add(bytes.fromhex(line["content"]["digest"]))
        else:
            left += [bytes.fromhex(item_id) for item_id in line["content"]["ids"]]
    return Pack(folder, atoms, chunks, left, sequences)
