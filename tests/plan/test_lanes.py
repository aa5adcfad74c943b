"""Lanes: which nodes are cut, what is chosen, and that a run in lanes is a run like any other."""

from __future__ import annotations

import contextlib
import functools
import json
import operator
import os
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import htdag
from htdag.errors import OptionError
from htdag.plan import make_plan
from htdag.plan.simulate import NODE_SECONDS, Capacity, Work, makespan
from htdag.plan.stage_keys import stage_keys
from htdag.plan.tune import Measured
from htdag.reuse import history
from htdag.runtime import lanes, planfile
from htdag.runtime.dag import post, prepare
from htdag.runtime.data import recordfile
from htdag.runtime.layout import NodeFiles

if TYPE_CHECKING:
    from collections.abc import Iterator


def work(x: Any, **bound: Any) -> Any:
    return x


def some(x: int) -> bool:
    return x % 3 > 0


def add(a: int, b: int) -> int:
    return a + b


def first(items: int = 40, **options: Any) -> htdag.Stage:
    return htdag.source(range(items)).map(work, name="first", **options)


def second(stage: htdag.Stage, name: str = "second", **options: Any) -> htdag.Stage:
    return stage.map(work, name=name, fuse=False, **options)


def flow(*targets: htdag.Stage, **options: Any) -> htdag.Pipeline:
    return htdag.Pipeline(*targets, name="flow", **options)


def cut(plan: Any) -> dict[str, int]:
    return {node.name: node.lanes for node in plan.nodes}


# Which nodes


def test_a_chain_is_cut_as_it_was_asked_for():
    plan = flow(second(second(first()), name="third"), lanes=4).plan()
    assert cut(plan) == {"first": 4, "second": 4, "third": 4}
    assert [node.lane_parent for node in plan.nodes] == [None, "first", "second"]
    assert plan["first"].lane_edges == plan["third"].lane_edges == (0, 10, 20, 30, 40)
    (chain,) = plan.chains
    assert (chain.nodes, chain.lanes) == (("first", "second", "third"), 4)
    assert "lanes=4" in chain.reason


def test_a_chunk_size_that_makes_the_same_chunks_does_not_matter():
    plan = flow(second(first(chunk_size=5), chunk_size=5), lanes=4).plan()
    assert cut(plan) == {"first": 4, "second": 4}


def test_branches_are_in_the_same_lanes():
    start = first()
    plan = flow(second(start), second(start, name="other"), lanes=3).plan()
    assert cut(plan) == {"first": 3, "second": 3, "other": 3}


def test_there_are_no_more_lanes_than_jobs():
    assert cut(flow(second(first(5)), lanes=1000).plan()) == {"first": 5, "second": 5}


@pytest.mark.parametrize("lanes", [None, 1])
def test_without_measures_nothing_is_cut_unasked(lanes: int | None):
    plan = flow(second(first()), lanes=lanes).plan()
    assert cut(plan) == {"first": 1, "second": 1}
    if lanes is None:
        assert "nothing was measured of first, second; lanes=N" in plan.chains[0].reason


def test_after_a_filter_lanes_take_whole_chunks():
    stage = htdag.source(range(40)).map(work, name="first").filter(some)
    plain = flow(second(stage)).plan()
    assert plain["second"].dynamic
    plan = flow(second(second(stage), name="third"), lanes=4).plan()
    assert cut(plan) == {"first.some": 4, "second": 4, "third": 4}
    assert all(plan[name].by_chunk and not plan[name].dynamic for name in ("second", "third"))


def test_a_node_takes_the_chunks_of_the_one_before_it():
    stage = first(400, chunk_size=2)  # more jobs than a node has by default
    assert flow(second(stage)).plan()["second"].chunks == 100
    plan = flow(second(stage), lanes=4).plan()
    assert plan["second"].boundaries == plan["first"].boundaries
    assert plan["second"].items == 400


def bound_to_all(stage: htdag.Stage) -> htdag.Stage:
    return stage.map(work, bind={"total": stage.reduce(add, name="total")}, name="second")


