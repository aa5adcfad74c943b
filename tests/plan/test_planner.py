"""Plans: how few nodes, why, and which job takes which items."""

from __future__ import annotations

import itertools
import sys

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import htdag
from htdag.plan import chunk as chunk_pass
from htdag.plan.chunk import FAN_IN, MOST_JOBS
from htdag.runtime.chunking import even


def add(a, b):
    return a + b


def inc(x):
    return x + 1


def numbers(count=10, name="numbers", **options):
    return htdag.source(range(count), name=name, **options)


def plan(*targets, **options):
    return htdag.Pipeline(*targets, name="flow", **options).plan()


def stages(found):
    """The stages of each node, in order."""
    return [node.stages for node in found.nodes]


def reasons(found, node):
    return "\n".join(found[node].reasons)


# Fusing


def test_neighbouring_stages_share_a_node():
    chain = numbers().map(inc, name="a").filter(bool, name="b")
    chain = chain.flat_map(lambda x: [x], name="c").map(lambda x: (x,), name="d")
    found = plan(chain.starmap(inc, name="e"))
    assert stages(found) == [("a", "b", "c", "d", "e")]
    assert [node.name for node in found.nodes] == ["a.b.c.d.e"]
    assert [(o.stage, o.after) for o in found.nodes[0].steps] == [
        ("a", None),
        ("b", "a"),
        ("c", "b"),
        ("d", "c"),
        ("e", "d"),
    ]
    assert "b is fused with a: " in reasons(found, "a.b.c.d.e")


def test_an_associative_reduce_is_combined_where_its_items_are_made():
    found = plan(numbers().map(inc, name="a").reduce(add, name="r"))
    assert stages(found) == [("a",), ("r",)]
    (output,) = found["a"].outputs
    assert (output.stage, output.after, output.map_side.combine) == ("r", "a", add)
    assert "r is combined here, chunk by chunk (associative)" in reasons(found, "a")
    assert found["r"].chunks == 1
    assert found["r"].boundaries == (0, found["a"].chunks)


def test_a_reduce_of_a_source_combines_in_a_node_of_its_own():
    found = plan(numbers().reduce(add, name="r"))
    assert [(node.name, node.chunks) for node in found.nodes] == [("r.combine", 10), ("r", 1)]


def test_a_reduce_of_a_source_joins_a_node_that_reads_the_source():
    source = numbers()
    found = plan(source.map(inc, name="a"), source.reduce(add, name="r"))
    assert stages(found) == [("a",), ("r",)]
    assert {output.stage for output in found["a"].outputs} == {"a", "r"}


@pytest.mark.parametrize("options", [{"fuse": False}, {"retries": 2}])
def test_a_node_that_only_combines_a_source_may_be_refused(options):
    source = numbers()
    found = plan(source.reduce(add, name="r", **options), source.map(inc, name="a"))
    assert sorted(stages(found)) == [(), ("a",), ("r",)]
    assert "a begins a node: " in reasons(found, "a")


def test_a_reduce_that_is_not_associative_reads_all_items():
    found = plan(numbers().map(inc, name="a").reduce(add, name="r", associative=False))
    assert stages(found) == [("a",), ("r",)]
    assert [output.stage for output in found["a"].outputs] == ["a"]
    assert found["r"].input.stage == "a"
    assert "one job combines all items (associative=False, so in order)" in reasons(found, "r")


def test_branches_of_one_source_share_a_node():
    source = numbers()
    found = plan(source.map(inc, name="a"), source.filter(bool, name="b"))
    assert stages(found) == [("a", "b")]
    assert [output.stage for output in found.nodes[0].outputs] == ["a", "b"]


def test_a_stage_that_several_targets_need_is_computed_once():
    shared = numbers().map(inc, name="shared")
    found = plan(
        shared.map(inc, name="a"),
        shared.filter(bool, name="b").reduce(add, name="r"),
        shared.reduce(add, name="s"),
        shared,
    )
    computed = [stage for node in found.nodes for stage in node.stages]
    assert sorted(computed) == sorted(set(computed))
    assert sorted(stages(found)) == [("r",), ("s",), ("shared", "a", "b")]


