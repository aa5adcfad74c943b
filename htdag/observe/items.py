"""The states of a node's items, and what its jobs have used, without reading values."""

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
    """The state of one item of a stage.

    Attributes
    ----------
    key : str
        The key of the item; "" for the value of a reduce.
    state : str
        ``"done"``, ``"failed"``, ``"running"`` (its job is running), ``"suspended"``, ``"held"``,
        ``"idle"`` (its job is in the queue) or ``"waiting"`` (it has no job now).
    chunk : int
        The chunk that it is in.
    job : str
        HTCondor's number of its job, if that is in the queue; else "".
    since : float or None
        When its job entered this state, or when the attempt ended that decided it, in seconds since
        the epoch.
    source : str
        Where the state is from: ``"record"``, ``"event log"``, ``"schedd"`` or ``"local run"``; ""
        if nothing is known of it yet.
    """

    key: str
    state: str
    chunk: int
    job: str = ""
    since: float | None = None
    source: str = ""


@dataclass(frozen=True)
class JobUsage:
    """The resources that one job has used, as it measured itself when it ended.

    Attributes
    ----------
    node : str
        Its DAGMan node.
    chunk, attempt : int
        Its chunk, and the number of the attempt.
    key : str or None
        The key of its item, if it had only one.
    items : int
        How many items it tried.
    host : str
        The machine.
    start : float
        When it started, in seconds since the epoch.
    seconds : float
        How long it took, including the reading and writing of items.
    memory : float
        The peak of its largest process in MB, including Python.
    disk : float
        The size of its directory in KB.
    stages : dict of str to float
        The total seconds in each stage's function.
    rounds : tuple of int
        The round, if a loop repeats the node; for nested loops the rounds of all, outermost first.
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

    Chunks whose items are not known yet are skipped.

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
            continue  # its input does not exist yet


def _settled(
    run: Path, node: NodeEntry, chunk: int, attempts: list[int]
) -> tuple[set[int], set[int], float | None]:
    """Return the done items of a chunk, those that failed last, and when the last attempt ended."""
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
                pass  # it has not written anything yet, or `resume` will handle the damage
        if end is not None:
            ended = end.get("time", ended)
            errors = [line["error"] for line in recordfile.lines(job.record) if "error" in line]
            failed = {error["sequence"] for error in errors if error["sequence"] is not None}
            if node["mode"] == "reduce" and errors:
                failed = {0}
    return done, failed - done, ended


def usage(run: Path, node: NodeEntry) -> Iterator[JobUsage]:
    """Yield what the ended jobs of a node have used, in the order of chunks.

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
                continue  # it was killed, or its results are from another run
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
