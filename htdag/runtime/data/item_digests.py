"""Digests of the items that a job reads, by their stored content, without unpickling them."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Sequence, Tuple

from .. import layout, task
from ..files import file_references
from . import chunkfile, views
from .frames import Frame

if TYPE_CHECKING:
    from ..formats.identity import ItemNames
    from ..formats.plan import NodeEntry
    from ..formats.task import BindParts, Description

SIZE = 16

Same = Dict[bytes, bytes]
"""Digests of pickles that differ from process to process, each with that of the item itself."""


Kinds = List[Tuple[bytes, List[Tuple[bytes, bytes]]]]

_NAMES = pickle.STACK_GLOBAL


def digest(*parts: Any) -> bytes:
    """Return a digest of some bytes."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part)
    return hasher.digest()[:SIZE]


def read_same(run: str) -> Same:
    """Return what the run directory says about pickles that differ between processes."""
    try:
        with open(os.path.join(run, layout.SAME), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return {}
    size = 2 * SIZE
    return {data[at : at + SIZE]: data[at + SIZE : at + size] for at in range(0, len(data), size)}


def read_identity(run: str) -> Tuple[Kinds, Dict[str, str]]:
    """Return what the run directory says about things that items refer to.

    These are modules, with names in them, and the states of URLs.
    """
    try:
        with open(os.path.join(run, layout.IDENTITY), encoding="utf-8") as file:
            content: ItemNames = json.load(file)
    except FileNotFoundError:
        return [], {}
    kinds = [
        (module.encode(), [(name.encode(), own.encode()) for name, own in sorted(names.items())])
        for module, names in sorted(content.get("kinds", {}).items())
    ]
    return kinds, content.get("urls", {})


class Reader:
    """Computes digests of the items of chunks.

    Parameters
    ----------
    run : str
        The run directory that the chunks' descriptions are of.
    """

    def __init__(self, run: str) -> None:
        self._run = os.path.abspath(run)
        self._same = read_same(run)
        self._kinds, self._urls = read_identity(run)
        self._bound: Dict[str, bytes] = {}

    def items(self, description: Description, node: NodeEntry) -> Iterator[Tuple[str, bytes]]:
        """Yield key and digest of each item of a chunk of a node.

        The bound values, which the functions get with every item, are part of each digest; so is
        the key, if functions may use it (`htdag.current`).
        """
        here = task.located(description, self._run)
        bound = b"".join(
            self._bound_digest(name, bind) for name, bind in sorted(here["binds"].items())
        )
        asks = node.get("asks_key", False)
        if node["mode"] == "reduce":
            stored_items: Any = (
                (frame.key, frame) for frame in chunkfile.frames(here["streams"][0]["parts"])
            )
        else:
            stored_items = views.open_view(here, None).items
        for key, stored in stored_items:
            item_digest = self._digest(stored)
            if asks:
                item_digest = digest(b"key", key.encode(), item_digest)
            yield key, digest(bound, item_digest) if bound else item_digest

    def _bound_digest(self, name: str, bind: BindParts) -> bytes:
        known = json.dumps(bind["parts"])
        if known not in self._bound:
            parts = [self._digest(frame) for frame in chunkfile.frames(bind["parts"])]
            self._bound[known] = digest(name.encode(), b"1" if bind["one"] else b"n", *parts)
        return self._bound[known]

    def _digest(self, stored: Any) -> bytes:
        if isinstance(stored, Frame):
            own_digest = digest(stored.payload, *stored.buffers)
            own_digest = self._same.get(own_digest, own_digest)
            named = self._named(stored.payload) if _NAMES in stored.payload else []
            named += self._of_urls(stored.files)
            return digest(own_digest, *named) if named else own_digest
        if isinstance(stored, (bytes, bytearray, memoryview)):
            return digest(stored)
        return digest(b"%d of" % len(stored), *map(self._digest, stored))

    def _named(self, payload: bytes) -> List[bytes]:
        """Return digests of the classes, functions and packages that a pickle may name."""
        return [
            own
            for module, names in self._kinds
            if module in payload
            for name, own in names
            if name in payload
        ]

    def _of_urls(self, files: Sequence[str]) -> List[bytes]:
        """Return the states of the URLs among the files that travel with a value."""
        if not self._urls or not files:
            return []
        urls = [file_references.parsed(file).get("url") for file in files]
        return [self._urls[url].encode() for url in urls if url in self._urls]
