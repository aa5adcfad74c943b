"""Going on with what an earlier run has finished, on this machine and on a real pool."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

import htdag
from htdag.errors import BackendError, RunActive, RunFailed, RunNotFound, StageNameError, UsageError
from htdag.reuse import cache
from htdag.reuse.swap import discard_replaced, locked
from htdag.runtime import layout
from htdag.runtime.data import itemfile
from htdag.runtime.layout import NodeFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKENDS = ["local", pytest.param("condor", marks=pytest.mark.pool)]
HTDAG = str(Path(sys.executable).with_name("htdag"))


@pytest.fixture(params=BACKENDS)
def on(request: pytest.FixtureRequest, home: Path) -> Iterator[str]:
    """Each of the backends; on the pool jobs run where the submit side cannot be seen."""
    if request.param == "condor":
        pool = request.getfixturevalue("pool")
        with pool.use(), pool.only("blind"):
            yield "condor"
    else:
        yield "local"


@pytest.fixture
def home(runs_dir: Path) -> Path:
    return runs_dir


def note(folder: Path, stage: str, item: Any) -> None:
    with open(folder / "calls", "a") as file:
        file.write(f"{stage}:{item}\n")


def calls(folder: Path) -> Counter[str]:
    """The calls since the last look."""
    try:
        found = Counter((folder / "calls").read_text().split())
        (folder / "calls").unlink()
    except FileNotFoundError:
        return Counter()
    return found


def once(stage: str, items: Any) -> Counter[str]:
    return Counter(f"{stage}:{item}" for item in items)


def parse(folder: Path):
    def parse(item):
        note(folder, "parse", item)
        return item * 10

    return parse


def fit(folder: Path, offset: int, bad: Any = ()):
    def fit(item):
        note(folder, "fit", item)
        if item in bad:
            raise ValueError(f"{item} is bad")
        return item + offset

    return fit


def add(a, b):
    return a + b


def survey(folder: Path, items: Any, offset: int = 1, bad: Any = (), **options: Any) -> Any:
    parsed = htdag.source(items, chunk_size=3).map(parse(folder), fuse=False)
    fitted = parsed.map(fit(folder, offset, bad), **options)
    total = fitted.reduce(add, name="total")
    return htdag.Pipeline(fitted, total, name="survey")


def ended(run: htdag.Run) -> htdag.Run:
    """The run when it has ended, well or not."""
    with contextlib.suppress(RunFailed):
        run.wait(timeout=200, progress=False)
    return run


def test_mend_the_function_and_go_on(
    on: str, shared: Path, home: Path, capfd: pytest.CaptureFixture[str]
):
    run = ended(survey(shared, range(8), bad=[30]).submit("survey", on))
    assert [error.key for error in run.errors()] == ["3"]
    calls(shared)
    capfd.readouterr()
    mended = survey(shared, range(8), offset=2)
    run = mended.submit("survey", resume=True)
    told = capfd.readouterr().err
    assert "parse: reuse: unchanged, 8 items" in told
    assert "fit: recompute: its function changed: enclosing variable" in told
    assert run.backend_name == on
    assert ended(run).result("total") == sum(item * 10 + 2 for item in range(8))
    assert calls(shared) == once("fit", range(0, 80, 10))
    assert not (run.path / layout.REPLACED).exists()
    # New items come last, so all that was combined fits.
    run = survey(shared, range(10), offset=2).submit("survey", on, resume=True)
    assert ended(run).result("fit") == list(range(2, 102, 10))
    assert calls(shared) == once("parse", [8, 9]) + once("fit", [80, 90])
    run = survey(shared, range(10), offset=2).submit("survey", on, resume=True)
    assert calls(shared) == Counter()
    assert "nothing changed" in capfd.readouterr().err


def per_item(folder: Path, items: Any, offset: int = 1) -> Any:
    parsed = htdag.source(items, chunk_size=3).map(parse(folder), fuse=False)
    return htdag.Pipeline(parsed.map(fit(folder, offset)), name="items")


def test_items_in_another_order_and_other_chunks(shared: Path, home: Path):
    ended(per_item(shared, range(8)).submit("items", "local"))
    calls(shared)
    # A new item comes first, one is gone: the others are as they were, under other keys.
    run = per_item(shared, [99, *range(7)]).submit("items", "local", resume=True)
    assert ended(run).result() == [991, *range(1, 71, 10)]
    assert [item.source for item in run.items()] == [99, *range(7)]
    assert calls(shared) == once("parse", [99]) + once("fit", [990])
    parsed = htdag.source([5, 4, 99, 100], chunk_size=4).map(parse(shared), fuse=False)
    flow = htdag.Pipeline(parsed.map(fit(shared, 1), chunk_size=2), name="items")
    run = flow.submit("items", "local", resume=True)
    assert ended(run).result() == [51, 41, 991, 1001]
    assert calls(shared) == once("parse", [100]) + once("fit", [1000])


EDITS = {
    "reversed": [3, 2, 1],
    "fewer": [1, 2],
    "one left out": [1, 3],
    "one twice": [1, 1, 2, 3],
    "one more in front": [0, 1, 2, 3],
}


def fitted_items(folder: Path, items: Any, taken: int = 9) -> Any:
    fitted = htdag.source(items, chunk_size=2).take(taken).map(fit(folder, 1))
    return htdag.Pipeline(fitted, name="edit")


@pytest.mark.parametrize("items", EDITS.values(), ids=EDITS)
def test_a_run_that_is_done_follows_the_items_of_today(shared: Path, home: Path, items: Any):
    ended(fitted_items(shared, [1, 2, 3]).submit("edit", "local"))
    calls(shared)
    run = ended(fitted_items(shared, items).submit("edit", "local", resume=True))
    assert run.result("fit") == [item + 1 for item in items]
    assert [item.key for item in run.items("fit")] == [str(n) for n in range(len(items))]
    kept = Counter(["fit:1", "fit:2", "fit:3"])
    assert calls(shared) == once("fit", items) - kept


def test_a_run_that_is_done_follows_what_is_taken_and_asked_of_it(shared: Path, home: Path):
    run = ended(fitted_items(shared, [1, 2, 3, 4], 4).submit("edit", "local"))
    run = ended(fitted_items(shared, [1, 2, 3, 4], 2).submit("edit", "local", resume=True))
    assert run.result("fit") == [2, 3]

    def concatenated(*parts: Any) -> Any:
        first, *others = [htdag.source(part).map(abs, name=f"abs{part[0]}") for part in parts]
        return htdag.Pipeline(first.concat(*others), name="concat")

    ended(concatenated([1, 2], [3]).submit("concat", "local"))
    run = ended(concatenated([3], [1, 2]).submit("concat", "local", resume=True))
    assert run.result() == [3, 1, 2]


def test_without_the_items_that_failed_nothing_is_left_to_do(on: str, shared: Path, home: Path):
    def flow(items: Any) -> Any:
        return htdag.Pipeline(htdag.source(items, chunk_size=3).map(fit(shared, 1, [4])))

    assert len(ended(flow(range(6)).submit("drop", on)).errors()) == 1
    calls(shared)
    run = flow([0, 1, 2, 3, 5]).submit("drop", on, resume=True)
    assert ended(run).result() == [1, 2, 3, 4, 6]
    assert calls(shared) == Counter()


def test_finished_items_of_a_changed_function_can_be_kept(shared: Path, home: Path):
    run = ended(survey(shared, range(8), bad=[30]).submit("survey", "local"))
    calls(shared)
    mended = survey(shared, range(8), offset=7)
    explained = mended.explain("local", "survey", keep_finished=["fit"])
    assert "fit    reuse in part: of 8 items 1 had not finished" in explained
    run = mended.submit("survey", "local", resume=True, keep_finished=["fit"])
    assert ended(run).result("fit") == [item * 10 + (7 if item == 3 else 1) for item in range(8)]
    assert calls(shared) == once("fit", [30])
    with pytest.raises(UsageError, match="no stage 'fir'"):
        mended.submit("survey", "local", resume=True, keep_finished=["fir"])
    with pytest.raises(UsageError, match="names of stages"):
        mended.submit("survey", "local", resume=True, keep_finished="fit")
    assert run.result("fit")[3] == 37


def test_explain_says_what_would_be_reused_and_changes_nothing(shared: Path, home: Path):
    ended(survey(shared, range(8)).submit("survey", "local"))
    calls(shared)
    (home / "runs/survey/again.lock").touch()
    before = sorted(home.rglob("*"))
    text = survey(shared, range(9), offset=3).explain("local", "survey")
    assert "parse  reuse in part: of 9 items 1 is new or changed" in text
    assert "fit    recompute: its function changed: enclosing variable offset" in text
    assert "total  reuse later: items with unchanged inputs from fit" in text
    assert sorted(home.rglob("*")) == before
    assert calls(shared) == Counter()


def test_explain_before_the_first_run_says_that_all_is_computed(shared: Path, home: Path):
    flow = survey(shared, range(8))
    assert flow.explain("local", "survey") == (
        f"{flow.explain('local')}\n\nThere is no run with the tag 'survey': it would be the first, "
        f"and compute all of this."
    )
    assert not (home / "runs" / "survey").exists()
    with pytest.raises(RunNotFound):
        htdag.load("survey")
    ended(flow.submit("survey", "local", resume=True))
    assert "there is no run with the tag 'surve'; did you mean 'survey'?" in (
        flow.explain("local", "surve").replace("There", "there")
    )


def test_an_image_and_a_requirements_file_count_by_what_they_hold(home: Path):
    image, needed = home / "tools.sif", home / "requirements.txt"
    image.write_bytes(b"image " * 30_000)
    needed.write_text("numpy")
    made = htdag.Environment.container(image)

    def computed(number: int) -> Any:
        stage = htdag.map(abs, [1], name="stage", environment=made)
        dag = htdag.Pipeline(stage).compile(home / str(number))
        return json.loads((dag.parent / layout.IDENTITY).read_text())["nodes"]

    first = computed(1)
    assert computed(2) == first
    image.write_bytes(b"IMAGE " * 30_000)
    assert computed(3) != first
    assert made == htdag.Environment.container(image)
    assert htdag.Environment.packed(needed).made_of == (str(needed),)
    assert htdag.Environment.container("docker://python:3.11").made_of == ()
    assert htdag.Environment.container(home).made_of == ()


def test_rerun(on: str, shared: Path, home: Path):
    run = ended(per_item(shared, range(6)).submit("items", on))
    result = run.result()
    calls(shared)
    assert ended(run.rerun("fit", keys=[2, "4"])).result() == result
    assert calls(shared) == once("fit", [20, 40])
    if on == "local":
        assert ended(run.rerun(keys=[5])).result() == result
        assert calls(shared) == once("parse", [5]) + once("fit", [50])
        assert ended(run.rerun("fit")).result() == result
        assert calls(shared) == once("fit", range(0, 60, 10))
    assert ended(run.rerun()).result() == result
    assert calls(shared) == once("parse", range(6)) + once("fit", range(0, 60, 10))


def test_rerun_of_what_does_not_exist_changes_nothing(shared: Path, home: Path):
    run = ended(survey(shared, range(6)).submit("survey", "local"))
    with pytest.raises(UsageError, match="no stage 'fot'"):
        run.rerun("fot")
    with pytest.raises(UsageError, match="no item with the key '77'"):
        run.rerun("fit", keys=[2, 77])
    with pytest.raises(UsageError, match="several keys"):
        run.rerun(keys="7")
    assert run.result("total") == sum(item * 10 + 1 for item in range(6))
    assert [path.name for path in run.path.parent.iterdir()] == ["survey"]


def sometimes(folder: Path):
    def sometimes(item):
        note(folder, "sometimes", item)
        if item % 3 == 0 and not (folder / "well").exists():
            raise RuntimeError("not yet")
        return item

    return sometimes


def test_rerun_of_items_that_were_let_go(shared: Path, home: Path):
    numbers = htdag.source(range(7), chunk_size=2)
    total = numbers.map(sometimes(shared), on_error="skip", max_errors=9, fuse=False).reduce(add)
    run = htdag.Pipeline(total).submit("skips", "local")
    with pytest.warns(htdag.errors.ItemsMissing, match="3 items"):
        assert ended(run).result() == 1 + 2 + 4 + 5
    calls(shared)
    (shared / "well").touch()
    assert ended(run.rerun(errors=True)).result() == sum(range(7))
    assert calls(shared) == once("sometimes", [0, 3, 6])


def slow(folder: Path):
    def slow(item):
        import time

        time.sleep(60)

    return slow


def test_a_run_under_way_is_not_replaced(shared: Path, home: Path):
    flow = htdag.Pipeline(htdag.source([1]).map(slow(shared)))
    run = flow.submit("slow", "local")
    try:
        with pytest.raises(RunActive, match="htdag remove slow"):
            flow.submit("slow", "local", resume=True)
        with pytest.raises(RunActive, match="htdag wait slow"):
            run.rerun()
        with pytest.raises(StageNameError, match="resume=True"):
            flow.submit("slow", "local")
    finally:
        run.remove()


def test_a_run_that_cannot_be_submitted_again_stays_as_it_was(
    shared: Path, home: Path, monkeypatch: pytest.MonkeyPatch
):
    run = ended(survey(shared, range(4), bad=[30]).submit("survey", "local"))
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*.items")}

    def refuse(*_: Any) -> None:
        raise BackendError("no")

    with monkeypatch.context() as patch:
        patch.setattr("htdag.backends.local.LocalBackend.submit", refuse)
        with pytest.raises(BackendError):
            survey(shared, range(4)).submit("survey", "local", resume=True)
        with pytest.raises(BackendError):
            run.rerun()
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*.items")} == before
    assert [path.name for path in run.path.parent.iterdir()] == ["survey"]
    assert [error.key for error in htdag.load("survey").errors()] == ["3"]


def test_a_process_killed_between_two_renames_loses_nothing(shared: Path, home: Path):
    run = ended(survey(shared, range(4), bad=[30]).submit("survey", "local"))
    calls(shared)
    run.path.rename(run.path.with_name(".survey.replaced"))
    run = survey(shared, range(4)).submit("survey", "local", resume=True)
    assert ended(run).result("total") == 64
    assert calls(shared) == once("fit", range(0, 40, 10))


@pytest.mark.parametrize("renames", [0, 1, 2, 3])
def test_a_process_killed_while_a_run_is_replaced_leaves_the_run_that_was(
    shared: Path, home: Path, renames: int
):
    run = ended(per_item(shared, range(3)).submit("items", "local"))
    made = run.path.stat().st_ino
    child = os.fork()
    if child == 0:
        with (
            contextlib.suppress(BaseException),
            mock.patch("os.replace", replacing_folders(renames)),
        ):
            run.rerun()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    calls(shared)
    assert [each.tag for each in htdag.runs()] == ["items"]
    again = htdag.load("items")
    assert again.path.stat().st_ino == made
    assert again.state is htdag.RunState.DONE
    assert again.result() == [1, 11, 21]
    assert ended(again.rerun("fit")).result() == [1, 11, 21]
    assert calls(shared) == once("fit", [0, 10, 20])


def test_a_process_killed_while_it_removes_what_was_replaced(shared: Path, home: Path):
    run = ended(per_item(shared, range(3)).submit("items", "local"))
    shutil.copytree(run.path, shared / "replaced")
    (shared / "replaced").rename(run.path / "replaced")
    child = os.fork()
    if child == 0:
        with mock.patch("os.unlink", side_effect=lambda *_, **__: os._exit(9)):
            discard_replaced(run.path)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not (run.path / "replaced").exists()
    ended(per_item(shared, range(5)).submit("items", "local", resume=True))
    assert [path.name for path in run.path.parent.iterdir()] == ["items"]


def replacing_folders(number: int) -> Any:
    """Return an `os.replace` that ends the process when it has renamed so many folders."""
    left = iter(range(number))
    replace = os.replace

    def counted(source: Any, target: Any) -> None:
        if os.path.isdir(source) and next(left, None) is None:
            os._exit(9)
        if os.path.basename(target) == "submit.json":
            os._exit(9)
        replace(source, target)

    return counted


def test_what_waits_to_be_reused_outlives_another_failure(shared: Path, home: Path):
    def flow(function: Any) -> Any:
        source = htdag.source(range(4), chunk_size=3)
        fitted = source.map(function, name="parse", fuse=False).map(fit(shared, 1), name="fit")
        return htdag.Pipeline(fitted, name="survey")

    def broken(item):
        raise ValueError(item)

    def other(item):
        note(shared, "parse", item)
        return 10 * item

    ended(flow(parse(shared)).submit("survey", "local"))
    run = flow(broken).submit("survey", "local", resume=True)
    assert len(ended(run).errors()) == 4
    calls(shared)
    # Its results are those of the first function, so the second stage has them all.
    run = flow(other).submit("survey", "local", resume=True)
    assert ended(run).result() == [1, 11, 21, 31]
    assert calls(shared) == once("parse", range(4))


def test_a_change_that_is_taken_back(shared: Path, home: Path):
    ended(survey(shared, range(4)).submit("survey", "local"))
    run = survey(shared, range(4), offset=9, bad=[20]).submit("survey", "local", resume=True)
    assert len(ended(run).errors()) == 1
    calls(shared)
    run = survey(shared, range(4)).submit("survey", "local", resume=True)
    assert ended(run).result("total") == 64
    assert calls(shared) == Counter()


def test_a_damaged_file_is_computed_again(shared: Path, home: Path):
    run = ended(survey(shared, range(6), bad=[50]).submit("survey", "local"))
    calls(shared)
    path = next(run.path.glob("nodes/parse/out/0000.1.parse.items"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    run = survey(shared, range(6)).submit("survey", "local", resume=True)
    # The damage shows when the file is read: by the jobs after it, if not before.
    if ended(run).state.value != "done":
        ended(run.resume())
    assert run.result("total") == sum(item * 10 + 1 for item in range(6))
    assert set(calls(shared)) >= {"parse:0", "parse:1", "parse:2"}


def test_files_count_by_what_they_hold(tmp_path: Path, shared: Path, home: Path):
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(name)

    def flow():
        return htdag.Pipeline(htdag.files(str(tmp_path / "?.txt")).map(read(shared)))

    assert ended(flow().submit("files", "local")).result() == ["a", "b", "c"]
    calls(shared)
    (tmp_path / "b.txt").write_text("bb")
    assert ended(flow().submit("files", "local", resume=True)).result() == ["a", "bb", "c"]
    assert calls(shared) == once("read", ["b.txt"])
    before = (tmp_path / "c.txt").stat()
    (tmp_path / "c.txt").write_text("d")  # of the same size and time
    os.utime(tmp_path / "c.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "a.txt").touch()
    assert ended(flow().submit("files", "local", resume=True)).result() == ["a", "bb", "d"]
    assert calls(shared) == once("read", ["c.txt"])
    (tmp_path / "b.txt").unlink()
    (tmp_path / "c.txt").rename(tmp_path / "a.txt")
    assert ended(flow().submit("files", "local", resume=True)).result() == ["d"]
    (tmp_path / "d.txt").write_bytes(b"1" * 100_000)
    flow().submit("files", "local", resume=True).wait(progress=False)
    calls(shared)
    before = (tmp_path / "d.txt").stat()
    (tmp_path / "d.txt").write_bytes(b"2" * 100_000)
    os.utime(tmp_path / "d.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ended(flow().submit("files", "local", resume=True)).result()[1] == "2" * 100_000
    assert calls(shared) == once("read", ["d.txt"])


def read(folder: Path):
    def read(path):
        note(folder, "read", path.name)
        return path.read_text()

    return read


def test_the_cache(shared: Path, home: Path):
    def flow(items: Any, offset: int = 1):
        parsed = htdag.source(items, chunk_size=3).map(parse(shared), cache=True)
        return htdag.Pipeline(parsed.map(fit(shared, offset)), name="cached")

    assert ended(flow(range(5)).submit("one", "local")).result() == [n * 10 + 1 for n in range(5)]
    calls(shared)
    run = flow([7, *range(4)], 2).submit("two", "local")
    assert ended(run).result() == [72, 2, 12, 22, 32]
    assert calls(shared) == once("parse", [7]) + once("fit", [70, 0, 10, 20, 30])
    (entry, second) = cache.entries()
    assert {entry.tag, second.tag} == {"one", "two"}
    assert entry.stages == ("parse",)
    assert entry.size > 0
    assert cache.clear(older_than=3600) == []
    assert len(cache.clear()) == 2
    assert list(cache.entries()) == []
    ended(flow(range(5)).submit("three", "local"))
    assert calls(shared)["parse:0"] == 1


def test_equal_items_are_computed_each(shared: Path, home: Path):
    """Items may be equal and results not: of a simulation, say."""

    def flow(number: int):
        return htdag.Pipeline(htdag.source(["go"] * number, chunk_size=2).map(parse(shared)))

    ended(flow(5).submit("same", "local"))
    calls(shared)
    assert ended(flow(7).submit("same", "local", resume=True)).result() == ["go" * 10] * 7
    assert calls(shared) == Counter({"parse:go": 2})


SCRIPT = """
import sys
from dataclasses import dataclass

