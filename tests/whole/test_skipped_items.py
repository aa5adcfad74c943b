"""Items that fail and are let go take nothing else along, and what comes after counts the rest."""

from __future__ import annotations

import pytest
import reference

import htdag

SKIP = {"on_error": "skip", "max_errors": 1.0}


def even(number):
    if number % 2:
        raise ValueError(number)
    return number


def small(number):
    if number > 5:
        raise ValueError(number)
    return number


def upwards(number):
    for each in range(number, number + 3):
        yield each if each != 7 else even(each)


def even_item(number, item):
    return number, even(item)


def even_number(number, item):
    return even(number), item


def add(a, b):
    return a + b


def numbers(size=3, count=10):
    return htdag.source(range(count), chunk_size=size)


def kept(**options):
    return numbers().map(even, **SKIP, **options)


STAGES = {
    # Views count what is left.
    "product": lambda: [kept().product(htdag.source([7, 8]))],
    "product of the other": lambda: [htdag.source([7, 8]).product(kept())],
    "product with itself": lambda: [kept(name="m").product(kept(name="n"))],
    "combinations": lambda: [kept().combinations(2)],
    "combinations of three": lambda: [kept().combinations(3).map(sum, chunk_size=2)],
    "enumerate": lambda: [kept().enumerate(3)],
    "enumerate in chunks": lambda: [kept().enumerate().starmap(even_number, chunk_size=2, **SKIP)],
    "enumerate before": lambda: [numbers().enumerate().starmap(even_item, **SKIP).batch(2)],
    "zip": lambda: [kept().zip(numbers(4))],
    "batch": lambda: [kept().batch(2)],
    "batch in chunks": lambda: [kept().batch(2).map(sum, chunk_size=1)],
    "take": lambda: [kept().take(4)],
    "take after a map": lambda: [kept().map(str, fuse=False).take(4)],
    "take before": lambda: [numbers().take(4).map(even, **SKIP).product(numbers(count=2))],
    "concat": lambda: [kept().concat(numbers()).batch(3)],
    "sort_by": lambda: [kept().sort_by(lambda x: -x).product(numbers(count=2))],
    "group_by": lambda: [kept().group_by(lambda x: x % 4).map(len).combinations(2)],
    "view after a map": lambda: [kept().map(str, fuse=False).combinations(2)],
    "view after two": lambda: [kept().map(str, fuse=False).map(len, chunk_size=2).batch(2)],
    "reduce": lambda: [kept().reduce(add).product(kept())],
    "bind": lambda: [numbers().map(lambda x, rest: (x, rest), bind={"rest": kept()})],
    # Who fails fails alone.
    "target before": lambda: [(first := numbers().map(abs, **SKIP)), first.map(even, **SKIP)],
    "two branches": lambda: [
        (first := numbers().map(abs, **SKIP)).map(even, name="even", **SKIP),
        first.map(small, name="small", **SKIP),
    ],
    "branches of a source": lambda: [
        (first := numbers()).map(even, name="even", **SKIP),
        first.map(small, name="small", **SKIP),
    ],
    "branches of a view": lambda: [
        (first := numbers().take(9)).map(even, name="even", **SKIP),
        first.map(small, name="small", **SKIP),
    ],
    "elements": lambda: [numbers().flat_map(upwards, **SKIP).map(even, **SKIP)],
    "filtered elements": lambda: [numbers().flat_map(upwards, **SKIP).filter(even, **SKIP)],
    "combined before": lambda: [
        (first := numbers().map(abs, **SKIP)).reduce(add, **SKIP),
        first.map(even, **SKIP),
    ],
    "keyed elements": lambda: [numbers().flat_map(upwards, **SKIP).group_by(even, **SKIP)],
    "counted elements": lambda: [numbers().flat_map(upwards, **SKIP).count(**SKIP)],
}


def none(number):
    raise ValueError(number)


def emptied():
    return numbers().map(none, **SKIP)


STAGES.update(
    {
        "product of nothing": lambda: [emptied().product(numbers()), numbers().product(emptied())],
        "combinations of nothing": lambda: [emptied().combinations(2).map(sum, fuse=False)],
        "batches of nothing": lambda: [emptied().batch(2), emptied().take(2), emptied().sort_by()],
        "concat of nothing": lambda: [emptied().concat(numbers(), emptied())],
        "groups of nothing": lambda: [emptied().group_by(abs).map(len), emptied().count()],
    }
)


@pytest.mark.parametrize("make", STAGES.values(), ids=STAGES)
def test_the_rest_is_what_plain_python_makes_of_it(tmp_path, monkeypatch, make):
    flow = htdag.Pipeline(*make(), name="flow")
    run = reference.compiled(flow, tmp_path / "run")
    with reference.without_fork(monkeypatch):
        assert reference.run_nodes(run) == []
    right = reference.evaluate(flow.graph)
    assert {name: reference.result(run, name) for name in flow.targets} == {
        name: right[name] for name in flow.targets
    }


def test_stages_in_a_row_share_jobs_all_the_same():
    flow = htdag.Pipeline(numbers().map(abs, **SKIP).map(even, **SKIP).filter(small, **SKIP))
    assert len(flow.plan().nodes) == 1


def test_it_is_said_why_stages_do_not_share_jobs():
    flow = htdag.Pipeline(numbers().flat_map(upwards, **SKIP).map(even, **SKIP))
    explained = " ".join(str(flow.explain()).split())
    assert "an item that fails in even would lose all that upwards made with it" in explained
