"""A take of stages that make one item of each lets them read no more than it needs."""

from __future__ import annotations

import operator

import pytest

import htdag

NUMBERS = htdag.source(range(100), chunk_size=5, name="numbers")


def double(n):
    return 2 * n


def refuses_many(n):
    if n >= 20:
        raise ValueError(n)
    return n


def nodes(*targets, **options):
    return {node.name: node for node in htdag.Pipeline(*targets, **options).plan(on="local").nodes}


def test_stages_before_a_take_read_only_what_it_needs():
    first = NUMBERS.map(double, name="first")
    second = first.map(double, name="second", fuse=False)
    found = nodes(second.take(7, name="some"))
    assert [(node.items, node.chunks) for node in found.values()] == [(7, 2)] * 3
    text = " ".join(htdag.Pipeline(second.take(7)).explain(on="local").split())
    assert text.count("reads only the first 7 items: no more are taken of what it makes") == 2


def test_of_several_takes_the_longest_counts_and_a_shorter_one_before_stays():
    first = NUMBERS.take(30, name="begin").map(double, name="first")
    found = nodes(first.take(3, name="few"), first.take(12, name="more"))
    assert found["begin.first"].items == 12
    found = nodes(first.take(50, name="all"))
    assert found["begin.first"].items == 30


@pytest.mark.parametrize(
    "make",
    [
        lambda first: [first.take(3), first],
        lambda first: [first.take(3), first.reduce(operator.add)],
        lambda first: [first.take(3), first.batch(2)],
        lambda first: [first.take(3), first.map(double, name="also", fuse=False)],
        lambda first: [
            first.take(3),
            NUMBERS.map(lambda n, every: n, bind={"every": first}, name="bound"),
        ],
        lambda first: [first.filter(bool, name="kept").take(3)],
        lambda first: [first.flat_map(lambda n: [n], name="kept").take(3)],
        lambda first: [first.with_options(on_error="skip").take(3)],
    ],
    ids=["target", "reduce", "batch", "map", "bind", "filter", "flat_map", "skip"],
)
def test_all_items_are_read_where_more_may_be_needed(make):
    found = nodes(*make(NUMBERS.map(double, name="first")))
    (begin,) = [node for node in found.values() if "first" in node.stages]
    assert begin.items == 100


def test_what_is_not_taken_is_not_computed(tmp_path, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))
    stage = NUMBERS.map(refuses_many, name="picky").map(double, name="then", fuse=False)
    flow = htdag.Pipeline(stage.take(13, name="some"), history=False)
    run = flow.submit(on="local").wait()
    assert run.result() == [2 * n for n in range(13)]
    done = {stage.name: stage.done for stage in run.status().stages}
    assert done["picky"] == done["then"] == 13
    # More of them, later: only the others are new.
    more = htdag.Pipeline(stage.take(18, name="some"), history=False)
    again = more.submit(tag=run.tag, on="local", resume=True).wait()
    assert again.result() == [2 * n for n in range(18)]
