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

from .. import lanes, layout, process, requests
from ..job import worker
from ..lanes import Unit
from ..layout import NodeFiles, RunFiles
from . import final, judgement, looping, postlog, prepare, progress


class _Stop(BaseException):
    """A signal asked this run to end."""


class Task(NamedTuple):
    """One job of a node, or of a lane of it; ``run`` is the run directory, or that of a round."""

    run: str
    unit: Unit
    chunk: int
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
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # some parents ignore it: no child to wait for
    _write_state("running", "")
    os.write(say_ready, b"1")
    os.close(say_ready)
    pool = _Pool(cores, lock)
    state = "failed"
    message = ""
    try:
        import ctypes  # noqa: F401

        from ..code import pickling

        pickling.cloud()  # once here, not in every forked job

        scheduler = _Scheduler(pool)
        failed = scheduler.run()
        state = "failed" if failed else "halted" if scheduler.halted else "done"
        message = ("failed: " + ", ".join(failed)) if failed else ""
        node = progress.read_plan(".").get("final")
        if node is not None and state != "halted":
            final.final(node, 2 if failed else final.DONE)
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
    try:
        layout.write_aside(layout.LOCAL_STATE, json.dumps(content).encode())
    except OSError:
        # A full disk. The old file has a block of its own, with room for the end of the message.
        content["message"] = message[-1000:]
        with open(layout.LOCAL_STATE, "r+b") as file:
            file.write(json.dumps(content).encode())
            file.truncate()


class _Pool:
    """Forked supervisors, at most as many as there are cores for."""

    def __init__(self, cores: int, lock: int) -> None:
        self._free = self._cores = cores
        self._lock = lock
        self._running: Dict[int, Tuple[Task, int]] = {}
        self._since: Dict[int, float] = {}

    def fits(self, cpus: int) -> bool:
        return min(cpus, self._cores) <= self._free

    def start(self, task: Task, cpus: int, script: Optional[str], stems: List[str]) -> None:
        """Start a job, by the script of its environment where it has one."""
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
                os.chdir(task.run)
                files = NodeFiles("", task.unit.node).attempt(task.chunk, task.attempt)
                _redirect(1, files.stdout)
                _redirect(2, files.stderr)
                process.die_with_parent(me)
                if script is None:
                    status = worker.work(task.unit.node, task.chunk, task.attempt)
                else:
                    _exec(script, task, stems)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        self._running[pid] = (task, cpus)
        self._since[pid] = time.time()
        self._free -= cpus
        self._note()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    def wait(self) -> Tuple[Task, int]:
        """Return the next job that ends, with its exit status."""
        while True:
            pid, status = os.wait()
            if pid in self._running:
                task, cpus = self._running.pop(pid)
                self._free += cpus
                self._note()
                return task, status

    def _note(self) -> None:
        """Tell those who look which process works on what."""
        jobs = [[pid, *_told(task), self._since[pid]] for pid, (task, *_) in self._running.items()]
        layout.write_aside(layout.LOCAL_JOBS, json.dumps(jobs).encode(), sync=False)

    def cancel(self, run: str, unit: Unit) -> None:
        """Kill the jobs of one unit, as DAGMan removes the rest of a failed cluster."""
        for pid, (task, cpus) in list(self._running.items()):
            if (task.run, task.unit) == (run, unit):
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


def _told(task: Task) -> List[Any]:
    """Return node, lane and chunk of a job; of one in a round of a loop only the loop."""
    if task.run == ".":
        return [*task.unit, layout.chunk_name(task.chunk)]
    return [layout.loop_of(task.run), 0, None]


def _exec(script: str, task: Task, stems: List[str]) -> None:
    """Become a job in an environment of its own, as HTCondor would start it."""
    chunk = layout.chunk_name(task.chunk)
    arguments = ["work", task.unit.node, chunk, str(task.attempt), *stems]
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.execv("/bin/sh", ["/bin/sh", script, *arguments])


