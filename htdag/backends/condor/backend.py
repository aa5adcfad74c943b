"""HTCondor: a run directory, run by DAGMan."""

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
from htdag.backends.condor.bindings import htcondor2, ping, using
from htdag.backends.condor.bindings import short as _short
from htdag.backends.condor.own_pool import OwnPool
from htdag.backends.condor.run_log import RunLog, loops_of
from htdag.backends.condor.session import connected, translated_errors, why_stopped
from htdag.backends.condor.setup import Setup
from htdag.compile.scheduler import ANY, Scheduler
from htdag.config.directories import check_for_dagman
from htdag.config.log import LOGGER
from htdag.errors import BackendError
from htdag.runtime import layout, planfile
from htdag.runtime.dag import prepare
from htdag.runtime.layout import NodeFiles

_NO_NAME = re.compile(r'["\\$]')  # they mean something where a batch name goes
_RESCUE = re.compile(r".*\.rescue(\d{3,})")
_QUEUE_CHECK_EVERY = 15.0  # seconds between questions to the schedd while waiting
_REMOVE_TIMEOUT = 120.0
_REMOVE_QUESTION_EVERY = 0.5
_USE_DAG_DIR = re.compile(r" -UseDagDir\b", re.IGNORECASE)


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
            ping()
            if shutil.which("condor_dagman") is None:
                return "HTCondor answers, but its program condor_dagman is not on PATH"
    except Exception as error:
        return f"no HTCondor schedd answers here ({_short(error)})"
    return ""


def never_usable() -> bool:
    """Tell, without asking anyone, whether no run can be submitted from here."""
    return os.getuid() == 0 or (shutil.which("condor_dagman") is None and not OwnPool().is_running)


def at_hand() -> Scheduler:
    """Return what the HTCondor can do that is on this machine, whether it answers or not.

    That is the one that is configured, else the user's own pool, where that runs.
    """
    setup = Setup.current()
    if not setup.programs:
        own = OwnPool()
        if not own.is_running:
            return ANY
        setup = own.setup
    with using(setup):
        return abilities.scheduler()


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


