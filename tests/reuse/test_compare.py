"""Which nodes of two plans compute the same, and in what words others do not. Nothing is run."""

from __future__ import annotations

import json
import operator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import reference

import htdag
from htdag.reuse import compare
from htdag.runtime import layout

if TYPE_CHECKING:
    from collections.abc import Callable

SHARED = "it shares its jobs with {}, which changed"
NOT_STORED = "values between these stages are not stored"


def plus(offset: int) -> Callable[[int], int]:
    def plus(item: int, one: int = 0, another: int = 0) -> int:
        return item + offset

    return plus


def keyed(offset: int) -> Callable[[int], int]:
    def keyed(item: int) -> int:
        return item + offset + int(htdag.current().key)

    return keyed


LEVEL, OTHER, NAMES = 1, 2, ["a"]
LESS = lambda item: item - LEVEL  # noqa: E731


def helper(item: int) -> int:
    return item + LEVEL


def works(item: int) -> int:
    return helper(item) + OTHER + len(NAMES)


def numbers(count: int = 6) -> htdag.Stage:
    return htdag.source(range(count), name="numbers", chunk_size=2)


def total(stage: htdag.Stage, function: Any = operator.add, **options: Any) -> htdag.Stage:
    return stage.reduce(function, name="total", **options)


def first(offset: int = 1, **options: Any) -> htdag.Stage:
    return numbers().map(plus(offset), name="first", **options)


def bound(keyword: str) -> htdag.Stage:
    return first(bind={keyword: htdag.source([1, 2], name="others").reduce(max, name="most")})


def identity(path: Path, stage: htdag.Stage) -> dict[str, Any]:
    run = reference.compiled(htdag.Pipeline(stage, name="flow"), path)
    return json.loads((run / layout.IDENTITY).read_text())


# What the pipeline was, what it is, and by the nodes of today why their stages are not the same.
CASES = {
    "nothing": (lambda: total(first()), lambda: total(first()), {"first": {}, "total": {}}),
    "the items": (
        lambda: numbers().map(abs, name="first"),
        lambda: numbers(9).map(abs, name="first"),
        {"first": {}},
    ),
    "a name": (first, lambda: numbers().map(plus(1), name="other"), {"other": {}}),
    "a function": (
        lambda: total(first()),
        lambda: total(first(2)),
        {"first": {"first": "its function changed", "total": SHARED.format("first")}, "total": {}},
    ),
    "another function of shared jobs": (
        lambda: total(first()),
        lambda: total(first(), operator.mul),
        {
            "first": {"first": SHARED.format("total"), "total": "its function changed"},
            "total": {"total": "its function changed"},
        },
    ),
    "an initial value": (
        lambda: total(first(), initial=1),
        lambda: total(first(), initial=2),
        {"first": {}, "total": {"total": "its initial value changed"}},
    ),
    "the kind": (
        lambda: numbers().map(plus(1), name="first"),
        lambda: numbers().filter(plus(1), name="first"),
        {"first": {"first": "the stage changed: its kind"}},
    ),
    "one more stage in a job": (
        first,
        lambda: first().map(abs, name="second"),
        {
            "first.second": dict.fromkeys(
                ("first", "second"),
                f"its jobs compute first and second now, and computed first; {NOT_STORED}",
            )
        },
    ),
    "one more stage": (
        first,
        lambda: first().filter(bool, name="second", fuse=False),
        {"first": {}, "second": {"second": "it is new"}},
    ),
    "the partitions": (
        lambda: numbers(6).group_by(abs, name="groups"),
        lambda: numbers(20).group_by(abs, name="groups"),
        {"groups.combine": {"groups": "another number of partitions"}, "groups": {}},
    ),
    "a bind": (
        lambda: bound("one"),
        lambda: bound("another"),
        {"most.combine": {}, "most": {}, "first": {"first": "its bind changed"}},
    ),
    "an option": (
        first,
        lambda: first(environ={"LEVEL": "2"}),
        {"first": {"first": "options changed: environ"}},
    ),
}


def stated(matches: dict[str, compare.Match], reasons: dict[str, dict[str, str]]) -> None:
    assert matches.keys() == reasons.keys()
    for name, expected in reasons.items():
        match = matches[name]
        assert bool(match.same) == (not expected), name
        assert match.reasons.keys() == expected.keys()
        for stage, words in expected.items():
            assert words in match.reasons[stage]