import htdag


@dataclass(frozen=True)
class Star:
    name: str
    colours: frozenset


def magnitude(star):
    with open("calls", "a") as file:
        file.write("magnitude:" + star.name + "\\n")
    return len(star.name)


def checked(number):
    if number == 3:
        raise ValueError("three")
    return number


stars = [Star("a" * n, frozenset({"red", "blue", "green"})) for n in range(1, 6)]
sizes = htdag.source(stars).map(magnitude, fuse=False).map(checked)
htdag.Pipeline(sizes, name="stars").run(on="local", **eval(sys.argv[1]))
"""


@pytest.mark.parametrize("tagged", [True, False])
def test_a_corrected_script_goes_on(tmp_path: Path, shared: Path, home: Path, tagged: bool):
    script = tmp_path / "stars.py"
    script.write_text(SCRIPT)
    argument = "dict(tag='stars')" if tagged else "{}"
    done = subprocess.run(
        [sys.executable, "stars.py", argument], cwd=tmp_path, check=False, capture_output=True
    )
    assert done.returncode == 1
    (run,) = htdag.runs()
    assert run.tag == "stars" or not tagged
    assert run.script == {
        "file": str(script),
        "module": None,
        "arguments": [argument],
        "python": sys.executable,
        "folder": str(tmp_path),
    }
    calls(shared)
    script.write_text(
        "# A comment moves all lines.\n" + SCRIPT.replace("number == 3", "number == 33")
    )
    done = subprocess.run(
        [HTDAG, "resume", run.tag, "--script"],
        cwd="/",
        env=os.environ | {"PYTHONHASHSEED": "7"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "magnitude: reuse: unchanged, 5 items" in done.stderr
    assert "checked: recompute: its function changed" in done.stderr
    assert [one.tag for one in htdag.runs()] == [run.tag]
    assert htdag.load(run.tag).result() == [1, 2, 3, 4, 5]
    assert calls(shared) == Counter()
    script.write_text(SCRIPT.replace("number == 3", "number == 5"))
    done = subprocess.run(
        [HTDAG, "resume", run.tag, "--script", "--keep-finished", "checked", "--wait"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "checked: reuse: unchanged, 5 items" in done.stderr
    assert htdag.load(run.tag).result() == [1, 2, 3, 4, 5]


def test_a_script_without_the_pipeline(tmp_path: Path, shared: Path, home: Path):
    run = ended(survey(shared, range(4)).submit("survey", "local"))
    (tmp_path / "other.py").write_text("print('hello')\n")
    done = subprocess.run(
        [HTDAG, "resume", "survey", "--script", "other.py"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "started no pipeline with the tag 'survey'" in done.stderr
    assert run.result("total") == 64


def test_values_of_reused_items_are_in_the_measures_of_nobody(shared: Path, home: Path):
    run = ended(survey(shared, range(6)).submit("survey", "local"))
    run = ended(survey(shared, range(6), offset=2).submit("survey", "local", resume=True))
    plan = json.loads((run.path / layout.PLAN).read_text())
    assert [node["reuse"] for node in plan["nodes"]] == [True, False, True]
    path = Path(NodeFiles(run.path, "parse").attempt(0, 1).record)
    assert "measured" not in json.loads(path.read_text().splitlines()[-1])["end"]
    assert run.status()["parse"].done == 6
    assert run.stdout("parse", "0") == ""
    assert itemfile.count(NodeFiles(run.path, "parse").attempt(1, 1).output("parse")) == 3


def test_the_commands(shared: Path, home: Path):
    ended(survey(shared, range(4), cache=True).submit("survey", "local"))
    calls(shared)

    def command(*words: str) -> str:
        return subprocess.run(
            [HTDAG, *words], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL
        ).stdout

    command("rerun", "survey", "--stage", "fit", "--keys", "1,2", "--wait", "--no-progress")
    assert calls(shared) == once("fit", [10, 20])
    assert "goes" not in command("rerun", "survey", "--wait", "--no-progress")
    assert "survey" in command("cache", "list")
    assert json.loads(command("cache", "list", "--json"))[0]["stages"] == ["fit"]
    assert "no entry" in command("cache", "clear", "--older-than", "2d")
    assert "removed" in command("cache", "clear", "--yes")
    assert "empty" in command("cache", "list")
    assert textwrap.dedent(command("cache", "clear")).strip() == "the cache is empty"


def test_one_process_at_a_time_and_what_a_killed_one_left(shared: Path, home: Path):
    run = ended(survey(shared, range(4), bad=[30]).submit("survey", "local"))
    left = [
        run.path.with_name(name)
        for name in (".survey.77.again", ".survey.77.rerun", "..survey.77.again.77.x.new")
    ]
    for path in left:
        path.mkdir()
    other = run.path.with_name(".survey-2.77.again")
    other.mkdir()
    with locked(run.path):
        assert not any(path.exists() for path in left)
        assert other.exists()
        with pytest.raises(RunActive, match="another process"):
            run.rerun()
    assert ended(survey(shared, range(4)).submit("survey", "local", resume=True)).errors() == []


@pytest.mark.parametrize("knows_locks", [True, False])
def test_one_process_at_a_time_where_the_file_system_knows_no_locks(
    knows_locks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if not knows_locks:
        refusal = OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        monkeypatch.setattr("fcntl.flock", mock.Mock(side_effect=refusal))
    for _ in range(2):
        with locked(tmp_path), pytest.raises(RunActive, match="another process"), locked(tmp_path):
            raise AssertionError("two at once")
    assert {path.name for path in tmp_path.iterdir()} == {"again.lock"}


def test_items_of_another_function_do_not_get_into_the_cache(shared: Path, home: Path):
    ended(survey(shared, range(4), bad=[30], cache=True).submit("survey", "local"))
    (before,) = cache.entries()  # what the first function has finished
    flow = survey(shared, range(4), offset=5, cache=True)
    run = flow.submit("survey", "local", resume=True, keep_finished=True)
    assert ended(run).result("fit") == [1, 11, 21, 35]
    run = survey(shared, range(5), offset=5, cache=True).submit("survey", "local", resume=True)
    assert ended(run).result("fit") == [1, 11, 21, 35, 45]
    assert [entry.path for entry in cache.entries()] == [before.path]


def test_what_is_kept_is_that_of_the_same_stage(shared: Path, home: Path):
    """Another stage may read the same, and be of the same kind."""

    def flow(offset: int) -> Any:
        parsed = htdag.source(range(3)).map(parse(shared), fuse=False)
        fitted = parsed.map(fit(shared, 1), name="fit", fuse=False)
        return htdag.Pipeline(fitted, parsed.map(fit(shared, offset), name="other", fuse=False))

    ended(flow(2).submit("kept", "local"))
    calls(shared)
    run = ended(flow(3).submit("kept", "local", resume=True, keep_finished=["fit", "other"]))
    assert run.result() == {"fit": [1, 11, 21], "other": [2, 12, 22]}
    assert calls(shared) == Counter()
    run = ended(flow(4).submit("kept", "local", resume=True, keep_finished=["fit"]))
    assert run.result() == {"fit": [1, 11, 21], "other": [4, 14, 24]}


def test_rerun_of_lanes(shared: Path, home: Path):
    parsed = htdag.source(range(12), chunk_size=3).map(parse(shared), fuse=False)
    flow = htdag.Pipeline(parsed.map(fit(shared, 1)), name="lanes", lanes=2)
    run = ended(flow.submit("lanes", "local"))
    assert any(
        node.get("lanes") for node in json.loads((run.path / layout.PLAN).read_text())["nodes"]
    )
    calls(shared)
    assert ended(run.rerun("fit", keys=[1, 10])).result() == list(range(1, 121, 10))
    assert calls(shared) == once("fit", [10, 100])
    assert ended(run.rerun(keys=[4])).result() == list(range(1, 121, 10))
    assert calls(shared) == once("parse", [4]) + once("fit", [40])
    run = ended(flow.submit("lanes", "local", resume=True))
    assert calls(shared) == Counter()


def test_loops_are_computed_anew(shared: Path, home: Path):
    """What is before a loop is reused; its rounds are not, and end as they did."""

    def flow(factor: int = 1):
        start = htdag.source([1, 2, 3]).map(parse(shared), fuse=False).reduce(add, name="start")

        def halved(state):
            return state.map(lambda x: x / 2)

        small = htdag.iterate(
            halved, start, until=lambda x, previous: x < 5, max_rounds=20, name="small"
        )
        return htdag.Pipeline(small.map(lambda x: x * factor, name="scaled"), name="loops")

    run = ended(flow().submit("loops", "local"))
    assert run.result() == [60 / 16]
    calls(shared)
    run = ended(flow(2).submit("loops", "local", resume=True))
    assert run.result() == [2 * 60 / 16]
    assert calls(shared) == Counter()
    assert ended(run.rerun("scaled")).result() == [2 * 60 / 16]
    assert calls(shared) == Counter()
    assert ended(run.rerun()).result() == [2 * 60 / 16]
    assert calls(shared) == once("parse", [1, 2, 3])


def draw(folder: Path):
    def draw(item):
        note(folder, "draw", item)
        path = Path("picture.txt")
        path.write_text("*" * item)
        return htdag.OutputFile(path)

    return draw


def look(folder: Path, offset: int = 0):
    def look(path):
        note(folder, "look", path.stat().st_size)
        return len(path.read_text()) + offset

    return look


def pictures(folder: Path, items: Any, offset: int = 0, **options: Any) -> Any:
    drawn = htdag.source(items, chunk_size=2).map(draw(folder), fuse=False, **options)
    return htdag.Pipeline(drawn, drawn.map(look(folder, offset), name="look"), name="pictures")


def test_returned_files_are_taken_over_with_their_chunks(on: str, shared: Path, home: Path):
    run = ended(pictures(shared, [1, 2, 3, 4]).submit("pictures", on))
    assert run.result("look") == [1, 2, 3, 4]
    assert calls(shared) == once("draw", [1, 2, 3, 4]) + once("look", [1, 2, 3, 4])
    again = ended(pictures(shared, [1, 2, 3, 4], 10).submit("pictures", on, resume=True))
    assert again.result("look") == [11, 12, 13, 14]
    assert calls(shared) == once("look", [1, 2, 3, 4])
    assert [path.read_text() for path in again.result("draw")] == ["*" * n for n in range(1, 5)]
    plan = pictures(shared, [1, 2, 3, 5], 10)
    text = " ".join(str(plan.explain(tag="pictures")).split())
    assert "draw reuse in part: of 4 items, 2 are in chunks with new, changed" in text
    again = ended(plan.submit("pictures", on, resume=True))
    assert again.result("look") == [11, 12, 13, 15]
    # Files are in the folder of their chunk, so it is made as a whole; what it gave is the same.
    assert calls(shared) == once("draw", [3, 5]) + once("look", [5])
    assert [path.read_text() for path in again.result("draw")][2:] == ["***", "*****"]


def test_rerun_of_what_returns_files(shared: Path, home: Path):
    target = shared / "there"
    flow = pictures(shared, [1, 2, 3, 4], output_destination=target)
    run = ended(flow.submit("pictures", "local"))
    calls(shared)
    put = sorted(path.name for path in target.iterdir())
    assert len(put) == 4
    for path in target.iterdir():
        path.unlink()
    ended(run.rerun("draw", keys=[3]))
    assert calls(shared) == once("draw", [3, 4])
    assert run.result("look") == [1, 2, 3, 4]
    assert sorted(path.name for path in target.iterdir()) == put


def test_what_input_files_hold_counts(tmp_path: Path, shared: Path, home: Path):
    (tmp_path / "table.txt").write_text("1")

    def flow() -> Any:
        def count(item):
            note(shared, "count", item)
            return item + int(Path("table.txt").read_text())

        path = tmp_path / "table.txt"
        return htdag.Pipeline(htdag.source([1, 2]).map(count, input_files=path), name="counted")

    assert ended(flow().submit("counted", "local")).result() == [2, 3]
    calls(shared)
    assert ended(flow().submit("counted", "local", resume=True)).result() == [2, 3]
    assert not calls(shared)
    (tmp_path / "table.txt").write_text("10")
    assert ended(flow().submit("counted", "local", resume=True)).result() == [11, 12]
    assert calls(shared) == once("count", [1, 2])


def test_a_changed_file_within_an_item_is_another_item(tmp_path: Path, shared: Path, home: Path):
    for name in "ab":
        (tmp_path / name).write_text(name)

    def flow() -> Any:
        items = [{"path": htdag.TransferPath(tmp_path / name), "of": {name}} for name in "ab"]
        read = htdag.source(items).map(_content(shared))
        return htdag.Pipeline(read, name="within")

    assert ended(flow().submit("within", "local")).result() == ["a", "b"]
    calls(shared)
    (tmp_path / "b").write_text("bb")
    assert ended(flow().submit("within", "local", resume=True)).result() == ["a", "bb"]
    assert calls(shared) == once("read", ["b"])


def _content(folder: Path):
    def read(item):
        note(folder, "read", item["path"].name)
        return item["path"].read_text()

    return read


def test_how_jobs_are_run_does_not_count(shared: Path, home: Path):
    def flow(**options: Any) -> Any:
        return htdag.Pipeline(htdag.source([1, 2]).map(parse(shared), **options), name="asked")

    ended(flow().submit("asked", "local"))
    calls(shared)
    options = {
        "allowed_job_duration": "1 h",
        "concurrency_limits": "license:2",
        "checkpoint_interval": "5 min",
        "request_memory": lambda item: item * 100,
        "request_cpus": 2,
    }
    assert ended(flow(**options).submit("asked", "local", resume=True)).result() == [10, 20]
    assert not calls(shared)


def test_programs_are_reused_until_they_change(shared: Path, home: Path):
    def flow(text: str) -> Any:
        program = htdag.command(f"echo {text} {{input}} | tee -a {shared}/calls", shell=True)
        return htdag.Pipeline(htdag.source([1, 2]).map(program, name="say"), name="programs")

    ended(flow("a:").submit("programs", "local"))
    calls(shared)
    ended(flow("a:").submit("programs", "local", resume=True))
    assert not calls(shared)
    ended(flow("b:").submit("programs", "local", resume=True))
    assert calls(shared) == Counter({"b:": 2, "1": 1, "2": 1})


def test_another_minor_version_of_python(
    shared: Path, home: Path, capfd: pytest.CaptureFixture[str]
):
    def flow(bad: Any) -> Any:
        return htdag.Pipeline(htdag.source(range(4)).map(fit(shared, 1, bad), cache=True))

    run = ended(flow([2]).submit("old", "local"))
    for name in (layout.RUN, layout.IDENTITY):
        content = json.loads((run.path / name).read_text())
        content["python"][:2] = [3, 9]
        (run.path / name).write_text(json.dumps(content))
    calls(shared)
    run = htdag.load("old")
    before = sorted(path for path in run.path.rglob("*") if path.name != "again.lock")
    for go_on in (run.resume, run.rerun):
        with pytest.raises(UsageError, match=r"was made by Python 3\.9.*cannot load its functions"):
            go_on()
    after = sorted(path for path in run.path.rglob("*") if path.name != "again.lock")
    assert [path for path in after if path not in before] == []
    explained = flow([]).explain("local", "old")
    assert re.search(r"fit +recompute: Python is 3\.\d+ now, and was 3\.9", explained)
    capfd.readouterr()
    run = ended(flow([]).submit("old", "local", resume=True))
    assert "fit: recompute: Python is" in capfd.readouterr().err
    assert run.result() == [1, 2, 3, 4]
    assert calls(shared) == once("fit", range(4))


OF_ITEMS = """
import enum, htdag