def bound_to_late(stage: htdag.Stage) -> htdag.Stage:
    late = htdag.source(range(50)).filter(some, name="some")
    return second(stage, bind={"late": late.map(work, name="late", fuse=False)})


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: second(first(on_error="skip")), "max_errors counts the failed items of all of"),
        (lambda: second(first(), on_error="skip"), "all of second"),
        (lambda: second(first(), max_idle=5), "max_idle is for all jobs of second"),
        (lambda: second(first(max_materialize=5)), "max_materialize is for all jobs of first"),
        (lambda: second(first(), chunk_size=7), "its chunk_size gives it other chunks than first"),
        (lambda: second(first(1)), "first has 1 job"),
        (lambda: bound_to_all(first()), "its bind waits for total, and so for all of first"),
        (lambda: bound_to_late(first()), "late, which it binds, is not known yet"),
        (
            lambda: second(first().filter(some).take(9).map(work, fuse=False, name="taken")),
            "known only when it runs",
        ),
        (lambda: second(first().sort_by(name="sorted")), "sorted has 1 job"),
    ],
)
def test_why_nodes_are_not_cut(make: Any, why: str):
    plan = flow(make(), lanes=4).plan()
    assert plan["second"].lanes == 1
    assert any(chain.nodes[-1] == "second" and why in chain.reason for chain in plan.chains)
    assert why.split()[-1] in flow(make(), lanes=4).explain()
    # Who did not ask is not told.
    assert not any("second" in chain.nodes for chain in flow(make()).plan().chains)


def test_a_bind_of_another_branch_does_not_matter():
    other = htdag.source(range(10), name="numbers").reduce(add, name="total")
    plan = flow(second(first(), bind={"total": other}), lanes=4).plan()
    assert (plan["first"].lanes, plan["second"].lanes, plan["total"].lanes) == (4, 4, 1)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "off", 1001])
def test_wrong_numbers_of_lanes_are_refused(value: Any):
    with pytest.raises(OptionError, match=rf"lanes={value!r}: .*None: the planner decides"):
        flow(first(), lanes=value)


# What is chosen


def measured(seconds: float, slowest: float = 0.0, jobs: int = 10) -> Measured:
    return Measured(1.0, "elsewhere", jobs, 100, seconds, 1.0, 0.0, 1.0, 0.0, 0.0, slowest)


def chosen(
    pipeline: htdag.Pipeline, slots: int = 8, turn: float = 20.0, **by_stage: Measured
) -> Any:
    keys = stage_keys(pipeline.graph, pipeline.name)
    return make_plan(
        pipeline.graph,
        pipeline.targets,
        pipeline.name,
        measures={keys[stage]: (runs,) for stage, runs in by_stage.items()},
        capacity=Capacity(slots, turn=turn),
        settings=pipeline._settings,
        throttles=pipeline._throttles,
    )


def test_where_one_slow_chunk_holds_all_back_lanes_are_chosen():
    start = first(24, chunk_size=1)
    plan = chosen(
        flow(second(start)), first=measured(60, slowest=1200, jobs=24), second=measured(300)
    )
    (chain,) = plan.chains
    assert chain.lanes > 1
    assert cut(plan) == {"first": chain.lanes, "second": chain.lanes}
    assert chain.laned < 0.9 * chain.plain
    # The slowest of jobs that are twice as long takes twice as long.
    twice = flow(second(first(24, chunk_size=2)))
    plan = chosen(twice, first=measured(60, slowest=1200, jobs=12), second=measured(1))
    assert 2400 < plan.chains[0].plain < 3600
    text = flow(second(start), lanes=2).explain()
    assert "first, second: 2 lanes; as given (lanes=2)" in text


def test_where_all_slots_are_busy_anyway_nothing_is_cut():
    start = first(1000, chunk_size=1)
    plan = chosen(flow(second(start)), first=measured(60), second=measured(60))
    (chain,) = plan.chains
    assert cut(plan) == {"first": 1, "second": 1}
    assert "would save" in chain.reason
    assert chain.plain is not None
    assert chain.laned is not None


