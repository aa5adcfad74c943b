"""Jobs, memory and disk that follow from what earlier runs measured: made-up measures."""

from __future__ import annotations

import functools
import math
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import htdag
from htdag.plan import make_plan
from htdag.plan.simulate import Capacity
from htdag.plan.stage_keys import GROUPS, PARTS, origin, stage_keys
from htdag.plan.tune import Measured, Settings, rounded


def work(x):
    return x


def keep(x):
    return x > 0


def add(a, b):
    return a + b


def measured(**values):
    known = {
        "run": 1.0,
        "node": "elsewhere",
        "jobs": 4,
        "calls": 100,
        "seconds": 1.0,
        "ratio": 1.0,
        "rest": 0.0,
        "memory_mb": 100.0,
        "disk_mb": 1.0,
        "disk_fixed_mb": 10.0,
    }
    return Measured(**(known | values))


def planned(flow, slots=4, settings=None, parts=None, groups=None, **by_stage):
    """The plan of a pipeline with measures of some of its stages."""
    keys = stage_keys(flow.graph, flow.name)
    measures = {
        keys[stage]: runs if isinstance(runs, tuple) else (runs,)
        for stage, runs in by_stage.items()
    }
    measures |= {keys[stage] + PARTS: (runs,) for stage, runs in (parts or {}).items()}
    for stage, found in (groups or {}).items():
        measures[keys[stage] + GROUPS] = tuple(measured(calls=number) for number in found)
    return make_plan(
        flow.graph,
        flow.targets,
        flow.name,
        measures=measures,
        capacity=Capacity(slots),
        settings=settings,
    )


def a_map(items=1000, **options):
    return htdag.Pipeline(htdag.source(range(items)).map(work, name="work", **options), name="flow")


def jobs(flow, **given):
    (node,) = planned(flow, **given).nodes
    return node.chunks


def test_without_measures_the_plan_is_what_it_was():
    flow = a_map()
    assert planned(flow).nodes == make_plan(flow.graph, flow.targets, flow.name).nodes
    other = planned(flow, slots=7, settings=Settings(1.0))
    assert other.nodes == planned(flow).nodes


def test_equal_measures_give_equal_plans():
    flow = a_map()
    assert planned(flow, work=measured()).nodes == planned(flow, work=measured()).nodes


@pytest.mark.parametrize(
    ("items", "seconds", "slots", "expected", "why"),
    [
        (1000, 60.0, 4, 100, "for jobs of about 10 min"),  # 60,000 s in jobs of 600 s
        (1000, 1.0, 4, 8, "two for each of 4 slots"),
        # 1,000 s in jobs of 500 s, since two make use of it at most
        (1000, 1.0, 1, 2, "for jobs of about 10 min"),
        (5, 1.0, 4, 5, "one for each item"),
        (8, 1.0, 4, 8, "one for each item"),
        (9, 1.0, 4, 8, "two for each of 4 slots"),
        # short jobs: no more than without history
        (1000, 0.0001, 1000, 100, "fewer than two for each of 1,000 slots"),
        # half an hour of slots: jobs of a minute
        (1000, 30.0, 1000, 500, "fewer than two for each of 1,000 slots"),
        (100_000, 600.0, 4, 10_000, "the most that are made"),  # not without end
        (1, 1e6, 4, 1, "one for each item"),
        (1000, 0.0, 4, 8, "two for each of 4 slots"),
    ],
)
def test_the_number_of_jobs_and_why(items, seconds, slots, expected, why):
    (node,) = planned(a_map(items), work=measured(seconds=seconds), slots=slots).nodes
    assert node.chunks == expected
    assert f", {why}" in node.reasons[1]
    assert node.measured.startswith("in 1 run: ")


