"""The jobs of one run in HTCondor's queue: their states, actions on them, and why they wait.

All functions use the schedd that the bindings are set to (see `htdag.backends.condor.session`).
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

from htdag.backends.base import Activity, Ad, JobState, QueueFacts, RunState
from htdag.backends.condor.bindings import evaluate, htcondor2, message_of
from htdag.backends.condor.run_log import JobsLog
from htdag.backends.condor.session import connected
from htdag.backends.condor.setup import Setup
from htdag.errors import BackendError
from htdag.runtime import layout
from htdag.runtime.layout import NodeFiles, RunFiles

ABANDONED = (
    "its schedd did not answer when it was removed; htdag removes its jobs when it next looks at "
    "this run and the schedd answers"
)
_WANTED = [
    "ClusterId",
    "ProcId",
    "JobStatus",
    "DAGNodeName",
    "EnteredCurrentStatus",
    "HoldReason",
    "HoldReasonCode",
    "HoldReasonSubCode",
    "RequestMemory",
    "MemoryUsage",
]
_ACTIONS = {
    "hold": htcondor2.JobAction.Hold,
    "release": htcondor2.JobAction.Release,
    "suspend": htcondor2.JobAction.Suspend,
    "continue": htcondor2.JobAction.Continue,
    "vacate": htcondor2.JobAction.Vacate,
    "pause": htcondor2.JobAction.Hold,
    "unpause": htcondor2.JobAction.Release,
}
# The jobs that an action applies to.
_APPLICABLE = {
    "hold": "JobStatus == 1 || JobStatus == 2 || JobStatus == 6 || JobStatus == 7",
    "release": "JobStatus == 5",
    "suspend": "JobStatus == 2",
    "continue": "JobStatus == 7",
    "vacate": "JobStatus == 2",
    "pause": "JobStatus == 1",
    "unpause": 'JobStatus == 5 && (regexp("^htdag pause", HoldReason) =?= true || '
    '(HoldReasonCode == 15 && HtdagHeldBy =?= "pause"))',
}
# Applied to whole nodes, these actions also change the ads of clusters, from which HTCondor makes
# later jobs.
_FOR_CLUSTERS = ("hold", "release", "pause", "unpause")
_SCHEDULER_UNIVERSE = 7  # for example the DAGMan of a round
_MOST_IDLE_ADS = 200
_ORDERLY, _SETTLE_TIMEOUT = 30.0, 60.0  # seconds for the jobs of a removed run to leave the queue


def _dagmans(cluster: int) -> list[tuple[int, str]]:
    """Return the DAGMan job and those of the rounds of its loops, with the loops' names."""
    schedd = htcondor2.Schedd()
    dagmans = [(cluster, "")]
    for number, loop in dagmans:  # grows during the iteration
        constraint = f"DAGManJobId == {number} && JobUniverse == {_SCHEDULER_UNIVERSE}"
        inner: list[Ad] = schedd.query(constraint, ["ClusterId", "DAGNodeName"])
        for ad in inner:
            dagmans.append((int(ad["ClusterId"]), loop or str(ad.get("DAGNodeName", ""))))
    return dagmans


def all_of(cluster: int) -> str:
    """Return the constraint for the DAGMan job, its jobs, and those of the rounds of its loops."""
    jobs = [f"DAGManJobId == {number}" for number, _ in _dagmans(cluster)]
    return " || ".join([f"ClusterId == {cluster}", *jobs])


def ads(cluster: int) -> list[Ad]:
    """Return the ads of a DAG's jobs in the queue, with the attributes for their states."""
    result = htcondor2.Schedd().query(constraint=f"DAGManJobId == {cluster}", projection=_WANTED)
    return [_plain(ad) for ad in result]


def _plain(ad: Any) -> Ad:
    """Return an ad with its expressions evaluated, without those that have no plain value."""
    content = {}
    for name in ad:
        value = ad[name]
        if not isinstance(value, bool | int | float | str):
            value = ad.eval(name)
        content[str(name)] = value if isinstance(value, bool | int | float | str) else None
    return {name: value for name, value in content.items() if value is not None}


