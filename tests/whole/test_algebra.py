"""All kinds of stages in whole runs: here, and on execute points that see files and that do not.

What each kind means in every shape of pipeline is tested by test_random_pipelines.py.
"""

from __future__ import annotations

import itertools
import operator
from typing import TYPE_CHECKING, Any

import pytest
import reference

import htdag
from htdag.runtime import chunking, planfile
from htdag.runtime.dag import progress

if TYPE_CHECKING:
    from pathlib import Path


def note(lengths: dict[int, int], word: str) -> dict[int, int]:
    lengths[len(word)] = lengths.get(len(word), 0) + 1
    return lengths


def merge(a: dict[int, int], b: dict[int, int]) -> dict[int, int]:
    return {key: a.get(key, 0) + b.get(key, 0) for key in {*a, *b}}


def everything(**options: Any) -> htdag.Pipeline:
    """A pipeline with each kind of stage, in as few nodes as that takes."""
    lines = [f"line {n} of {n % 7} words {'x' * (n % 5)}" for n in range(60)]
    words = htdag.source(lines, chunk_size=20).flat_map(str.split, name="words")
    pairs = words.map(lambda word: (word, 1), name="pairs")
    counts = pairs.reduce_by_key(operator.add, partitions=2, name="counts")
    groups = words.group_by(len, partitions=2, name="groups")
    sizes = groups.starmap(lambda length, found: (length, len(found)), name="sizes")
    order = counts.sort_by(lambda pair: (-pair[1], pair[0]), partitions=2, name="order")
    top = order.take(3, name="top")
    ranked = top.zip(htdag.source(["first", "second", "third"]), name="ranked")
    long = words.filter(lambda word: len(word) > 4, name="long").enumerate(1, name="numbered")
    return htdag.Pipeline(
        sizes,
        ranked,
        long.starmap("{}. {}".format, name="listed", chunk_size=7),
        words.distinct(partitions=2, name="different").count(name="how_many"),
        words.fold(note, merge, initial={}, name="lengths"),
        top.combinations(2, name="duels").concat(
            top.take(1, name="best").product(htdag.source(["a", "b"]), name="labels"), name="all"
        ),
        sizes.batch(2, name="batches").map(len, name="batch_sizes", chunk_size=2),
        name="everything",
        **options,
    )


@pytest.mark.parametrize(
    "place", ["local", pytest.param("blind", marks=pytest.mark.pool)], indirect=True
)
def test_every_kind_of_stage(place: dict[str, Any]):
    flow = everything(**place["options"])
    expected = reference.evaluate(flow.graph)
    run = flow.submit(on=place["on"]).wait(timeout=200, progress=False)
    for target in flow.targets:
        assert run.result(target) == expected[target], target
    assert run.errors() == []
    assert run.status()["words"].total == 60


def test_jobs_are_laid_out_by_what_came_before(runs_dir: Path):
    numbers = htdag.source(range(1000), chunk_size=50)
    few = numbers.filter(lambda x: x % 100 == 0, name="few")
    after = few.map(lambda x: x + 1, name="after", fuse=False)
    many = few.flat_map(lambda x: range(500), name="many", fuse=False)
    last = many.map(lambda x: x, name="last", fuse=False, chunk_size=600)
    run = htdag.Pipeline(after, last).submit(on="local").wait()
    plan = planfile.read(str(run.path))
    jobs = {
        name: len(progress.examine(str(run.path), node)) for name, node in plan["by_name"].items()
    }
    assert jobs == {"few": 20, "after": 1, "many": 1, "last": 9}
    assert run.status()["last"].jobs == 9
    assert run.result("after") == [x * 100 + 1 for x in range(10)]
    assert run.result("last") == [*range(500)] * 10


def fails_at_first(folder: Path, x: int) -> int:
    mark = folder / f"{x}"
    if x % 10 == 3 and not mark.exists():
        mark.touch()
        raise ValueError(x)
    return x


def test_keyed_stages_go_on_after_failures(runs_dir: Path, tmp_path: Path):
    numbers = htdag.source(range(40), chunk_size=10).map(lambda x: fails_at_first(tmp_path, x))
    sums = numbers.reduce_by_key(operator.add, key=lambda x: x % 4, partitions=2, name="sums")
    run = htdag.Pipeline(sums, numbers.sort_by(lambda x: -x, name="sorted")).submit(on="local")
    with pytest.raises(htdag.RunFailed, match="ValueError: 3"):
        run.wait()
    run.resume().wait()
    assert dict(run.result("sums")) == {k: sum(range(k, 40, 4)) for k in range(4)}
    assert run.result("sorted") == [*range(39, -1, -1)]