class Kind(enum.Enum):
    A = %(member)s

class Star:
    def __init__(self, size):
        self.number = size
        self.kind = Kind.A

    def size(self):
        return self.number * %(factor)s

def make(number):
    return Star(number)

def scale(number):
    return number + %(factor)s

class Task:
    def __init__(self, function, number):
        self.function, self.number = function, number

stars = htdag.source([1, 2]).map(make, fuse=False)
sizes = stars.map(lambda star: (star.size(), star.kind.value), name="sizes")
tasks = htdag.source([Task(scale, 1)]).map(lambda task: task.function(task.number), name="tasks")
flow = htdag.Pipeline(sizes, tasks, name="kinds")
run = flow.submit("kinds", on="local", resume=True)
run.wait(progress=False)
assert run.result("sizes") == [(s * %(factor)s, %(member)s) for s in (1, 2)], run.result("sizes")
assert run.result("tasks") == [1 + %(factor)s], run.result("tasks")
"""


def test_items_count_with_the_classes_and_functions_that_they_name(tmp_path: Path, home: Path):
    told = []
    for values in (
        {"member": 1, "factor": 2},
        {"member": 1, "factor": 3},
        {"member": 5, "factor": 3},
    ):
        (tmp_path / "kinds.py").write_text(OF_ITEMS % values)
        done = subprocess.run(
            [sys.executable, str(tmp_path / "kinds.py")], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        told.append(done.stderr)
    assert "htdag: tasks: recompute: of 1 item 1 is new or changed" in told[1]
    assert "htdag: tasks: reuse: unchanged, 1 item" in told[2]


def test_empty_parts_of_keyed_items_are_not_computed_again(shared: Path, home: Path):
    def flow() -> Any:
        grouped = htdag.source(["a", "bb", "cc"]).group_by(len, chunk_size=1)
        sizes = grouped.starmap(lambda key, texts: key * len(list(texts)))
        return htdag.Pipeline(sizes.map(fit(shared, 1), fuse=False), name="parts")

    def run() -> Any:
        return ended(flow().submit("parts", "local", resume=True))

    assert sorted(run().result()) == [2, 5]
    assert sum(calls(shared).values()) == 2
    made = run().path.stat().st_ino
    assert sorted(run().result()) == [2, 5]
    assert run().path.stat().st_ino == made
    assert calls(shared) == Counter()


def test_a_process_killed_before_it_submits_again_loses_nothing(
    shared: Path, home: Path, monkeypatch: pytest.MonkeyPatch
):
    ended(per_item(shared, range(3)).submit("items", "local"))
    calls(shared)
    with monkeypatch.context() as patch:
        patch.setattr("htdag.run.resubmit.swap_back", lambda _: None)
        patch.setattr("htdag.run.directory.RunDirectory.submit", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            per_item(shared, range(4)).submit("items", "local", resume=True)
    run = ended(per_item(shared, range(4)).submit("items", "local", resume=True))
    assert run.result() == [1, 11, 21, 31]
    assert calls(shared) == once("parse", [3]) + once("fit", [30])


def test_rerun_of_what_a_flat_map_made(shared: Path, home: Path):
    def both(item: int) -> list[int]:
        note(shared, "both", item)
        return [item, -item]

    made = htdag.source([1, 2, 3]).flat_map(both).map(fit(shared, 1))
    run = ended(htdag.Pipeline(made, name="flat").submit("flat", "local"))
    keys = [item.key for item in run.items()]
    calls(shared)
    ended(run.rerun("fit", keys=[keys[2]]))
    assert run.result() == [2, 0, 3, -1, 4, -2]
    assert calls(shared) == once("both", [2]) + once("fit", [2, -2])