class Chunks:
    """The chunks of jobs: job n of a cluster has line n of its node's list.

    An object reads each list once, and is for one query only.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._lists: dict[tuple[str, int], list[int]] = {}

    def of(self, job: JobState) -> int | None:
        """Return the number of a job's chunk; None for the FINAL node."""
        unit = (job.node, job.lane)
        lines = self._lists.get(unit)
        if lines is None:
            lines = self._lists[unit] = _chunks(self._run, *unit)
        return lines[job.proc] if job.proc < len(lines) else None

    def with_chunks(self, jobs: Iterable[JobState]) -> tuple[JobState, ...]:
        """Return jobs with the numbers of their chunks."""
        return tuple(replace(job, chunk=self.of(job)) for job in jobs)


def activity(log: JobsLog, state: RunState, reason: str) -> tuple[Activity, int]:
    """Return the activity of a run in the given state, and how many of its jobs are not held."""
    running: dict[str, set[int]] = {}
    waiting: dict[str, set[int]] = {}
    rounds: dict[str, Activity] = {}
    held: list[JobState] = []
    suspended = active = 0
    chunks = Chunks(log.run)
    for job in log.jobs.values():
        if job.state == "idle" and not job.slot:  # it has never started
            active += job.node not in log.loops
            continue
        chunk = chunks.of(job)
        chunks_of = running if job.state in ("running", "suspended") else waiting
        if chunk is not None:
            chunks_of.setdefault(job.node, set()).add(chunk)
        if job.state == "held":
            held.append(job)
            continue
        active += job.node not in log.loops  # the DAGMan of a round does not count
        suspended += job.state == "suspended"
    held_jobs = list(chunks.with_chunks(held))
    for loop, (number, inside) in log.rounds.items():
        rounds[loop], more = activity(inside, state, reason)
        active += more
        suspended += rounds[loop].suspended
        held_jobs += (
            replace(job, node=loop, chunk=None, reason=f"round {number}, {job.node}: {job.reason}")
            for job in rounds[loop].held
        )
    result = Activity(
        state, reason, running, tuple(held_jobs), suspended, rounds=rounds, waiting=waiting
    )
    return result, active


def listed(log: JobsLog, within: tuple[tuple[str, int], ...] = ()) -> tuple[JobState, ...]:
    """Return the jobs that wait or run; for a running loop, those of its round."""
    result = []
    for job in Chunks(log.run).with_chunks(log.jobs.values()):
        number, inside = log.rounds.get(job.node, (0, None))
        if inside is None or job.state != "running":
            result.append(replace(job, within=within) if within else job)
        if inside is not None:
            result += listed(inside, (*within, (job.node, number)))
    return tuple(result)


def reconcile(log: JobsLog, cluster: int, now: float) -> None:
    """Update a log with the schedd's states of the jobs of a DAGMan and of its loops."""
    log.reconcile(ads(cluster), now)
    for loop, (_, inside) in log.rounds.items():
        for job in [job for job in log.jobs.values() if job.node == loop]:
            reconcile(inside, job.cluster, now)


def _chunks(run: Path, node: str, lane: int) -> list[int]:
    try:
        text = Path(NodeFiles(run, node).chunk_list(lane)).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []  # the FINAL node has no list
    return [int(line.split(",", 1)[0]) for line in text.splitlines()]


def act(cluster: int, action: str, nodes: list[str], which: list[JobState] | None) -> int:
    """Act on jobs; return how many were affected.

    Parameters
    ----------
    cluster : int
        The DAGMan job.
    action : str
        ``"hold"``, ``"release"``, ``"suspend"``, ``"continue"`` or ``"vacate"``; ``"pause"`` holds
        waiting jobs, and ``"unpause"`` releases these again.
    nodes : list of str
        The nodes whose jobs are affected.
    which : list of JobState, optional
        Only these jobs. None: all, and then holding stops late materialization, too.
    """
    schedd = htcondor2.Schedd()
    if which is not None and not which:
        return 0
    where = f"{_of_nodes(cluster, nodes)} && ({'true' if which is None else _one_of(which)})"
    constraint = f"{where} && ({_APPLICABLE[action]})"
    affected = schedd.query(constraint=constraint, projection=["ClusterId"])
    whole = which is None and action in _FOR_CLUSTERS
    if whole:
        constraint = f"{where} && ({_APPLICABLE[action]} || ProcId =?= undefined)"
    if affected or whole:
        # A tuple, since the bindings lose a reason that is a string.
        reason = (f"htdag {action}", 0)
        schedd.act(_ACTIONS[action], constraint, reason=reason)
    return len(affected)


