"""What goes on around the calls of functions: their times, and the directories they work in."""

from __future__ import annotations

import pytest

from htdag.runtime.job import calls
from htdag.runtime.job.calls import Calls


def program(*kinds, **rest):
    operations = [
        {"stage": f"s{number}", "kind": kind, "function": number}
        for number, kind in enumerate(kinds)
    ]
    return {"stages": ["s0"], "operations": operations, "outputs": [], "combine": None} | rest


def timed(kind, function):
    made = Calls(2000)
    (call,) = made.wrap(program(kind), [function])
    return made, call


@pytest.fixture
def sleep(monkeypatch):
    """Let the time pass that is measured: no other passes."""
    now = [100.0]
    monkeypatch.setattr(calls, "_clock", lambda: now[0])

    def sleep(seconds):
        now[0] += seconds

    return sleep


def test_time_calls_and_what_came_out_of_each_stage(sleep):
    def slow(x):
        sleep(0.01)
        return x

    made = Calls(2000)
    first, second = made.wrap(program("map", "filter"), [slow, lambda x: x > 2])
    kept = [x for x in range(5) if second(first(x))]
    report = made.report(5)
    assert kept == [3, 4]
    (_, _, number, seconds, given), (_, role, _, little, few) = report["stages"]
    assert (number, given) == (5, 5)
    assert seconds == pytest.approx(0.05)
    assert report["seconds"] == pytest.approx(0.05)
    assert (role, few) == ("whole", 2)
    assert little == 0
    assert report["base_kb"] == 2000


def test_a_generator_is_timed_where_it_works_and_not_where_it_waits(sleep):
    def generate(x):
        for number in range(3):
            sleep(0.01)
            yield number

    made, call = timed("flat_map", generate)
    for _ in call(0):
        sleep(0.05)
    ((_, _, number, seconds, given),) = made.report(1)["stages"]
    assert (number, given) == (1, 3)
    assert seconds == pytest.approx(0.03)


@pytest.mark.parametrize("result", [[1, 2], (1, 2), {1, 2}, {1: 2, 3: 4}, "ab", range(2)])
def test_results_that_are_there_are_handed_on_as_they_are(result):
    made, call = timed("flat_map", lambda x: result)
    assert call(0) is result
    assert made.report(1)["stages"][0][4] == 2


def test_what_flat_map_cannot_iterate_is_left_to_it():
    _, call = timed("flat_map", lambda x: 5)
    assert call(0) == 5


def test_calls_that_fail_do_not_count():
    def broken(x):
        if x:
            raise LookupError
        return x

    made, call = timed("map", broken)
    call(0)
    with pytest.raises(LookupError):
        call(1)
    assert made.report(2)["stages"][0][2] == 1


def test_functions_of_a_reduce_and_of_its_parts_are_told_apart():
    output = {"stage": "total", "key": None, "combine": 0, "merge": None}
    reduction = {"stage": "sum", "function": 1}
    made = Calls(2000)
    content = program(outputs=[output], reduction=reduction)
    combine, reduce = made.wrap(content, [lambda a, b: a + b, lambda a, b: a * b])
    assert (combine(2, 3), reduce(2, 3)) == (5, 6)
    found = [entry[:3] for entry in made.report(1)["stages"]]
    assert found == [("total", "parts", 1), ("sum", "whole", 1)]


class Directories:
    """Notes when a call is in its directory."""

    def __init__(self):
        self.notes = []

    def wrap(self, function, stage):
        def call(*arguments):
            self.notes.append(f"into {stage}")
            result = function(*arguments)
            self.notes.append(f"out of {stage}")
            return result

        return call


class Surroundings:
    """Notes when they are put back."""

    def __init__(self, notes):
        self.notes = notes

    def is_changed(self, now):
        return True

    def restore(self):
        self.notes.append("restored")


def test_a_call_has_its_directory_inside_of_what_is_put_back_after_it():
    directories = Directories()
    made = Calls(0, Surroundings(directories.notes), directories)
    output = {"stage": "total", "key": None, "combine": 1, "merge": None}
    first, combine = made.wrap(program("map", outputs=[output]), [abs, max])
    assert first(-1) == 1
    assert directories.notes == ["into s0", "out of s0", "restored"]
    directories.notes.clear()
    assert combine(2, 3) == 3
    assert directories.notes == ["restored"]  # it combines items: no call of its own


def test_functions_are_wrapped_once():
    double = lambda x: 2 * x  # noqa: E731
    made = Calls(0)
    functions = [double]
    (wrapped,) = made.wrap(program("map"), functions)
    assert wrapped(2) == 4
    assert functions == [double]  # the list of the job stays what it is
