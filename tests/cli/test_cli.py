"""The command line, on runs of the local backend."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import htdag
from htdag import cli
from htdag.show.results import json_text, value_lines

PROGRAM = [sys.executable, "-c", "from htdag.cli import main; main()"]
GOOD, BAD, RAW = "été an der Straße", "bad run", "two results"


def double(x):
    return 2 * x


def no_threes(x):
    if x % 10 == 3:
        sys.stdout.write("a three!\n")
        raise ValueError(f"no threes, so not {x}")
    return x


def until_released(x, path):
    while not Path(path).exists():
        time.sleep(0.02)
    return x


@pytest.fixture(scope="module")
def module_home(tmp_path_factory):
    """Three runs: one that is done, one that has failed, one with several targets."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTDAG_HOME", str(home))
        doubled = htdag.source(range(12)).map(double, chunk_size=6)
        total = doubled.reduce(lambda a, b: a + b)
        htdag.Pipeline(doubled, name="doubling").submit(GOOD, on="local").wait()
        failing = htdag.source(range(40)).map(no_threes, chunk_size=20)
        with pytest.raises(htdag.RunFailed):
            htdag.Pipeline(failing, name="threes").submit(BAD, on="local").wait()
        text = total.map(lambda number: f"the total:\n{number}", name="text")
        flow = htdag.Pipeline(text, total, name="several")
        flow.submit(RAW, on="local").wait()
    return home


@pytest.fixture
def home(module_home, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", str(module_home))
    return module_home


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))
    return tmp_path


def until_running(run):
    while run.status()["patient"].running < 2:
        time.sleep(0.01)


@pytest.fixture
def held_up(own_home):
    """A run that goes on until the file `release` is there."""
    release = own_home / "release"
    path = str(release)
    waiting = htdag.source([1, 2]).map(lambda x: until_released(x, path), name="patient")
    run = htdag.Pipeline(waiting).submit("held up", on="local")
    until_running(run)
    yield run
    run.remove(force=True)


def command(*words: str, status: int = 0):
    """The result of a command that ends with a status, without a traceback."""
    result = CliRunner().invoke(cli.main, list(words))
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output or "no threes" in result.output
    return result


def process(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*PROGRAM, *words],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )


# runs


def test_runs_lists_all_oldest_first(home):
    lines = command("runs").stdout.splitlines()
    assert lines[0].split() == ["tag", "state", "on", "pipeline", "created"]
    assert [line[: len(GOOD)].strip() for line in lines[1:]] == [GOOD, BAD, RAW]
    assert [line[len(GOOD) :].split()[0] for line in lines[1:]] == ["done", "failed", "done"]


def test_runs_takes_a_pattern(home):
    assert [run["tag"] for run in json.loads(command("runs", "*d*r*", "--json").stdout)] == [
        GOOD,
        BAD,
    ]


def test_runs_json_has_what_a_program_wants(home):
    (run,) = json.loads(command("runs", BAD, "--json").stdout)
    path = home / "runs" / BAD
    assert {**run, "created": None} == {
        "tag": BAD,
        "state": "failed",
        "backend": "local",
        "pipeline": "threes",
        "created": None,
        "path": str(path),
    }


def test_no_runs_at_all(own_home):
    result = command("runs")
    assert (result.stdout, result.stderr) == ("", "htdag: there are no runs\n")
    assert command("runs", "x*").stderr == "htdag: no run's tag matches 'x*'\n"
    assert json.loads(command("runs", "--json").stdout) == []


def test_runs_tells_of_a_run_that_was_never_submitted(own_home):
    flow = htdag.Pipeline(htdag.map(abs, [-1]))
    run = flow.submit("ticketless", on="local").wait()
    (run.path / "submit.json").unlink()
    assert "not submitted" in command("runs").stdout
    assert "never submitted" in command("status", "ticketless", status=2).stderr


# status


def test_status_shows_stages_and_place(home):
    output = command("status", BAD).stdout
    assert output.startswith("bad run: failed on this machine")
    (row,) = [line.split() for line in output.splitlines() if line.startswith("no_threes")]
    assert row == ["no_threes", "40", "36", "0", "0", "4", "0/2", "no_threes"]
    assert str(home / "runs" / BAD) in output


def test_status_json(home):
    content = json.loads(command("status", GOOD, "--json").stdout)
    assert content["tag"] == GOOD
    assert content["state"] == "done"
    assert content["ended"] is True
    assert content["targets"] == ["double"]
    (stage,) = content["stages"]
    assert (stage["name"], stage["total"], stage["done"], stage["waiting"]) == ("double", 12, 12, 0)


