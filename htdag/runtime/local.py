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

from . import layout, post, progress, requests, worker


class _Stop(BaseException):
    """A signal asked this run to end."""


class Task(NamedTuple):
    """One job of a node."""

    node: str
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
                _redirect(1, layout.stdout(*task))
                _redirect(2, layout.stderr(*task))
                worker.die_with_parent(me)
                status = worker.work(*task)
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

    def cancel(self, node: str) -> None:
        """Kill the jobs of one node, as DAGMan removes the rest of a failed cluster."""
        for pid, (task, cpus) in list(self._running.items()):
            if task.node == node:
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
    """Runs nodes whose parents are done, chunk by chunk, as DAGMan and a schedd do.

    A node is "submitted" while it has open jobs; throttles count such nodes, as DAGMan's do.
    """

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self._running: Dict[str, int] = {}
        self._plan = progress.read_plan(".")
        self._done: Set[str] = set()
        self._waiting: List[str] = []
        self._queue: List[Task] = []
        self._open_jobs: Dict[str, int] = {}
        self._tries: Dict[str, int] = {}

    def run(self) -> List[str]:
        """Run all nodes that can be; return the names of those that failed."""
        for node in self._plan["nodes"]:
            progress.close_killed(".", node)
        self._done.update(progress.prepare_rest(".", self._plan))
        self._waiting = [n["name"] for n in self._plan["nodes"] if n["name"] not in self._done]
        failed: List[str] = []
        while self._submit_ready():
            self._start_jobs()
            name = self._next_ended_node()
            if name is not None and not self._settle(name):
                failed.append(name)
                if self._plan["by_name"][name]["on_error"] == "stop":
                    break
        return failed

    def _submit_ready(self) -> bool:
        """Submit the nodes that can be, by priority; return whether any has open jobs."""
        by_name = self._plan["by_name"]
        for name in sorted(self._waiting, key=lambda name: -by_name[name]["priority"]):
            if set(by_name[name]["parents"]) <= self._done and not self._is_throttled(name):
                self._waiting.remove(name)
                self._submit(name)
        return bool(self._open_jobs)

    def _is_throttled(self, name: str) -> bool:
        most = self._plan["max_jobs_submitted"]
        if most is not None and len(self._open_jobs) >= most:
            return True
        by_name = self._plan["by_name"]
        category = by_name[name]["category"]
        limit = self._plan["maxjobs"].get(category)
        submitted = [other for other in self._open_jobs if by_name[other]["category"] == category]
        return limit is not None and len(submitted) >= limit

    def _submit(self, name: str) -> None:
        tasks = _tasks(name)
        self._queue.extend(tasks)
        self._queue.sort(key=lambda task: -self._job_priority(task.node))
        self._open_jobs[name] = len(tasks)
        self._tries[name] = self._tries.get(name, 0) + 1

    def _job_priority(self, name: str) -> int:
        node = self._plan["by_name"][name]
        own = node["job_priority"]
        return int(node["priority"] if own is None else own)

    def _start_jobs(self) -> None:
        """Start the first jobs of the queue, passing over nodes that have their most."""
        for task in list(self._queue):
            node = self._plan["by_name"][task.node]
            running = self._running.get(task.node, 0)
            if node["max_materialize"] is not None and running >= node["max_materialize"]:
                continue
            cpus = _cpus(node, task)
            if not self._pool.fits(cpus):
                break
            self._queue.remove(task)
            self._running[task.node] = running + 1
            self._pool.start(task, cpus)

    def _next_ended_node(self) -> Optional[str]:
        """Wait for a job; return its node if that was the last of it."""
        task, status = self._pool.wait()
        name = task.node
        self._open_jobs[name] -= 1
        self._running[name] -= 1
        if status != 0 and self._plan["by_name"][name]["on_error"] == "stop":
            self._pool.cancel(name)
            self._running[name] = 0
            self._queue[:] = [other for other in self._queue if other.node != name]
            self._open_jobs[name] = 0
        if self._open_jobs[name]:
            return None
        del self._open_jobs[name]
        return name

    def _settle(self, name: str) -> bool:
        """Judge a try of a node and go on accordingly; return False where it has failed."""
        node = self._plan["by_name"][name]
        last_try = self._tries[name] > node["retries"]
        verdict = progress.judge(".", self._plan, node, last_try=last_try)
        post.note(".", name, "try %d: %s" % (self._tries[name], verdict.text))
        if verdict.succeeded:
            self._done.add(name)
            return True
        if last_try:
            return False
        self._waiting.append(name)
        return True


def _cpus(node: Dict[str, Any], task: Task) -> int:
    asked = requests.of_chunks(".", task.node).get("request_cpus")
    return asked[int(task.chunk)] if asked else int(node["request_cpus"] or 1)


def _tasks(name: str) -> List[Task]:
    tasks = []
    with open(layout.chunk_list(name), encoding="utf-8") as file:
        for line in file:
            chunk, attempt, _ = line.split(", ", 2)
            tasks.append(Task(name, chunk, int(attempt)))
    return tasks