def test_what_was_not_measured_and_little_work_have_the_default_number_of_jobs():
    start = htdag.source(range(100)).map(work, name="work")
    fused = planned(htdag.Pipeline(start.map(work, name="after"), name="flow"), work=measured())
    assert fused["work.after"].chunks == 100
    assert any("nothing was measured of after" in each for each in fused["work.after"].reasons)
    apart = start.map(work, name="after", fuse=False)
    little = {"work": measured(), "after": measured(seconds=0.01)}
    reasons = planned(htdag.Pipeline(apart, name="flow"), **little)["after"].reasons
    assert "so little work (1 s in all) that its jobs are the default" in reasons


def test_the_target_is_a_setting():
    given = {"work": measured(seconds=60.0), "slots": 1}
    assert jobs(a_map(), **given, settings=Settings(6000.0)) == 10
    assert jobs(a_map(), **given, settings=Settings(60.0)) == 1000


def test_a_job_of_several_cpus_takes_several_slots():
    given = {"work": measured(), "slots": 8}
    assert jobs(a_map(), **given) == 16
    assert jobs(a_map(request_cpus=4), **given) == 4


@given(
    items=st.integers(1, 5000),
    seconds=st.floats(0, 1e5),
    slots=st.integers(1, 100_000),
    target=st.floats(0.001, 1e6),
)
def test_jobs_have_items_and_there_are_enough_for_the_slots(items, seconds, slots, target):
    found = jobs(
        a_map(items), work=measured(seconds=seconds), slots=slots, settings=Settings(target)
    )
    assert 1 <= found <= min(items, 10_000)
    assert found >= min(items, 2 * slots, 100)
    if found < min(items, 10_000):
        # Longer than wanted only by the part of an item that cannot be cut.
        assert items * seconds / found <= target * 1.001


def test_a_chunk_size_that_was_given_stays():
    flow = a_map(chunk_size=10)
    (node,) = planned(flow, work=measured(seconds=100.0)).nodes
    assert (node.chunks, node.jobs) == (100, None)
    assert node.options.request_memory == "256MB"


def test_what_is_asked_for_by_hand_stays():
    flow = a_map(request_memory="1GB", request_disk="3GB")
    (node,) = planned(flow, work=measured()).nodes
    assert (node.options.request_memory, node.options.request_disk) == ("1GB", "3GB")
    assert node.options.retry_request_memory is None
    assert not any(reason.startswith(("memory", "disk")) for reason in node.reasons)


def test_memory_is_the_most_with_a_margin_and_python_and_more_for_a_second_try():
    runs = (measured(run=1.0, memory_mb=310), measured(run=2.0, memory_mb=50))
    (node,) = planned(a_map(), work=runs).nodes
    assert node.options.request_memory == "512MB"  # 1.25 * 310 + 64
    assert node.options.retry_request_memory == "1024MB"
    assert "in 2 runs: 1 s an item, 310 MB at the peak" in node.measured


def test_a_retry_that_was_given_stays():
    (node,) = planned(a_map(retry_request_memory="9GB"), work=measured()).nodes
    assert node.options.request_memory == "256MB"
    assert node.options.retry_request_memory == "9GB"


def test_disk_grows_with_the_items_of_a_job_but_for_what_all_jobs_have():
    def disk(**options):
        runs = measured(disk_mb=50, disk_fixed_mb=1000)
        (node,) = planned(a_map(100, **options), work=runs).nodes
        return int(node.options.request_disk.removesuffix("MB"))

    assert disk(chunk_size=1) == rounded(1050 * 1.25)
    assert disk(chunk_size=100) == rounded(6000 * 1.25)
    (node,) = planned(a_map(), work=measured(disk_mb=0, disk_fixed_mb=0)).nodes
    assert node.options.request_disk is None  # not measured


def test_stages_of_a_node_add_up_and_a_filter_counts_for_what_comes_after():
    items = htdag.source(range(1000)).map(work, name="first").filter(keep, name="few")
    flow = htdag.Pipeline(items.map(work, name="last"), name="flow")
    (node,) = planned(
        flow,
        first=measured(seconds=1.0, rest=2.0),
        few=measured(seconds=1.0, ratio=0.01),
        last=measured(seconds=600.0),
        slots=1,
    ).nodes
    assert node.chunks == 17  # 10 s an item: 1 + 1 + 0.01 * 600 + 2
    assert "10 s an item (last: 6 s)" in node.measured