def test_short_jobs_are_not_cut_however_uneven():
    plan = chosen(
        flow(second(first(24, chunk_size=1))),
        first=measured(0.1, slowest=8, jobs=24),
        second=measured(0.3),
    )
    assert cut(plan) == {"first": 1, "second": 1}


@pytest.mark.parametrize(
    ("of_stage", "of_all", "why"),
    [
        (
            {"category": "db"},
            {"maxjobs": {"db": 2}},
            "maxjobs of category db counts lanes as nodes",
        ),
        ({}, {"max_jobs_submitted": 3}, "max_jobs_submitted counts lanes as nodes"),
    ],
)
def test_limits_on_nodes_hold_lanes_back_unless_asked_for(of_stage: Any, of_all: Any, why: str):
    runs = {"first": measured(60, slowest=1200, jobs=24), "second": measured(300)}
    stage = second(first(24, chunk_size=1), **of_stage)
    plan = chosen(flow(stage, **of_all), **runs)
    assert [(chain.lanes, chain.reason) for chain in plan.chains] == [(1, why)]
    assert chosen(flow(stage, **of_all, lanes=4), **runs)["second"].lanes == 4


def test_chunks_are_taken_over_only_for_lanes_that_are_made():
    # By its own measures the second node has other chunks.
    start = first(200)
    runs = {"first": measured(60), "second": measured(6)}
    alone = chosen(flow(second(start)), slots=4, **runs)
    assert alone["second"].chunks != alone["first"].chunks
    asked = chosen(flow(second(start), lanes=4), slots=4, **runs)
    assert asked["second"].boundaries == asked["first"].boundaries == alone["first"].boundaries
    assert cut(asked) == {"first": 4, "second": 4}


def test_disk_is_asked_for_by_the_chunks_that_are_taken():
    heavy = Measured(1.0, "elsewhere", 10, 100, 6.0, 1.0, 0.0, 1.0, 1000.0, 0.0)
    start = first(100, chunk_size=10)
    plan = chosen(flow(second(start), lanes=2), first=measured(60), second=heavy)
    assert plan["second"].options.request_disk == "13312MB"  # 10 items of 1,000 MB, and a margin


def test_where_filters_leave_nothing_a_chain_can_be_planned():
    stage = first(24, chunk_size=1).filter(some, name="some")
    none = Measured(1.0, "elsewhere", 10, 100, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
    plan = chosen(flow(second(stage)), first=measured(60), some=none, second=measured(300))
    assert cut(plan) == {"first.some": 1, "second": 1}


def test_explain_tells_the_cost_of_both_ways(monkeypatch: pytest.MonkeyPatch):
    from htdag.show.explain import explain

    plan = chosen(
        flow(second(first(24, chunk_size=1))),
        first=measured(60, slowest=1200, jobs=24),
        second=measured(300),
    )
    lines = explain(plan).splitlines()
    position = lines.index("Lanes")
    assert lines[position + 1].startswith("  first, second: ")
    assert "saves about" in lines[position + 1]
    assert lines[position + 2].startswith("    one after the other about ")
    assert any("24 jobs in" in line and "lanes" in line for line in lines)


def waits(x: int) -> int:
    time.sleep(0.5 if x == 3 else 0.01)
    return x


def test_a_run_is_measured_and_the_next_plan_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))
    monkeypatch.setattr("htdag.backends.slots", lambda on: (2, 0, 20.0))
    stage = htdag.source(range(8), chunk_size=1).map(waits, name="first")
    pipeline = flow(second(stage))
    pipeline.submit(on="local").wait(timeout=200, progress=False)
    known = history.read()["flow/first/map"][-1]
    assert known.slowest > 0.5 > 0.1 > known.seconds
    assert cut(pipeline.plan(on="local")) == {"first": 1, "second": 1}  # jobs of no length
    # As if all had taken a thousand times as long.
    content = json.loads(history.store_path().read_text())
    for (runs,) in content["stages"].values():
        runs["seconds"], runs["slowest"] = 1000 * runs["seconds"], 1000 * runs["slowest"]
    content["stages"]["flow/second/map"][-1]["seconds"] = 100.0
    history.store_path().write_text(json.dumps(content))
    (chain,) = pipeline.plan(on="local").chains
    assert chain.lanes > 1
    assert chain.plain > chain.laned > 500