def test_values_that_nobody_needs_are_not_written():
    found = plan(numbers().map(inc, name="a").map(inc, name="b"))
    assert [output.stage for output in found.nodes[0].outputs] == ["b"]


def test_a_target_in_the_middle_of_a_node_is_written():
    middle = numbers().map(inc, name="a")
    found = plan(middle.map(inc, name="b"), middle)
    assert [output.stage for output in found.nodes[0].outputs] == ["a", "b"]
    assert found.where == {"a": "a.b", "b": "a.b"}


REFUSALS = {
    "b has fuse=False": lambda a: a.map(inc, name="b", fuse=False),
    "other request_memory": lambda a: a.map(inc, name="b", request_memory="2GB"),
    "other request_cpus, retries": lambda a: a.map(inc, name="b", retries=2, request_cpus=2),
    "other on_error": lambda a: a.map(inc, name="b", on_error="stop"),
    "other requirements": lambda a: a.map(inc, name="b", requirements="HasGPU"),
    "other submit": lambda a: a.map(inc, name="b", submit={"+Project": "x"}),
    "another chunk_size (3)": lambda a: a.map(inc, name="b", chunk_size=3),
    "its bind waits for total": lambda a: a.map(
        add, name="b", bind={"b": a.reduce(add, name="total")}
    ),
    "its bind waits for a": lambda a: a.map(add, name="b", bind={"b": a}),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_stage_that_cannot_be_fused_says_why(reason):
    found = plan(REFUSALS[reason](numbers().map(inc, name="a")))
    assert ("b",) in stages(found)
    assert f"b begins a node: {reason}" in reasons(found, "b")


def test_a_stage_after_one_with_fuse_off_begins_a_node():
    found = plan(numbers().map(inc, name="a", fuse=False).map(inc, name="b"))
    assert stages(found) == [("a",), ("b",)]
    assert "b begins a node: a has fuse=False" in reasons(found, "b")


def test_a_stage_after_a_reduce_begins_a_node():
    found = plan(numbers().reduce(add, name="r").map(inc, name="b"))
    assert stages(found)[1:] == [("r",), ("b",)]
    assert "b begins a node: r is one value, made by a reduce" in reasons(found, "b")


def test_the_first_stage_says_what_it_reads():
    found = plan(numbers().map(inc, name="a"))
    assert "a begins a node: it reads the source numbers" in reasons(found, "a")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"request_memory": "4GB"}, "other request_memory"),
        ({"fuse": False}, "r has fuse=False"),
        ({"chunk_size": 7}, "another chunk_size (7)"),
    ],
)
def test_a_reduce_that_cannot_be_combined_in_the_node_before_says_why(options, why):
    found = plan(numbers().map(inc, name="a").reduce(add, name="r", **options))
    assert stages(found) == [("a",), ("r",)]
    assert [output.stage for output in found["a"].outputs] == ["a"]
    assert f"combines all items ({why}" in reasons(found, "r")


def test_a_reduce_with_a_bind_is_one_job():
    source = numbers()
    factor = source.reduce(add, name="factor")
    found = plan(source.map(inc, name="a").reduce(lambda a, b, f: a, name="r", bind={"f": factor}))
    assert found["r"].chunks == 1
    assert "combines all items (it has a bind)" in reasons(found, "r")
    assert set(found["r"].parents) == {"a", "factor"}


def test_stages_with_equal_options_fuse_however_they_were_given():
    chain = numbers().map(inc, name="a", request_memory=2048, retries=0)
    found = plan(chain.map(inc, name="b", request_memory="2048 MB", on_error="finish"))
    assert stages(found) == [("a", "b")]


def test_default_options_of_the_pipeline_fuse_with_the_same_given():
    chain = numbers().map(inc, name="a", retries=3).map(inc, name="b")
    assert stages(plan(chain, retries=3)) == [("a", "b")]
    assert stages(plan(chain)) == [("a",), ("b",)]


