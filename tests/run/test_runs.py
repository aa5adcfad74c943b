"""Whole runs, on this machine and on a real pool: what a user sees must be the same."""

from __future__ import annotations

import contextlib
import functools
import json
import operator
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import htdag
from htdag import cli
from htdag.errors import (
    BackendError,
    DirectoryError,
    NotDone,
    OptionError,
    RunActive,
    StageNameError,
    UsageError,
)
from htdag.runtime import layout
from htdag.runtime.data import itemfile
from htdag.runtime.layout import NodeFiles

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def home(runs_dir: Path) -> Path:
    return runs_dir


def called(folder: Path, item: Any) -> None:
    """Record a call; appending a short line is atomic."""
    with open(folder / "calls", "a") as file:
        file.write(f"{item}\n")


def calls(folder: Path) -> Counter[str]:
    try:
        return Counter((folder / "calls").read_text().split())
    except FileNotFoundError:
        return Counter()


def square(x: int) -> int:
    return x * x


def is_even(x: int) -> bool:
    return x % 2 == 0


def finished(run: htdag.Run, timeout: float = 200) -> htdag.Run:
    """Wait for a run; its errors say more than a time-out does."""
    return run.wait(timeout=timeout, progress=False)


HOSTILE_TAG = """täg with 'quotes', "quotes", $HOME; %s & `x` #1 {y}"""


def test_map_filter_reduce(on: str):
    numbers = htdag.source(range(200), chunk_size=50)
    total = numbers.map(square).filter(is_even).reduce(operator.add)
    run = finished(htdag.Pipeline(total, name="squares").submit(tag=HOSTILE_TAG, on=on))
    assert run.state is htdag.RunState.DONE
    assert run.result() == sum(x * x for x in range(200) if x % 2 == 0)
    assert run.errors() == []
    status = run.status()
    assert (status["square"].done, status["square"].total) == (200, 200)
    assert htdag.load(HOSTILE_TAG).result() == run.result()


def lookup(pair: tuple[str, int], table: dict[str, int], everything: list[str]) -> str:
    return f"{pair[0]}:{pair[1] / table['sum']:.2f}:{len(everything)}"


def test_several_targets_branches_and_bound_results(on: str):
    words = htdag.source(["to be or", "not to be", "", "that is the question"], chunk_size=2)
    split = words.flat_map(str.split)
    pairs = split.map(lambda word: (word, len(word)), name="pairs")
    sums = pairs.map(lambda pair: {"sum": pair[1]}).reduce(
        lambda a, b: {"sum": a["sum"] + b["sum"]}, name="sums"
    )
    shares = pairs.map(lookup, bind={"table": sums, "everything": split}, name="shares")
    joined = split.reduce(lambda a, b: f"{a} {b}", associative=False, name="joined")
    run = finished(htdag.Pipeline(shares, joined, sums).submit(on=on))
    text = ["to", "be", "or", "not", "to", "be", "that", "is", "the", "question"]
    total = sum(map(len, text))
    assert run.result("shares") == [f"{w}:{len(w) / total:.2f}:{len(text)}" for w in text]
    assert run.result("joined") == " ".join(text)
    assert run.result("sums") == {"sum": total}
    keys = [item.key for item in run.items("shares")]
    assert keys == ["0.0", "0.1", "0.2", "1.0", "1.1", "1.2", "3.0", "3.1", "3.2", "3.3"]
    assert [item.source for item in run.items("shares")][3] == "not to be"


def test_a_tree_of_reduces_keeps_the_order(on: str):
    letters = [chr(ord("a") + n) for n in range(23)]
    joined = htdag.source(letters, chunk_size=2).reduce(operator.add, fan_in=4, initial="> ")
    flow = htdag.Pipeline(joined)
    assert [node.chunks for node in flow.plan().nodes] == [12, 3, 1]
    assert finished(flow.submit(on=on)).result() == "> " + "".join(letters)


def test_filtering_everything_away_is_no_error(on: str):
    none = htdag.source(range(10), chunk_size=5).filter(lambda x: x > 99, name="none")
    after = none.map(square, fuse=False, name="after")
    total = after.reduce(operator.add, initial=0, name="total")
    no_initial = none.reduce(operator.add, name="no_initial", associative=False)
    run = finished(htdag.Pipeline(after, total).submit(on=on))
    assert run.result("after") == []
    assert run.result("total") == 0
    run = htdag.Pipeline(no_initial).submit(on=on)
    with pytest.raises(htdag.RunFailed, match=r"no_initial.*no items.*initial"):
        finished(run)
    assert [(error.stage, error.key) for error in run.errors()] == [("no_initial", None)]


class CannotPickle:
    def __reduce__(self) -> Any:
        raise TypeError("made of glass")


