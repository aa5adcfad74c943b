"""The states of a run's jobs on HTCondor, from its event logs.

Answers of the schedd, if it was asked, are merged in: each state has its time and its source, and
the later one counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from htdag.backends.base import HALTED, Ad, JobState, RunState
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
# JobStatus of jobs in the queue. 6 is transferring output; completed and removed jobs leave.
_IN_QUEUE = {1: "idle", 2: "running", 5: "held", 6: "running", 7: "suspended"}


def _in_state(job: JobState, state: str, since: float, source: str = "event log") -> JobState:
    """Return a job that has entered another state."""
    return replace(job, state=state, since=since, source=source, reason="", code=0, subcode=0)


class JobsLog:
    """The jobs of a DAG and of the rounds of its loops; each read is incremental.

    Parameters
    ----------
    run : pathlib.Path
        The run directory, or that of a round.
    dag : str
        The name of its DAG file.

    Attributes
    ----------
    jobs : dict of (int, int) to JobState
        The jobs that were submitted and have not left the queue. For a loop, this is the DAGMan of
        its round.
    loops : frozenset of str
        The nodes that are loops.
    rounds : dict of str to (int, JobsLog)
        For each loop that has started, the number and the jobs of its current round.
    """

    def __init__(self, run: Path, dag: str) -> None:
        self._run = run
        self._dag = dag
        self.loops = frozenset(planfile.loops_of(planfile.read(str(run))))
        self.rounds: dict[str, tuple[int, JobsLog]] = {}
        self._begin()

    def _begin(self) -> None:
        self._size = 0
        self._nodes = EventLog(self._run / f"{self._dag}.nodes.log")
        self._node_of: dict[int, lanes.Unit] = {}
        self.jobs: dict[tuple[int, int], JobState] = {}
        # By node, the jobs whose only event so far is their submission.
        self._submitted: dict[str, set[tuple[int, int]]] = {}

    @property
    def run(self) -> Path:
        """The run directory."""
        return self._run

    def read_jobs(self) -> None:
        """Read new events of the jobs."""
        path = self._run / f"{self._dag}.nodes.log"
        size = path.stat().st_size if path.exists() else 0
        if size < self._size:
            self._begin()  # a new DAGMan has started with the rest
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
        """Mark jobs that were submitted on hold as held, which the log does not show."""
        for node in list(self._submitted):
            if submitfile.held_by(str(self._run), node):
                for number in self._submitted.pop(node):
                    job = self.jobs.get(number)
                    if job is not None and job.state == "idle":
                        self.jobs[number] = replace(
                            _in_state(job, "held", job.since),
                            reason="submitted on hold",
                            code=_SUBMITTED_ON_HOLD,
                        )

    def _take(self, event: Event) -> None:
        kind, cluster, proc = event.type, event.cluster, event.proc
        number = (cluster, proc)
        if number in self.jobs:
            self._submitted.get(self.jobs[number].node, set()).discard(number)
        if kind == _KINDS.SUBMIT:
            if cluster not in self._node_of:
                self._node_of[cluster] = lanes.unit(event.node)
            node, lane = self._node_of[cluster]
            self.jobs[number] = JobState(node, cluster, proc, "idle", event.timestamp, lane=lane)
            self._submitted.setdefault(node, set()).add(number)
            return
        if kind in (_KINDS.JOB_TERMINATED, _KINDS.JOB_ABORTED):
            self.jobs.pop(number, None)
            return
        job = self.jobs.get(number)
        if job is not None:  # else of another DAG in the same log, or one that has left
            self.jobs[number] = _after(job, event)

    def reconcile(self, ads: Iterable[Ad], now: float) -> None:
        """Update the jobs of the run with the schedd's states, where these are later.

        Parameters
        ----------
        ads : iterable of mapping
            The ads of all jobs of the run that are in the queue, as `queue.ads` returns them.
        now : float
            When the schedd was asked, in seconds since the epoch. Jobs that are not in the queue
            are dropped, unless the log has later events of them.
        """
        seen = set()
        for ad in ads:
            number = (int(ad["ClusterId"]), int(ad["ProcId"]))
            seen.add(number)
            name = _IN_QUEUE.get(int(ad["JobStatus"]))
            if name is None:
                self.jobs.pop(number, None)
                continue
            node, lane = self._node_of.setdefault(
                number[0], lanes.unit(str(ad.get("DAGNodeName", "")))
            )
            since = float(ad.get("EnteredCurrentStatus", now))
            job = self.jobs.get(number)
            if job is None:
                job = JobState(node, *number, name, since, "schedd", lane=lane)
            elif job.state != name:
                job = _in_state(job, name, since, "schedd")
            if name == "held":
                job = replace(
                    job,
                    reason=str(ad.get("HoldReason", "")) or job.reason,
                    code=int(ad.get("HoldReasonCode", job.code)),
                    subcode=int(ad.get("HoldReasonSubCode", job.subcode)),
                )
            self.jobs[number] = replace(
                job,
                memory_asked=_number(ad.get("RequestMemory")) or job.memory_asked,
                memory_used=_number(ad.get("MemoryUsage")) or job.memory_used,
            )
        for number, state in list(self.jobs.items()):
            # A time far in the future was written before the clock was set back.
            if number not in seen and not 0 <= state.since - int(now) <= _A_MOMENT:
                del self.jobs[number]


def _after(job: JobState, event: Event) -> JobState:
    """Return a job as it is after an event."""
    kind = event.type
    if kind in _STATES:
        changed = _in_state(job, _STATES[kind], event.timestamp)
        if kind != _KINDS.EXECUTE:
            return changed
        props = event.get("ExecuteProps")
        granted = changed.memory_granted if props is None else _number(props.get("Memory"))
        return replace(changed, memory_granted=granted, slot=str(event.get("SlotName", "")))
    if kind == _KINDS.JOB_HELD:
        return replace(
            _in_state(job, "held", event.timestamp),
            reason=str(event.get("HoldReason", "")),
            code=_number(event.get("HoldReasonCode")) or 0,
            subcode=_number(event.get("HoldReasonSubCode")) or 0,
        )
    if kind == _KINDS.IMAGE_SIZE:
        return replace(job, memory_used=_number(event.get("MemoryUsage")) or job.memory_used)
    return job


class RunLog(JobsLog):
    """The state of a run on HTCondor, from its event logs.

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
        The state of the run as a whole.
    reason : str
        Why it is in that state, if known.
    asked : float
        For `CondorBackend`: when the schedd was last asked.
    """

    def __init__(self, run: Path, dag: str, cluster: int) -> None:
        super().__init__(run, dag)
        self._cluster = cluster
        self._dagman: Any = None
        self.state = RunState.WAITING
        self.reason = ""
        self.asked = 0.0

    def read(self) -> None:
        """Read new events."""
        self.read_dagman()
        self.read_jobs()

    def read_dagman(self) -> None:
        """Read new events of the DAGMan job alone."""
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


def _why_failed(run: Path, dag: str) -> tuple[str, bool]:
    """Return the reason of a failure from DAGMan's own logs, and whether it was a halt instead."""
    path = run / f"{dag}.dagman.out"
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return f"DAGMan left no {path.name}", False
    if dagman_log.was_halted(text):
        return "", True
    plan = planfile.read(str(run))
    loops = planfile.loops_of(plan)
    reasons = [dagman_log.explain(text, loops)]
    for loop in loops:
        files = NodeFiles(run, loop)
        number = files.last_round()
        folder = Path(files.round(number))
        started = (folder / f"{layout.ROUND_DAG}.dagman.out").exists()
        if started and not Path(files.loop_end).exists():
            inner, _ = _why_failed(folder, layout.ROUND_DAG)
            reasons.append(inner and f"round {number} of {loop}: {inner}")
    if not any(reasons):
        final = plan.get("final")  # it fails if any other node does
        nodes = dict.fromkeys(lanes.unit(name)[0] for name in dagman_log.failed_nodes(text))
        nodes.pop(str(final), None)
        reasons = [f"failed: {', '.join(nodes)}"] if nodes else []
    return "; ".join(filter(None, reasons)), False


def _number(value: Any) -> int | None:
    """Return a whole number from an ad; None if it is anything else, such as an expression."""
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _event_log(path: Path) -> Any:
    """Return a reader of an event log; None if the log does not exist yet."""
    return htcondor2.JobEventLog(str(path)) if path.exists() else None