def pause(cluster: int, nodes: list[str], which: list[JobState] | None) -> int:
    """Suspend running jobs and hold waiting ones; return how many."""
    return act(cluster, "suspend", nodes, which) + act(cluster, "pause", nodes, which)


def continue_(cluster: int, nodes: list[str], which: list[JobState] | None) -> int:
    """Undo `pause`; return how many jobs continue."""
    return act(cluster, "continue", nodes, which) + act(cluster, "unpause", nodes, which)


def _of_nodes(cluster: int, nodes: list[str], inside: Iterable[str] = ()) -> str:
    """Return the constraint for the jobs of nodes.

    For a loop, these are all jobs of its round, or those of the nodes ``inside``.
    """
    direct = f"DAGManJobId == {cluster} && {_named(nodes)}"
    which = f" && {_named(inside)}" if inside else ""
    rounds = [number for number, loop in _dagmans(cluster) if loop in nodes]
    where = " || ".join(
        [f"({direct})", *(f"(DAGManJobId == {number}{which})" for number in rounds)]
    )
    return f"({where}) && JobUniverse =!= {_SCHEDULER_UNIVERSE}"


def _named(nodes: Iterable[str]) -> str:
    # The name of a lane is the node's name, a dot and a number.
    names = "|".join(node.replace(".", "[.]") for node in nodes)
    return f'regexp("^({names})([.][0-9]+)?$", DAGNodeName)'


def _one_of(which: list[JobState]) -> str:
    """Return a constraint for jobs, which is short because it has each cluster only once."""
    clusters: dict[int, list[int]] = {}
    for job in which:
        clusters.setdefault(job.cluster, []).append(job.proc)
    return " || ".join(
        f"(ClusterId == {cluster} && member(ProcId, {{{', '.join(map(str, sorted(procs)))}}}))"
        for cluster, procs in clusters.items()
    )


def release_dagman(cluster: int) -> None:
    """Release the DAGMan job if it is on hold."""
    htcondor2.Schedd().act(
        htcondor2.JobAction.Release,
        f"ClusterId == {cluster} && JobStatus == 5",
        reason=("htdag release", 0),
    )


