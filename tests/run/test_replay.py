"""Items done again in this process, and what items have printed."""

from __future__ import annotations

import json
import operator
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import htdag
from htdag import cli

PROGRAM = [sys.executable, "-c", "from htdag.cli import main; main()"]


def halve(x):
    sys.stdout.write(f"halving {x}\n")
    return x / 2


def letters(x):
    return "abc"[: int(x)]


def shout(text, table=None):
    Path("scratch.txt").write_text("here")
    if text == "b":
        raise ValueError("no b")
    return text.upper()


def join(a, b):
    if b == "C":
        raise KeyError(b)
    return a + b


def pairs_of(text):
    return (text, 1)


def write_files(x):
    return sorted(os.listdir("."))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a stage of each kind, in which one item fails and the rest is let go."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTDAG_HOME", str(home))
        skip = {"on_error": "skip", "max_errors": 99}
        numbers = htdag.source([2, 4, 6], name="numbers", chunk_size=2)
        found = numbers.map(halve, **skip).flat_map(letters, **skip)
        loud = found.map(shout, **skip, bind={"table": numbers}, name="loud")
        ordered = htdag.source(list("ABCD"), name="text").reduce(
            join, associative=False, name="ordered", **skip
        )
        counted = loud.map(pairs_of, **skip).reduce_by_key(operator.add, name="counted", **skip)
        total = numbers.map(halve, name="again", **skip).reduce(operator.add, name="total", **skip)
        flow = htdag.Pipeline(counted, total, ordered, numbers.batch(2).map(len, name="sizes"))
        yield flow.submit("debugged", on="local").wait(200)


def test_an_item_is_done_again_with_its_true_input(run):
    done = run.debug("letters", 1, pdb=False)
    assert done.item == 4
    assert done.steps == [("halve", "1", 2.0), ("letters", "1.0", "a"), ("letters", "1.1", "b")]
    assert done.results == ["a", "b"]
    assert done.error is None
    assert "halve returned: 2.0" in str(done)