def test_a_view_is_not_read_by_a_node_that_waits_for_it():
    view = htdag.source([1, 1, 2]).distinct(name="view")
    found = plan(view.map(add, name="a", bind={"b": view}))
    assert (found["a"].input.stage, found["a"].binds[0].node) == ("view", "view")
    count = view.count(name="count", fuse=False)
    found = plan(view.map(add, name="a", bind={"b": count}))
    assert (found["a"].input.stage, found["a"].binds[0].node) == ("view", "count")


def test_a_bind_of_what_the_node_waits_for_already_does_not_split_it():
    source = numbers()
    total = source.reduce(add, name="total")
    chain = source.map(add, name="a", bind={"b": total}).map(add, name="b", bind={"b": total})
    found = plan(chain)
    assert ("a", "b") in stages(found)
    (bind,) = found["a.b"].binds
    assert (bind.stage, bind.node, bind.one) == ("total", "total", True)


def test_one_bind_serves_several_keywords():
    total = numbers().reduce(add, name="total")
    found = plan(total.inputs[0].map(lambda x, a, b: x, name="m", bind={"a": total, "b": total}))
    assert len(found["m"].binds) == 1
    assert found["m"].steps[0].binds == (("a", "total"), ("b", "total"))


def test_a_stage_may_bind_its_own_upstream():
    items = numbers().map(inc, name="a")
    found = plan(items.map(lambda x, every: x, name="b", bind={"every": items}))
    assert stages(found) == [("a",), ("b",)]
    assert found["b"].input.node == "a"
    assert [(bind.stage, bind.one) for bind in found["b"].binds] == [("a", False)]


def test_a_source_that_is_bound_is_stored_and_one_that_is_wanted_is_passed_on():
    source = numbers()
    found = plan(source.map(lambda x, every: x, name="b", bind={"every": source}), source)
    assert ("numbers",) in stages(found)
    assert found["b"].parents == ()
    assert [stored.stage for stored in found.sources] == ["numbers"]
    assert "numbers is a target: a node passes its items on" in reasons(found, "numbers")


# Names of nodes


def test_long_names_are_shortened():
    chain = numbers()
    for letter in "abcdefghijklmnop":
        chain = chain.map(inc, name=letter * 10)
    (node,) = plan(chain).nodes
    assert node.name == "aaaaaaaaaa.to.pppppppppp"


def test_a_node_of_one_stage_has_the_stages_name():
    name = "n" * 80
    (node,) = plan(numbers().map(inc, name=name)).nodes
    assert node.name == name


def test_shortened_names_differ():
    ends = "first" * 8, "last" * 8
    targets = []
    for letter in "pq":
        chain = numbers(name=f"{letter}_numbers").map(inc, name=ends[0] + letter)
        targets.append(chain.map(inc, name=ends[1] + letter))
    names = [node.name for node in plan(*targets).nodes]
    assert names == ["{0}{2}.to.{1}{2}".format(*ends, letter) for letter in "pq"]


# Chunks


@pytest.mark.parametrize(
    ("items", "size", "boundaries"),
    [
        (1, None, (0, 1)),
        (3, None, (0, 1, 2, 3)),
        (100, None, tuple(range(101))),
        (10, 10, (0, 10)),
        (10, 3, (0, 3, 6, 9, 10)),
        (10, 5, (0, 5, 10)),
        (10, 99, (0, 10)),
        (3, 1, (0, 1, 2, 3)),
    ],
)
def test_chunks_of_a_source(items, size, boundaries):
    (node,) = plan(numbers(items).map(inc, chunk_size=size)).nodes
    assert node.boundaries == boundaries
    assert node.chunks == len(boundaries) - 1
    assert node.items == items


