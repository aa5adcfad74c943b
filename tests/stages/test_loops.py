"""Loops: what a step may be, what rounds give, and how a loop goes on after a failure."""

from __future__ import annotations

import json
import operator
import os
import re
import signal
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from reference import compiled, evaluate, result, run_nodes

import htdag
from htdag.errors import FunctionError, OptionError, UsageError
from htdag.runtime import layout, planfile
from htdag.runtime.dag import looping
from htdag.runtime.layout import NodeFiles, RunFiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from pool import Pool

LOCAL = "local"
BLIND = pytest.param("blind", marks=pytest.mark.pool)
SEEING = pytest.param("seeing", marks=pytest.mark.pool)


def at(*places: Any) -> Any:
    return pytest.mark.parametrize("place", places, indirect=True)


def nearest(x: int, centres: list[int]) -> tuple[int, int]:
    return min(range(len(centres)), key=lambda number: abs(x - centres[number])), x


def note(sums: dict, found: tuple[int, int]) -> dict:
    count, total = sums.get(found[0], (0, 0))
    sums[found[0]] = (count + 1, total + found[1])
    return sums


def merge(a: dict, b: dict) -> dict:
    for key, (count, total) in b.items():
        before = a.get(key, (0, 0))
        a[key] = (before[0] + count, before[1] + total)
    return a