# wait


def test_wait_for_a_run_that_is_done(home):
    result = command("wait", GOOD)
    assert result.stdout == ""
    assert result.stderr == f"{GOOD}: done: double 12/12\n"
    assert command("wait", GOOD, "--no-progress").output == ""


def test_wait_for_a_run_that_failed(home):
    error = command("wait", BAD, status=1).stderr
    assert "no_threes, item 3" in error
    assert "ValueError: no threes, so not 3" in error
    assert "the first of 4 errors" in error


def test_wait_ends_in_time(held_up):
    start = time.monotonic()
    error = command("wait", "held up", "--timeout", "0.2", "--no-progress", status=3).stderr
    assert error == "htdag: run 'held up' is running, not done yet\n"
    assert time.monotonic() - start < 60
    assert command("wait", "held up", "--timeout", "-1", status=2)


def test_wait_until_the_end(held_up, own_home):
    (own_home / "release").touch()
    lines = command("wait", "held up").stderr.splitlines()
    assert lines[-1] == "held up: done: patient 2/2"


# errors


def test_errors_are_groups_with_an_example(home):
    lines = command("errors", BAD).stdout.splitlines()
    assert lines[0] == "4 errors, one cause"
    assert lines[2] == "1. 4 x ValueError: no threes, so not 3"
    assert lines[3].startswith("   in no_threes, items 3, 13, 23, 33 (all on ")
    assert lines[4:7] == [
        "   for example item 3:",
        "     given: 3",
        "     Traceback (most recent call last):",
    ]
    assert "           x = 3" in lines
    assert lines.count("     a three!") == 1


def test_errors_one_by_one(home):
    lines = command("errors", BAD, "--items").stdout.splitlines()
    assert lines[0] == "4 errors: 4 ValueError in no_threes"
    assert lines[2].startswith("no_threes, item 3 (")
    assert lines[2].endswith("): ValueError: no threes, so not 3")
    assert lines.count("  a three!") == 4
    output = command("errors", BAD, "--items", "--limit", "1").stdout
    assert output.count("Traceback") == 1
    assert output.endswith("\n3 more: a higher --limit shows them\n")


def test_all_that_is_known_of_an_item(home):
    text = command("errors", BAD, "--item", "13").stdout
    assert "job: node no_threes, chunk 0, attempt 1, on " in text
    assert f"Python {sys.version.split()[0]}" in text
    assert command("errors", BAD, "--item", "4").stdout == "no errors of item 4\n"


def test_errors_of_a_stage(home):
    assert command("errors", BAD, "--stage", "no_threes").stdout.startswith("4 errors")
    assert "it has: source, no_threes" in command("errors", BAD, "--stage", "x", status=2).stderr


def test_errors_json(home):
    (group,) = json.loads(command("errors", BAD, "--json").stdout)
    assert group["keys"] == ["3", "13", "23", "33"]
    errors = json.loads(command("errors", BAD, "--json", "--items").stdout)
    assert [error["key"] for error in errors] == ["3", "13", "23", "33"]
    assert errors[0]["type"] == "ValueError"
    assert errors[0]["stdout"] == "a three!\n"
    assert errors[0]["locals"][0]["names"] == {"x": "3"}
    assert len(json.loads(command("errors", BAD, "--json", "--items", "--limit", "2").stdout)) == 2


def test_no_errors(home):
    assert command("errors", GOOD).stdout == "no errors\n"
    assert json.loads(command("errors", GOOD, "--json").stdout) == []


# result


def test_result_of_items_is_a_line_each(home):
    assert command("result", GOOD).stdout.split() == [str(2 * x) for x in range(12)]
    assert json.loads(command("result", GOOD, "--json").stdout) == [2 * x for x in range(12)]


def test_result_of_a_target(home):
    assert command("result", RAW, "--target", "reduce").stdout == "132\n"
    assert command("result", RAW, "--target", "text").stdout == "'the total:\\n132'\n"
    assert "several targets, name one" in command("result", RAW, status=2).stderr


def test_result_of_a_run_that_failed(home):
    assert "run 'bad run' failed" in command("result", BAD, status=1).stderr


def test_result_that_is_not_there_yet(held_up):
    error = command("result", "held up", status=3).stderr
    assert "is running" in error
    assert "htdag wait 'held up'" in error