def test_what_it_raised_and_where(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run.debug("loud", "1.1", pdb=False)  # one of those that item 1 is made into
    assert (done.failed_in, done.key, done.item) == ("loud", "1.1", "b")
    assert isinstance(done.error, ValueError)
    assert done.traceback().splitlines()[1].endswith("in shout")
    assert os.getcwd() == str(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert json.dumps(done.as_dict())


def test_other_chunks_views_and_combining_stages(run):
    assert run.debug("halve", 2, pdb=False).item == 6
    assert run.debug("sizes", 0, pdb=False).results == [2]
    # What stands in the chunk before it is combined with it, as in the job.
    assert run.debug("total", 1, pdb=False).results == [3.0]


def test_large_values_are_combined(runs_dir):
    flow = htdag.Pipeline(htdag.source([70_000, 80_000], chunk_size=2).map(bytes).reduce(max))
    run = flow.submit("large", on="local").wait(200)
    assert run.debug("max", 1, pdb=False).results == [bytes(80_000)]


def test_a_reduce_in_one_job_is_done_as_far_as_it_goes(run):
    done = run.debug("ordered", 2, pdb=False)
    assert (done.failed_in, done.key, done.item) == ("ordered", "2", "C")
    assert isinstance(done.error, KeyError)


def test_items_that_are_not_there(run):
    with pytest.raises(htdag.errors.UsageError, match="has no item '7'"):
        run.debug("halve", 7, pdb=False)
    with pytest.raises(htdag.errors.UsageError, match="did you mean 'halve'"):
        run.debug("halv", 1, pdb=False)
    with pytest.raises(htdag.errors.UsageError, match="it is a source"):
        run.debug("numbers", 1, pdb=False)


def test_the_command_prints_what_ran(run, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", str(run.path.parent.parent))
    result = CliRunner().invoke(cli.main, ["debug", "debugged", "loud", "1.1", "--no-pdb"])
    assert result.exit_code == 1
    assert "loud raised: ValueError: no b" in result.output
    assert "in shout" in result.output
    result = CliRunner().invoke(cli.main, ["debug", "debugged", "halve", "0", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.output.partition("\n")[2])["item"] == "2"


@pytest.mark.parametrize(
    ("words", "typed", "shown"),
    [
        (["loud", "1.1"], b"p text\nq\n", b"'b'"),
        (["halve", "1", "--step"], b"p x\nc\n", b"4"),
    ],
)
def test_the_debugger_opens_in_a_terminal(run, words, typed, shown):
    environment = os.environ | {"HTDAG_HOME": str(run.path.parent.parent), "TERM": "dumb"}
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*PROGRAM, "debug", "debugged", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
    ) as process:
        os.close(theirs)
        os.write(ours, typed)
        text = b""
        try:
            while True:
                text += os.read(ours, 1000)
        except OSError:
            pass
        process.wait(200)
    os.close(ours)
    assert b"(Pdb) " in text
    assert shown in text.partition(b"(Pdb) ")[2]


# Streams


def speak(x, folder):
    sys.stdout.write(f"begin {x}\n")
    while x and not (Path(folder) / "go").exists():
        time.sleep(0.02)
    sys.stdout.write(f"end {x}\n")
    return x


def test_what_is_printed_can_be_read_while_jobs_run(tmp_path, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path / "home"))
    folder = str(tmp_path)
    stage = htdag.source(range(3), chunk_size=3).map(lambda x: speak(x, folder), name="speak")
    run = htdag.Pipeline(stage).submit(on="local")
    try:
        deadline = time.monotonic() + 200
        while "begin 1" not in _or_none(run) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert run.stdout("speak", 0) == "begin 0\nend 0\n"
        assert run.stdout("speak", 1) == "begin 1\n"
        assert run.stdout("speak") == "begin 0\nend 0\nbegin 1\n"
    finally:
        (tmp_path / "go").touch()
    run.wait(200)
    assert run.stdout("speak", "2") == "begin 2\nend 2\n"
    assert run.stderr("speak", "2") == ""
    with pytest.raises(htdag.errors.UsageError, match="has no item"):
        run.stdout("speak", 3)


def _or_none(run):
    try:
        return run.stdout("speak", 1)
    except TimeoutError:
        return ""


@pytest.mark.pool
def test_what_jobs_print_on_a_point_that_shares_no_files(pool, runs_dir, tmp_path):
    """On HTCondor it is fetched from the execute point, with the record that says whose it is."""

    def slow(x):
        sys.stdout.write(f"begin {x}\n")
        time.sleep(60 if x == 1 else 0)
        return x

    with pool.only("blind"):
        run = htdag.Pipeline(htdag.source(range(3), chunk_size=3).map(slow, name="speak")).submit(
            on="condor"
        )
        deadline = time.monotonic() + 200
        while "begin 1" not in _or_none(run) and time.monotonic() < deadline:
            time.sleep(0.3)
        assert not (run.path / "nodes/speak/out/0000.1.record").exists()
        assert run.stdout("speak", 0) == "begin 0\n"
        assert run.stdout("speak", 1) == "begin 1\n"
        assert run.stdout("speak") == "begin 0\nbegin 1\n"
        run.remove(force=True)


def test_a_job_that_did_not_begin_has_printed_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))
    first = htdag.source([1]).map(abs, name="first")
    flow = htdag.Pipeline(
        first.map(lambda x: 1 / 0, name="bad", fuse=False).map(abs, name="after", fuse=False)
    )
    run = flow.submit(on="local")
    with pytest.raises(htdag.RunFailed):
        run.wait()
    for call in (lambda: run.stdout("after"), lambda: run.stdout("after", 0)):
        with pytest.raises(TimeoutError):
            call()
    with pytest.raises(TimeoutError):
        run.debug("after", 0, pdb=False)
