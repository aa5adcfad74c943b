"""POST scripts are spared where exit statuses judge, and only there."""

from __future__ import annotations

import functools
import operator
import shutil
from pathlib import Path
from typing import Any

import pytest
import reference

import htdag
from htdag.backends import abilities, judging
from htdag.runtime import layout

KNOWS = b"...\0DAGMAN_REMOVE_JOB_LIST_ON_FAILURE\0..."


@pytest.fixture
def dagman(tmp_path: Path) -> Path:
    path = tmp_path / "condor_dagman"
    path.write_bytes(KNOWS)
    return path


def compiled(tmp_path: Path, **options: Any) -> Path:
    """A run of three jobs, and one that adds what they gave; options are of the first node."""
    first = htdag.source(range(6), chunk_size=2).map(abs, name="first", **options)
    total = first.reduce(operator.add, name="total", chunk_size=100, retries=0, on_error="finish")
    return reference.compiled(htdag.Pipeline(first, total, name="flow"), tmp_path / "run")


def contents(run: Path) -> dict[str, str]:
    paths = [run / "flow.dag", *sorted(run.glob("nodes/*/*.sub"))]
    return {path.name: path.read_text() for path in paths}


def scripts(run: Path) -> set[str]:
    """The nodes that have a POST script."""
    lines = (run / "flow.dag").read_text().splitlines()
    return {line.split()[2] for line in lines if line.startswith("SCRIPT POST")}


def tells(run: Path, node: str) -> bool:
    return "arguments = work-status " in (run / layout.submit(node)).read_text()


def test_nodes_without_retries_need_no_script(tmp_path: Path, dagman: Path):
    run = compiled(tmp_path)
    before = contents(run)
    assert scripts(run) == {"first", "total"}
    judging.spare_scripts(run, "flow.dag", dagman)
    assert scripts(run) == set()
    assert tells(run, "first")
    assert tells(run, "total")
    assert "\nDAGMAN_REMOVE_JOB_LIST_ON_FAILURE = False\n" in (run / layout.CONFIG).read_text()
    judging.restore_scripts(run, "flow.dag")
    assert contents(run) == before


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
    tmp_path: Path, dagman: Path, options: dict[str, Any]
):
    run = compiled(tmp_path, **options)
    judging.spare_scripts(run, "flow.dag", dagman)
    assert scripts(run) == {"first"}
    assert not tells(run, "first")
    assert tells(run, "total")


def length(path: Path) -> int:
    return len(path.read_text())


def twin(path: Path) -> tuple[str, Path]:
    return path.name, path


@pytest.mark.parametrize(("function", "kept"), [(length, set()), (twin, {"first"})])
def test_files_that_may_travel_on_need_the_script(
    tmp_path: Path, dagman: Path, function: Any, kept: set[str]
):
    (tmp_path / "text").write_text("text")
    first = htdag.files([tmp_path / "text"]).map(function, name="first")
    flow = htdag.Pipeline(first.map(str, name="second", fuse=False), name="flow")
    run = reference.compiled(flow, tmp_path / "run")
    judging.spare_scripts(run, "flow.dag", dagman)
    assert scripts(run) == kept


def test_other_submit_commands_do_not_matter(tmp_path: Path, dagman: Path):
    run = compiled(tmp_path, submit={"+ProjectName": '"max_retries = 1"'})
    judging.spare_scripts(run, "flow.dag", dagman)
    assert scripts(run) == set()


@pytest.mark.parametrize("content", [b"an older version", None])
def test_an_older_dagman_would_remove_the_other_jobs(
    tmp_path: Path, dagman: Path, content: bytes | None
):
    dagman.unlink()
    if content is not None:
        dagman.write_bytes(content)
    run = compiled(tmp_path)
    config = (run / layout.CONFIG).read_text()
    judging.spare_scripts(run, "flow.dag", dagman)
    assert scripts(run) == {"first"}  # the other node has one job only
    assert (run / layout.CONFIG).read_text() == config


def test_a_run_that_stops_at_the_first_error_has_the_other_jobs_removed(
    tmp_path: Path, dagman: Path
):
    run = compiled(tmp_path, on_error="stop")
    judging.spare_scripts(run, "flow.dag", dagman)
    assert scripts(run) == {"first"}
    assert "REMOVE_JOB_LIST" not in (run / layout.CONFIG).read_text()


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
    keeps = abilities.keeps_others(Path(shutil.which("condor_dagman") or ""))
    assert scripts(run.path) == (set() if keeps else {"items"})
    with pytest.raises(htdag.RunFailed, match="not yet"):
        run.wait(timeout=100, progress=False)
    # Twelve jobs on eight slots: most would not have begun when the first had failed.
    assert (run.status()["items"].done, run.status()["items"].failed) == (11, 1)
    assert bool(list(run.path.glob("nodes/*/log/post.log"))) is not keeps
    (tmp_path / "mended").touch()
    run.resume().wait(timeout=100, progress=False)
    assert run.result() == sum(range(12))
    assert scripts(run.path) == {"items", "total"}
    assert sorted((tmp_path / "calls").read_text().split(), key=int) == ["0", *map(str, range(12))]
