"""What the event logs of a run on HTCondor tell, folded into the states of its jobs.

The schedd's answers, where it was asked, are folded in too: each state says when it began and who
told so, and the later word counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from htdag.backends.base import HALTED, JobState, RunState
from htdag.backends.condor import dagman_log
from htdag.backends.condor.bindings import htcondor2
from htdag.backends.condor.event_log import Event, EventLog
from htdag.runtime import lanes, layout, planfile
from htdag.runtime.dag import submitfile
from htdag.runtime.layout import NodeFiles

_KINDS = htcondor2.JobEventType
_STATES = {
    _KINDS.SUBMIT: "idle",
    _KINDS.EXECUTE: "running",
    _KINDS.JOB_EVICTED: "idle",
    _KINDS.JOB_RELEASED: "idle",
    _KINDS.SHADOW_EXCEPTION: "idle",
    _KINDS.JOB_RECONNECT_FAILED: "idle",
    _KINDS.JOB_SUSPENDED: "suspended",
    _KINDS.JOB_UNSUSPENDED: "running",
}
_A_MOMENT = 60  # seconds
_SUBMITTED_ON_HOLD = 15  # the code of a hold
# JobStatus in the queue; who is completed or removed leaves it, and 6 is on its way back.
_IN_QUEUE = {1: "idle", 2: "running", 5: "held", 6: "running", 7: "suspended"}


@dataclass(slots=True)
class Job:
    """A job in the queue, as it is followed; its fields are those of `JobState`."""

    node: str
    cluster: int
    proc: int
    state: str
    since: float
    source: str = "event log"
    reason: str = ""
    code: int = 0
    subcode: int = 0
    memory_asked: int | None = None
    memory_granted: int | None = None
    memory_used: int | None = None
    slot: str = ""
    lane: int = 0

    def turn(self, state: str, since: float, source: str = "event log") -> None:
        """Take over another state."""
        self.state, self.since, self.source = state, since, source
        self.reason, self.code, self.subcode = "", 0, 0

    def told(self, chunk: int | None) -> JobState:
        """Return it for others, with the chunk that it works through."""
        return JobState(
            **{each.name: getattr(self, each.name) for each in fields(self)}, chunk=chunk
        )


class JobsLog:
    """The jobs of a DAG, and of the rounds of its loops; each look reads only what is new.

    Parameters
    ----------
    run : pathlib.Path
        The run directory, or that of a round.
    dag : str
        The name of its DAG file.

    Attributes
    ----------
    jobs : dict of (int, int) to Job
        The jobs that were submitted and have not left the queue. Of a loop that is the DAGMan of
        its round.
    loops : frozenset of str
        The nodes that are loops.
    rounds : dict of str to (int, JobsLog)
        For each loop that has begun its present round: number, and jobs.
    """

    def __init__(self, run: Path, dag: str) -> None:
        self._run = run
        self._dag = dag
        self.loops = frozenset(loops_of(run))
        self.rounds: dict[str, tuple[int, JobsLog]] = {}
        self._begin()

    def _begin(self) -> None:
        self._size = 0
        self._nodes = EventLog(self._run / f"{self._dag}.nodes.log")
        self._node_of: dict[int, lanes.Unit] = {}
        self.jobs: dict[tuple[int, int], Job] = {}
        # By node, the jobs of which the log tells no more than that they were submitted.
        self._submitted: dict[str, set[tuple[int, int]]] = {}

    @property
    def run(self) -> Path:
        """The run directory."""
        return self._run

    def read_jobs(self) -> None:
        """Read what is new of the jobs."""
        path = self._run / f"{self._dag}.nodes.log"
        size = path.stat().st_size if path.exists() else 0
        if size < self._size:
            self._begin()  # DAGMan began anew, with what is left
        self._size = size
        for event in self._nodes.events(self.jobs):
            self._take(event)
        self._hold_submitted()
        for loop in self.loops:
            files = NodeFiles(self._run, loop)
            number = files.last_round()
            if number and self.rounds.get(loop, (0, None))[0] != number:
                folder = Path(files.round(number))
                self.rounds[loop] = number, JobsLog(folder, layout.ROUND_DAG)
        for _, log in self.rounds.values():
            log.read_jobs()

    def _hold_submitted(self) -> None:
        """Know jobs as held that were submitted so: the log does not tell it."""
        for node in list(self._submitted):
            if submitfile.held_by(str(self._run), node):
                for job in self._submitted.pop(node):
                    found = self.jobs.get(job)
                    if found is not None and found.state == "idle":
                        found.turn("held", found.since)
                        found.reason, found.code = "submitted on hold", _SUBMITTED_ON_HOLD

    def _take(self, event: Event) -> None:
        kind, cluster, proc = event.type, event.cluster, event.proc
        job = (cluster, proc)
        if job in self.jobs:
            self._submitted.get(self.jobs[job].node, set()).discard(job)
        if kind == _KINDS.SUBMIT:
            if cluster not in self._node_of:
                self._node_of[cluster] = lanes.unit(event.node)
            node, lane = self._node_of[cluster]
            self.jobs[job] = Job(node, cluster, proc, "idle", event.timestamp, lane=lane)
            self._submitted.setdefault(node, set()).add(job)
            return
        if kind in (_KINDS.JOB_TERMINATED, _KINDS.JOB_ABORTED):
            self.jobs.pop(job, None)
            return
        found = self.jobs.get(job)
        if found is None:
            return  # of another DAG in the same log, or gone
        if kind in _STATES:
            found.turn(_STATES[kind], event.timestamp)
            if kind == _KINDS.EXECUTE:
                props = event.get("ExecuteProps")
                if props is not None:
                    found.memory_granted = _number(props.get("Memory"))
                found.slot = str(event.get("SlotName", ""))
        elif kind == _KINDS.JOB_HELD:
            found.turn("held", event.timestamp)
            found.reason = str(event.get("HoldReason", ""))
            found.code = _number(event.get("HoldReasonCode")) or 0
            found.subcode = _number(event.get("HoldReasonSubCode")) or 0
        elif kind == _KINDS.IMAGE_SIZE:
            found.memory_used = _number(event.get("MemoryUsage")) or found.memory_used

    def reconcile(self, ads: Iterable[Mapping[str, Any]], now: float) -> None:
        """Take over what the schedd says of all jobs of the run, where it knows later things.

        Parameters
        ----------
        ads : iterable of mapping
            The ads of all jobs of the run that are in the queue, as `jobs.ads` gives them.
        now : float
            When the schedd was asked, in seconds since the epoch. Jobs that are not in the queue
            are dropped, unless the log has later news of them.
        """
        seen = set()
        for ad in ads:
            job = (int(ad["ClusterId"]), int(ad["ProcId"]))
            seen.add(job)
            name = _IN_QUEUE.get(int(ad["JobStatus"]))
            if name is None:
                self.jobs.pop(job, None)
                continue
            node, lane = self._node_of.setdefault(
                job[0], lanes.unit(str(ad.get("DAGNodeName", "")))
            )
            since = float(ad.get("EnteredCurrentStatus", now))
            found = self.jobs.get(job)
            if found is None:
                found = self.jobs[job] = Job(node, *job, name, since, "schedd", lane=lane)
            elif found.state != name:
                found.turn(name, since, "schedd")
            if name == "held":
                found.reason = str(ad.get("HoldReason", "")) or found.reason
                found.code = int(ad.get("HoldReasonCode", found.code))
                found.subcode = int(ad.get("HoldReasonSubCode", found.subcode))
            found.memory_asked = _number(ad.get("RequestMemory")) or found.memory_asked
            found.memory_used = _number(ad.get("MemoryUsage")) or found.memory_used
        for job, known in list(self.jobs.items()):
            # What is far ahead of now was written before the clock was put back.
            if job not in seen and not 0 <= known.since - int(now) <= _A_MOMENT:
                del self.jobs[job]


class RunLog(JobsLog):
    """What was read of a run's event logs so far.

    Parameters
    ----------
    run : pathlib.Path
        The run directory.
    dag : str
        The name of its DAG file.
    cluster : int
        The DAGMan job.

    Attributes
    ----------
    state : RunState
        The run as a whole.
    reason : str
        Why, where that is known.
    asked : float
        For `CondorBackend`: when the schedd was asked last.
    """

    def __init__(self, run: Path, dag: str, cluster: int) -> None:
        super().__init__(run, dag)
        self._cluster = cluster
        self._dagman: Any = None
        self.state = RunState.WAITING
        self.reason = ""
        self.asked = 0.0

    def read(self) -> None:
        """Read what is new."""
        self.read_dagman()
        self.read_jobs()

    def read_dagman(self) -> None:
        """Read what is new of the DAGMan job alone."""
        if self._dagman is None:
            self._dagman = _event_log(self._run / f"{self._dag}.dagman.log")
        if self._dagman is None:
            return
        for event in self._dagman.events(stop_after=0):
            if event.cluster != self._cluster:
                continue
            if event.type == _KINDS.EXECUTE:
                self.state, self.reason = RunState.RUNNING, ""
            elif event.type in (_KINDS.JOB_RELEASED, _KINDS.JOB_EVICTED):
                self.state, self.reason = RunState.WAITING, ""
            elif event.type == _KINDS.JOB_HELD:
                self.state, self.reason = RunState.HELD, str(event.get("HoldReason", ""))
            elif event.type == _KINDS.JOB_ABORTED:
                self.state, self.reason = RunState.REMOVED, str(event.get("Reason", ""))
            elif event.type == _KINDS.JOB_TERMINATED:
                code = event.get("ReturnValue")
                self.state = RunState.DONE if code == 0 else RunState.FAILED
                self.reason = ""
                if code != 0:
                    self._explain_failure()

    def _explain_failure(self) -> None:
        self.reason, halted = _why_failed(self._run, self._dag)
        if halted:
            self.state, self.reason = RunState.STOPPED, HALTED


def loops_of(run: Path) -> list[str]:
    """Return the names of the loops of a run directory."""
    nodes = planfile.read(str(run))["nodes"]
    return [node["name"] for node in nodes if node["mode"] == "loop"]


def _why_failed(run: Path, dag: str) -> tuple[str, bool]:
    """Return what DAGMan's own logs say of a failure, and whether it was halted instead."""
    path = run / f"{dag}.dagman.out"
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return f"DAGMan left no {path.name}", False
    if dagman_log.was_halted(text):
        return "", True
    loops = loops_of(run)
    found = [dagman_log.explain(text, loops)]
    for loop in loops:
        files = NodeFiles(run, loop)
        number = files.last_round()
        folder = Path(files.round(number))
        begun = (folder / f"{layout.ROUND_DAG}.dagman.out").exists()
        if begun and not Path(files.loop_end).exists():
            inner, _ = _why_failed(folder, layout.ROUND_DAG)
            found.append(inner and f"round {number} of {loop}: {inner}")
    if not any(found):
        final = planfile.read(str(run)).get("final")  # which fails as the others have
        nodes = dict.fromkeys(lanes.unit(name)[0] for name in dagman_log.failed_nodes(text))
        nodes.pop(str(final), None)
        found = [f"failed: {', '.join(nodes)}"] if nodes else []
    return "; ".join(filter(None, found)), False


def _number(value: Any) -> int | None:
    """Return a whole number of an ad, or None where it is none (an expression, say)."""
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _event_log(path: Path) -> Any:
    """Return a reader of an event log, or None where there is none yet."""
    return htcondor2.JobEventLog(str(path)) if path.exists() else None
