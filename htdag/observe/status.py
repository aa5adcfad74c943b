"""The progress of a run: counts of items and jobs for each stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from htdag.backends.base import Activity, RunState
from htdag.common.text import counted, visible
from htdag.observe import final, holds, outcomes
from htdag.observe.record_ends import End, Ends
from htdag.runtime import layout, planfile
from htdag.runtime.dag import inputs, submitfile
from htdag.runtime.layout import NodeFiles

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import LoopEnd, NodeEntry, Plan


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
        How many items it has; None while that depends on earlier stages.
    done, failed, running : int
        How many items are finished, failed in their last attempt, or are in running jobs (where
        they may be finished already).
    held : int
        How many items are in jobs that are on hold.
    jobs, jobs_done, jobs_running, jobs_held : int
        The number of the node's jobs, and how many of them are complete, running, and on hold.
    loop : str
        The loop that repeats the stage, if there is one; the counts are those of the current round.
    rounds : tuple of int
        The round of that loop; for nested loops the rounds of all, outermost first.
    note : str
        For a loop, whose counts are rounds instead of items: its progress in words.
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
    loop: str = ""
    rounds: tuple[int, ...] = ()
    note: str = ""
    held: int = 0
    jobs_held: int = 0

    @property
    def waiting(self) -> int | None:
        """The number of items without a job, or with an idle one; None while that is unknown."""
        if self.total is None:
            return None
        return max(0, self.total - self.done - self.failed - self.running - self.held)


@dataclass(frozen=True)
class Status:
    """The progress of a run.

    Attributes
    ----------
    tag : str
        The tag of the run.
    state : RunState
        The state of the run as a whole.
    reason : str
        Why it is in that state, if known.
    backend : str
        Where it runs.
    stages : tuple of StageStatus
        The stages, in the order of the pipeline.
    held : tuple of str
        Why jobs are on hold, and what to do: a line for each node and cause.
    time : float
        When this was read, in seconds since the epoch.
    notes : tuple of str
        Further notes, for example that the run is halted, that jobs are paused, or that items were
        skipped.
    """

    tag: str
    state: RunState
    reason: str
    backend: str
    stages: tuple[StageStatus, ...]
    held: tuple[str, ...]
    time: float
    notes: tuple[str, ...] = ()

    def __getitem__(self, stage: str) -> StageStatus:
        for entry in self.stages:
            if entry.name == stage:
                return entry
        raise KeyError(stage)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print it as text in IPython and notebooks."""
        printer.text(str(self))

    def __str__(self) -> str:
        lines = [f"{self.tag}: {self.state.value}" + (f" ({self.reason})" if self.reason else "")]
        for stage in self.stages:
            total = "?" if stage.total is None else stage.total
            counts = f"{stage.done}/{total} done, {stage.running} running, {stage.failed} failed"
            lines.append(f"{'  ' * len(stage.rounds)}  {stage.name}: {stage.note or counts}")
        return visible("\n".join([*lines, *self.held, *self.notes]))


def loop_end(run: Path, node: NodeEntry) -> LoopEnd | None:
    """Return the number of rounds of a loop and its predicate's last value; None while it runs."""
    try:
        path = NodeFiles(run, node["name"]).loop_end
        content: LoopEnd = layout.read_json(path, "until")
    except FileNotFoundError:
        return None
    return content


def _loop_note(number: int, most: int, end: LoopEnd | None) -> str:
    if end is None:
        return f"round {number} of at most {most}" if number else f"at most {most} rounds"
    why = {True: ", until holds", False: ", the most; until does not hold", None: ""}
    return counted(number, "round") + why[end["until"]]


@dataclass(frozen=True)
class NodeCounts:
    """The totals over the records of a node's jobs."""

    total: int | None
    done: int
    failed: int
    running: int
    jobs: int
    jobs_done: int
    settled: bool
    jobs_running: int = 0
    held: int = 0
    jobs_held: int = 0


