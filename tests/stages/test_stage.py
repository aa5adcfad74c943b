"""Stages are lazy, frozen handles, and tell of mistakes where they are made."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import operator
import types
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import htdag
from htdag.compile import write_run
from htdag.errors import (
    EmptySourceError,
    FunctionError,
    ItemPickleError,
    OptionError,
    StageNameError,
    UsageError,
)


def inc(x):
    return x + 1


def add(a, b):
    return a + b


@pytest.fixture
def numbers():
    return htdag.source([1, 2, 3])


def names(*targets, **options):
    return list(htdag.Pipeline(*targets, **options).graph)


# Laziness


@pytest.mark.parametrize("use", [bool, iter, len, list, sum, lambda s: [*s]])
def test_a_stage_is_no_value_yet(numbers, use):
    stage = numbers.map(inc)
    with pytest.raises(TypeError, match=r"stage 'inc' .*nothing has run yet.*Pipeline\(stage\)"):
        use(stage)


def test_functions_are_not_called():
    def never(*_):
        raise AssertionError("it was called")

    stage = htdag.source([1]).map(never).filter(never).flat_map(never).starmap(never)
    flow = htdag.Pipeline(stage.reduce(never))
    assert flow.plan().jobs > 0
    assert "never" in flow.explain()


def test_a_generator_is_read_when_the_pipeline_is_planned_and_once():
    read = []

    def items():
        for number in range(3):
            read.append(number)
            yield number

    stage = htdag.source(items()).map(inc)
    flow = htdag.Pipeline(stage)
    assert read == []
    assert flow.plan().nodes[0].items == 3
    assert flow.plan().nodes[0].items == 3
    assert read == [0, 1, 2]


def test_handles_are_frozen(numbers):
    with pytest.raises(dataclasses.FrozenInstanceError):
        numbers.name = "other"


def test_a_handle_may_be_continued_in_several_ways(numbers):
    one, two = numbers.map(inc), numbers.map(inc)
    assert one is not two
    assert one.inputs == two.inputs == (numbers,)
    assert len({numbers, one, two}) == 3


def test_a_stage_shows_its_name_and_kind(numbers):
    assert repr(numbers.filter(inc)) == "<htdag.Stage 'inc': filter>"


def test_the_shortcuts_mean_the_same():
    assert htdag.map(inc, [1], retries=2).options.retries == 2
    assert htdag.map(inc, [1]).inputs[0].kind == "source"
    stage = htdag.starmap(pow, [(2, 3)], name="power")
    assert (stage.kind, stage.name) == ("starmap", "power")


def test_there_is_one_missing():
    assert repr(htdag.MISSING) == "MISSING"
    assert htdag.source([1]).reduce(add).operation.initial is htdag.MISSING
    assert htdag.source([1]).reduce(add, initial=None).operation.initial is None


# Sources


@pytest.mark.parametrize("items", [[], (), range(0), {}, set(), iter(())])
def test_an_empty_source_is_refused(items):
    with pytest.raises(EmptySourceError, match="source 'nothing' has no items"):
        htdag.Pipeline(htdag.source(items, name="nothing").map(inc)).plan()


def test_an_empty_list_is_refused_where_it_is_given():
    with pytest.raises(EmptySourceError):
        htdag.source([])


def endless(read):
    for number in itertools.count():
        read.append(number)
        yield number


def test_of_an_iterator_no_more_is_read_than_is_taken():
    read = []
    numbers = htdag.source(endless(read))
    flow = htdag.Pipeline(numbers.take(np.int64(5)).map(inc))
    assert "source of 5 items or more" in flow.explain()
    assert read == [0, 1, 2, 3, 4]
    assert "5 items or more" in flow.render().source
    assert read == [0, 1, 2, 3, 4]
    # The rest is still there.
    flow = htdag.Pipeline(numbers.map(inc, fuse=False).take(7).map(inc, fuse=False))
    assert flow.plan().nodes[0].items == 7
    assert [pickled.load_copy() for pickled in itertools.islice(numbers.source.pickles(), 8)] == [
        *range(8)
    ]
    assert read == [*range(8)]


@pytest.mark.parametrize("items", [itertools.count(), itertools.cycle("ab"), itertools.repeat(1)])
def test_what_never_ends_is_refused_where_all_of_it_is_wanted(items):
    numbers = htdag.source(items, name="numbers")
    assert htdag.Pipeline(numbers.take(3)).plan().nodes[0].items == 3
    with pytest.raises(UsageError, match=r"source 'numbers': its iterable never ends; .*take\(n\)"):
        htdag.Pipeline(numbers.map(inc)).plan()
    assert htdag.Pipeline(htdag.source(itertools.repeat(1, 2)).map(inc)).plan().nodes[0].items == 2


@pytest.mark.parametrize(
    ("items", "write"),
    [
        ({"a": 1}, r"a dict would be its keys alone; give its \.items\(\)"),
        (Counter("ab"), "a Counter would be its keys alone"),
        (types.SimpleNamespace(itertuples=0, __iter__=0), r"columns alone; .*itertuples"),
        (types.SimpleNamespace(iter_rows=0), r"columns alone; .*iter_rows"),
        (bytearray(b"ab"), "a bytearray is one value"),
        (Path("a"), r"a PosixPath is not iterable; htdag\.files\(path\)"),
        (np.array(5), "a ndarray is not iterable"),
    ],
)
def test_what_would_be_taken_apart_otherwise_than_meant_is_refused(items, write):
    with pytest.raises(UsageError, match=write):
        htdag.source(items)


def test_sizes_may_be_numbers_of_numpy(numbers):
    assert numbers.batch(np.int32(2)).operation.number == 2
    assert type(numbers.take(np.uint8(2)).operation.number) is int
    assert numbers.group_by(inc, partitions=np.int64(3)).operation.partitions == 3
    assert numbers.reduce(add, fan_in=np.int64(3)).operation.fan_in == 3
    with pytest.raises(OptionError, match="take takes a whole number"):
        numbers.take(np.float64(2))


def test_an_empty_generator_stays_empty():
    flow = htdag.Pipeline(htdag.source(iter(())).map(inc))
    for _ in range(2):
        with pytest.raises(EmptySourceError):
            flow.plan()


def test_a_generator_that_failed_is_not_taken_for_shorter():
    def items():
        yield 1
        raise OSError("the disk is gone")

    flow = htdag.Pipeline(htdag.source(items()).map(inc))
    with pytest.raises(OSError, match="the disk is gone") as caught:
        flow.plan()
    assert "item 1" in str(getattr(caught.value, "__notes__", "item 1"))
    with pytest.raises(UsageError, match="source 'source'"):
        flow.plan()


@pytest.mark.parametrize("text", ["a text", b"bytes"])
def test_a_single_text_is_refused_as_a_source(text):
    with pytest.raises(UsageError, match="is one value, not many items; give a list"):
        htdag.source(text)


@pytest.mark.parametrize("thing", [3, None, inc])
def test_what_cannot_be_iterated_is_refused_as_a_source(thing):
    with pytest.raises(UsageError, match="is not iterable"):
        htdag.source(thing)


def test_a_stage_is_refused_as_a_source(numbers):
    with pytest.raises((TypeError, UsageError)):
        htdag.source(numbers)


def test_an_item_that_cannot_be_pickled_is_named(tmp_path):
    flow = htdag.Pipeline(htdag.source([1, (n for n in ())], name="made").map(inc))
    with pytest.raises(
        ItemPickleError, match=r"source 'made': item 1, a generator, cannot be pickled"
    ):
        write_run(flow.plan(), tmp_path / "run", "run")
    assert list(tmp_path.iterdir()) == []


def test_files_are_found_by_pattern_path_or_list(tmp_path):
    for name in ("b.txt", "a b.txt", "ü.txt", "c.dat"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.txt").touch()

    def found(what):
        return [
            path.removeprefix(f"{tmp_path}/") for path in map(str, htdag.files(what).source.items)
        ]

    assert found(f"{tmp_path}/*.txt") == ["a b.txt", "b.txt", "ü.txt"]
    assert found(f"{tmp_path}/**/*.txt") == ["a b.txt", "b.txt", "sub/d.txt", "ü.txt"]
    assert found(tmp_path / "c.dat") == ["c.dat"]
    assert found([tmp_path / "c.dat", f"{tmp_path}/b.txt"]) == ["c.dat", "b.txt"]
    assert found(path for path in [tmp_path / "sub"]) == ["sub"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    path = tmp_path / "a[1].txt"
    path.touch()
    assert list(map(str, htdag.files(path).source.items)) == [str(path)]


def test_files_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(EmptySourceError, match=r"files 'texts': nothing matches .*\*\.txt"):
        htdag.files(tmp_path / "*.txt", name="texts")
    with pytest.raises(EmptySourceError, match="the list of paths is empty"):
        htdag.files([])
    with pytest.raises(UsageError, match=r"there is no file .*gone.* \(and 1 more\)"):
        htdag.files([tmp_path / "gone", tmp_path / "too"])
    with pytest.raises(UsageError, match="give a pattern such as"):
        htdag.files(3)


# Functions


@pytest.mark.parametrize("thing", [3, None, "str.upper", [inc]])
def test_what_cannot_be_called_is_refused(numbers, thing):
    with pytest.raises(FunctionError, match="stage 'words' needs a function"):
        numbers.map(thing, name="words")


def test_a_closure_that_cannot_be_pickled_names_the_variable(numbers):
    lock = (number for number in ())

    def locked(x):
        return lock

    with pytest.raises(FunctionError) as caught:
        numbers.map(locked)
    message = str(caught.value)
    assert "stage 'locked': the function" in message
    assert f"({__file__}:{locked.__code__.co_firstlineno})" in message
    assert "the enclosing variable 'lock', a generator, which cannot travel" in message


class Whole:
    """Shows all that it holds, as objects of users do."""

    def __init__(self):
        self.held = "held " * 8000

    def __repr__(self):
        return f"Whole({self.held!r})"


@pytest.mark.parametrize(
    "mistake",
    [
        lambda stage: stage.map(functools.partial(add, dict.fromkeys(range(4000), LOCK))),
        lambda stage: stage.map(functools.partial(add, Whole(), LOCK)),
        lambda stage: stage.map(Whole()),
        lambda stage: stage.map(inc, retries=Whole()),
        lambda stage: stage.map(inc, request_memory=[Whole()] * 100),
        lambda stage: stage.map(inc, input_files=[Whole()]),
        lambda stage: stage.map(inc, output_destination=Whole()),
        lambda stage: stage.map(inc, output_files={"a": Whole()}),
        lambda stage: stage.map(inc, environment=Whole()),
        lambda stage: stage.map(inc, environ={"A": Whole()}),
        lambda stage: stage.map(inc, submit={"a": [Whole()]}),
        lambda stage: stage.map(inc, name=Whole()),
        lambda stage: stage.map(inc, bind={"x": Whole()}),
        lambda stage: stage.batch(Whole()),
        lambda stage: stage.take(Whole()),
        lambda stage: stage.zip(Whole()),
        lambda stage: stage.apply(lambda _: Whole()),
        lambda stage: stage.apply(Whole()),
        lambda _: htdag.files([Whole()]),
        lambda _: htdag.stage(Whole()),
        lambda _: htdag.iterate(Whole(), 1, max_rounds=2),
        lambda _: htdag.iterate(lambda state: Whole(), 1, max_rounds=2),
        lambda stage: htdag.Pipeline(stage, Whole()),
        lambda stage: htdag.Pipeline(stage, name=Whole()),
        lambda stage: htdag.Pipeline(stage, maxjobs={"a": Whole()}),
        lambda stage: htdag.Pipeline(stage).explain(tag=Whole()),
        lambda stage: htdag.Pipeline(stage).submit("t", on=Whole()),
        lambda _: htdag.Environment.packed([Whole()]),
        lambda _: htdag.Environment.container(Whole()),
    ],
)
def test_a_message_quotes_a_users_value_in_short(numbers, mistake):
    with pytest.raises(htdag.HtdagError) as caught:
        mistake(numbers)
    assert len(str(caught.value)) < 1000


LOCK = (number for number in ())


def test_a_global_that_cannot_be_pickled_is_named(numbers):
    with pytest.raises(FunctionError, match="the global variable 'LOCK', a generator"):
        numbers.map(lambda x: LOCK, name="locked")


def test_an_initial_value_that_cannot_be_pickled_is_refused(numbers):
    with pytest.raises(FunctionError, match="stage 'add': its initial value, a generator, "):
        numbers.reduce(add, initial=LOCK)


@pytest.mark.parametrize(
    ("kind", "function", "called"),
    [
        ("map", lambda: 1, r"f\(item\)"),
        ("map", lambda a, b: 1, r"f\(item\)"),
        ("map", lambda a, *, b: 1, r"f\(item\)"),
        ("filter", lambda: 1, r"f\(item\)"),
        ("flat_map", lambda: 1, r"f\(item\)"),
        ("reduce", lambda a: 1, r"f\(accumulated, item\)"),
        ("reduce", lambda a, b, c: 1, r"f\(accumulated, item\)"),
    ],
)
def test_arguments_that_can_never_fit_are_refused(numbers, kind, function, called):
    with pytest.raises(FunctionError, match=f"stage 'f': {kind} calls the function as {called}"):
        getattr(numbers, kind)(function, name="f")


@pytest.mark.parametrize(
    "function",
    [inc, lambda x, y=1: x, lambda *a: a, functools.partial(add, 1), str, abs, operator.neg, max],
)
def test_arguments_that_fit_are_accepted(numbers, function):
    assert numbers.map(function).operation.function is function


def test_starmap_takes_any_number_of_arguments(numbers):
    assert numbers.starmap(lambda a, b, c: 1).kind == "starmap"


def test_bound_keywords_must_fit(numbers):
    with pytest.raises(FunctionError, match=r"as f\(item, total=\.\.\.\)"):
        numbers.map(inc, bind={"total": numbers})
    with pytest.raises(FunctionError, match=r"as f\(\*item, total=\.\.\.\)"):
        numbers.starmap(lambda a: a, bind={"total": numbers})
    assert numbers.map(lambda x, **bound: x, bind={"total": numbers}).binds


# Binds


@pytest.mark.parametrize(
    ("bind", "message"),
    [
        ([("a", 1)], "bind takes a dict"),
        ({"a b": 1}, "'a b' is not the name of an argument"),
        ({1: 1}, "1 is not the name of an argument"),
        ({"a": 5}, r"bind\['a'\] is a int, not a stage; give plain values with functools.partial"),
    ],
)
def test_a_wrong_bind_is_refused(numbers, bind, message):
    with pytest.raises(UsageError, match=f"stage 'f': .*{message}"):
        numbers.map(lambda x, **bound: x, bind=bind, name="f")


def test_binds_are_edges_of_the_graph(numbers):
    total = numbers.reduce(add, name="total")
    share = numbers.map(lambda x, t, n: x, bind={"t": total, "n": numbers}, name="share")
    graph = htdag.Pipeline(share).graph
    assert set(graph.edges(data="kind")) == {
        ("source", "total", "items"),
        ("source", "share", "items"),
        ("total", "share", "bind"),
    }
    assert graph.edges["source", "share"]["keywords"] == ("n",)
    assert graph.edges["total", "share"]["keywords"] == ("t",)
    assert [name for name, target in graph.nodes(data="target") if target] == ["share"]


# Options


def test_an_unknown_option_names_the_stage_and_a_near_one(numbers):
    with pytest.raises(OptionError, match=r"stage 'inc': there is no option 'retry'.*'retries'"):
        numbers.map(inc, retry=3)


async def later(x):
    return x


async def many_later(x):
    yield x


def many(x):
    yield x


class Later:
    async def __call__(self, x):
        return x


@pytest.mark.parametrize("kind", ["map", "filter", "flat_map", "group_by", "distinct", "sort_by"])
def test_functions_that_only_give_what_could_be_run_are_refused(numbers, kind):
    for function in (
        later,
        many_later,
        Later(),
        functools.partial(later, 1),
        functools.wraps(many)(later),
    ):
        with pytest.raises(FunctionError, match=f"stage '.*': {kind}.* async"):
            getattr(numbers, kind)(function)
    if kind == "flat_map":
        assert numbers.flat_map(many).kind == kind
    else:
        with pytest.raises(FunctionError, match=f"{kind}.* and a generator function"):
            getattr(numbers, kind)(many)


@pytest.mark.parametrize("fan_in", [0, 1, 2.0, True, "2"])
def test_a_wrong_fan_in_is_refused(numbers, fan_in):
    with pytest.raises(OptionError, match="fan_in takes a whole number from 2"):
        numbers.reduce(add, fan_in=fan_in)


def test_a_wrong_associative_is_refused(numbers):
    with pytest.raises(OptionError, match="associative takes True or False"):
        numbers.reduce(add, associative="no")


def test_a_source_takes_no_wrong_chunk_size():
    with pytest.raises(OptionError, match=r"stage 'source': option chunk_size=0"):
        htdag.source([1], chunk_size=0)


# Names


def test_names_are_given_or_derived(numbers):
    class Callable:
        def __call__(self, x):
            return x

    assert numbers.map(inc).name == "inc"
    assert numbers.map(inc, name="plus").name == "plus"
    assert numbers.map(lambda x: x).name == "map"
    assert numbers.filter(lambda x: x).name == "filter"
    assert numbers.map(functools.partial(add, 1)).name == "add"
    assert numbers.map(str.upper).name == "upper"
    assert numbers.map(Callable()).name == "map"
    assert numbers.name == "source"


def test_functions_with_letters_that_dagman_cannot_take(numbers):
    def größer(x):
        return x

    def слово(x):
        return x

    assert names(numbers.map(größer).map(слово))[1:] == [numbers.map(größer).name, "map"]
    assert numbers.map(größer).name.isascii()


def test_functions_named_as_words_of_dagman(numbers):
    def parent(x):
        return x

    assert numbers.map(parent).name == "parent"


def test_derived_names_are_numbered(numbers):
    chain = numbers.map(inc).map(inc).map(lambda x: x).map(inc, name="inc-2")
    assert names(chain) == ["source", "inc", "inc-3", "map", "inc-2"]


def test_given_names_must_differ(numbers):
    for other in ("a", "A"):
        with pytest.raises(StageNameError, match=f"two stages of the pipeline are named '{other}'"):
            htdag.Pipeline(numbers.map(inc, name="a").map(inc, name=other))


@pytest.mark.parametrize("name", ["a b", "wörter", "", "a/b", 5])
def test_names_that_cannot_be_used_are_refused_at_once(numbers, name):
    for make in (
        lambda: numbers.map(inc, name=name),
        lambda: numbers.reduce(add, name=name),
        lambda: htdag.source([1], name=name),
        lambda: htdag.files(__file__, name=name),
        lambda: htdag.Pipeline(numbers, name=name),
    ):
        with pytest.raises(StageNameError):
            make()


# Pipelines


def test_a_pipeline_needs_a_target():
    with pytest.raises(UsageError, match="at least one target"):
        htdag.Pipeline()


@pytest.mark.parametrize("target", [inc, [1], None])
def test_targets_are_stages(target):
    with pytest.raises(UsageError, match="targets are stages"):
        htdag.Pipeline(target)


def test_a_pipeline_is_named_after_its_first_target(numbers):
    assert htdag.Pipeline(numbers.map(inc), numbers).name == "inc"
    assert htdag.Pipeline(numbers, name="flow").name == "flow"
    assert (
        repr(htdag.Pipeline(numbers.map(inc), name="flow")) == "<htdag.Pipeline 'flow': 2 stages>"
    )


def test_shared_stages_are_one(numbers):
    shared = numbers.map(inc)
    flow = htdag.Pipeline(shared.map(abs), shared.map(str))
    assert list(flow.graph) == ["source", "inc", "abs", "str"]
    assert flow.targets == ("abs", "str")


def test_defaults_hold_for_stages_but_not_for_sources(numbers):
    graph = htdag.Pipeline(numbers.map(inc, retries=1), retries=3, request_cpus=2).graph
    assert graph.nodes["inc"]["stage"].options.given() == {"retries": 1, "request_cpus": 2}
    assert graph.nodes["source"]["stage"].options.given() == {}


def test_a_directory_that_dagman_refuses_is_refused():
    flow = htdag.Pipeline(htdag.source([1]).map(inc))
    with pytest.raises(htdag.HtdagError, match="under /tmp"):
        flow.compile("/tmp/run")
