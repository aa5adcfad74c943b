"""A run that takes over what an earlier one has finished gives what a run from nothing gives.

Random pipelines are run, with failures, then edited in random ways and run again.
"""

from __future__ import annotations

import os
import shutil
import zlib

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from reference import EmptyReduce, evaluate, result, run_nodes, without_fork

import htdag
from htdag.compile import write_run
from htdag.observe import outcomes
from htdag.plan import make_plan
from htdag.plan.layouts import NO_LAYOUTS, layouts_of
from htdag.reuse.takeover import Takeover, is_as_before
from htdag.runtime import planfile
from htdag.runtime.dag import adopt

EXAMPLES = int(os.environ.get("HTDAG_EXAMPLES", "25"))


def joined(a, b):
    return (a + b)[-12:]


def added(number):
    return lambda text: f"{text}{number}"[-8:]


def filtered(number):
    return lambda text: len(text) % 3 != number


def extended(number):
    return lambda text: [text[:2], text[number:]] if len(text) != number else []


def by_length(number):
    return lambda text: len(text) // (number + 1)


def bound(number):
    return lambda text, total: f"{text}{len(total)}{number}"[-8:]


def fails(number):
    """Fail on some texts unless the number is 2."""

    def function(text):
        if number != 2 and zlib.crc32(text.encode()) % 3 == 0:
            raise ValueError(text)
        return text + "."

    return function


STAGES = {
    "map": lambda stage, other, n, **o: stage.map(added(n), **o),
    "fails": lambda stage, other, n, **o: stage.map(fails(n), **o),
    "filter": lambda stage, other, n, **o: stage.filter(filtered(n), **o),
    "flat_map": lambda stage, other, n, **o: stage.flat_map(extended(n), **o),
    "bind": lambda stage, other, n, **o: stage.map(bound(n), bind={"total": other}, **o),
    "reduce": lambda stage, other, n, **o: stage.reduce(joined, initial=str(n), **o),
    "tree": lambda stage, other, n, **o: stage.reduce(joined, initial="", fan_in=2, **o),
    "ordered": lambda stage, other, n, **o: stage.reduce(
        joined, initial=str(n), associative=False, **o
    ),
    "fold": lambda stage, other, n, **o: stage.fold(joined, joined, initial="", **o),
    "count": lambda stage, other, n, **o: stage.count(**o).map(str),
    "group": lambda stage, other, n, **o: stage.group_by(by_length(n), **o).starmap(
        lambda key, texts: f"{key}{''.join(texts)}"[-9:]
    ),
    "by_key": lambda stage, other, n, **o: stage.reduce_by_key(
        joined, key=by_length(n), **o
    ).starmap(lambda key, text: f"{key}{text}"),
    "distinct": lambda stage, other, n, **o: stage.distinct(by_length(n), **o),
    "sort": lambda stage, other, n, **o: stage.sort_by(by_length(n), **o),
    "take": lambda stage, other, n, **o: stage.take(n + 2, **o).map(str),
    "batch": lambda stage, other, n, **o: stage.batch(n + 1, **o).map(lambda t: "".join(t)[-9:]),
    "enumerate": lambda stage, other, n, **o: stage.enumerate(n, **o).starmap(
        lambda number, text: f"{number}{text}"[-9:]
    ),
    "zip": lambda stage, other, n, **o: stage.zip(other, **o).starmap(joined),
    "product": lambda stage, other, n, **o: stage.product(other.take(2), **o).starmap(joined),
    "combinations": lambda stage, other, n, **o: stage.take(4).combinations(2, **o).starmap(joined),
    "concat": lambda stage, other, n, **o: stage.concat(other, **o).map(str),
}
TARGETS = st.lists(st.integers(0, 9), max_size=2)
KINDS = ["map", "map", *["fails"] * 6, *STAGES]
TEXTS = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=12)
OPTIONS = st.sampled_from(
    [{}, {}, {}, {"fuse": False}, {"fuse": False}, {"chunk_size": 2}, {"request_memory": "1GB"}]
)
SPECS = st.tuples(
    st.sampled_from(KINDS), st.integers(0, 2), st.integers(0, 9), st.integers(0, 9), OPTIONS
)


def pipeline(items, specs, targets, chunk_size):
    made = [htdag.source(items, chunk_size=chunk_size)]
    for kind, number, above, other, options in specs:
        upstream = made[-1] if above > 3 else made[above % len(made)]
        made.append(STAGES[kind](upstream, made[other % len(made)], number, **options))
    chosen = {id(s): s for s in [made[-1], *(made[n % len(made)] for n in targets)]}
    return htdag.Pipeline(*chosen.values(), name="flow")


def exchanged(specs, place, other):
    specs[place], specs[other] = specs[other], specs[place]