def _exceeded(node: NodeEntry, counts: NodeCounts) -> str:
    """Return a message if more items of a node failed than may be skipped; else ""."""
    limit = node["max_errors"]
    if node["on_error"] != "skip" or limit is None:
        return ""
    allowed = limit * (counts.total or 0) if isinstance(limit, float) else limit
    if counts.failed <= allowed:
        return ""
    return (
        f"{counts.failed} of {counts.total} items of {node['name']} failed, but only {allowed:g} "
        f"may (max_errors={limit})"
    )


_LATER_JOBS = {
    "hold": "later jobs will be on hold until htdag release %s",
    "pause": "later jobs will not start until htdag continue %s",
}


class _Fold:
    """The running totals of a node's records; an update costs only as much as has changed."""

    def __init__(self, ends: Ends, totals: dict[int, int]) -> None:
        self._ends = ends
        self.totals = totals
        self.items = sum(totals.values())
        self.done: dict[int, int] = {}
        self.finished = 0
        self.failed: dict[int, int] = {}  # for chunks that are not complete
        self.complete: set[int] = set()

    def read(self) -> set[int]:
        """Read new records, and return the chunks of jobs that have started but not ended."""
        for chunk in self._ends.read():
            self._add(chunk, self._ends.ended.get(chunk, {}))
        started = {chunk for chunk, _ in self._ends.started}
        for chunk in started:
            self.failed.pop(chunk, None)
        return started

    def _add(self, chunk: int, attempts: dict[int, End]) -> None:
        """Update the totals for a chunk."""
        done = 0
        complete = False
        for end in attempts.values():
            done += end.done
            complete = complete or end.remaining == 0
            if end.items is not None:
                self.items += end.items - self.totals.get(chunk, 0)
                self.totals[chunk] = end.items
        # Each attempt of a reduce processes all of its items.
        done = min(done, self.totals.get(chunk, done))
        self.finished += done - self.done.get(chunk, 0)
        self.done[chunk] = done
        if complete:
            self.complete.add(chunk)
            self.failed.pop(chunk, None)
            return
        self.complete.discard(chunk)
        self.failed.pop(chunk, None)
        if attempts:
            self.failed[chunk] = attempts[max(attempts)].failed