@given(st.integers(1, 5000))
def test_by_default_there_are_at_most_a_hundred_even_chunks(items):
    (node,) = plan(numbers(items).map(inc)).nodes
    sizes = [end - start for start, end in itertools.pairwise(node.boundaries)]
    assert node.chunks == len(sizes) == min(items, MOST_JOBS)
    assert sum(sizes) == items
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 5000), st.integers(1, 6000))
def test_chunk_size_is_the_most_items_of_a_job(items, size):
    (node,) = plan(numbers(items).map(inc, chunk_size=size)).nodes
    sizes = [end - start for start, end in itertools.pairwise(node.boundaries)]
    assert sum(sizes) == items
    assert set(sizes[:-1]) <= {size}
    assert 1 <= sizes[-1] <= size


def test_the_chunk_size_of_a_source_is_that_of_the_node_reading_it():
    (node,) = plan(numbers(10, chunk_size=4).map(inc)).nodes
    assert node.boundaries == (0, 4, 8, 10)


@pytest.mark.parametrize(
    ("items", "files"),
    [(range(3000), 1), ([b"x" * 100_000] * 50, 5), ([b"x" * 2_000_000] * 7, 7)],
    ids=["small", "some", "large"],
)
@pytest.mark.parametrize("make", [list, iter])
def test_a_source_that_is_read_by_ranges_is_in_few_files(items, files, make):
    source = htdag.source(make(items), name="items")
    (stored,) = plan(source.combinations(2).map(inc, name="pairs")).sources
    assert len(stored.boundaries) - 1 == files
    assert stored.boundaries[-1] == len(items)


def test_in_how_many_files_a_source_is_does_not_decide_how_many_jobs_there_are():
    items = htdag.source(range(40), name="items")
    found = plan(items.zip(items).map(inc, name="both"), items.take(7).map(inc, name="some"))
    assert [len(stored.boundaries) - 1 for stored in found.sources] == [1]
    assert sorted(node.chunks for node in found.nodes) == [7, 40]


def test_a_stages_chunk_size_goes_before_its_sources():
    (node,) = plan(numbers(10, chunk_size=4).map(inc, chunk_size=5)).nodes
    assert node.boundaries == (0, 5, 10)


def test_a_pipelines_chunk_size_holds_where_none_is_given():
    (node,) = plan(numbers(10).map(inc), chunk_size=5).nodes
    assert node.boundaries == (0, 5, 10)
    found = plan(numbers(10).reduce(add, name="r"), chunk_size=5)
    assert found["r.combine"].boundaries == (0, 5, 10)


def test_a_sources_chunk_size_goes_before_the_pipelines():
    (node,) = plan(numbers(10, chunk_size=2).map(inc), chunk_size=5).nodes
    assert node.boundaries == (0, 2, 4, 6, 8, 10)


def test_a_node_after_another_has_as_many_jobs():
    found = plan(numbers(30).map(inc, name="a", chunk_size=10).map(inc, name="b", fuse=False))
    assert (found["b"].chunks, found["b"].items) == (3, 30)
    assert found["b"].boundaries == (0, 10, 20, 30)


def test_a_node_after_another_may_have_smaller_or_larger_chunks():
    first = numbers(30).map(inc, name="a", chunk_size=10)
    larger = plan(first.map(inc, name="b", chunk_size=30))["b"]
    assert (larger.chunks, larger.boundaries) == (1, (0, 30))
    smaller = plan(first.map(inc, name="b", chunk_size=4))["b"]
    assert (smaller.chunks, smaller.boundaries) == (8, (0, 4, 8, 12, 16, 20, 24, 28, 30))


def test_items_are_unknown_after_a_filter():
    found = plan(numbers(30).filter(bool, name="a").map(inc, name="b", fuse=False))
    assert found["b"].items is None
    assert found["b"].chunks == found["a"].chunks


def test_a_node_after_a_reduce_is_one_job():
    found = plan(numbers().reduce(add, name="r").map(inc, name="b", chunk_size=1))
    assert (found["b"].chunks, found["b"].items) == (1, 1)


@given(st.integers(0, 1000), st.integers(1, 100))
def test_even_parts_differ_by_one_at_most(total, parts):
    edges = even(total, parts)
    sizes = [b - a for a, b in itertools.pairwise(edges)]
    assert (edges[0], edges[-1], len(sizes)) == (0, total, parts)
    assert max(sizes) - min(sizes) <= 1


