"""Find what an item of a node is made of, by its key, without unpickling anything."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from htdag.errors import NotDone, UsageError
from htdag.runtime import layout
from htdag.runtime.dag import inputs, progress
from htdag.runtime.data import views
from htdag.runtime.layout import NodeFiles
from htdag.runtime.task import Job, read_job

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import NodeEntry, Plan


@dataclass(frozen=True)
class Place:
    """Where the input of an item lies.

    Attributes
    ----------
    job : Job
        What a job of its chunk has to do.
    sequence : int
        Which item of the chunk it is; for a reduce 0.
    key : str
        The key of the node's item: of one that a `flat_map` in the node makes, what it is made of.
    """

    job: Job
    sequence: int
    key: str


def find(run: Path, plan: Plan, stage: str, key: str) -> Place:
    """Return where the input of an item lies.

    The files that hold items are read as far as the item, of their values none is unpickled.

    Raises
    ------
    UsageError
        If no chunk of the stage has this item.
    NotDone
        If its chunk is not laid out yet, since nodes before it have not ended.
    """
    missing = False
    for node in nodes_of(plan, stage):
        for chunk in _likely(run, node, key):
            job = job_of(run, node["name"], chunk)
            if job is None:
                missing = True
                continue
            if node["mode"] == "reduce":
                return Place(job, 0, "")
            try:
                for sequence, found in enumerate(_keys(job.at(str(run)))):
                    if key == found or key.startswith(found + "."):
                        return Place(job, sequence, found)
            except (FileNotFoundError, layout.MissingFile):
                missing = True  # what it reads is not there yet
        missing = missing or not all(
            progress.is_done(str(run), plan["by_name"][name]) for name in node["parents"]
        )
    if missing:
        raise NotDone(
            f"stage {stage!r}: item {key} is not there yet; the nodes before must be done"
        )
    raise UsageError(
        f"stage {stage!r} has no item {key!r}; run.errors() and run.items() tell which there are"
    )


def nodes_of(plan: Plan, stage: str) -> list[NodeEntry]:
    """Return the nodes that work on a stage: of one that combines, the one with its parts first."""
    found = [node for node in plan["nodes"] if stage in node["outputs"] and node["mode"] == "items"]
    found += [node for node in plan["nodes"] if stage in node["stages"] and node not in found]
    if not found:
        raise UsageError(f"stage {stage!r} is computed by no node: it is a source")
    return found


def _likely(run: Path, node: NodeEntry, key: str) -> Iterator[int]:
    """Yield the chunks of a node: where keys are numbers of a source, the right one first."""
    count = inputs.chunks(str(run), node)
    first = None
    number = key.split(".")[0]
    if node["input"]["plain"] and number.isdecimal() and len(number) < 20:
        edges = list(itertools.accumulate(node["sizes"]))
        first = next((chunk for chunk, edge in enumerate(edges) if int(number) < edge), None)
    if first is not None:
        yield first
    yield from (chunk for chunk in range(count) if chunk != first)


def job_of(run: Path, node: str, chunk: int) -> Job | None:
    """Return what the last attempt at a chunk had, or has, to do; None where it has no such yet."""
    files = NodeFiles(run, node)
    attempts = itertools.takewhile(
        lambda attempt: os.path.exists(files.attempt(chunk, attempt).description),
        itertools.count(1),
    )
    last = max(attempts, default=None)
    if last is None:
        return None
    job = files.attempt(chunk, last)
    # With relative names: it is done again in the run directory.
    return read_job(job)._replace(files=job.under(""))


def _keys(job: Job) -> Iterator[str]:
    # What a group is made of does not matter for its key.
    return (key for key, _ in views.open_view(job.description, None).items)


@contextlib.contextmanager
def in_folder(folder: str | Path) -> Iterator[None]:
    """Work in a folder for a while."""
    before = os.open(os.curdir, os.O_RDONLY | os.O_DIRECTORY)  # it may have no name any more
    try:
        os.chdir(folder)
        yield
    finally:
        os.fchdir(before)
        os.close(before)
