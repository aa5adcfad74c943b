"""Checkpoint: what an evicted job had done, and what functions have put aside."""

from __future__ import annotations

import functools
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import reference

import htdag
from htdag.compile.node_content import calls_checkpoint
from htdag.runtime import layout, planfile
from htdag.runtime.dag import inputs, prepare
from htdag.runtime.data import itemfile, recordfile
from htdag.runtime.layout import NodeFiles

if TYPE_CHECKING:
    from pool import Pool


def slow(seconds: float) -> dict[str, Any]:
    """Say where an item was computed, and when."""
    sys.stdout.write(f"item {htdag.current().key}\n")
    time.sleep(seconds)
    return {"scratch": str(htdag.current().scratch), "time": time.time()}


def count(last: int) -> list[str]:
    """Count in steps that are put aside; return where each step was made."""
    state, folder = Path("state.json"), Path("steps")
    done = json.loads(state.read_text()) if state.exists() else []
    if len(done) != len(list(folder.glob("*/*"))):  # not by assert, for which pytest has its own
        raise ValueError("a part of a checkpoint")
    for number in range(len(done), last):
        done.append(str(htdag.current().scratch))
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "done").write_text("x")
        state.write_text(json.dumps(done))
        htdag.checkpoint(state, folder)
        sys.stdout.write(f"step {number}\n")
        time.sleep(0.5)
    return done


def job_events(run: htdag.Run, kind: str) -> int:
    log = run.path / f"{run.pipeline_name}.dag.nodes.log"
    text = log.read_text() if log.exists() else ""
    return sum(line.startswith(kind) for line in text.splitlines())


def vacate(pool: Pool, run: htdag.Run, *options: str) -> None:
    """Evict the run's jobs, and wait until they run again."""
    started, evicted = job_events(run, "001"), job_events(run, "004")
    found = pool.schedd.query("JobUniverse == 5 && JobStatus == 2", ["ClusterId"])
    clusters = [str(ad["ClusterId"]) for ad in found]
    assert len(clusters) == 2, [str(error) for error in run.errors()]
    subprocess.run(["condor_vacate_job", *options, *clusters], check=True)
    pool.wait_until(lambda: job_events(run, "004") == evicted + 2, 200, "the evictions")
    pool.wait_until(lambda: job_events(run, "001") == started + 2, 200, "the jobs' next start")


# One job, without HTCondor


