"""The states of single items, what jobs have used, and what of it is printed."""

from __future__ import annotations

import csv
import functools
import io
import json
import operator
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import htdag
from htdag import cli
from htdag.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def command(*words: str, status: int = 0, stdin: str | None = None) -> Any:
    result = CliRunner().invoke(cli.main, list(words), input=stdin)
    assert result.exit_code == status, result.output
    return result


def wait_for(condition: Any, timeout: float = 200) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, condition
        time.sleep(0.1)


def patient(folder: Path, x: int) -> int:
    """Fail at 1; at 3 wait for a file."""
    sys.stderr.write("before\n")
    if x == 1:
        raise ValueError("not one")
    while x == 3 and not (folder / "go").exists():
        time.sleep(0.05)
    return x


def begun(tag: str, folder: Path, on: str) -> htdag.Run:
    work = htdag.source(range(6), chunk_size=2).map(functools.partial(patient, folder), name="work")
    flow = htdag.Pipeline(work.reduce(operator.add, name="sum"), max_jobs_submitted=1)
    return flow.submit(tag, on=on)


def states(run: htdag.Run, stage: str = "work") -> list[tuple[str, str]]:
    return [(item.key, item.state) for item in run.item_states(stage)]


def test_the_state_of_each_item(runs_dir: Path, tmp_path: Path):
    run = begun("items", tmp_path, "local")
    settled = [("0", "done"), ("1", "failed"), ("2", "done"), ("3", "running")]
    wait_for(lambda: states(run)[:4] == settled)
    assert states(run, "sum") == [("", "waiting")]
    running = run.item_states("work")[3]
    assert (running.chunk, running.source) == (1, "local run")
    assert running.job
    assert running.since is not None
    assert command("items", "items", "work", "--state", "failed", "--keys").output == "1\n"
    (tmp_path / "go").touch()
    with pytest.raises(htdag.RunFailed):
        run.wait(200, progress=False)
    kinds = [state for _, state in states(run)]
    assert kinds == ["done", "failed", "done", "done", "done", "done"]
    shown = command("items", "items", "work").output.splitlines()
    assert shown[0].split() == ["item", "state", "since", "chunk", "job", "by"]
    assert shown[2].split()[:2] == ["1", "failed"]
    found = json.loads(command("items", "items", "work", "--json").output)
    assert [item["key"] for item in found] == list("012345")
    assert "did you mean 'work'" in command("items", "items", "wrok", status=2).stderr
    with pytest.raises(UsageError, match="with jobs; it has: work, sum"):
        run.item_states("source")


def test_waiting_for_runs_that_may_fail(runs_dir: Path, tmp_path: Path):
    (tmp_path / "go").touch()
    run = begun("items", tmp_path, "local")
    assert run.wait(200, progress=False, errors_ok=True) is run
    assert run.state is htdag.RunState.FAILED
    assert run.wait(0, errors_ok=True) is run


@pytest.mark.pool
def test_the_state_of_each_item_on_htcondor(pool: Any, runs_dir: Path, tmp_path: Path):
    tmp_path.chmod(0o777)
    run = begun("items", tmp_path, "condor")
    wait_for(lambda: states(run)[3:] == [("3", "running"), ("4", "done"), ("5", "done")])
    assert run.hold("work", keys=["3"]) == 1
    held = run.item_states("work", ask=True)[3]
    assert (held.state, held.job.endswith(".1")) == ("held", True)
    assert held.source in ("schedd", "event log")  # the one that knew it first
    with pytest.raises(TimeoutError):
        run.wait(0, progress=False, holds_ok=True)
    with pytest.raises(htdag.RunHeld):
        run.wait(200, progress=False)
    assert "htdag release" in command("wait", "items", "--timeout", "60", status=1).stderr
    command("wait", "items", "--timeout", "0", "--holds-ok", "--no-progress", status=3)
    run.remove()
    assert states(run)[3] == ("3", "waiting")


