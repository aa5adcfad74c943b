"""A damaged file is named, with the way out, by whatever reads it; and it hides no other run."""

from __future__ import annotations

import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import htdag
from htdag import cli
from htdag.errors import HtdagError, RunDamaged, RunNotFound

RUN, OTHER = "one", "another"


def half(x):
    sys.stdout.write(f"half of {x}\n")
    return 10 // x


def after(x):
    return x


def add(a, b):
    return a + b


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder of runs, one of which has failed before its last stage began."""
    home = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTDAG_HOME", str(home))
        halves = htdag.source([1, 2, 5], chunk_size=2).map(half)
        total = halves.map(after, fuse=False).reduce(add, name="total")
        htdag.Pipeline(total).submit(RUN, on="local").wait(progress=False)
        failing = htdag.source([0, 0]).map(half).map(after, fuse=False)
        flow = htdag.Pipeline(failing, name="failing")
        flow.submit(OTHER, on="local").wait(progress=False, errors_ok=True)
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch) -> Path:
    path = tmp_path / "home"
    shutil.copytree(made, path, symlinks=True)
    monkeypatch.setenv("HTDAG_HOME", str(path))
    return path


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def zeros(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def garbage(file: Path) -> None:
    file.write_bytes(b"\xff\xfe[{\x00" * 40)


def another_kind(file: Path) -> None:
    file.write_text("[5]\n")


def empty_object(file: Path) -> None:
    file.write_text("{}\n")


def missing(file: Path) -> None:
    file.unlink()


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


KINDS = (cut, zeros, garbage, another_kind, empty_object, missing, folder, pipe)
FILES = (
    "run.json",
    "plan.json",
    "submit.json",
    "local.state.json",
    "local.jobs.json",
    "local.lock",
    "identity.json",
    "code/modules.image",
    "nodes/half/node.json",
    "nodes/half/functions.pickle",
    "nodes/half/in/0000.items",
    "nodes/half/in/0000.1.json",
    "nodes/half/out/0000.1.record",
    "nodes/half/out/0000.1.half.items",
    "nodes/half/log/0000.1.out",
)


def looks(run: htdag.Run) -> Iterator[Callable[[], object]]:
    """All that only looks at a run."""
    yield lambda: run.state
    yield run.status
    yield run.errors
    yield run.error_groups
    yield run.missing
    yield run.result
    yield lambda: [item.source for item in run.items(errors="skip")]
    yield lambda: list(run.items(errors="return"))
    yield lambda: list(run.as_completed())
    yield run.why
    yield lambda: run.item_states("half")
    yield run.usage
    yield run.jobs
    yield lambda: run.stdout("half", 1)
    yield lambda: run.stderr("half")
    yield lambda: run.debug("half", 1, pdb=False)
    yield run.size
    yield run.final
    yield lambda: (run.stages, run.nodes, run.backend_name, run.changed)
    yield run._repr_html_
    yield lambda: run.wait(timeout=0, progress=False)


@pytest.mark.parametrize("damage", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_each_look_gives_what_it_can_or_names_the_file(name: str, damage, home: Path):
    file = home / "runs" / RUN / name
    damage(file)
    if name == "run.json":
        with pytest.raises(RunDamaged, match=f"{re.escape(str(file))}.*rm -r"):
            htdag.load(RUN)
        return
    run = htdag.load(RUN)
    told = []
    for look in looks(run):
        try:
            look()
        except RunDamaged as error:
            told.append(str(error))
        except HtdagError:
            pass  # as of a run that was never submitted, or has not ended
    assert all(str(run.path / "nodes") in text or str(file) in text for text in told), told


@pytest.mark.parametrize("damage", [cut, missing, folder])
@pytest.mark.parametrize("name", ["run.json", "plan.json", "submit.json", "local.state.json"])
def test_the_other_runs_are_seen(name: str, damage, home: Path):
    damage(home / "runs" / RUN / name)
    for words in ("runs", "status --all", "clean --all --dry-run", f"status {OTHER}"):
        told = CliRunner().invoke(cli.main, words.split())
        assert told.exception is None or isinstance(told.exception, SystemExit), words
        assert OTHER in told.stdout
        assert "Traceback" not in told.stderr
        if damage is not missing and words == "status --all":
            assert f"runs/{RUN}/{name}" in told.stderr, told.output
    flow = htdag.Pipeline(htdag.map(abs, [-1], cache=True), name="next")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert flow.run(on="local") == [1]


def test_the_way_out_of_a_damaged_state_leads_out(home: Path):
    cut(home / "runs" / RUN / "local.state.json")
    run = htdag.load(RUN)
    with pytest.raises(RunDamaged, match=r"local\.state\.json is damaged.*htdag resume one"):
        assert run.state
    assert run.resume().wait(progress=False).result() == 17
    assert run.state.value == "done"


def test_the_way_out_of_a_damaged_outcome_leads_out(home: Path):
    garbage(next((home / "runs" / RUN / "nodes").glob("total/out/*.items")))
    run = htdag.load(RUN)
    with pytest.raises(RunDamaged, match=r"run\.resume\(\).*computes it again"):
        run.result()
    assert run.resume().wait(progress=False).result() == 17


def test_a_run_whose_directory_is_gone_is_not_found(home: Path):
    run = htdag.load(RUN)
    shutil.rmtree(run.path)
    for act in [*looks(run), run.resume, run.rerun, run.delete, lambda: run.retag("new")]:
        with pytest.raises(RunNotFound, match="is gone"):
            act()


def test_items_of_a_stage_that_waits_are_told_in_words(home: Path):
    told = CliRunner().invoke(cli.main, ["items", OTHER, "after"])
    assert told.exit_code == 0
    assert told.stderr == (
        "htdag: no item of 'after' in run 'another' is known yet: earlier stages make them\n"
    )