class _Scheduler:
    """Runs units whose parents are done, chunk by chunk, as DAGMan and a schedd do.

    A unit is "submitted" while it has open jobs; throttles count such units, as DAGMan's do. A
    loop is submitted while it has rounds, each of which has a scheduler of its own.
    """

    def __init__(self, pool: _Pool, run: str = ".") -> None:
        self._pool = pool
        self._run = run
        self._running: Dict[Unit, int] = {}
        self._plan = progress.read_plan(run)
        if any(node["compares"] for node in self._plan["nodes"]):
            import importlib.metadata  # noqa: F401  (once here, not in every forked job)
        self._queue: List[Task] = []
        self._open_jobs: Dict[Unit, int] = {}
        self._tries: Dict[Unit, int] = {}
        self.halted = False
        self._rounds: Dict[Unit, _Scheduler] = {}
        self.failed: List[str] = []
        self.stopped = False
        for node in self._plan["nodes"]:
            progress.finish_killed(run, node)
        self._done: Set[Unit] = set(map(lanes.unit, prepare.prepare_ready(run, self._plan)))
        units = [unit for node in self._plan["nodes"] for unit in lanes.units(node)]
        self._waiting = [unit for unit in units if unit not in self._done]

    def run(self) -> List[str]:
        """Run all units that can be; return the names of those that failed."""
        while self.goes_on():
            self.start_jobs()
            self.take(*self._pool.wait())
        return self.failed

    def _node(self, unit: Unit) -> Dict[str, Any]:
        node: Dict[str, Any] = self._plan["by_name"][unit.node]
        return node

    def goes_on(self) -> bool:
        """Submit the units that can be, by priority; return whether any has open jobs."""
        halt = os.path.exists(RunFiles(self._run).halt(self._plan["name"] + ".dag"))
        if not halt:
            self._submit_ready()
        ended = [unit for unit, made in self._rounds.items() if not made.goes_on()]
        for unit in ended:
            self._settle_round(unit)
        if ended and not self.stopped:
            return self.goes_on()
        self.halted = halt and bool(self._waiting)
        return bool(self._open_jobs) and not self.stopped

    def _submit_ready(self) -> None:
        for unit in sorted(self._waiting, key=lambda unit: -self._node(unit)["priority"]):
            ready = self._done.issuperset(lanes.parents(self._plan, unit))
            if ready and not self._is_throttled(unit):
                self._waiting.remove(unit)
                self._submit(unit)

    def _is_throttled(self, unit: Unit) -> bool:
        most = self._plan["max_jobs_submitted"]
        if most is not None and len(self._open_jobs) >= most:
            return True
        category = self._node(unit)["category"]
        limit = self._plan["maxjobs"].get(category)
        submitted = [unit for unit in self._open_jobs if self._node(unit)["category"] == category]
        return limit is not None and len(submitted) >= limit

    def _submit(self, unit: Unit) -> None:
        self._tries[unit] = self._tries.get(unit, 0) + 1
        if self._node(unit)["mode"] == "loop":
            self._open_jobs[unit] = 1
            number = NodeFiles(self._run, unit.node).last_round()
            folder = NodeFiles(self._run, unit.node).round(number)
            self._rounds[unit] = _Scheduler(self._pool, folder)
            return
        tasks = self._tasks(unit)
        self._queue.extend(tasks)
        self._queue.sort(key=lambda task: -self._job_priority(task.unit))
        self._open_jobs[unit] = len(tasks)

    def _tasks(self, unit: Unit) -> List[Task]:
        tasks = []
        with open(NodeFiles(self._run, unit.node).chunk_list(unit.lane), encoding="utf-8") as file:
            for line in file:
                chunk, attempt, _ = line.split(", ", 2)
                tasks.append(Task(self._run, unit, int(chunk), int(attempt)))
        return tasks

    def _job_priority(self, unit: Unit) -> int:
        node = self._node(unit)
        own = node["job_priority"]
        return int(node["priority"] if own is None else own)

    def start_jobs(self) -> None:
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
            self._pool.start(task, cpus, node["environment"], node["files"])
        for made in self._rounds.values():
            made.start_jobs()

    def take(self, task: Task, status: int) -> None:
        """Take note of the end of a job, here or in a round."""
        if task.run != self._run:
            for made in self._rounds.values():
                made.take(task, status)
            return
        unit = task.unit
        self._open_jobs[unit] -= 1
        self._running[unit] -= 1
        if status != 0 and self._node(unit)["on_error"] == "stop":
            self._pool.cancel(self._run, unit)
            self._running[unit] = 0
            self._queue[:] = [other for other in self._queue if other.unit != unit]
            self._open_jobs[unit] = 0
        if not self._open_jobs[unit]:
            del self._open_jobs[unit]
            self._settle(unit)

    def _settle(self, unit: Unit) -> None:
        """Judge a try of a unit and go on accordingly."""
        node = self._node(unit)
        last_try = self._tries[unit] > node["retries"]
        verdict = judgement.judge(self._run, self._plan, node, last_try=last_try, lane=unit.lane)
        postlog.note(self._run, unit, "try %d: %s" % (self._tries[unit], verdict.text))
        if verdict.succeeded:
            self._done.add(unit)
        elif last_try or verdict.hopeless:
            self._fail(unit)
        else:
            self._waiting.append(unit)

    def _settle_round(self, unit: Unit) -> None:
        """Judge a round of a loop, and begin the next one."""
        made = self._rounds.pop(unit)
        del self._open_jobs[unit]
        verdict = looping.judge(self._run, self._plan, self._node(unit), 1 if made.failed else 0)
        postlog.note(self._run, unit, verdict.text)
        if verdict.status == looping.DONE:
            self._done.add(unit)
        elif verdict.status == looping.AGAIN:
            self._waiting.append(unit)
        else:
            self._fail(unit)

    def _fail(self, unit: Unit) -> None:
        self.failed.append(unit.name)
        self.stopped = self.stopped or self._node(unit)["on_error"] == "stop"


def _cpus(node: Dict[str, Any], task: Task) -> int:
    asked = requests.of_chunks(task.run, task.unit.node).get("request_cpus")
    return asked[task.chunk] if asked else int(node["request_cpus"] or 1)