# Trees


def tree(chunks, fan_in, **options):
    stage = numbers(chunks, chunk_size=1).map(inc, name="a")
    return plan(stage.reduce(add, name="r", fan_in=fan_in, **options))


@pytest.mark.parametrize(
    ("chunks", "fan_in", "levels"),
    [
        (10, 10, []),
        (11, 10, [2]),
        (100, 10, [10]),
        (101, 10, [11, 2]),
        (8, 2, [4, 2]),
        (9, 2, [5, 3, 2]),
        (3, 2, [2]),
        (2, 2, []),
        (1, 2, []),
    ],
)
def test_a_wide_reduce_is_a_tree(chunks, fan_in, levels):
    found = tree(chunks, fan_in)
    assert [(node.name, node.chunks) for node in found.nodes] == [
        ("a", chunks),
        *((f"r.combine-{number}", jobs) for number, jobs in enumerate(levels, 1)),
        ("r", 1),
    ]
    for node in found.nodes[1:]:
        widths = [b - a for a, b in itertools.pairwise(node.boundaries)]
        assert max(widths) <= fan_in
        assert sum(widths) == found[node.parents[0]].chunks
        assert node.reduction.final == (node.name == "r")


def test_the_default_fan_in():
    assert len(tree(FAN_IN, None).nodes) == 2
    assert len(tree(FAN_IN + 1, None).nodes) == 3


def test_only_the_last_level_has_the_initial_value():
    found = tree(10, 2, initial=5)
    with_initial = [
        node.name
        for node in found.nodes
        if node.reduction and node.reduction.initial is not htdag.MISSING
    ]
    assert with_initial == ["r"]


def test_a_reduce_in_order_is_no_tree():
    assert [node.name for node in tree(10, 2, associative=False).nodes] == ["a", "r"]


def test_a_tree_over_items_that_could_not_be_combined_before():
    found = tree(10, 4, fuse=False)
    assert [(node.name, node.chunks) for node in found.nodes] == [
        ("a", 10),
        ("r.combine-1", 3),
        ("r", 1),
    ]
    assert found["r.combine-1"].input.stage == "a"
    assert found["r"].input.stage == "r"


def test_levels_say_what_they_are():
    assert "r: level 1 of a tree" in reasons(tree(8, 2), "r.combine-1")


def test_combining_jobs_have_the_options_of_the_reduce():
    found = tree(8, 4, request_memory="3GB")
    assert found["r.combine-1"].options.request_memory == "3GB"


# Layouts


def few():
    """Ten items in five jobs."""
    return numbers(chunk_size=2).map(inc, name="a")


def some():
    """As many, of which nobody knows how many are left."""
    return numbers(chunk_size=2).filter(bool, name="a")


def kept():
    """As many, of which those that fail are let go."""
    return few().with_options(on_error="skip")