@given(
    jobs=st.integers(1, 30),
    slots=st.integers(1, 10),
    seconds=st.tuples(st.floats(0.1, 100), st.floats(0.1, 100)),
    slow=st.floats(1, 10),
    one_in=st.integers(1, 10),
    cut_in=st.integers(1, 8),
)
def test_estimates_keep_between_their_bounds(jobs, slots, seconds, slow, one_in, cut_in):
    works = [
        Work(jobs, each, each * slow, one_in, after=after)
        for each, after in zip(seconds, (None, 0), strict=True)
    ]
    found = makespan(works, min(cut_in, jobs), Capacity(slots, turn=0.0))
    total = sum(work.time(chunk) for work in works for chunk in range(jobs))
    longest = sum(max(work.time(chunk) for chunk in range(jobs)) for work in works)
    extra = 2 * (min(cut_in, jobs) - 1) * NODE_SECONDS
    assert total / slots <= (found - extra) * 1.000001 + 1e-6
    assert found - extra <= total / slots + longest + 1e-6


# Names


def test_diagrams_tell_of_lanes():
    pipeline = flow(second(first()), lanes=4)
    for level in ("stages", "nodes"):
        assert pipeline.render(level=level).source.count("in 4 lanes") == 2


def test_names_of_units_parse_back():
    for unit in (lanes.Unit("a.b"), lanes.Unit("a.b", 1), lanes.Unit("a.combine-1", 12)):
        assert lanes.unit(unit.name) == unit
    assert lanes.unit("a.b.0") == lanes.Unit("a.b.0")


# How lanes are judged


class Once:
    """Fails on an item as long as a file is there, and notes its calls."""

    def __init__(self, folder: Path, *bad: int) -> None:
        self.folder = str(folder)
        for item in bad:
            (folder / f"bad-{item}").touch()

    def __call__(self, item: int) -> int:
        with open(f"{self.folder}/calls", "a") as calls:
            calls.write(f"{item}\n")
        if Path(f"{self.folder}/bad-{item}").exists():
            raise ValueError(item)
        return item

    def calls(self) -> Counter[int]:
        return Counter(map(int, Path(self.folder, "calls").read_text().split()))


@pytest.fixture
def once(tmp_path: Path) -> Any:
    def make(name: str, *bad: int) -> Once:
        (tmp_path / name).mkdir()
        return Once(tmp_path / name, *bad)

    return make


def test_a_lane_is_judged_by_its_own_chunks_and_prepares_its_own_child(tmp_path: Path, once: Any):
    function = once("calls", 5)
    stage = htdag.source(range(8), chunk_size=2).map(function, name="first", retries=1)
    run = reference.compiled(flow(second(stage, retries=1), lanes=2), tmp_path / "run")
    for chunk, attempt in reference.listed(run, "first.2"):
        reference.work(run, "first", chunk, attempt)
    assert post.post(str(run), "first.2", 0, 1) == 1
    assert reference.listed(run, "first.2") == [(2, 2)]
    assert reference.listed(run, "first.1") == [(0, 1), (1, 1)]
    for chunk, attempt in reference.listed(run, "first.1"):
        reference.work(run, "first", chunk, attempt)
    assert post.post(str(run), "first.1", 0, 1) == 0
    (Path(function.folder) / "bad-5").unlink()
    reference.work(run, "first", 2, 2)
    before = Path(NodeFiles(run, "second").chunk_list(1)).read_bytes()
    assert post.post(str(run), "first.2", 1, 1) == 0
    assert Path(NodeFiles(run, "second").chunk_list(1)).read_bytes() == before
    # Both attempts are read in the lane where there were two.
    description = json.loads(Path(NodeFiles(run, "second").attempt(2, 1).description).read_text())
    files = [NodeFiles("", "first").attempt(2, attempt).output("first") for attempt in (1, 2)]
    assert [part["files"] for part in description["streams"][0]["parts"]] == [files]
    log = (Path(NodeFiles(run, "first").logs) / "post.log").read_text()
    assert "lane 2, try 1 of 2: 1 of 2 chunks complete" in log
    assert reference.run_nodes(run) == []
    assert reference.result(run, "second") == list(range(8))


