"""Why a run does not go on, from what backend, schedd and records say."""

from __future__ import annotations

from typing import Any

from htdag.backends.base import Activity, JobState, QueueFacts, RunState
from htdag.observe.diagnosis import Reason, reasons
from htdag.observe.status import StageStatus, Status

NOW = 1_000.0
PLAN = {
    "nodes": [
        {"name": "first", "parents": []},
        {"name": "second", "parents": ["first"]},
    ]
}


def why(
    state: RunState = RunState.RUNNING,
    *,
    reason: str = "",
    failed: int = 0,
    jobs: tuple[JobState, ...] = (),
    facts: QueueFacts | None = None,
    **activity: Any,
) -> list[Reason]:
    stages = (
        StageStatus("first", "first", 4, 4 - failed, failed, 0, 2, 2 if not failed else 1),
        StageStatus("second", "second", 4, 0, 0, 0, 2, 0),
    )
    status = Status("my tag", state, reason, "condor", stages, (), NOW)
    held = tuple(job for job in jobs if job.state == "held")
    return list(
        reasons(status, Activity(state, reason, held=held, **activity), PLAN, jobs, facts, NOW)
    )


def test_an_ended_run_says_how_and_what_to_do():
    (done,) = why(RunState.DONE)
    assert done.why == "it is done"
    (failed,) = why(RunState.FAILED, reason="failed: a", failed=1)
    assert failed.why == "failed: a; 1 item failed"
    assert failed.remedy == "htdag errors 'my tag' shows why; then: htdag resume 'my tag'"
    (refused,) = why(RunState.FAILED, reason="node a could not be submitted: no such command")
    assert refused.remedy.startswith("Fix the options")
    assert refused.remedy.endswith("htdag resume 'my tag' --script")


def test_a_halted_run_and_one_whose_dagman_is_held():
    assert why(halted=True)[0].remedy == "htdag unhalt 'my tag'"
    assert why(RunState.HELD, reason="by hand")[0].why == "on hold: by hand"


def test_a_dagman_that_waits():
    there, gone = QueueFacts(dagman={"User": "ada@here"}), QueueFacts()
    assert "waits in the queue" in why(RunState.WAITING, facts=there)[0].why
    assert "not in the queue" in why(RunState.WAITING, facts=gone)[0].why


def test_held_and_suspended_jobs():
    jobs = tuple(
        JobState("second", 1, proc, state, NOW - 60, code=1)
        for proc, state in enumerate(["held", "suspended", "suspended"])
    )
    held, suspended = why(jobs=jobs)
    assert held.about == "node second, job 1.0"
    assert suspended.about == "node second, 2 jobs"
    assert suspended.remedy == "htdag continue 'my tag' second"


def test_idle_jobs_with_other_requests_are_told_apart():
    jobs = tuple(JobState("second", 1, proc, "idle", NOW - 3_700) for proc in range(3))
    ads = tuple({"DAGNodeName": "second", "RequestMemory": size} for size in (1, 1, 2))
    facts = QueueFacts(idle=ads, evaluate=lambda *_: None, problems=("the collector is ill",))
    found = why(jobs=jobs, facts=facts)
    assert [reason.about for reason in found] == [
        "the pool",
        "node second, 2 jobs, idle for 62 min",
        "node second, 1 job, idle for 62 min",
    ]
    assert found[1].why == "the pool has no slots at all"


def test_your_user_priority_counts():
    users = (
        {"Name": "ada@here", "Priority": 900.0},
        {"Name": "bob@here", "Priority": 500.0, "ResourcesUsed": 3},
        {"Name": "eve@here", "Priority": 1.0},  # neither runs nor wants anything
        {"Name": "group", "Priority": 1.0, "ResourcesUsed": 9, "IsAccountingGroup": True},
    )
    facts = QueueFacts(
        idle=({"DAGNodeName": "second", "RequestCpus": 1, "Requirements": "yes"},),
        slots=({"Cpus": 0, "TotalSlotCpus": 8, "PartitionableSlot": True},),
        users=users,
        dagman={"User": "ada@here"},
        evaluate=lambda text, own, other: own.get(text, True),
    )
    (idle,) = why(jobs=(JobState("second", 1, 0, "idle", NOW),), facts=facts)
    assert "all of these are busy; other users run 3 jobs, and go before you" in idle.why
    assert "your user priority is 900, their best is 500" in idle.why


def test_a_node_that_waits_for_another():
    (waits,) = why(failed=1, running={"first": {1}})
    assert str(waits) == "node second: not started: it needs all of first"