# What each node is: jobs/items, with ? where data decides, and the files that its items leave in.
LAYOUTS = {
    "batches of a source": (lambda: numbers().batch(3, name="b"), ["b 4/4"]),
    "batches": (lambda: few().batch(3, name="b"), ["a 5/10", "b 4/4"]),
    "batches in chunks of their own": (
        lambda: numbers(name="n").batch(2, name="b").map(inc, name="c", chunk_size=2),
        ["b.c 3/5"],
    ),
    "batches in chunks, and others": (
        lambda: (
            numbers(name="n")
            .batch(2, name="b")
            .map(inc, name="c", chunk_size=2)
            .map(inc, name="d", chunk_size=3)
        ),
        ["b.c 3/5", "d 2/5"],
    ),
    "batches of what is left": (lambda: kept().batch(3, name="b"), ["a 5/10", "b 4/?"]),
    "what is left": (lambda: kept().map(inc, name="b", fuse=False), ["a 5/10", "b 5/10"]),
    "what is left of what is left": (
        lambda: kept().map(inc, name="b", on_error="skip"),
        ["a.b 5/10"],
    ),
    "batches of what is made of what is left": (
        lambda: kept().map(inc, name="b", fuse=False).batch(3, name="c"),
        ["a 5/10", "b 5/10", "c 4/?"],
    ),
    "a sorted source": (
        lambda: numbers(chunk_size=2).sort_by(name="s").map(inc, name="b"),
        ["s.combine 5/10", "s 1/10 s: 5 by rank", "b 5/10"],
    ),
    "sorted": (
        lambda: few().sort_by(name="s").map(inc, name="b"),
        ["a 5/10", "s 1/10 s: 5 by rank", "b 5/10"],
    ),
    "sorted in chunks": (
        lambda: few().sort_by(name="s", chunk_size=4).map(inc, name="b"),
        ["a 5/10", "s 1/10 s: 3 by rank", "b 3/10"],
    ),
    "what is left of a filter is sorted": (
        lambda: some().sort_by(name="s").map(inc, name="b"),
        ["a 5/10", "s 1/? s: 5 by rank", "b 5 of a chunk each"],
    ),
    "groups of a source": (
        lambda: numbers(chunk_size=2).group_by(bool, name="g").map(inc, name="b"),
        ["g.combine 5/10 g: 5 by hash", "g.b 5 of a partition each"],
    ),
    "groups in chunks": (
        lambda: some().group_by(bool, name="g", chunk_size=3).map(inc, name="b"),
        ["a 5/10 g: 4 by hash", "g.b 4 of a partition each"],
    ),
    "groups of many": (
        lambda: numbers(1000).flat_map(range, name="a").group_by(bool, name="g"),
        ["a 100/1000 g: 20 by hash", "g 20 of a partition each"],
    ),
    "groups of what data decides": (
        lambda: some().batch(5, name="b").map(inc, name="c").group_by(bool, name="g"),
        ["a 5/10", "b.c 2/? g: 10 by hash", "g ? of a partition each"],
    ),
    "combined by key": (
        lambda: few().reduce_by_key(add, name="r").map(inc, name="b"),
        ["a 5/10 r: 5 by hash", "r.b 5 of a partition each"],
    ),
    "distinct": (
        lambda: some().distinct(name="d").map(inc, name="b"),
        ["a 5/10 d: 5 by hash", "d.b 5 of a partition each"],
    ),
    "pairs": (
        lambda: htdag.source([1, 2, 3]).product(htdag.source([4, 5]), name="v"),
        ["v 6/6"],
    ),
    "many pairs": (lambda: numbers(30).combinations(2, name="v"), ["v 100/435"]),
    "zip": (lambda: few().zip(numbers(name="others"), name="v"), ["a 5/10", "v 10/10"]),
    "concat": (
        lambda: few().concat(numbers(name="others").map(inc, name="b"), name="v"),
        ["a 5/10", "b 10/10", "v 15/20"],
    ),
    "the first": (lambda: few().take(4, name="t"), ["a 2/4", "t 2/4"]),
    "the first of what is left": (lambda: some().take(4, name="t"), ["a 5/10", "t 2/?"]),
    "counted": (
        lambda: some().count(name="n").map(inc, name="b"),
        ["a 5/10", "n 1/5", "b 1/1"],
    ),
    "reduced by a tree": (
        lambda: (
            numbers(40, chunk_size=1)
            .flat_map(range, name="a")
            .map(inc, name="b", fuse=False, chunk_size=2)
            .reduce(add, name="r", fan_in=10)
        ),
        ["a 40/40", "b 20/?", "r.combine-1 2/?", "r 1/?"],
    ),
    "more jobs than there are by default": (
        lambda: numbers(400, chunk_size=1).flat_map(range, name="a").map(inc, name="b", fuse=False),
        ["a 400/400", "b 100/?"],
    ),
}


def layout(node):
    text = f"{node.name} {node.chunks}/{'?' if node.dynamic else node.items}"
    if node.by_chunk:
        text = f"{node.name} {node.chunks} of a chunk each"
    if node.input.view in ("group_by", "reduce_by_key", "distinct"):
        jobs = "?" if node.dynamic else node.chunks
        text = f"{node.name} {jobs} of a partition each"
    parts = [f" {out.stage}: {out.parts} by {out.split}" for out in node.outputs if out.split]
    return text + "".join(parts)


