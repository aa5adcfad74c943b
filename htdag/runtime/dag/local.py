"""The local backend: run a run directory on this machine, as DAGMan and a pool would.

It is started as a detached process. A `Schedule` decides what comes next, and this module does it:
it forks a supervisor for each chunk, judges each node as the POST script would, and keeps the state
in a file. A lock tells whether it is alive; whatever happens to it, the run directory can be
resumed.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

from .. import lanes, layout, planfile, process
from ..job import worker
from ..lanes import Unit
from ..layout import NodeFiles, RunFiles
from ..task import requests_of
from . import final, judgement, looping, postlog, prepare, progress, schedule
from .schedule import Schedule, Task

if TYPE_CHECKING:
    from ..formats.plan import LocalState, NodeEntry, Plan


class _Stop(BaseException):
    """A signal requests the end of this run."""


def run_directory(run: str, cores: int) -> int:
    """Run what is left of a run directory, and return 0 if all of it is done.

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
    pool = _Pool(lock)
    state = "failed"
    message = ""
    try:
        import ctypes  # noqa: F401

        from ..code import pickling

        pickling.cloud()  # once here, not in every forked job

        under_way = _Run(pool, cores)
        under_way.run()
        failed = under_way.schedule.failed
        state = under_way.schedule.state
        message = ("failed: " + ", ".join(failed)) if failed else ""
        node = planfile.read(".").get("final")
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
    """Take the lock of the run directory, which others take briefly to check whether it is free."""
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
    content: LocalState = {
        "state": state,
        "pid": os.getpid(),
        "time": time.time(),
        "message": message,
    }
    try:
        layout.write_aside(layout.LOCAL_STATE, json.dumps(content).encode())
    except OSError:
        # A full disk. The old file has a block of its own, with room for the end of the message.
        content["message"] = message[-1000:]
        with open(layout.LOCAL_STATE, "r+b") as file:
            file.write(json.dumps(content).encode())
            file.truncate()


class _Pool:
    """The forked supervisors of jobs."""

    def __init__(self, lock: int) -> None:
        self._lock = lock
        self._running: Dict[int, Task] = {}
        self._since: Dict[int, float] = {}

    def start(self, task: Task, script: Optional[str], stems: List[str]) -> None:
        """Start a job, with the script of its environment if it has one."""
        signals = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        pid = process.fork()
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
                process.redirect(1, files.stdout)
                process.redirect(2, files.stderr)
                if script is None:
                    status = worker.work(task.unit.node, task.chunk, task.attempt)
                else:
                    _exec(script, task, stems)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        self._running[pid] = task
        self._since[pid] = time.time()
        self._note()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    def wait(self) -> Tuple[Task, int]:
        """Return the next job that ends, with its exit status."""
        while True:
            pid, status = os.wait()
            if pid in self._running:
                task = self._running.pop(pid)
                self._note()
                return task, status

    def _note(self) -> None:
        """Write down which process works on what."""
        jobs = [[pid, *_told(task), self._since[pid]] for pid, task in self._running.items()]
        layout.write_aside(layout.LOCAL_JOBS, json.dumps(jobs).encode(), sync=False)

    def cancel(self, run: str, unit: Unit) -> None:
        """Kill the jobs of one unit, as DAGMan removes the rest of a failed cluster."""
        for pid, task in list(self._running.items()):
            if (task.run, task.unit) == (run, unit):
                self._kill(pid)
                del self._running[pid]

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


def _told(task: Task) -> List[Any]:
    """Return node, lane and chunk of a job; of one in a round of a loop only the loop."""
    if task.run == ".":
        return [*task.unit, layout.chunk_name(task.chunk)]
    return [layout.loop_of(task.run), 0, None]


def _exec(script: str, task: Task, stems: List[str]) -> None:
    """Replace this process by a job in its environment, as HTCondor would start it."""
    chunk = layout.chunk_name(task.chunk)
    arguments = ["work", task.unit.node, chunk, str(task.attempt), *stems]
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.execv("/bin/sh", ["/bin/sh", script, *arguments])