def trouble(folder: Path, x: int) -> Any:
    called(folder, x)
    sys.stdout.write(f"working on {x}\n")
    if x == 3:
        raise ValueError("three, drei, три")
    if x == 5:
        sys.exit(2)
    if x == 7:
        return CannotPickle()
    if x == 9:
        os.kill(os.getpid(), signal.SIGSEGV)
    if x == 11:
        os._exit(7)
    if x == 13:
        import no_such_module  # noqa: F401
    if x == 15:
        raise KeyboardInterrupt
    return x


def test_each_kind_of_failure_is_an_item_error_and_spares_the_others(on: str, shared: Path):
    stage = htdag.source(range(20), chunk_size=7).map(
        functools.partial(trouble, shared), name="trouble"
    )
    run = htdag.Pipeline(stage, retries=1).submit(on=on)
    with pytest.raises(htdag.RunFailed, match="three, drei") as caught:
        finished(run)
    errors = {error.key: error for error in run.errors()}
    assert {key: error.type for key, error in errors.items()} == {
        "3": "ValueError",
        "5": "SystemExit",
        "7": "StageError",
        "9": "ProcessDied",
        "11": "ProcessDied",
        "13": "ModuleNotFoundError",
        "15": "KeyboardInterrupt",
    }
    assert caught.value.errors == run.errors()
    assert 'raise ValueError("three, drei, три")' in errors["3"].traceback
    assert "runtime" not in errors["3"].traceback
    assert "sys.exit(2)" in errors["5"].message
    assert "CannotPickle" in errors["7"].message
    assert "made of glass" in errors["7"].message
    assert "SIGSEGV" in errors["9"].message
    assert "in trouble" in errors["9"].stderr  # where it happened, from faulthandler
    assert "status 7" in errors["11"].message
    assert "no_such_module" in errors["13"].message
    assert errors["3"].stdout == "working on 3\n"
    assert run.stdout("trouble", "4") == "working on 4\n"
    done = {item.key: item.value for item in run.items(errors="skip")}
    assert done == {str(x): x for x in range(20) if str(x) not in errors}
    assert len([i for i in run.items(errors="return") if isinstance(i.value, htdag.ItemError)]) == 7
    assert [(item.key, item.source) for item in run.missing()] == [
        (key, int(key)) for key in errors
    ]
    # Each of the failing items was tried twice, and no other again.
    assert calls(shared) == {str(x): 2 if str(x) in errors else 1 for x in range(20)}
    with pytest.raises(htdag.RunFailed):
        run.result()


def until_there(folder: Path, x: int) -> int:
    called(folder, x)
    if x in (5, 17) and not (folder / "mended").exists():
        raise ValueError("not yet")
    return x


def test_resume_computes_only_what_is_missing(on: str, shared: Path):
    stage = htdag.source(range(24), chunk_size=6).map(
        functools.partial(until_there, shared), name="items"
    )
    evens = stage.filter(is_even)
    total = stage.reduce(operator.add, name="total")
    run = htdag.Pipeline(total, evens, name="mend").submit(on=on)
    with pytest.raises(htdag.RunFailed, match="not yet"):
        finished(run)
    assert run.state is htdag.RunState.FAILED
    (shared / "mended").touch()
    again = htdag.load(run.tag).resume()
    with pytest.raises(RunActive, match="nothing to resume"):
        again.resume()
    finished(again)
    assert again.result("total") == sum(range(24))
    assert again.result("is_even") == list(range(0, 24, 2))
    assert calls(shared) == {str(x): 2 if x in (5, 17) else 1 for x in range(24)}
    assert run.resume().state is htdag.RunState.DONE  # nothing left: nothing happens
    if on == "condor":
        assert (run.path / "mend.dag.rescue001").exists()


def waits(folder: Path, x: int) -> int:
    """From 8 on, wait for a file."""
    called(folder, x)
    while x >= 8 and not (folder / "go").exists():
        time.sleep(0.05)
    return x


def wait_for(condition: Any, timeout: float = 200) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_remove_and_resume(on: str, shared: Path):
    stage = htdag.source(range(16), chunk_size=4).map(functools.partial(waits, shared), name="slow")
    run = htdag.Pipeline(stage.reduce(operator.add, name="total")).submit(on=on)
    wait_for(lambda: run.status()["slow"].done >= 8)
    with pytest.raises(NotDone):
        run.result()
    run.remove()
    assert run.state is htdag.RunState.REMOVED
    with pytest.raises(htdag.RunFailed, match="was removed"):
        run.wait()
    before = calls(shared)
    assert all(before[str(x)] == 1 for x in range(8))
    (shared / "go").touch()
    finished(run.resume())
    assert run.result() == sum(range(16))
    after = calls(shared)
    assert all(after[str(x)] == 1 for x in range(8))  # whole chunks are not computed again
    assert all(after[str(x)] <= 2 for x in range(8, 16))