@pytest.mark.parametrize("case", LAYOUTS)
def test_how_each_node_is_laid_out(case):
    make, expected = LAYOUTS[case]
    found = plan(make())
    assert [layout(node) for node in found.nodes] == expected
    # Only what somebody needs is written.
    assert [output.stage for output in found.nodes[-1].outputs] == list(found.targets)
    for node in found.nodes:
        counted = node.dynamic or node.input.view in ("group_by", "reduce_by_key", "distinct")
        assert (node.boundaries == ()) == counted
        assert (node.items is None) == (counted or node.by_chunk)
        if not counted:
            assert len(node.boundaries) == node.chunks + 1
            assert node.boundaries[-1] == (node.chunks if node.by_chunk else node.items)


# The plan as a whole


def tangled():
    """A graph with all that makes planning hard."""
    source = numbers(50)
    a = source.map(inc, name="a")
    total = a.reduce(add, name="total", fan_in=2)
    b = a.map(lambda x, t: x + t, name="b", bind={"t": total})
    c = source.map(lambda x, t: x, name="c", bind={"t": total})
    d = c.map(lambda x, t, every: x, name="d", bind={"t": total, "every": b})
    e = a.filter(lambda x, s: x, name="e", bind={"s": source})
    f = e.map(lambda x, own: x, name="f", bind={"own": e})
    g = d.reduce(lambda p, q, t: p, name="g", bind={"t": total})
    h = htdag.source([1], name="other").map(lambda x, g, f: x, name="h", bind={"g": g, "f": f})
    return b, d, f, g, h, total


def test_parents_come_before_children():
    found = plan(*tangled())
    assert nx.is_directed_acyclic_graph(found.graph)
    seen = set()
    for node in found.nodes:
        assert set(node.parents) <= seen
        seen.add(node.name)


def test_everything_wanted_is_written_somewhere():
    found = plan(*tangled())
    for target in found.targets:
        node = found[found.where[target]]
        assert any(out.stage == target and out.whole for out in node.outputs)


def test_each_stage_is_in_just_one_node():
    found = plan(*tangled())
    placed = sorted(stage for node in found.nodes for stage in node.stages)
    assert placed == sorted([*"abcdefgh", "total"])
    # `numbers` is bound whole, so it is stored whole.
    assert [stored.stage for stored in found.sources] == ["numbers"]


@st.composite
def tangles(draw):
    """Any number of stages, each after and bound to any of those before."""
    made = [numbers(5), htdag.source([1, 2], name="other")]
    for number in range(draw(st.integers(1, 10))):
        upstream = draw(st.sampled_from(made))
        bound = draw(st.lists(st.sampled_from(made), max_size=2))
        bind = {f"k{n}": stage for n, stage in enumerate(bound)}
        options = {"name": f"s{number}", "bind": bind, "fuse": draw(st.booleans())}
        if draw(st.booleans()):
            made.append(upstream.map(lambda x, **bound: x, **options))
        else:
            associative = draw(st.booleans())
            made.append(
                upstream.reduce(lambda x, y, **bound: x, associative=associative, **options)
            )
    return draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique_by=id))


@given(tangles())
def test_binds_never_make_a_cycle(targets):
    found = plan(*targets)
    assert nx.is_directed_acyclic_graph(found.graph)
    for node in found.nodes:
        needed = [node.input.stage] if node.input.source is None else []
        for stage in needed + [bind.stage for bind in node.binds if bind.node is not None]:
            assert stage in {out.stage for parent in node.parents for out in found[parent].outputs}


def test_equal_pipelines_have_equal_plans():
    flow = htdag.Pipeline(*tangled(), name="flow")
    once, again = flow.plan(), flow.plan()
    assert once.nodes == again.nodes
    assert once.where == again.where
    other = htdag.Pipeline(*tangled(), name="flow").plan()
    for node, twin in zip(once.nodes, other.nodes, strict=True):
        for field in ("name", "stages", "parents", "chunks", "boundaries", "dynamic", "reasons"):
            assert getattr(node, field) == getattr(twin, field)