def means(sums: dict) -> list[int]:
    return [total // count for count, total in (sums[key] for key in sorted(sums))]


def k_means(most: int = 20, number: Callable[[int], int] = int) -> htdag.Stage:
    """Three groups of points; which of them an item is near to depends on the state."""
    points = htdag.source([100 * c + n for n in range(20) for c in (0, 5, 9)], chunk_size=30)
    points = points.map(number, name="points", fuse=False)

    def step(centres: htdag.Stage) -> htdag.Stage:
        near = points.map(nearest, bind={"centres": centres})
        return near.fold(note, merge, initial={}, name="sums").map(means)

    return htdag.iterate(step, [100, 550, 700], until=operator.eq, max_rounds=most, name="k_means")


@at(LOCAL)
def test_k_means(place: dict[str, Any]):
    loop = k_means()
    flow = htdag.Pipeline(loop, loop.map(sum, name="total"), **place["options"])
    run = flow.submit(on=place["on"]).wait(timeout=200, progress=False)
    expected = evaluate(flow.graph)
    assert run.result("k_means") == expected["k_means"] == [9, 509, 909]
    assert run.result("total") == expected["total"]
    end = json.loads(Path(NodeFiles(run.path, "k_means").loop_end).read_text())
    assert end == {"rounds": NodeFiles(run.path, "k_means").last_round(), "until": True}
    assert run.status()["k_means"].note == f"{end['rounds']} rounds, until holds"


def multiplied(row: tuple[int, ...], vector: list[float]) -> float:
    return sum(a * b for a, b in zip(row, vector, strict=True))


def scaled(vector: list[float]) -> list[float]:
    most = max(map(abs, vector))
    return [x / most for x in vector]


def is_close(new: list[float], old: list[float]) -> bool:
    return max(abs(a - b) for a, b in zip(new, old, strict=True)) < 1e-3


def test_a_power_iteration(runs_dir: Path):
    """The eigenvector of a matrix."""
    rows = htdag.source([(2, 1), (1, 3)])

    def step(vector: htdag.Stage) -> htdag.Stage:
        products = rows.map(multiplied, bind={"vector": vector}, name="products")
        return products.reduce(as_list, initial=[], associative=False).map(scaled)

    loop = htdag.iterate(step, [1.0, 1.0], until=is_close, max_rounds=30, name="power")
    flow = htdag.Pipeline(loop, history=False)
    run = flow.submit(on="local").wait(timeout=200, progress=False)
    assert run.result() == evaluate(flow.graph)["power"]
    assert run.result() == pytest.approx([0.618, 1.0], abs=0.01)


@pytest.mark.pool
def test_condor_submit_dag_runs_a_loop_unaided(pool: Pool, runs_dir: Path):
    """From inside the directory; no POST script is spared then."""
    rows = htdag.source([(2, 1), (1, 3)])

    def step(vector: htdag.Stage) -> htdag.Stage:
        products = rows.map(multiplied, bind={"vector": vector}, name="products")
        return products.reduce(as_list, initial=[], associative=False, name="all")

    loop = htdag.iterate(step, [1.0, 1.0], until=is_close, max_rounds=2, name="power")
    blind = 'Machine =?= Machine && regexp("blind", Name)'
    flow = htdag.Pipeline(loop, history=False, requirements=blind)
    dag = flow.compile(runs_dir / "by hand")
    subprocess.run(["condor_submit_dag", dag.name], cwd=dag.parent, check=True, capture_output=True)
    log = dag.with_name(f"{dag.name}.dagman.out")
    pool.wait_until(lambda: log.exists() and "EXITING WITH STATUS" in log.read_text(), 200)
    assert "EXITING WITH STATUS 0" in log.read_text()
    assert result(dag.parent, "power") == evaluate(flow.graph)["power"]
    notes = (Path(NodeFiles(dag.parent, "power").logs) / "post.log").read_text()
    assert [line.split(" ", 2)[2] for line in notes.splitlines()] == [
        "round 1 is done; round 2 is next",
        "round 2 is done: that is max_rounds, and until does not hold",
    ]


def as_list(found: list[float], x: float) -> list[float]:
    return [*found, x]


# Going on


def fails_once(mark: Path, most: int, x: int, n: int) -> int:
    print(f"item {x} of round {n}")  # noqa: T201
    if (x, n) == (5, 2) and not mark.exists():
        raise ValueError(f"{x} in {n}")
    return min(x, most)


def counting(mark: Path) -> htdag.Pipeline:
    numbers = htdag.source(range(8), chunk_size=4)

    def step(n: htdag.Stage) -> htdag.Stage:
        worked = numbers.map(partial(fails_once, mark, 99), bind={"n": n}, name="work")
        return worked.count(name="how_many").zip(n, name="both").starmap(next_number)

    loop = htdag.iterate(step, 1, until=lambda n: n == 3, max_rounds=9, name="counting")
    return htdag.Pipeline(loop.map(str, name="text"), history=False)


def next_number(count: int, n: int) -> int:
    if count != 8:
        raise LookupError(f"{count} items")
    return n + 1


@at(LOCAL, BLIND)
def test_a_failure_in_a_round_and_then_resume(place: dict[str, Any], tmp_path_factory):
    mark = Path("/var/tmp") / f"htdag-loops-{os.getpid()}-{tmp_path_factory.getbasetemp().name}"
    run = counting(mark).submit(on=place["on"])
    with pytest.raises(htdag.RunFailed, match=r"work, round 2, item 5 .*ValueError: 5 in 2"):
        run.wait(timeout=200, progress=False)
    (error,) = run.errors()
    assert (error.stage, error.key, error.rounds) == ("work", "5", (2,))
    assert run.errors("counting") == run.errors("work") == [error]
    assert error.stdout == run.stdout("work", "5") == "item 5 of round 2\n"
    assert run.stdout("work", "5", round=1) == "item 5 of round 1\n"
    (group,) = run.error_groups()
    assert (group.node, group.futile_stages) == ("counting", ("text",))
    assert group.example is not None
    assert group.example.stdout == error.stdout
    if place["on"] == "local":
        assert run.debug("work", "5", pdb=False).error is not None
        assert run.debug("work", "5", pdb=False, round=1).error is None
    status = run.status()
    assert status["counting"].note == "round 2 of at most 9"
    assert (status["work"].done, status["work"].failed, status["work"].rounds) == (7, 1, (2,))
    assert "  counting: round 2 of at most 9\n    work: 7/8 done" in str(status)
    outcomes = {
        path: path.stat().st_mtime_ns
        for path in run.path.glob("nodes/counting/rounds/*/nodes/work/out/*")
    }
    mark.touch()
    try:
        run.resume().wait(timeout=200, progress=False)
    finally:
        mark.unlink()
    assert run.result() == ["3"]
    assert run.status()["counting"].note == "2 rounds, until holds"
    assert {path: path.stat().st_mtime_ns for path in outcomes} == outcomes
    assert len(list(run.path.glob("nodes/counting/rounds/0002/nodes/work/out/*.2.record"))) == 1
    assert run.errors() == []


# What a step may be


def plus(n: int) -> Callable[[htdag.Stage], htdag.Stage]:
    return lambda state: state.map(partial(operator.add, n))


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: htdag.iterate(3, 1, max_rounds=2), FunctionError, "needs a function from a stage"),
    (lambda: htdag.iterate(plus(1), 1, max_rounds=0), OptionError, "whole number from 1, not 0"),
    (lambda: htdag.iterate(plus(1), 1, max_rounds=2.5), OptionError, "from 1, not 2.5"),
    (lambda: htdag.iterate(plus(1), 1, 7, max_rounds=2), FunctionError, "until"),
    (lambda: htdag.iterate(plus(1), 1, lambda: 1, max_rounds=2), FunctionError, "until.state"),
    (lambda: htdag.iterate(plus(1), 1, max_rounds=2, rounds=1), OptionError, "no option 'rounds'"),
    (lambda: htdag.iterate(plus(1), 1, max_rounds=2, name="a b"), htdag.HtdagError, "a b"),
    (lambda: htdag.iterate(lambda x: 5, 1, max_rounds=2), UsageError, "return a stage.*5"),
    (lambda: htdag.iterate(lambda x: x, 1, max_rounds=2), UsageError, "that stage itself"),
    (
        lambda: htdag.iterate(lambda x: htdag.map(abs, [1]), 1, max_rounds=2),
        UsageError,
        "'abs' that it returned does not depend on it",
    ),
    (
        lambda: htdag.iterate(lambda x: x.flat_map(range), 1, max_rounds=2),
        UsageError,
        "the state is one value, but .* the items of 'range'",
    ),
    (
        lambda: htdag.iterate(lambda x: x.count(), htdag.source([1, 2]), max_rounds=2),
        UsageError,
        "the state is items, but .* one value, made by 'count'",
    ),
    (
        lambda: htdag.iterate(
            lambda x: htdag.files(__file__).map(open, bind={"mode": x}).count(), 1, max_rounds=2
        ),
        UsageError,
        "the items of 'files' are files",
    ),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_mistakes_are_told_where_they_are_made(number: int):
    make, error, text = WRONG[number]
    with pytest.raises(error, match=text):
        make()


