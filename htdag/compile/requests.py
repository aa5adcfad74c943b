"""The requests of chunks, if requests are functions of the item: the maximum over the items."""

from __future__ import annotations

import io
import itertools
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from htdag.options.resources import PerItem
from htdag.plan import Node
from htdag.runtime.files import file_references
from htdag.stages.operations import View
from htdag.stages.sources import LateSource, SourceItems


def per_item(node: Node) -> dict[str, PerItem]:
    """Return the options of a node that are functions of the item, by name."""
    options = node.options.given()
    return {name: value for name, value in options.items() if isinstance(value, PerItem)}


def of_chunks(node: Node) -> dict[str, list[int]]:
    """Return the requests of the chunks of a node, by option; {} if none depends on items.

    Raises
    ------
    OptionError
        If a function raises an exception, or returns a value that its option does not take.
    """
    options = per_item(node)
    if not options:
        return {}
    stage = node.stages[0]
    items = _items(node)
    amounts: dict[str, list[int]] = {name: [] for name in options}
    number = 0
    for first, last in itertools.pairwise(node.boundaries):
        most = dict.fromkeys(options, 0)
        for item in itertools.islice(items, last - first):
            for name, option in options.items():
                most[name] = max(most[name], option.of(item, str(number), stage))
            number += 1
        for name, amount in most.items():
            amounts[name].append(amount)
    return amounts


def _items(node: Node) -> Iterator[Any]:
    """Yield the items that a node reads from sources, in order, as its jobs do."""
    reads = node.input
    sources = [stream.source for stream in reads.streams if stream.source is not None]
    first = _values(sources[0])
    # One by one, since a source cannot be read twice at the same time.
    values = [list(_values(source)) for source in sources] if len(sources) > 1 else [first]
    return reads.operation.read(*values) if isinstance(reads.operation, View) else first


def _values(source: SourceItems) -> Iterator[Any]:
    assert not isinstance(source, LateSource), "in a loop such requests are refused"
    # Each item is a fresh copy, as in the jobs, so that functions cannot change the originals.
    for pickled in source.pickles():
        buffers = [bytearray(buffer) for buffer in pickled.buffers]
        yield _Unpickler(io.BytesIO(pickled.payload), buffers=buffers).load()


class _Unpickler(pickle.Unpickler):
    """An unpickler that returns the user's own paths, or URLs, in place of files in a job."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in file_references.ARRIVED:
            return _file
        return super().find_class(module, name)


def _file(reference: str) -> Path | str:
    file = file_references.parsed(reference)
    return Path(file["path"]) if "path" in file else str(file["url"])
