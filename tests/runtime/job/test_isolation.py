"""Each stage means what it means alone in jobs of its own, whatever shares a job with it."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import operator
import sqlite3

import numpy as np
import pytest
import reference

import htdag
from htdag.runtime.data import snapshot
from htdag.runtime.files.paths import FilePath
from htdag.runtime.job import program

# ---------------------------------------------------------------------------------------------
# Values that are kept and changed in place: fused, unfused and in plain Python
# ---------------------------------------------------------------------------------------------

KEPT = {"shared": [0]}
BUFFER = np.zeros(3)


@functools.lru_cache
def loaded(name):
    return np.arange(3.0)


def load(item):
    return loaded("one for all")


def centre(array):
    array -= array.mean() + 1
    return array


def same_buffer(item):
    BUFFER[:] = item
    return BUFFER


def row_of_buffer(item):
    BUFFER[:] = item
    return {"row": BUFFER[:2], "n": item}


def nested_hold(item):
    return [item, KEPT["shared"]]


def append_to_last(value):
    value[-1].append(value[0])
    return value


def rows(item):
    buffer = [item]
    for number in range(3):
        buffer.append(number)
        yield buffer


def twice_the_same(item):
    one = [item]
    return [one, one]


def mark(value):
    value.append("marked")
    return value


def tiles(item):
    image = np.arange(6.0) + item
    for start in range(4):
        yield image[start : start + 3]


def zero_first(tile):
    total = tile.sum()
    tile[:] = 0
    return total


@dataclasses.dataclass
class Point:
    tags: list


def point(item):
    return Point(KEPT["shared"])


def tag(point):
    point.tags.append(1)
    return len(point.tags)


def as_list(value):
    return np.asarray(value).tolist() if not isinstance(value, list) else value


def keep_row(total, value):
    total.append(value)
    return total


CHAINS = {
    "a cached array": lambda s: s.map(load).map(centre).map(as_list),
    "a buffer, used again and again": lambda s: s.map(same_buffer).map(as_list),
    "a cached list in a fresh one": lambda s: s.map(nested_hold).map(append_to_last),
    "a cached list in an object": lambda s: s.map(point).map(tag),
    "what a generator goes on with": lambda s: s.flat_map(rows).map(mark),
    "views of one array": lambda s: s.flat_map(tiles).map(zero_first),
    "one element twice": lambda s: s.flat_map(twice_the_same).map(mark),
    "reduced": lambda s: s.map(lambda n: [n]).reduce(keep_row_of),
    "a buffer, folded": lambda s: s.map(same_buffer).fold(add_copy, operator.add, initial=[]),
    "a buffer, reduced": lambda s: s.map(same_buffer).reduce(np.add).map(as_list),
    "a buffer by key": lambda s: s.map(pair_of_buffer).reduce_by_key(np.add).map(pair_as_list),
}


def keep_row_of(a, b):
    a.extend(b)
    return a


def add_copy(total, array):
    return [*total, array.tolist()]


def pair_of_buffer(item):
    BUFFER[:] = item
    return item % 2, BUFFER


def pair_as_list(pair):
    return pair[0], pair[1].tolist()


@pytest.fixture
def result(tmp_path, monkeypatch):
    """The result of a pipeline of one target, whose jobs run in this process."""
    numbers = itertools.count()

    def run(stage, **options):
        flow = htdag.Pipeline(stage, name="flow", **options)
        loaded.cache_clear()
        KEPT["shared"] = [0]
        path = reference.compiled(flow, tmp_path / f"run{next(numbers)}")
        with reference.without_fork(monkeypatch):
            failed = reference.run_nodes(path)
        assert not failed
        (last,) = (name for name, below in flow.graph.out_degree if not below)
        return reference.result(path, last)

    return run


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("chunk_size", [1, 3])
def test_fused_and_not_a_chain_gives_the_same(chain, chunk_size, result):
    def chained(size):
        return chain(htdag.source(range(6), chunk_size=size))

    assert result(chained(chunk_size)) == result(chained(1), fuse=False)


def level(array):
    return float(array.mean())


def centred(array):
    array -= array.mean()
    return array


def read(number):
    return np.arange(4.0) + number


def test_branches_do_not_see_each_other():
    for order in (1, -1):
        spectra = htdag.source(range(3)).map(read)
        stages = [spectra.map(centred), spectra.map(level), spectra.reduce(add_in_place)]
        got = htdag.Pipeline(*stages[::order], name="branches").run(on="local")
        assert got["level"] == [1.5, 2.5, 3.5]
        assert got["add_in_place"].tolist() == [3.0, 6.0, 9.0, 12.0]


def add_in_place(a, b):
    a += b
    return a


def test_what_cannot_be_copied_goes_to_one_stage_only():
    def connect(item):
        return sqlite3.connect(":memory:")

    def name(connection):
        return connection.in_transaction

    one = htdag.source([1]).map(connect)
    assert htdag.Pipeline(one.map(name)).run(on="local") == [False]
    with pytest.raises(htdag.RunFailed, match="goes to several stages"):
        htdag.Pipeline(one.map(name), one.map(name, name="again"), name="two").run(on="local")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: (n for n in range(x)), "generator.*use flat_map"),
        (lambda x: _coroutine(), "coroutine.*asyncio.run"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine")
def test_what_has_not_begun_is_no_result(function, words):
    stage = htdag.source([1]).map(function, name="lazy").map(list, name="next")
    with pytest.raises(htdag.RunFailed, match=words) as caught:
        htdag.Pipeline(stage).run(on="local")
    assert [error.stage for error in caught.value.errors] == ["lazy"]


async def _coroutine():
    return 1


@pytest.mark.parametrize(
    "answer", [lambda: np.array([True, False]), lambda: _coroutine(), lambda: (x for x in "ab")]
)
@pytest.mark.filterwarnings("ignore:coroutine")
def test_a_predicate_that_says_neither_yes_nor_no(answer):
    stage = htdag.source([1, 2]).filter(lambda x: answer(), name="unclear")
    with pytest.raises(htdag.RunFailed, match="the predicate returned a") as caught:
        htdag.Pipeline(stage).run(on="local")
    assert {error.stage for error in caught.value.errors} == {"unclear"}


class Async:
    async def __call__(self, item):
        return True


def makes(item):
    yield item


async def makes_later(item):
    yield item


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        (lambda s: s.map(Async()), "map calls.*asyncio.run"),
        (lambda s: s.filter(functools.partial(Async())), "filter.*asyncio.run"),
        (lambda s: s.flat_map(makes_later), "'makes_later': flat_map.*asyncio.run"),
        (lambda s: s.map(makes), "'makes': map.*use flat_map"),
        (lambda s: s.filter(makes), "'makes': filter.*not yield"),
        (lambda s: s.sort_by(makes, name="by"), "'by': sort_by.*not yield"),
    ],
)
def test_functions_that_do_no_work_are_refused_at_once(stage, words):
    with pytest.raises(htdag.errors.FunctionError, match=words):
        stage(htdag.source([1]))


# ---------------------------------------------------------------------------------------------
# When a value is handed on as it is: not a copy too many
# ---------------------------------------------------------------------------------------------

Pair = collections.namedtuple("Pair", "a b")
FREE = {
    "list": lambda: [1, "a"],
    "nested": lambda: [[1], {"a": [2]}],
    "object": lambda: Point([1]),
    "named tuple": lambda: Pair([1], 2),
    "counter": lambda: collections.Counter("abc"),
    "array": lambda: np.arange(3.0),
    "array of its own base": lambda: np.arange(6.0).reshape(2, 3),
    "array of objects": lambda: np.array([[1], "a"], object),
}
HELD = {
    "list": lambda: KEPT["shared"],
    "in a list": lambda: [KEPT["shared"]],
    "twice": lambda: (lambda one: [one, one, KEPT["shared"]])([1]),
    "in an object": lambda: Point(KEPT["shared"]),
    "view": lambda: BUFFER[1:],
    "in an array of objects": lambda: np.array([KEPT["shared"], "a"], object),
}


def handed_on(make):
    """Whether a value goes on as it is."""
    owner = snapshot.Owner(program.pickler())
    value = make()
    number = id(value)
    value = owner.own(value)
    return id(value) == number


@pytest.mark.parametrize("make", FREE.values(), ids=FREE)
def test_what_nobody_else_holds_is_not_copied(make):
    assert handed_on(make)


@pytest.mark.parametrize("make", HELD.values(), ids=HELD)
def test_what_somebody_holds_is_copied(make):
    assert not handed_on(make)


def test_paths_of_files_that_travel_cannot_change_and_are_never_copied():
    held = FilePath.made("/data/picture.png", "{}")
    assert handed_on(lambda: held)


def test_a_chain_hands_on_what_its_functions_made_and_let_go():
    numbers = []

    def note(value):
        numbers.append(id(value))
        return value

    run = program.chain(
        [
            {"kind": "map", "stage": name, "function": n, "after": n - 1, "bind": {}}
            for n, name in enumerate("abc")
        ],
        [lambda n: [[n]], note, note],
        {},
        {},
        program.Cursor(),
    )
    run("0", 1)
    assert numbers[0] == numbers[1]


# ---------------------------------------------------------------------------------------------
# Bound and initial values
# ---------------------------------------------------------------------------------------------


def pop_one(item, names):
    return names.pop(0), len(names)


@pytest.mark.parametrize("number", [3, 5000])
def test_bound_values_are_for_each_item_as_they_were_bound(number):
    names = htdag.source([f"name {n}" for n in range(number)], name="names")
    stage = htdag.source(range(40), chunk_size=20).map(pop_one, bind={"names": names})
    assert htdag.Pipeline(stage, name="f").run(on="local") == [("name 0", number - 1)] * 40


def sort_first(item, table):
    first = table[0]
    if item == 7:
        table.sort()
    return float(first)


def test_a_large_bound_value_that_one_item_changes_is_right_for_all():
    tables = htdag.source([0], name="start").map(lambda _: np.arange(50_000.0)[::-1].copy())
    one = tables.reduce(lambda a, b: a, name="table")
    stage = htdag.source(range(20), name="items").map(
        sort_first, bind={"table": one}, chunk_size=10, name="firsts"
    )
    run = htdag.Pipeline(stage, name="large").submit(on="local").wait()
    assert run.result() == [49_999.0] * 20


def test_a_large_bound_value_that_nobody_changes_is_shared():
    def number(item, table):
        return id(table)

    table = htdag.source(range(5000), name="numbers")
    stage = htdag.source(range(6), name="items", chunk_size=6).map(number, bind={"table": table})
    assert len(set(htdag.Pipeline(stage, name="shared").run(on="local"))) == 1


START = []


def gather(total, item):
    total.append(item)
    START.append(item)
    return total


def test_an_initial_value_is_nobody_elses():
    stage = htdag.source(range(3)).reduce(gather, initial=START, associative=False)
    assert htdag.Pipeline(stage).run(on="local") == [0, 1, 2]


# ---------------------------------------------------------------------------------------------
# However many
# ---------------------------------------------------------------------------------------------


def test_a_thousand_fused_stages(result):
    stage = htdag.source(range(3))
    for number in range(1000):
        stage = stage.map(add_one, name=f"s{number}")
    assert result(stage) == [1000, 1001, 1002]


def add_one(x):
    return x + 1