def test_a_stage_of_a_step_cannot_be_used_outside():
    leaked = []

    def step(state: htdag.Stage) -> htdag.Stage:
        leaked.append(state.map(abs))
        return leaked[0].map(operator.neg)

    loop = htdag.iterate(step, 1, max_rounds=2)
    with pytest.raises(UsageError, match="used outside"):
        htdag.Pipeline(loop, leaked[0])


def test_a_category_in_a_step_has_a_limit_too():
    loop = htdag.iterate(
        lambda state: state.map(abs, category="db"), 1, max_rounds=2, category="whole"
    )
    with pytest.raises(OptionError, match="category='whole'"):
        htdag.Pipeline(loop, maxjobs={"db": 1})
    plan = htdag.Pipeline(loop, maxjobs={"db": 1, "whole": 2}).plan()
    (node,) = plan.nodes
    assert node.options.category == "whole"
    assert node.round.plan.nodes[0].options.category == "db"
    assert node.round.plan.throttles.maxjobs == (("db", 1),)


def test_what_does_not_depend_on_the_state_is_computed_once():
    # An outer stage that a step makes itself is as good as one from outside.
    loop = htdag.iterate(
        lambda state: htdag.source(range(5)).map(abs, name="squares").zip(state).count(),
        1,
        max_rounds=2,
        name="loop",
    )
    flow = htdag.Pipeline(loop)
    assert "squares" in flow.graph
    assert sorted(flow.graph.nodes["loop"]["inner"]) == ["count", "squares", "state", "zip"]


# Loops among others


def grown(items: htdag.Stage) -> htdag.Stage:
    """Twice as many items a round, of which some go."""
    twice = items.flat_map(lambda x: [x, x + 1], name="twice", chunk_size=3)
    return twice.distinct(partitions=2, name="each").filter(lambda x: x % 5, name="left")