def test_files_with_hostile_names_travel(on: str, shared: Path):
    folder = shared / "some 'books', \"and\" ünï"
    folder.mkdir()
    names = ["plain.txt", "with space.txt", "com,ma; semi.txt", "qu'o\"te.txt", "ünïcødé ☃.txt"]
    for number, name in enumerate(names):
        (folder / name).write_text(f"text {number}")
    (folder / "a folder").mkdir()
    (folder / "a folder" / "in side.txt").write_text("inside")
    twin = shared / "twin"
    twin.mkdir()
    (twin / "plain.txt").write_text("the twin")
    paths = [folder / name for name in names] + [folder / "a folder", twin / "plain.txt"]

    def read(path: Path) -> tuple[str, str]:
        if path.is_dir():
            return path.name, "+".join(sorted(inner.read_text() for inner in path.iterdir()))
        return path.name, path.read_text()

    run = finished(htdag.Pipeline(htdag.files(paths, chunk_size=3).map(read)).submit(on=on))
    expected = [(name, f"text {number}") for number, name in enumerate(names)]
    expected += [("a folder", "inside"), ("plain.txt", "the twin")]
    assert run.result() == expected
    assert [item.source for item in run.items()] == paths


def test_as_completed_gives_everything_once(on: str):
    stage = htdag.source(range(12), chunk_size=3).map(square)
    run = htdag.Pipeline(stage).submit(on=on)
    assert sorted((item.value, item.source) for item in run.as_completed()) == [
        (x * x, x) for x in range(12)
    ]


def test_results_can_be_had_while_others_fail_or_are_under_way(on: str, shared: Path):
    gate = shared / "gate"

    def late(x: int) -> int:
        import time

        while x == 4 and not gate.exists():
            time.sleep(0.05)
        return 10 // x

    stage = htdag.source(range(6), chunk_size=2).map(late, name="late")
    flow = htdag.Pipeline(stage.map(lambda y: -y, name="after", fuse=False), name="gates")
    run = flow.submit(on=on)
    with pytest.raises(htdag.RunFailed, match="has errors, and goes on"):
        run.wait(200, until="first error")
    assert not run.state.ended
    assert run.get("late", 3, timeout=60) == 3
    with pytest.raises(TimeoutError, match="'late' is not complete yet"):
        run.get("late", "4")
    with pytest.raises(TimeoutError):
        list(run.as_completed("late", timeout=0))
    gate.touch()
    run.wait(200, errors_ok=True, progress=False)
    values = {1: 10, 2: 5, 3: 3, 4: 2, 5: 2}
    assert {item.source: item.value for item in run.as_completed("late", errors="skip")} == values
    *items, failed = run.as_completed("late", errors="return")
    assert (len(items), failed.source, failed.value.type) == (5, 0, "ZeroDivisionError")
    with pytest.raises(htdag.RunFailed, match="ZeroDivisionError"):
        run.get("late", 0)
    with pytest.raises(htdag.RunFailed):
        list(run.as_completed("late"))


def test_values_that_no_file_has_are_named(home: Path):
    doubled = htdag.source([1, 2]).map(lambda x: 2 * x, name="doubled")
    run = finished(htdag.Pipeline(doubled.map(str, name="texts")).submit(on="local"))
    with pytest.raises(UsageError, match=r"no values of stage .doubled. .* values of: texts"):
        run.result("doubled")
    texts = doubled.map(str, name="texts")
    assert run.get("texts", 1) == run.get(texts, 1) == "4"
    assert run.result(texts) == ["2", "4"]
    again = doubled.map(str).map(str, fuse=False)
    run = finished(htdag.Pipeline(again).submit(on="local"))
    with pytest.raises(UsageError, match="several stages named 'str'"):
        run.result(again)
    assert run.result("str") == run.result("str-2")
    with pytest.raises(UsageError, match="no item '2' of 'str'"):
        run.get("str", 2)


def test_skip_lets_failed_items_go(on: str):
    def odd_fails(x: int) -> int:
        if x % 2:
            raise ValueError(x)
        return x

    stage = htdag.source(range(10), chunk_size=5).map(odd_fails, on_error="skip", max_errors=0.5)
    total = stage.reduce(operator.add, name="total")
    run = finished(htdag.Pipeline(total, stage, name="skip").submit(on=on))
    for target, value in {"odd_fails": [0, 2, 4, 6, 8], "total": 20}.items():
        with pytest.warns(htdag.errors.ItemsMissing, match=r"5 items .* skipped"):
            assert run.result(target) == value
        lacking = run.missing(target)
        assert [(item.stage, item.key, item.source) for item in lacking] == [
            ("odd_fails", str(x), x) for x in (1, 3, 5, 7, 9)
        ]
        assert [item.error.type for item in lacking] == ["ValueError"] * 5
    assert "5 failed items skipped" in str(run.status())
    assert sorted(item.value for item in run.as_completed("odd_fails")) == [0, 2, 4, 6, 8]
    assert len(run.errors()) == 5
    strict = stage.with_options(max_errors=4)
    run = htdag.Pipeline(strict, name="strict").submit(on=on)
    with pytest.raises(htdag.RunFailed, match=r"5 of 10 items of odd_fails failed, .* 4 may"):
        finished(run)
    (log,) = run.path.glob("nodes/*/log/post.log")
    assert "5 of 10 items failed, 4 allowed" in log.read_text()


