"""The jobs of one run on HTCondor: who they are, what is done to them, why they wait.

All functions that speak to a schedd do so to the one that the bindings are turned to (see
`htdag.backends.condor.session`).
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from htdag.backends.base import Activity, JobState, QueueFacts, RunState
from htdag.backends.condor.bindings import evaluate, htcondor2, short
from htdag.backends.condor.run_log import Job, JobsLog
from htdag.backends.condor.session import connected
from htdag.backends.condor.setup import Setup
from htdag.errors import BackendError
from htdag.runtime import layout
from htdag.runtime.layout import NodeFiles, RunFiles

ABANDONED = (
    "its schedd did not answer when it was removed; its jobs are removed as soon as that answers "
    "again and this run is looked at"
)
_LET_GO_FILE = "removed.json"
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
# To which jobs an action means something.
_FITTING = {
    "hold": "JobStatus == 1 || JobStatus == 2 || JobStatus == 6 || JobStatus == 7",
    "release": "JobStatus == 5",
    "suspend": "JobStatus == 2",
    "continue": "JobStatus == 7",
    "vacate": "JobStatus == 2",
    "pause": "JobStatus == 1",
    "unpause": 'JobStatus == 5 && (regexp("^htdag pause", HoldReason) =?= true || '
    '(HoldReasonCode == 15 && HtdagHeldBy =?= "pause"))',
}
# Where these are meant for whole nodes they go for the ads of clusters, too, of which more jobs may
# be made.
_FOR_CLUSTERS = ("hold", "release", "pause", "unpause")
_SCHEDULER_UNIVERSE = 7  # of the DAGMan of a round
_MOST_IDLE_ADS = 200
_ORDERLY, _SETTLE_TIMEOUT = 30.0, 60.0  # seconds for jobs that are let go to leave the queue


def _dagmans(cluster: int) -> list[tuple[int, str]]:
    """Return the DAGMan job and those of the rounds of its loops, with the loop's name."""
    schedd = htcondor2.Schedd()
    found = [(cluster, "")]
    for number, loop in found:  # grows meanwhile
        wanted = f"DAGManJobId == {number} && JobUniverse == {_SCHEDULER_UNIVERSE}"
        for ad in schedd.query(wanted, ["ClusterId", "DAGNodeName"]):
            found.append((int(ad["ClusterId"]), loop or str(ad.get("DAGNodeName", ""))))
    return found


def all_of(cluster: int) -> str:
    """Return the constraint for the DAGMan job, its jobs, and those of the rounds of its loops."""
    jobs = [f"DAGManJobId == {number}" for number, _ in _dagmans(cluster)]
    return " || ".join([f"ClusterId == {cluster}", *jobs])


def ads(cluster: int) -> list[Mapping[str, Any]]:
    """Return the ads of a DAG's jobs in the queue, with what tells their state."""
    found = htcondor2.Schedd().query(constraint=f"DAGManJobId == {cluster}", projection=_WANTED)
    return [_plain(ad) for ad in found]


def _plain(ad: Any) -> dict[str, Any]:
    """Return an ad with its expressions evaluated as far as they can be."""
    content = {}
    for name in ad:
        value = ad[name]
        if not isinstance(value, bool | int | float | str):
            value = ad.eval(name)
        content[str(name)] = value if isinstance(value, bool | int | float | str) else None
    return {name: value for name, value in content.items() if value is not None}


class Chunks:
    """Which chunk each job works through: the jobs of a cluster are the lines of its node's list.

    Made for one look: each list is read once, not once a job.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._lists: dict[tuple[str, int], list[int]] = {}

    def of(self, job: Job) -> int | None:
        """Return the number of a job's chunk; None for the work at the end of a run."""
        unit = (job.node, job.lane)
        lines = self._lists.get(unit)
        if lines is None:
            lines = self._lists[unit] = _chunks(self._run, *unit)
        return lines[job.proc] if job.proc < len(lines) else None

    def told(self, jobs: Iterable[Job]) -> tuple[JobState, ...]:
        """Return jobs with their chunks."""
        return tuple(job.told(self.of(job)) for job in jobs)