def test_planning_does_not_change_the_graph():
    flow = htdag.Pipeline(*tangled(), name="flow")
    before = {name: dict(data) for name, data in flow.graph.nodes(data=True)}
    flow.plan()
    assert {name: dict(data) for name, data in flow.graph.nodes(data=True)} == before


def test_the_graph_of_a_pipeline_is_a_copy():
    flow = htdag.Pipeline(numbers().map(inc, name="a"), name="flow")
    flow.graph.remove_node("a")
    assert "a" in flow.graph


def test_the_number_of_jobs():
    assert tree(10, 4).jobs == 10 + 3 + 1


def test_a_node_is_found_by_name():
    found = tree(10, 10)
    assert found["r"].name == "r"
    with pytest.raises(KeyError):
        found["nowhere"]


def test_a_plan_of_many_items_looks_at_none_of_them(monkeypatch):
    def pickled(*_):
        raise AssertionError("planning pickled an item")

    monkeypatch.setattr("htdag.stages.sources.ItemPickler.__call__", pickled)
    found = plan(htdag.source(range(10_000_000)).map(inc, name="a").reduce(add))
    assert found["a"].items == 10_000_000
    assert len(found["a"].boundaries) == MOST_JOBS + 1


def test_a_long_chain_is_planned_in_few_steps(monkeypatch):
    """The work grows with the number of stages, not with its square or worse."""
    monkeypatch.setattr("htdag.stages.stage.check_function", lambda *_: None)  # not what is tested
    asked = 0
    real = nx.ancestors

    def ancestors(*arguments):
        nonlocal asked
        asked += 1
        return real(*arguments)

    monkeypatch.setattr(nx, "ancestors", ancestors)
    chain = numbers()
    for _ in range(100):
        chain = chain.map(inc)
    (node,) = plan(chain).nodes
    assert len(node.steps) == 100
    assert asked <= 100


def test_a_chain_may_be_longer_than_the_stack(monkeypatch):
    monkeypatch.setattr("htdag.stages.stage.check_function", lambda *_: None)
    chain = numbers()
    for _ in range(sys.getrecursionlimit() + 10):
        chain = chain.map(inc)
    assert len(htdag.Pipeline(chain).graph) == sys.getrecursionlimit() + 11


def test_many_nodes_are_chunked_once_each(monkeypatch):
    asked = []
    real = chunk_pass._chunked
    monkeypatch.setattr(
        chunk_pass, "_chunked", lambda *args: asked.append(args[0].name) or real(*args)
    )
    chain = numbers()
    for _ in range(50):
        chain = chain.map(inc, fuse=False)
    found = plan(chain)
    assert len(found.nodes) == len(asked) == len(set(asked)) == 50


def test_few_chunks_are_kept_behind_a_filter():
    few = numbers(40, chunk_size=5).filter(bool, name="a").map(inc, name="b", fuse=False)
    node = plan(few)["b"]
    assert (node.chunks, node.by_chunk, node.dynamic, node.items) == (8, True, False, None)
    assert "8 jobs, one for each chunk of a: counting so few" in reasons(plan(few), "b")


@pytest.mark.parametrize(
    "stage",
    [
        numbers(40, chunk_size=2).filter(bool, name="a").map(inc, name="b", fuse=False),
        numbers(40, chunk_size=5).flat_map(range, name="a").map(inc, name="b", fuse=False),
        numbers(40, chunk_size=5)
        .filter(bool, name="a")
        .map(inc, name="b", fuse=False, chunk_size=3),
        numbers(40, chunk_size=5).filter(bool, name="a").batch(3, name="b"),
        numbers(40, chunk_size=5).filter(bool, name="a").take(3, name="b"),
    ],
)
def test_other_numbers_of_items_are_counted_first(stage):
    node = plan(stage)["b"]
    assert (node.by_chunk, node.dynamic, node.boundaries) == (False, True, ())
