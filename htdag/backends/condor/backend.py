"""The HTCondor backend, where DAGMan runs a run directory."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from htdag.backends import descriptions, pending
from htdag.backends.base import HOW_TO_START, Activity, JobState, QueueFacts, RunState
from htdag.backends.condor import abilities, capacity, session
from htdag.backends.condor import queue as jobs
from htdag.backends.condor import tail as peek
from htdag.backends.condor.bindings import htcondor2, message_of, ping, using
from htdag.backends.condor.own_pool import OwnPool
from htdag.backends.condor.run_log import RunLog
from htdag.backends.condor.session import connected, translated_errors, why_stopped
from htdag.backends.condor.setup import Setup
from htdag.backends.tickets import Foreseen, Ticket
from htdag.compile.scheduler import ANY, Scheduler
from htdag.config.directories import check_for_dagman
from htdag.config.log import LOGGER
from htdag.errors import BackendError
from htdag.runtime import layout, planfile
from htdag.runtime.dag import prepare
from htdag.runtime.layout import NodeFiles

_NO_NAME = re.compile(r'["\\$]')  # they have a special meaning in a batch name
_RESCUE = re.compile(r".*\.rescue(\d{3,})")
_QUEUE_CHECK_INTERVAL = 15.0  # seconds between queries of the schedd during a wait
_REMOVE_TIMEOUT = 120.0
_REMOVE_CHECK_INTERVAL = 0.5
_USE_DAG_DIR = re.compile(r" -UseDagDir\b", re.IGNORECASE)


def why_unusable(setup: Setup | None = None) -> str:
    """Return why runs cannot be submitted to an HTCondor; "" if they can.

    Parameters
    ----------
    setup : Setup, optional
        The HTCondor; by default the one that is configured on this machine.
    """
    if os.getuid() == 0:
        return "HTCondor refuses the jobs of root"
    try:
        with using(setup):
            ping()
            if shutil.which("condor_dagman") is None:
                return "HTCondor answers, but its program condor_dagman is not on PATH"
    except Exception as error:
        return f"no HTCondor schedd answers here ({message_of(error)})"
    return ""


def never_usable() -> bool:
    """Return whether no run can be submitted from here, without querying any daemon."""
    return os.getuid() == 0 or (shutil.which("condor_dagman") is None and not OwnPool().is_running)


def local_scheduler() -> Scheduler:
    """Return the capabilities of the HTCondor on this machine, whether it answers or not.

    It is the configured one, or else the user's own pool if that is running.
    """
    setup = Setup.current()
    if not setup.programs:
        pool = OwnPool()
        if not pool.is_running:
            return ANY
        setup = pool.setup
    with using(setup):
        return abilities.scheduler()


def find() -> tuple[Setup | None, str]:
    """Return the HTCondor for new runs and its name; None and the reason if there is none.

    It is the one configured on this machine if its schedd answers, or else the user's own pool if
    that is running.
    """
    problem = why_unusable()
    if not problem:
        setup = Setup.current()
        return setup, _pool_name(Path(str(setup.config)).parent) if setup.own else schedd_name()
    pool = OwnPool()
    if not pool.is_running:
        hint = f"; your own pool is not running, {HOW_TO_START}" if pool.config.exists() else ""
        return None, problem + hint
    pool_problem = why_unusable(pool.setup)
    if pool_problem:
        return None, f"your own pool in {str(pool.path)!r} is running, but {pool_problem}"
    return pool.setup, _pool_name(pool.path)


def _pool_name(directory: Path) -> str:
    return f"your own pool, in {str(directory)!r}"


def schedd_name() -> str:
    """Return the name of the schedd configured on this machine."""
    with contextlib.suppress(Exception):
        return str(htcondor2.Collector().locate(htcondor2.DaemonType.Schedd)["Name"])
    return "the local schedd"


_COMPOUND_ACTIONS = {"pause": jobs.pause, "continue": jobs.continue_}


class CondorBackend:
    """A backend that runs a run directory as a DAGMan workflow of the local schedd.

    Parameters
    ----------
    setup : Setup, optional
        The HTCondor for new runs; by default the result of `find`. Old runs stay where they are.
    """

    name = "condor"
    # With HTCondor's default settings: two scans of DAGMan's log, and a negotiation cycle.
    turn = 20.0

    def __init__(self, setup: Setup | None = None) -> None:
        self._new_runs = setup
        self._logs: dict[tuple[Path, int], RunLog] = {}

    def check_directory(self, directory: Path) -> None:
        """Raise `DirectoryError` for a directory that DAGMan would refuse."""
        check_for_dagman(directory)

    def finds_packages(self) -> bool:
        """Return whether jobs find this very Python: in the user's own pool if it started that."""
        self._new_runs = self._new_runs or find()[0]
        if self._new_runs is None or not self._new_runs.own or self._new_runs.config is None:
            return False
        folder = os.path.dirname(sys.executable)
        return f"PATH='{folder}:" in Path(self._new_runs.config).read_text(encoding="utf-8")

    def scheduler(self, before: Ticket | None = None) -> Scheduler:
        """Return the capabilities of the HTCondor that a run goes to."""
        with using(self._setup(before)):
            return abilities.scheduler()

    def _setup(self, before: Ticket | None) -> Setup:
        """Return the HTCondor to submit to: that of an earlier submission, or that of new runs."""
        if before is not None:
            return Setup.of_ticket(before)
        self._new_runs = self._new_runs or find()[0]
        return self._new_runs or Setup.current()

    def foreseen(self, dag: str, before: Ticket | None) -> Foreseen:
        """Return where the DAG goes; the log of the DAGMan job will have its cluster."""
        cluster = None if before is None else before["cluster"]
        setup = self._setup(before).to_ticket()
        return {"cluster": None, "before": cluster, "dag": dag, "htcondor": setup}

    def finish_removal(self, run: Path, ticket: Ticket) -> None:
        """Finish a removal that the schedd did not answer."""
        with translated_errors(f"removing cluster {ticket['cluster']}"):
            jobs.finish_removal(Setup.of_ticket(ticket), run, ticket["cluster"])

    def submit(self, run: Path, dag: str, before: Ticket | None = None) -> Ticket:
        """Submit the DAG, with a rescue DAG if parts of it are done."""
        if os.getuid() == 0:
            raise BackendError("HTCondor refuses the jobs of root; submit as an ordinary user")
        setup = self._setup(before)
        # The jobs of nodes inherit the batch name of DAGMan's, so condor_q shows the tag.
        name = _NO_NAME.sub("_", run.name)
        options: dict[str, Any] = {"UseDagDir": True, "AutoRescue": 1, "BatchName": name}
        first = not (run / f"{dag}.condor.sub").exists()
        if before is not None:
            self.finish_removal(run, before)
        jobs.halt(run, dag, False)
        descriptions.release(run)
        if not first:
            session.wait_for_dagman(run / dag)
            pending.restore_post_scripts(run, dag)
            options["UpdateSubmit"] = True
        with translated_errors(f"submitting {str(run / dag)!r}"), connected(setup):
            rescued = not first or _has_outcomes(run)
            if rescued:
                _write_rescue(run, dag)
            # The bindings print only with a rescue DAG; other threads may be using stdout.
            with _quiet_stdout() if rescued else contextlib.nullcontext():
                description = htcondor2.Submit.from_dag(str(run / dag), options)
            if planfile.loops_of(planfile.read(str(run))):
                # The node of a loop has a DIR, which DAGMan refuses together with UseDagDir.
                description["arguments"] = _USE_DAG_DIR.sub("", description["arguments"])
                description["initialdir"] = str(run)
            result = htcondor2.Schedd().submit(description)
        return {"cluster": int(result.cluster()), "dag": dag, "htcondor": setup.to_ticket()}

    def activity(self, run: Path, ticket: Ticket) -> Activity:
        """Return the activity from the event logs; query the schedd only now and then."""
        log = self._log(run, ticket)
        if jobs.is_abandoned(run, ticket["cluster"]) and not log.state.ended:
            return self._abandoned(run, ticket, log)
        if not log.state.ended:
            stopped = self._check_queue(run, ticket, log)
            if stopped:
                return Activity(RunState.HELD, stopped)
        if log.state.ended:
            return Activity(log.state, log.reason)
        current, active = jobs.activity(log, log.state, log.reason)
        if log.state is RunState.RUNNING and current.held and not active:
            current = replace(current, state=RunState.HELD)
        return replace(current, halted=jobs.is_halted(run, ticket["dag"]))

    def _log(self, run: Path, ticket: Ticket) -> RunLog:
        """Return the logs of a run, read to their end."""
        cluster = ticket["cluster"]
        log = self._logs.get((run, cluster))
        if log is None:
            log = self._logs[run, cluster] = RunLog(run, ticket["dag"], cluster)
        with translated_errors(f"reading the event logs in {str(run)!r}"):
            log.read()
        return log

    def _abandoned(self, run: Path, ticket: Ticket, log: RunLog) -> Activity:
        """Return the activity of a run that was removed while its schedd did not answer.

        As soon as the schedd answers again, this removes the jobs.
        """
        now = time.monotonic()
        if now - log.asked >= _QUEUE_CHECK_INTERVAL:
            log.asked = now
            try:
                jobs.finish_removal(Setup.of_ticket(ticket), run, ticket["cluster"])
            except Exception as error:  # the next call tries again
                LOGGER.info("the schedd did not answer about %s: %s", run, message_of(error))
        if jobs.is_abandoned(run, ticket["cluster"]):
            return Activity(RunState.REMOVED, jobs.ABANDONED)
        log.read()
        return Activity(RunState.REMOVED, log.reason)

    def jobs(self, run: Path, ticket: Ticket, ask: bool) -> tuple[JobState, ...]:
        """Return the jobs in the queue, from the event log and, with `ask`, from the schedd."""
        log = self._log(run, ticket)
        if ask and not log.state.ended:
            with translated_errors(f"asking for the jobs of cluster {ticket['cluster']}"):
                self._reconcile(ticket, log)
        if log.state.ended:
            return ()
        return jobs.listed(log)

    def _reconcile(self, ticket: Ticket, log: RunLog) -> None:
        """Update the jobs of a log from the schedd, since the event log may be behind."""
        now = time.time()
        with connected(Setup.of_ticket(ticket)):
            jobs.reconcile(log, ticket["cluster"], now)

    def act(
        self,
        run: Path,
        ticket: Ticket,
        action: str,
        nodes: list[str],
        which: list[JobState] | None,
    ) -> int:
        """Act on all or some jobs of nodes; return how many jobs that affected."""
        setup = Setup.of_ticket(ticket)
        with (
            translated_errors(f"asking to {action} jobs of cluster {ticket['cluster']}"),
            connected(setup),
        ):
            if action == "release" and which is None:
                jobs.release_dagman(ticket["cluster"])
            number = _COMPOUND_ACTIONS.get(action, partial(jobs.act, action=action))(
                ticket["cluster"], nodes=nodes, which=which
            )
            # The event log is a moment late, but the next call should show the effect.
            self._reconcile(ticket, self._log(run, ticket))
        return number

    def edit(
        self,
        run: Path,
        ticket: Ticket,
        nodes: list[str],
        inside: set[str],
        attributes: dict[str, str],
    ) -> int:
        """Change attributes of the jobs of nodes, also of later ones; return how many."""
        setup = Setup.of_ticket(ticket)
        with translated_errors(f"editing jobs of cluster {ticket['cluster']}"), connected(setup):
            return jobs.edit(setup, ticket["cluster"], nodes, inside, attributes)

    def halt(self, run: Path, ticket: Ticket, on: bool) -> None:
        """Keep further nodes from being submitted, or let them be submitted again."""
        jobs.halt(run, ticket["dag"], on)

    def facts(self, run: Path, ticket: Ticket) -> QueueFacts:
        """Return the facts from schedd and collector that decide whether jobs get a slot."""
        setup = Setup.of_ticket(ticket)
        with translated_errors("asking why jobs wait"), connected(setup):
            return jobs.facts(ticket["cluster"])

    def remove(self, run: Path, ticket: Ticket, force: bool) -> None:
        """Remove the DAGMan job, which removes its jobs, and wait until all have left the queue."""
        cluster = ticket["cluster"]
        setup = Setup.of_ticket(ticket)
        try:
            with translated_errors(f"removing cluster {cluster}"), connected(setup):
                constraint = jobs.all_of(cluster)
                jobs.remove(cluster, force)
        except BackendError:
            if not force:
                raise
            jobs.mark_abandoned(run, cluster)
            return
        deadline = time.monotonic() + _REMOVE_TIMEOUT
        with translated_errors(f"removing cluster {cluster}"):
            while _in_queue(setup, constraint):
                if time.monotonic() > deadline:
                    raise BackendError(
                        f"cluster {cluster} was removed, but is still in the queue after "
                        f"{_REMOVE_TIMEOUT:g} s; try again with force"
                    )
                time.sleep(_REMOVE_CHECK_INTERVAL)

    def peek(self, run: Path, ticket: Ticket, node: str, chunk: str, what: str) -> bytes | None:
        """Return the output of a running job, fetched from its execute point."""
        return peek.peek(run, ticket, node, chunk, what)

    def slots(self) -> tuple[int, int]:
        """Return the CPUs and GPUs of the pool that new runs go to; 0 if none answers."""
        if self._new_runs is not None:
            return capacity.ask(self._new_runs) or (0, 0)
        # The same choice as that of `find`.
        current = Setup.current()
        size = capacity.ask(current) if current.programs else None
        if size is None:
            pool = OwnPool()
            size = capacity.ask(pool.setup) if pool.is_running else None
        return size or (0, 0)

    def _check_queue(self, run: Path, ticket: Ticket, log: RunLog) -> str:
        """Mark the run as stopped if its DAGMan job left the queue without an event in its log.

        Return why the queue makes no progress, if its pool was stopped.
        """
        now = time.monotonic()
        setup = Setup.of_ticket(ticket)
        stopped = why_stopped(setup)
        if stopped:
            return stopped
        if log.asked == 0.0:
            log.asked = now
        if now - log.asked < _QUEUE_CHECK_INTERVAL:
            return ""
        log.asked = now
        try:
            is_queued = _in_queue(setup, f"ClusterId == {ticket['cluster']}")
        except Exception as error:
            LOGGER.info("the schedd did not answer about %s: %s", run, message_of(error))
            return ""  # the files suffice, even if the schedd does not answer
        if not is_queued:
            with translated_errors(f"reading the event logs in {str(run)!r}"):
                log.read_dagman()  # it may have just ended
        if not is_queued and not log.state.ended:
            log.state = RunState.STOPPED
            log.reason = "its DAGMan job is no longer in the queue"
        return ""