def test_result_whose_module_is_missing(own_home):
    class Pickled:
        def __reduce__(self):
            import importlib

            return importlib.import_module, ("no_such_module_here",)

    flow = htdag.Pipeline(htdag.map(lambda x: Pickled(), [1], name="pickled"))
    flow.submit("foreign", on="local").wait()
    error = command("result", "foreign", status=1).stderr
    assert "cannot be unpickled here: ModuleNotFoundError" in error
    assert "PYTHONPATH=. htdag result foreign" in error


class _Array:
    def tolist(self):
        return [1, 2]


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        ("two\nlines", ["two\nlines"]),
        (["a", 1], ["'a'", "1"]),
        ({"b": 1, "a": 2}, ["{'b': 1, 'a': 2}"]),
        ((1, 2), ["(1, 2)"]),
        (None, ["None"]),
    ],
)
def test_values_for_people(value, lines):
    assert value_lines(value) == lines


def test_values_for_programs():
    content = {"path": Path("a"), "array": _Array(), "é": (1,)}
    assert json.loads(json_text(content)) == {"path": "a", "array": [1, 2], "é": [1]}
    assert json_text("é").isascii()
    for value in (float("nan"), {1, 2}, object()):
        with pytest.raises(htdag.HtdagError, match="cannot be written as JSON"):
            json_text(value)


# resume and remove


def test_remove_and_resume(held_up, own_home):
    output = command("remove", "held up").stdout
    assert "To resume it: htdag resume 'held up'" in output
    assert held_up.state is htdag.RunState.REMOVED
    assert "it is removed" in command("remove", "held up").stdout
    assert "is running again on this machine" in command("resume", "held up").stdout
    until_running(held_up)
    assert "nothing to resume" in command("resume", "held up", status=2).stderr
    assert command("remove", "held up", "--force").stdout
    (own_home / "release").touch()
    assert command("resume", "held up", "--wait").stderr.endswith("done: patient 2/2\n")
    assert command("resume", "held up").stdout == "run 'held up' is done\n"


def test_resume_that_fails_again(home):
    assert "no threes" in command("resume", BAD, "--wait", "--no-progress", status=1).stderr


# mistakes, help, version


@pytest.mark.parametrize("verb", ["status", "wait", "errors", "result", "resume", "remove"])
def test_unknown_tags_are_mistakes(home, verb):
    error = command(verb, "bad rum", status=2).stderr
    assert error == ("htdag: there is no run with the tag 'bad rum'; did you mean 'bad run'?\n")


def test_mistakes_in_the_command(home):
    assert "did you mean 'status'?" in command("stauts", status=2).stderr
    assert "see: htdag --help" in command("xyzzy", status=2).stderr
    assert "Missing argument 'TAG'" in command("result", status=2).stderr
    assert "cannot be a tag" in command("status", "a/b", status=2).stderr


@pytest.mark.parametrize("verb", ["", *cli.main.commands])
def test_help(verb):
    words = [verb] if verb else []
    text = command(*words, "-h").stdout
    assert text == command(*words, "--help").stdout
    assert "Usage" in text
    assert verb == "version" or "Example" in text
    assert "..." not in text.partition("Commands:")[2]


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_the_help_lists_each_verb_once_below_a_title(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    listing = command("--help").stdout.partition("The basics:")[2].partition("Exit status:")[0]
    listed = re.findall(r"^  (\S+) ", listing, re.MULTILINE)
    assert sorted(listed) == sorted(cli.main.commands)
    assert listed[:6] == ["runs", "status", "wait", "errors", "resume", "result"]
    texts = {match.start(1) for match in re.finditer(r"^  \S+  +(\S)", listing, re.MULTILINE)}
    begin = {at - listing.rindex("\n", 0, at) for at in texts}
    assert len(begin) == 1
    assert columns < 80 or "..." not in listing


def test_version(monkeypatch, tmp_path):
    program = tmp_path / "condor_version"
    program.write_text("#!/bin/sh\necho '$CondorVersion: 25.1.2 2026-01-01 BuildID: 1 $'\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    lines = command("version").stdout.splitlines()
    assert lines[0] == f"htdag {htdag.__version__}"
    assert lines[1].startswith(f"Python {sys.version_info[0]}.{sys.version_info[1]}")
    assert lines[3] == "HTCondor 25.1.2"
    assert json.loads(command("version", "--json").stdout)["htcondor"] == "25.1.2"


def test_the_version_alone():
    assert command("--version").stdout == f"htdag {htdag.__version__}\n"


def test_version_without_htcondor(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "HTCondor was not found" in command("version").stdout


# As a program


def test_exit_statuses_of_the_program(home):
    done = process("wait", GOOD)
    assert (done.returncode, done.stdout) == (0, b"")
    assert process("wait", BAD).returncode == 1
    missing = process("status", "no such run")
    assert (missing.returncode, missing.stdout) == (2, b"")
    assert missing.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    "environment", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"COLUMNS": "30"}]
)
def test_pipes_get_whole_plain_lines_in_any_encoding(home, environment):
    for words in (["runs"], ["status", GOOD], ["wait", GOOD]):
        result = process(*words, **environment)
        assert result.returncode == 0, result.stderr
        assert b"\x1b" not in result.stdout + result.stderr
    lines = process("runs", **environment).stdout.decode().splitlines()
    assert len(lines) == 4
    assert all(re.search(r"  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", line) for line in lines[1:])
    assert len({line.index("20") for line in lines[1:]}) == 1