@pytest.mark.parametrize("case", CASES)
def test_what_is_the_same_and_what_changed(tmp_path: Path, case: str):
    before, after, reasons = CASES[case]
    old, new = identity(tmp_path / "old", before()), identity(tmp_path / "new", after())
    stated(compare.match(new, old), reasons)
    # By the key of what it computes the cache finds a node again, and no other.
    keys = {compare.key(node, old) for node in old["nodes"].values()}
    assert None not in keys
    for name, node in new["nodes"].items():
        assert (compare.key(node, new) in keys) == (not reasons[name])


def test_functions_that_changed_may_be_taken_for_the_same(tmp_path: Path):
    old, new = (identity(tmp_path / str(n), total(first(n), operator.add)) for n in (1, 2))
    for keep in (["first"], [compare.EVERY_STAGE]):
        stated(compare.match(new, old, keep), {"first": {}, "total": {}})
    shared = {"first": {"first": "its function changed", "total": SHARED.format("first")}}
    stated(compare.match(new, old, ["total"]), {**shared, "total": {}})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"OTHER": 3}, "variable OTHER"),
        ({"LEVEL": 3}, "variable LEVEL"),
        ({"helper": abs}, "helper helper, variable LEVEL"),
        ({"helper": LESS}, "helper <lambda>, helper helper"),
        ({"helper": LESS, "OTHER": 3}, "helper <lambda>, helper helper, variable OTHER"),
        (
            {"helper": LESS, "OTHER": 3, "NAMES": []},
            "helper <lambda>, helper helper, variable NAMES and 1 more",
        ),
    ],
)
def test_what_a_function_reaches_is_named_the_likely_cause_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], words: str
):
    stage = numbers().map(works, name="first")
    old = identity(tmp_path / "old", stage)
    for name, value in changes.items():
        monkeypatch.setitem(globals(), name, value)
    new = identity(tmp_path / "new", stage)
    reason = compare.match(new, old)["first"].reasons["first"]
    assert reason.replace(" in test_compare.py", "") == f"its function changed: {words}"


def test_another_python_or_version_computes_everything(tmp_path: Path):
    old = identity(tmp_path / "run", first())
    python = {**old, "python": [3, 99]}
    stated(compare.match(python, old), {"first": {"first": "Python is 3.99 now, and was 3."}})
    version = {**old, "format": 0}
    stated(compare.match(version, old), {"first": {"first": "another version of htdag"}})
    (node,) = old["nodes"].values()
    assert len({compare.key(node, each) for each in (old, python, version)}) == 3


@pytest.mark.parametrize("which", ["new", "old"])
@pytest.mark.parametrize(("part", "number"), [("functions", 0), ("values", 0)])
def test_what_cannot_be_told_for_certain_is_computed_again(
    tmp_path: Path, which: str, part: str, number: int
):
    stage = numbers().fold(plus(1), operator.add, initial=0, name="first")
    sides = {side: identity(tmp_path / side, stage) for side in ("new", "old")}
    name, node = next((name, node) for name, node in sides[which]["nodes"].items() if node[part])
    node[part][number]["unsure"] = {"class Odd": "it has no source"}
    match = compare.match(sides["new"], sides["old"])[name]
    assert (match.same, list(match.reasons)) == ((), ["first"])
    assert compare.key(node, sides[which]) is None
    if part == "functions":
        assert match.reasons["first"] == "its function changed: class Odd, it has no source"
        assert compare.match(sides["new"], sides["old"], ["first"])[name].same


def test_whether_a_function_asks_for_the_key_of_its_item_counts(tmp_path: Path):
    old, new = (
        identity(tmp_path / str(n), numbers().map(function, name="first"))
        for n, function in enumerate((keyed(1), keyed(1)))
    )
    assert old["nodes"]["first"]["asks_key"]
    stated(compare.match(new, old), {"first": {}})
    new["nodes"]["first"]["asks_key"] = False
    stated(compare.match(new, old), {"first": {"first": "whether it asks for the key"}})


def test_loops_are_computed_anew(tmp_path: Path):
    stage = first().reduce(operator.add, name="total")
    loop = htdag.iterate(lambda state: state.map(abs, name="step"), stage, max_rounds=2)
    old, new = (identity(tmp_path / side, loop) for side in ("old", "new"))
    matches = compare.match(new, old)
    made = {name for name, node in new["nodes"].items() if node["loop"]}
    assert len(made) == 1
    for name, match in matches.items():
        assert bool(match.same) == (name not in made)
        if name in made:
            assert "it is made by a loop" in " ".join(match.reasons.values())
            assert compare.key(new["nodes"][name], new) is None