@at(LOCAL, SEEING)
def test_states_of_many_items_loops_after_loops_and_loops_in_loops(place: dict[str, Any]):
    # On HTCondor a round takes seconds.
    enough, most, outer = (5, 8, 2) if place["on"] == "local" else (1, 1, 1)
    items = htdag.iterate(
        grown,
        htdag.source([1, 2, 7]),
        until=lambda found: len(found) > enough,
        max_rounds=8,
        name="grow",
    )

    def doubled_often(x: htdag.Stage) -> htdag.Stage:
        double = htdag.iterate(
            lambda state: state.map(lambda v: v * 2, name="double"),
            x,
            until=lambda v: v > 20,
            max_rounds=most,
            name="doubling",
        )
        return double.zip(x, name="pair").starmap(lambda a, b: a - b // 2, name="less")

    nested = htdag.iterate(
        doubled_often, items.count(name="how_many"), max_rounds=outer, name="outer"
    )
    sizes = items.map(abs, name="sizes", fuse=False)
    flow = htdag.Pipeline(
        items, nested.map(str), sizes, history=False, name="several", **place["options"]
    )
    expected = evaluate(flow.graph)
    run = flow.submit(on=place["on"]).wait(timeout=280, progress=False)
    for target in flow.targets:
        assert run.result(target) == expected[target], target
    status = run.status()
    assert status["outer"].note.startswith(f"{outer} round")
    assert status["double"].rounds[0] == outer
    assert [item.value for item in run.as_completed("grow")] == expected["grow"]
    keys = [item.key for item in run.items("grow")]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"\d+\.[01]", key) for key in keys), "keys do not grow"


@pytest.mark.pool
def test_a_killed_dagman_and_then_resume(pool: Pool, runs_dir: Path):
    """The DAGMan of the run and that of the round are killed while an item is under way."""
    gate = runs_dir / "gate"
    numbers = htdag.source(range(3), chunk_size=1)

    def waits(x: int, n: int) -> int:
        while (x, n) == (2, 3) and not gate.exists():
            time.sleep(0.1)
        return x

    def step(n: htdag.Stage) -> htdag.Stage:
        worked = numbers.map(waits, bind={"n": n}, name="work")
        return worked.reduce(operator.add).zip(n).starmap(operator.add, name="next")

    loop = htdag.iterate(step, 0, max_rounds=2, name="loop")
    seeing = 'Machine =?= Machine && regexp("seeing", Name)'
    run = htdag.Pipeline(loop, requirements=seeing, history=False).submit(on="condor")

    def stuck() -> bool:
        status = run.status()
        work = status["work"]
        # The item that waits is in none of the records yet: DAGMan's log of the round tells.
        second = status["loop"].note == "round 2 of at most 2"
        return second and (work.done, work.running) == (2, 1)

    pool.wait_until(stuck, 200, "the third item of the second round alone under way")
    rounds = Path(NodeFiles(run.path, "loop").rounds)
    done = [
        *rounds.glob("0001/nodes/*/out/*.items"),
        *rounds.glob("0002/nodes/work/out/000[01].*.items"),
    ]
    before = {path: path.stat().st_mtime_ns for path in done}
    outer, inner = run.path / "loop.dag.dagman.out", rounds / "0002/round.dag.dagman.out"

    def pids(log: Path) -> list[str]:
        return re.findall(r"PID = (\d+)", log.read_text())

    # The schedd starts it again, and it goes on with the jobs that it had.
    os.kill(int(pids(inner)[0]), signal.SIGKILL)
    pool.wait_until(lambda: len(pids(inner)) == 2, 200, "another DAGMan of the round")
    assert run.status()["work"].running == 1
    for log in (outer, inner):
        os.kill(int(pids(log)[-1]), signal.SIGKILL)
    run.remove()
    assert run.state is htdag.RunState.REMOVED
    assert (
        list(pool.schedd.query(f"DAGManJobId >= {run.directory.ticket()['ticket']['cluster']}"))
        == []
    )
    gate.touch()
    run.resume().wait(timeout=200, progress=False)
    assert run.result() == 6
    assert len(done) > 4
    assert {path: path.stat().st_mtime_ns for path in done} == before
    assert sorted(path.name for path in rounds.glob("0002/nodes/work/out/*.record")) == [
        "0000.1.record",
        "0001.1.record",
        "0002.1.record",
        "0002.2.record",
    ]


def test_the_most_rounds_are_told(runs_dir: Path):
    loop = htdag.iterate(plus(1), 1, until=lambda n: n > 5, max_rounds=3, name="few")
    run = htdag.Pipeline(loop).submit(on="local").wait()
    assert run.result() == 4
    assert run.status()["few"].note == "3 rounds, the most; until does not hold"
    always = htdag.iterate(plus(1), 1, max_rounds=3, name="always")
    run = htdag.Pipeline(always).submit(on="local").wait()
    assert (run.result(), run.status()["always"].note) == (4, "3 rounds")


