"""Run a run directory on this machine: what DAGMan and a pool do, in processes.

Started detached by the local backend. It forks a supervisor for each chunk, keeps as many as there
are cores, judges each node as the POST script would, and keeps its state in a file. A lock tells
whether it lives; whatever happens to it, the run directory stays one that can be resumed.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
import traceback
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

from . import lanes, layout, post, progress, requests, worker
from .lanes import Unit


class _Stop(BaseException):
    """A signal asked this run to end."""


class Task(NamedTuple):
    """One job of a node, or of a lane of it."""

    unit: Unit
    chunk: str
    attempt: int


def run_directory(run: str, cores: int) -> int:
    """Run what is left of a run directory and return 0 when all of it is done.

    Parameters
    ----------
    run : str
        The run directory.
    cores : int
        How many CPUs to use at a time; a job counts as its ``request_cpus``.
    """
    os.chdir(run)
    lock = _lock()
    if lock is None:
        print("another process runs %s already" % run, file=sys.stderr)
        return 2
    sys.stdout.flush()
    ready, say_ready = os.pipe()
    if os.fork():
        # The lock stays with the process that goes on. This one tells that it can be stopped.
        os.close(say_ready)
        os._exit(0 if os.read(ready, 1) else 1)
    os.close(ready)
    os.setsid()
    signal.signal(signal.SIGTERM, _on_signal)
    signal.signal(signal.SIGINT, _on_signal)
    _write_state("running", "")
    os.write(say_ready, b"1")
    os.close(say_ready)
    pool = _Pool(cores, lock)
    state = "failed"
    message = ""
    try:
        import ctypes  # noqa: F401

        import cloudpickle  # noqa: F401  (once here, not in every forked job)

        failed = _Scheduler(pool).run()
        state = "failed" if failed else "done"
        message = ("failed: " + ", ".join(failed)) if failed else ""
    except _Stop:
        state = "removed"
    except BaseException:
        message = traceback.format_exc()
        print(message, file=sys.stderr)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        pool.kill()
        _write_state(state, message)
    return 0 if state == "done" else 1


def _lock() -> Optional[int]:
    """Take the lock of the run directory; who only looks whether it is taken holds it briefly."""
    lock = os.open(layout.LOCAL_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(40):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.05)
        else:
            return lock
    return None


def _on_signal(number: int, frame: Any) -> None:
    raise _Stop


def _write_state(state: str, message: str) -> None:
    content = {"state": state, "pid": os.getpid(), "time": time.time(), "message": message}
    layout.write_aside(layout.LOCAL_STATE, json.dumps(content).encode())


class _Pool:
    """Forked supervisors, at most as many as there are cores for."""

    def __init__(self, cores: int, lock: int) -> None:
        self._free = self._cores = cores
        self._lock = lock
        self._running: Dict[int, Tuple[Task, int]] = {}

    def fits(self, cpus: int) -> bool:
        return min(cpus, self._cores) <= self._free

    def start(self, task: Task, cpus: int) -> None:
        cpus = min(cpus, self._cores)
        signals = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        me = os.getpid()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
                os.setsid()
                os.close(self._lock)
                job = (task.unit.node, task.chunk, task.attempt)
                _redirect(1, layout.stdout(*job))
                _redirect(2, layout.stderr(*job))
                worker.die_with_parent(me)
                status = worker.work(*job)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        self._running[pid] = (task, cpus)
        self._free -= cpus
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    def wait(self) -> Tuple[Task, int]:
        """Return the next job that ends, with its exit status."""
        while True:
            pid, status = os.wait()
            if pid in self._running:
                task, cpus = self._running.pop(pid)
                self._free += cpus
                return task, status

    def cancel(self, unit: Unit) -> None:
        """Kill the jobs of one unit, as DAGMan removes the rest of a failed cluster."""
        for pid, (task, cpus) in list(self._running.items()):
            if task.unit == unit:
                self._kill(pid)
                del self._running[pid]
                self._free += cpus

    def kill(self) -> None:
        for pid in list(self._running):
            self._kill(pid)
        self._running.clear()

    @staticmethod
    def _kill(pid: int) -> None:
        # The function's process dies with its supervisor; what it started is in the same session.
        for send in (os.killpg, os.kill):
            try:
                send(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            return


def _redirect(descriptor: int, path: str) -> None:
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    os.dup2(target, descriptor)
    os.close(target)


class _Scheduler:
    """Runs units whose parents are done, chunk by chunk, as DAGMan and a schedd do.

    A unit is "submitted" while it has open jobs; throttles count such units, as DAGMan's do.
    """

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self._running: Dict[Unit, int] = {}
        self._plan = progress.read_plan(".")
        self._done: Set[Unit] = set()
        self._waiting: List[Unit] = []
        self._queue: List[Task] = []
        self._open_jobs: Dict[Unit, int] = {}
        self._tries: Dict[Unit, int] = {}

    def run(self) -> List[str]:
        """Run all units that can be; return the names of those that failed."""
        for node in self._plan["nodes"]:
            progress.close_killed(".", node)
        self._done.update(map(lanes.unit, progress.prepare_rest(".", self._plan)))
        units = [unit for node in self._plan["nodes"] for unit in lanes.units(node)]
        self._waiting = [unit for unit in units if unit not in self._done]
        failed: List[str] = []
        while self._submit_ready():
            self._start_jobs()
            unit = self._next_ended()
            if unit is not None and not self._settle(unit):
                failed.append(unit.name)
                if self._node(unit)["on_error"] == "stop":
                    break
        return failed

    def _node(self, unit: Unit) -> Dict[str, Any]:
        node: Dict[str, Any] = self._plan["by_name"][unit.node]
        return node

    def _submit_ready(self) -> bool:
        """Submit the units that can be, by priority; return whether any has open jobs."""
        for unit in sorted(self._waiting, key=lambda unit: -self._node(unit)["priority"]):
            ready = self._done.issuperset(lanes.parents(self._plan, unit))
            if ready and not self._is_throttled(unit):
                self._waiting.remove(unit)
                self._submit(unit)
        return bool(self._open_jobs)

    def _is_throttled(self, unit: Unit) -> bool:
        most = self._plan["max_jobs_submitted"]
        if most is not None and len(self._open_jobs) >= most:
            return True
        category = self._node(unit)["category"]
        limit = self._plan["maxjobs"].get(category)
        submitted = [unit for unit in self._open_jobs if self._node(unit)["category"] == category]
        return limit is not None and len(submitted) >= limit

    def _submit(self, unit: Unit) -> None:
        tasks = _tasks(unit)
        self._queue.extend(tasks)
        self._queue.sort(key=lambda task: -self._job_priority(task.unit))
        self._open_jobs[unit] = len(tasks)
        self._tries[unit] = self._tries.get(unit, 0) + 1

    def _job_priority(self, unit: Unit) -> int:
        node = self._node(unit)
        own = node["job_priority"]
        return int(node["priority"] if own is None else own)

    def _start_jobs(self) -> None:
        """Start the first jobs of the queue, passing over nodes that have their most."""
        for task in list(self._queue):
            node = self._node(task.unit)
            running = self._running.get(task.unit, 0)
            if node["max_materialize"] is not None and running >= node["max_materialize"]:
                continue
            cpus = _cpus(node, task)
            if not self._pool.fits(cpus):
                break
            self._queue.remove(task)
            self._running[task.unit] = running + 1
            self._pool.start(task, cpus)

    def _next_ended(self) -> Optional[Unit]:
        """Wait for a job; return its unit if that was the last of it."""
        task, status = self._pool.wait()
        unit = task.unit
        self._open_jobs[unit] -= 1
        self._running[unit] -= 1
        if status != 0 and self._node(unit)["on_error"] == "stop":
            self._pool.cancel(unit)
            self._running[unit] = 0
            self._queue[:] = [other for other in self._queue if other.unit != unit]
            self._open_jobs[unit] = 0
        if self._open_jobs[unit]:
            return None
        del self._open_jobs[unit]
        return unit

    def _settle(self, unit: Unit) -> bool:
        """Judge a try of a unit and go on accordingly; return False where it has failed."""
        node = self._node(unit)
        last_try = self._tries[unit] > node["retries"]
        verdict = progress.judge(".", self._plan, node, last_try=last_try, lane=unit.lane)
        post.note(".", unit, "try %d: %s" % (self._tries[unit], verdict.text))
        if verdict.succeeded:
            self._done.add(unit)
            return True
        if last_try:
            return False
        self._waiting.append(unit)
        return True


def _cpus(node: Dict[str, Any], task: Task) -> int:
    asked = requests.of_chunks(".", task.unit.node).get("request_cpus")
    return asked[int(task.chunk)] if asked else int(node["request_cpus"] or 1)


def _tasks(unit: Unit) -> List[Task]:
    tasks = []
    with open(layout.chunk_list(*unit), encoding="utf-8") as file:
        for line in file:
            chunk, attempt, _ = line.split(", ", 2)
            tasks.append(Task(unit, chunk, int(attempt)))
    return tasks