_DOING = {"pause": jobs.pause, "continue": jobs.go_on}


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
        self._logs: dict[tuple[Path, int], RunLog] = {}

    def check_directory(self, directory: Path) -> None:
        """Refuse what DAGMan would refuse, before anything is written."""
        check_for_dagman(directory)

    def finds_packages(self) -> bool:
        """Tell whether jobs find this very Python: in an own pool that was started by it."""
        self._new_runs = self._new_runs or find()[0]
        if self._new_runs is None or not self._new_runs.own or self._new_runs.config is None:
            return False
        folder = os.path.dirname(sys.executable)
        return f"PATH='{folder}:" in Path(self._new_runs.config).read_text(encoding="utf-8")

    def scheduler(self, before: dict[str, Any] | None = None) -> Scheduler:
        """Return what the HTCondor can do to which a run goes."""
        with using(self._setup(before)):
            return abilities.scheduler()

    def _setup(self, before: dict[str, Any] | None) -> Setup:
        """Return the HTCondor to submit to: the one of before, else that of new runs."""
        if before is not None:
            return Setup.of_ticket(before)
        self._new_runs = self._new_runs or find()[0]
        return self._new_runs or Setup.current()

    def foreseen(self, dag: str, before: dict[str, Any] | None) -> dict[str, Any]:
        """Return where the DAG goes; its cluster will be in the log of the DAGMan job."""
        cluster = None if before is None else before["cluster"]
        setup = self._setup(before).to_ticket()
        return {"cluster": None, "before": cluster, "dag": dag, "htcondor": setup}

    def finish_removal(self, run: Path, ticket: dict[str, Any]) -> None:
        """Remove for good what was removed while the schedd did not answer."""
        with translated_errors(f"removing cluster {ticket['cluster']}"):
            jobs.finish_removal(Setup.of_ticket(ticket), run, ticket["cluster"])

    def submit(self, run: Path, dag: str, before: dict[str, Any] | None = None) -> dict[str, Any]:
        """Submit the DAG; where parts of it are done, by way of a rescue DAG."""
        if os.getuid() == 0:
            raise BackendError("HTCondor refuses the jobs of root; submit as an ordinary user")
        setup = self._setup(before)
        # The jobs of the nodes get DAGMan's batch name, so condor_q shows the run by its tag.
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
            # Without a rescue DAG the bindings say nothing, and standard output is everyone's.
            with _quiet_stdout() if rescued else contextlib.nullcontext():
                description = htcondor2.Submit.from_dag(str(run / dag), options)
            if loops_of(run):
                # The node of a loop has a DIR, which DAGMan takes without UseDagDir only.
                description["arguments"] = _USE_DAG_DIR.sub("", description["arguments"])
                description["initialdir"] = str(run)
            result = htcondor2.Schedd().submit(description)
        return {"cluster": int(result.cluster()), "dag": dag, "htcondor": setup.to_ticket()}

    def activity(self, run: Path, ticket: dict[str, Any]) -> Activity:
        """Read what is new in the event logs; ask the schedd only now and then."""
        log = self._log(run, ticket)
        if jobs.is_abandoned(run, ticket["cluster"]) and not log.state.ended:
            return self._let_go(run, ticket, log)
        if not log.state.ended:
            stopped = self._check_queue(run, ticket, log)
            if stopped:
                return Activity(RunState.HELD, stopped)
        if log.state.ended:
            return Activity(log.state, log.reason)
        found, active = jobs.activity(log, log.state, log.reason)
        if log.state is RunState.RUNNING and found.held and not active:
            found = replace(found, state=RunState.HELD)
        return replace(found, halted=jobs.is_halted(run, ticket["dag"]))

    def _log(self, run: Path, ticket: dict[str, Any]) -> RunLog:
        """Return the logs of a run, read up to now."""
        cluster = ticket["cluster"]
        log = self._logs.get((run, cluster))
        if log is None:
            log = self._logs[run, cluster] = RunLog(run, ticket["dag"], cluster)
        with translated_errors(f"reading the event logs in {str(run)!r}"):
            log.read()
        return log

    def _let_go(self, run: Path, ticket: dict[str, Any], log: RunLog) -> Activity:
        """Return how a run is that was removed while its schedd did not answer.

        As soon as that answers again, the jobs are removed for good.
        """
        now = time.monotonic()
        if now - log.asked >= _QUEUE_CHECK_EVERY:
            log.asked = now
            try:
                jobs.finish_removal(Setup.of_ticket(ticket), run, ticket["cluster"])
            except Exception as error:  # the next look tries again
                LOGGER.info("the schedd did not answer about %s: %s", run, _short(error))
        if jobs.is_abandoned(run, ticket["cluster"]):
            return Activity(RunState.REMOVED, jobs.ABANDONED)
        log.read()
        return Activity(RunState.REMOVED, log.reason)

    def jobs(self, run: Path, ticket: dict[str, Any], ask: bool) -> tuple[JobState, ...]:
        """Return the jobs in the queue, by the event log; where asked, also by the schedd."""
        log = self._log(run, ticket)
        if ask and not log.state.ended:
            with translated_errors(f"asking for the jobs of cluster {ticket['cluster']}"):
                self._reconcile(ticket, log)
        if log.state.ended:
            return ()
        return jobs.listed(log)

    def _reconcile(self, ticket: dict[str, Any], log: RunLog) -> None:
        """Ask the schedd for the jobs, where the event log may be behind."""
        now = time.time()
        with connected(Setup.of_ticket(ticket)):
            jobs.reconcile(log, ticket["cluster"], now)

    def act(
        self,
        run: Path,
        ticket: dict[str, Any],
        action: str,
        nodes: list[str],
        which: list[JobState] | None,
    ) -> int:
        """Do something to the jobs of nodes, or to some of them; return to how many."""
        setup = Setup.of_ticket(ticket)
        with (
            translated_errors(f"asking to {action} jobs of cluster {ticket['cluster']}"),
            connected(setup),
        ):
            if action == "release" and which is None:
                jobs.release_dagman(ticket["cluster"])
            number = _DOING.get(action, partial(jobs.act, action=action))(
                ticket["cluster"], nodes=nodes, which=which
            )
            # So that who looks at once sees what was done: the event log comes a moment later.
            self._reconcile(ticket, self._log(run, ticket))
        return number

    def edit(
        self,
        run: Path,
        ticket: dict[str, Any],
        nodes: list[str],
        inside: set[str],
        attributes: dict[str, str],
    ) -> int:
        """Change attributes of the jobs of nodes, those to come included; return how many."""
        setup = Setup.of_ticket(ticket)
        with translated_errors(f"editing jobs of cluster {ticket['cluster']}"), connected(setup):
            return jobs.edit(setup, ticket["cluster"], nodes, inside, attributes)

    def halt(self, run: Path, ticket: dict[str, Any], on: bool) -> None:
        """Let no further nodes be submitted, or let them again."""
        jobs.halt(run, ticket["dag"], on)

    def facts(self, run: Path, ticket: dict[str, Any]) -> QueueFacts:
        """Return what schedd and collector say that decides whether jobs find a slot."""
        setup = Setup.of_ticket(ticket)
        with translated_errors("asking why jobs wait"), connected(setup):
            return jobs.facts(ticket["cluster"])

    def remove(self, run: Path, ticket: dict[str, Any], force: bool) -> None:
        """Remove the DAGMan job, which removes its jobs, and wait until they have left."""
        cluster = ticket["cluster"]
        setup = Setup.of_ticket(ticket)
        try:
            with translated_errors(f"removing cluster {cluster}"), connected(setup):
                mine = jobs.all_of(cluster)
                jobs.remove(cluster, force)
        except BackendError:
            if not force:
                raise
            jobs.mark_abandoned(run, cluster)
            return
        deadline = time.monotonic() + _REMOVE_TIMEOUT
        with translated_errors(f"removing cluster {cluster}"):
            while _in_queue(setup, mine):
                if time.monotonic() > deadline:
                    raise BackendError(
                        f"cluster {cluster} was asked to go, but is still in the queue after "
                        f"{_REMOVE_TIMEOUT:g} s; try again with force"
                    )
                time.sleep(_REMOVE_QUESTION_EVERY)

    def peek(
        self, run: Path, ticket: dict[str, Any], node: str, chunk: str, what: str
    ) -> bytes | None:
        """Fetch what a running job wrote from its execute point."""
        return peek.peek(run, ticket, node, chunk, what)

    def slots(self) -> tuple[int, int]:
        """Return the CPUs and GPUs of the pool that new runs go to; 0 where none answers."""
        if self._new_runs is not None:
            return capacity.ask(self._new_runs) or (0, 0)
        # As `find` chooses: the one that is configured, where its schedd answers.
        current = Setup.current()
        found = capacity.ask(current) if current.programs else None
        if found is None:
            own = OwnPool()
            found = capacity.ask(own.setup) if own.is_running else None
        return found or (0, 0)

    def _check_queue(self, run: Path, ticket: dict[str, Any], log: RunLog) -> str:
        """Notice a DAGMan job that left the queue without a word in its log.

        Return why nothing goes on in that queue, if its pool was stopped.
        """
        now = time.monotonic()
        setup = Setup.of_ticket(ticket)
        stopped = why_stopped(setup)
        if stopped:
            return stopped
        if log.asked == 0.0:
            log.asked = now
        if now - log.asked < _QUEUE_CHECK_EVERY:
            return ""
        log.asked = now
        try:
            found = _in_queue(setup, f"ClusterId == {ticket['cluster']}")
        except Exception as error:
            LOGGER.info("the schedd did not answer about %s: %s", run, _short(error))
            return ""  # the files suffice; whether the schedd answers is not the question here
        if not found:
            with translated_errors(f"reading the event logs in {str(run)!r}"):
                log.read_dagman()  # it may have ended a moment ago
        if not found and not log.state.ended:
            log.state = RunState.STOPPED
            log.reason = "its DAGMan job is no longer in the queue"
        return ""