def test_items_in_loops_and_what_their_rounds_used(runs_dir: Path):
    def one_round(numbers: htdag.Stage) -> htdag.Stage:
        return numbers.map(lambda x: x + 1, name="step", chunk_size=1)

    end = htdag.iterate(one_round, htdag.source([0, 5]), max_rounds=3, name="loop")
    run = htdag.Pipeline(end).submit("loop", on="local").wait(200, progress=False)
    assert states(run, "step") == [("0", "done"), ("1", "done")]
    assert len(run.item_states("step", round=1)) == 2
    used = run.usage("step")
    assert [(job.rounds, job.key) for job in used] == [
        ((number,), key) for number in (1, 2, 3) for key in ("0", "1")
    ]
    assert run.usage("loop") == run.usage() == used


def hungry(x: int) -> int:
    time.sleep(0.2)
    return len(bytearray(x << 20)) >> 20


def test_what_jobs_have_used(runs_dir: Path):
    stage = htdag.source([1, 200], chunk_size=1).map(hungry)
    htdag.Pipeline(stage).submit("used", on="local").wait(200, progress=False)
    small, large = htdag.load("used").usage("hungry")
    assert (small.key, large.key) == ("0", "1")
    assert large.memory > small.memory + 150
    assert small.seconds >= small.stages["hungry"] >= 0.2
    assert small.disk > 0
    rows = list(csv.DictReader(io.StringIO(command("usage", "used", "hungry", "--csv").output)))
    assert [(row["tag"], row["key"], row["stages"].split()[0]) for row in rows] == [
        ("used", "0", "hungry"),
        ("used", "1", "hungry"),
    ]
    assert json.loads(command("usage", "us*", "--json").output)[1]["node"] == "hungry"
    assert command("usage", "used").output.count("hungry") == 2
    assert command("path", "used").output == f"{htdag.load('used').path}\n"


def test_csv_of_runs_and_stages(runs_dir: Path):
    htdag.Pipeline(htdag.map(abs, [1])).submit("a, b", on="local").wait(200, progress=False)
    (row,) = csv.DictReader(io.StringIO(command("runs", "--csv").output))
    assert (row["tag"], row["state"]) == ("a, b", "done")
    (row,) = csv.DictReader(io.StringIO(command("status", "--all", "--csv").output))
    assert (row["tag"], row["stage"], row["total"], row["done"]) == ("a, b", "abs", "1", "1")
    assert command("runs", "--state", "failed", "--csv").output == ""


def test_the_traceback_is_on_standard_error_too(runs_dir: Path, tmp_path: Path):
    (tmp_path / "go").touch()
    run = begun("streams", tmp_path, "local")
    with pytest.raises(htdag.RunFailed):
        run.wait(200, progress=False)
    text = run.stderr("work", 1)
    assert text.startswith("before\nwork, item 1 failed:\nTraceback (most recent call last):\n")
    assert text.endswith("\nValueError: not one\n")
    assert run.stderr("work", 2) == "before\n"
    assert run.errors()[0].stderr == "before\n"  # what it printed, and not once more the error
    with pytest.raises(htdag.RunFailed):
        run.rerun(errors=True).wait(200, progress=False)
    assert [job.attempt for job in run.usage("work") if job.chunk == 0] == [2]
    assert run.stderr("work", 1) == text
    assert run.stderr("work").count("Traceback") == 1


def test_a_reduce_that_is_done_again_is_counted_once(runs_dir: Path):
    flow = htdag.Pipeline(
        htdag.source(range(4)).reduce(operator.add, name="sum", associative=False)
    )
    run = flow.submit("again", on="local").wait(200, progress=False)
    run.rerun("sum").wait(200, progress=False)
    assert (run.status()["sum"].done, run.status()["sum"].total) == (4, 4)


def test_a_question_that_is_denied_and_tags_on_standard_input(runs_dir: Path):
    cached = htdag.Pipeline(htdag.map(abs, [1], cache=True))
    cached.submit("kept", on="local").wait(200, progress=False)
    assert "nothing was removed" in command("cache", "clear", stdin="n\n", status=1).stderr
    refused = command("clean", "-", stdin="kept\n", status=2)
    assert "htdag clean - --yes" in refused.stderr
    assert command("clean", "-", "--yes", stdin="kept\n").output.endswith("deleted: 1\n")
    assert htdag.runs() == []