def test_stop_ends_the_run_at_the_first_error(on: str, shared: Path):
    def work(folder: Path, x: int) -> int:
        if x == 0:
            raise ValueError("stop here")
        time.sleep(2)
        called(folder, x)
        return x

    stage = htdag.source(range(4), chunk_size=1).map(
        functools.partial(work, shared), name="work", on_error="stop"
    )
    run = htdag.Pipeline(stage.map(square, fuse=False)).submit(on=on)
    with pytest.raises(htdag.RunFailed, match="stop here"):
        finished(run)
    assert run.status()["square"].done == 0


def noted(folder: Path, name: str, x: int) -> int:
    """Note when a job of a node begins and ends."""
    called(folder, f"+{name}")
    time.sleep(0.3)
    called(folder, f"-{name}")
    return x


def at_once(folder: Path, names: str) -> int:
    """Return the most jobs of some nodes that ran at the same time."""
    counts = [0]
    for line in (folder / "calls").read_text().split():
        if line[1:] in names.split():
            counts.append(counts[-1] + (1 if line[0] == "+" else -1))
    return max(counts)


def test_throttles_limit_what_runs_at_once(on: str, shared: Path):
    numbers = htdag.source(range(2), chunk_size=1)
    stages = {
        name: numbers.map(functools.partial(noted, shared, name), name=name, fuse=False, **options)
        for name, options in {
            "low": {"category": "one"},
            "high": {"category": "one", "node_priority": 5},
            "slow": {"max_materialize": 1},
        }.items()
    }
    flow = htdag.Pipeline(*stages.values(), name="throttled", maxjobs={"one": 1})
    run = finished(flow.submit(on=on))
    assert [run.result(name) for name in stages] == [[0, 1]] * 3
    lines = (shared / "calls").read_text().split()
    assert lines.index("+low") > max(n for n, line in enumerate(lines) if line == "-high")
    assert at_once(shared, "slow") == 1


def test_max_jobs_submitted_counts_nodes(on: str, shared: Path):
    numbers = htdag.source(range(2), chunk_size=1)
    stages = [
        numbers.map(functools.partial(noted, shared, name), name=name, fuse=False)
        for name in ("first", "second")
    ]
    flow = htdag.Pipeline(*stages, name="one_by_one", max_jobs_submitted=1, retries=1)
    run = finished(flow.submit(on=on))
    assert run.result("second") == [0, 1]
    lines = (shared / "calls").read_text().split()
    nodes = [line[1:] for line in lines]
    assert nodes in (["first"] * 4 + ["second"] * 4, ["second"] * 4 + ["first"] * 4)


# Only on this machine


def test_jobs_start_by_their_priority(home: Path, shared: Path):
    numbers = htdag.source(range(2), chunk_size=1)
    stages = [
        numbers.map(
            functools.partial(noted, shared, name),
            name=name,
            fuse=False,
            request_cpus=1000,
            **options,
        )
        for name, options in {
            "none": {},
            "of_node": {"node_priority": 3},
            "both": {"node_priority": 9, "priority": -1},
            "own": {"priority": 2},
        }.items()
    ]
    finished(htdag.Pipeline(*stages, name="ordered").submit(on="local"))
    begun = [line[1:] for line in (shared / "calls").read_text().split() if line[0] == "+"]
    # With a job of a priority of its own in the run, that of a node orders equal jobs only.
    assert begun == ["own"] * 2 + ["of_node"] * 2 + ["none"] * 2 + ["both"] * 2


def script(home: Path, text: str, **options: Any) -> subprocess.Popen[str]:
    path = home / "script.py"
    path.write_text(text)
    return subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


INTERRUPTED = """
import functools, time, htdag
from pathlib import Path

def slow(folder, x):
    with open(Path(folder) / "calls", "a") as file:
        file.write(f"{x}\\n")
    while x % 10 > 4 and not Path(folder, "go").exists():
        time.sleep(0.05)
    return x

flow = htdag.Pipeline(htdag.source(range(80), chunk_size=10).map(
    functools.partial(slow, FOLDER), name="slow"), name="ints")
print(sum(flow.run(tag="interrupted", on="local")))
"""