def test_a_job_of_another_lane_that_runs_is_left_alone(tmp_path: Path):
    stage = htdag.source(range(8), chunk_size=2).map(work, name="first")
    run = reference.compiled(flow(second(stage), lanes=2), tmp_path / "run")
    for lane in ("first.1", "first.2"):
        for chunk, attempt in reference.listed(run, lane):
            reference.work(run, "first", chunk, attempt)
    record = Path(NodeFiles(run, "first").attempt(3, 1).record)
    at_work = record.read_bytes().splitlines(keepends=True)[0]
    record.write_bytes(at_work)
    assert post.post(str(run), "first.1", 0, 0) == 0
    assert record.read_bytes() == at_work


def test_what_is_left_of_a_run_is_told_by_lane(tmp_path: Path, once: Any):
    function = once("calls", 5)
    stage = htdag.source(range(8), chunk_size=2).map(function, name="first")
    total = second(stage).reduce(add, name="total")
    run = reference.compiled(flow(total, lanes=2), tmp_path / "run")
    assert reference.run_nodes(run) == ["first.2"]
    (Path(function.folder) / "bad-5").unlink()
    plan = planfile.read(str(run))
    done = prepare.prepare_ready(str(run), plan)
    assert done == ["first.1", "second.1"]
    assert reference.listed(run, "first.2") == [(2, 2)]
    assert reference.run_nodes(run, done=done) == []
    assert reference.result(run, "total") == sum(range(8))
    assert function.calls() == {item: 2 if item == 5 else 1 for item in range(8)}


def fails_first(folder: Path, x: int) -> int:
    (folder / f"began-{x}").touch()
    if x == 0:
        raise ValueError("stop here")
    time.sleep(0.2)
    return x


def test_an_error_in_one_lane_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path / "home"))
    stage = htdag.source(range(60), chunk_size=1).map(
        functools.partial(fails_first, tmp_path), name="first", on_error="stop"
    )
    run = flow(second(stage), lanes=3).submit(on="local")
    with pytest.raises(htdag.RunFailed, match="stop here"):
        run.wait(timeout=200, progress=False)
    assert run.status()["second"].done == 0
    assert len(list(tmp_path.glob("began-*"))) < 60


def flaky(folder: str, x: int) -> int:
    mark = Path(folder, str(x))
    if x % 4 == 1 and mark.parent.exists() and not mark.exists():
        mark.touch()
        raise ValueError(x)
    return x + 1


STEPS = {
    "add": lambda stage, **o: stage.map(lambda x: x + 1, **o),
    "odd": lambda stage, **o: stage.filter(lambda x: x % 2 == 1, **o),
    "twice": lambda stage, **o: stage.flat_map(lambda x: (x, x + 1), **o),
    "none": lambda stage, **o: stage.filter(lambda x: False, **o),
    "bound": lambda stage, **o: stage.map(
        lambda x, t: x + t, bind={"t": htdag.source([1, 2]).reduce(add)}, **o
    ),
}


