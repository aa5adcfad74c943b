"""Find the input of an item by its key, without unpickling anything."""

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
    """The place of an item's input.

    Attributes
    ----------
    job : Job
        The task of a job for its chunk.
    sequence : int
        The number of the item in the chunk; 0 for a reduce.
    key : str
        The key of the node's item; for an item from a `flat_map` in the node, that of its input.
    """

    job: Job
    sequence: int
    key: str


def find(run: Path, plan: Plan, stage: str, key: str) -> Place:
    """Return where the input of an item lies.

    Item files are read up to the item, without unpickling values.

    Raises
    ------
    UsageError
        If no chunk of the stage has this item.
    NotDone
        If its chunk does not exist yet because earlier nodes have not ended.
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
                for sequence, item in enumerate(_keys(job.at(str(run)))):
                    if key == item or key.startswith(item + "."):
                        return Place(job, sequence, item)
            except (FileNotFoundError, layout.MissingFile):
                missing = True  # its input does not exist yet
        missing = missing or not all(
            progress.is_done(str(run), plan["by_name"][name]) for name in node["parents"]
        )
    if missing:
        raise NotDone(
            f"stage {stage!r}: item {key} does not exist yet; earlier nodes must be done first"
        )
    raise UsageError(
        f"stage {stage!r} has no item {key!r}; run.errors() and run.items() list the keys"
    )


def nodes_of(plan: Plan, stage: str) -> list[NodeEntry]:
    """Return the nodes that compute a stage; for a reduce, the node that makes parts is first."""
    nodes = [node for node in plan["nodes"] if stage in node["outputs"] and node["mode"] == "items"]
    nodes += [node for node in plan["nodes"] if stage in node["stages"] and node not in nodes]
    if not nodes:
        raise UsageError(f"stage {stage!r} is not computed by any node: it is a source")
    return nodes


def _likely(run: Path, node: NodeEntry, key: str) -> Iterator[int]:
    """Yield the chunks of a node; if keys are numbers of source items, the right chunk is first."""
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
    """Return the task of the last attempt at a chunk; None if there is none yet."""
    job = NodeFiles(run, node).last_listed(chunk)
    if job is None:
        return None
    # With relative names: it is done again in the run directory.
    return read_job(job)._replace(files=job.under(""))


def _keys(job: Job) -> Iterator[str]:
    # The key of a group does not depend on its function.
    return (key for key, _ in views.open_view(job.description, None).items)


@contextlib.contextmanager
def in_folder(folder: str | Path) -> Iterator[None]:
    """Change the working directory within the context."""
    before = os.open(os.curdir, os.O_RDONLY | os.O_DIRECTORY)  # it may no longer have a name
    try:
        os.chdir(folder)
        yield
    finally:
        os.fchdir(before)
        os.close(before)
