"""HTCondor: a run directory, run by DAGMan."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from htdag._home import check_for_dagman
from htdag.backends import abilities, judging
from htdag.backends.base import HOW_TO_START, Activity, RunState
from htdag.backends.bindings import htcondor2, using
from htdag.backends.bindings import short as _short
from htdag.backends.ownpool import OwnPool
from htdag.backends.setup import Setup
from htdag.errors import BackendError
from htdag.runtime import lanes, layout, progress

_NODE_IN_NOTES = re.compile(r'DAGNodeName = "([^"]*)"')
_SUBMIT_FAILURE = re.compile(r"ULOG_SUBMIT_FAILURE for HTCondor Node (\S+) [^{]*\{[^}]*\} (.*)")
_RESCUE = re.compile(r".*\.rescue(\d{3,})")
_QUEUE_CHECK_EVERY = 15.0  # seconds between questions to the schedd while waiting
_REMOVE_TIMEOUT = 120.0
_REMOVE_QUESTION_EVERY = 0.5
_SLOTS_TIMEOUT = 5.0
# Partitionable slots with the slots that were cut from them, and static ones: all that they have.
_COUNT_SLOTS = """
import htcondor2
htcondor2.Schedd().query(constraint="false", projection=["ClusterId"])
ads = htcondor2.Collector().query(
    htcondor2.AdType.Startd,
    constraint='SlotType =!= "Dynamic"',
    projection=["TotalSlotCpus", "TotalSlotGPUs"],
)
wanted = {"TotalSlotCpus": 1, "TotalSlotGPUs": 0}
print(*(sum(int(ad.get(name, least)) for ad in ads) for name, least in wanted.items()))
"""


def why_unusable(setup: Setup | None = None) -> str:
    """Return "" where runs can be submitted to an HTCondor, else the reason why not.

    Parameters
    ----------
    setup : Setup, optional
        That HTCondor; by default the one that is configured on this machine.
    """
    if os.getuid() == 0:
        return "HTCondor refuses the jobs of root"
    try:
        with using(setup):
            htcondor2.Schedd().query(constraint="false", projection=["ClusterId"])
            if shutil.which("condor_dagman") is None:
                return "HTCondor answers, but its program condor_dagman is not on PATH"
    except Exception as error:
        return f"no HTCondor schedd answers here ({_short(error)})"
    return ""


def never_usable() -> bool:
    """Tell, without asking anyone, whether no run can be submitted from here."""
    return os.getuid() == 0 or (shutil.which("condor_dagman") is None and not OwnPool().is_running)


def find() -> tuple[Setup | None, str]:
    """Return the HTCondor for new runs and what to call it; None and why there is none.

    That is the one that is configured on this machine, where its schedd answers, else the user's
    own pool, where that runs.
    """
    problem = why_unusable()
    if not problem:
        setup = Setup.current()
        return setup, _own_name(Path(str(setup.config)).parent) if setup.own else schedd_name()
    own = OwnPool()
    if not own.is_running:
        made = f"; your own pool is not running, {HOW_TO_START}" if own.config.exists() else ""
        return None, problem + made
    not_own = why_unusable(own.setup)
    if not_own:
        return None, f"your own pool in {str(own.path)!r} is running, but {not_own}"
    return own.setup, _own_name(own.path)


def _own_name(directory: Path) -> str:
    return f"your own pool, in {str(directory)!r}"


def schedd_name() -> str:
    """Return the name of the schedd that is configured on this machine."""
    with contextlib.suppress(Exception):
        return str(htcondor2.Collector().locate(htcondor2.DaemonType.Schedd)["Name"])
    return "the local schedd"


@dataclass
class _Watch:
    """What was read of a run's logs so far, so that each look reads only what is new."""

    dagman: Any = None
    nodes: Any = None
    state: RunState = RunState.WAITING
    reason: str = ""
    node_of: dict[int, str] = field(default_factory=dict)
    jobs: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict)
    asked: float = 0.0