def test_a_damaged_partition_is_found_and_made_again(runs_dir: Path):
    numbers = htdag.source(range(40), chunk_size=10).map(abs, name="numbers")
    groups = numbers.group_by(lambda x: x % 4, partitions=3, name="groups")
    run = htdag.Pipeline(groups).submit(on="local").wait()
    before = run.result()
    (path,) = (run.path / "nodes/numbers/out").glob("0001.1.groups.p001.items")
    path.write_bytes(path.read_bytes()[:-1])
    (run.path / "nodes/groups/out").joinpath("0001.1.record").unlink()
    run.resume().wait()
    assert run.result() == before
    assert (run.path / "nodes/numbers/out/0001.1.record.damaged").exists()


def test_a_key_that_has_no_hash_is_an_item_error(runs_dir: Path):
    lists = htdag.source([[1], [2]]).group_by(lambda item: item, name="groups")
    run = htdag.Pipeline(lists).submit(on="local")
    with pytest.raises(htdag.RunFailed, match="a list cannot be a key"):
        run.wait()
    assert [(error.stage, error.key) for error in run.errors()] == [
        ("groups", "0"),
        ("groups", "1"),
    ]


def test_items_that_cannot_be_compared_are_an_error_of_the_sort(runs_dir: Path):
    run = htdag.Pipeline(htdag.source([1, "a"]).sort_by(name="order")).submit(on="local")
    with pytest.raises(htdag.RunFailed, match=r"order.*'<' not supported"):
        run.wait()


def test_pairs_are_asked_for(runs_dir: Path):
    run = htdag.Pipeline(htdag.source([1]).reduce_by_key(operator.add)).submit(on="local")
    with pytest.raises(htdag.RunFailed, match=r"items that are pairs \(key, value\)"):
        run.wait()


def test_files_in_pairs_travel_with_their_jobs(place: dict[str, Any], tmp_path: Path):
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_text(name)
    tmp_path.chmod(0o755)
    texts = htdag.files(tmp_path / "*.txt", name="texts")
    both = texts.combinations(2, chunk_size=2).starmap(
        lambda a, b: a.read_text() + b.read_text(), name="both"
    )
    flow = htdag.Pipeline(both, **place["options"])
    assert flow.run(on=place["on"]) == ["ab", "ac", "ad", "bc", "bd", "cd"]


def test_items_tell_their_source(runs_dir: Path):
    words = htdag.source(["to be", "or not"]).flat_map(str.split, name="words")
    flow = htdag.Pipeline(
        words.sort_by(name="order"), words.zip(words, name="twice"), words.count(name="number")
    )
    run = flow.submit(on="local").wait()
    assert [(item.key, item.source) for item in run.items("order")] == [
        ("0.1", "to be"),
        ("1.1", "or not"),
        ("1.0", "or not"),
        ("0.0", "to be"),
    ]
    assert next(run.items("twice")).source == "to be"
    assert next(run.items("number")).source is None


def test_items_made_of_several_tell_the_sources_of_all(runs_dir: Path):
    a = htdag.source(["x", "y"], name="a")
    b = htdag.source([1, 2, 3], name="b").map(abs, name="absolute", fuse=False)
    both = a.product(b, name="both")
    pairs = b.combinations(2, name="pairs")
    flow = htdag.Pipeline(
        both.map(str, name="shown"),
        pairs.product(both, a, name="nested").flat_map(lambda item: [1, 2], name="parts").take(9),
        a.concat(both, name="chain"),
        a.product(b.count(), name="counted"),
        a.product(b.group_by(abs), name="grouped"),
    )
    run = flow.submit(on="local").wait()

    def sources(stage):
        return [item.source for item in run.items(stage)]

    assert sources("shown") == [*itertools.product("xy", [1, 2, 3])]
    nested = itertools.product(
        itertools.combinations([1, 2, 3], 2), itertools.product("xy", [1, 2, 3]), "xy"
    )
    assert sources("take") == [each for each in nested for _ in range(2)][:9]
    assert sources("chain") == ["x", "y", *itertools.product("xy", [1, 2, 3])]
    assert sources("counted") == [("x", None), ("y", None)]
    assert set(sources("grouped")) == {None}


def test_no_pair_of_a_product_is_ever_stored(tmp_path: Path):
    many = htdag.source(range(10_000), name="many")
    pairs = many.product(many, name="pairs").filter(lambda pair: False, name="none")
    flow = htdag.Pipeline(pairs)
    (node,) = flow.plan().nodes
    assert (node.items, node.chunks) == (100_000_000, 100)
    run = reference.compiled(flow, tmp_path / "run")
    assert sum(path.stat().st_size for path in run.rglob("*") if path.is_file()) < 10_000_000
    assert chunking.needed("product", 0, [10_000, 10_000], 25_000, 30_000) == [
        (2, 3),
        (5000, 10_000),
    ]
