"""on_success and on_failure: what is called at the end of a run, and that it changes nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import htdag
from htdag.errors import FinalFailed, FunctionError
from htdag.observe.final import FinalCall

if TYPE_CHECKING:
    pass


def fails_without(path: Path, x: int) -> int:
    if not path.exists():
        raise ValueError(f"no file for {x}")
    return x


def ended(run: htdag.Run) -> htdag.RunState:
    try:
        run.wait(timeout=200, progress=False)
    except htdag.RunFailed:
        assert run.state is htdag.RunState.FAILED
    return run.state


def shown(calls: list[FinalCall]) -> list[tuple[str, str, str]]:
    return [(call.function, call.when, call.error) for call in calls]


def test_what_is_called_when_a_run_fails_and_when_it_is_done(
    on: str, tmp_path: Path, runs_dir: Path
):
    tmp_path.chmod(0o777)
    there = tmp_path / "there"
    flow = htdag.Pipeline(
        htdag.source([1, 2], chunk_size=2).map(lambda x: fails_without(there, x), name="work"),
        name="flow",
    )

    @flow.on_failure
    def complain(summary: htdag.RunSummary) -> None:
        (first, *others) = summary.errors
        print(summary.tag, summary.state, first.stage, first.key, first.message, len(others))  # noqa: T201
        # Their frames are in the record of the job once.
        print(*(error.traceback.count("in fails_without\n") for error in summary.errors))  # noqa: T201

    @flow.on_success
    def celebrate(summary: htdag.RunSummary) -> None:
        assert os.getcwd() == summary.path
        print(summary.state, htdag.load(summary.tag).result())  # noqa: T201
        raise RuntimeError("no cake")

    run = flow.submit("at the end", on=on)
    assert ended(run) is htdag.RunState.FAILED
    assert shown(run.final()) == [("complain", "failure", "")]
    assert run.final()[0].stdout == "at the end failed work 0 no file for 1 1\n1 1\n"
    there.touch()
    # What is called at the end fails, the run does not.
    with pytest.warns(FinalFailed, match="on_success, celebrate: failed: RuntimeError: no cake"):
        assert ended(run.resume()) is htdag.RunState.DONE
    assert shown(run.final())[1:] == [("celebrate", "success", "RuntimeError: no cake")]
    assert run.final()[1].stdout == "done [1, 2]\n"
    assert 'raise RuntimeError("no cake")' in run.final()[1].traceback
    assert "no cake" in str(run.status())
    assert run.result() == [1, 2]


def test_a_function_that_ends_its_process_is_reported(runs_dir: Path):
    flow = htdag.Pipeline(htdag.map(abs, [1]))
    flow.on_success(lambda summary: os._exit(7))
    run = flow.submit(on="local")
    with pytest.warns(FinalFailed, match="status 7"):
        assert ended(run) is htdag.RunState.DONE


def test_no_function_is_called_for_a_run_that_was_removed(runs_dir: Path, tmp_path: Path):
    flow = htdag.Pipeline(htdag.map(lambda x: __import__("time").sleep(60), [1]))
    flow.on_failure(print)
    run = flow.submit(on="local")
    run.remove()
    assert run.state is htdag.RunState.REMOVED
    assert run.final() == []


def test_functions_are_checked_at_once():
    flow = htdag.Pipeline(htdag.map(abs, [1]))
    with pytest.raises(FunctionError, match="on_success"):
        flow.on_success(lambda: None)
    with pytest.raises(FunctionError, match="on_failure"):
        flow.on_failure("notify")  # type: ignore[type-var]


def test_the_node_has_a_name_that_no_other_has(runs_dir: Path, tmp_path: Any):
    flow = htdag.Pipeline(htdag.map(abs, [1], name="on_end"))
    flow.on_success(print)
    dag = flow.compile(runs_dir / "compiled").read_text()
    assert "FINAL on_end_ nodes/on_end_/on_end_.sub" in dag