def leftovers(path: Path) -> list[str]:
    """Return the processes that still work in a run directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if Path(os.readlink(entry / "cwd")).is_relative_to(path):
                    found.append(entry.name)
    return found


def test_ctrl_c_stops_a_local_run_cleanly(home: Path, shared: Path):
    process = script(home, INTERRUPTED.replace("FOLDER", repr(str(shared))))
    wait_for(lambda: sum(calls(shared).values()) > 5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=200)
    assert "htdag resume interrupted" in output
    run = htdag.load("interrupted")
    assert run.state is htdag.RunState.REMOVED
    assert leftovers(run.path) == []
    before = calls(shared)
    assert len(before) < 80
    (shared / "go").touch()
    finished(run.resume())
    assert run.result() == list(range(80))
    again = [x for x, count in calls(shared).items() if count > 1]
    assert len(again) <= os.cpu_count()  # the items that were cut in the middle
    assert calls(shared).total() == 80 + len(again)


@pytest.mark.parametrize("which", ["coordinator", "worker"])
def test_a_killed_local_run_can_be_resumed(home: Path, shared: Path, which: str):
    stage = htdag.source(range(60), chunk_size=5).map(functools.partial(until_killed, shared))
    run = htdag.Pipeline(stage.reduce(operator.add, name="total")).submit(on="local")
    wait_for((shared / "supervisor").is_symlink)
    if which == "coordinator":
        os.kill(json.loads((run.path / layout.LOCAL_STATE).read_text())["pid"], signal.SIGKILL)
        wait_for(lambda: run.state is htdag.RunState.STOPPED)
        wait_for(lambda: leftovers(run.path) == [])
        with pytest.raises(htdag.RunFailed, match="killed"):
            run.wait()
    else:
        os.kill(int(os.readlink(shared / "supervisor")), signal.SIGKILL)
        with pytest.raises(htdag.RunFailed, match="removed, evicted or killed"):
            finished(run)
    (shared / "mended").touch()
    finished(run.resume())
    assert run.result() == sum(range(60))
    again = [x for x, count in calls(shared).items() if count > 1]
    assert len(again) <= 2 * (os.cpu_count() or 1)


def until_killed(folder: Path, x: int) -> int:
    """At one item, tell who supervises this job, and wait to be killed with it."""
    called(folder, x)
    if x == 12:
        with contextlib.suppress(FileExistsError):
            os.symlink(str(os.getppid()), folder / "supervisor")
        while not (folder / "mended").exists():
            time.sleep(0.02)
    return x


def slow_item(folder: Path, x: int) -> int:
    called(folder, x)
    time.sleep(0.05)
    return x


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "record"])
def test_a_damaged_outcome_is_found_and_computed_again(home: Path, shared: Path, damage: str):
    stage = htdag.source(range(20), chunk_size=5).map(functools.partial(slow_item, shared))
    run = finished(htdag.Pipeline(stage, name="damage").submit(on="local"))
    node = run.status().stages[0].node
    outcome = Path(NodeFiles(run.path, node).attempt(1, 1).output(run.targets[0]))
    content = bytearray(outcome.read_bytes())
    if damage == "truncated":
        outcome.write_bytes(content[:-20])
    elif damage == "flipped":
        content[60] ^= 4
        outcome.write_bytes(content)
    elif damage == "missing":
        outcome.unlink()
    else:
        Path(NodeFiles(run.path, node).attempt(1, 1).record).unlink()
    with pytest.raises(htdag.HtdagError):
        run.result()
    finished(run.resume())
    assert run.result() == list(range(20))
    assert calls(shared) == {str(x): 2 if 5 <= x < 10 else 1 for x in range(20)}


def test_a_bound_result_comes_whole_after_a_retry(home: Path, shared: Path):
    def once(folder: Path, x: int) -> int:
        called(folder, x)
        if x in (1, 6) and calls(folder)[str(x)] == 1:
            raise ValueError("only once")
        return x

    base = htdag.source(range(8), chunk_size=2).map(functools.partial(once, shared), name="base")
    low = base.reduce(min, name="low")
    high = base.map(lambda x: -x, fuse=False).reduce(min, name="high")
    span = base.map(lambda x, low, high: (x, low, high), bind={"low": low, "high": high})
    run = finished(htdag.Pipeline(span, retries=1).submit(on="local"))
    assert run.result() == [(x, 0, -7) for x in range(8)]


LATER = """
from dataclasses import dataclass
from enum import Enum
import sys, htdag, shapes

def make(x):
    return shapes.Point(x, shapes.Color.RED)

if sys.argv[1] == "first":
    htdag.Pipeline(htdag.map(make, [1, 2])).submit(tag="later", on="local").wait()
value = htdag.load("later").result()[0]
print(value == shapes.Point(1, shapes.Color.RED), type(value) is shapes.Point,
      value.color is shapes.Color.RED, value.double())