OF_ITEMS = {
    "add": lambda draw, items, place: items.extend(draw(TEXTS)),
    "insert": lambda draw, items, place: items.insert(place, draw(st.text("abc", min_size=1))),
    "drop": lambda draw, items, place: items.pop(place),
    "change": lambda draw, items, place: items.__setitem__(place, "new"),
    "fewer": lambda draw, items, place: items.__delitem__(slice(place + 1, None)),
    "order": lambda draw, items, place: items.sort(key=lambda text: (text[-1], text)),
    "backwards": lambda draw, items, place: items.reverse(),
    "twice": lambda draw, items, place: items.insert(place, items[place // 2]),
}
OF_STAGES = {
    "number": lambda draw, specs, place: specs.__setitem__(
        place, (specs[place][0], (specs[place][1] + 1) % 3, *specs[place][2:])
    ),
    "option": lambda draw, specs, place: specs.__setitem__(
        place, (*specs[place][:4], draw(OPTIONS))
    ),
    "stage": lambda draw, specs, place: specs.append(draw(SPECS)),
    "without": lambda draw, specs, place: specs.pop(place),
    "exchange": lambda draw, specs, place: exchanged(specs, place, place // 2),
}


@st.composite
def edited(draw, items, specs, targets):
    """The items, stages and targets after a person has worked on the script."""
    items, specs = list(items), list(specs)
    for _ in range(draw(st.integers(0, 3))):
        what = draw(st.sampled_from([*OF_ITEMS, *OF_STAGES, "targets"]))
        place = draw(st.integers(0, 20))
        if what == "targets":
            targets = draw(TARGETS)
        elif what in OF_ITEMS:
            OF_ITEMS[what](draw, items, place % len(items))
            items = items or ["a"]
        else:
            OF_STAGES[what](draw, specs, place % len(specs))
            specs = specs or [draw(SPECS)]
    # What failed is mended.
    mended = [(k, 2 if k == "fails" else n, *rest) for k, n, *rest in specs]
    return items, mended, targets


@pytest.fixture(scope="module")
def in_process():
    with pytest.MonkeyPatch.context() as patch, without_fork(patch):
        patch.setattr("htdag.stages.stage.check_function", lambda *_: None)
        patch.setattr("htdag.plan.chunk.MOST_JOBS", 3)
        yield


def compiled(flow, run, old=None):
    """Write a run directory that takes over what an old one has."""
    layouts = NO_LAYOUTS if old is None else layouts_of(planfile.read(str(old)))
    plan = make_plan(flow.graph, flow.targets, flow.name, layouts=layouts)
    write_run(plan, run, run.name, Takeover(old))


def values(run, stage):
    """The values of a stage, with their keys."""
    plan = planfile.read(str(run))
    frames = outcomes.stage_values(run, plan, stage, whole=True)
    return [(frame.key, outcomes.load_value(frame, run)) for _, frame in frames]


def reused(run):
    nodes = planfile.read(str(run))["nodes"]
    every = [taken for node in nodes if (taken := adopt.taken(str(run), node)) is not None]
    assert all(taken.reused + taken.unfinished <= taken.items for taken in every)
    return sum(taken.reused for taken in every)


@given(data=st.data())
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_run_with_an_earlier_one_gives_what_one_without_gives(in_process, tmp_path, data):
    old = None
    items = data.draw(TEXTS, label="items")
    specs = data.draw(st.lists(SPECS, min_size=1, max_size=5), label="stages")
    targets = data.draw(TARGETS, label="targets")
    done = False
    for number in range(3):
        run = tmp_path / str(number)
        shutil.rmtree(run, ignore_errors=True)
        chunk_size = data.draw(st.none() | st.integers(1, 4), label="chunk_size")
        flow = pipeline(items, specs, targets, chunk_size)
        compiled(flow, run, old)
        failed = run_nodes(run)
        event(f"failed: {bool(failed)}")
        if old is not None:
            event(f"reused: {min(reused(run), 10)}")
        try:
            expected = evaluate(flow.graph)
        except (EmptyReduce, ValueError):
            expected = {}
        for target in flow.targets if expected else ():
            assert failed == []
            assert result(run, target) == expected[target]
        if done and is_as_before(old, run):
            event("as before")
            assert [values(old, target) for target in flow.targets] == [
                values(run, target) for target in flow.targets
            ]
        if expected and number == 2:  # the keys are those of a run from nothing
            fresh = tmp_path / "fresh"
            shutil.rmtree(fresh, ignore_errors=True)
            write_run(make_plan(flow.graph, flow.targets, flow.name), fresh, "fresh")
            run_nodes(fresh)
            for target in flow.targets:
                assert values(run, target) == values(fresh, target)
        old, done = run, bool(expected)
        items, specs, targets = data.draw(edited(items, specs, targets), label="edited")
