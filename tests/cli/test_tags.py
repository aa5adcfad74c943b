"""Commands for several runs, and the completion of tags."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import htdag
from htdag import cli
from htdag.cli.arguments import choose, is_pattern
from htdag.errors import RunNotFound, UsageError

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = [sys.executable, "-c", "from htdag.cli import main; main()"]


def refuse_two(x):
    if x == 2:
        raise ValueError("no two")
    return x


@pytest.fixture(scope="module")
def module_home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTDAG_HOME", str(home))
        for tag, items in (("a 1", [1]), ("a 2", [2]), ("b", [3])):
            run = htdag.Pipeline(htdag.map(refuse_two, items)).submit(tag, on="local")
            if items == [2]:
                with pytest.raises(htdag.RunFailed):
                    run.wait()
            else:
                run.wait()
    return home


@pytest.fixture
def home(module_home, monkeypatch) -> Path:
    monkeypatch.setenv("HTDAG_HOME", str(module_home))
    return module_home


def command(*words: str, status: int = 0, stdin: str | None = None):
    result = CliRunner().invoke(cli.main, list(words), input=stdin)
    assert result.exit_code == status, result.output
    return result


def tags(*words: str, every: bool = False) -> list[str]:
    return [run.tag for run in choose(words, every)]


def test_tags_are_taken_in_the_order_in_which_they_are_named(home):
    assert tags("b", "a 1") == ["b", "a 1"]
    assert tags("b", "a*", "a 1") == ["b", "a 1", "a 2"]
    assert tags(every=True) == ["a 1", "a 2", "b"]


def test_what_names_no_run_is_a_mistake(home):
    for words, every in (((), False), (("b",), True), (("x*",), False)):
        with pytest.raises(UsageError):
            choose(words, every)
    with pytest.raises(RunNotFound, match="did you mean 'a 1'"):
        choose(["a 11"], False)


def test_a_stage_may_follow_the_tags(home):
    assert command("errors", "a 2", "refuse_two").stdout == command("errors", "a 2").stdout
    with_option = command("errors", "a*", "--stage", "refuse_two").stdout
    assert command("errors", "a*", "refuse_two").stdout == with_option
    assert command("errors", "--all", "refuse_two").stdout.count("== ") == 3
    assert command("errors", "-", "refuse_two", stdin="b\n").stdout == "== b\nno errors\n"
    told = command("errors", "a 2", "refuse_too", status=2).stderr
    assert "'refuse_too' is neither a run nor a stage of 'a 2'; did you mean 'refuse_two'?" in told
    assert "did you mean 'b'" not in command("errors", "c", "refuse_two", status=2).stderr


def test_a_word_that_is_a_run_and_a_stage_is_asked_about(home):
    run = htdag.Pipeline(htdag.map(refuse_two, [2], name="b")).submit("same", on="local")
    with pytest.raises(htdag.RunFailed):
        run.wait()
    told = command("errors", "same", "b", status=2).stderr
    assert "'b' is a run, and a stage of 'same': say --stage b" in told
    assert "1 error" in command("errors", "same", "--stage", "b").stdout
    run.delete()


def test_patterns_are_told_from_tags():
    assert [is_pattern(word) for word in ("a", "a*", "a?", "[ab]", "-")] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_status_of_several_is_a_list_in_json(home):
    one = json.loads(command("status", "b", "--json").stdout)
    assert one["tag"] == "b"
    for words in (["b", "a 1"], ["[ab]*"], ["--all"], ["b*"]):
        found = json.loads(command("status", *words, "--json").stdout)
        assert isinstance(found, list)
    text = command("status", "--all").stdout
    assert text.index("a 1: done") < text.index("a 2: failed") < text.index("b: done")


def test_tags_from_standard_input(home):
    listed = command("runs", "a*", "--tags").stdout
    assert listed == "a 1\na 2\n"
    found = json.loads(command("status", "-", "--json", stdin=listed).stdout)
    assert [status["tag"] for status in found] == ["a 1", "a 2"]
    assert "no tag on standard input" in command("status", "-", stdin="\n", status=2).stderr


def test_the_highest_exit_status_counts_and_the_others_are_done_all_the_same(home):
    result = command("wait", "--all", "--no-progress", status=1)
    assert "no two" in result.stderr
    result = command("remove", "a*", "b")
    assert result.stdout.count("has already ended") == 3


@pytest.mark.parametrize("verb", ["hold", "pause", "continue", "vacate", "halt"])
def test_of_several_runs_those_that_have_ended_have_no_jobs_to_act_on(home, verb):
    result = command(verb, "a*", "b")
    assert [line.split(":")[1:] for line in result.stderr.splitlines()] == [
        [" run 'a 1' has already ended", " done"],
        [" run 'a 2' has already ended", " failed"],
        [" run 'b' has already ended", " done"],
    ]
    assert json.loads(command(verb, "--all", "--json").stdout) == []
    assert json.loads(command(verb, "-", "--json", stdin="b\na 1\n").stdout) == []
    assert "there are no jobs to" in command(verb, "b", status=2).stderr


def test_what_is_told_of_several_stands_below_their_tags(home):
    lines = command("why", "a*").stdout.splitlines()
    assert [line for line in lines if line.startswith("==")] == ["== a 1", "== a 2"]
    found = json.loads(command("why", "a*", "--json").stdout)
    assert [(reason["tag"], reason["about"]) for reason in found] == [
        ("a 1", "the run"),
        ("a 2", "the run"),
    ]
    assert json.loads(command("jobs", "--all", "--json").stdout) == []
    assert "no stage or node 'c'" in command("jobs", "--all", "--stage", "c", status=2).stderr


def test_runs_by_state(home):
    assert command("runs", "--state", "failed", "--tags").stdout == "a 2\n"
    assert command("runs", "--state", "done", "--tags", "a*").stdout == "a 1\n"
    assert "no run is held" in command("runs", "--state", "held").stderr
    assert command("runs", "--state", "failde", status=2).stderr


def completed(words: str, shell: str = "bash") -> list[str]:
    environment = os.environ | {
        "_HTDAG_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1 + words.endswith(" ")),
    }
    done = subprocess.run(
        PROGRAM, env=environment, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_shells_complete_verbs_and_tags(home):
    assert completed("htdag sta") == ["status"]
    assert completed("htdag status ") == ["a\\ 1", "a\\ 2", "b"]
    assert completed("htdag result b") == ["b"]
    assert completed("htdag status 'a") == ["a 1", "a 2"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_code_for_a_shell(shell, tmp_path):
    code = command("completion", shell).stdout
    assert f"_HTDAG_COMPLETE={shell}_complete" in code
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=code, text=True, check=True)
