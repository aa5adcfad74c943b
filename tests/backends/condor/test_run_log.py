"""Job states from an event log and a schedd, where one or the other is behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("htcondor2")

from htdag.backends.condor.run_log import RunLog
from htdag.runtime import layout

# 2026-11-25 10:00:00 of local time and later.
EVENTS = {
    "submit": "000 ({job}) 2026-11-25 10:00:{second:02d} Job submitted from host: <127.0.0.1:1>\n"
    "    DAG Node: work\n",
    "execute": "001 ({job}) 2026-11-25 10:00:{second:02d} Job executing on host: <127.0.0.1:2>\n",
    "held": "012 ({job}) 2026-11-25 10:00:{second:02d} Job was held.\n\tno such file\n"
    "\tCode 13 Subcode 2\n",
    "released": "013 ({job}) 2026-11-25 10:00:{second:02d} Job was released.\n\tby hand\n",
    "suspended": "010 ({job}) 2026-11-25 10:00:{second:02d} Job was suspended.\n"
    "\tNumber of processes actually suspended: 1\n",
    "unsuspended": "011 ({job}) 2026-11-25 10:00:{second:02d} Job was unsuspended.\n",
    "aborted": "009 ({job}) 2026-11-25 10:00:{second:02d} Job was aborted.\n",
}


class Log:
    def __init__(self, run: Path) -> None:
        (run / layout.PLAN).write_text('{"nodes": [], "stages": [], "sources": {}}')
        self._path = run / "flow.dag.nodes.log"
        self.log = RunLog(run, "flow.dag", 7)

    def add(self, *names: str, proc: int = 0, second: int = 0) -> Log:
        with open(self._path, "a") as file:
            for name in names:
                job = f"012.{proc:03d}.000"
                file.write(EVENTS[name].format(job=job, second=second) + "...\n")
        self.log.read()
        return self

    @property
    def states(self) -> dict[int, str]:
        return {proc: job.state for (_, proc), job in self.log.jobs.items()}

    def since(self, proc: int = 0) -> float:
        return self.log.jobs[12, proc].since


def ad(status: int, proc: int = 0, **more: Any) -> dict[str, Any]:
    found = {"ClusterId": 12, "ProcId": proc, "JobStatus": status, "DAGNodeName": "work"}
    return found | more


@pytest.fixture
def made(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_each_event_turns_the_state(made: Log):
    for name, state in {
        "submit": "idle",
        "execute": "running",
        "suspended": "suspended",
        "unsuspended": "running",
        "held": "held",
        "released": "idle",
    }.items():
        assert made.add(name).states == {0: state}, name
    assert made.add("aborted").states == {}


def test_a_held_job_tells_code_and_reason(made: Log):
    (job,) = made.add("submit", "held").log.jobs.values()
    assert (job.node, job.code, job.subcode, job.reason) == ("work", 13, 2, "no such file")
    assert job.source == "event log"


def test_the_schedd_tells_what_the_log_does_not_yet(made: Log):
    made.add("submit", second=1)
    now = made.since() + 30
    held = ad(5, HoldReason="by hand", HoldReasonCode=1, EnteredCurrentStatus=now - 5)
    made.log.reconcile([held, ad(2, proc=1)], now)
    first, second = made.log.jobs.values()
    assert (first.state, first.source, first.since, first.code) == ("held", "schedd", now - 5, 1)
    assert (second.state, second.node) == ("running", "work")  # of which the log never told


def test_a_job_that_the_schedd_does_not_have_is_gone(made: Log):
    made.add("submit", "execute", second=1)
    now = made.since()
    made.log.reconcile([], now)
    assert made.states == {0: "running"}  # it may have been submitted at that very moment
    made.log.reconcile([], now + 5)
    assert made.states == {}


def test_a_job_that_began_before_the_clock_was_put_back_is_gone_too(made: Log):
    made.add("submit", "execute", second=1)
    made.log.reconcile([], made.since() - 7200)
    assert made.states == {}


def test_later_events_go_before_what_the_schedd_told(made: Log):
    made.add("submit")
    made.log.reconcile([ad(5, EnteredCurrentStatus=made.since())], made.since() + 1)
    assert made.states == {0: "held"}
    assert made.add("released", "execute", second=9).states == {0: "running"}


def test_where_both_agree_the_log_stays_the_source(made: Log):
    made.add("submit")
    began = made.since()
    made.log.reconcile([ad(1, RequestMemory=200, EnteredCurrentStatus=began + 1)], began + 9)
    (job,) = made.log.jobs.values()
    assert (job.since, job.source, job.memory_asked) == (began, "event log", 200)
