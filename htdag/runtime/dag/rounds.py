"""The run directories of a loop's rounds, made from the loop's template and their inputs.

A round is a whole run directory. Programs and functions are hard links to those of the template;
its inputs are links to the outcomes that hold them: nothing is copied. It is made under another
name, then renamed, and ``current`` points to it.
"""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Callable, List, NamedTuple, Optional, Tuple

from .. import layout, planfile
from ..data import recordfile
from ..layout import NodeFiles, RunFiles
from .inputs import Block

if TYPE_CHECKING:
    from ..formats.plan import ChunkingFile, NodeEntry, PlanContent
    from ..formats.record import RecordEnd

LayOut = Callable[[str], None]


class Given(NamedTuple):
    """The blocks of a stream that a round reads as one source, with paths below a folder."""

    folder: str
    blocks: List[Block]


def make(run: str, node: NodeEntry, number: int, given: List[Given], lay_out: LayOut) -> None:
    """Make the run directory of a round.

    Parameters
    ----------
    run : str
        The run directory around it.
    node : dict
        The loop, from the plan.
    number : int
        The round, from 1.
    given : list of Given
        The state that it begins with, and the outside stages that it uses, in the loop's order.
    lay_out : callable
        Writes the lists of the nodes of a run directory that can run.
    """
    files = NodeFiles(run, node["name"])
    aside = files.new_round(number)
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(files.step, aside, symlinks=True, copy_function=layout.link_or_copy)
    final = files.round(number)
    _link_sources(aside, final, node, given)
    lay_out(aside)
    os.rename(aside, final)
    set_current(run, node["name"], number)


def refresh(run: str, node: NodeEntry, number: int, given: List[Given], lay_out: LayOut) -> None:
    """Update a round to outcomes that were computed again, and list what is left of it."""
    final = NodeFiles(run, node["name"]).round(number)
    shutil.rmtree(os.path.join(final, layout.SOURCES), ignore_errors=True)
    _link_sources(final, final, node, given)
    lay_out(final)
    set_current(run, node["name"], number)


def set_current(run: str, name: str, number: int) -> None:
    """Make ``current`` point to a round."""
    files = NodeFiles(run, name)
    link = files.current
    target = os.path.relpath(files.round(number), files.folder)
    aside = link + ".new"
    if os.path.lexists(aside):
        os.remove(aside)
    os.symlink(target, aside)
    os.replace(aside, link)


def _link_sources(place: str, final: str, node: NodeEntry, given: List[Given]) -> None:
    """Link to what a round reads, and write its number of items into the plan.

    ``place`` is where the directory is now, ``final`` where it will be; both are as deep.
    """
    plan: PlanContent = layout.read_json(os.path.join(place, layout.PLAN))
    for position, (stage, (folder, blocks)) in enumerate(
        zip(planfile.loop(node)["sources"], given)
    ):
        layout.make_folder(RunFiles(place).source(stage))
        files, edges = [], [0]
        for number, block in enumerate(blocks):
            files.append(
                [
                    _link(
                        os.path.join(folder, path),
                        place,
                        final,
                        RunFiles().late_items(stage, number, n),
                    )
                    for n, path in enumerate(block.files)
                ]
            )
            edges.append(edges[-1] + block.values)
        # The items of the state are known by their numbers: what they were made of by several
        # rounds would make longer and longer keys.
        numbers: List[Optional[int]] = (
            [*edges[:-1]] if position == 0 else [block.number for block in blocks]
        )
        plan["sources"][stage] = {
            "boundaries": edges,
            "carries": False,
            "cells": files,
            "numbers": numbers,
        }
    layout.write_aside(
        os.path.join(place, layout.PLAN), json.dumps(plan, ensure_ascii=False).encode()
    )


def _link(path: str, place: str, final: str, name: str) -> str:
    folder = os.path.dirname(os.path.join(final, name))
    os.symlink(os.path.relpath(path, folder), os.path.join(place, name))
    return name


def publish_outcome(
    run: str, node: NodeEntry, number: int, chunks: List[Tuple[List[str], int]]
) -> None:
    """Make the state after a round the outcome of the loop.

    Parameters
    ----------
    run, node, number
        The run directory, the loop, and its last round.
    chunks : list
        For each chunk the files that hold it, one an attempt, below the round; and how many values
        they hold together.
    """
    files = NodeFiles(run, node["name"])
    retract_outcome(run, node)
    # First, so that nobody takes the first of several chunks for all of them.
    content: ChunkingFile = {"chunks": len(chunks), "boundaries": list(range(len(chunks) + 1))}
    layout.write_aside(files.chunking, json.dumps(content).encode())
    final = files.round(number)
    for chunk, (paths, values) in enumerate(chunks):
        for attempt, path in enumerate(paths, 1):
            job = files.attempt(chunk, attempt)
            target = os.path.relpath(os.path.join(final, path), files.outcomes)
            os.symlink(target, job.output(node["outputs"][0]))
            recordfile.start(job, "", "")
            last = attempt == len(paths)
            end: RecordEnd = {
                "items": None,
                "done": 0,
                "failed": 0,
                "remaining": 0,
                "whole": last,
                "values": [values if last else 0],
                "sizes": [os.path.getsize(os.path.join(final, path))],
            }
            recordfile.append(job.record, "end", end, sync=True)


def drop(run: str, node: NodeEntry, number: int) -> None:
    """Move a round away whose first state has to be computed again."""
    path = NodeFiles(run, node["name"]).round(number)
    aside = path + ".dropped"
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(path, aside)


def retract_outcome(run: str, node: NodeEntry) -> None:
    """Remove the outcome of a loop, which continues."""
    files = NodeFiles(run, node["name"])
    outcomes = [os.path.join(files.outcomes, entry) for entry in os.listdir(files.outcomes)]
    for path in (files.loop_end, *outcomes, files.chunking):
        if os.path.lexists(path):
            os.remove(path)