def activity(log: JobsLog, state: RunState, reason: str) -> tuple[Activity, int]:
    """Return what goes on, in a run that is in some state, and how many jobs are not held."""
    running: dict[str, set[int]] = {}
    waiting: dict[str, set[int]] = {}
    rounds: dict[str, Activity] = {}
    held: list[Job] = []
    suspended = active = 0
    chunks = Chunks(log.run)
    for job in log.jobs.values():
        if job.state == "idle" and not job.slot:  # it has never begun
            active += job.node not in log.loops
            continue
        chunk = chunks.of(job)
        there = running if job.state in ("running", "suspended") else waiting
        if chunk is not None:
            there.setdefault(job.node, set()).add(chunk)
        if job.state == "held":
            held.append(job)
            continue
        active += job.node not in log.loops  # the DAGMan of a round does not count
        suspended += job.state == "suspended"
    told = list(chunks.told(held))
    for loop, (number, inside) in log.rounds.items():
        rounds[loop], more = activity(inside, state, reason)
        active += more
        suspended += rounds[loop].suspended
        told += (
            replace(job, node=loop, chunk=None, reason=f"round {number}, {job.node}: {job.reason}")
            for job in rounds[loop].held
        )
    found = Activity(state, reason, running, tuple(told), suspended, rounds=rounds, waiting=waiting)
    return found, active


def listed(log: JobsLog, within: tuple[tuple[str, int], ...] = ()) -> tuple[JobState, ...]:
    """Return the jobs that wait or run; in place of a loop that runs, those of its round."""
    found = []
    for job in Chunks(log.run).told(log.jobs.values()):
        number, inside = log.rounds.get(job.node, (0, None))
        if inside is None or job.state != "running":
            found.append(replace(job, within=within) if within else job)
        if inside is not None:
            found += listed(inside, (*within, (job.node, number)))
    return tuple(found)


def reconcile(log: JobsLog, cluster: int, now: float) -> None:
    """Let a log take over what the schedd says of the jobs of a DAGMan, and of its loops'."""
    log.reconcile(ads(cluster), now)
    for loop, (_, inside) in log.rounds.items():
        for job in [job for job in log.jobs.values() if job.node == loop]:
            reconcile(inside, job.cluster, now)


def _chunks(run: Path, node: str, lane: int) -> list[int]:
    try:
        text = Path(NodeFiles(run, node).chunk_list(lane)).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []  # not a node that has a list
    return [int(line.split(",", 1)[0]) for line in text.splitlines()]


def act(cluster: int, action: str, nodes: list[str], which: list[JobState] | None) -> int:
    """Do something to jobs; return to how many it was done.

    Parameters
    ----------
    cluster : int
        The DAGMan job.
    action : str
        ``"hold"``, ``"release"``, ``"suspend"``, ``"continue"`` or ``"vacate"``; ``"pause"`` holds
        jobs that wait, and ``"unpause"`` releases these again.
    nodes : list of str
        To the jobs of which nodes. Where all are meant, holding stops late materialisation too.
    which : list of JobState, optional
        To these jobs only.
    """
    schedd = htcondor2.Schedd()
    if which is not None and not which:
        return 0
    where = f"{_of_nodes(cluster, nodes)} && ({'true' if which is None else _one_of(which)})"
    fitting = f"{where} && ({_FITTING[action]})"
    found = schedd.query(constraint=fitting, projection=["ClusterId"])
    whole = which is None and action in _FOR_CLUSTERS
    if whole:
        fitting = f"{where} && ({_FITTING[action]} || ProcId =?= undefined)"
    if found or whole:
        # As a tuple: the bindings lose a reason that is given as a text.
        reason = (f"htdag {action}", 0)
        schedd.act(_ACTIONS[action], fitting, reason=reason)
    return len(found)


def pause(cluster: int, nodes: list[str], which: list[JobState] | None) -> int:
    """Suspend jobs that run, and hold those that wait; return how many."""
    return act(cluster, "suspend", nodes, which) + act(cluster, "pause", nodes, which)


def go_on(cluster: int, nodes: list[str], which: list[JobState] | None) -> int:
    """Take back what `pause` did; return how many jobs go on."""
    return act(cluster, "continue", nodes, which) + act(cluster, "unpause", nodes, which)


def _of_nodes(cluster: int, nodes: list[str], inside: Iterable[str] = ()) -> str:
    """Return the constraint for the jobs of nodes.

    Of a loop these are all jobs of its round, or those of the nodes ``inside``.
    """
    own = f"DAGManJobId == {cluster} && {_named(nodes)}"
    which = f" && {_named(inside)}" if inside else ""
    rounds = [number for number, loop in _dagmans(cluster) if loop in nodes]
    where = " || ".join([f"({own})", *(f"(DAGManJobId == {number}{which})" for number in rounds)])
    return f"({where}) && JobUniverse =!= {_SCHEDULER_UNIVERSE}"


def _named(nodes: Iterable[str]) -> str:
    # A lane of a node is called by the node's name, a dot and a number.
    names = "|".join(node.replace(".", "[.]") for node in nodes)
    return f'regexp("^({names})([.][0-9]+)?$", DAGNodeName)'