class CondorBackend:
    """Runs a run directory as a DAGMan workflow of the local schedd.

    Parameters
    ----------
    setup : Setup, optional
        The HTCondor of new runs; by default `find` looks for one. Others stay where they are.
    """

    name = "condor"
    # At HTCondor's default settings: two scans of DAGMan's log, and a negotiation.
    turn = 20.0

    def __init__(self, setup: Setup | None = None) -> None:
        self._new_runs = setup
        self._watches: dict[tuple[Path, int], _Watch] = {}

    def check_directory(self, directory: Path) -> None:
        """Refuse what DAGMan would refuse, before anything is written."""
        check_for_dagman(directory)

    def submit(self, run: Path, dag: str, before: dict[str, Any] | None = None) -> dict[str, Any]:
        """Submit the DAG; where parts of it are done, by way of a rescue DAG."""
        if os.getuid() == 0:
            raise BackendError("HTCondor refuses the jobs of root; submit as an ordinary user")
        if before is not None:
            setup = Setup.of_ticket(before)
        else:
            setup = self._new_runs or find()[0] or Setup.current()
        options: dict[str, Any] = {"UseDagDir": True, "AutoRescue": 1}
        first = not (run / f"{dag}.condor.sub").exists()
        if not first:
            judging.restore_scripts(run, dag)
            _write_rescue(run, dag)
            options["UpdateSubmit"] = True
        with _mapped(f"submitting {str(run / dag)!r}"), _reached(setup):
            with _quiet_stdout():
                description = htcondor2.Submit.from_dag(str(run / dag), options)
            if first:
                dagman = Path(description["executable"])
                judging.spare_scripts(run, dag, dagman)
                abilities.settle_throttles(run, dagman)
            result = htcondor2.Schedd().submit(description)
        return {"cluster": int(result.cluster()), "dag": dag, "htcondor": setup.to_ticket()}

    def activity(self, run: Path, ticket: dict[str, Any]) -> Activity:
        """Read what is new in the event logs; ask the schedd only now and then."""
        cluster = ticket["cluster"]
        watch = self._watches.setdefault((run, cluster), _Watch())
        with _mapped(f"reading the event logs in {str(run)!r}"):
            self._read_dagman(run, ticket, watch)
            self._read_nodes(run, ticket, watch)
        if not watch.state.ended:
            stopped = self._check_queue(run, ticket, watch)
            if stopped:
                return Activity(RunState.HELD, stopped)
        running: dict[str, set[int]] = {}
        chunks: dict[str, list[int]] = {}  # each list is read once a look, not once a job
        held = []
        active = 0
        if not watch.state.ended:
            for (job_cluster, proc), (doing, reason) in watch.jobs.items():
                node = watch.node_of.get(job_cluster)
                if node is None:
                    continue
                if doing == "running":
                    if node not in chunks:
                        chunks[node] = _chunks(run, node)
                    found = running.setdefault(lanes.unit(node).node, set())
                    found.update(chunks[node][proc : proc + 1])
                if doing == "held":
                    held.append(f"node {node}, job {job_cluster}.{proc}: {reason}")
                else:
                    active += 1
        state = watch.state
        if state is RunState.RUNNING and held and not active:
            state = RunState.HELD
        return Activity(state, watch.reason, running, tuple(held))

    def remove(self, run: Path, ticket: dict[str, Any], force: bool) -> None:
        """Remove the DAGMan job, which removes its jobs, and wait until they have left."""
        cluster = ticket["cluster"]
        mine = f"ClusterId == {cluster} || DAGManJobId == {cluster}"
        setup = Setup.of_ticket(ticket)
        with _mapped(f"removing cluster {cluster}"):
            with _reached(setup):
                schedd = htcondor2.Schedd()
                schedd.act(htcondor2.JobAction.Remove, f"ClusterId == {cluster}")
                if force:
                    schedd.act(htcondor2.JobAction.Remove, mine)
                    schedd.act(htcondor2.JobAction.RemoveX, mine)
            deadline = time.monotonic() + _REMOVE_TIMEOUT
            while _in_queue(setup, mine):
                if time.monotonic() > deadline:
                    raise BackendError(
                        f"cluster {cluster} was asked to go, but is still in the queue after "
                        f"{_REMOVE_TIMEOUT:g} s; try again with force"
                    )
                time.sleep(_REMOVE_QUESTION_EVERY)

    def slots(self) -> tuple[int, int]:
        """Ask the schedd whether it is there and the collector for the pool's CPUs and GPUs.

        In a process of its own: where no daemon answers the bindings wait for a minute, and no
        other thread goes on meanwhile.
        """
        setup = self._new_runs or Setup.current()
        own = OwnPool()
        if not setup.programs and own.is_running:
            setup = own.setup
        try:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", _COUNT_SLOTS],
                env=setup.variables(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_SLOTS_TIMEOUT,
                check=False,
            )
            cpus, gpus = map(int, done.stdout.split())
        except (OSError, ValueError, subprocess.TimeoutExpired):
            return 0, 0
        return cpus, gpus

    def _read_dagman(self, run: Path, ticket: dict[str, Any], watch: _Watch) -> None:
        if watch.dagman is None:
            watch.dagman = _event_log(run / f"{ticket['dag']}.dagman.log")
        if watch.dagman is None:
            return
        kinds = htcondor2.JobEventType
        for event in watch.dagman.events(stop_after=0):
            if event.cluster != ticket["cluster"]:
                continue
            if event.type == kinds.EXECUTE:
                watch.state, watch.reason = RunState.RUNNING, ""
            elif event.type in (kinds.JOB_RELEASED, kinds.JOB_EVICTED):
                watch.state, watch.reason = RunState.WAITING, ""
            elif event.type == kinds.JOB_HELD:
                watch.state, watch.reason = RunState.HELD, str(event.get("HoldReason", ""))
            elif event.type == kinds.JOB_ABORTED:
                watch.state, watch.reason = RunState.REMOVED, str(event.get("Reason", ""))
            elif event.type == kinds.JOB_TERMINATED:
                code = event.get("ReturnValue")
                watch.state = RunState.DONE if code == 0 else RunState.FAILED
                watch.reason = "" if code == 0 else _why_failed(run / f"{ticket['dag']}.dagman.out")

    def _read_nodes(self, run: Path, ticket: dict[str, Any], watch: _Watch) -> None:
        if watch.nodes is None:
            watch.nodes = _event_log(run / f"{ticket['dag']}.nodes.log")
        if watch.nodes is None:
            return
        kinds = htcondor2.JobEventType
        states = {
            kinds.SUBMIT: "idle",
            kinds.EXECUTE: "running",
            kinds.JOB_EVICTED: "idle",
            kinds.JOB_RELEASED: "idle",
            kinds.SHADOW_EXCEPTION: "idle",
            kinds.JOB_RECONNECT_FAILED: "idle",
        }
        for event in watch.nodes.events(stop_after=0):
            job = (event.cluster, event.proc)
            if event.type == kinds.SUBMIT:
                watch.node_of[event.cluster] = _node_name(event)
            if event.type in states:
                watch.jobs[job] = (states[event.type], "")
            elif event.type == kinds.JOB_HELD:
                watch.jobs[job] = ("held", str(event.get("HoldReason", "no reason given")))
            elif event.type in (kinds.JOB_TERMINATED, kinds.JOB_ABORTED):
                watch.jobs.pop(job, None)

    def _check_queue(self, run: Path, ticket: dict[str, Any], watch: _Watch) -> str:
        """Notice a DAGMan job that left the queue without a word in its log.

        Return why nothing goes on in that queue, if its pool was stopped.
        """
        now = time.monotonic()
        setup = Setup.of_ticket(ticket)
        stopped = _why_stopped(setup)
        if stopped:
            return stopped
        if watch.asked == 0.0:
            watch.asked = now
        if now - watch.asked < _QUEUE_CHECK_EVERY:
            return ""
        watch.asked = now
        try:
            found = _in_queue(setup, f"ClusterId == {ticket['cluster']}")
        except Exception:
            return ""  # the files suffice; whether the schedd answers is not the question here
        if not found:
            with _mapped(f"reading the event logs in {str(run)!r}"):
                self._read_dagman(run, ticket, watch)  # it may have ended a moment ago
        if not found and not watch.state.ended:
            watch.state = RunState.STOPPED
            watch.reason = "its DAGMan job is no longer in the queue"
        return ""


