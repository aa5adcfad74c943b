"""How far a run has come, by stage and by the state of items."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from htdag.backends.base import Activity, RunState
from htdag.observe.ends import End, Ends
from htdag.runtime import layout, streams


@dataclass(frozen=True)
class StageStatus:
    """Counts of one stage.

    Attributes
    ----------
    name : str
        The stage.
    node : str
        The DAGMan node that computes it. Stages fused into one node share their counts.
    total : int or None
        How many items it takes; None while that depends on stages before it.
    done, failed, running : int
        Items that are finished, that failed in their last attempt, and that are in jobs which run
        now and have not ended (they may be finished already).
    jobs, jobs_done, jobs_running : int
        The node's jobs, how many of them are complete, and how many run now.
    """

    name: str
    node: str
    total: int | None
    done: int
    failed: int
    running: int
    jobs: int
    jobs_done: int
    jobs_running: int = 0

    @property
    def waiting(self) -> int | None:
        """Items that no job has begun; None while the total is not known."""
        if self.total is None:
            return None
        return max(0, self.total - self.done - self.failed - self.running)


@dataclass(frozen=True)
class Status:
    """How far a run has come.

    Attributes
    ----------
    tag : str
        The run.
    state : RunState
        The run as a whole.
    reason : str
        Why it is in that state, where that is known.
    backend : str
        Where it runs.
    stages : tuple of StageStatus
        In the order of the pipeline.
    held : tuple of str
        Held jobs with HTCondor's reasons.
    time : float
        When this was read, in seconds since the epoch.
    """

    tag: str
    state: RunState
    reason: str
    backend: str
    stages: tuple[StageStatus, ...]
    held: tuple[str, ...]
    time: float

    def __getitem__(self, stage: str) -> StageStatus:
        for entry in self.stages:
            if entry.name == stage:
                return entry
        raise KeyError(stage)

    def __str__(self) -> str:
        lines = [f"{self.tag}: {self.state.value}" + (f" ({self.reason})" if self.reason else "")]
        for stage in self.stages:
            total = "?" if stage.total is None else stage.total
            lines.append(
                f"  {stage.name}: {stage.done}/{total} done, {stage.running} running, "
                f"{stage.failed} failed"
            )
        return "\n".join([*lines, *self.held])


@dataclass(frozen=True)
class NodeCounts:
    """What the records of a node's jobs add up to."""

    total: int | None
    done: int
    failed: int
    running: int
    jobs: int
    jobs_done: int
    settled: bool
    jobs_running: int = 0


class _Fold:
    """The ends of a node's records, added up; a look costs what has changed since the last one."""

    def __init__(self, ends: Ends, totals: dict[int, int]) -> None:
        self._ends = ends
        self.totals = totals
        self.items = sum(totals.values())
        self.done: dict[int, int] = {}
        self.finished = 0
        self.failed: dict[int, int] = {}  # of chunks that are not complete
        self.complete: set[int] = set()

    def read(self) -> set[int]:
        """Read what is new, and return the chunks of jobs that have begun and not ended."""
        for chunk in self._ends.read():
            self._add(chunk, self._ends.ended.get(chunk, {}))
        started = {chunk for chunk, _ in self._ends.started}
        for chunk in started:
            self.failed.pop(chunk, None)
        return started

    def _add(self, chunk: int, attempts: dict[int, End]) -> None:
        """Count a chunk anew."""
        done = sum(end.done for end in attempts.values())
        self.finished += done - self.done.get(chunk, 0)
        self.done[chunk] = done
        for end in attempts.values():
            if end.items is not None:
                self.items += end.items - self.totals.get(chunk, 0)
                self.totals[chunk] = end.items
        self.complete.discard(chunk)
        self.failed.pop(chunk, None)
        if any(end.remaining == 0 for end in attempts.values()):
            self.complete.add(chunk)
        elif attempts:
            self.failed[chunk] = attempts[max(attempts)].failed


class Reader:
    """Counts a run's records again and again; nodes that are complete are read once."""

    def __init__(self, run: Path, plan: dict[str, Any]) -> None:
        self._run = run
        self._plan = plan
        self._settled: dict[str, NodeCounts] = {}
        self._folds: dict[str, _Fold] = {}

    def read(self, tag: str, backend: str, activity: Activity) -> Status:
        """Return the status now."""
        counts = self.counts(activity)
        stages = []
        for entry in self._plan["stages"]:
            if entry["node"] is None:
                continue
            node = self._plan["by_name"][entry["node"]]
            found = counts[node["name"]]
            stages.append(
                StageStatus(
                    entry["name"],
                    node["name"],
                    found.total,
                    found.done,
                    found.failed,
                    found.running,
                    found.jobs,
                    found.jobs_done,
                    found.jobs_running,
                )
            )
        return Status(
            tag,
            activity.state,
            activity.reason,
            backend,
            tuple(stages),
            activity.held,
            time.time(),
        )

    def counts(self, activity: Activity) -> dict[str, NodeCounts]:
        """Return the counts of each node now."""
        return {node["name"]: self._counts(node, activity) for node in self._plan["nodes"]}

    def _counts(self, node: dict[str, Any], activity: Activity) -> NodeCounts:
        name = node["name"]
        if name in self._settled:
            return self._settled[name]
        if name not in self._folds:
            folder = str(self._run / layout.outcomes(name))
            self._folds[name] = _Fold(Ends(folder), dict(enumerate(node["sizes"])))
        fold = self._folds[name]
        started = fold.read()
        if activity.state.ended:
            started.clear()
        active = started | activity.running.get(name, set())
        jobs = streams.chunks(str(self._run), node)
        total = fold.items if len(fold.totals) == jobs else node["items"]
        under_way = active - fold.complete
        running = sum(
            max(0, fold.totals.get(chunk, 0) - fold.done.get(chunk, 0)) for chunk in under_way
        )
        counts = NodeCounts(
            total,
            fold.finished,
            sum(count for chunk, count in fold.failed.items() if chunk not in active),
            running,
            jobs,
            len(fold.complete),
            len(fold.complete) == jobs,
            len(under_way),
        )
        if counts.settled:
            self._settled[name] = counts
        return counts
