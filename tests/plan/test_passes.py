"""The passes of the planner, one after another: what each of them adds to the graph of nodes."""

from __future__ import annotations

import operator
from dataclasses import replace

import pytest

import htdag
from htdag.plan import PASSES, Draft, make_plan, plan_until
from htdag.plan.planner import Conditions
from htdag.plan.simulate import Capacity
from htdag.plan.stage_keys import stage_keys
from htdag.plan.tune import Measured, Settings


def work(x):
    return x


def share(x, total):
    return x / total


def until_small(x):
    return x < 1


NUMBERS = htdag.source(range(40), name="numbers")


def until(last: str, *targets: htdag.Stage, **conditions: object) -> Draft:
    flow = htdag.Pipeline(*targets, name="flow")
    return plan_until(last, flow.graph, flow.targets, flow.name, Conditions(**conditions))


def named(draft: Draft) -> dict[str, object]:
    return {node.name: node for node in draft.nodes}


def test_fuse_places_every_stage_in_a_node_and_knows_nothing_else():
    total = NUMBERS.map(work, name="a").filter(work, name="b").reduce(operator.add, name="total")
    ends = NUMBERS.map(share, name="c", bind={"total": total}).take(3, name="some")
    first, last, other, some = until("fuse", ends).nodes
    assert [node.stages for node in (first, last, other, some)] == [
        ("a", "b"),
        ("total",),
        ("c",),
        ("some",),
    ]
    assert [(step.stage, step.after) for step in first.steps] == [("a", None), ("b", "a")]
    # Only what is combined where items are made leaves a node by now; nothing leads anywhere.
    assert [(output.stage, output.kind) for output in first.outputs] == [("total", "reduce")]
    assert (other.outputs, some.outputs) == ((), ())
    assert last.reduction is not None
    assert {node.name for node in (first, last, other, some)} == {""}
    assert [bind.node for bind in other.binds] == [None]
    assert some.input.node is None


def test_fuse_gives_each_family_of_operations_its_nodes():
    def fused(stage: htdag.Stage) -> list[tuple[str, ...]]:
        return [node.stages for node in until("fuse", stage).nodes]

    assert fused(NUMBERS.map(work, name="a").distinct(name="b")) == [("a",), ("b",)]
    assert fused(NUMBERS.distinct(name="b").map(work, name="a")) == [(), ("b", "a")]
    assert fused(NUMBERS.sort_by(name="b").map(work, name="a")) == [(), ("b",), ("a",)]
    assert fused(NUMBERS.count(name="b").map(work, name="a")) == [(), ("b",), ("a",)]
    assert fused(NUMBERS.enumerate(name="b").map(work, name="a")) == [("b", "a")]
    assert fused(NUMBERS.map(work, name="a").enumerate(name="b")) == [("a",), ("b",)]
    assert fused(htdag.iterate(lambda s: s.map(work), NUMBERS, max_rounds=2, name="l")) == [("l",)]


def test_outputs_lets_what_is_needed_leave_its_node_and_names_the_nodes():
    first = NUMBERS.map(work, name="a")
    nodes = named(until("outputs", first.map(work, name="b", fuse=False), NUMBERS))
    assert list(nodes) == ["numbers", "a", "b"]
    assert {name: [out.stage for out in node.outputs] for name, node in nodes.items()} == {
        "numbers": ["numbers"],
        "a": ["a"],
        "b": ["b"],
    }
    assert nodes["b"].input.node is None


def test_connect_finds_the_node_of_each_input_and_bind():
    total = NUMBERS.map(work, name="a").reduce(operator.add, name="total")
    draft = until("connect", NUMBERS.map(share, name="b", bind={"total": total}))
    nodes = named(draft)
    assert list(nodes) == ["a", "total", "b"]
    assert [(node.input.stage, node.input.node) for node in nodes.values()] == [
        ("numbers", None),
        ("total", "a"),
        ("numbers", None),
    ]
    assert [(bind.node, bind.one) for bind in nodes["b"].binds] == [("total", True)]
    assert draft.where == {"total": "total", "b": "b"}


def test_check_lets_the_last_job_of_a_round_ask_whether_the_loop_is_over():
    loop = htdag.iterate(lambda s: s.map(work, name="step"), 5, until_small, max_rounds=3, name="l")
    graph = htdag.Pipeline(loop).graph
    inner = graph.nodes["l"]["inner"]
    draft = plan_until("connect", inner, ("step",), "flow")
    assert [node.check for node in draft.nodes] == [None]
    assert PASSES["check"](draft).nodes == draft.nodes
    (node,) = PASSES["check"](replace(draft, loop=loop.operation)).nodes
    assert (node.check.function, node.check.after) == (until_small, "step")


