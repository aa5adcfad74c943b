"""Outputs in parts: whatever happens to a job, every item is in just one partition, once."""

from __future__ import annotations

import datetime
import json
import operator
import os
import pickle
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import reference

import htdag
from htdag.runtime import layout, planfile
from htdag.runtime.api.context import Cursor
from htdag.runtime.dag import prepare, progress
from htdag.runtime.data import itemfile, keyed, keyhash, recordfile
from htdag.runtime.data.frames import Pickled
from htdag.runtime.data.partitions import PartedWriter
from htdag.runtime.errors import StageError
from htdag.runtime.job import sinks
from htdag.runtime.job.program import pickler
from htdag.runtime.layout import NodeFiles

KINDS = ["group_by", "reduce_by_key", "distinct"]


class Dies:
    """A function that kills its process at some items as long as a file is there."""

    def __init__(self, path, *items):
        self.path = str(path)
        self.items = items
        path.touch()

    def __call__(self, item):
        if item in self.items and os.path.exists(self.path):
            os.kill(os.getpid(), signal.SIGKILL)
        return item


def keyed_stage(numbers, kind):
    if kind == "group_by":
        return numbers.group_by(lambda x: x % 5, partitions=3, name="out")
    if kind == "reduce_by_key":
        return numbers.reduce_by_key(operator.add, key=lambda x: x % 5, partitions=3, name="out")
    return numbers.distinct(lambda x: x % 5, partitions=3, name="out")


def outcome(run, attempts=(1,)):
    """The values in the partitions of a job, in the order of partitions."""
    found = []
    for part in range(3):
        for attempt in attempts:
            path = Path(NodeFiles(run, "f").attempt(0, attempt).output(layout.part("out", part)))
            for frame in itemfile.read(str(path)):
                assert keyed.partition(keyed.digest_of(frame.payload), 3) == part
                found.append(keyed.value(frame.payload))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_dies_costs_one_item(tmp_path, kind):
    dies = Dies(tmp_path / "deadly", 7, 12)
    numbers = htdag.source(range(20), chunk_size=20).map(dies, name="f")
    run = reference.compiled(htdag.Pipeline(keyed_stage(numbers, kind)), tmp_path / "run")
    assert reference.work(run, "f") == 0
    end = recordfile.end(NodeFiles(run, "f").attempt(0, 1).record)
    assert (end["items"], end["done"], end["failed"]) == (20, 18, 2)
    values = outcome(run)
    if kind == "group_by":
        assert sorted(values) == [x for x in range(20) if x not in (7, 12)]
    if kind == "reduce_by_key":
        assert sum(values) == sum(range(20)) - 19
    (tmp_path / "deadly").unlink()
    plan = planfile.read(str(run))
    prepare.prepare(str(run), plan, plan["by_name"]["f"])
    assert reference.run_nodes(run) == []
    clean = reference.evaluate(
        htdag.Pipeline(keyed_stage(htdag.source(range(20)).map(abs, name="f"), kind)).graph
    )
    assert reference.result(run, "out") == clean["out"]


