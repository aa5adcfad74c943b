"""What a job measures of itself."""

from __future__ import annotations

import os

import pytest

from htdag.runtime.job import measure
from htdag.runtime.task import Shared


def program(*kinds, **rest):
    operations = [
        {"stage": f"s{number}", "kind": kind, "function": number}
        for number, kind in enumerate(kinds)
    ]
    return {"stages": ["s0"], "operations": operations, "outputs": [], "combine": None} | rest


def timed(kind, function):
    watch = measure.Watch()
    (call,) = watch.over(program(kind), [function])
    return watch, call


@pytest.fixture
def sleep(monkeypatch):
    """Let the time pass that is measured: no other passes."""
    now = [100.0]
    monkeypatch.setattr(measure, "_clock", lambda: now[0])

    def sleep(seconds):
        now[0] += seconds

    return sleep


def test_time_calls_and_what_came_out_of_each_stage(sleep):
    def slow(x):
        sleep(0.01)
        return x

    watch = measure.Watch()
    first, second = watch.over(program("map", "filter"), [slow, lambda x: x > 2])
    kept = [x for x in range(5) if second(first(x))]
    report = watch.report(5)
    assert kept == [3, 4]
    (_, _, calls, seconds, given), (_, role, _, little, few) = report["stages"]
    assert (calls, given) == (5, 5)
    assert seconds == pytest.approx(0.05)
    assert report["seconds"] == pytest.approx(0.05)
    assert (role, few) == ("whole", 2)
    assert little == 0
    assert report["base_kb"] > 1000


def test_a_generator_is_timed_where_it_works_and_not_where_it_waits(sleep):
    def generate(x):
        for number in range(3):
            sleep(0.01)
            yield number

    watch, call = timed("flat_map", generate)
    for _ in call(0):
        sleep(0.05)
    ((_, _, calls, seconds, given),) = watch.report(1)["stages"]
    assert (calls, given) == (1, 3)
    assert seconds == pytest.approx(0.03)


@pytest.mark.parametrize("result", [[1, 2], (1, 2), {1, 2}, {1: 2, 3: 4}, "ab", range(2)])
def test_results_that_are_there_are_handed_on_as_they_are(result):
    watch, call = timed("flat_map", lambda x: result)
    assert call(0) is result
    assert watch.report(1)["stages"][0][4] == 2


def test_what_flat_map_cannot_iterate_is_left_to_it():
    _, call = timed("flat_map", lambda x: 5)
    assert call(0) == 5


def test_calls_that_fail_do_not_count():
    def broken(x):
        if x:
            raise LookupError
        return x

    watch, call = timed("map", broken)
    call(0)
    with pytest.raises(LookupError):
        call(1)
    assert watch.report(2)["stages"][0][2] == 1


def test_functions_of_a_reduce_and_of_its_parts_are_told_apart():
    output = {"stage": "total", "key": None, "combine": 0, "merge": None}
    reduction = {"stage": "sum", "function": 1}
    watch = measure.Watch()
    content = program(outputs=[output], reduction=reduction)
    combine, reduce = watch.over(content, [lambda a, b: a + b, lambda a, b: a * b])
    assert (combine(2, 3), reduce(2, 3)) == (5, 6)
    found = [entry[:3] for entry in watch.report(1)["stages"]]
    assert found == [("total", "parts", 1), ("sum", "whole", 1)]


def test_a_note_goes_to_the_process_that_stays():
    shared = Shared()
    assert shared.noted() is None
    child = os.fork()
    if child == 0:
        shared.note({"seconds": 1.5})
        os._exit(0)
    os.waitpid(child, 0)
    assert shared.noted() == {"seconds": 1.5}
    shared.put(1, 2, 3, 4, 5)
    assert shared.noted() == {"seconds": 1.5}
    assert shared.get() == (1, 2, 3, 4, 5)


def test_a_note_without_room_is_left_out():
    shared = Shared()
    shared.note({"stages": "x" * 40_000})
    assert shared.noted() is None


def test_what_is_left_in_a_folder_is_counted_without_links(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "a").write_bytes(b"x" * 1000)
    (tmp_path / "b").write_bytes(b"x" * 500)
    (tmp_path / "link").symlink_to(tmp_path / "b")
    (tmp_path / "broken").symlink_to(tmp_path / "none")
    assert measure._left_in(str(tmp_path)) == 1500
    assert measure._left_in(str(tmp_path / "none")) == 0