def _in_queue(setup: Setup, constraint: str) -> bool:
    with connected(setup):
        return bool(htcondor2.Schedd().query(constraint=constraint, projection=["ClusterId"]))


def _has_outcomes(run: Path) -> bool:
    """Tell whether a run that never ran has something all the same: from another run."""
    nodes = planfile.read(str(run))["nodes"]
    return any(NodeFiles(run, node["name"]).attempts() for node in nodes if node.get("reuse"))


def _write_rescue(run: Path, dag: str) -> None:
    """Write the rescue DAG that tells DAGMan which nodes are done, by their records.

    DAGMan takes the rescue file with the highest number. It writes one itself when it ends badly;
    that one is the base here, but does not know of outcomes that were damaged since, nor is it
    there when DAGMan was killed.
    """
    plan = planfile.read(str(run))
    done = prepare.prepare_ready(str(run), plan)
    for loop in set(loops_of(run)).difference(done):
        files = NodeFiles(run, loop)
        folder = Path(files.round(files.last_round()))
        if (folder / f"{layout.ROUND_DAG}.condor.sub").exists():  # it has begun
            pending.restore_post_scripts(folder, layout.ROUND_DAG)
            _write_rescue(folder, layout.ROUND_DAG)
    # Of a DAGMan that was killed, and removed while it was dead: another one would go on from its
    # log, in which the jobs that were removed have failed, and not from the rescue DAG.
    (run / f"{dag}.lock").unlink(missing_ok=True)
    numbers = [int(match[1]) for path in run.iterdir() if (match := _RESCUE.fullmatch(path.name))]
    lines = [f"# Rescue DAG of {dag}, written by htdag to go on with what is left."]
    lines += [f"DONE {name}" for name in done]
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