def test_a_job_that_vanished_keeps_what_it_had_finished(tmp_path):
    numbers = htdag.source(range(20), chunk_size=20).map(abs, name="f")
    run = reference.compiled(htdag.Pipeline(keyed_stage(numbers, "group_by")), tmp_path / "run")
    reference.work(run, "f")
    # As if it had been killed while it wrote: no end in its record, a partition cut in a frame.
    record = Path(NodeFiles(run, "f").attempt(0, 1).record)
    lines = record.read_text().splitlines(keepends=True)
    record.write_text("".join(line for line in lines if not line.startswith('{"end"')))
    part = Path(NodeFiles(run, "f").attempt(0, 1).output(layout.part("out", 1)))
    part.write_bytes(part.read_bytes()[:-40])
    main = Path(NodeFiles(run, "f").attempt(0, 1).output("out"))
    content = main.read_bytes()
    main.write_bytes(content[: len(content) // 2])
    plan = planfile.read(str(run))
    node = plan["by_name"]["f"]
    progress.finish_killed(str(run), node)
    done = itemfile.finished([str(main)])
    finished = {n for first, last in done for n in range(first, last + 1)}
    assert 5 < len(finished) < 15
    # No value of an item that does not count is left in any partition.
    assert set(outcome(run)) <= finished
    prepare.prepare(str(run), plan, node)
    assert reference.run_nodes(run) == []


@pytest.fixture
def make(tmp_path):
    """Make a sink of any kind over three partitions; returns it and how to read them."""

    def make(sink, *arguments):
        main = str(tmp_path / "main.items")
        parts = [str(tmp_path / f"p{n}.items") for n in range(3)]
        writer = PartedWriter(main, parts, None, resume=False)
        made = sink(writer, pickler(), "stage", Cursor(), *arguments)

        def read():
            made.close()
            writer.close()
            values = [
                (keyed.value(frame.payload), frame.key)
                for path in parts
                for frame in itemfile.read(path)
            ]
            return values, itemfile.finished([main])

        return made, read

    return make


def feed(sink, *items):
    """Give items to a sink; an exception abandons its item. Returns how many failed."""
    failed = 0
    for sequence, values in enumerate(items):
        try:
            for value in values:
                sink.take(str(sequence), value)
            sink.end(sequence)
        except ValueError:
            sink.abandon()
            failed += 1
    return failed


def test_values_of_an_item_that_fails_are_in_no_partition(make):
    def key(value):
        if value == "bad":
            raise ValueError(value)
        return value

    sink, read = make(sinks.KeyedSink, "group_by", key)
    assert feed(sink, ["a", "b"], ["c", "bad"], ["d"]) == 1
    values, done = read()
    assert sorted(values) == [("a", "0"), ("b", "0"), ("d", "2")]
    assert done == [(0, 0), (2, 2)]


def test_what_is_combined_by_key_is_put_aside_when_it_is_large(make, monkeypatch):
    monkeypatch.setattr(sinks, "_MOST_UNSAVED", 10)
    monkeypatch.setattr(sinks, "_MOST_COMBINED", 500)
    sink, read = make(sinks.KeyedReduceSink, "reduce_by_key", None, operator.add)
    items = [[(number // 3, 1)] for number in range(1000)]
    feed(sink, *items)
    assert len(sink._totals) < 100
    values, done = read()
    assert sum(value for value, _ in values) == 1000
    assert 334 <= len(values) < 500  # a key may be in two of what was put aside
    assert [n for first, last in done for n in range(first, last + 1)] == list(range(1000))


def test_a_combining_function_that_raises_miscounts_nothing(make):
    def add(a, b):
        if b == "bad":
            raise ValueError(b)
        return a + b

    sink, read = make(sinks.KeyedReduceSink, "reduce_by_key", lambda value: 0, add)
    assert feed(sink, ["a"], ["bad"], ["c"], ["d"]) == 1
    values, done = read()
    covered = [n for first, last in done for n in range(first, last + 1)]
    assert "".join(value for value, _ in values) == "".join("a-cd"[n] for n in covered)
    assert 1 not in covered
    assert {2, 3} <= set(covered)


def test_distinct_keeps_the_first_and_its_key(make):
    sink, read = make(sinks.KeyedReduceSink, "distinct", str.lower, None)
    feed(sink, ["A"], ["a", "B"], ["b"])
    values, done = read()
    assert sorted(values) == [("A", "0"), ("B", "1")]
    assert done == [(0, 2)]


def test_pairs_are_needed_without_a_key(make):
    sink, read = make(sinks.KeyedReduceSink, "reduce_by_key", None, operator.add)
    for wrong in (1, "ab", (1, 2, 3)):
        with pytest.raises(StageError, match="pairs"):
            sink.take("0", wrong)
    assert read() == ([], [])


class Fold:
    """A fold over letters, which counts its calls."""

    def binop(self, counts, letter):
        if letter == "!":
            raise ValueError(letter)
        counts[letter] += 1
        return counts


def test_a_fold_leaves_out_what_failed_and_never_changes_its_initial_value(tmp_path):
    writer = itemfile.ItemWriter(str(tmp_path / "x.items"))
    initial = Counter()
    sink = sinks.FoldSink(
        writer, pickler(), "s", Cursor(), Fold().binop, operator.add, Pickled(pickle.dumps(initial))
    )
    items = ["ab", "", "a!", "c" * 2500, "b"]
    assert feed(sink, *items) == 1
    sink.close()
    writer.close()
    found = [pickle.loads(frame.payload) for frame in itemfile.read(writer.path)]
    covered = [n for a, b in itemfile.finished([writer.path]) for n in range(a, b + 1)]
    assert sum(found, Counter()) == sum((Counter(items[n]) for n in covered), Counter())
    assert {0, 3, 4} <= set(covered)  # what was saved before the failure is kept
    assert 2 not in covered
    assert initial == Counter()


def test_item_keys_of_groups_are_short_and_differ():
    def payload(key):
        return keyed.pack(keyhash.digest(key), pickle.dumps(key), b"")

    assert keyed.item_key(payload("whale")) == "'whale'"
    long = [keyed.item_key(payload("x" * 200 + str(n))) for n in range(2)]
    assert long[0] != long[1]
    assert max(map(len, long)) < 70


def test_descriptions_of_jobs_are_json(tmp_path):
    stage = htdag.source(range(9)).combinations(2, name="pairs").map(sum, chunk_size=10)
    run = reference.compiled(htdag.Pipeline(stage), tmp_path / "run")
    found = json.loads(Path(NodeFiles(run, "pairs.sum").attempt(1, 1).description).read_text())
    assert (found["view"], found["start"], found["stop"]) == ("combinations", 10, 20)
    assert found["streams"][0]["first"] == 1  # the first item is in none of these pairs


@pytest.mark.parametrize("kind", KINDS)
def test_groups_are_those_of_a_dict(tmp_path, monkeypatch, kind):
    day, nan = datetime.timedelta(1), float("nan")
    keys = [1, 1.0, True, "a", nan, 10**5000, day, np.timedelta64(24, "h"), np.bool_(True)]
    keys += [np.float64("nan"), np.timedelta64(1, "Y"), (1, "a"), np.str_("a")]
    right = {1: 4, "a": 2, nan: 2, 10**5000: 1, day: 2, np.timedelta64(1, "Y"): 1, (1, "a"): 1}
    source = htdag.source(keys, chunk_size=3)
    if kind == "group_by":
        stage = source.group_by(lambda key: key, partitions=4, name="out")
    elif kind == "distinct":
        stage = source.distinct(partitions=4, name="out")
    else:
        pairs = source.map(lambda key: (key, 1))
        stage = pairs.reduce_by_key(operator.add, partitions=4, name="out")
    run = reference.compiled(htdag.Pipeline(stage), tmp_path / "run")
    with reference.without_fork(monkeypatch):
        assert reference.run_nodes(run) == []
    found = reference.result(run, "out")
    if kind == "distinct":
        found = [(key, right[key] if key == key else 2) for key in found]
    elif kind == "group_by":
        found = [(key, len(values)) for key, values in found]
    assert len(found) == len(right)
    assert {key if key == key else nan: count for key, count in found} == right


@pytest.mark.parametrize(
    ("key", "why"), [([1], "Python has no hash"), (object(), "equal to no other"), (abs, "own")]
)
def test_a_key_that_cannot_be_one_is_an_error_of_its_item(tmp_path, monkeypatch, key, why):
    stage = htdag.source([1]).group_by(lambda _: key, name="groups")
    run = reference.compiled(htdag.Pipeline(stage), tmp_path / "run")
    with reference.without_fork(monkeypatch):
        assert reference.run_nodes(run) == ["groups.combine"]
    lines = recordfile.lines(NodeFiles(run, "groups.combine").attempt(0, 1).record)
    (message,) = [line["error"]["message"] for line in lines if "error" in line]
    assert "cannot be a key" in message
    assert why in message