def test_limits_lets_nodes_read_no_more_than_is_taken():
    some = NUMBERS.map(work, name="a").enumerate(name="b").take(3, name="some")
    before, after = (named(until(name, some)) for name in ("check", "limits"))
    assert {name: node.input.limit for name, node in before.items()} == {
        "a": None,
        "b": None,
        "some": 3,
    }
    assert {name: node.input.limit for name, node in after.items()} == {"a": 3, "b": 3, "some": 3}


def test_sources_are_stored_that_are_not_cut_into_the_chunks_of_one_node():
    cut = NUMBERS.map(work, name="a")
    assert until("sources", cut).sources == ()
    (stored,) = until("sources", cut, NUMBERS.batch(2, name="b")).sources
    assert (stored.stage, stored.boundaries) == ("numbers", (0, 40))


def test_tune_fills_in_what_was_measured_and_chunk_lays_out_by_it():
    flow = htdag.Pipeline(NUMBERS.map(work, name="a"), name="flow")
    (key,) = stage_keys(flow.graph, "flow").values()
    run = Measured(1.0, "a", 4, 40, 60.0, 1.0, 0.0, 900.0, 1.0, 10.0)
    given = {"measures": {key: (run,)}, "capacity": Capacity(2), "settings": Settings(600.0)}
    (plain,) = until("tune", *[NUMBERS.map(work, name="a")]).nodes
    assert (plain.jobs, plain.chunks, plain.options.request_memory) == (None, 0, None)
    (tuned,) = until("tune", NUMBERS.map(work, name="a"), **given).nodes
    assert (tuned.jobs, tuned.chunks, tuned.options.request_memory) == (4, 0, "1280MB")
    (laid_out,) = until("chunk", NUMBERS.map(work, name="a"), **given).nodes
    assert (laid_out.chunks, laid_out.boundaries) == (4, (0, 10, 20, 30, 40))


def test_chunk_puts_trees_before_wide_reduces():
    total = NUMBERS.map(work, name="a", chunk_size=4).reduce(operator.add, fan_in=4, name="total")
    assert list(named(until("tune", total))) == ["a", "total"]
    assert {name: node.chunks for name, node in named(until("chunk", total)).items()} == {
        "a": 10,
        "total.combine-1": 3,
        "total": 1,
    }


def test_lanes_cuts_nodes_that_follow_one_another():
    last = NUMBERS.map(work, name="a", chunk_size=4).map(work, name="b", fuse=False)
    given = {"settings": Settings(lanes=3)}
    assert [(node.lanes, node.follows) for node in until("chunk", last, **given).nodes] == [
        (1, False),
        (1, False),
    ]
    draft = until("lanes", last, **given)
    assert [(node.lanes, node.follows) for node in draft.nodes] == [(3, False), (3, True)]
    assert [chain.nodes for chain in draft.chains] == [("a", "b")]


def test_rounds_plans_what_a_loop_repeats():
    loop = htdag.iterate(lambda s: s.map(work, name="step"), 5, until_small, max_rounds=3, name="l")
    (node,) = until("lanes", loop).nodes
    assert node.round is None
    (node,) = until("rounds", loop).nodes
    (inner,) = node.round.plan.nodes
    assert (inner.name, inner.check.function, inner.chunks) == ("step", until_small, 1)


def test_priorities_come_last_and_make_the_plan():
    long = NUMBERS.map(work, name="a").map(work, name="b", fuse=False)
    short = NUMBERS.map(work, name="c", request_cpus=2)
    assert {node.priority for node in until("rounds", long, short).nodes} == {0}
    draft = until("priorities", long, short)
    assert {name: node.priority for name, node in named(draft).items()} == {"a": 1, "b": 0, "c": 0}
    flow = htdag.Pipeline(long, short, name="flow")
    assert make_plan(flow.graph, flow.targets, "flow").nodes == draft.nodes
    assert list(PASSES)[-1] == "priorities"


def test_a_pass_that_does_not_exist_stops_nothing():
    with pytest.raises(ValueError, match="'fuze'"):
        until("fuze", NUMBERS.map(work))
