"""The keys of a chunk's items, from the files that its job reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from htdag.runtime import task
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
    job = NodeFiles(run, node).last_listed(chunk)
    if job is None:
        return
    description = task.read_description(job)
    for key, _ in views.open_view(task.located(description, str(run)), None).items:
        yield key
