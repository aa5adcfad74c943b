"""Nodes have POST scripts where exit statuses cannot judge, and only there."""

from __future__ import annotations

import functools
import operator
from pathlib import Path
from typing import Any

import pytest
import reference

import htdag
from htdag.backends import pending
from htdag.backends.condor import abilities
from htdag.compile.scheduler import ANY, Scheduler
from htdag.runtime import layout
from htdag.runtime.layout import NodeFiles

KEEPS = Scheduler(keeps_jobs=True)


def compiled(tmp_path: Path, scheduler: Scheduler = KEEPS, **options: Any) -> Path:
    """A run of three jobs, and one that adds what they gave; options are of the first node."""
    first = htdag.source(range(6), chunk_size=2).map(abs, name="first", **options)
    total = first.reduce(operator.add, name="total", chunk_size=100, retries=0, on_error="finish")
    flow = htdag.Pipeline(first, total, name="flow")
    return reference.compiled(flow, tmp_path / "run", scheduler)


def scripts(run: Path) -> set[str]:
    """The nodes that have a POST script."""
    lines = (run / "flow.dag").read_text().splitlines()
    return {line.split()[2] for line in lines if line.startswith("SCRIPT POST")}


def tells(run: Path, node: str) -> bool:
    return " work-status " in Path(NodeFiles(run, node).submit).read_text()


def test_nodes_without_retries_need_no_script(tmp_path: Path):
    run = compiled(tmp_path)
    assert scripts(run) == set()
    assert tells(run, "first")
    assert tells(run, "total")
    assert "\nDAGMAN_REMOVE_JOB_LIST_ON_FAILURE = False\n" in (run / layout.CONFIG).read_text()


@pytest.mark.parametrize(
    "options",
    [
        {"retries": 1},
        {"on_error": "skip", "max_errors": 1},
        {"submit": {"max_retries": 2}},
        {"submit": {"On_Exit_Hold": "False"}},
    ],
)
def test_where_more_than_the_status_counts_the_script_stays(
    tmp_path: Path, options: dict[str, Any]
):
    run = compiled(tmp_path, **options)
    assert scripts(run) == {"first"}
    assert not tells(run, "first")
    assert tells(run, "total")


def test_before_a_loop_the_script_stays(tmp_path: Path):
    first = htdag.source(range(6), chunk_size=2).map(abs, name="first")
    total = first.reduce(operator.add, name="total")
    loop = htdag.iterate(lambda state: state.map(abs), total, max_rounds=2, name="loop")
    run = reference.compiled(htdag.Pipeline(loop, name="flow"), tmp_path / "run", KEEPS)
    assert scripts(run) == {"total", "loop"}


def test_other_submit_commands_do_not_matter(tmp_path: Path):
    run = compiled(tmp_path, submit={"+ProjectName": '"max_retries = 1"'})
    assert scripts(run) == set()


def test_an_older_dagman_would_remove_the_other_jobs(tmp_path: Path):
    run = compiled(tmp_path, ANY)
    assert scripts(run) == {"first"}  # the other node has one job only


def test_a_run_that_stops_at_the_first_error_has_the_other_jobs_removed(tmp_path: Path):
    run = compiled(tmp_path, on_error="stop")
    assert scripts(run) == {"first"}
    assert "REMOVE_JOB_LIST" not in (run / layout.CONFIG).read_text()


def test_a_run_of_0_1_0_gets_back_the_scripts_that_were_taken_out(tmp_path: Path):
    run = compiled(tmp_path, retries=1)
    dag = run / "flow.dag"
    before = dag.read_text()
    spared = "# Not needed at the first try, the exit status of the jobs tells: SCRIPT POST"
    dag.write_text(before.replace("SCRIPT POST", spared))
    path = Path(NodeFiles(run, "first").submit)
    text = path.read_text()
    path.write_text(text.replace("arguments = runtime.pyz work ", "arguments = work-status "))
    pending.restore_post_scripts(run, "flow.dag")
    assert dag.read_text() == before
    assert path.read_text() == text.replace("arguments = runtime.pyz work ", "arguments = work ")


def until_mended(folder: Path, x: int) -> int:
    with open(folder / "calls", "a") as file:
        file.write(f"{x}\n")
    if x == 0 and not (folder / "mended").exists():
        raise ValueError("not yet")
    return x


@pytest.mark.pool
def test_the_other_jobs_of_a_node_end_before_it_fails(pool: Any, runs_dir: Path, tmp_path: Path):
    tmp_path.chmod(0o777)  # the blind execute point shares it
    stage = htdag.source(range(12), chunk_size=1).map(
        functools.partial(until_mended, tmp_path), name="items"
    )
    total = stage.reduce(operator.add, name="total")
    run = htdag.Pipeline(total, name="flow").submit(on="condor")
    # Before DAGMAN_REMOVE_JOB_LIST_ON_FAILURE a node of several jobs cannot do without its script.
    keeps = abilities.scheduler().keeps_jobs
    assert scripts(run.path) == (set() if keeps else {"items"})
    with pytest.raises(htdag.RunFailed, match="not yet"):
        run.wait(timeout=200, progress=False)
    # Twelve jobs on eight slots: most would not have begun when the first had failed.
    assert (run.status()["items"].done, run.status()["items"].failed) == (11, 1)
    (tmp_path / "mended").touch()
    run.resume().wait(timeout=200, progress=False)
    assert run.result() == sum(range(12))
    assert scripts(run.path) == (set() if keeps else {"items"})  # as before
    assert sorted((tmp_path / "calls").read_text().split(), key=int) == ["0", *map(str, range(12))]