class _Run:
    """Carries out the actions of a schedule, and reports their results to it."""

    def __init__(self, pool: _Pool, cores: int) -> None:
        self._pool = pool
        self._plans: Dict[str, Plan] = {}
        self.schedule = Schedule(".", *self._begun("."), cores)
        self._acts: Dict[Any, Callable[..., None]] = {
            schedule.Submit: self._submit,
            schedule.BeginRound: self._begin_round,
            schedule.Start: self._start,
            schedule.Cancel: self._pool.cancel,
            schedule.Judge: self._judge,
            schedule.JudgeRound: self._judge_round,
        }

    def run(self) -> None:
        """Run all units that can run."""
        halt = RunFiles(".").halt(self._plans["."]["name"] + ".dag")
        while True:
            self.schedule.halted = os.path.exists(halt)
            actions = self.schedule.next_actions()
            for action in actions:
                self._acts[type(action)](*action)
            if not actions:
                if not self.schedule.is_running:
                    return
                self.schedule.ended(*self._pool.wait())

    def _begun(self, run: str) -> Tuple[Plan, List[Unit]]:
        """Prepare a run, or a round; return its plan and the units of it that are done."""
        plan = self._plans[run] = planfile.read(run)
        if any(node["compares"] for node in plan["nodes"]):
            import importlib.metadata  # noqa: F401  (once here, not in every forked job)
        for node in plan["nodes"]:
            progress.finish_killed(run, node)
        return plan, [lanes.unit(name) for name in prepare.prepare_ready(run, plan)]

    def _node(self, run: str, unit: Unit) -> NodeEntry:
        return self._plans[run]["by_name"][unit.node]

    def _submit(self, run: str, unit: Unit) -> None:
        cpu_requests = requests_of(run, unit.node).get("request_cpus")
        cpus = self._node(run, unit)["request_cpus"] or 1
        jobs = []
        with open(NodeFiles(run, unit.node).chunk_list(unit.lane), encoding="utf-8") as file:
            for line in file:
                chunk, attempt, _ = line.split(", ", 2)
                jobs.append(
                    (int(chunk), int(attempt), cpu_requests[int(chunk)] if cpu_requests else cpus)
                )
        self.schedule.listed(run, unit, jobs)

    def _begin_round(self, run: str, unit: Unit) -> None:
        files = NodeFiles(run, unit.node)
        folder = files.round(files.last_round())
        self.schedule.begin(folder, *self._begun(folder), (run, unit))

    def _start(self, task: Task) -> None:
        node = self._node(task.run, task.unit)
        self._pool.start(task, node["environment"], node["files"])

    def _judge(self, run: str, unit: Unit, number: int, is_last: bool) -> None:
        """Judge a try of a unit, as its POST script would."""
        node = self._node(run, unit)
        plan = self._plans[run]
        verdict = judgement.judge(run, plan, node, last_try=is_last, lane=unit.lane)
        postlog.note(run, unit, "try %d: %s" % (number, verdict.text))
        if verdict.succeeded:
            self.schedule.judged(run, unit, schedule.DONE)
        elif is_last or verdict.hopeless:
            self.schedule.judged(run, unit, schedule.FAILED)
        else:
            self.schedule.judged(run, unit, schedule.AGAIN)

    def _judge_round(self, run: str, unit: Unit, failed: bool) -> None:
        """Judge a round of a loop, and make the next one."""
        plan = self._plans[run]
        verdict = looping.judge(run, plan, self._node(run, unit), 1 if failed else 0)
        postlog.note(run, unit, verdict.text)
        if verdict.status == looping.DONE:
            self.schedule.judged(run, unit, schedule.DONE)
        elif verdict.status == looping.AGAIN:
            self.schedule.judged(run, unit, schedule.AGAIN)
        else:
            self.schedule.judged(run, unit, schedule.FAILED)