class Reader:
    """Reads the status of a run repeatedly; complete nodes are read only once."""

    def __init__(self, run: Path, plan: Plan, loop: str = "", rounds: tuple[int, ...] = ()) -> None:
        self._run = run
        self._plan = plan
        self._loop = loop
        self._rounds = rounds
        self._within: dict[str, Reader] = {}
        self._settled: dict[str, NodeCounts] = {}
        self._folds: dict[str, _Fold] = {}

    def read(self, tag: str, backend: str, activity: Activity) -> Status:
        """Return the current status."""
        return Status(
            tag,
            activity.state,
            self._reason(activity),
            backend,
            tuple(self._stages(activity)),
            holds.lines(activity.held, tag),
            time.time(),
            tuple(self._notes(tag, backend, activity)),
        )

    def _reason(self, activity: Activity) -> str:
        """Return why a run is in its state, including too many failed items."""
        if activity.state is not RunState.FAILED:
            return activity.reason
        nodes = self._plan["nodes"]
        exceeded = [_exceeded(node, self._counts(node, activity)) for node in nodes]
        return "; ".join(filter(None, [activity.reason, *exceeded]))

    def _notes(self, tag: str, backend: str, activity: Activity) -> Iterator[str]:
        if activity.halted and not activity.state.ended:
            yield f"halted: no further nodes start until htdag unhalt {quote(tag)}"
        if activity.suspended:
            jobs = "1 job is" if activity.suspended == 1 else f"{activity.suspended} jobs are"
            yield f"{jobs} paused until htdag continue {quote(tag)}"
        if activity.state.ended:
            yield from (str(call) for call in final.calls(self._run, self._plan)[-1:] if call.error)
        else:
            held = {
                submitfile.held_by(str(self._run), node["name"]) for node in self._plan["nodes"]
            }
            for action in sorted(held - {""}):
                yield _LATER_JOBS[action] % quote(tag)
        for node in self._plan["nodes"]:
            omitted = submitfile.limits_left_out(str(self._run), node["name"])
            if omitted and backend == "condor":
                yield (
                    f"node {node['name']}: its jobs read so many files that it was submitted "
                    f"without {' and '.join(omitted)}; a smaller chunk_size (or fan_in) avoids this"
                )
            number = outcomes.skipped_items(self._run, node)
            if number:
                yield (
                    f"node {node['name']}: {number} failed item{'s' * (number != 1)} skipped "
                    f"(on_error='skip'); run.missing() lists what results lack"
                )

    def counts(self, activity: Activity) -> dict[str, NodeCounts]:
        """Return the current counts of each node."""
        return {node["name"]: self._counts(node, activity) for node in self._plan["nodes"]}

    def _stages(self, activity: Activity) -> Iterator[StageStatus]:
        counts = self.counts(activity)
        for entry in self._plan["stages"]:
            if entry["node"] is None:
                continue
            node = self._plan["by_name"][entry["node"]]
            name = node["name"]
            if node["mode"] == "loop":
                yield from self._loop_stages(node, counts[name], activity)
                continue
            yield self._stage_status(entry["name"], name, counts[name])

    def _stage_status(
        self, stage: str, node: str, counts: NodeCounts, note: str = ""
    ) -> StageStatus:
        return StageStatus(
            stage,
            node,
            counts.total,
            counts.done,
            counts.failed,
            counts.running,
            counts.jobs,
            counts.jobs_done,
            counts.jobs_running,
            self._loop,
            self._rounds,
            note,
            counts.held,
            counts.jobs_held,
        )

    def _loop_stages(
        self, node: NodeEntry, counts: NodeCounts, activity: Activity
    ) -> Iterator[StageStatus]:
        """Yield the counts of a loop, in rounds, and those of the stages of its current round."""
        name = node["name"]
        number = NodeFiles(self._run, name).last_round()
        note = _loop_note(number, planfile.loop(node)["max_rounds"], loop_end(self._run, node))
        yield self._stage_status(name, name, counts, note)
        if not number:
            return
        rounds = (*self._rounds, number)
        if name not in self._within or self._within[name]._rounds != rounds:
            folder = Path(NodeFiles(self._run, name).round(number))
            plan = planfile.read(str(folder))
            self._within[name] = Reader(folder, plan, name, rounds)
        round_activity = activity.rounds.get(name, Activity(activity.state))
        yield from self._within[name]._stages(round_activity)

    def _rounds_of(self, node: NodeEntry, activity: Activity) -> NodeCounts:
        """Return the counts of a loop, which are rounds."""
        number = NodeFiles(self._run, node["name"]).last_round()
        over = loop_end(self._run, node) is not None
        begun = number > 0 and not over and not activity.state.ended
        most = number if over else planfile.loop(node)["max_rounds"]
        done = number if over else max(0, number - 1)
        return NodeCounts(most, done, 0, int(begun), most, done, over, int(begun))

    def _counts(self, node: NodeEntry, activity: Activity) -> NodeCounts:
        name = node["name"]
        if node["mode"] == "loop":
            return self._rounds_of(node, activity)
        if name in self._settled:
            return self._settled[name]
        if name not in self._folds:
            folder = NodeFiles(self._run, name).outcomes
            self._folds[name] = _Fold(Ends(folder), dict(enumerate(node["sizes"])))
        fold = self._folds[name]
        started = fold.read()
        if activity.state.ended:
            started.clear()
        # A job that has started and is idle or held again has left its record behind.
        started -= activity.waiting.get(name, set())
        active = started | activity.running.get(name, set())
        jobs = inputs.chunks(str(self._run), node)
        total = fold.items if len(fold.totals) == jobs else node["items"]
        running = active - fold.complete
        held = {job.chunk for job in activity.held if job.node == name and job.chunk is not None}

        def remaining(chunks: set[int]) -> int:
            return sum(
                max(0, fold.totals.get(chunk, 0) - fold.done.get(chunk, 0)) for chunk in chunks
            )

        counts = NodeCounts(
            total,
            fold.finished,
            sum(count for chunk, count in fold.failed.items() if chunk not in active),
            remaining(running),
            jobs,
            len(fold.complete),
            len(fold.complete) == jobs,
            len(running),
            remaining(held),
            len(held),
        )
        if counts.settled:
            self._settled[name] = counts
        return counts
