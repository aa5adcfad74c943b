"""Which node goes first: that with the longest way to the end, where there is a choice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import htdag
from htdag.options.stage_options import Options
from htdag.plan.model import Node
from htdag.plan.parts import Bind, Input, Stream
from htdag.plan.priorities import prioritize


def keep(item, **bound):
    return item


def priorities(*targets, **options):
    nodes = htdag.Pipeline(*targets, fuse=False, **options).plan().nodes
    return {node.name: node.priority for node in nodes if node.priority}


def chain(stage, *names, **options):
    for name in names:
        stage = stage.map(keep, name=name, **options)
    return stage


def source():
    return htdag.source([1, 2])


def test_without_a_choice_there_are_none():
    assert priorities(chain(source(), "a", "b", "c", "d")) == {}


def test_equally_long_ways_are_equal():
    first = chain(source(), "first")
    assert priorities(chain(first, "a", "b"), chain(first, "c", "d")) == {"a": 1, "c": 1}
    assert priorities(chain(first, "a"), chain(first, "c")) == {}


def test_the_critical_path_goes_first():
    first = chain(source(), "first")
    long, short = chain(first, "a", "b", "c"), chain(first, "d")
    last = short.map(lambda item, all_: item, bind={"all_": long}, name="last")
    # `first` and `last` never have a choice beside them, however long the ways below them are.
    assert priorities(chain(last, "end")) == {"a": 2, "b": 1}


def test_separate_chains():
    assert priorities(chain(source(), "a", "b", "c"), chain(source(), "d")) == {"a": 2, "b": 1}


def test_a_stage_may_say_otherwise():
    long = chain(source(), "a", "b", "c")
    short = source().map(keep, name="d", node_priority=7)
    assert priorities(long, short) == {"a": 2, "b": 1, "d": 7}
    assert priorities(long, short.with_options(node_priority=-1), node_priority=0) == {"d": -1}


def test_jobs_get_the_priorities_that_were_written_where_any_was():
    long, short = chain(source(), "a", "b"), source().map(keep, name="c", priority=1)
    plan = htdag.Pipeline(long, short, fuse=False).plan()
    assert {node.name: node.options.priority for node in plan.nodes} == {"a": 0, "b": None, "c": 1}
    assert any("priority=0" in reason for reason in plan["a"].reasons)
    assert "PRIORITY 1, for the longest path below it: 1 node" in plan["a"].reasons
    plan = htdag.Pipeline(long, short.with_options(priority=None), fuse=False).plan()
    assert {node.options.priority for node in plan.nodes} <= {None, 1}


def test_a_long_chain_takes_no_time():
    nodes = [
        Node(str(number), (), Input((Stream("x", str(number - 1) if number else None),)))
        for number in range(3000)
    ]
    beside = Node("beside", (), Input.of("x"))
    found = {node.name: node.priority for node in prioritize([*nodes, beside])}
    assert (found["0"], found["2999"], found["beside"]) == (2999, 0, 0)


@st.composite
def dags(draw):
    nodes = []
    for number in range(draw(st.integers(1, 9))):
        parents = draw(st.sets(st.sampled_from([n.name for n in nodes]))) if nodes else set()
        binds = tuple(Bind("x", parent) for parent in sorted(parents))
        options = Options(node_priority=draw(st.sampled_from([None, None, None, 3])))
        nodes.append(Node(f"n{number}", (), Input.of("x"), binds=binds, options=options))
    return nodes


@given(dags())
def test_of_nodes_that_can_be_ready_together_the_longer_way_goes_first(nodes):
    children = {node.name: [n.name for n in nodes if node.name in n.parents] for node in nodes}

    def way(name):
        return max((1 + way(child) for child in children[name]), default=0)

    def below(name):
        return set(children[name]).union(*(below(child) for child in children[name]))

    found = {node.name: node for node in prioritize(nodes)}
    assert list(found) == [node.name for node in nodes]
    for one in nodes:
        if one.options.node_priority is not None:
            assert found[one.name].priority == 3
            continue
        beside = [
            other
            for other in nodes
            if other.name not in below(one.name) | {one.name} and one.name not in below(other.name)
        ]
        if not beside:
            assert found[one.name] == one
        for other in beside:
            if other.options.node_priority is None:
                difference = found[one.name].priority - found[other.name].priority
                assert difference == way(one.name) - way(other.name)
