"""Progress: what is done and what is left to do, from the records in a run directory alone."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Set, Tuple

from .. import lanes
from ..data import itemfile, recordfile
from ..job import output_files
from ..lanes import Unit
from ..layout import AttemptFiles, NodeFiles
from . import delivery, inputs

if TYPE_CHECKING:
    from ..formats.plan import NodeEntry
    from ..formats.record import RecordEnd


class Attempt(NamedTuple):
    """One job that has ended with a usable outcome."""

    number: int
    end: RecordEnd


class ChunkState(NamedTuple):
    """The progress of a chunk over all of its attempts."""

    number: int
    attempts: List[Attempt]  # those whose outcome is sound
    last_attempt: int  # 0: none was made
    complete: bool
    damaged: List[str]
    mismatch: bool  # the last attempt ran in an environment that does not match


Examined = Dict[Unit, List[ChunkState]]


def examine(run: str, node: NodeEntry, *, verify: bool = False, lane: int = 0) -> List[ChunkState]:
    """Return the state of every chunk of a node.

    Parameters
    ----------
    run : str
        The run directory.
    node : dict
        The node, from the plan.
    verify : bool
        Read all outcome files and check their checksums, not only their sizes.
    lane : int
        Only the chunks of this lane; 0 for all.
    """
    files = NodeFiles(run, node["name"])
    made = files.attempts()
    return [
        _chunk_state(files, node, number, made.get(number, []), verify)
        for number in lanes.chunks(node, lane, inputs.chunks(run, node))
    ]


def _chunk_state(
    files: NodeFiles, node: NodeEntry, number: int, made: List[int], verify: bool
) -> ChunkState:
    sound: List[Attempt] = []
    damaged: List[str] = []
    mismatch = False
    for attempt in made:
        job = files.attempt(number, attempt)
        end = recordfile.end(job.record)
        mismatch = end is not None and "mismatch" in end
        if end is None or 0 in end["sizes"]:
            continue  # it could not even begin to write
        problem = _problem(job, node, end, verify)
        if problem:
            damaged.append(problem)
        else:
            sound.append(Attempt(attempt, end))
    if any(attempt.end["whole"] and attempt.end["remaining"] == 0 for attempt in sound):
        complete = True
    else:
        complete = len(sound) > 1 and ranges_left(files, node, number, sound) == []
    return ChunkState(number, sound, made[-1] if made else 0, complete, damaged, mismatch)


def _problem(files: AttemptFiles, node: NodeEntry, end: RecordEnd, verify: bool) -> str:
    for path, size in zip(files.outputs(node["files"]), end["sizes"]):
        try:
            actual = os.path.getsize(path)
        except FileNotFoundError:
            return "%s is missing" % path
        if actual != size:
            return "%s has %d bytes, not the %d that were written" % (path, actual, size)
        if verify:
            try:
                for _ in itemfile.read(path):
                    pass
            except itemfile.DamagedFile as error:
                return str(error)
    if not any(end.get("carrying", ())):
        return ""
    if not verify:
        return output_files.missing(files.returned, end["returned"]) if end["returned"] else ""
    return output_files.problem(files, files.outputs(node["files"]))


def ranges_left(
    files: NodeFiles, node: NodeEntry, chunk: int, sound: List[Attempt]
) -> Optional[List[Tuple[int, int]]]:
    """Return the ranges of items that no sound attempt finished; None for all of them."""
    if not sound:
        return None
    if node["mode"] == "reduce":
        return [] if sound[-1].end["remaining"] == 0 else None
    totals = [a.end["items"] for a in sound if a.end["items"] is not None]
    if not totals:
        return None  # none of them could count the items
    done: Set[int] = set()
    for attempt in sound:
        outputs = files.attempt(chunk, attempt.number).outputs(node["outputs"])
        for first, last in itemfile.finished(outputs):
            done.update(range(first, last + 1))
    return itemfile.to_ranges(set(range(totals[-1])) - done)


def finish_killed(run: str, node: NodeEntry, lane: int = 0) -> None:
    """Make the files usable that killed jobs left behind.

    No job of the node, or of the `lane` if there is one, may be running.
    """
    files = NodeFiles(run, node["name"])
    chosen = lanes.chunks(node, lane, 0)
    jobs = (
        files.attempt(chunk, number)
        for chunk, made in files.attempts().items()
        if not lane or chunk in chosen
        for number in made
    )
    killed = [job for job in jobs if recordfile.end(job.record) is None]
    if not killed:
        return
    from ..job import worker  # with all that jobs need

    for job in killed:
        worker.finish_killed(job)


def outcomes_of(states: List[ChunkState]) -> List[inputs.Outcome]:
    return [
        inputs.Outcome([a.number for a in state.attempts], [a.end for a in state.attempts])
        for state in states
    ]


def is_done(run: str, node: NodeEntry, lane: int = 0) -> bool:
    """Return whether a node needs no more work: complete, or its failed items were skipped."""
    if node["mode"] == "loop" and not os.path.exists(NodeFiles(run, node["name"]).loop_end):
        return False
    done = was_skipped(run, node) or all_complete(examine(run, node, lane=lane))
    return done and not _is_undelivered(run, node, lane)


def _is_undelivered(run: str, node: NodeEntry, lane: int) -> bool:
    """Return whether a unit still has to deliver files, as the last one if all is done.

    The last of the units to be judged does that; if it could not, the last by number does.
    """
    if not delivery.is_left(run, node) or lane != lanes.units(node)[-1].lane:
        return False
    return was_skipped(run, node) or all_complete(examine(run, node))


def all_complete(states: List[ChunkState]) -> bool:
    """Return whether nothing is left to do in these chunks."""
    return all(state.complete for state in states)


def was_skipped(run: str, node: NodeEntry) -> bool:
    """Return whether the remaining items of a node were skipped."""
    return os.path.exists(NodeFiles(run, node["name"]).skipped)


def discard_damaged(run: str, node: NodeEntry) -> List[str]:
    """Rename the records of a node's damaged outcomes, so that their items do not count as done.

    Returns what was wrong with each.
    """
    problems = []
    files = NodeFiles(run, node["name"])
    for chunk, made in files.attempts().items():
        for number in made:
            job = files.attempt(chunk, number)
            end = recordfile.end(job.record)
            problem = (
                "it has no record of its end" if end is None else _problem(job, node, end, True)
            )
            if problem:
                os.replace(job.record, job.record + ".damaged")
                # Another attempt of this number may bring files of the same names.
                shutil.rmtree(job.returned, ignore_errors=True)
                problems.append(problem)
    return problems
