"""The chained functions of a node: what leaves it, and what a failing item leaves behind."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest

from htdag.runtime.api.context import Cursor
from htdag.runtime.data import itemfile
from htdag.runtime.data.frames import SMALL
from htdag.runtime.errors import StageError
from htdag.runtime.job import program
from htdag.runtime.job.program import chain
from htdag.runtime.job.sinks import ReduceSink, Sink


class Node:
    """A node's program over item files in a folder, driven item by item as a job does.

    ``operations`` are (stage, kind, function, after), ``outputs`` (stage, after, combine);
    ``after`` names a stage, or None for the input.
    """

    def __init__(self, folder, operations, outputs, bound=None):
        self.cursor = Cursor()
        stages = [operation[0] for operation in operations]
        self.paths = {}
        self.sinks = {}
        for stage, after, combine in outputs:
            self.paths[stage] = str(folder / stage)
            writer = itemfile.ItemWriter(self.paths[stage])
            own = (writer, program.pickler(), stage, self.cursor)
            sink = Sink(*own) if combine is None else ReduceSink(*own, combine)
            self.sinks.setdefault(-1 if after is None else stages.index(after), []).append(sink)
        self.all_sinks = [sink for group in self.sinks.values() for sink in group]
        self.emit = chain(
            [
                {
                    "stage": stage,
                    "kind": kind,
                    "function": number,
                    "after": -1 if after is None else stages.index(after),
                    "bind": {name: name for name in bound or ()},
                }
                for number, (stage, kind, _, after) in enumerate(operations)
            ],
            [operation[2] for operation in operations],
            bound or {},
            self.sinks,
            self.cursor,
        )

    def run(self, items):
        """Results by stage, the finished items by stage, and what failed as (item, stage)."""
        failed = []
        for sequence, item in enumerate(items):
            self.cursor.key = str(sequence)
            try:
                self.emit(str(sequence), item)
                for sink in self.all_sinks:
                    sink.end(sequence)
            except Exception:
                failed.append((sequence, self.cursor.stage))
                for sink in self.all_sinks:
                    sink.abandon()
        for sink in self.all_sinks:
            sink.close()
            sink.writer.close()
        values = {stage: [v for _, v in self.values(stage)] for stage in self.paths}
        done = {stage: itemfile.finished([path]) for stage, path in self.paths.items()}
        return values, done, failed

    def values(self, stage):
        return [
            (f.key, pickle.loads(f.payload, buffers=f.buffers))
            for f in itemfile.read(self.paths[stage])
        ]


@pytest.fixture
def make(tmp_path):
    """Make the node of a test; its files are closed after it."""
    nodes = []

    def make(*arguments, **keywords):
        nodes.append(Node(tmp_path, *arguments, **keywords))
        return nodes[-1]

    yield make
    for node in nodes:
        for sink in node.all_sinks:
            sink.writer.discard()


def add_in_place(total: Counter, item: Counter) -> Counter:
    total.update(item)
    return total


def add(a, b):
    return a + b


def fails_on(*bad):
    def function(value, *_):
        if value in bad:
            raise ValueError(value)
        return value

    return function


def test_items_flow_through_all_operations(make):
    node = make(
        [
            ("double", "map", lambda x: 2 * x, None),
            ("big", "filter", lambda x: x > 2, "double"),
            ("text", "map", str, "big"),
        ],
        [("text", "text", None)],
    )
    values, done, failed = node.run([1, 2, 3])
    assert values == {"text": ["4", "6"]}
    assert done == {"text": [(0, 2)]}
    assert failed == []
    assert node.values("text") == [("1", "4"), ("2", "6")]


def test_flat_map_extends_the_key(make):
    node = make(
        [("words", "flat_map", str.split, None), ("letters", "flat_map", list, "words")],
        [("letters", "letters", None)],
    )
    node.run(["ab c", "", "d"])
    assert node.values("letters") == [
        ("0.0.0", "a"),
        ("0.0.1", "b"),
        ("0.1.0", "c"),
        ("2.0.0", "d"),
    ]


def test_an_operation_of_an_unknown_kind_is_refused_before_any_item(make):
    with pytest.raises(ValueError, match="operation of kind 'sample'"):
        make([("a", "sample", abs, None)], [])


def test_starmap_takes_tuples_lists_and_dicts(make):
    node = make([("sub", "starmap", lambda a, b: a - b, None)], [("sub", "sub", None)])
    values, _, failed = node.run([(5, 3), [5, 4], {"b": 1, "a": 1}, 7])
    assert values == {"sub": [2, 1, 0]}
    assert failed == [(3, "sub")]


def test_starmap_says_what_items_it_needs(make):
    node = make([("sub", "starmap", add, None)], [("sub", "sub", None)])
    with pytest.raises(StageError, match="tuples, lists or dicts of arg"):
        node.emit("0", 7)


def test_flat_map_says_what_its_function_must_return(make):
    node = make([("flat", "flat_map", abs, None)], [("flat", "flat", None)])
    with pytest.raises(StageError, match="returns an iterable, but it returned a int"):
        node.emit("0", 7)


def test_a_type_error_inside_a_flat_map_generator_is_the_users_own(make):
    def letters(text):
        yield text[0]
        raise TypeError("mine")

    node = make([("flat", "flat_map", letters, None)], [("flat", "flat", None)])
    with pytest.raises(TypeError, match="mine"):
        node.emit("0", "ab")


def test_bound_values_are_keywords(make):
    operations = [
        ("m", "map", lambda x, extra: [x, extra], None),
        ("s", "starmap", lambda x, y, extra: [x + y, extra], "m"),
        ("f", "flat_map", lambda pair, extra: [*pair, extra], "s"),
        ("w", "filter", lambda x, extra: x >= extra, "f"),
    ]
    node = make(operations, [("w", "w", None)], bound={"extra": 10})
    assert node.run([1])[0] == {"w": [11, 10, 10]}


def test_branches_get_every_item(make):
    operations = [
        ("base", "map", lambda x: x + 1, None),
        ("even", "filter", lambda x: x % 2 == 0, "base"),
        ("square", "map", lambda x: x * x, "base"),
    ]
    outputs = [(stage, stage, None) for stage in ("base", "even", "square")]
    values, _, _ = make(operations, [*outputs, ("input", None, None)]).run([0, 1, 2])
    assert values == {"base": [1, 2, 3], "even": [2], "square": [1, 4, 9], "input": [0, 1, 2]}


def test_an_item_that_fails_in_one_branch_counts_in_none(make):
    operations = [
        ("good", "map", abs, None),
        ("bad", "map", fails_on(2), None),
    ]
    node = make(operations, [("good", "good", None), ("bad", "bad", None)])
    values, done, failed = node.run([1, 2, 3])
    assert values == {"good": [1, 3], "bad": [1, 3]}
    assert done == {"good": [(0, 0), (2, 2)], "bad": [(0, 0), (2, 2)]}
    assert failed == [(1, "bad")]


def test_an_item_that_fails_after_some_of_its_values_leaves_none(make):
    operations = [
        ("parts", "flat_map", list, None),
        ("check", "map", fails_on("x"), "parts"),
    ]
    values, _, failed = make(operations, [("check", "check", None)]).run(["ab", "cx", "d"])
    assert values == {"check": ["a", "b", "d"]}
    assert failed == [(1, "check")]


def test_combining_gives_one_value_for_a_range(make):
    node = make([], [("sum", None, add)])
    values, done, _ = node.run([1, 2, 3, 4])
    assert values == {"sum": [10]}
    assert done == {"sum": [(0, 3)]}


def test_combining_keeps_the_order_of_items(make):
    node = make([("chars", "flat_map", list, None)], [("join", "chars", add)])
    assert node.run(["ab", "cd", "", "e"])[0] == {"join": ["abcde"]}


def test_combining_ranges_end_at_failed_items(make):
    node = make([("check", "map", fails_on("c"), None)], [("join", "check", add)])
    values, done, failed = node.run("abcde")
    assert values == {"join": ["ab", "de"]}
    assert done == {"join": [(0, 1), (3, 4)]}
    assert failed == [(2, "check")]


def test_items_without_values_count_as_done_when_combined(make):
    node = make([("none", "filter", lambda x: False, None)], [("sum", "none", add)])
    values, done, _ = node.run([1, 2])
    assert values == {"sum": []}
    assert done == {"sum": [(0, 1)]}


def test_a_combining_function_may_change_its_first_argument(make):
    node = make([("count", "map", Counter, None)], [("total", "count", add_in_place)])
    assert node.run(["ab", "b", "c"])[0] == {"total": [Counter("abbc")]}


def test_values_are_written_before_a_combining_function_changes_them(make):
    operations = [("count", "map", Counter, None), ("most", "map", dict, "count")]
    outputs = [("total", "count", add_in_place), ("count", "count", None), ("most", "most", None)]
    values, _, _ = make(operations, outputs).run(["a", "b"])
    assert values["count"] == [Counter("a"), Counter("b")]
    assert values["most"] == [{"a": 1}, {"b": 1}]


def test_two_combining_functions_that_change_their_argument_do_not_mix(make):
    outputs = [("one", "count", add_in_place), ("two", "count", add_in_place)]
    node = make([("count", "map", Counter, None)], outputs)
    assert node.run(["a", "b"])[0] == {"one": [Counter("ab")], "two": [Counter("ab")]}


class Array:
    """A large array as those of numpy are to pickle: it keeps the buffer that it is given."""

    def __init__(self, buffer):
        self.buffer = buffer

    def __reduce_ex__(self, protocol):
        return Array, (pickle.PickleBuffer(self.buffer),)

    def __eq__(self, other):
        return bytes(self.buffer) == bytes(other.buffer)

    __hash__ = None


def array_of(value: int) -> Array:
    return Array(bytearray([value]) * SMALL)


def add_arrays_in_place(total: Array, item: Array) -> Array:
    total.buffer[0] += item.buffer[0]
    return total


def test_the_buffers_of_values_do_not_mix_with_what_is_combined_in_place(make):
    outputs = [
        ("one", "array", add_arrays_in_place),
        ("two", "array", add_arrays_in_place),
        ("array", "array", None),
    ]
    node = make([("array", "map", array_of, None)], outputs)
    values = node.run([3, 4])[0]
    assert values["array"] == [array_of(3), array_of(4)]
    assert [value.buffer[:2] for value in values["one"] + values["two"]] == [b"\x07\x03"] * 2


def test_combining_behind_a_filter_does_not_mix_with_combining_before_it(make):
    operations = [
        ("count", "map", Counter, None),
        ("same", "filter", lambda x: True, "count"),
    ]
    outputs = [("one", "count", add_in_place), ("two", "same", add_in_place)]
    node = make(operations, outputs)
    assert node.run(["a", "b"])[0] == {"one": [Counter("ab")], "two": [Counter("ab")]}


def test_a_combining_function_that_raises_loses_nothing_silently(make):
    def picky(total, item):
        total.append(item[0])  # half done before it raises
        if item == ["c"]:
            raise ValueError(item)
        return total

    operations = [("wrap", "map", lambda x: [x], None)]
    node = make(operations, [("all", "wrap", picky)])
    values, done, failed = node.run("abcde")
    assert failed == [(2, "all")]
    # Whatever range is told to be done has just its own values.
    covered = [n for first, last in done["all"] for n in range(first, last + 1)]
    assert "".join("".join(value) for value in values["all"]) == "".join(
        "abcde"[n] for n in covered
    )
    assert 2 not in covered
    assert {3, 4} <= set(covered)


def test_open_ranges_are_kept_now_and_then(make):
    node = make([], [("sum", None, add)])
    (sink,) = node.all_sinks
    for sequence in range(3):
        sink._save_at = 0.0
        node.emit(str(sequence), sequence)
        sink.end(sequence)
    sink.writer.discard()  # a process that died here
    assert itemfile.finished([node.paths["sum"]]) == [(0, 2)]


def test_saving_an_open_range_twice_counts_it_once(make):
    node = make([], [("sum", None, add)])
    (sink,) = node.all_sinks
    for sequence in range(5):
        sink._save_at = 0.0 if sequence % 2 else 1e18
        node.emit(str(sequence), sequence)
        sink.end(sequence)
    sink.close()
    sink.writer.close()
    assert [value for _, value in node.values("sum")] == [10]


def test_a_result_that_cannot_be_pickled_is_named(make):
    node = make([("gen", "map", lambda x: (n for n in x), None)], [("gen", "gen", None)])
    with pytest.raises(StageError, match="the result, a generator, cannot be pickled"):
        node.emit("0", [1])


def test_a_combined_value_that_cannot_be_pickled_is_named(make):
    node = make([], [("all", None, lambda a, b: (n for n in (a, b)))])
    (sink,) = node.all_sinks
    sink._save_at = 1e18
    for sequence in range(2):
        node.emit(str(sequence), sequence)
        sink.end(sequence)
    with pytest.raises(StageError, match="the combined value, a generator, cannot be pickled"):
        sink.close()


def test_the_cursor_tells_the_stage_that_failed(make):
    operations = [
        ("first", "map", abs, None),
        ("second", "filter", fails_on(1), "first"),
        ("third", "flat_map", lambda x: [x, fails_on(2)(x)], "second"),
        ("fourth", "starmap", add, "third"),
    ]
    node = make(operations, [("fourth", "fourth", None)])
    assert node.run([1, 2, 3])[2] == [(0, "second"), (1, "third"), (2, "fourth")]


def test_the_cursor_tells_the_reduce_that_failed(make):
    operations = [("wrap", "map", lambda x: x, None)]
    node = make(operations, [("sum", "wrap", add)])
    assert node.run([1, "a", 2])[2] == [(1, "sum")]


def test_the_cursor_returns_to_the_generator_between_its_elements(make):
    def two(value):
        yield value
        raise ValueError(value)

    operations = [("two", "flat_map", two, None), ("next", "map", abs, "two")]
    node = make(operations, [("next", "next", None)])
    assert node.run([1])[2] == [(0, "two")]