def test_a_node_reads_as_many_items_as_the_filter_before_it_left():
    items = htdag.source(range(1000)).filter(keep, name="few")
    flow = htdag.Pipeline(items.map(work, name="work", fuse=False), name="flow")
    _, node = planned(
        flow, few=measured(seconds=0.001, ratio=0.1), work=measured(seconds=60.0), slots=1
    ).nodes
    assert node.jobs == node.chunks == 10
    assert node.per_job == pytest.approx(10)
    assert node.dynamic  # laid out again when it is known how many there are


def test_where_a_stage_was_never_measured_the_number_of_jobs_is_the_default():
    items = htdag.source(range(1000)).map(work, name="old").map(work, name="new")
    (node,) = planned(htdag.Pipeline(items, name="flow"), old=measured(seconds=100.0)).nodes
    assert node.chunks == 100
    assert node.options.request_memory == "256MB"
    assert any("nothing was measured of new" in reason for reason in node.reasons)


def test_a_reduce_has_one_job_and_memory_of_its_own():
    total = htdag.source(range(1000)).map(work, name="work").reduce(add, name="total")
    flow = htdag.Pipeline(total, name="flow")
    first, last = planned(
        flow,
        work=measured(memory_mb=2000),
        parts={"total": measured(memory_mb=10)},
        total=measured(memory_mb=500),
    ).nodes
    assert first.options.request_memory == "2816MB"
    assert (last.chunks, last.options.request_memory) == (1, "768MB")


def test_measures_of_the_same_node_go_before_those_of_another():
    def memory(*runs):
        (node,) = planned(a_map(), work=runs).nodes
        return node.options.request_memory

    other, same = measured(memory_mb=9000), measured(node="work", memory_mb=100)
    assert memory(other, same) == "256MB"
    assert memory(other) == rounded_text(9000)


def rounded_text(memory):
    return f"{rounded(memory * 1.25 + 64)}MB"


def test_one_odd_run_does_not_change_the_time():
    runs = tuple(
        measured(run=float(number), seconds=seconds, calls=calls)
        for number, (seconds, calls) in enumerate([(1.0, 500), (1.1, 500), (90.0, 3)])
    )
    assert jobs(a_map(100_000), work=runs, slots=1) == math.ceil(100_000 * 1.1 / 600)


def test_proposals_do_not_change_which_stages_share_a_node():
    stage = htdag.source(range(1000)).map(work, name="a").map(work, name="b")
    flow = htdag.Pipeline(stage.reduce(add, name="c"), name="flow")
    without = make_plan(flow.graph, flow.targets, flow.name)
    found = planned(flow, a=measured(), b=measured(memory_mb=9000))
    assert [node.stages for node in found.nodes] == [node.stages for node in without.nodes]
    assert [node.name for node in found.nodes] == [node.name for node in without.nodes]


@given(st.floats(0.1, 1e7))
def test_sizes_are_rounded_up_to_what_a_person_would_ask_for(size):
    found = rounded(size)
    assert size <= found <= max(128, size * 1.13, size + 128)
    assert found % 128 == 0


# Which stage is which


def keys(*targets, name=None):
    flow = htdag.Pipeline(*targets, name=name)
    return stage_keys(flow.graph, flow.name)


def numbers():
    return htdag.source(range(3))


def test_a_changed_function_is_the_same_stage_where_names_were_given():
    one = keys(numbers().map(lambda x: x + 1, name="step"), name="flow")
    other = keys(numbers().map(work, name="step"), name="flow")
    assert one == other == {"step": "flow/step/map"}


def test_other_pipelines_stages_and_kinds_are_others():
    step = numbers().map(work, name="step")
    found = {
        *keys(step, name="flow").values(),
        *keys(step, name="other").values(),
        *keys(numbers().map(work, name="steps"), name="flow").values(),
        *keys(numbers().filter(work, name="step"), name="flow").values(),
    }
    assert len(found) == 4


