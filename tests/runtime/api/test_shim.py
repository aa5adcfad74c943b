"""Environment variables on the execute side say that the code runs in a job, and for which item."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import reference

import htdag
from htdag import current as here
from htdag.runtime.api import shim

if TYPE_CHECKING:
    from pool import Pool

VARIABLES = ("RUN", "STAGE", "ITEM", "NODE", "CHUNK", "ATTEMPT")


def look(item: Any) -> dict[str, Any]:
    """Tell what there is to know from inside a function."""
    now = htdag.current()
    told = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
    known = dict(line.split("=", 1) for line in told.splitlines() if line.startswith("HTDAG_"))
    return {
        "current": now,
        "same": here() == now,
        "variables": {name: known.get("HTDAG_" + name) for name in VARIABLES},
        "item": item,
    }


def generate(item: Any) -> Any:
    for _ in range(2):
        yield os.environ["HTDAG_STAGE"]


def tell(item: Any) -> tuple[Any, ...]:
    return item, htdag.current().stage, os.environ["HTDAG_STAGE"]


def add(total: Any, item: Any) -> Any:
    now = htdag.current()
    return (now.stage, now.key)


def pipeline() -> htdag.Pipeline:
    looked = htdag.source([5, 6], chunk_size=1).map(look)
    told = looked.flat_map(generate, name="flat_map").map(tell)
    total = htdag.source([1, 2, 3]).reduce(add, associative=False, name="total")
    return htdag.Pipeline(looked, told, total, name="inside", history=False)


def check(run: htdag.Run) -> list[Any]:
    values = run.result("look")
    for number, value in enumerate(values):
        now = value["current"]
        assert isinstance(now, htdag.Current)
        assert value["same"]
        assert (now.run, now.stage, now.key, now.attempt) == (run.tag, "look", str(number), 1)
        assert (now.chunk, now.node) == (number, "look.flat_map.tell")
        assert value["variables"] == {
            "RUN": run.tag,
            "STAGE": "look",
            "ITEM": str(number),
            "NODE": now.node,
            "CHUNK": f"{number:04d}",
            "ATTEMPT": "1",
        }
    assert run.result("tell") == [("flat_map", "tell", "tell")] * 4
    assert run.result("total") == ("total", None)
    return [value["current"] for value in values]


def test_outside_of_a_run_there_is_none():
    assert htdag.current() is None


def test_in_a_run_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))
    for now in check(pipeline().submit(on="local").wait(timeout=200)):
        assert (now.job, now.slot, now.memory, now.disk, now.gpus) == (None, None, None, None, 0)
        assert now.cpus == 1
        assert now.scratch.is_dir()
    assert htdag.current() is None


@pytest.mark.pool
@pytest.mark.parametrize("point", ["blind", "seeing"])
def test_in_a_job(pool: Pool, runs_dir: Path, point: str):
    with pool.only(point):
        run = pipeline().submit(on="condor").wait(timeout=200)
    for now in check(run):
        assert now.slot.split("@")[1] == point
        assert now.scratch.is_absolute()
        assert not now.scratch.exists()  # any more
        assert now.cpus == 1
        assert now.memory >= 128
        assert now.disk > 0
        assert now.gpus == 0
        cluster, process = now.job.split(".")
        assert cluster.isdigit()
        assert process == str(now.chunk)


# The module htdag in a job


def in_job(code: str, *, installed: bool) -> str:
    """Run some lines as a job would, in a Python that has htdag installed or not."""
    lines = f"""
import sys
from htdag_runtime.api import shim as inside
inside.install()
import htdag
{code}
"""
    package = Path(htdag.__file__).parent
    place = Path(os.environ["HTDAG_TEST_PLACE"])
    if not (place / "htdag_runtime").exists():
        (place / "htdag_runtime").symlink_to(package / "runtime")
    path = [str(place), *([str(package.parent)] if installed else [])]
    done = subprocess.run(
        [sys.executable, *(() if installed else ("-S",)), "-c", lines],
        env={"PYTHONPATH": os.pathsep.join(path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        cwd=place,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("HTDAG_TEST_PLACE", str(tmp_path))


@pytest.mark.usefixtures("place")
def test_what_has_a_meaning_in_jobs_is_there_without_htdag():
    names = [*shim.PUBLIC, "stage"]
    code = f"print([type(getattr(htdag, name)).__name__ for name in {names!r}])"
    assert "function" in in_job(code, installed=False)
    assert in_job("print(htdag.current())", installed=False) == "None\n"
    assert (
        in_job("@htdag.stage(retries=1)\ndef f(): return 2\nprint(f())", installed=False) == "2\n"
    )
    assert in_job("@htdag.stage\ndef f(): return 3\nprint(f())", installed=False) == "3\n"


@pytest.mark.usefixtures("place")
def test_what_has_none_says_so():
    code = "try:\n    htdag.Pipeline\nexcept AttributeError as error:\n    print(error)"
    text = in_job(code, installed=False)
    assert "htdag.Pipeline does not exist in a job" in text
    assert "htdag.current" in text


@pytest.mark.usefixtures("place")
def test_an_installed_htdag_adds_its_names_and_leaves_those_of_the_job():
    code = """
print(htdag.Pipeline.__module__, htdag.current.__globals__["__name__"])
from htdag.errors import HtdagError
print(htdag.HtdagError is HtdagError, htdag.current.__globals__["__name__"])
"""
    assert in_job(code, installed=True).splitlines() == [
        "htdag.pipeline htdag_runtime.api.current",
        "True htdag_runtime.api.current",
    ]


@pytest.mark.parametrize("name", shim.PUBLIC)
def test_public_names_of_jobs_are_those_of_htdag(name):
    assert name in htdag.__all__
    assert shim.named(name).__module__ == "htdag"
    assert getattr(htdag, name).__module__ == "htdag"


def test_the_tag_is_in_what_jobs_read(tmp_path):
    run = reference.compiled(htdag.Pipeline(htdag.source([1]).map(abs)), tmp_path / "a-tag")
    assert '"run": "a-tag"' in (run / "nodes/abs/node.json").read_text()
