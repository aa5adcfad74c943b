"""The schedule of a local run, as DAGMan and a schedd decide, without files, processes or clock.

It is a state machine: it receives events (a list was read, a job has ended, a unit was judged), and
returns actions. All that it knows about nodes is in their plans.
"""

from __future__ import annotations

from typing import (
    TYPE_CHECKING,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Set,
    Tuple,
    Union,
)

from .. import lanes
from ..lanes import Unit

if TYPE_CHECKING:
    from ..formats.plan import NodeEntry, Plan


class Task(NamedTuple):
    """One job of a node, or of a lane of it; ``run`` is the run directory, or that of a round."""

    run: str
    unit: Unit
    chunk: int
    attempt: int
    cpus: int


class Submit(NamedTuple):
    """Read the list of a unit, and tell its jobs by `Schedule.listed`."""

    run: str
    unit: Unit


class BeginRound(NamedTuple):
    """Tell the plan of the round of a loop that is next, by `Schedule.begin`."""

    run: str
    unit: Unit


class Start(NamedTuple):
    """Start a job, and tell its end by `Schedule.ended`."""

    task: Task


class Cancel(NamedTuple):
    """Kill the jobs of a unit, as DAGMan removes the rest of a failed cluster."""

    run: str
    unit: Unit


class Judge(NamedTuple):
    """Judge a try of a unit, none of whose jobs is running; tell it by `Schedule.judged`."""

    run: str
    unit: Unit
    number: int  # of the try, from 1
    is_last: bool


class JudgeRound(NamedTuple):
    """Judge a round of a loop, and tell that by `Schedule.judged`."""

    run: str
    unit: Unit
    failed: bool


Action = Union[Submit, BeginRound, Start, Cancel, Judge, JudgeRound]

DONE, AGAIN, FAILED = "done", "again", "failed"
"""What a judgement makes of a unit."""


class _Dag:
    """The state of one DAG: of the run, or of a round of a loop.

    A unit is "submitted" while it has open jobs; throttles count such units, as DAGMan's do. A
    loop is submitted while it has a round, which is a DAG of its own.
    """

    def __init__(self, plan: Plan, done: Iterable[Unit], loop: Optional[Tuple[str, Unit]]) -> None:
        self.plan = plan
        self.loop = loop
        self.done: Set[Unit] = set(done)
        units = [unit for node in plan["nodes"] for unit in lanes.units(node)]
        self.waiting = [unit for unit in units if unit not in self.done]
        self.open_jobs: Dict[Unit, int] = {}
        self.running: Dict[Unit, int] = {}
        self.tries: Dict[Unit, int] = {}
        self.queue: List[Task] = []
        self.failed: List[str] = []
        self.stopped = False

    def node(self, unit: Unit) -> NodeEntry:
        return self.plan["by_name"][unit.node]

    def next_units(self) -> Iterator[Unit]:
        """Yield the units that can be submitted, by priority, and note that they are."""
        for unit in sorted(self.waiting, key=lambda unit: -self.node(unit)["priority"]):
            ready = self.done.issuperset(lanes.parents(self.plan, unit))
            if ready and not self._is_throttled(unit):
                self.waiting.remove(unit)
                self.tries[unit] = self.tries.get(unit, 0) + 1
                self.open_jobs[unit] = 1  # until it is known how many it has
                yield unit

    def _is_throttled(self, unit: Unit) -> bool:
        most = self.plan["max_jobs_submitted"]
        if most is not None and len(self.open_jobs) >= most:
            return True
        category = self.node(unit)["category"]
        limit = None if category is None else self.plan["maxjobs"].get(category)
        submitted = [unit for unit in self.open_jobs if self.node(unit)["category"] == category]
        return limit is not None and len(submitted) >= limit

    def next_tasks(self, free: int) -> Iterator[Task]:
        """Yield the first jobs of the queue, passing over nodes at their limit."""
        position = 0
        while position < len(self.queue):
            task = self.queue[position]
            running = self.running.get(task.unit, 0)
            most = self.node(task.unit)["max_materialize"]
            if most is not None and running >= most:
                position += 1
                continue
            if task.cpus > free:
                return
            del self.queue[position]
            self.running[task.unit] = running + 1
            free -= task.cpus
            yield task

    def job_priority(self, unit: Unit) -> int:
        node = self.node(unit)
        priority = node["job_priority"]
        return node["priority"] if priority is None else priority

    def fail(self, unit: Unit) -> None:
        self.failed.append(unit.name)
        self.stopped = self.stopped or self.node(unit)["on_error"] == "stop"


