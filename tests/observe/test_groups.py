"""Errors in groups: what belongs together, and what comes first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from htdag.observe.groups import Hold, groups, normalized
from htdag.observe.item_errors import ItemError
from htdag.observe.status import NodeCounts

TRACE = """Traceback (most recent call last):
  File "/home/ada/survey.py", line {line}, in calibrate
    return 1 / x
ZeroDivisionError: division by zero
"""


def node(name, children=(), mode="items", stages=None):
    return {
        "name": name,
        "stages": [name] if stages is None else stages,
        "outputs": [name],
        "children": list(children),
        "mode": mode,
        "items": None,
        "input": {"view": "items", "streams": [{"node": None, "stage": "source"}]},
    }


def plan_of(*nodes):
    return {"nodes": list(nodes), "by_name": {each["name"]: each for each in nodes}}


PLAN = plan_of(
    node("a", ["total"], stages=["load", "calibrate", "bright"]),
    node("total", ["relative"], "reduce"),
    node("relative"),
    node("other"),
)
COUNTS = {
    "a": NodeCounts(100, 90, 10, 0, 4, 2, False),
    "total": NodeCounts(4, 0, 0, 0, 1, 0, False),
    "relative": NodeCounts(90, 0, 0, 0, 4, 0, False),
    "other": NodeCounts(5, 0, 5, 0, 1, 0, False),
}


def error(key, message="division by zero", line=5, host="one", stage="calibrate", where="a"):
    return ItemError(
        stage=stage,
        key=str(key),
        type="ZeroDivisionError",
        message=message,
        traceback=TRACE.format(line=line),
        host=host,
        python="3.11",
        node=where,
        chunk=0,
        attempt=1,
    )


def test_the_same_traceback_is_one_group():
    (group,) = groups([error(n, host=f"h{n % 2}") for n in range(9)], PLAN, COUNTS)
    assert group.count == 9
    assert group.keys == tuple(map(str, range(9)))
    assert group.hosts == {"h0": 5, "h1": 4}
    assert group.example.key == "0"


def test_another_line_stage_or_kind_of_message_is_another_group():
    errors = [error(0), error(1, line=6), error(2, stage="load"), error(3, message="other")]
    assert len(groups(errors, PLAN, COUNTS)) == 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no star in frame 7", "no star in frame 12"),
        ("cannot open '/data/a 1.fits'", "cannot open '/data/b.fits'"),
        ("cannot open /data/a.fits: no", "cannot open /data/b/c.fits: no"),
        ("<object at 0x7f88d34c6990>", "<object at 0x7f88d34c6970>"),
        ("took 1.5e-3 s", "took 20 s"),
        ("first line\nitem 1 was x", "first line\nitem 2 was y"),
    ],
)
def test_messages_that_differ_in_numbers_names_and_paths_are_one(one, other):
    assert normalized(one) == normalized(other)


def test_messages_of_different_words_are_not_one():
    assert normalized("disk is full") != normalized("permission denied")


def test_what_a_failure_made_futile_is_counted_over_all_nodes_after_it():
    (group,) = groups([error(0)], PLAN, COUNTS)
    assert group.futile_stages == ("bright", "total", "relative")
    assert group.futile_items == 1 + 90


def test_nodes_that_are_complete_were_not_futile():
    counts = COUNTS | {name: replace(COUNTS[name], settled=True) for name in ("total", "relative")}
    (group,) = groups([error(0)], PLAN, counts)
    assert (group.futile_stages, group.futile_items) == (("bright",), 0)


def test_the_cause_of_most_of_the_damage_comes_first():
    small = [error(n, where="other", stage="other") for n in range(5)]
    killed = replace(error(0), type="JobEnded", traceback="", key=None)
    found = groups([killed, *small, error(9)], PLAN, COUNTS)
    assert [group.node for group in found] == ["a", "other", "a"]
    assert found[-1].type == "JobEnded"


def test_jobs_on_hold_are_grouped_by_code():
    holds = [
        Hold("relative", "7.0", 12, 2, "cannot send a.txt", "one"),
        Hold("relative", "7.1", 12, 2, "cannot send b.txt", "two"),
        Hold("relative", "7.2", 34, 0, "memory", "two"),
    ]
    found = groups([], PLAN, COUNTS, holds)
    assert [(group.hold_code, group.count) for group in found] == [(12, 2), (34, 1)]
    assert found[0].keys == ("7.0", "7.1")
    assert found[0].hosts == {"one": 1, "two": 1}
