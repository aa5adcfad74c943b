"""The reasons why jobs wait for a slot: their requests and requirements against the pool's slots.

Pure: ads are mappings, and the evaluator of ClassAd expressions is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from htdag.backends.base import Ad
from htdag.common.text import size

Ad = Ad
Evaluate = Callable[[str, Ad, Ad], Any]
"""Evaluates an expression of one ad matched against another."""

# Attributes of the job, of the slot and of the whole slot, the name for people, the option of edit.
_RESOURCES = (
    ("RequestCpus", "Cpus", "TotalSlotCpus", "CPUs", "--attribute RequestCpus={}"),
    ("RequestMemory", "Memory", "TotalSlotMemory", "memory", "--request-memory {}"),
    ("RequestDisk", "Disk", "TotalSlotDisk", "disk", "--request-disk {}"),
    ("RequestGPUs", "GPUs", "TotalSlotGPUs", "GPUs", "--attribute RequestGPUs={}"),
)


@dataclass(frozen=True)
class Clause:
    """A part of a job's requirements.

    Attributes
    ----------
    text : str
        The part, as a ClassAd expression.
    slots : int
        How many of the pool's slots meet it when they are empty.
    """

    text: str
    slots: int


@dataclass(frozen=True)
class Analysis:
    """The reason why some idle jobs with the same requests do not run.

    Attributes
    ----------
    why : str
        The reason in words.
    remedy : str
        What would have to change.
    slots : int
        How many slots the pool has; a partitionable slot counts as one.
    possible : int
        How many of them could run such a job when they are empty.
    free : int
        How many have room for such a job now.
    clauses : tuple of Clause
        The job's requirements, part by part.
    """

    why: str
    remedy: str
    slots: int
    possible: int
    free: int
    clauses: tuple[Clause, ...] = ()


@dataclass(frozen=True)
class Shares:
    """The facts that decide which user's jobs start next.

    Attributes
    ----------
    others_running : int
        How many jobs other users run.
    own_priority, best_other : float or None
        HTCondor's user priorities (lower goes first): of this user, and the best of other users
        with running or waiting jobs.
    """

    others_running: int = 0
    own_priority: float | None = None
    best_other: float | None = None


@dataclass(frozen=True)
class Question:
    """Idle jobs with the same requests, and all that decides whether they get a slot.

    Attributes
    ----------
    job : mapping
        The ad of one of the jobs.
    slots : sequence of mapping
        The ads of the pool's slots: static and partitionable ones.
    evaluate : callable
        See `Evaluate`.
    shares : Shares
        The users' shares of the pool.
    edit : str
        The command that changes the requests of these jobs, without its options.
    """

    job: Ad
    slots: Sequence[Ad]
    evaluate: Evaluate
    shares: Shares = field(default_factory=Shares)
    edit: str = "htdag edit TAG STAGE"


def analyse(question: Question) -> Analysis:
    """Return why jobs do not run, and what would have to change."""
    job, slots = question.job, question.slots
    if not slots:
        return Analysis(
            "the pool has no slots at all",
            "Wait until execute points join it (condor_status lists them), or see htdag doctor",
            0,
            0,
            0,
        )
    whole = [_emptied(slot) for slot in slots]
    requirements = str(job.get("Requirements", "true"))
    clauses = tuple(
        Clause(text, sum(_true(question.evaluate(text, job, slot)) for slot in whole))
        for text in split(requirements)
    )
    fits = [_true(question.evaluate(requirements, job, slot)) for slot in whole]
    # START is an expression of the slot, which may refer to the job.
    takes = [_true(question.evaluate(str(slot.get("Start", "true")), slot, job)) for slot in whole]
    possible = [n for n in range(len(slots)) if fits[n] and takes[n]]
    free = [n for n in possible if _true(question.evaluate(requirements, job, slots[n]))]
    free = [n for n in free if _has_room(question, slots[n])]
    counts = (len(slots), len(possible), len(free), clauses)
    if possible:
        why, remedy = _whose_turn(question, len(possible), len(free))
        return Analysis(why, remedy, *counts)
    if any(fits):
        why = (
            f"{sum(fits)} of {len(slots)} slots would do, but they accept no such jobs now (by "
            "their START expression)"
        )
        return Analysis(why, "Wait, or ask the pool's administrators", *counts)
    why, remedy = _misfit(question, whole, clauses)
    return Analysis(why, remedy, *counts)


def _true(value: Any) -> bool:
    return value is True or (isinstance(value, int | float) and value != 0)


def _emptied(slot: Ad) -> dict[str, Any]:
    """Return the ad that a slot has when nothing runs there."""
    whole = dict(slot)
    for _, now, total, _, _ in _RESOURCES:
        if total in slot:
            whole[now] = slot[total]
    return whole


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def _asked(question: Question, name: str) -> float | None:
    if name not in question.job:
        return None
    return _number(question.evaluate(name, question.job, {}))


def _has_room(question: Question, slot: Ad) -> bool:
    if slot.get("PartitionableSlot") is not True and slot.get("State") not in (None, "Unclaimed"):
        return False
    for attribute, now, _, _, _ in _RESOURCES:
        amount, available = _asked(question, attribute), _number(slot.get(now))
        if amount is not None and available is not None and amount > available:
            return False
    return True


def _whose_turn(question: Question, possible: int, free: int) -> tuple[str, str]:
    limits = question.job.get("ConcurrencyLimits")
    if free:
        why = f"{free} of {len(question.slots)} slots have room for it now"
        if limits:
            return (
                f"{why}; its limits ({limits}) may be reached",
                "It waits until other jobs with these limits have ended",
            )
        rejected = question.job.get("LastRejMatchReason")
        if rejected:
            why += f"; at the last negotiation HTCondor said: {rejected}"
        return why, (
            "It should start after the next negotiation cycle, within a minute by HTCondor's "
            "defaults"
        )
    shares = question.shares
    why = f"{possible} of {len(question.slots)} slots could run it, and all of these are busy"
    if shares.others_running:
        why += f"; other users run {shares.others_running} jobs"
    priority, other = shares.own_priority, shares.best_other
    if priority is not None and other is not None and priority > other:
        why += (
            f", and go before you: your user priority is {priority:g}, their best is {other:g} "
            "(lower goes first; using slots raises it)"
        )
    return why, "It waits for its turn; nothing needs to be changed"


def _misfit(question: Question, whole: Sequence[Ad], clauses: Sequence[Clause]) -> tuple[str, str]:
    """Return what no slot of the pool offers, and how to request less."""
    problems, remedies = [], []
    for attribute, now, _, what, option in _RESOURCES:
        amount = _asked(question, attribute)
        largest = max((_number(slot.get(now)) or 0 for slot in whole), default=0)
        if amount is not None and amount > largest:
            problems.append(
                f"it requests {_amount_of(attribute, amount, what)}, and the largest of "
                f"{len(whole)} slots has {_amount(attribute, largest)}"
            )
            remedies.append(f"{question.edit} {option.format(_plain_amount(attribute, largest))}")
    if problems:
        return "; ".join(problems), "Request less: " + "; ".join(remedies)
    never = [clause.text for clause in clauses if clause.slots == 0]
    if never:
        what = "is" if len(never) == 1 else "are"
        return (
            f"of its requirements, {' and '.join(never)} {what} met by none of {len(whole)} slots",
            f"Change them: {question.edit} --attribute 'Requirements=...'",
        )
    parts = ", ".join(f"{clause.text} by {clause.slots}" for clause in clauses)
    why = f"no slot meets all of its requirements, only single ones (of {len(whole)} slots {parts})"
    return (
        why,
        f"Change them: {question.edit} --attribute 'Requirements=...'",
    )


def _amount(name: str, value: float) -> str:
    if name == "RequestMemory":
        return size(value)
    if name == "RequestDisk":
        return size(value / 1024)
    return f"{value:g}"


def _amount_of(name: str, value: float, what: str) -> str:
    if name in ("RequestMemory", "RequestDisk"):
        return f"{_amount(name, value)} of {what}"
    return f"{value:g} {what[:-1] if value == 1 else what}"


def _plain_amount(name: str, value: float) -> str:
    """Return an amount in the form that the command line takes, rounded down."""
    if name == "RequestMemory":
        return f"{int(value)}MB"
    if name == "RequestDisk":
        return f"{int(value / 1024)}MB"
    return f"{value:g}"


def split(requirements: str) -> list[str]:
    """Return the parts of an expression joined by ``&&``, without outer parentheses.

    Examples
    --------
    >>> split('((A >= 1) && (B == "x && y")) && (C || D)')
    ['A >= 1', 'B == "x && y"', 'C || D']
    """
    text = _unwrapped(requirements.strip())
    parts = _top_level(text)
    if len(parts) == 1:
        return [text]
    return [clause for part in parts for clause in split(part)]


def _unquoted(text: str) -> Iterator[tuple[int, str]]:
    """Yield the positions and characters outside of quotes."""
    quoted, escaped = "", False
    for position, character in enumerate(text):
        if not quoted and character in "\"'":
            quoted = character
        elif not quoted:
            yield position, character
        elif escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == quoted:
            quoted = ""


def _top_level(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for position, character in _unquoted(text):
        if position < start:
            continue  # the second character of &&
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif depth == 0 and text.startswith("||", position):
            return [text]  # || binds less tightly than &&, so && does not join the whole
        elif depth == 0 and character == "?" and not text.startswith(("?=", "?:"), position):
            if text[position - 1 : position] != "=":
                return [text]
        elif depth == 0 and text.startswith("&&", position):
            parts.append(text[start:position].strip())
            start = position + 2
    return [*parts, text[start:].strip()]


def _unwrapped(text: str) -> str:
    while text.startswith("(") and text.endswith(")") and _closes_last(text):
        text = text[1:-1].strip()
    return text


def _closes_last(text: str) -> bool:
    """Return whether the last parenthesis closes the first."""
    depth = 0
    for position, character in _unquoted(text):
        if character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
            if depth == 0:
                return position == len(text) - 1
    return False