class Schedule:
    """The active units and jobs of a run and of the rounds of its loops, and what comes next.

    Parameters
    ----------
    run : str
        The run directory.
    plan : dict
        Its plan.
    done : iterable of Unit
        The units that are done already.
    cores : int
        How many CPUs there are; a job that requests more gets all of them.
    """

    def __init__(self, run: str, plan: Plan, done: Iterable[Unit], cores: int) -> None:
        self._cores = self._free = cores
        self._root = run
        self._dags = {run: _Dag(plan, done, None)}
        self._running: Set[Task] = set()
        self._actions: List[Action] = []
        self.halted = False
        """Whether no further units will be submitted."""

    @property
    def failed(self) -> List[str]:
        """The names of the units that failed."""
        return self._dags[self._root].failed

    @property
    def state(self) -> str:
        """The state of the run, once nothing is left to do."""
        if self.failed:
            return "failed"
        return "halted" if self.halted and self._dags[self._root].waiting else "done"

    @property
    def is_running(self) -> bool:
        """Whether any job is running."""
        return bool(self._running)

    def submitted(self, run: str) -> List[Unit]:
        """Return the submitted units of a DAG; none if that is over."""
        return list(self._dags[run].open_jobs) if run in self._dags else []

    # What has happened

    def begin(self, run: str, plan: Plan, done: Iterable[Unit], loop: Tuple[str, Unit]) -> None:
        """Begin a round of a loop, which is named by its own DAG and unit."""
        self._dags[run] = _Dag(plan, done, loop)

    def listed(self, run: str, unit: Unit, jobs: Iterable[Tuple[int, int, int]]) -> None:
        """Note the jobs of a submitted unit: the chunk, the attempt and the CPUs."""
        dag = self._dags[run]
        tasks = [
            Task(run, unit, chunk, attempt, min(cpus, self._cores)) for chunk, attempt, cpus in jobs
        ]
        dag.queue.extend(tasks)
        dag.queue.sort(key=lambda task: -dag.job_priority(task.unit))
        dag.open_jobs[unit] = len(tasks)
        if not tasks:
            self._close(run, dag, unit)

    def ended(self, task: Task, status: int) -> None:
        """Note the end of a job."""
        self._running.remove(task)
        self._free += task.cpus
        dag = self._dags[task.run]
        dag.open_jobs[task.unit] -= 1
        dag.running[task.unit] -= 1
        if status != 0 and dag.node(task.unit)["on_error"] == "stop":
            self._cancel(task.run, dag, task.unit)
        if not dag.open_jobs[task.unit]:
            self._close(task.run, dag, task.unit)

    def judged(self, run: str, unit: Unit, verdict: str) -> None:
        """Note the judgement of a unit, or of a round of it."""
        dag = self._dags[run]
        if verdict == DONE:
            dag.done.add(unit)
        elif verdict == AGAIN:
            dag.waiting.append(unit)
        else:
            dag.fail(unit)
            if dag.stopped:
                self._stop(run, dag)

    # What is next

    def next_actions(self) -> List[Action]:
        """Return the next actions in order; none while jobs have to end, or if all is over.

        Carry all of them out and report their results before the next call.
        """
        if not self._actions:
            self._submit()
        if not self._actions:
            self._start()
        actions, self._actions = self._actions, []
        return actions

    def _submit(self) -> None:
        for run, dag in list(self._dags.items()):
            if not dag.stopped and not (self.halted and run == self._root):
                for unit in dag.next_units():
                    loop = dag.node(unit)["mode"] == "loop"
                    self._actions.append(BeginRound(run, unit) if loop else Submit(run, unit))
            if not dag.open_jobs and dag.loop is not None:
                del self._dags[run]
                outer, unit = dag.loop
                del self._dags[outer].open_jobs[unit]
                self._actions.append(JudgeRound(outer, unit, bool(dag.failed)))

    def _start(self) -> None:
        for dag in self._dags.values():
            for task in dag.next_tasks(self._free):
                self._free -= task.cpus
                self._running.add(task)
                self._actions.append(Start(task))

    def _close(self, run: str, dag: _Dag, unit: Unit) -> None:
        """Request the judgement of a unit whose jobs have all ended."""
        del dag.open_jobs[unit]
        number = dag.tries[unit]
        self._actions.append(Judge(run, unit, number, number > dag.node(unit)["retries"]))

    def _cancel(self, run: str, dag: _Dag, unit: Unit) -> None:
        """Drop what is left of a unit's jobs."""
        for task in [each for each in self._running if (each.run, each.unit) == (run, unit)]:
            self._running.remove(task)
            self._free += task.cpus
        dag.running[unit] = dag.open_jobs[unit] = 0
        dag.queue[:] = [task for task in dag.queue if task.unit != unit]
        self._actions.append(Cancel(run, unit))

    def _stop(self, run: str, dag: _Dag) -> None:
        """End all active units of a DAG, and of the rounds of its loops."""
        for unit in list(dag.open_jobs):
            for inner, other in list(self._dags.items()):
                if other.loop == (run, unit):
                    self._stop(inner, other)
                    del self._dags[inner]
            self._cancel(run, dag, unit)
            del dag.open_jobs[unit]
