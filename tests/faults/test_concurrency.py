"""Several processes, or threads of one, that make, go on with and delete runs at the same time."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import htdag
from htdag.backends.local import LocalBackend
from htdag.catalog.lookup import new_tag
from htdag.errors import HtdagError, RunActive, StageNameError


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path / "home"))


def flow(number: int = 0) -> htdag.Pipeline:
    return htdag.Pipeline(htdag.map(abs, [-number, number + 1]), name="flow")


def at_once(act, count=8):
    """What a function of a number gives, or raises, in threads that begin together."""
    gate = threading.Barrier(count)

    def one(number):
        gate.wait()
        try:
            return act(number)
        except HtdagError as error:
            return error

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


def test_runs_of_one_second_have_tags_of_their_own():
    def run(number):
        return flow(number).submit(on="local").wait(progress=False)

    before = os.getcwd(), dict(os.environ), signal.getsignal(signal.SIGINT)
    runs = at_once(run)
    assert [run.result() for run in runs] == [[number, number + 1] for number in range(8)]
    assert len({run.tag for run in runs}) == 8
    assert all(run.transient for run in runs)
    assert before == (os.getcwd(), dict(os.environ), signal.getsignal(signal.SIGINT))


def test_a_tag_that_led_to_no_run_is_free_again(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(LocalBackend, "check_directory", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        flow().submit(on="local")
    assert list((tmp_path / "home" / "runs").iterdir()) == []
    assert new_tag("flow").startswith("flow-")
    assert htdag.runs() == []


def test_of_submissions_with_one_tag_one_is_made():
    made = at_once(lambda number: flow(number).submit("one", on="local"), 4)
    refused = [each for each in made if isinstance(each, StageNameError)]
    assert len(refused) == 3, made
    assert all("a run with the tag 'one' already" in str(error) for error in refused)
    (number,) = (number for number, each in enumerate(made) if each not in refused)
    assert htdag.load("one").wait(progress=False).result() == [number, number + 1]
    assert os.listdir(made[number].path.parent) == ["one"]


def test_a_run_is_gone_on_with_once():
    run = flow().submit("one", on="local").wait(progress=False)
    (run.path / "nodes" / "abs" / "out" / "0000.1.record").unlink()
    gone_on = at_once(lambda _: htdag.load("one").resume(), 3)
    assert sorted(type(each).__name__ for each in gone_on if isinstance(each, HtdagError)) == [
        "RunActive",
        "RunActive",
    ]
    assert run.wait(progress=False).result() == [0, 1]


def test_what_is_being_submitted_is_not_cleaned_up(monkeypatch):
    submit = LocalBackend.submit
    cleaned = []

    def slow_submit(*args, **options):
        with ThreadPoolExecutor(1) as another:
            cleaned.append(another.submit(htdag.clean, "*").result())
            with pytest.raises(RunActive):
                another.submit(htdag.load("one").delete).result()
        return submit(*args, **options)

    monkeypatch.setattr(LocalBackend, "submit", slow_submit)
    run = flow(3).submit("one", on="local").wait(progress=False)
    assert cleaned == [[]]
    again = flow(4).submit("one", on="local", resume=True).wait(progress=False)
    assert cleaned == [[], []]
    assert (run.tag, again.result()) == ("one", [4, 5])
    assert [each.tag for each in htdag.clean("*")] == ["one"]