def edit(
    setup: Setup,
    cluster: int,
    nodes: list[str],
    inside: Iterable[str],
    attributes: Mapping[str, str],
) -> int:
    """Change attributes of all jobs of nodes that are in the queue; return how many.

    Jobs that are materialized later take common attributes from the ad of their cluster. Only
    `condor_qedit` with the number of a cluster changes this ad, too.
    """
    ads: list[Ad] = htcondor2.Schedd().query(
        constraint=_of_nodes(cluster, nodes, inside),
        projection=["ClusterId", "ProcId"],
        opts=htcondor2.QueryOpts.IncludeClusterAd,
    )
    clusters = sorted({int(ad["ClusterId"]) for ad in ads})
    edits = [f"{name}={value}" for name, value in attributes.items()]
    if clusters:
        # One command is one transaction: either all jobs are changed or none.
        command = ["condor_qedit", *map(str, clusters), *edits]
        done = subprocess.run(
            command,
            env=setup.variables(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            output = " ".join((done.stderr or done.stdout).split())
            raise BackendError(f"{' '.join(command)}: {output}")
    return sum("ProcId" in ad and int(ad["ProcId"]) >= 0 for ad in ads)


def halt(run: Path, dag: str, on: bool) -> None:
    """Make or remove the halt file, which keeps DAGMan from submitting further nodes."""
    path = _halt_file(run, dag)
    if on:
        path.touch(mode=0o600)
    else:
        path.unlink(missing_ok=True)


def is_halted(run: Path, dag: str) -> bool:
    """Return whether DAGMan submits no further nodes."""
    return _halt_file(run, dag).exists()


def _halt_file(run: Path, dag: str) -> Path:
    return Path(RunFiles(run).halt(dag))


def remove(cluster: int, force: bool) -> None:
    """Remove a DAGMan job; with `force`, also its jobs, without waiting for execute points."""
    schedd = htcondor2.Schedd()
    reason = ("htdag remove", 0)
    schedd.act(htcondor2.JobAction.Remove, f"ClusterId == {cluster}", reason=reason)
    if force:
        schedd.act(htcondor2.JobAction.Remove, all_of(cluster), reason=reason)
        schedd.act(htcondor2.JobAction.RemoveX, all_of(cluster), reason=reason)


class _Abandoned(TypedDict):
    """``removed.json``: the run was removed while its schedd did not answer."""

    cluster: int
    """The DAGMan job."""
    time: float
    """When, in seconds since the epoch."""


def mark_abandoned(run: Path, cluster: int) -> None:
    """Record that a run was removed while its schedd did not answer."""
    content: _Abandoned = {"cluster": cluster, "time": time.time()}
    layout.write_aside(str(run / layout.REMOVED), json.dumps(content).encode())


def is_abandoned(run: Path, cluster: int) -> bool:
    """Return whether a run was removed while its schedd did not answer, and its jobs still wait."""
    try:
        content: _Abandoned = layout.read_json(str(run / layout.REMOVED), "cluster")
    except FileNotFoundError:
        return False
    return content["cluster"] == cluster


def finish_removal(setup: Setup, run: Path, cluster: int) -> None:
    """Remove the jobs of an abandoned run, and wait until they have left the queue.

    Raises
    ------
    BackendError
        If the schedd still does not answer, or the jobs stay.
    """
    if not is_abandoned(run, cluster):
        return
    with connected(setup):
        schedd = htcondor2.Schedd()
        schedd.act(htcondor2.JobAction.Remove, all_of(cluster))
        start = time.monotonic()
        while schedd.query(constraint=all_of(cluster), projection=["ClusterId"]):
            waited = time.monotonic() - start
            if waited > _SETTLE_TIMEOUT:
                raise BackendError(f"the jobs of cluster {cluster} do not leave the queue")
            if waited > _ORDERLY:
                schedd.act(htcondor2.JobAction.RemoveX, all_of(cluster))
            time.sleep(0.5)
    (run / layout.REMOVED).unlink(missing_ok=True)


def facts(cluster: int) -> QueueFacts:
    """Return the facts from schedd and collector that decide whether jobs get a slot."""
    schedd = htcondor2.Schedd()
    of_run = " || ".join(f"DAGManJobId == {number}" for number, _ in _dagmans(cluster))
    idle = schedd.query(
        constraint=f"({of_run}) && JobStatus == 1 && JobUniverse =!= {_SCHEDULER_UNIVERSE}",
        limit=_MOST_IDLE_ADS,
    )
    dagman = schedd.query(
        constraint=f"ClusterId == {cluster}",
        projection=["Owner", "User", "JobStatus", "QDate", "HoldReason"],
    )
    problems = []
    slots: list[Any] = []
    users: list[Any] = []
    try:
        kind = htcondor2.AdType.Startd
        slots = list(htcondor2.Collector().query(kind, 'SlotType =!= "Dynamic"'))
    except (htcondor2.HTCondorException, OSError, RuntimeError) as error:
        problems.append(
            f"the collector, which knows the slots, does not answer: {message_of(error)}"
        )
    try:
        users = list(htcondor2.Negotiator().getPriorities())
    except (htcondor2.HTCondorException, OSError, RuntimeError) as error:
        problems.append(
            f"the negotiator, which gives slots to jobs, does not answer: {message_of(error)}"
        )
    return QueueFacts(
        tuple(idle),
        tuple(slots),
        tuple(users),
        dict(dagman[0]) if dagman else None,
        tuple(problems),
        evaluate,
    )
