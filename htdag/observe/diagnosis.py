"""The reasons why a run does not progress, or not faster, and remedies: `Run.why`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING

from htdag.backends.base import Activity, Ad, JobState, QueueFacts, RunState
from htdag.common.text import counted, duration, visible
from htdag.observe import holds, matchmaking
from htdag.observe.status import Status

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import Plan


@dataclass(frozen=True)
class Reason:
    """The reason why a part of a run does not progress.

    Attributes
    ----------
    about : str
        The part: ``"the run"``, or ``"node NAME, 4 jobs"``.
    why : str
        The reason in words.
    remedy : str
        What to do; "" if one can only wait.
    clauses : tuple of htdag.types.Clause
        For idle jobs: the parts of their requirements, each with how many slots meet it.
    """

    about: str
    why: str
    remedy: str = ""
    clauses: tuple[matchmaking.Clause, ...] = ()

    def __str__(self) -> str:
        text = f"{self.about}: {self.why}"
        if self.remedy:
            text += f".\n  {self.remedy}"
        if self.clauses:
            text += "\n  Slots that meet each part of its requirements:"
        text += "".join(f"\n    {part.slots:>5}  {part.text}" for part in self.clauses)
        return visible(text)


def reasons(
    status: Status,
    activity: Activity,
    plan: Plan,
    jobs: Sequence[JobState],
    facts: QueueFacts | None,
    now: float | None = None,
) -> Iterator[Reason]:
    """Yield the reasons why a run does not progress, the most general first.

    Parameters
    ----------
    status : Status
        The status of the run.
    activity : Activity
        Its activity, from the backend.
    plan : mapping
        The run's plan.
    jobs : sequence of JobState
        Its jobs that wait or run.
    facts : QueueFacts or None
        The facts from the schedd and the pool; None if they were not asked, or did not answer.
    now : float, optional
        The time in seconds since the epoch.
    """
    tag = quote(status.tag)
    moment = time.time() if now is None else now
    if status.state.ended:
        yield from _ended(status, tag)
        return
    yield from _whole(status, activity, facts, tag)
    for line in holds.lines(activity.held, status.tag):
        about, _, rest = line.partition(": ")
        yield Reason(about, rest)
    for node, number in _count(jobs, "suspended"):
        yield Reason(
            f"node {node}, {counted(number, 'job')}",
            "suspended, by htdag pause, or by the machine that they run on",
            f"htdag continue {tag} {quote(node)}",
        )
    if facts is not None:
        for problem in facts.problems:
            yield Reason("the pool", problem, "See htdag doctor")
        yield from (reason for reason, _ in _idle(facts, jobs, tag, moment))
    yield from _not_submitted(plan, status, jobs, activity)


def _count(jobs: Sequence[JobState], state: str) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for job in jobs:
        if job.state == state:
            counts[job.node] = counts.get(job.node, 0) + 1
    return list(counts.items())


def _ended(status: Status, tag: str) -> Iterator[Reason]:
    if status.state is RunState.DONE:
        yield Reason("the run", "it is done")
        return
    failed = sum(stage.failed for stage in {stage.node: stage for stage in status.stages}.values())
    reason = status.reason.removeprefix("failed: ")  # its nodes
    why = status.state.value + (f": {reason}" if reason else "")
    if failed:
        why += f"; {counted(failed, 'item')} failed"
    first_step = f"htdag errors {tag} shows why; then: " if failed else ""
    if "could not be submitted" in status.reason:
        yield Reason(
            "the run",
            why,
            f"Fix the options of its stage in the script, then: htdag resume {tag} --script",
        )
        return
    yield Reason("the run", why, f"{first_step}htdag resume {tag}")


def _whole(
    status: Status, activity: Activity, facts: QueueFacts | None, tag: str
) -> Iterator[Reason]:
    if activity.halted:
        yield Reason(
            "the run",
            "it is halted: no further nodes are submitted",
            f"htdag unhalt {tag}",
        )
    if status.state is RunState.HELD and status.reason:
        yield Reason("the run", f"on hold: {status.reason}", f"htdag release {tag}")
    if status.state is RunState.WAITING:
        why = "its DAGMan job waits in the queue of the schedd"
        if facts is not None and facts.dagman is None:
            why = "its DAGMan job is not in the queue of the schedd (any more)"
        yield Reason(
            "the run",
            why,
            "The schedd starts it within seconds, unless you have reached its limit of DAGMan jobs "
            "(MAX_RUNNING_SCHEDULER_JOBS_PER_OWNER), or the schedd itself has just restarted",
        )


def unmatched(
    facts: QueueFacts, jobs: Sequence[JobState], tag: str, now: float
) -> Iterator[Reason]:
    """Yield the reasons of jobs whose requests no slot of the pool can meet."""
    return (reason for reason, analysis in _idle(facts, jobs, tag, now) if not analysis.possible)


def _idle(
    facts: QueueFacts, jobs: Sequence[JobState], tag: str, now: float
) -> Iterator[tuple[Reason, matchmaking.Analysis]]:
    """Yield why idle jobs wait; jobs of a node with the same requests are one group."""
    if facts.evaluate is None:
        return
    since: dict[str, float] = {}
    totals: dict[str, int] = {}
    for job in jobs:
        if job.state == "idle":
            since[job.node] = min(since.get(job.node, now), job.since)
            totals[job.node] = totals.get(job.node, 0) + 1
    groups: dict[tuple[str, ...], list[Ad]] = {}
    for ad in facts.idle:
        key = tuple(
            str(ad.get(name))
            for name in (
                "DAGNodeName",
                "Requirements",
                "RequestCpus",
                "RequestMemory",
                "RequestDisk",
                "RequestGPUs",
            )
        )
        groups.setdefault(key, []).append(ad)
    alike = [key[0] for key in groups]
    for (node, *_), ads in groups.items():
        question = matchmaking.Question(
            ads[0],
            facts.slots,
            facts.evaluate,
            _shares(facts),
            f"htdag edit {tag} {quote(node)}",
        )
        analysis = matchmaking.analyse(question)
        number = totals.get(node, len(ads)) if alike.count(node) == 1 else len(ads)
        age = f", idle for {duration(now - since[node])}" if node in since else ""
        clauses = analysis.clauses if analysis.slots and not analysis.possible else ()
        about = f"node {node}, {counted(number, 'job')}{age}"
        yield Reason(about, analysis.why, analysis.remedy, clauses), analysis


def _shares(facts: QueueFacts) -> matchmaking.Shares:
    user_name = str((facts.dagman or {}).get("User", ""))
    own_priority = None
    others = []
    running = 0
    for user in facts.users:
        name = str(user.get("Name", ""))
        if user.get("IsAccountingGroup") is True or not name:
            continue
        priority = float(user.get("Priority", 0.0))
        if name == user_name:
            own_priority = priority
        elif user.get("ResourcesUsed") or user.get("Requested"):
            others.append(priority)
            running += int(user.get("ResourcesUsed") or 0)
    return matchmaking.Shares(running, own_priority, min(others) if others else None)


def _not_submitted(
    plan: Plan, status: Status, jobs: Sequence[JobState], activity: Activity
) -> Iterator[Reason]:
    """Yield a reason for each node that waits for others."""
    nodes = plan["nodes"]
    present = {job.node for job in jobs} | set(activity.running)
    complete = {stage.node for stage in status.stages if stage.jobs_done == stage.jobs}
    started = {stage.node for stage in status.stages if stage.done or stage.failed or stage.running}
    for node in nodes:
        name = node["name"]
        if name in present or name in complete or name in started:
            continue
        waits = [parent for parent in node["parents"] if parent not in complete]
        if waits:
            yield Reason(f"node {name}", f"not started: it needs all of {', '.join(waits)}")
