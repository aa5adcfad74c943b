"""The keys of a chunk's items, from the files that its job reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from htdag.runtime import layout, task
from htdag.runtime.data import views
from htdag.runtime.layout import NodeFiles


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
    files = NodeFiles(run, node)
    name = layout.chunk_name(chunk)
    numbers = [
        int(path.name.split(".")[1])
        for path in Path(files.inputs).glob(f"{name}.*.json")
        if path.name.split(".")[1].isdigit()
    ]
    if not numbers:
        return
    description = task.read_description(files.attempt(chunk, max(numbers)))
    for key, _ in views.open_view(task.located(description, str(run)), None).items:
        yield key