def test_what_until_raises_is_an_error_of_the_round(runs_dir: Path):
    def broken(n: int) -> bool:
        raise KeyError("no such thing")

    loop = htdag.iterate(plus(1), 1, until=broken, max_rounds=3, name="loop")
    run = htdag.Pipeline(loop).submit(on="local")
    with pytest.raises(htdag.RunFailed, match=r"until, round 1, .*no such thing"):
        run.wait()
    items = htdag.iterate(
        lambda state: state.map(abs), htdag.source([1, 2]), until=broken, max_rounds=3, name="loop"
    )
    run = htdag.Pipeline(items).submit(on="local")
    with pytest.raises(htdag.RunFailed, match=r"until, round 1, .*no such thing"):
        run.wait()
    assert run.errors("until")[0].rounds == (1,)


def test_options_within_a_step(runs_dir: Path, tmp_path: Path):
    def flaky(x: int) -> int:
        mark = tmp_path / str(x)
        if x % 4 == 0 and not mark.exists():
            mark.touch()
            raise ValueError(x)
        if x % 7 == 6:
            raise LookupError(x)
        return x + 10

    def step(state: htdag.Stage) -> htdag.Stage:
        return state.map(flaky, retries=1, on_error="skip", max_errors=1)

    loop = htdag.iterate(step, htdag.source(range(7)), max_rounds=3, name="loop")
    run = htdag.Pipeline(loop.map(abs, name="after")).submit(on="local").wait()
    first = [x + 10 for x in range(6)]
    second = [x + 10 for x in first if x % 7 != 6]
    assert run.result() == [x + 10 for x in second if x % 7 != 6]
    assert {(error.rounds, error.type) for error in run.errors()} == {
        ((1,), "LookupError"),
        ((2,), "LookupError"),
        ((3,), "LookupError"),
    }
    stops = htdag.iterate(
        lambda state: state.map(lambda x: 1 // x, on_error="stop"), 0, max_rounds=3, name="stops"
    )
    slow = htdag.source(range(2)).map(abs).map(time.sleep, fuse=False)
    run = htdag.Pipeline(stops, slow.count()).submit(on="local")
    with pytest.raises(htdag.RunFailed, match=r"round 1, item 0 .*ZeroDivisionError"):
        run.wait()


def test_damage_to_a_round_is_found_and_mended(runs_dir: Path):
    run = htdag.Pipeline(k_means(), history=False).submit(on="local").wait()
    expected = run.result()
    last = NodeFiles(run.path, "k_means").last_round()
    folder = Path(NodeFiles(run.path, "k_means").round(last))
    (path,) = folder.glob("nodes/means/out/0000.1.means.items")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(htdag.HtdagError, match="resume"):
        run.result()
    run.resume().wait()
    assert run.result() == expected
    assert NodeFiles(run.path, "k_means").last_round() == last
    # The state that a round which is not done had begun with: that round is begun anew.
    for damaged in (folder, folder.with_name(f"{last - 1:04}")):
        for path in damaged.glob("nodes/means/out/0000.*.means.items"):
            path.write_bytes(path.read_bytes()[:-1])
    for record in run.path.glob("nodes/k_means/out/*.record"):
        record.unlink()
    run.resume().wait()
    assert run.result() == expected
    assert NodeFiles(run.path, "k_means").last_round() == last
    assert folder.with_name(f"{last:04}.dropped").is_dir()


def test_points_that_were_made_anew_reach_the_round_that_goes_on(runs_dir: Path, tmp_path: Path):
    flow = counting(tmp_path / "mark")
    run = flow.submit(on="local")
    with pytest.raises(htdag.RunFailed):
        run.wait()
    links = [*run.path.glob("nodes/counting/rounds/0002/sources/*/*.items")]
    assert links
    assert all(link.is_symlink() and not link.readlink().is_absolute() for link in links)
    (tmp_path / "mark").touch()
    moved = run.path.with_name("moved")
    run.path.rename(moved)
    content = json.loads((moved / layout.RUN).read_text())
    (moved / layout.RUN).write_text(json.dumps({**content, "tag": "moved"}))
    assert htdag.load("moved").resume().wait().result() == ["3"]


# What is written and shown


def test_the_dag_of_a_loop(tmp_path: Path):
    run = compiled(htdag.Pipeline(k_means(), node_priority=3, history=False), tmp_path / "run")
    dag = (run / "k_means.dag").read_text()
    for line in (
        "# k_means: at most 20 rounds of 3 nodes, 4 jobs",
        "SUBDAG EXTERNAL k_means round.dag DIR nodes/k_means/current",
        "RETRY k_means 20 UNLESS-EXIT 2",
        "SCRIPT POST k_means post.sh k_means $RETRY $MAX_RETRIES $RETURN",
        "PARENT points CHILD k_means",
    ):
        assert line in dag.splitlines()
    assert "JOB k_means" not in dag
    step = Path(NodeFiles(run, "k_means").step)
    assert "JOB nearest nodes/nearest/nearest.sub" in (step / layout.ROUND_DAG).read_text()
    assert not list(run.glob("nodes/k_means/rounds/*")), "the points have to be there first"
    assert Path(NodeFiles(run, "k_means").current).is_dir()
    # Nothing has to be done before this one.
    loop = htdag.iterate(plus(1), 1, max_rounds=2, name="loop")
    run = compiled(htdag.Pipeline(loop), tmp_path / "ready")
    first = Path(NodeFiles(run, "loop").round(1))
    assert Path(NodeFiles(run, "loop").current).resolve() == first.resolve()
    assert (first / layout.RUNTIME).samefile(run / layout.RUNTIME)
    (link,) = first.glob("sources/state/*.items")
    assert link.resolve() == Path(RunFiles(run).stored_items("loop_start", 0)).resolve()


def test_a_stop_in_a_step_is_one_of_the_loop(tmp_path: Path):
    loop = htdag.iterate(lambda x: x.map(abs, on_error="stop"), 1, max_rounds=2, name="loop")
    run = compiled(htdag.Pipeline(loop), tmp_path / "run")
    assert "ABORT-DAG-ON loop 3 RETURN 1" in (run / "loop.dag").read_text()


def test_a_script_that_is_started_again_makes_no_other_round(tmp_path: Path):
    """DAGMan does so where it was killed before it saw the script's end."""
    run = compiled(htdag.Pipeline(htdag.iterate(plus(1), 1, max_rounds=3)), tmp_path / "run")
    plan = planfile.read(str(run))
    (node,) = plan["nodes"]
    assert run_nodes(Path(NodeFiles(run, node["name"]).round(1))) == []
    again = [looping.judge(str(run), plan, node, 0) for _ in range(2)]
    assert [verdict.status for verdict in again] == [looping.AGAIN, looping.AGAIN]
    assert again[1].text == "round 2 is still to come"
    assert NodeFiles(run, node["name"]).last_round() == 2
    # But a round that could not be started has failed.
    assert looping.judge(str(run), plan, node, -1001).status == looping.FAILED


def test_a_loop_is_drawn_and_explained():
    loop = k_means()
    flow = htdag.Pipeline(loop.map(sum, name="total"), history=False)
    text = flow.explain()
    for part in (
        "loop, begins with k_means_start; uses points; at most 20 rounds, until eq",
        "state    the value that a round begins with",
        "  2.3         means    map over sums; the next state",
        "2. k_means: at most 20 rounds of 3 nodes, 4 jobs",
        "2.1. nearest: 2 jobs, 60 items",
        "the items, from outside, of points; the round's state, in every job",
        "writes   means (the next state)",
        "asks     whether the loop is over",
        "why      total begins a node: k_means is made by a loop",
    ):
        assert part in text
    source = flow.render().source
    assert "subgraph cluster_k_means" in source
    assert 'label="loop k_means\\lat most 20 rounds\\luntil eq\\l"' in source
    edges = re.findall(r'^\t"?([^"\n]+?)"? -> "?([^"\n]+?)"? \[(.*)\]$', source, re.MULTILINE)
    assert ("k_means/state", "means/means") in [edge[:2] for edge in edges if "dir=back" in edge[2]]
    assert ("means/means", "total/total") in [edge[:2] for edge in edges]
    assert ("points/points", "nearest/nearest") in [edge[:2] for edge in edges]
    assert "loop of at most 20 rounds" in flow.render(level="nodes").source


def test_rounds_are_measured(runs_dir: Path):
    flow = htdag.Pipeline(k_means(), name="flow")
    flow.submit(on="local").wait()
    (node, *_) = flow.plan(on="local")["k_means"].round.plan.nodes
    assert node.measured.startswith("in 1 run: ")
    assert node.options.request_memory is not None


def test_the_stages_of_a_step_may_be_in_lanes(runs_dir: Path):
    numbers = htdag.source(range(12), chunk_size=3)

    def step(n: htdag.Stage) -> htdag.Stage:
        first = numbers.map(lambda x, n: 2 * x + n, bind={"n": n}, name="first")
        return first.map(lambda x: x % 97, name="second", fuse=False).reduce(operator.add)

    loop = htdag.iterate(step, 1, max_rounds=2, name="loop")
    flow = htdag.Pipeline(loop, lanes=2, history=False)
    inner = flow.plan()["loop"].round.plan
    assert {node.lanes for node in inner.nodes if "second" in node.stages} == {2}
    run = flow.submit(on="local").wait()
    assert run.result() == evaluate(flow.graph)["loop"]
    dag = (Path(NodeFiles(run.path, "loop").step) / layout.ROUND_DAG).read_text()
    assert "JOB second.1 " in dag
    assert "JOB second.2 " in dag


def returning(x: int) -> Any:
    Path("there.txt").write_text(str(x))
    return htdag.OutputFile("there.txt")


def doubled_from_table(x: int) -> int:
    return x * int(Path("table.txt").read_text())


@at("local", BLIND)
def test_input_files_go_to_each_round(place: dict[str, Any], tmp_path: Path):
    (tmp_path / "table.txt").write_text("2")

    def step(state: htdag.Stage) -> htdag.Stage:
        return state.map(doubled_from_table, input_files=tmp_path / "table.txt")

    loop = htdag.iterate(step, htdag.source([1, 5]), max_rounds=3, name="loop")
    flow = htdag.Pipeline(loop, **place["options"])
    assert sorted(flow.run(on=place["on"])) == [8, 40]


def test_files_that_travel_do_not_go_into_loops(tmp_path: Path):
    begun = htdag.source([htdag.TransferPath(__file__)])
    loop = htdag.iterate(lambda state: state.map(str), begun, max_rounds=2, name="loop")
    with pytest.raises(UsageError, match="loop 'loop': files may travel with items that it begins"):
        compiled(htdag.Pipeline(loop), tmp_path / "run")
    given = htdag.source([1]).map(returning)
    loop = htdag.iterate(lambda state: state.map(str), given, max_rounds=2, name="loop")
    with pytest.raises(UsageError, match="loop 'loop': files may travel with items that it begins"):
        compiled(htdag.Pipeline(loop), tmp_path / "run")
    loop = htdag.iterate(lambda state: state.map(returning), 1, max_rounds=2, name="loop")
    with pytest.raises(
        UsageError,
        match="of 'returning' mention OutputFile, but rounds of a loop cannot return files",
    ):
        compiled(htdag.Pipeline(loop), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_requests_in_a_loop_do_not_depend_on_items():
    def step(state: htdag.Stage) -> htdag.Stage:
        return state.map(abs, request_memory=lambda item: item)

    with pytest.raises(OptionError, match=r"stage 'abs': request_memory is .* in the loop 'loop'"):
        htdag.Pipeline(htdag.iterate(step, 1, max_rounds=2, name="loop"))


def in_steps(x: int) -> int:
    """Die once in each round, after a step was put aside."""
    state = Path("state")
    if state.exists():
        return x + len(state.read_text())
    state.write_text("ab")
    htdag.checkpoint(state)
    raise ValueError("once more")


@at("local", BLIND)
def test_checkpoints_outlive_attempts_in_rounds(place: dict[str, Any]):
    def step(state: htdag.Stage) -> htdag.Stage:
        return state.map(in_steps, retries=1)

    loop = htdag.iterate(step, htdag.source([1, 5]), max_rounds=2, name="loop")
    flow = htdag.Pipeline(loop, **place["options"])
    assert sorted(flow.run(on=place["on"])) == [5, 9]