def test_a_reader_that_leaves_early_is_no_error(home):
    code = f"{shlex.join([*PROGRAM, 'result', GOOD])} | true"
    result = subprocess.run(code, shell=True, capture_output=True, check=False)
    assert result.stderr == b""


def test_ctrl_c_ends_the_waiting_and_not_the_run(held_up, own_home):
    words = [*PROGRAM, "wait", "held up"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr is not None
        waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        error = waiting.stderr.read()
        assert waiting.wait(200) == 130
    assert "the run 'held up' goes on" in error
    assert "Traceback" not in error
    assert held_up.state is htdag.RunState.RUNNING
    (own_home / "release").touch()
    assert held_up.wait(200).result() == [1, 2]


def in_terminal(*words: str, interrupt: bool = False, columns: int = 80) -> tuple[int, str]:
    """Exit status and output of a command in a terminal."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS=str(columns), LINES="24")
        os.execv(sys.executable, [*PROGRAM, *words])
    output = b""
    while True:
        try:
            data = os.read(terminal, 10_000)
        except OSError:
            break
        output += data
        if interrupt and b"patient" in output:
            os.write(terminal, b"\x03")
            interrupt = False
        if not data:
            break
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), output.decode()


def test_ctrl_c_in_a_terminal_restores_the_cursor(held_up):
    status, output = in_terminal("wait", "held up", interrupt=True)
    assert status == 130
    assert "\x1b[?25l" in output
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")
    assert "goes on" in output


def test_terminals_get_colours_and_whole_tags(home):
    status, output = in_terminal("runs")
    assert status == 0
    assert "\x1b[32mdone" in output
    assert GOOD in output


def test_narrow_terminals_get_what_fits(home):
    _, output = in_terminal("status", BAD, columns=60)
    rows = [line.split() for line in re.sub(r"\x1b[^m]*m", "", output).splitlines()]
    assert ["stage", "items", "done", "running", "failed", "jobs"] in rows
    assert ["no_threes", "40", "36", "0", "4", "0/2"] in rows


def test_usage_of_many_jobs_is_summed_up(own_home):
    doubled = htdag.source(range(30)).map(double, chunk_size=1, name="doubled")
    htdag.Pipeline(doubled).submit("many", on="local").wait(progress=False)
    lines = command("usage", "many").stdout.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["node", "jobs", "items"],
        ["doubled", "30", "30"],
        ["all", "30", "30"],
    ]
    assert len(command("usage", "many", "--jobs").stdout.splitlines()) == 32
    assert len(json.loads(command("usage", "many", "--json").stdout)) == 30


def test_wait_says_what_was_let_go(own_home, capsys):
    failing = htdag.source(range(20)).map(no_threes, on_error="skip", max_errors=2, name="threes")
    run = htdag.Pipeline(failing).submit("threes", on="local").wait(progress=False)
    assert "2 failed items skipped" in capsys.readouterr().err
    run.wait(progress=False)
    assert capsys.readouterr().err == ""
    assert command("wait", "threes").stderr.count("skipped") == 1


def test_a_wait_that_is_interrupted_says_how_to_come_back(own_home, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    stage = htdag.source([1]).map(lambda x: until_released(x, own_home / "go"))
    run = htdag.Pipeline(stage).submit("patient", on="local")
    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt, match="goes on; to wait again: htdag wait patient"):
        run.wait(progress=False)
    monkeypatch.undo()
    monkeypatch.setenv("HTDAG_HOME", str(own_home))
    (own_home / "go").touch()
    assert run.wait(progress=False).result() == [1]
