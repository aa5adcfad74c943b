"""Random pipelines, planned and run in random ways, give what plain Python gives.

Items are short texts: joined, they show order, loss and repetition. ``HTDAG_EXAMPLES`` sets how
many pipelines are tried, for a longer search than every run of the tests can afford.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from reference import EmptyReduce, compiled, evaluate, result, run_nodes, without_fork

import htdag

EXAMPLES = int(os.environ.get("HTDAG_EXAMPLES", "60"))


def sometimes_fails(folder, text):
    """Fail on some texts, each of them once in a run."""
    digest = hashlib.sha1(text.encode()).hexdigest()
    if digest[0] in "0123" and Path(folder).exists():
        try:
            Path(folder, digest).touch(exist_ok=False)
        except FileExistsError:
            return text + "'"
        raise ValueError(text)
    return text + "'"


def sometimes_joins(folder, a, b):
    return a + sometimes_fails(folder, b)[:-1]


def join(a, b):
    return a + b


def extend(letters, text):
    letters.extend(text)
    return letters


def add(a, b):
    return a + b


def nested(a, b):
    return f"({a}{b})"[-40:]


def extend_in_place(a, b):
    a.extend(b)
    return a


def width(text, bound):
    return f"{text}{len(bound)}"


def width_fits(text, bound):
    return (len(text) + len(bound)) % 3 != 0


def width_joined(a, b, bound):
    return f"{a}{b}{len(bound)}"[-40:]


def fails(text):
    """Fail on about a third of all texts, each time."""
    if hashlib.sha1(text.encode()).digest()[0] < 80:
        raise ValueError(text)
    return text


def letters_until(text):
    """Yield letters, and fail at some."""
    for number, letter in enumerate(text[:4]):
        yield fails(letter + str(number))


def fails_to_tell(text):
    return len(fails(text)) % 2


class Two(NamedTuple):
    first: str
    second: str


# Keys that are equal, though not the same, and some that are neither.
ODD_KEYS = [1, 1.0, True, Fraction(1), 2, np.int8(2), "2", (1, "a"), Two(1, "a"), None, 10**5000]


def odd_key(text):
    return ODD_KEYS[len(text) * 7 % len(ODD_KEYS)]


SKIP = {"on_error": "skip", "max_errors": 1.0}

PER_ITEM = {
    "loses": lambda stage, **o: stage.map(fails, **SKIP, **o),
    "loses some": lambda stage, **o: stage.flat_map(letters_until, **SKIP, **o),
    "keeps some": lambda stage, **o: stage.filter(fails_to_tell, **SKIP, **o),
    "tuples": lambda stage, **o: stage.map(lambda text: Two(text[:2], text[2:]), **o).map(
        lambda two: two.second + two.first, **o
    ),
    "upper": lambda stage, **o: stage.map(str.upper, **o),
    "short": lambda stage, **o: stage.map(lambda text: text[-6:], **o),
    "tail": lambda stage, **o: stage.filter(lambda text: len(text) % 2 == 0, **o),
    "never": lambda stage, **o: stage.filter(lambda text: "#" in text, **o),
    "letters": lambda stage, **o: stage.flat_map(lambda text: text[:3], **o),
    "nothing": lambda stage, **o: stage.flat_map(lambda text: (), **o),
    "pair": lambda stage, **o: stage.map(lambda text: (text[:2], text[2:8]), **o).starmap(
        lambda first, rest: rest + first, **o
    ),
    "named": lambda stage, **o: stage.map(lambda text: {"a": text, "b": "-"}, **o).starmap(
        lambda a, b: b + a, **o
    ),
}
BOUND = {
    "width": lambda stage, bind, **o: stage.map(width, bind=bind, **o),
    "fits": lambda stage, bind, **o: stage.filter(width_fits, bind=bind, **o),
    "joined": lambda stage, bind, **o: stage.reduce(
        width_joined, bind=bind, associative=False, initial="", **o
    ),
}
REDUCES = {
    "join": lambda stage, **o: stage.reduce(join, **o),
    "from": lambda stage, **o: stage.reduce(join, initial="^", **o),
    "fold": lambda stage, **o: stage.fold(extend, add, initial=[], **o).map("".join),
    "count": lambda stage, **o: stage.count(**o).map(str),
    "ordered": lambda stage, **o: stage.reduce(nested, associative=False, **o),
    "seeded": lambda stage, **o: stage.reduce(nested, initial="", associative=False, **o),
}
ASSOCIATIVE = ("join", "from", "fold")
# What gives text again, whatever it is after.
KEYED = {
    "groups": lambda stage, **o: stage.group_by(len, **o).starmap(
        lambda key, texts: f"{key}{''.join(texts)}"[-30:]
    ),
    "counts": lambda stage, **o: (
        stage.map(lambda text: (text[:1], text))
        .reduce_by_key(lambda a, b: (a + b)[-30:], **o)
        .starmap(join)
    ),
    "lasts": lambda stage, **o: stage.reduce_by_key(
        lambda a, b: b, key=lambda text: (len(text), text[-1:]), **o
    ).map(lambda pair: pair[1]),
    "odd": lambda stage, **o: stage.group_by(odd_key, **o).map(lambda pair: "".join(pair[1])[-30:]),
    "odd firsts": lambda stage, **o: stage.distinct(odd_key, **o),
    "distinct": lambda stage, **o: stage.distinct(**o),
    "firsts": lambda stage, **o: stage.distinct(len, **o),
    "sorted": lambda stage, **o: stage.sort_by(**o),
    "longest": lambda stage, **o: stage.sort_by(len, reverse=True, **o),
}
VIEWS = {
    "take": lambda stage, other, n: stage.take(n),
    "batch": lambda stage, other, n: stage.batch(n).map("".join),
    "enumerate": lambda stage, other, n: stage.enumerate(n).starmap(lambda i, text: f"{i}{text}"),
    "zip": lambda stage, other, n: stage.zip(other).starmap(join),
    "zip3": lambda stage, other, n: stage.zip(other, stage).map("".join),
    "product": lambda stage, other, n: stage.take(7).product(other.take(n)).starmap(join),
    "product3": lambda stage, other, n: (
        stage.take(4).product(other.take(n), stage.take(2)).map("".join)
    ),
    "combinations": lambda stage, other, n: stage.take(6).combinations(n).map("".join),
    "concat": lambda stage, other, n: stage.concat(other),
}


LOSING = ("loses", "loses some", "keeps some")
WITH_HOLES = [*LOSING, *LOSING, "upper", "letters", *VIEWS]


def ends(state, previous=None):
    """Whether a loop is over: as good as by chance."""
    return len(repr(state)) % 3 == 0


def stands_still(state, previous):
    return state == previous


@st.composite
def loops(draw, made):
    """A loop over items or over one text, which uses another stage or does not."""
    other = draw(st.sampled_from(made))
    given = draw(options())
    until = draw(st.sampled_from([None, ends, stands_still]))
    what = draw(st.lists(st.sampled_from([*PER_ITEM, *KEYED, *VIEWS, "width"]), max_size=2))
    uses = draw(st.booleans())

    def changed(stage):
        for kind in what:
            if kind in KEYED:
                stage = KEYED[kind](stage)
            elif kind in VIEWS:
                stage = VIEWS[kind](stage, other if uses else stage, 2)
            elif kind == "width":
                stage = stage.map(width, bind={"bound": other})
            else:
                stage = PER_ITEM[kind](stage)
        return stage.map(lambda text: text[-9:], **given)

    def one_step(state):
        read = other.map(width, bind={"bound": state}) if uses else state.flat_map(list)
        return changed(read).reduce(join, initial="").map(lambda text: text[-20:])

    most = draw(st.integers(1, 4))
    if draw(st.booleans()):
        start = draw(st.sampled_from(made))
        loop = htdag.iterate(
            lambda items: changed(items).take(9), _items(start), until, max_rounds=most
        )
        return [loop]
    start = "abc" if uses else other.reduce(join, initial="a")
    loop = htdag.iterate(one_step, start, until, max_rounds=most, **given)
    return [loop, loop.map(lambda text: text + "!")]


def _items(stage):
    """Items for sure, where a stage may be one value."""
    return stage.concat(stage)


@st.composite
def options(draw):
    given = {}
    if draw(st.integers(0, 4)) == 0:
        given["chunk_size"] = draw(st.integers(1, 9))
    if draw(st.integers(0, 4)) == 0:
        given["fuse"] = False
    if draw(st.integers(0, 6)) == 0:
        given["request_memory"] = draw(st.sampled_from(["1GB", "2GB"]))
    return given


@st.composite
def pipelines(draw, folder):
    """A pipeline of any shape over one or two sources."""
    texts = st.text("abc", min_size=1, max_size=5)
    made = []
    for _ in range(draw(st.integers(1, 2))):
        items = draw(st.lists(texts, min_size=1, max_size=12))
        chunk_size = draw(st.none() | st.integers(1, 5))
        made.append(
            htdag.source(items if draw(st.booleans()) else iter(items), chunk_size=chunk_size)
        )
    for _ in range(draw(st.integers(1, 7))):
        # Mostly the newest, for chains; else any, for branches.
        upstream = draw(st.sampled_from([made[-1], made[-1], *made]))
        given = draw(options())
        what = draw(
            st.sampled_from([*PER_ITEM, *BOUND, *REDUCES, *KEYED, *VIEWS, "flaky", "lists", "loop"])
        )
        if what == "flaky":
            flaky = upstream.map(partial(sometimes_fails, folder), retries=60, **given)
            made += [flaky, flaky.reduce(partial(sometimes_joins, folder), retries=60, initial="")]
        elif what == "lists":
            # Two reduces change the same items in place. What follows is text again.
            items = upstream.map(list, **given)
            every = items.reduce(extend_in_place, initial=[])
            some = items.filter(len).reduce(extend_in_place, initial=[], **draw(options()))
            made += [every.map("".join), some.map("".join)]
        elif what == "loop":
            made += draw(loops(made))
        elif what in BOUND:
            bind = {"bound": draw(st.sampled_from(made))}
            made.append(BOUND[what](upstream, bind, **given))
        elif what in KEYED:
            if draw(st.booleans()):
                given["partitions"] = draw(st.integers(1, 4))
            made.append(KEYED[what](upstream, **given))
        elif what in VIEWS:
            other = draw(st.sampled_from(made))
            made.append(
                VIEWS[what](upstream, other, draw(st.integers(1, 5))).map(lambda t: t[-30:])
            )
        elif what in PER_ITEM:
            made.append(PER_ITEM[what](upstream, **given))
        else:
            if what in ASSOCIATIVE:
                given["fan_in"] = draw(st.none() | st.integers(2, 4))
            made.append(REDUCES[what](upstream, **given))
    targets = {id(stage): stage for stage in made[-1:] + draw(st.lists(st.sampled_from(made)))}
    defaults = draw(st.sampled_from([{}, {}, {"chunk_size": 2}, {"fuse": False}]))
    lanes = draw(st.sampled_from([None, 2, 3, 7]))
    return htdag.Pipeline(*targets.values(), name="flow", lanes=lanes, **defaults)


@pytest.fixture(scope="module")
def in_process():
    with pytest.MonkeyPatch.context() as patch, without_fork(patch):
        # The functions here are pickled by the hundred; that they can be is tested elsewhere.
        for module in ("stage", "loops"):
            patch.setattr(f"htdag.stages.{module}.check_function", lambda *_: None)
        # Few jobs, so that most have several items.
        patch.setattr("htdag.plan.chunk.MOST_JOBS", 3)
        yield


@given(data=st.data())
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_run_gives_what_plain_python_gives(in_process, tmp_path, data):
    folder = tmp_path / "failed once"
    for path in (folder, tmp_path / "run"):
        shutil.rmtree(path, ignore_errors=True)
    folder.mkdir()
    flow = data.draw(pipelines(str(folder)), label="pipeline")
    run = compiled(flow, tmp_path / "run")

    def choose(ready):
        return data.draw(st.sampled_from(ready), label="next node")

    failed = run_nodes(run, choose)
    plan = flow.plan()
    event(f"{len(plan.nodes)} nodes")
    event(f"{sum(node.round is not None for node in plan.nodes)} loops")
    event(f"{max(node.lanes for node in plan.nodes)} lanes")
    shutil.rmtree(folder)  # from now on nothing fails
    try:
        expected = evaluate(flow.graph)
    except EmptyReduce:
        event("a reduce of nothing")
        assert failed
        return
    assert failed == []
    for target in flow.targets:
        assert result(run, target) == expected[target]


@given(data=st.data())
@settings(
    max_examples=max(20, EXAMPLES // 3),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_what_is_left_of_items_that_were_let_go(in_process, tmp_path, data):
    """Stages and views of sequences with holes: plain Python over what is left."""
    draw = data.draw
    texts = draw(st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=12))
    made = [htdag.source(texts, chunk_size=draw(st.integers(1, 5)))]
    for kind in draw(st.lists(st.sampled_from(WITH_HOLES), min_size=1, max_size=5)):
        upstream, other = draw(st.sampled_from([made[-1], *made])), draw(st.sampled_from(made))
        given = draw(options())
        if kind in VIEWS:
            stage = VIEWS[kind](upstream, other, draw(st.integers(1, 4)))
        else:
            skips = {} if kind in LOSING else draw(st.sampled_from([{}, SKIP]))
            stage = PER_ITEM[kind](upstream, **skips, **given)
        made.append(stage)
    targets = {id(stage): stage for stage in [made[-1], *draw(st.lists(st.sampled_from(made)))]}
    flow = htdag.Pipeline(*targets.values(), name="flow")
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    run = compiled(flow, tmp_path / "run")
    assert run_nodes(run) == []
    expected = evaluate(flow.graph)
    for target in flow.targets:
        assert result(run, target) == expected[target]


@given(data=st.data())
@settings(
    max_examples=max(20, EXAMPLES // 4),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_all_plans_of_a_pipeline_give_the_same(in_process, tmp_path, data):
    """One chain with one meaning, whatever is said about chunks, nodes and trees."""
    items = data.draw(st.lists(st.text("abc", max_size=4), min_size=1, max_size=30))
    results = []
    for number in range(2):
        each = options()
        chain = htdag.source(items).map(str.upper, **data.draw(each))
        chain = chain.flat_map(list, **data.draw(each)).filter(
            lambda c: c != "B", **data.draw(each)
        )
        fan_in = data.draw(st.none() | st.integers(2, 5))
        total = chain.reduce(join, initial="", fan_in=fan_in, **data.draw(each))
        run = tmp_path / f"run-{number}"
        shutil.rmtree(run, ignore_errors=True)
        lanes = data.draw(st.integers(1, 4), label="lanes")
        compiled(htdag.Pipeline(total, name="flow", lanes=lanes), run)
        assert run_nodes(run) == []
        results.append(result(run, total.name))
    assert results == ["".join(items).upper().replace("B", "")] * 2