def _in_queue(setup: Setup, constraint: str) -> bool:
    with _reached(setup):
        return bool(htcondor2.Schedd().query(constraint=constraint, projection=["ClusterId"]))


def _why_stopped(setup: Setup) -> str:
    """Return "" unless it is a pool of one's own that does not run."""
    if not setup.own or setup.config is None:
        return ""
    folder = Path(setup.config).parent
    if OwnPool(folder).is_running:
        return ""
    if not folder.is_dir():
        return f"the pool that it was submitted to, in {str(folder)!r}, is gone"
    return f"the pool that it was submitted to, in {str(folder)!r}, is not running; {HOW_TO_START}"


@contextlib.contextmanager
def _reached(setup: Setup) -> Iterator[None]:
    """Work with an HTCondor, or say how it could be reached."""
    stopped = _why_stopped(setup)
    if stopped:
        raise BackendError(stopped)
    with using(setup):
        yield


def _event_log(path: Path) -> Any:
    """Return a reader of an event log, or None where there is none yet."""
    return htcondor2.JobEventLog(str(path)) if path.exists() else None


def _why_failed(path: Path) -> str:
    """Return what DAGMan's own log says of a failure that is not one of items; else ""."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return f"DAGMan left no {path.name}"
    refused = [
        f"node {node} could not be submitted: {_short_text(reason)}"
        for node, reason in _SUBMIT_FAILURE.findall(text)
    ]
    errors = [
        _short_text(line.partition("ERROR")[2].lstrip(": "))
        for line in text.splitlines()
        if "ERROR: " in line and "the following" not in line
    ]
    return "; ".join(dict.fromkeys(refused or errors[-3:]))


def _short_text(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 400 else text[:400] + " ..."


def _node_name(event: Any) -> str:
    """Return the DAGMan node of a submit event, which is told in its notes, by two forms."""
    notes = str(event.get("LogNotes", ""))
    match = _NODE_IN_NOTES.search(notes)
    return match[1] if match else notes.removeprefix("DAG Node: ").strip()


def _chunks(run: Path, node: str) -> list[int]:
    """Return the chunks of the jobs of a node or lane: those of a cluster are lines of its list."""
    text = (run / layout.chunk_list(*lanes.unit(node))).read_text(encoding="utf-8")
    return [int(line.split(",", 1)[0]) for line in text.splitlines()]


def _write_rescue(run: Path, dag: str) -> None:
    """Write the rescue DAG that tells DAGMan which nodes are done, by their records.

    DAGMan takes the rescue file with the highest number. It writes one itself when it ends badly;
    that one is the base here, but does not know of outcomes that were damaged since, nor is it
    there when DAGMan was killed.
    """
    plan = progress.read_plan(str(run))
    numbers = [int(match[1]) for path in run.iterdir() if (match := _RESCUE.fullmatch(path.name))]
    lines = [f"# Rescue DAG of {dag}, written by htdag to go on with what is left."]
    lines += [f"DONE {name}" for name in progress.prepare_rest(str(run), plan)]
    path = run / f"{dag}.rescue{max(numbers, default=0) + 1:03d}"
    layout.write_aside(str(path), ("\n".join(lines) + "\n").encode())


@contextlib.contextmanager
def _quiet_stdout() -> Iterator[None]:
    """Keep stdout for the user: the bindings print there, from C, which rescue DAG they take."""
    sys.stdout.flush()
    saved = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


@contextlib.contextmanager
def _mapped(doing: str) -> Iterator[None]:
    """Turn errors of the bindings into htdag's."""
    try:
        yield
    except BackendError:
        raise
    except (htcondor2.HTCondorException, OSError, RuntimeError, ValueError) as error:
        raise BackendError(f"HTCondor: {doing}: {_short(error)}") from error
