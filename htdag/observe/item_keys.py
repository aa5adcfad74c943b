"""The keys of a chunk's items, from the files that its job reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from htdag.runtime import layout
from htdag.runtime.data import views


def keys_of(run: Path, node: str, chunk: int) -> Iterator[str]:
    """Yield the keys of a chunk's items in order; none if its job has no description yet.

    Parameters
    ----------
    run : pathlib.Path
        The run directory.
    node : str
        The node.
    chunk : int
        The chunk's number.
    """
    name = layout.chunk_name(chunk)
    folder = run / layout.inputs(node)
    numbers = [
        int(path.name.split(".")[1])
        for path in folder.glob(f"{name}.*.json")
        if path.name.split(".")[1].isdigit()
    ]
    if not numbers:
        return
    path = run / layout.chunk(node, name, max(numbers))
    description: dict[str, Any] = layout.read_json(str(path), "streams", "view")
    for stream in description["streams"]:
        for part in stream["parts"]:
            part["files"] = [str(run / file) for file in part["files"]]
    for key, _ in views.open_view(description, None).items:
        yield key