@given(data=st.data())
@settings(
    max_examples=int(os.environ.get("HTDAG_EXAMPLES", "25")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_lanes_give_what_plain_python_gives(in_process: None, tmp_path: Path, data: Any):
    folder, run = tmp_path / "failed", tmp_path / "run"
    for path in (folder, run):
        shutil.rmtree(path, ignore_errors=True)
    folder.mkdir()
    items = data.draw(st.integers(2, 20))
    size = data.draw(st.none() | st.integers(1, 6))
    stage = htdag.source(range(items), chunk_size=size).map(work, name="start")
    made = [stage]
    for number in range(data.draw(st.integers(1, 4))):
        given = {"fuse": data.draw(st.booleans()), "name": f"n{number}"}
        if data.draw(st.booleans()):
            stage = made[-1].map(functools.partial(flaky, str(folder)), retries=3, **given)
        else:
            upstream = data.draw(st.sampled_from([made[-1], *made]))
            stage = STEPS[data.draw(st.sampled_from(sorted(STEPS)))](upstream, **given)
        made.append(stage)
    targets = [made[-1], made[-1].reduce(add, initial=0, name="total")]
    pipeline = flow(*targets, lanes=data.draw(st.integers(2, 5)))
    reference.compiled(pipeline, run)

    def choose(ready: list[str]) -> str:
        return data.draw(st.sampled_from(ready))

    assert reference.run_nodes(run, choose) == []
    shutil.rmtree(folder)
    expected = reference.evaluate(pipeline.graph)
    for target in pipeline.targets:
        assert reference.result(run, target) == expected[target]


@pytest.fixture(scope="module")
def in_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, reference.without_fork(patch):
        patch.setattr("htdag.stages.stage.check_function", lambda *_: None)
        patch.setattr("htdag.plan.chunk.MOST_JOBS", 6)
        yield


# Whole runs


@pytest.fixture(
    params=[
        "local",
        pytest.param("blind", marks=pytest.mark.pool),
    ]
)
def on(request: pytest.FixtureRequest, runs_dir: Path) -> Iterator[str]:
    """This machine, and the execute point that sees no files."""
    if request.param == "local":
        yield "local"
    else:
        pool = request.getfixturevalue("pool")
        with pool.use(), pool.only(request.param):
            yield "condor"


def called(folder: Path, name: str, x: int) -> None:
    with open(folder / "calls", "a") as file:
        file.write(f"{name}{x}\n")


def early(folder: Path, x: int) -> int:
    called(folder, "early", x)
    if x == 5 and not (folder / "mended").exists():
        raise ValueError("not yet")
    if x == 11:
        end = time.monotonic() + 200
        while not (folder / "late began").exists() and time.monotonic() < end:
            time.sleep(0.05)
    return x


def late(folder: Path, x: int) -> int:
    called(folder, "late", x)
    (folder / "late began").touch()
    if x == 1:
        with contextlib.suppress(FileExistsError):
            (folder / "failed once").touch(exist_ok=False)
            raise ValueError("once")
    return x * x


def times(run: htdag.Run, node: str, which: str) -> list[float]:
    found = []
    for path in Path(NodeFiles(run.path, node).outcomes).glob("*.record"):
        found += [line[which]["time"] for line in recordfile.lines(str(path)) if which in line]
    return found


def test_a_chunk_goes_on_while_others_are_at_work(on: str, shared: Path):
    """With a failure that is retried in one lane, and one that is resumed in another."""
    numbers = htdag.source(range(12), chunk_size=2)
    made = numbers.map(functools.partial(early, shared), name="early")
    squares = made.map(functools.partial(late, shared), name="late", retries=1)
    total = squares.reduce(operator.add, name="total")
    run = htdag.Pipeline(total, squares, name="lanes", lanes=3).submit(on=on)
    running = set()
    while not run.state.ended:
        running |= {stage.name for stage in run.status().stages if stage.running}
        time.sleep(0.1)
    assert "early" in running
    with pytest.raises(htdag.RunFailed, match="not yet"):
        run.wait(timeout=200, progress=False)
    # The job of the last item of the first node ended after jobs of the second had begun.
    assert min(times(run, "late", "start")) < max(times(run, "early", "end"))
    status = run.status()
    assert (status["early"].done, status["early"].failed, status["early"].jobs) == (11, 1, 6)
    assert status["late"].done == 8
    assert [error.key for error in run.errors()] == ["5"]
    if on == "condor":
        rescue = (run.path / "lanes.dag.rescue001").read_text()
        assert "DONE late.1\n" in rescue
    (shared / "mended").touch()
    run.resume().wait(timeout=200, progress=False)
    assert run.result("total") == sum(x * x for x in range(12))
    assert run.result("late") == [x * x for x in range(12)]
    assert [item.key for item in run.items("late")] == [str(x) for x in range(12)]
    calls = Counter((shared / "calls").read_text().split())
    expected = dict.fromkeys([f"{name}{x}" for name in ("early", "late") for x in range(12)], 1)
    assert calls == expected | {"early5": 2, "late1": 2}
