"""In which state each item of a node is, and what its jobs have used; no value is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from htdag.backends.base import JobState
from htdag.observe.item_keys import keys_of
from htdag.runtime import layout
from htdag.runtime.dag import inputs
from htdag.runtime.data import itemfile, recordfile
from htdag.runtime.layout import NodeFiles

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import NodeEntry


@dataclass(frozen=True)
class ItemState:
    """How one item of a stage is.

    Attributes
    ----------
    key : str
        The item; "" for what a reduce makes of all.
    state : str
        ``"done"``, ``"failed"``, ``"running"`` (its job is), ``"suspended"``, ``"held"``,
        ``"idle"`` (its job is in the queue) or ``"waiting"`` (it has no job now).
    chunk : int
        The chunk that it is in.
    job : str
        HTCondor's number of its job, where that is in the queue; else "".
    since : float or None
        When its job came into this state, or when the attempt ended that settled it, in seconds
        since the epoch.
    source : str
        Who told so: ``"record"``, ``"event log"``, ``"schedd"`` or ``"local run"``; "" where nobody
        has said anything of it yet.
    """

    key: str
    state: str
    chunk: int
    job: str = ""
    since: float | None = None
    source: str = ""


@dataclass(frozen=True)
class JobUsage:
    """What one job has used, as it measured itself when it ended.

    Attributes
    ----------
    node : str
        Its DAGMan node.
    chunk, attempt : int
        Which chunk, and which attempt at it.
    key : str or None
        The item, where the job had a single one.
    items : int
        How many items it tried.
    host : str
        The machine.
    start : float
        When it began, in seconds since the epoch.
    seconds : float
        How long it took; with the items, the files that they read and write.
    memory : float
        MB of its largest process at the peak, Python included.
    disk : float
        KB that its directory occupied.
    stages : dict of str to float
        The seconds that each stage's function took in all.
    rounds : tuple of int
        For a node that a loop repeats: the round; in a loop within loops, their rounds before it.
    """

    node: str
    chunk: int
    attempt: int
    key: str | None
    items: int
    host: str
    start: float
    seconds: float
    memory: float
    disk: float
    stages: dict[str, float]
    rounds: tuple[int, ...] = ()


def states(run: Path, node: NodeEntry, jobs: Mapping[int, JobState]) -> Iterator[ItemState]:
    """Yield the state of each item that a node takes, in order.

    Chunks whose items are not known yet are passed over.

    Parameters
    ----------
    run : pathlib.Path
        The run directory, or that of a round.
    node : dict
        The node, from the plan.
    jobs : mapping of int to JobState
        The jobs of the node that wait or run, by their chunks.
    """
    name = node["name"]
    made = NodeFiles(run, name).attempts()
    for chunk in range(inputs.chunks(str(run), node)):
        done, failed, ended = _settled(run, node, chunk, made.get(chunk, []))
        job = jobs.get(chunk)
        keys = [""] if node["mode"] == "reduce" else keys_of(run, name, chunk)
        try:
            for sequence, key in enumerate(keys):
                if sequence in done or (node["mode"] == "reduce" and done):
                    yield ItemState(key, "done", chunk, since=ended, source="record")
                elif job is not None:
                    number = f"{job.cluster}.{job.proc}"
                    yield ItemState(key, job.state, chunk, number, job.since, job.source)
                elif sequence in failed or (node["mode"] == "reduce" and failed):
                    yield ItemState(key, "failed", chunk, since=ended, source="record")
                else:
                    yield ItemState(key, "waiting", chunk)
        except (FileNotFoundError, layout.MissingFile):
            continue  # what it reads is not there yet


def _settled(
    run: Path, node: NodeEntry, chunk: int, attempts: list[int]
) -> tuple[set[int], set[int], float | None]:
    """Return the items of a chunk that are done, those that failed last, and when it ended."""
    files = NodeFiles(run, node["name"])
    done, failed, ended = set[int](), set[int](), None
    for attempt in attempts:
        job = files.attempt(chunk, attempt)
        end = recordfile.end(job.record)
        paths = job.outputs(node["files"])
        if node["mode"] == "reduce":
            done |= {0} if end is not None and end["remaining"] == 0 else set()
        else:
            try:
                for first, last in itemfile.finished(paths):
                    done.update(range(first, last + 1))
            except (FileNotFoundError, itemfile.DamagedFile):
                pass  # it has not begun to write, or `resume` will find the damage
        if end is not None:
            ended = end.get("time", ended)
            errors = [line["error"] for line in recordfile.lines(job.record) if "error" in line]
            failed = {error["sequence"] for error in errors if error["sequence"] is not None}
            if node["mode"] == "reduce" and errors:
                failed = {0}
    return done, failed - done, ended


def usage(run: Path, node: NodeEntry) -> Iterator[JobUsage]:
    """Yield what the jobs of a node have used that have ended, in the order of chunks.

    Parameters
    ----------
    run : pathlib.Path
        The run directory, or that of a round.
    node : dict
        The node, from the plan.
    """
    name = node["name"]
    files = NodeFiles(run, name)
    for chunk, attempts in sorted(files.attempts().items()):
        for attempt in attempts:
            path = files.attempt(chunk, attempt).record
            end = recordfile.end(path)
            if end is None or "peak_kb" not in end:
                continue  # it was killed, or stands for what was taken over from another run
            first = next(iter(recordfile.lines(path)), None)
            start = None if first is None else first.get("start")
            measured = end.get("measured")
            tried = end["done"] + end["failed"]
            keys = list(keys_of(run, name, chunk)) if end["items"] == 1 else []
            yield JobUsage(
                name,
                chunk,
                attempt,
                keys[0] if len(keys) == 1 and node["mode"] != "reduce" else None,
                tried if node["mode"] != "reduce" else end["items"] or 0,
                start["host"] if start else "",
                start["time"] if start else 0.0,
                end["seconds"],
                round(end["peak_kb"] / 1024, 1),
                end["disk_kb"],
                {stage: seconds for stage, _, _, seconds, *_ in measured["stages"]}
                if measured
                else {},
            )
