"""Items have the numbers that Python's enumerate gives them, wherever they are numbered."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import reference

import htdag
from htdag.errors import OptionError, RunFailed
from htdag.runtime import planfile

if TYPE_CHECKING:
    from collections.abc import Iterator

SKIP: Any = {"on_error": "skip", "max_errors": 5}
PLACES = ["local", pytest.param("condor", marks=pytest.mark.pool)]


@pytest.fixture(params=PLACES)
def on(request: pytest.FixtureRequest, runs_dir: Path) -> Iterator[str]:
    """Each of the backends; on the pool jobs run where the submit side cannot be seen."""
    if request.param == "condor":
        pool = request.getfixturevalue("pool")
        with pool.use(), pool.only("blind"):
            yield "condor"
    else:
        yield "local"


def letters(count: int = 10, size: int = 3) -> htdag.Stage:
    return htdag.source("abcdefghijklmnopqrstuvwxyz"[:count].__iter__(), chunk_size=size)


def upper(letter: str) -> str:
    return letter.upper()


def is_no_vowel(letter: str) -> bool:
    return letter not in "aeiou"


def label(number: int, letter: str) -> str:
    return f"{number}{letter}"


def no_vowel(letter: str) -> str:
    if not is_no_vowel(letter):
        raise ValueError(letter)
    return letter


def nodes(*targets: htdag.Stage, **options: Any) -> list[Any]:
    return list(htdag.Pipeline(*targets, **options).plan(on="local").nodes)


def test_numbers_of_a_source_are_known_so_its_items_are_numbered_where_they_are_read():
    (node,) = nodes(letters().enumerate(name="numbered").starmap(label, name="labels"))
    assert node.stages == ("numbered", "labels")
    assert (node.items, node.chunks, node.dynamic) == (10, 4, False)


def test_numbers_after_a_map_are_known_before_it_runs():
    first, second = nodes(letters().map(upper, name="upper").enumerate().starmap(label))
    assert first.stages == ("upper",)
    assert (second.items, second.boundaries[-1], second.dynamic) == (10, 10, False)


@pytest.mark.parametrize(
    "before",
    [
        lambda stage: stage.filter(is_no_vowel),
        lambda stage: stage.flat_map(list),
        lambda stage: stage.map(no_vowel, on_error="skip"),
        lambda stage: stage.distinct(),
    ],
    ids=["filter", "flat_map", "skip", "distinct"],
)
def test_numbers_that_data_decides_are_given_when_the_node_before_is_done(before: Any):
    last = nodes(before(letters()).enumerate(name="numbered").starmap(label, name="labels"))[-1]
    assert last.stages == ("numbered", "labels")
    assert (last.items, last.boundaries, last.dynamic) == (None, (), True)


def test_no_more_items_are_numbered_than_are_taken():
    first, *_ = nodes(letters().enumerate(name="numbered").take(4, name="some"))
    assert (first.stages, first.items) == (("numbered",), 4)


def test_the_start_is_explained():
    flow = htdag.Pipeline(letters().enumerate(5, name="fifth").enumerate(name="plain"))
    text = flow.explain(on="local")
    assert "enumerate over source; start=5" in text
    assert "enumerate over fifth; result" in text


@pytest.mark.parametrize("start", [1.5, "1", None, True])
def test_a_start_that_is_no_whole_number_is_refused(start: Any):
    with pytest.raises(OptionError, match=r"'enumerate': start takes a whole number, not"):
        letters().enumerate(start)


@pytest.mark.parametrize("start", [-2, 0, 10**30])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_every_chunk_goes_on_with_the_numbers_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: int, size: int
):
    """Also in lanes, which read chunk by chunk, and where the chunks are not those of before."""
    numbered = letters().enumerate(start, chunk_size=size)
    plain = numbered.starmap(label, name="plain", chunk_size=size)
    after = plain.map(str, name="after", fuse=False).enumerate(start, name="again", chunk_size=3)
    flow = htdag.Pipeline(plain, after, lanes=2, name="flow")
    run = reference.compiled(flow, tmp_path / "run")
    with reference.without_fork(monkeypatch):
        assert reference.run_nodes(run) == []
    expected = [label(n, letter) for n, letter in enumerate("abcdefghij", start)]
    assert reference.result(run, "plain") == expected
    assert reference.result(run, "again") == list(enumerate(expected, start))


def test_lanes_begin_with_numbered_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = letters().enumerate(1).starmap(label, name="first")
    flow = htdag.Pipeline(first.map(upper, name="second", fuse=False), lanes=2, name="flow")
    assert [node.lanes for node in flow.plan().nodes] == [2, 2]
    run = reference.compiled(flow, tmp_path / "run")
    with reference.without_fork(monkeypatch):
        assert reference.run_nodes(run, max) == []
    assert reference.result(run, "second") == [
        label(number, letter).upper() for number, letter in enumerate("abcdefghij", 1)
    ]


def test_numbers_keys_and_sources(on: str):
    """After a filter and after items that were let go there are no gaps; after it, there are."""
    kept = letters().map(upper).map(str.lower).filter(is_no_vowel, name="kept")
    passed = letters().map(no_vowel, name="passed", **SKIP)
    flow = htdag.Pipeline(
        kept.enumerate(name="numbered").starmap(label, name="labels", chunk_size=2),
        passed.enumerate(1, name="rest"),
        letters()
        .enumerate(name="all")
        .starmap(lambda n, letter: (n, no_vowel(letter)), name="holes", **SKIP),
        name="flow",
    )
    run = flow.submit(on=on).wait(timeout=200, progress=False)
    items = list(run.items("labels"))
    assert [item.value for item in items] == list(map(label, itertools.count(), "bcdfghj"))
    assert [item.key for item in items] == list("1235679")
    assert [item.source for item in items] == list("bcdfghj")
    assert list(run.items("rest", errors="skip")) == [
        htdag.Item(key, pair) for key, pair in zip("1235679", enumerate("bcdfghj", 1), strict=True)
    ]
    assert [item.value for item in run.items("holes", errors="skip")] == [
        (n, letter) for n, letter in enumerate("abcdefghij") if is_no_vowel(letter)
    ]


def numbered_texts(folder: Path, texts: list[str]) -> htdag.Pipeline:
    def noted(number: int, text: str) -> str:
        with open(folder / "calls", "a") as file:
            file.write(f"{number}{text}\n")
        return label(number, text)

    kept = htdag.source(texts, chunk_size=2).filter(lambda text: text != "-", name="kept")
    return htdag.Pipeline(kept.enumerate().starmap(noted, name="labels"), name="texts")


def test_an_item_with_another_number_is_another_item(on: str, tmp_path: Path):
    tmp_path.chmod(0o777)  # the blind execute point shares /tmp

    def calls() -> list[str]:
        found = sorted((tmp_path / "calls").read_text().split())
        (tmp_path / "calls").unlink()
        return found

    def run(texts: list[str]) -> list[str]:
        flow = numbered_texts(tmp_path, texts)
        made = flow.submit("texts", on, resume=True).wait(timeout=200, progress=False)
        return made.result("labels")

    assert run(["a", "-", "b", "c", "d"]) == ["0a", "1b", "2c", "3d"]
    assert calls() == ["0a", "1b", "2c", "3d"]
    # The new one comes before all but the first, and what a filter drops counts for nothing.
    assert run(["a", "new", "b", "-", "-", "c", "d"]) == ["0a", "1new", "2b", "3c", "4d"]
    assert calls() == ["1new", "2b", "3c", "4d"]
    assert run(["a", "b", "new", "c"]) == ["0a", "1b", "2new", "3c"]
    assert calls() == ["1b", "2new"]


def test_the_cache_has_numbered_items(tmp_path: Path, runs_dir: Path):
    def run(tag: str, texts: str, start: int) -> tuple[list[str], list[str]]:
        def noted(number: int, text: str) -> str:
            with open(tmp_path / "calls", "a") as file:
                file.write(f"{number}{text}\n")
            return label(number, text)

        numbered = htdag.source(list(texts)).enumerate(start)
        labels = numbered.starmap(noted, name="labels", cache=True)
        made = htdag.Pipeline(labels, name="texts").run(tag=tag, on="local")
        found = (tmp_path / "calls").read_text().split() if (tmp_path / "calls").exists() else []
        (tmp_path / "calls").unlink(missing_ok=True)
        return made, sorted(found)

    assert run("one", "abc", 0) == (["0a", "1b", "2c"], ["0a", "1b", "2c"])
    assert run("two", "axc", 0) == (["0a", "1x", "2c"], ["1x"])
    assert run("three", "cab", 0) == (["0c", "1a", "2b"], ["0c", "1a", "2b"])
    assert run("four", "abc", 1) == (["1a", "2b", "3c"], ["1a", "2b", "3c"])


def test_a_failed_item_keeps_its_number_when_it_is_tried_again(on: str, tmp_path: Path):
    tmp_path.chmod(0o777)

    def fails_once(number: int, letter: str) -> str:
        if letter in "cg" and not (tmp_path / letter).exists():
            (tmp_path / letter).touch()
            raise ValueError(letter)
        return label(number, letter)

    labels = letters().filter(is_no_vowel).enumerate().starmap(fails_once, name="labels")
    run = htdag.Pipeline(labels, name="flow", chunk_size=3).submit(on=on)
    with pytest.raises(RunFailed):
        run.wait(timeout=200, progress=False)
    assert {error.key for error in run.errors()} == {"2", "6"}
    run.resume().wait(timeout=200, progress=False)
    assert run.result() == list(map(label, itertools.count(), "bcdfghj"))
    assert run.rerun().wait(timeout=200, progress=False).result() == run.result()


def test_numbers_in_the_rounds_of_a_loop(on: str):
    def shortened(state: htdag.Stage) -> htdag.Stage:
        odd = state.enumerate().filter(lambda pair: pair[0] % 2 == 1)
        return odd.map(lambda pair: pair[1], name="half")

    last = htdag.iterate(shortened, letters(26), max_rounds=3).enumerate(name="last")
    run = htdag.Pipeline(last, name="flow").submit(on=on).wait(timeout=300, progress=False)
    assert run.result() == list(enumerate("hpx"))
    plan = planfile.read(str(run.path))
    assert plan["by_name"]["last"]["input"]["view"] == "enumerate"