"""


def test_a_later_process_gets_instances_of_its_own_classes(home: Path):
    (home / "shapes.py").write_text(
        "from dataclasses import dataclass\nfrom enum import Enum\n\n"
        "class Color(Enum):\n    RED = 1\n\n"
        "@dataclass\nclass Point:\n    x: int\n    color: Color\n\n"
        "    def double(self):\n        return 2 * self.x\n"
    )
    (home / "script.py").write_text(LATER)
    for when in ("first", "second"):
        done = subprocess.run(
            [sys.executable, "script.py", when],
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == "True True True 2\n", done.stderr


def test_functions_of_an_interactive_session_reach_modules(home: Path):
    (home / "helpers.py").write_text("def double(x):\n    return 2 * x\n")
    session = (
        "import htdag, helpers\n"
        "def work(x):\n    return helpers.double(x)\n\n"
        "print(htdag.Pipeline(htdag.map(work, [1, 2])).run(on='local'))\n"
    )
    done = subprocess.run(
        [sys.executable], input=session, cwd=home, capture_output=True, text=True, check=False
    )
    assert done.stdout == "[2, 4]\n", done.stderr


class Array:
    """A large array as those of numpy are to pickle: it keeps the buffer that it is given."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Array, (pickle.PickleBuffer(self.buffer),)


def negative_in_place(array: Array) -> Array:
    array.buffer[:] = bytes(255 - byte for byte in array.buffer)
    return array


@pytest.mark.parametrize("stream", [False, True])
def test_large_buffers_travel_beside_their_pickles(home: Path, stream: bool):
    items = [Array(bytearray([number]) * 100_000) for number in range(3)]
    source = htdag.source(iter(items) if stream else items, chunk_size=2)
    once = source.map(negative_in_place, name="once")
    twice = once.map(negative_in_place, name="twice", fuse=False)
    run = finished(htdag.Pipeline(once, twice).submit(on="local"))
    for name, expected in [("once", [255, 254, 253]), ("twice", [0, 1, 2])]:
        values = run.result(name)
        assert [bytes(value.buffer) for value in values] == [bytes([n]) * 100_000 for n in expected]
    (path,) = run.path.glob("nodes/once/out/0000.1.once.items")
    assert [[len(b) for b in frame.buffers] for frame in itemfile.read(str(path))] == [
        [100_000]
    ] * 2


def test_submit_refuses_a_tag_that_is_taken(home: Path):
    flow = htdag.Pipeline(htdag.map(square, [1]))
    finished(flow.submit(tag="one", on="local"))
    with pytest.raises(StageNameError, match="'one' already"):
        flow.submit(tag="one", on="local")


def test_run_returns_the_result_or_a_dict_of_them(home: Path, capfd: pytest.CaptureFixture[str]):
    squares = htdag.map(square, range(4))
    assert htdag.Pipeline(squares).run(on="local") == [0, 1, 4, 9]
    total = squares.reduce(operator.add, name="total")
    both = {"total": 14, "square": [0, 1, 4, 9]}
    assert htdag.Pipeline(total, squares).run("both", on="local") == both
    assert htdag.load("both").result() == htdag.load("both").result(timeout=None) == both


def test_a_failed_compilation_leaves_nothing_behind(home: Path):
    def numbers() -> Iterator[Any]:
        yield 1
        yield CannotPickle()

    flow = htdag.Pipeline(htdag.source(numbers()).map(square))
    with pytest.raises(htdag.HtdagError, match=r"item 1.*CannotPickle"):
        flow.submit(tag="never", on="local")
    flow = htdag.Pipeline(htdag.source([1, CannotPickle()]).map(square))
    with pytest.raises(htdag.HtdagError, match=r"item 1.*CannotPickle"):
        flow.submit(tag="never", on="local")
    assert not (home / "runs").exists() or list((home / "runs").iterdir()) == []
    assert htdag.runs() == []


def test_request_cpus_limits_what_runs_at_once(home: Path, shared: Path):
    def alone(folder: Path, x: int) -> bool:
        mark = folder / "busy"
        mark.touch(exist_ok=False)
        time.sleep(0.1)
        mark.unlink()
        return True

    stage = htdag.source(range(4), chunk_size=1).map(
        functools.partial(alone, shared), request_cpus=1000
    )
    assert finished(htdag.Pipeline(stage).submit(on="local")).result() == [True] * 4


# Only on HTCondor


@pytest.mark.pool
def test_auto_takes_htcondor_where_it_answers(
    pool: Any, runs_dir: Path, capsys: pytest.CaptureFixture[str]
):
    run = htdag.Pipeline(htdag.map(square, [3])).submit(on="auto")
    assert "running on HTCondor" in capsys.readouterr().err
    assert run.backend_name == "condor"
    assert finished(run).result() == [9]


