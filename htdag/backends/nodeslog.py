"""What DAGMan's log of its nodes' jobs tells: which run now, and which are on hold."""

from __future__ import annotations

from pathlib import Path

from htdag.backends.base import Activity, RunState
from htdag.backends.bindings import htcondor2
from htdag.backends.eventlog import EventLog
from htdag.runtime import lanes, layout, progress


class NodesLog:
    """The jobs of a DAG, and of the rounds of its loops; each look reads only what is new.

    Parameters
    ----------
    run : pathlib.Path
        The run directory, or that of a round.
    dag : str
        The name of its DAG file.
    """

    def __init__(self, run: Path, dag: str) -> None:
        self._run = run
        self._path = run / f"{dag}.nodes.log"
        nodes = progress.read_plan(str(run))["nodes"]
        self._loops = [node["name"] for node in nodes if node["mode"] == "loop"]
        self._rounds: dict[tuple[str, int], NodesLog] = {}
        self._begin()

    def _begin(self) -> None:
        self._log = EventLog(self._path)
        self._size = 0
        self._node_of: dict[int, str] = {}
        self._jobs: dict[tuple[int, int], tuple[str, str]] = {}

    def under_way(self, state: RunState, reason: str) -> tuple[Activity, int]:
        """Return what goes on, in a run that is in some state, and how many jobs are not held."""
        self._read()
        running: dict[str, set[int]] = {}
        rounds: dict[str, Activity] = {}
        held = []
        active = 0
        chunks: dict[str, list[int]] = {}  # each list is read once a look, not once a job
        for (cluster, proc), (doing, why) in self._jobs.items():
            node = self._node_of.get(cluster)
            if node is None:
                continue
            if doing == "running" and node not in self._loops:
                if node not in chunks:
                    chunks[node] = _chunks(self._run, node)
                found = running.setdefault(lanes.unit(node).node, set())
                found.update(chunks[node][proc : proc + 1])
            if doing == "held":
                held.append(f"node {node}, job {cluster}.{proc}: {why}")
            else:
                active += node not in self._loops  # the DAGMan of a round does not count
        for loop in self._loops:
            number = layout.last_round(str(self._run), loop)
            if number:
                log = self._of_round(loop, number)
                rounds[loop], more = log.under_way(state, reason)
                held += [_in_loop(loop, number, text) for text in rounds[loop].held]
                active += more
        return Activity(state, reason, running, tuple(held), rounds), active

    def _of_round(self, loop: str, number: int) -> NodesLog:
        if (loop, number) not in self._rounds:
            folder = self._run / layout.one_round(loop, number)
            self._rounds[loop, number] = NodesLog(folder, layout.ROUND_DAG)
        return self._rounds[loop, number]

    def _read(self) -> None:
        if not self._path.exists():
            return
        size = self._path.stat().st_size
        if size < self._size:
            self._begin()  # DAGMan began anew, with what is left
        self._size = size
        kinds = htcondor2.JobEventType
        states = {
            kinds.SUBMIT: "idle",
            kinds.EXECUTE: "running",
            kinds.JOB_EVICTED: "idle",
            kinds.JOB_RELEASED: "idle",
            kinds.SHADOW_EXCEPTION: "idle",
            kinds.JOB_RECONNECT_FAILED: "idle",
        }
        for event in self._log.events():
            job = (event.cluster, event.proc)
            if event.type == kinds.SUBMIT:
                self._node_of[event.cluster] = event.node
            if event.type in states:
                self._jobs[job] = (states[event.type], "")
            elif event.type == kinds.JOB_HELD:
                self._jobs[job] = ("held", str(event.get("HoldReason", "no reason given")))
            elif event.type in (kinds.JOB_TERMINATED, kinds.JOB_ABORTED):
                self._jobs.pop(job, None)


def _in_loop(loop: str, number: int, held: str) -> str:
    """Return what is said of a held job of a round, as said of the loop."""
    node, _, rest = held.removeprefix("node ").partition(", ")
    job, _, reason = rest.partition(": ")
    return f"node {loop}, {job}: round {number}, node {node}: {reason}"


def _chunks(run: Path, node: str) -> list[int]:
    """Return the chunks of the jobs of a node or lane: those of a cluster are lines of its list."""
    text = (run / layout.chunk_list(*lanes.unit(node))).read_text(encoding="utf-8")
    return [int(line.split(",", 1)[0]) for line in text.splitlines()]