class Started:
    """The jobs of a run directory, started as on a point to which files were transferred.

    Or, if `shared`, as on one that sees the run directory itself.
    """

    def __init__(self, stage: htdag.Stage, run: Path, *, shared: bool = False) -> None:
        self.run = reference.compiled(htdag.Pipeline(stage, history=False), run)
        if not shared:
            (self.run / layout.RUN).unlink()
        self.scratch = run.with_name("scratch")
        self.scratch.mkdir()

    def start(self, node: str, chunk: str = "0000") -> subprocess.Popen[bytes]:
        log = Path(NodeFiles(self.run, node).attempt(int(chunk), 1).stdout)
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-E", layout.RUNTIME, "work", node, chunk, "1"],
                cwd=self.run,
                env=os.environ | {"_CONDOR_SCRATCH_DIR": str(self.scratch)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def finish(self, node: str, chunk: str = "0000") -> int:
        """Start a job until it is done; return how often it paused."""
        pauses = 0
        while True:
            status = self.start(node, chunk).wait(timeout=200)
            if status != 85:
                log = NodeFiles(self.run, node).attempt(int(chunk), 1).stdout
                assert status == 0, Path(log).read_text()
                return pauses
            pauses += 1

    def lines(self, node: str, kind: str) -> list[Any]:
        found = recordfile.lines(NodeFiles(self.run, node).attempt(0, 1).record)
        return [line[kind] for line in found if kind in line]


@pytest.fixture(autouse=True)
def _pause_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals below a second, which no user needs."""
    import htdag.options.stage_options

    checks = htdag.options.stage_options._CHECKS
    monkeypatch.setitem(checks, "checkpoint_interval", lambda value: value)


def napping(x: float) -> float:
    sys.stdout.write(f"nap {x}\n")
    time.sleep(0.05)
    return x


def test_a_job_pauses_and_goes_on(tmp_path: Path):
    stage = htdag.source(range(10)).map(napping, chunk_size=10, checkpoint_interval=0.12)
    jobs = Started(stage, tmp_path / "run")
    assert jobs.finish("napping") >= 1
    assert reference.result(jobs.run, "napping") == list(range(10))
    (end,) = jobs.lines("napping", "end")
    assert (end["items"], end["done"], end["failed"], end["remaining"]) == (10, 10, 0, 0)
    assert end["seconds"] >= 0.5  # of all starts together
    text = Path(NodeFiles(jobs.run, "napping").attempt(0, 1).stdout).read_bytes()
    for entry in jobs.lines("napping", "streams"):
        start, stop = entry["out"]
        assert text[start:stop].decode() == f"nap {entry['sequence']}\n"
    assert len(jobs.lines("napping", "streams")) == 10


def fail_at_three(x: int) -> int:
    time.sleep(0.05)
    if x == 3:
        raise ValueError(x)
    return x


def test_items_that_failed_before_a_pause_are_not_tried_again(tmp_path: Path):
    stage = htdag.source(range(8)).map(fail_at_three, chunk_size=8, checkpoint_interval=0.08)
    jobs = Started(stage, tmp_path / "run")
    assert jobs.finish("fail_at_three") >= 1
    (error,) = jobs.lines("fail_at_three", "error")
    assert error["sequence"] == 3
    (end,) = jobs.lines("fail_at_three", "end")
    assert (end["done"], end["failed"], end["remaining"]) == (7, 1, 1)


@pytest.mark.parametrize(
    ("build", "result"),
    [
        (lambda s: s.reduce(lambda a, b: a + b, name="out"), 45),
        (lambda s: s.fold(lambda a, x: a + x, lambda a, b: a + b, initial=0, name="out"), 45),
        (
            lambda s: s.reduce_by_key(
                lambda a, b: a + b, key=lambda x: x % 2, partitions=2, name="out"
            ),
            {0: 20, 1: 25},
        ),
        (lambda s: s.sort_by(lambda x: -x, name="out"), list(range(9, -1, -1))),
        (lambda s: s.flat_map(lambda x: [x] * (x % 3), name="out"), None),
    ],
)
def test_what_is_combined_outlives_a_pause(tmp_path: Path, build: Any, result: Any):
    often = {"checkpoint_interval": 0.12}
    items = htdag.source(range(10)).map(napping, chunk_size=10, **often)
    # With the same options, so that it begins in the node that pauses.
    jobs = Started(build(items).with_options(**often), tmp_path / "run")
    (first,) = (path.name for path in (jobs.run / "nodes").iterdir() if "napping" in path.name)
    assert jobs.finish(first) >= 1
    (jobs.run / layout.RUN).write_text("{}")
    assert reference.run_nodes(jobs.run) == []
    found = reference.result(jobs.run, "out")
    if isinstance(result, dict):
        found = dict(found)
    assert found == (result if result is not None else [x for x in range(10) for _ in range(x % 3)])


def test_a_job_that_was_killed_goes_on_where_it_was(tmp_path: Path):
    go = tmp_path / "go"

    def naps(x: int) -> float:
        while x > 2 and not go.exists():
            time.sleep(0.05)
        return time.time()

    stage = htdag.source(range(6)).map(naps, chunk_size=6)
    jobs = Started(stage, tmp_path / "run")
    job = jobs.start("naps")
    items = Path(NodeFiles(jobs.run, "naps").attempt(0, 1).output("naps"))
    deadline = time.monotonic() + 200
    while (not items.exists() or items.stat().st_size < 60) and time.monotonic() < deadline:
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=200) == 143
    begun = time.time()
    go.touch()
    assert jobs.finish("naps") == 0
    values = reference.result(jobs.run, "naps")
    assert len(values) == 6
    assert values[0] < begun < values[-1]
    assert len(jobs.lines("naps", "start")) == 2


def timed(x: int) -> float:
    return time.time()


def test_a_job_that_is_done_is_done_anew_when_it_is_started_again(tmp_path: Path):
    stage = htdag.source([1]).map(timed)
    jobs = Started(stage, tmp_path / "run")
    assert jobs.finish("timed") == 0
    (first,) = reference.result(jobs.run, "timed")
    assert jobs.finish("timed") == 0
    (second,) = reference.result(jobs.run, "timed")
    assert second > first


# htdag.checkpoint


def test_outside_of_a_run_it_does_nothing(tmp_path: Path):
    htdag.checkpoint("no such file")


def counting(last: int) -> tuple[int, list[int]]:
    """Count in steps, which are put aside; the job pauses after the first."""
    path = Path("deep/steps.json")
    steps = json.loads(path.read_text()) if path.exists() else []
    began_at = len(steps)
    for number in range(began_at, last):
        steps.append(number)
        if number == 0:
            Path("deep/empty").mkdir(parents=True)
            Path("once").write_text("kept")
            Path("link").symlink_to("once")
        path.write_text(json.dumps(steps))
        sys.stdout.write(f"step {number}\n")
        htdag.checkpoint(*(("once", Path("link").absolute()) if number == 0 else ()), path.parent)
    if not Path("deep/empty").is_dir() or Path("link").read_text() != "kept":
        raise ValueError("a part of the checkpoint is missing")
    return began_at, steps


def test_a_function_goes_on_from_its_checkpoint(tmp_path: Path):
    stage = htdag.source([3, 2]).map(counting, chunk_size=2, checkpoint_interval=0.001)
    jobs = Started(stage, tmp_path / "run")
    assert jobs.finish("counting") >= 1
    (began_at, steps), (_, other) = reference.result(jobs.run, "counting")
    assert began_at > 0
    assert (steps, other) == ([0, 1, 2], [0, 1])
    assert list(Path(NodeFiles(jobs.run, "counting").attempt(0, 1).checkpoints).iterdir()) == []
    assert list(jobs.scratch.iterdir()) == []
    text = Path(NodeFiles(jobs.run, "counting").attempt(0, 1).stdout).read_bytes()
    spans = {entry["sequence"]: entry["out"] for entry in jobs.lines("counting", "streams")}
    assert text[slice(*spans[0])].decode() == "step 0\nstep 1\nstep 2\n"
    assert text[slice(*spans[1])].decode() == "step 0\nstep 1\n"


def counting_slowly(go: Path, last: int) -> list[int]:
    """Count in steps that are put aside; return the processes that made them."""
    state = Path("state.json")
    made = json.loads(state.read_text()) if state.exists() else []
    while len(made) < last:
        made.append(os.getpid())
        state.write_text(json.dumps(made))
        htdag.checkpoint(state)
        while not go.exists():
            time.sleep(0.05)
    return made


@pytest.mark.parametrize("outputs", ["empty", "missing"])
def test_a_checkpoint_of_the_first_item_outlives_an_eviction(tmp_path: Path, outputs: str):
    """Where the file system is shared: nothing was finished yet, so the item files are empty."""
    go = tmp_path / "go"
    stage = htdag.source([8]).map(functools.partial(counting_slowly, go), name="slowly")
    jobs = Started(stage, tmp_path / "run", shared=True)
    job = jobs.start("slowly")
    folder = Path(NodeFiles(jobs.run, "slowly").attempt(0, 1).checkpoints)
    deadline = time.monotonic() + 200
    while not list(folder.glob("*.tar")) and time.monotonic() < deadline:
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=200) == 143
    items = Path(NodeFiles(jobs.run, "slowly").attempt(0, 1).output("slowly"))
    assert items.stat().st_size == 0
    if outputs == "missing":
        items.unlink()
    go.touch()
    assert jobs.finish("slowly") == 0
    (made,) = reference.result(jobs.run, "slowly")
    assert (len(made), len(set(made))) == (8, 2)


def half_done(x: int) -> list[str]:
    state = Path("state")
    before = state.read_text().split() if state.exists() else []
    state.write_text(" ".join([*before, str(htdag.current().attempt)]))
    htdag.checkpoint("state")
    if x == 1 and not before:
        raise RuntimeError("half done")
    return [*before, str(htdag.current().attempt)]


def test_an_attempt_begins_with_what_the_one_before_put_aside(tmp_path, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))
    stage = htdag.source([0, 1, 2]).map(half_done, chunk_size=3, retries=1)
    run = htdag.Pipeline(stage, history=False).submit(on="local").wait(timeout=200)
    assert run.result() == [["1"], ["1", "2"], ["1"]]


@pytest.mark.pool
def test_an_attempt_gets_the_checkpoint_of_the_one_before_it(pool: Pool, runs_dir: Path):
    stage = htdag.source([0, 1, 2]).map(half_done, chunk_size=3, retries=1)
    with pool.only("blind"):
        run = htdag.Pipeline(stage, name="halves").submit(on="condor").wait(timeout=200)
    assert run.result() == [["1"], ["1", "2"], ["1"]]


def test_a_checkpoint_outlives_an_attempt_that_did_not_begin(tmp_path):
    run = reference.compiled(
        htdag.Pipeline(htdag.source([1]).map(half_done, retries=2), history=False),
        tmp_path / "run",
    )
    assert reference.work(run, "half_done") == 0
    plan = planfile.read(str(run))
    node = plan["by_name"]["half_done"]
    for attempt in (2, 3):  # the second job never came to be
        reading = inputs.Reading(str(run), plan, node, None)
        prepare.write_list(str(run), node, [(0, attempt, None)], reading)
        assert (
            NodeFiles("", "half_done").attempt(0, 1).checkpoints
            in Path(NodeFiles(run, "half_done").chunk_list()).read_text()
        )
    assert reference.work(run, "half_done", attempt=3) == 0
    path = Path(NodeFiles(run, "half_done").attempt(0, 3).output("half_done"))
    (frame,) = itemfile.read(str(path))
    assert pickle.loads(frame.payload) == ["1", "3"]


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_checkpoint_is_not_used(tmp_path, damage):
    run = reference.compiled(
        htdag.Pipeline(htdag.source([1]).map(half_done, retries=2), history=False),
        tmp_path / "run",
    )
    assert reference.work(run, "half_done") == 0
    (archive,) = Path(NodeFiles(run, "half_done").attempt(0, 1).checkpoints).iterdir()
    assert archive.stat().st_mode & 0o777 == 0o600
    content = bytearray(archive.read_bytes())
    content[520] ^= 1
    archive.write_bytes(content if damage == "flip" else content[:600])
    plan = planfile.read(str(run))
    node = plan["by_name"]["half_done"]
    reading = inputs.Reading(str(run), plan, node, None)
    prepare.write_list(str(run), node, [(0, 2, None)], reading)
    assert reference.work(run, "half_done", attempt=2) == 0
    assert "does not match" in Path(NodeFiles(run, "half_done").attempt(0, 2).stderr).read_text()
    lines = recordfile.lines(NodeFiles(run, "half_done").attempt(0, 2).record)
    assert [line["error"]["message"] for line in lines if "error" in line] == ["half done"]


def twice(x: int) -> list[int]:
    return [x, x + 1]


def own_state(x: int) -> bool:
    """Tell whether the call found what another one left."""
    found = Path("state").exists()
    Path("state").write_text("x")
    htdag.checkpoint("state")
    return found


def generating(x: int):
    for number in range(2):
        Path("state").write_text(str(number))
        htdag.checkpoint("state")
        yield own_state(number) or True


def test_each_call_has_a_working_directory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))
    stage = htdag.source([0, 1]).flat_map(twice).map(own_state, chunk_size=2)
    assert htdag.Pipeline(stage, history=False).run(on="local") == [False] * 4
    stage = htdag.source([0, 1]).flat_map(generating, chunk_size=2)
    assert htdag.Pipeline(stage, history=False).run(on="local") == [True] * 4


def with_input(x: int) -> str:
    Path("out.txt").write_text(Path("table.txt").read_text() + str(x))
    htdag.checkpoint("out.txt")
    return htdag.OutputFile("out.txt")


def test_input_files_and_output_files_go_with_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path / "home"))
    (tmp_path / "table.txt").write_text("table ")
    stage = htdag.source([1, 2]).map(
        with_input, input_files=str(tmp_path / "table.txt"), chunk_size=2
    )
    files = htdag.Pipeline(stage, history=False).run(on="local")
    assert [file.read_text() for file in files] == ["table 1", "table 2"]


def wrong(which: str) -> str:
    Path("good").write_text("good")
    htdag.checkpoint("good")
    try:
        htdag.checkpoint("good", {"missing": "bad", "outside": "/etc/hostname"}[which])
    except (FileNotFoundError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def test_mistakes_say_what_to_do_and_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))
    stage = htdag.source(["missing", "outside"]).map(wrong)
    missing, outside = htdag.Pipeline(stage, history=False).run(on="local")
    assert missing == "FileNotFoundError: htdag.checkpoint: there is no file 'bad'"
    assert outside.startswith("ValueError: htdag.checkpoint: '/etc/hostname' is not in the working")


def test_a_job_without_a_folder_for_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))

    def hidden(a, b):
        htdag.checkpoint("x")
        return a

    stage = htdag.source([1, 2]).reduce(hidden, associative=False)
    with pytest.raises(htdag.RunFailed, match="not ready for checkpoints"):
        htdag.Pipeline(stage, history=False).run(on="local")


# On a pool


@pytest.mark.pool
@pytest.mark.parametrize("point", ["blind", "seeing"])
def test_evicted_jobs_keep_what_is_done_and_put_aside(
    pool: Pool, runs_dir: Path, tmp_path: Path, point: str
):
    """Also when the second eviction comes before anything more was put aside."""
    tmp_path.chmod(0o777)  # the blind point shares it

    def begun(function: Any, item: Any) -> Any:
        with open(tmp_path / function.__name__, "a") as file:
            file.write("x")
        return function(item)

    def begins(function: Any) -> int:
        file = tmp_path / function.__name__
        return file.stat().st_size if file.exists() else 0

    done = htdag.source([1.5] * 6).map(
        functools.partial(begun, slow), name="slow", chunk_size=6, checkpoint_interval=1
    )
    aside = htdag.source([12]).map(
        functools.partial(begun, count), name="count", checkpoint_interval=1
    )
    with pool.only(point):
        run = htdag.Pipeline(done, aside, name="evicted").submit(on="condor")
        pool.wait_until(lambda: job_events(run, "001") == 2, 200, "the jobs' start")
        pool.wait_until(lambda: begins(slow) > 2 and begins(count), 200, "the third item")
        time.sleep(1)
        vacate(pool, run)
        vacate(pool, run, "-fast")
        run.wait(timeout=200)
    values = run.result("slow")
    assert len({value["scratch"] for value in values}) > 1
    assert [value["time"] for value in values] == sorted(value["time"] for value in values)
    assert [run.stdout("slow", str(n)) for n in range(6)] == [f"item {n}\n" for n in range(6)]
    (steps,) = run.result("count")
    assert len(steps) == 12
    assert len(set(steps)) > 1
    if point == "blind":  # its pauses tell where the item at hand began to print
        assert run.stdout("count", "0").startswith("step 0\n")


def test_only_functions_that_may_checkpoint_get_folders_for_it():
    from htdag import checkpoint as put_aside

    def renamed(item):
        put_aside("state")
        return item

    def by_module(item):
        htdag.checkpoint("state")
        return item

    def never(item):
        return f"this text is of htdag, and has the word checkpoint in it {item}"

    def calls(function: Any) -> bool:
        plan = htdag.Pipeline(htdag.source([1]).map(function)).plan(on="local")
        return calls_checkpoint(plan.nodes[0])

    assert [calls(function) for function in (renamed, by_module, never)] == [True, True, False]