def test_auto_takes_this_machine_otherwise(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CONDOR_CONFIG", "/dev/null")
    run = htdag.Pipeline(htdag.map(square, [3])).submit(on="auto")
    assert "running on this machine: " in capsys.readouterr().err
    assert finished(run).result() == [9]


def grow(x: int) -> int:
    return len(b"x" * 200_000_000) + x


@pytest.mark.pool
def test_memory_and_disk_are_proposed_from_an_earlier_run(pool: Any, runs_dir: Path):
    def flow() -> htdag.Pipeline:
        stage = htdag.source(range(40), chunk_size=20).map(grow)
        return htdag.Pipeline(stage.reduce(operator.add, name="total"), name="growing")

    expected = sum(200_000_000 + x for x in range(40))
    assert finished(flow().submit("before", on="condor")).result() == expected
    measured = flow().plan(on="condor")["grow"].measured
    assert 185 <= float(re.search(r"(\d+) MB at the peak", measured)[1]) <= 210
    from htdag.backends import backend

    assert backend("condor").slots() == (8, 0)  # two execute points of the pool with four each
    run = flow().submit("after", on="condor")
    text = (run.path / "nodes/grow/grow.sub").read_text().splitlines()
    assert "request_memory = 384MB" in text
    assert "retry_request_memory = 768MB" in text
    assert "request_disk = 256MB" in text
    assert finished(run).result() == expected


@pytest.mark.pool
def test_a_compiled_directory_runs_with_condor_submit_dag_alone(pool: Any, runs_dir: Path):
    total = htdag.source(range(40), chunk_size=10).map(square).filter(is_even).reduce(operator.add)
    directory = runs_dir / "by hand"
    limits = {"max_jobs_submitted": 3, "category": "all", "maxjobs": {"all": 2}}
    dag = htdag.Pipeline(total, name="by_hand", **limits).compile(directory)
    if shutil.which("condor_dag_checker"):  # since 24.8.1
        run_command(["condor_dag_checker", dag.name], directory)
    run_command(["condor_submit_dag", dag.name], directory)
    pool.wait_until(lambda: "EXITING WITH STATUS" in read(f"{dag}.dagman.out"), 200)
    assert "EXITING WITH STATUS 0" in read(f"{dag}.dagman.out")
    told = r"Maximum Submitted Nodes-*: 3\n|DAGMAN_MAX_JOBS_SUBMITTED setting: 3\n"
    assert re.search(told, read(f"{dag}.dagman.out"))
    values = list(itemfile.read(str(directory / "nodes/add/out/0000.1.add.items")))
    assert [pickle.loads(value.payload) for value in values] == [
        sum(x * x for x in range(0, 40, 2))
    ]


def read(path: str) -> str:
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return ""


def run_command(command: list[str], cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "directory", ["/tmp/htdag-never", "/var/tmp/a $(macro)", "/var/tmp/a|b", "/var/tmp/a\nb"]
)
def test_compile_refuses_what_dagman_refuses(directory: str):
    with pytest.raises(DirectoryError, match=r"choose another|choose a directory"):
        htdag.Pipeline(htdag.map(square, [1])).compile(directory)
    assert not Path(directory).exists()


@pytest.mark.pool
def test_the_command_line_on_htcondor(pool: Any, runs_dir: Path):
    def fails(x: int) -> int:
        if x == 1:
            if htdag.current().attempt > 1:
                time.sleep(300)  # until the run is removed
            raise ValueError("not this one")
        return x

    def htdag_command(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("htdag")), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)

    htdag.Pipeline(htdag.map(square, [1, 2]), name="good").submit(tag="good one", on="condor")
    htdag.Pipeline(htdag.map(fails, [1, 2]), name="bad").submit(tag="bad one", on="condor")
    done = htdag_command("wait", "good one")
    assert done.returncode == 0, done.stderr
    assert htdag_command("result", "good one").stdout == "1\n4\n"
    done = htdag_command("wait", "bad one")
    assert done.returncode == 1
    assert "not this one" in done.stderr
    assert "ValueError" in htdag_command("errors", "bad one").stdout
    rows = json.loads(htdag_command("runs", "--json").stdout)
    assert {row["tag"]: row["state"] for row in rows} == {"good one": "done", "bad one": "failed"}
    assert "on HTCondor" in htdag_command("status", "bad one").stdout
    assert htdag_command("resume", "bad one").returncode == 0
    assert htdag_command("remove", "bad one").returncode == 0
    assert htdag.load("bad one").state is htdag.RunState.REMOVED


@pytest.mark.pool
def test_a_job_that_is_removed_is_tried_again(pool: Any, runs_dir: Path, shared: Path):
    def work(folder: Path, x: int) -> int:
        called(folder, x)
        while x == 1 and calls(folder)["1"] == 1:
            time.sleep(0.1)
        return x

    stage = htdag.source(range(3), chunk_size=1).map(
        functools.partial(work, shared), name="work", retries=1
    )
    run = htdag.Pipeline(stage).submit(on="condor")
    wait_for(lambda: len(calls(shared)) == 3)
    ads = pool.schedd.query('DAGNodeName == "work" && ProcId == 1', ["ClusterId"])
    run_command(["condor_rm", f"{ads[0]['ClusterId']}.1"], runs_dir)
    assert finished(run).result() == [0, 1, 2]


