"""Options: requests that are functions of the item, and what jobs are told of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import reference

import htdag
from htdag.errors import OptionError
from htdag.runtime.layout import NodeFiles

if TYPE_CHECKING:
    from pool import Pool

NODE = "f"


def identity(x):
    return x


def lines(run, node=NODE):
    text = Path(NodeFiles(run, node).chunk_list()).read_text()
    return [line.split(", ")[:-1] for line in text.splitlines()]


def command(run, name, node=NODE):
    text = Path(NodeFiles(run, node).submit).read_text()
    return [line.split(" = ")[1] for line in text.splitlines() if line.startswith(name + " =")]


def compiled(stage, run):
    return reference.compiled(htdag.Pipeline(stage), run)


def test_a_chunk_asks_for_the_most_of_its_items(tmp_path):
    stage = htdag.source([3, 1, 2, 5, 4], chunk_size=2).map(
        identity,
        name=NODE,
        request_memory=lambda x: f"{x}GB",
        request_cpus=lambda x: x,
        request_disk="1GB",
        allowed_job_duration=lambda x: f"{x}h",
    )
    run = compiled(stage, tmp_path / "run")
    assert command(run, "request_memory") == ["$(memory_of_chunk)MB"]
    assert command(run, "request_cpus") == ["$(cpus_of_chunk)"]
    assert command(run, "request_disk") == ["1GB"]
    queue = Path(NodeFiles(run, NODE).submit).read_text().splitlines()[-1]
    assert queue.startswith(
        "queue chunk, attempt, cpus_of_chunk, memory_of_chunk, duration_of_chunk, inputs from"
    )
    assert lines(run) == [
        ["0000", "1", "3", "3072", "10800"],
        ["0001", "1", "5", "5120", "18000"],
        ["0002", "1", "4", "4096", "14400"],
    ]


def test_a_generator_and_an_array_are_asked_about_too(tmp_path):
    numpy = pytest.importorskip("numpy")
    items = (numpy.zeros(20_000 * n) for n in (1, 3, 2))
    stage = htdag.source(items, chunk_size=1).map(
        identity, name=NODE, request_memory=lambda array: array.nbytes // 1000
    )
    assert [row[2] for row in lines(compiled(stage, tmp_path / "run"))] == ["160", "480", "320"]


def test_a_file_may_say_what_it_needs(tmp_path):
    for name, size in {"a": 10, "b": 3000}.items():
        (tmp_path / name).write_bytes(b"x" * size)
    stage = htdag.files([tmp_path / "a", tmp_path / "b"], chunk_size=1).map(
        identity, name=NODE, request_disk=lambda path: path.stat().st_size
    )
    assert [row[2] for row in lines(compiled(stage, tmp_path / "run"))] == ["10", "3000"]


@pytest.mark.parametrize(
    ("view", "largest"),
    [
        (lambda s: s.batch(2), lambda batch: sum(batch)),
        (lambda s: s.zip(s), lambda pair: sum(pair)),
        (lambda s: s.product(s), lambda pair: sum(pair)),
        (lambda s: s.combinations(2), lambda pair: sum(pair)),
        (lambda s: s.enumerate(1), lambda pair: sum(pair)),
        (lambda s: s.concat(s), lambda item: item),
        (lambda s: s.take(3), lambda item: item),
    ],
)
@pytest.mark.parametrize("generated", [False, True])
def test_items_of_views_are_those_of_the_jobs(tmp_path, view, largest, generated):
    numbers = [4, 2, 5, 1, 3]
    source = htdag.source((n for n in numbers) if generated else numbers)
    stage = view(source).map(identity, name=NODE, request_memory=largest, chunk_size=2)
    run = compiled(stage, tmp_path / "run")
    assert reference.run_nodes(run) == []
    again = compiled(stage, tmp_path / "again")
    (node,) = (path.name for path in (again / "nodes").iterdir())
    rows = lines(again, node)
    values = reference.result(run, NODE)
    wanted = [max(map(largest, values[start : start + 2])) for start in range(0, len(values), 2)]
    assert [int(row[2]) for row in rows] == wanted


def test_a_retry_asks_for_the_same(tmp_path):
    def fails(x):
        if x == 5:
            raise ValueError(x)
        return x

    stage = htdag.source([1, 5, 3], chunk_size=1).map(
        fails, name=NODE, retries=1, request_memory=lambda x: x * 100
    )
    run = compiled(stage, tmp_path / "run")
    assert reference.run_nodes(run) == [NODE]
    assert lines(run) == [["0001", "3", "500"]]


def test_a_function_that_fails_names_stage_item_and_option(tmp_path):
    stage = htdag.source([1, 0]).map(identity, name=NODE, request_memory=lambda x: 100 // x)
    with pytest.raises(OptionError, match=r"'f'.*request_memory.*item 1.*ZeroDivisionError"):
        compiled(stage, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_function_that_gives_nonsense_is_refused(tmp_path):
    stage = htdag.source([1]).map(identity, name=NODE, request_memory=lambda x: "much")
    with pytest.raises(OptionError, match=r"returned 'much'.*512MB"):
        compiled(stage, tmp_path / "run")


def test_items_that_the_run_makes_cannot_be_asked(tmp_path):
    made = htdag.source([1]).map(identity)
    stage = made.map(identity, name=NODE, request_memory=lambda x: x)
    with pytest.raises(OptionError, match="made by 'identity' during the run"):
        htdag.Pipeline(stage)
    with pytest.raises(OptionError, match="a reduce does not process single items"):
        htdag.Pipeline(htdag.source([1]).reduce(max, request_memory=lambda x: x))
    with pytest.raises(OptionError, match="give it to the stage"):
        htdag.Pipeline(made, request_memory=lambda x: x)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("license", "license"),
        ("license:2, db", "license:2, db"),
        (["a.b", "c"], "a.b, c"),
        ({"license": 2, "db": 1}, "license:2, db"),
    ],
)
def test_concurrency_limits(value, text):
    assert htdag.source([1]).map(abs, concurrency_limits=value).options.concurrency_limits == text


@pytest.mark.parametrize("value", ["two words", "a:b", "", "a\nb", 3])
def test_what_is_no_concurrency_limit(value):
    with pytest.raises(OptionError, match="concurrency_limits"):
        htdag.source([1]).map(abs, concurrency_limits=value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("walltime", "allowed_job_duration"),
        ("memory", "request_memory"),
        ("disk", "request_disk"),
        ("licenses", "concurrency_limits"),
        ("container", "environment"),
    ],
)
def test_other_names_lead_to_htcondors(name, meant):
    with pytest.raises(OptionError, match=f"did you mean '{meant}'"):
        htdag.source([1]).map(abs, **{name: 1})


def test_the_local_run_counts_the_cpus_of_each_chunk(tmp_path, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))
    stage = htdag.source([1, 2], chunk_size=1).map(
        lambda x: htdag.current().cpus, request_cpus=lambda x: x
    )
    assert htdag.Pipeline(stage, history=False).run(on="local") == [1, 2]


def granted(x):
    here = htdag.current()
    return here.memory, here.cpus


@pytest.mark.pool
def test_jobs_get_what_their_items_need(pool: Pool, runs_dir: Path):
    stage = htdag.source([50, 200]).map(granted, request_memory=lambda x: x, chunk_size=1)
    with pool.only("blind"):
        run = (
            htdag.Pipeline(stage, name="requests")
            .submit(tag="sizes", on="condor")
            .wait(timeout=200)
        )
    (small, _), (large, _) = run.result()
    assert 50 <= small < 200 <= large
    ads = pool.job_ads('JobBatchName == "sizes" && JobUniverse == 5', ["RequestMemory"])
    assert sorted(ad["RequestMemory"] for ad in ads) == [50, 200]
    assert json.loads(Path(NodeFiles(run.path, "granted").requests).read_text()) == {
        "request_memory": [50, 200]
    }
