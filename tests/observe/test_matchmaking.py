"""Why jobs wait for a slot: what they ask for against slots, evaluated by HTCondor itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htdag.observe import matchmaking
from htdag.observe.matchmaking import Clause, Question, Shares, analyse, split

pytest.importorskip("htcondor2")

REQUIREMENTS = '(TARGET.Arch == "X86_64") && (TARGET.Memory >= RequestMemory)'


def slot(**changes: Any) -> dict[str, Any]:
    ad: dict[str, Any] = {
        "Name": "slot1@node",
        "PartitionableSlot": True,
        "Arch": "X86_64",
        "Start": True,
    }
    for name, total in {"Cpus": 8, "Memory": 16_384, "Disk": 10_000_000, "GPUs": 0}.items():
        ad |= {name: total, f"TotalSlot{name}": total}
    return ad | changes


def asked(job: dict[str, Any], slots: list[dict[str, Any]], **more: Any) -> matchmaking.Analysis:
    from htdag.backends.condor.bindings import evaluate

    ad = {"Requirements": REQUIREMENTS, "RequestCpus": 1, "RequestMemory": 100, **job}
    return analyse(Question(ad, slots, evaluate, edit="htdag edit tag fit", **more))


def test_no_slots_at_all():
    assert asked({}, []).why == "the pool has no slots at all"


@pytest.mark.parametrize(
    ("job", "why", "remedy"),
    [
        (
            {"RequestMemory": 65_536},
            "64 GB of memory, and the largest of 2 slots has 16 GB",
            "htdag edit tag fit --request-memory 16384MB",
        ),
        ({"RequestCpus": 9}, "9 CPUs, and the largest of 2 slots has 8", "RequestCpus=8"),
        ({"RequestGPUs": 1, "Requirements": "TARGET.GPUs >= RequestGPUs"}, "1 GPU,", "GPUs=0"),
        (
            {"RequestDisk": 20_000_000},
            "of disk, and the largest of 2 slots has 9.5 GB",
            "--request-disk 9765MB",
        ),
    ],
)
def test_a_resource_larger_than_any_slot(job: dict[str, Any], why: str, remedy: str):
    name = next(iter(job))
    clause = f"TARGET.{name.removeprefix('Request')} >= {name}"
    found = asked({"Requirements": clause, **job}, [slot(), slot(Memory=0, Cpus=0)])
    assert why in found.why
    assert remedy in found.remedy
    assert (found.slots, found.possible, found.free) == (2, 0, 0)


def test_a_part_of_the_requirements_that_no_slot_meets():
    found = asked({"Requirements": f"{REQUIREMENTS} && (HasApptainer =?= true)"}, [slot(), slot()])
    assert found.why.endswith("HasApptainer =?= true is met by none of 2 slots")
    assert found.clauses == (
        Clause('TARGET.Arch == "X86_64"', 2),
        Clause("TARGET.Memory >= RequestMemory", 2),
        Clause("HasApptainer =?= true", 0),
    )


def test_parts_that_are_met_but_not_together():
    slots = [slot(Arch="ARM", Fast=True), slot(Fast=False)]
    found = asked({"Requirements": 'TARGET.Arch == "X86_64" && TARGET.Fast'}, slots)
    assert "no slot meets all of its requirements" in found.why
    assert [clause.slots for clause in found.clauses] == [1, 1]


def test_slots_that_refuse():
    found = asked({}, [slot(Start="TARGET.RequestMemory < 10"), slot(Start=False)])
    assert "2 of 2 slots would do, but they accept no such jobs now" in found.why


def test_slots_that_are_busy_and_whose_turn_it_is():
    busy = slot(Cpus=0, Memory=0)
    shares = Shares(others_running=40, own_priority=900.0, best_other=500.0)
    found = asked({}, [busy, slot(Arch="ARM")], shares=shares)
    assert "1 of 2 slots could run it, and all of these are busy; other users run 40" in found.why
    assert "your user priority is 900, their best is 500" in found.why
    assert "go before you" not in asked({}, [busy]).why


def test_slots_that_are_free():
    found = asked({"LastRejMatchReason": "no match found"}, [slot(), slot(Cpus=0)])
    assert found.free == 1
    assert "1 of 2 slots have room for it now; at the last negotiation" in found.why
    limited = asked({"ConcurrencyLimits": "server"}, [slot()])
    assert "its limits (server) may be reached" in limited.why
    static = slot(PartitionableSlot=False, State="Claimed")
    assert asked({}, [static]).free == 0


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("A", ["A"]),
        ("(A && B)", ["A", "B"]),
        ("((A)) && (B && (C))", ["A", "B", "C"]),
        ("A || B && C", ["A || B && C"]),
        ('Name == "a && (b" && C', ['Name == "a && (b"', "C"]),
        ('Name == "a\\"&&" && C', ['Name == "a\\"&&"', "C"]),
        ("(A) || (B)", ["(A) || (B)"]),
        ("A ? B && C : D", ["A ? B && C : D"]),
        ("A =?= true && B", ["A =?= true", "B"]),
        ("f(A && B, C) && D", ["f(A && B, C)", "D"]),
    ],
)
def test_requirements_are_split_where_and_joins_them(text: str, parts: list[str]):
    assert split(text) == parts


expressions = st.recursive(
    st.sampled_from(["true", "false", "A", "B == 1", '"x && y" == C']),
    lambda inner: st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(
        lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
    ),
)


@given(expressions, st.booleans(), st.integers(0, 1))
def test_the_parts_together_are_the_whole(text: str, a: bool, b: int):
    from htdag.backends.condor.bindings import evaluate

    ad = {"A": a, "B": b, "C": "x && y"}
    together = " && ".join(f"({part})" for part in split(text))
    assert evaluate(together, ad, {}) == evaluate(text, ad, {})