@pytest.mark.pool
def test_held_jobs_are_reported(pool: Any, runs_dir: Path):
    stage = htdag.source(range(2), chunk_size=1).map(
        square, submit={"on_exit_hold": "True"}, name="held"
    )
    run = htdag.Pipeline(stage).submit(on="condor")
    with pytest.raises(htdag.RunHeld, match=r"node held, 2 jobs.*OnExitHold.*htdag release"):
        finished(run)
    assert run.state is htdag.RunState.HELD
    run.remove()
    assert run.state is htdag.RunState.REMOVED


@pytest.mark.pool
def test_a_node_that_cannot_be_submitted_is_explained(pool: Any, runs_dir: Path):
    for options, told in (
        ({"requirements": "((("}, r"requirements: \(\(\( is not a ClassAd expression"),
        ({"submit": {"+Project": "night sky"}}, r"strings need quotes: '\"night sky\"'"),
    ):
        with pytest.raises(OptionError, match=f"stage 'square': .*{told}"):
            htdag.Pipeline(htdag.map(square, [1], **options)).submit("never", on="condor")
    assert htdag.runs("never") == []
    # What a macro stands for is known only when it is submitted.
    run = htdag.Pipeline(htdag.map(square, [1], requirements="((($(x)")).submit(on="condor")
    with pytest.raises(htdag.RunFailed, match=r"node square could not be submitted: .*\(\(\("):
        finished(run)
    (reason,) = run.why()
    assert reason.why.startswith("failed: node square could not be submitted: ")
    assert reason.remedy.endswith(f"htdag resume {run.tag} --script")
    shown = CliRunner().invoke(cli.main, ["errors", run.tag]).output
    assert shown.startswith("no errors\nthe run: failed: node square could not be submitted")


@pytest.mark.pool
def test_a_job_of_thousands_of_files(pool: Any, runs_dir: Path, shared: Path):
    # The line of file names is longer than late materialisation bears.
    for number in range(3000):
        (shared / f"{number}").write_text(str(number))
    paths = [shared / f"{number}" for number in range(3000)]
    numbers = htdag.files(paths, chunk_size=3000).map(lambda path: int(path.read_text()))
    flow = htdag.Pipeline(numbers.reduce(operator.add, name="sum"))
    with pytest.raises(htdag.HtdagError, match=r"chunk_size.*or omit these options"):
        htdag.Pipeline(numbers, max_idle=10).submit(on="condor")
    with pool.only("blind"):
        assert finished(flow.submit(on="condor")).result() == sum(range(3000))


@pytest.mark.pool
def test_everything_works_on_a_point_that_sees_nothing(pool: Any, runs_dir: Path, tmp_path: Path):
    project = runs_dir / "my project"
    project.mkdir()
    (project / "constants.py").write_text("FACTOR = 3\n")
    (project / "helpers.py").write_text(
        "import constants, platformdirs\n\nclass Scaled:\n    def __init__(self, x):\n"
        "        self.x = x * constants.FACTOR\n\ndef scale(x):\n    return Scaled(x)\n"
    )
    (project / "late.py").write_text("def plus_one(x):\n    return x + 1\n")
    (project / "main.py").write_text(
        "import htdag, helpers\n\ndef work(x):\n    import late\n"
        "    return helpers.Scaled(late.plus_one(helpers.scale(x).x))\n\n"
        "flow = htdag.Pipeline(htdag.source(range(4), chunk_size=2).map(work))\n"
        "run = flow.submit(on='condor', tag='split over files').wait(timeout=200)\n"
        "print([value.x for value in run.result()], isinstance(run.result()[0], helpers.Scaled))\n"
    )
    with pool.only("blind"):
        done = subprocess.run(
            [sys.executable, "main.py"], cwd=project, capture_output=True, text=True, check=False
        )
    assert done.stdout.strip() == "[3, 12, 21, 30] True", done.stderr
    # Of late.py and helpers.py only what is used may travel: the node has no such package.
    assert htdag.load("split over files").status()["work"].done == 4


@pytest.mark.pool
@pytest.mark.default_pool
def test_with_htcondors_default_settings(default_pool: Any, runs_dir: Path):
    numbers = htdag.source(range(200), chunk_size=50)
    total = numbers.map(square).filter(is_even).reduce(operator.add)
    run = htdag.Pipeline(total).submit(on="condor")
    assert finished(run, 150).result() == sum(x * x for x in range(200) if x % 2 == 0)


@pytest.mark.pool
def test_condor_errors_are_htdags(pool: Any, runs_dir: Path, monkeypatch: pytest.MonkeyPatch):
    from htdag.backends import backend

    flow = htdag.Pipeline(htdag.map(square, [1]))
    directory = flow.compile(runs_dir / "without its DAG").parent
    with pytest.raises(BackendError, match="HTCondor"):
        backend("condor").submit(directory, "missing.dag")