def test_with_derived_names_the_function_has_to_be_of_the_same_file_and_name():
    assert keys(numbers().map(work)) == {"work": "work/work/map/test_tune.py:work"}
    # A derived name may number functions as they come.
    first = keys(numbers().map(lambda x: x + 1), name="flow")["map"]
    assert first == keys(numbers().map(lambda x: x + 1), name="flow")["map"]
    assert first != keys(numbers().map(lambda x: x + 2), name="flow")["map"]
    # The pipeline has the name of its target, which may be that of another script's.
    assert keys(numbers().map(work).map(work, name="last")).keys() == {"work", "last"}
    assert keys(numbers().map(work))["work"] != keys(numbers().map(work, name="work"))["work"]


class Scale:
    def __call__(self, x):
        return 2 * x

    def method(self, x):
        return x


def test_every_kind_of_function_has_an_origin():
    assert origin(Scale()) == "test_tune.py:Scale.__call__"
    assert origin(Scale().method) == "test_tune.py:Scale.method"
    assert origin(functools.partial(functools.partial(work), 1)) == "test_tune.py:work"
    assert origin(math.sqrt) == "math:sqrt"
    assert origin(operator.attrgetter("x")).endswith("attrgetter.__call__")
    assert origin(Scale).endswith("Scale")


def test_what_is_typed_in_is_the_same_in_the_next_session():
    def typed(session):
        variables = {}
        exec(compile("def f(x): return x", f"/tmp/ipykernel_{session}/1.py", "exec"), variables)
        return origin(variables["f"])

    assert typed(1) == typed(2) == ":f"


def test_keys_have_an_end():
    def long(end):
        def function(x):
            return x

        function.__qualname__ = "q" * 500 + end
        return keys(numbers().map(function), name="flow")["function"]

    assert len(long("a")) <= 300
    assert long("a") == long("a") != long("b")


def grouped(items=10_000, **options):
    groups = htdag.source(range(items)).group_by(abs, name="groups", **options)
    after = groups.map(work, name="work").map(work, name="after", fuse=False)
    return htdag.Pipeline(after, name="flow", lanes=1)


def test_after_a_keyed_stage_there_are_as_many_items_as_it_found_keys_before():
    given = {"work": measured(), "after": measured(), "slots": 100}
    _, _, after = planned(grouped(), **given).nodes
    assert after.jobs == 10_000 // 60
    _, _, after = planned(grouped(), groups={"groups": [400, 500, 9_999]}, **given).nodes
    assert after.jobs == 100
    assert "about 100 jobs of 5 s: 500 items of 1 s" in " ".join(after.reasons)
    _, _, after = planned(grouped(200), groups={"groups": [500]}, **given).nodes
    assert "200 items of 1 s" in " ".join(after.reasons)


def test_partitions_follow_what_was_measured():
    def parts(seconds, slots=4, found=1000, **options):
        first, second, _ = planned(
            grouped(**options),
            slots=slots,
            groups={"groups": [found]},
            parts={"groups": measured(seconds=0.001)},
            work=measured(seconds=seconds),
        ).nodes
        assert second.chunks == first.outputs[0].parts
        return second.chunks

    default = parts(0.01)  # 10 s of work are not worth other partitions
    assert default == 8
    assert parts(60.0) == 100  # jobs of ten minutes
    assert parts(60.0, chunk_size=500) == 20
    assert parts(60.0, partitions=3) == 3
    assert parts(1.0, slots=30) == 60
    assert parts(3600.0, found=10_000) == 1000  # the most there may be


def test_partitions_are_not_more_files_than_a_run_may_have():
    numbers = htdag.source(range(1000)).map(work, name="first", chunk_size=1)
    flow = htdag.Pipeline(numbers.distinct(name="some").map(work, name="work"), name="flow")
    first, second = planned(flow, groups={"some": [900]}, work=measured(seconds=600.0)).nodes
    assert (first.chunks, second.chunks) == (1000, 10)