def _in_queue(setup: Setup, constraint: str) -> bool:
    with connected(setup):
        return bool(htcondor2.Schedd().query(constraint=constraint, projection=["ClusterId"]))


def _has_outcomes(run: Path) -> bool:
    """Return whether a run that never ran has results from another run."""
    nodes = planfile.read(str(run))["nodes"]
    return any(NodeFiles(run, node["name"]).attempts() for node in nodes if node.get("reuse"))


def _write_rescue(run: Path, dag: str) -> None:
    """Write the rescue DAG that lists the nodes that are done according to their records.

    DAGMan uses the rescue DAG with the highest number. The one that DAGMan itself writes when a DAG
    fails does not suffice: it ignores results that were damaged since, and is missing if DAGMan was
    killed.
    """
    plan = planfile.read(str(run))
    done = prepare.prepare_ready(str(run), plan)
    for loop in set(planfile.loops_of(plan)).difference(done):
        files = NodeFiles(run, loop)
        folder = Path(files.round(files.last_round()))
        if (folder / f"{layout.ROUND_DAG}.condor.sub").exists():  # the round has started
            pending.restore_post_scripts(folder, layout.ROUND_DAG)
            _write_rescue(folder, layout.ROUND_DAG)
    # A DAGMan that was killed, and removed while dead, leaves its lock. With the lock, the next one
    # would recover from the log, where the removed jobs have failed, and ignore the rescue DAG.
    (run / f"{dag}.lock").unlink(missing_ok=True)
    numbers = [int(match[1]) for path in run.iterdir() if (match := _RESCUE.fullmatch(path.name))]
    lines = [f"# Rescue DAG of {dag}, written by htdag to continue the run."]
    lines += [f"DONE {name}" for name in done]
    path = run / f"{dag}.rescue{max(numbers, default=0) + 1:03d}"
    layout.write_aside(str(path), ("\n".join(lines) + "\n").encode())


@contextlib.contextmanager
def _quiet_stdout() -> Iterator[None]:
    """Discard stdout: the bindings print, from C, which rescue DAG they use."""
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