def _one_of(which: list[JobState]) -> str:
    """Return a constraint for jobs; in it clusters are named once, so it stays short."""
    clusters: dict[int, list[int]] = {}
    for job in which:
        clusters.setdefault(job.cluster, []).append(job.proc)
    return " || ".join(
        f"(ClusterId == {cluster} && member(ProcId, {{{', '.join(map(str, sorted(procs)))}}}))"
        for cluster, procs in clusters.items()
    )


def release_dagman(cluster: int) -> None:
    """Release the DAGMan job, where it is on hold."""
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
    """Change attributes of all jobs of nodes that are in the queue; return how many these are.

    Jobs of a cluster that are materialised later take what they have in common from the ad of the
    cluster. Of all ways to edit, only `condor_qedit` with the number of a cluster changes that
    too, so it is what does it.
    """
    found = htcondor2.Schedd().query(
        constraint=_of_nodes(cluster, nodes, inside),
        projection=["ClusterId", "ProcId"],
        opts=htcondor2.QueryOpts.IncludeClusterAd,
    )
    clusters = sorted({int(ad["ClusterId"]) for ad in found})
    edits = [f"{name}={value}" for name, value in attributes.items()]
    if clusters:
        # All in one transaction: either all jobs are changed or none.
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
            said = " ".join((done.stderr or done.stdout).split())
            raise BackendError(f"{' '.join(command)}: {said}")
    return sum("ProcId" in ad and int(ad["ProcId"]) >= 0 for ad in found)


def halt(run: Path, dag: str, on: bool) -> None:
    """Make, or remove, the file at which DAGMan submits no further nodes."""
    path = _halt_file(run, dag)
    if on:
        path.touch(mode=0o600)
    else:
        path.unlink(missing_ok=True)


def is_halted(run: Path, dag: str) -> bool:
    """Tell whether no further nodes are submitted."""
    return _halt_file(run, dag).exists()


def _halt_file(run: Path, dag: str) -> Path:
    return Path(RunFiles(run).halt(dag))


def remove(cluster: int, force: bool) -> None:
    """Ask for the end of a DAGMan job, and of its jobs."""
    schedd = htcondor2.Schedd()
    reason = ("htdag remove", 0)
    schedd.act(htcondor2.JobAction.Remove, f"ClusterId == {cluster}", reason=reason)
    if force:
        schedd.act(htcondor2.JobAction.Remove, all_of(cluster), reason=reason)
        schedd.act(htcondor2.JobAction.RemoveX, all_of(cluster), reason=reason)


def mark_abandoned(run: Path, cluster: int) -> None:
    """Note that a run was removed while its schedd did not answer."""
    content = {"cluster": cluster, "time": time.time()}
    layout.write_aside(str(run / _LET_GO_FILE), json.dumps(content).encode())


def is_abandoned(run: Path, cluster: int) -> bool:
    """Tell whether a run was removed while its schedd did not answer, and waits to be settled."""
    try:
        content = layout.read_json(str(run / _LET_GO_FILE), "cluster")
    except FileNotFoundError:
        return False
    return bool(content["cluster"] == cluster)


def finish_removal(setup: Setup, run: Path, cluster: int) -> None:
    """Remove for good what was let go, and wait until it has left the queue.

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
        begun = time.monotonic()
        while schedd.query(constraint=all_of(cluster), projection=["ClusterId"]):
            waited = time.monotonic() - begun
            if waited > _SETTLE_TIMEOUT:
                raise BackendError(f"the jobs of cluster {cluster} do not leave the queue")
            if waited > _ORDERLY:
                schedd.act(htcondor2.JobAction.RemoveX, all_of(cluster))
            time.sleep(0.5)
    (run / _LET_GO_FILE).unlink(missing_ok=True)


def facts(cluster: int) -> QueueFacts:
    """Return what schedd and collector say that decides whether jobs find a slot."""
    schedd = htcondor2.Schedd()
    mine = " || ".join(f"DAGManJobId == {number}" for number, _ in _dagmans(cluster))
    idle = schedd.query(
        constraint=f"({mine}) && JobStatus == 1 && JobUniverse =!= {_SCHEDULER_UNIVERSE}",
        limit=_MOST_IDLE_ADS,
    )
    own = schedd.query(
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
        problems.append(f"the collector, which knows the slots, does not answer: {short(error)}")
    try:
        users = list(htcondor2.Negotiator().getPriorities())
    except (htcondor2.HTCondorException, OSError, RuntimeError) as error:
        problems.append(
            f"the negotiator, which gives slots to jobs, does not answer: {short(error)}"
        )
    return QueueFacts(
        tuple(idle),
        tuple(slots),
        tuple(users),
        dict(own[0]) if own else None,
        tuple(problems),
        evaluate,
    )
