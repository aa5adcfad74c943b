"""Files of stages, in and out: the same scripts on this machine and on either execute point."""

from __future__ import annotations

import collections
import dataclasses
import errno
import functools
import http.server
import json
import operator
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pool import daemons_version

import htdag
from htdag.compile.runtime_archive import write_archive
from htdag.compile.submit import SENDS_FOLDERS
from htdag.errors import (
    BackendError,
    DirectoryError,
    FunctionError,
    ItemsMissing,
    OptionError,
    RunDamaged,
    UsageError,
)
from htdag.functions.pickling import ItemPickler
from htdag.observe.loading import loads
from htdag.options import transfer
from htdag.run.replay import replay
from htdag.runtime import layout
from htdag.runtime.files import input_files
from htdag.runtime.layout import NodeFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pool import Pool

PLACES = ["local", *(pytest.param(p, marks=pytest.mark.pool) for p in ("seeing", "blind"))]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, runs_dir: Path) -> Iterator[str]:
    """Where runs go: this machine, or the execute point that sees its files, or sees none."""
    if request.param == "local":
        yield "local"
        return
    pool = request.getfixturevalue("pool")
    with pool.use(), pool.only(request.param):
        yield request.param


@pytest.fixture
def home(runs_dir: Path) -> Path:
    """A folder that the blind execute point does not see, for runs and the user's files."""
    return runs_dir


def finished(pipeline: htdag.Pipeline, place: str = "local") -> htdag.Run:
    run = pipeline.submit(on="local" if place == "local" else "condor")
    return run.wait(timeout=200)


STORED: dict[str, bytes] = {}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what was asked for."""

    def do_GET(self) -> None:
        body = STORED.get(self.path, f"you asked for {self.path}".encode())
        missing = "missing" in self.path
        self.send_response(404 if missing else 200)
        self.send_header("Content-Length", str(len(body) + ("short" in self.path)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def do_PUT(self) -> None:
        STORED[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    thread.join()
    made.server_close()


# --- The same script everywhere ---------------------------------------------------------


class Pair(NamedTuple):
    path: Path
    times: int


@dataclasses.dataclass(frozen=True)
class Settings:
    paths: tuple[Path, ...]
    table: collections.OrderedDict[str, Path]


def check(condition: bool) -> None:
    """Be an assert of a job's function: pytest's own would need pytest there."""
    if not condition:
        raise AssertionError


def multiply(item: Any, bound: list[Path]) -> dict[str, Any]:
    """Check what arrives, and return files: a plain one, and a folder with a link in it."""
    pair, settings, plain, several = item
    check(type(pair) is Pair)
    check(type(settings) is Settings)
    check(type(settings.paths) is tuple)
    check(type(settings.table) is collections.OrderedDict)
    check(isinstance(several, frozenset))
    check(plain == Path("some/where.txt"))  # a plain path stays as it is
    check(isinstance(pair.path, Path))
    # Equal names do not meet, and a directory is whole.
    check([path.name for path in settings.paths] == ["data.txt", "data.txt"])
    texts = [path.read_text() for path in settings.paths]
    (folder,) = several
    texts += [(folder / "in, side" / "déep.txt").read_text(), bound[0].read_text()]
    # The input files are in the working directory, which has nothing else.
    check(sorted(os.listdir()) == ["page.html", "the constants", "the table.txt"])
    texts.append(Path("the table.txt").read_text())
    texts.append(Path("the constants", "pi.txt").read_text())
    texts.append(Path("page.html").read_text())
    result = Path("result, all.txt")
    result.write_text(pair.path.read_text() * pair.times)
    whole = Path("whole")
    (whole / "sub folder").mkdir(parents=True)
    (whole / "sub folder" / "ü.txt").write_text("\n".join(texts))
    (whole / "link").symlink_to(Path("the table.txt").absolute())
    Path("left over").write_text("does not come back")
    outputs = [htdag.OutputFile(result)]
    check(not result.exists())
    outputs.append(htdag.OutputFile("whole"))
    check(outputs[0].read_text() == pair.path.read_text() * pair.times)
    os.unlink("left over")
    return {"outputs": outputs, "number": pair.times, "path": pair.path}


def is_there(value: dict[str, Any]) -> bool:
    return all(path.exists() for path in value["outputs"])


def read(value: dict[str, Any]) -> tuple[Any, ...]:
    result, whole = value["outputs"]
    names = sorted(str(path.relative_to(whole)) for path in whole.rglob("*"))
    return (
        result.name,
        result.read_text(),
        names,
        (whole / "sub folder" / "ü.txt").read_text().splitlines(),
        (whole / "link").read_text(),
        value["path"].read_text(),
    )


def joined(one: Path, other: Path) -> Path:
    path = Path("joined.txt")
    path.write_text(one.read_text() + other.read_text())
    return htdag.OutputFile(path)


def first_output(value: dict[str, Any]) -> Path:
    return value["outputs"][0]


def parity(value: dict[str, Any]) -> int:
    return value["number"] % 2


def texts_of(group: tuple[int, list[dict[str, Any]]]) -> tuple[int, list[str]]:
    return group[0], [value["outputs"][0].read_text() for value in group[1]]


def test_files_travel_in_and_out(place: str, home: Path, server: str):
    user = home / "the user's, files"
    for name in ("one", "two"):
        (user / name).mkdir(parents=True)
        (user / name / "data.txt").write_text(name)
    (user / "folder" / "in, side").mkdir(parents=True)
    (user / "folder" / "in, side" / "déep.txt").write_text("deep")
    (user / "table.txt").write_text("table")
    (user / "constants").mkdir()
    (user / "constants" / "pi.txt").write_text("3")
    for letter in "abcd":
        (user / f"{letter}.txt").write_text(letter)
    travelling = htdag.TransferPath(user)
    settings = Settings(
        (travelling / "one" / "data.txt", travelling / "two" / "data.txt"),
        collections.OrderedDict(z=travelling / "a.txt"),
    )
    items = [
        (Pair(path, n), settings, Path("some/where.txt"), frozenset([travelling / "folder"]))
        for n, path in enumerate(sorted(travelling.glob("?.txt")), 1)
    ]
    inputs = {
        "the table.txt": user / "table.txt",
        "the constants": user / "constants",
        "page.html": f"{server}/a/page.html?x=1",
    }
    made = htdag.source(iter(items), chunk_size=2).map(
        multiply, bind={"bound": htdag.files([user / "b.txt"])}, input_files=inputs
    )
    whole = made.filter(is_there)
    seen = whole.map(read, fuse=False, chunk_size=1)
    total = whole.map(first_output).reduce(joined)
    groups = whole.group_by(parity, partitions=2).map(texts_of).sort_by(operator.itemgetter(0))
    run = finished(htdag.Pipeline(seen, total, groups, whole, name="files"), place)
    expected_texts = ["one", "two", "deep", "b", "table", "3", "you asked for /a/page.html?x=1"]
    names = ["link", "sub folder", "sub folder/ü.txt"]
    assert run.result("read") == [
        ("result, all.txt", letter * n, names, expected_texts, "table", letter)
        for n, letter in enumerate("abcd", 1)
    ]
    path = run.result("joined")
    assert path.name == "joined.txt"
    assert path.is_relative_to(run.path)
    assert path.read_text() == "abbcccdddd"
    assert run.result("sort_by") == [(0, ["bb", "dddd"]), (1, ["a", "ccc"])]
    results = run.result("is_there")
    assert [value["outputs"][0].read_text() for value in results] == ["a", "bb", "ccc", "dddd"]
    assert [value["path"] for value in results] == [user / f"{letter}.txt" for letter in "abcd"]
    assert all(type(value["path"]) is type(Path()) for value in results)
    assert sorted(path.name for path in results[0]["outputs"][1].iterdir()) == [
        "link",
        "sub folder",
    ]
    # Only what an item names travels with its job, and nothing is left of where jobs worked.
    tasks = Path(NodeFiles(run.path, "read").chunk_list()).read_text().splitlines()
    assert [line.count(".files/") for line in tasks] == [2] * 4
    left = [path for path in run.path.rglob("*") if path.name.endswith(".work")]
    assert left == []


# --- Where returned files go ------------------------------------------------------------


def spelled(number: int) -> list[Path]:
    """Return files of equal names; the item 0 has none."""
    found = []
    for part in range(min(number, 2)):
        path = Path("spelled.txt")
        path.write_text(f"{number}.{part}")
        found.append(htdag.OutputFile(path))
    return found


def contents(paths: list[Path]) -> list[tuple[str, str]]:
    return [(path.name, path.read_text()) for path in paths]


EXPECTED = [[], [("spelled.txt", "1.0")], [("spelled.txt", "2.0"), ("spelled.txt", "2.1")]]


def test_a_name_that_no_url_takes_is_an_error_of_the_item(home: Path, server: str):
    def odd(name: str) -> Path:
        Path(name).mkdir() if name == "folder" else Path(name).touch()
        return htdag.OutputFile(name)

    stage = htdag.map(odd, ["a b.txt", "folder"], output_destination=f"{server}/odd")
    with pytest.raises(htdag.RunFailed) as caught:
        finished(htdag.Pipeline(stage))
    first, second = (error.message for error in caught.value.errors)
    assert first.startswith("OutputFile('a b.txt'): a file that goes to a URL has a name of")
    assert second.startswith("OutputFile('folder'): a directory cannot go to a URL")


def test_the_plain_path_of_a_file_that_would_be_lost_is_an_error(home: Path):
    def plain(name: str) -> Path:
        Path("made.txt").touch()
        return Path(name)

    (home / "given.txt").touch()
    stage = htdag.map(plain, ["made.txt", "given.txt", "/etc", "nowhere"], chunk_size=4)
    with pytest.raises(htdag.RunFailed, match=r"return htdag\.OutputFile\('made.txt'\)") as caught:
        finished(htdag.Pipeline(stage, input_files=home / "given.txt"))
    assert [error.key for error in caught.value.errors] == ["0"]


def named(number: int) -> list[Path]:
    Path("folder").mkdir()
    Path("folder", "inside.txt").write_text(f"inside {number}")
    Path(f"own {number}.txt").write_text(f"own {number}")
    found = [htdag.OutputFile(Path(f"own {number}.txt")), htdag.OutputFile("folder")]
    return found + spelled(number)


def delivered(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


IN_FOLDER = {
    **{f"own {number}.txt": f"own {number}" for number in range(3)},
    **{f"{number}.folder/inside.txt": f"inside {number}" for number in range(3)},
    "1.spelled.txt": "1.0",
    "2.spelled.txt": "2.0",
    "2.2.spelled.txt": "2.1",
}


def test_urls_and_folders_in_and_out(place: str, home: Path, server: str):
    STORED.clear()
    folder = home / "my results"
    one_each = htdag.source([0, 1, 2], chunk_size=1)
    sent = one_each.map(spelled, name="sent", output_destination=f"{server}/results/")
    read = sent.map(contents, name="read")
    put = one_each.map(named, name="put", output_destination=folder)
    urls = [f"{server}/one/data.txt", f"{server}/two/data.txt", f"{server}/a, b/data two.txt"]
    fetched = htdag.files(urls, chunk_size=3).map(lambda path: (path.name, path.read_text()))
    # Two URLs that end in the same name: HTCondor brings one of them.
    inputs = {"one": f"{server}/one/input.txt", "two": f"{server}/two/input.txt"}
    given = htdag.source([0]).map(
        lambda _: [Path("one").read_text(), Path("two").read_text()],
        name="given",
        input_files=inputs,
    )
    targets = [read, sent, put, fetched.with_options(retries=1), given]
    if place != "local" and daemons_version() < SENDS_FOLDERS:
        with pytest.raises(BackendError, match=r"'sent' has .*23\.10\.1 does\); give a folder"):
            finished(htdag.Pipeline(*targets, name="urls"), place)
        assert htdag.runs() == []
        run = finished(htdag.Pipeline(*targets[2:], name="urls"), place)
    else:
        run = finished(htdag.Pipeline(*targets, name="urls"), place)
        assert run.result("read") == EXPECTED
        found = run.result("sent")
        assert [len(of_item) for of_item in found] == [0, 1, 2]
        assert found[1][0].startswith(f"{server}/results/sent.0001.1.000000/")
        assert sorted(f"{server}{path}" for path in STORED) == sorted(found[1] + found[2])
        assert list(Path(NodeFiles(run.path, "sent").outcomes).rglob("*spelled.txt")) == []
    assert delivered(folder) == IN_FOLDER
    assert [path.is_relative_to(run.path) for path in run.result("put")[2]] == [True] * 4
    assert run.result("map") == [
        ("data.txt", "you asked for /one/data.txt"),
        ("data.txt", "you asked for /two/data.txt"),
        ("data two.txt", "you asked for /a%2C%20b/data%20two.txt"),
    ]
    assert run.result("given") == [
        [f"you asked for /{which}/input.txt" for which in ("one", "two")]
    ]


def test_another_run_puts_its_files_in_place_of_those_before(home: Path):
    folder = home / "results"
    stage = htdag.map(named, [0, 1, 2], output_destination=folder)
    for name in ("first", "second"):
        finished(htdag.Pipeline(stage, name=name))
        assert delivered(folder) == IN_FOLDER
        shutil.rmtree(folder / "0.folder")
        (folder / "own 1.txt").unlink()
        (folder / "own 1.txt").write_text("of another")


def test_resume_puts_files_that_are_gone_or_changed_in_place_again(
    home: Path, capsys: pytest.CaptureFixture[str]
):
    folder = home / "results"

    def again(*, more: bool = False) -> htdag.Run:
        stage = htdag.map(named, [0, 1, 2], name="made", output_destination=folder)
        targets = [stage, stage.map(len, fuse=False)] if more else [stage]
        return htdag.Pipeline(*targets).submit("t", on="local", resume=True).wait(timeout=60)

    run = again()
    made = run.path.stat().st_ino
    before = {path: path.stat().st_ino for path in folder.rglob("*") if path.is_file()}
    shutil.rmtree(folder / "0.folder")
    (folder / "own 1.txt").unlink()
    (folder / "own 2.txt").write_text("OWN 2")  # as long as it was
    (folder / "2.folder" / "mine.txt").write_text("mine")
    touched = folder / "2.folder" / "inside.txt"
    touched.touch()
    capsys.readouterr()
    assert again().path.stat().st_ino == made
    told = capsys.readouterr().err
    assert "'t' is done already" in told
    assert f"made: put back from the run: {folder}/0.folder/inside.txt and 2 other" in told
    assert delivered(folder) == IN_FOLDER | {"2.folder/mine.txt": "mine"}
    kept = {path for path, inode in before.items() if path.stat().st_ino == inode}
    assert kept == before.keys() - {
        folder / name for name in ("0.folder/inside.txt", "own 1.txt", "own 2.txt")
    }
    again()
    assert "put back" not in capsys.readouterr().err
    shutil.rmtree(folder / "0.folder")
    (folder / "0.folder").touch()
    with pytest.raises(DirectoryError, match="'t' is done, but files that 'made' returned"):
        again()
    shutil.rmtree(folder)
    again(more=True)  # another run, in which the stage has nothing left to compute
    assert "made: reuse: unchanged, 3 items" in capsys.readouterr().err
    assert delivered(folder) == IN_FOLDER


def test_files_go_from_lane_to_lane(home: Path):
    made = htdag.source(range(4), chunk_size=1).map(spelled, output_destination=home / "put")
    read = made.map(contents, name="read")
    total = read.map(len, fuse=False, name="number").reduce(operator.add, name="total")
    flow = htdag.Pipeline(read, total, name="lanes", lanes=2)
    assert flow.plan("local")["spelled"].lanes == 2
    run = finished(flow)
    assert [[text for _, text in found] for found in run.result("read")] == [
        [],
        ["1.0"],
        ["2.0", "2.1"],
        ["3.0", "3.1"],
    ]
    assert run.result("total") == 5
    assert sorted(delivered(home / "put").values()) == ["1.0", "2.0", "2.1", "3.0", "3.1"]


def test_names_decide_where_returned_files_go(home: Path):
    remaps = {
        "own*": home / "by name" / "{stem}-of-{key}{suffix}",
        "spelled.txt": f"{home}/spelled/",
        "folder": home / "folders" / "{key}",
    }
    stage = htdag.map(named, [0, 1, 2], output_files=remaps)
    also = {"output_files": {"spelled.txt": home / "not taken"}, "output_destination": home / "d"}
    finished(htdag.Pipeline(stage, name="names", **also))
    assert delivered(home / "by name") == {f"own {n}-of-{n}.txt": f"own {n}" for n in range(3)}
    assert delivered(home / "folders") == {f"{n}/inside.txt": f"inside {n}" for n in range(3)}
    assert sorted(delivered(home / "spelled").values()) == ["1.0", "2.0", "2.1"]
    assert not (home / "not taken").exists()
    assert not (home / "d").exists()  # none was left for it
    twice = htdag.map(named, [0, 1], output_files={"own*": home / "one.txt"})
    with pytest.raises(
        htdag.RunFailed, match=r"several files would be .*one.txt; use {key} in the name"
    ):
        finished(htdag.Pipeline(twice, name="twice"))


def test_a_folder_that_takes_no_files_fails_the_node_and_resume_goes_on(home: Path):
    folder = home / "parent" / "results"
    stage = htdag.map(named, [1], output_destination=folder)
    (home / "parent").touch()
    with pytest.raises(htdag.RunFailed, match="named: the returned files cannot be delivered"):
        finished(htdag.Pipeline(stage, name="blocked"))
    (run,) = htdag.runs("blocked*")
    log = (Path(NodeFiles(run.path, "named").logs) / "post.log").read_text()
    assert "the returned files cannot be delivered" in log
    (home / "parent").unlink()
    run.resume().wait(timeout=200)
    assert delivered(folder)["own 1.txt"] == "own 1"


# --- Troubles ---------------------------------------------------------------------------


def sometimes(marks: Path, number: int) -> Path:
    """Return a file, but at the first attempt die at 2 and raise at 4, with files half made."""
    path = Path("a.txt")
    path.write_text(f"{number}")
    first = not (marks / str(number)).exists()
    (marks / str(number)).touch()
    taken = htdag.OutputFile(path)
    if first and number == 2:
        os._exit(3)
    if first and number == 4:
        raise ValueError(number)
    return taken


def test_retries_add_files_and_keep_the_others(home: Path, tmp_path: Path):
    stage = htdag.source(range(6), chunk_size=6).map(
        functools.partial(sometimes, tmp_path), retries=1
    )
    read = stage.map(Path.read_text, fuse=False, name="read")
    run = finished(htdag.Pipeline(read, stage, name="retried"))
    assert run.result("read") == list("012345")
    paths = run.result("sometimes")
    attempts = [path.relative_to(run.path).parts[3] for path in paths]
    assert attempts == [f"0000.{2 if number in (2, 4) else 1}.files" for number in range(6)]
    # What the failed ones had taken aside is gone.
    assert len(list(run.path.rglob("a.txt"))) == 6


def cut_short(number: int) -> Iterator[Path]:
    for part in range(3):
        path = Path("part.txt")
        path.write_text(f"{number}.{part}")
        yield htdag.OutputFile(path)
    if number:
        raise ValueError(number)


def test_files_of_a_failed_item_are_removed(home: Path):
    stage = htdag.source([0, 1], chunk_size=2).flat_map(cut_short, on_error="skip", max_errors=1)
    run = finished(htdag.Pipeline(stage))
    with pytest.warns(ItemsMissing, match="1 item"):
        result = run.result()
    assert [path.read_text() for path in result] == ["0.0", "0.1", "0.2"]
    assert len(list(run.path.rglob("part.txt"))) == 3


@pytest.mark.parametrize("damage", ["missing", "folder", "changed", "longer"])
def test_a_damaged_returned_file_is_found_and_made_again(home: Path, damage: str):
    stage = htdag.source([1, 2, 3], chunk_size=1).map(spelled)
    run = finished(htdag.Pipeline(stage, name="damage"))
    path = run.result()[1][0]
    path.chmod(0o600)
    if damage == "missing":
        path.unlink()
    elif damage == "folder":
        shutil.rmtree(path.parent.parent)
        with pytest.raises(RunDamaged, match="returned files"):
            run.result()
    else:
        path.write_text("2.9" if damage == "changed" else "longer")
    run.resume().wait(timeout=200)
    assert [[path.read_text() for path in found] for found in run.result()] == [
        ["1.0"],
        ["2.0", "2.1"],
        ["3.0", "3.1"],
    ]
    assert len(list(run.path.rglob("spelled.txt"))) == 5  # and no other is left


def test_what_handed_a_lost_file_on_is_made_again_too(home: Path):
    made = htdag.source([1, 2], chunk_size=1).map(spelled)
    handed = made.map(lambda paths: paths[0], name="first", fuse=False)
    run = finished(htdag.Pipeline(handed, name="handed"))
    shutil.rmtree(Path(NodeFiles(run.path, "spelled").attempt(1, 1).returned))
    run.resume().wait(timeout=200)
    assert [path.read_text() for path in run.result()] == ["1.0", "2.0"]


def hidden(number: int) -> Any:
    Path("a.txt").touch()
    return getattr(htdag, "".join(["Output", "File"]))("a.txt")


def test_a_returned_file_that_nobody_foresaw_is_an_error(home: Path):
    with pytest.raises(htdag.RunFailed, match=r"Name htdag.OutputFile in the stage's function"):
        finished(htdag.Pipeline(htdag.map(hidden, [1])))


def mistaken(path: Path) -> str:
    return path  # type: ignore[return-value]


def test_a_path_that_the_annotation_denies_is_an_error_of_the_item(home: Path):
    (home / "text").write_text("text")
    run = htdag.Pipeline(htdag.files([home / "text"]).map(mistaken)).submit(on="local")
    with pytest.raises(htdag.RunFailed, match="although the annotation of the function says"):
        run.wait(timeout=200, progress=False)


def test_a_missing_returned_file_is_named_with_what_is_there(home: Path):
    def mistaken(number: int) -> Path:
        Path("result.txt").touch()
        return htdag.OutputFile("results.txt")

    with pytest.raises(htdag.RunFailed, match=r"results.txt'\): there is no such.*has result.txt"):
        finished(htdag.Pipeline(htdag.map(mistaken, [1])))


def test_files_that_travel_are_kept_as_they_are(place: str, home: Path):
    user = home / "mine.txt"
    user.write_text("mine")

    def check_kinds(path: Path) -> Any:
        made = Path("made.txt")
        made.write_text("made")
        made = htdag.OutputFile(made)
        check(made.stat().st_mode & 0o222 == 0)  # others may read it by now
        check(htdag.OutputFile(made) == made)
        check(type(pickle.loads(pickle.dumps(made.parent))) is type(Path()))
        os.mkfifo("fifo")
        for bad in ("fifo", "."):
            try:
                htdag.OutputFile(bad)
            except ValueError:
                continue
            raise AssertionError(bad)
        # A file that is not the job's own is copied, and one of the user's passed on as it is.
        copied = htdag.OutputFile(str(path))
        check(path.read_text() == "mine")
        with tempfile.NamedTemporaryFile("w", suffix=".tmp", delete=False) as file:
            file.write("temporary")
        check(htdag.OutputFile(file.name).read_text() == "temporary")
        Path(file.name).unlink(missing_ok=True)  # it was moved from a scratch directory
        return made, copied, htdag.OutputFile(path), path, path.parent

    run = finished(htdag.Pipeline(htdag.files([user]).map(check_kinds)), place)
    ((made, copied, same, plain, parent),) = run.result()
    assert (made.read_text(), copied.read_text(), user.read_text()) == ("made", "mine", "mine")
    assert copied.is_relative_to(run.path)
    assert (same, plain) == (user, user)
    assert (parent == user.parent) == (place != "blind")  # what is made of it is plain text
    assert {type(path) for path in (made, copied, same, plain, parent)} == {type(Path())}


def test_outside_of_jobs_nothing_is_moved(tmp_path: Path):
    path = tmp_path / "here.txt"
    path.touch()
    assert htdag.OutputFile(path) == path
    assert pickle.loads(pickle.dumps(htdag.OutputFile(path))) == path
    with pytest.raises(FileNotFoundError, match=r"the folder .* has here\.txt"):
        htdag.OutputFile(tmp_path / "there.txt")


def test_items_that_are_equal_files_are_one(home: Path):
    for name in "ab":
        (home / name).write_text(name)
    stage = htdag.files([home / "a", home / "b", home / "a"], chunk_size=1).distinct()
    run = finished(htdag.Pipeline(stage.map(Path.read_text, name="read")))
    assert sorted(run.result()) == ["a", "b"]


# --- URLs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("SERVER/missing.txt", "cannot be fetched: HTTP Error 404"),
        ("SERVER/short.txt", "cannot be fetched"),
        ("osdf:///ospool/data.txt", "only HTCondor can fetch this"),
    ],
)
def test_a_url_that_gives_no_file_is_an_error_of_the_item(
    home: Path, server: str, url: str, message: str
):
    stage = htdag.files([url.replace("SERVER", server)]).map(Path.read_text)
    with pytest.raises(htdag.RunFailed, match=message):
        finished(htdag.Pipeline(stage))


def with_input(path: Path) -> str:
    return path.read_text() + Path("folder", "deep.txt").read_text()


def returned(text: str) -> Path:
    Path("r.txt").write_text(text)
    return htdag.OutputFile("r.txt")


@pytest.mark.pool
def test_files_and_their_places_change_between_runs(pool: Pool, home: Path):
    """What is computed and delivered is that of today, also where machines share no files."""
    (home / "folder").mkdir()
    for name in ("a.txt", "b.txt", "folder/deep.txt"):
        (home / name).write_text(Path(name).name[0])

    def texts(place: str) -> list[str]:
        read = htdag.files([home / "a.txt", home / "b.txt"], chunk_size=1).map(
            with_input, input_files=home / "folder"
        )
        made = read.map(returned, fuse=False, output_files={"r.txt": home / place / "{key}.txt"})
        run = htdag.Pipeline(made, name="places", history=False).submit(
            "places", on="condor", resume=True
        )
        run.wait(timeout=100)
        found = [path.read_text() for path in run.result()]
        assert [path.read_text() for path in sorted((home / place).iterdir())] == found
        return found

    with pool.only("blind"):
        assert texts("first") == ["ad", "bd"]
        (home / "b.txt").write_text("B")
        assert texts("second") == ["ad", "Bd"]


@pytest.mark.parametrize("url", ["no url", 3, "https://host", "https://host/", "http://h/a#b"])
def test_what_is_no_url_of_a_file(url: Any):
    with pytest.raises(UsageError):
        htdag.TransferURL(url)


# --- Mistakes are found where they are made ---------------------------------------------


def test_a_missing_file_is_found_at_submit_and_leaves_nothing(home: Path):
    items = [{"a": htdag.TransferPath(__file__)}, {"a": [htdag.TransferPath("no/such.txt")]}]
    flow = htdag.Pipeline(htdag.source(items, name="items").map(len))
    with pytest.raises(UsageError, match=r"source 'items', item 1: there is no file .*no/such.txt"):
        flow.submit(on="local")
    assert list(home.rglob("*.dag")) == []
    stage = htdag.source(iter(items), name="items").map(len)
    with pytest.raises(UsageError, match="item 1"):
        htdag.Pipeline(stage).plan("local")


def test_a_path_that_is_no_part_of_an_item_does_not_travel():
    path = htdag.TransferPath(__file__)
    with pytest.raises(FunctionError, match="input_files"):
        htdag.source([1]).map(lambda _: path.read_text())
    with pytest.raises(UsageError, match="TransferURL"):
        htdag.TransferPath("https://example.org/a.txt")


def test_paths_made_of_a_travelling_one_travel_too(tmp_path: Path):
    folder = htdag.TransferPath(tmp_path)
    (folder / "sub").mkdir()
    (folder / "sub" / "a.txt").touch()
    made = [
        folder / "sub",
        *folder.iterdir(),
        *folder.glob("*"),
        *folder.rglob("*.txt"),
        folder.parent,
        (folder / "sub").resolve(),
        (folder / "x.txt").with_suffix(".py"),
    ]
    assert {type(path) for path in made} == {htdag.TransferPath}
    assert isinstance(folder, Path)
    assert os.fspath(folder) == str(tmp_path)
    assert folder == tmp_path


def test_input_files_are_checked_where_they_are_given(tmp_path: Path):
    source = htdag.source([1])
    (tmp_path / "one").mkdir()
    for path in ("a.txt", "one/a.txt"):
        (tmp_path / path).touch()
    wrong: list[tuple[Any, str]] = [
        ([tmp_path / "no.txt"], "stage 'len'.*there is no file"),
        ([tmp_path / "a.txt", tmp_path / "one/a.txt"], "would both be 'a.txt'"),
        ([tmp_path / "a.txt", "https://example.org/a.txt"], "would both be 'a.txt'"),
        ({"../a": tmp_path / "a.txt"}, "cannot be the name of a file"),
        ({1: tmp_path / "a.txt"}, "cannot be the name of a file"),
        ([3], "neither a path nor a URL"),
        (3, "it takes a path or a URL"),
        (["https://example.org/"], "its last part must be the name of a file"),
    ]
    for value, message in wrong:
        with pytest.raises(OptionError, match=message):
            source.map(len, input_files=value)
    assert source.map(len, input_files=[tmp_path / "a.txt"] * 2).options.input_files == (
        ("a.txt", str(tmp_path / "a.txt")),
    )
    for destination in (3, "https://example.org/a b", tmp_path / "a.txt" / "below"):
        with pytest.raises(OptionError):
            source.map(len, output_destination=destination)
    for remaps, message in [
        ("folder", "it takes a dict"),
        ({"a/b": "c"}, "neither a file name nor a pattern"),
        ({"a": "https://example.org/a"}, "output_destination"),
        ({"a": 3}, "not a path"),
        ({"a": "{item}"}, "not item"),
        ({"a": "{"}, "'{'"),
        ({"a": tmp_path / "a.txt" / "b"}, "not a folder that you can write to"),
    ]:
        with pytest.raises(OptionError, match=message):
            source.map(len, output_files=remaps)


def test_input_files_of_a_pipeline_and_a_stage_are_joined(home: Path, tmp_path: Path):
    for name in "abc":
        (tmp_path / name).write_text(name)
    both = {"for all": tmp_path / "a", "own": tmp_path / "a"}
    given = [tmp_path / "c"]

    def listed(_: int) -> dict[str, str]:
        return {name: Path(name).read_text() for name in sorted(os.listdir())}

    def again(_: dict[str, str]) -> dict[str, str]:
        return {name: Path(name).read_text() for name in sorted(os.listdir())}

    first = htdag.source([1]).map(listed, input_files={"own": tmp_path / "b"})
    second = first.map(again, input_files=given)
    run = finished(htdag.Pipeline(first, second, name="joined", input_files=both))
    assert run.result("listed") == [{"for all": "a", "own": "b"}]
    assert run.result("again") == [{"c": "c", "for all": "a", "own": "a"}]
    assert given == [tmp_path / "c"]
    assert set(both) == {"for all", "own"}
    assert {path.name for path in (run.path / "files").rglob("?")} == {"a", "b", "c"}


# --- Containers keep their types --------------------------------------------------------


class Named(NamedTuple):
    first: Any
    second: Any


@dataclasses.dataclass
class Open:
    first: Any
    second: Any = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    first: Any
    second: Any = None


class Attributes:
    """An object with what an item may hold, and no equality of its own."""

    def __init__(self, value: Any) -> None:
        self.value = value


PATHS = st.sampled_from([htdag.TransferPath(__file__), htdag.TransferPath(__file__).parent])
LEAVES = PATHS | st.integers() | st.text(max_size=3) | st.just(Path("plain")) | st.none()


def hashable(depth: int) -> st.SearchStrategy[Any]:
    if not depth:
        return LEAVES
    inner = hashable(depth - 1)
    return (
        LEAVES
        | st.tuples(inner, inner)
        | st.frozensets(inner, max_size=3)
        | st.builds(Named, inner, inner)
        | st.builds(Frozen, inner, inner)
    )


def items(depth: int) -> st.SearchStrategy[Any]:
    if not depth:
        return hashable(1)
    inner = items(depth - 1)
    by_name = st.dictionaries(st.text(max_size=2), inner, max_size=3)
    return (
        hashable(2)
        | st.lists(inner, max_size=3)
        | st.sets(hashable(1), max_size=3)
        | st.dictionaries(hashable(1), inner, max_size=3)
        | by_name.map(collections.OrderedDict)
        | by_name.map(lambda made: collections.defaultdict(list, made))
        | st.lists(inner, max_size=3).map(collections.deque)
        | st.builds(Open, inner, inner)
        | st.builds(Attributes, inner)
    )


def shape(value: Any, paths: list[Path]) -> Any:
    """What a value is made of, with travelling paths as plain ones; notes these."""
    kind = type(value)
    if isinstance(value, Path):
        if kind is htdag.TransferPath:
            paths.append(Path(value))
        return Path, str(value)
    if dataclasses.is_dataclass(value) or kind is Attributes:
        return kind, [(name, shape(each, paths)) for name, each in vars(value).items()]
    if isinstance(value, dict):
        return kind, [(shape(k, paths), shape(v, paths)) for k, v in value.items()]
    if isinstance(value, set | frozenset):
        return kind, sorted((shape(each, paths) for each in value), key=repr)
    if isinstance(value, tuple | list | collections.deque):
        return kind, [shape(each, paths) for each in value]
    return kind, value


@given(items(2))
def test_containers_keep_their_types(item: Any):
    travelling = transfer.Travelling()
    pickled = ItemPickler("s", set(), {}, travelling)(item, 0)
    paths: list[Path] = []
    expected = shape(item, paths)
    found = loads(pickled.payload, pickled.buffers)
    assert shape(found, []) == expected
    assert {json.loads(file)["path"] for file in pickled.files} == {str(path) for path in paths}
    assert set(travelling.paths.values()) == {str(path) for path in paths}


# --- htdag in a job ---------------------------------------------------------------------

OFFERED = """
import sys
sys.path.insert(0, {archive!r})
from htdag_runtime.files import paths
from htdag_runtime.api import shim as inside
inside.install()
import htdag
from htdag import OutputFile
assert OutputFile is htdag.OutputFile is paths.OutputFile
try:
    print(htdag.source.__module__)
except AttributeError as error:
    print(error)
assert htdag.OutputFile is paths.OutputFile
"""


@pytest.mark.parametrize("installed", [True, False])
def test_a_job_has_htdag_as_far_as_functions_need_it(tmp_path: Path, installed: bool):
    archive = tmp_path / "runtime.pyz"
    write_archive(str(archive))
    options = ["-I"] if installed else ["-I", "-S"]
    code = OFFERED.format(archive=str(archive))
    done = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = "htdag.stages.stage" if installed else "htdag.source does not exist in a job"
    assert done.stdout.startswith(expected)


def test_items_that_are_files_are_read_in_any_way(home: Path):
    for name in "abcd":
        (home / name).write_text(name)
    files = htdag.files(home / "[a-d]", chunk_size=1)
    kept = files.filter(lambda path: path.read_text() != "c", name="kept")
    batches = kept.batch(2, name="batches")
    texts = batches.map(lambda paths: "".join(map(Path.read_text, paths)), name="texts")
    pairs = files.zip(files.take(3)).map(lambda two: two[0].read_text() + two[1].read_text())
    ordered = files.sort_by(lambda path: path.name, reverse=True, name="ordered")
    both = files.concat(kept).combinations(2).count(name="both")
    first = ordered.map(Path.read_text, name="first")
    run = finished(htdag.Pipeline(batches, texts, pairs, ordered, first, both, name="ways"))
    assert run.result("batches") == [[home / "a", home / "b"], [home / "d"]]
    assert run.result("texts") == ["ab", "d"]
    assert run.result("map") == ["aa", "bb", "cc"]
    assert run.result("ordered") == [home / name for name in "dcba"]
    assert run.result("first") == list("dcba")
    assert run.result("both") == 21


def test_an_item_with_files_is_done_again_in_this_process(home: Path, tmp_path: Path):
    (home / "a.txt").write_text("a")
    (tmp_path / "factor").write_text("3")

    def times(path: Path) -> Path:
        made = Path("made.txt")
        made.write_text(path.read_text() * int(Path("factor").read_text()))
        return htdag.OutputFile(made)

    made = htdag.files([home / "a.txt"]).map(times, input_files=[tmp_path / "factor"])
    read = made.map(Path.read_text, name="read", fuse=False)
    run = finished(htdag.Pipeline(read, made, name="again"))
    plan = json.loads((run.path / layout.PLAN).read_text())
    plan["by_name"] = {node["name"]: node for node in plan["nodes"]}
    for stage, expected in (("times", "aaa"), ("read", "aaa")):
        seen: list[str] = []

        def look(done: Any, seen: list[str] = seen) -> None:
            value = done.steps[-1][2]
            seen.append(value.read_text() if isinstance(value, Path) else value)

        assert replay(run.path, plan, stage, "0", inspect=look).error is None
        assert seen == [expected]


def test_an_imported_run_has_the_files_themselves(home: Path, monkeypatch: pytest.MonkeyPatch):
    (home / "a.txt").write_text("a")
    stage = htdag.files([home / "a.txt"]).filter(Path.exists, name="kept")
    run = finished(htdag.Pipeline(stage, name="moved"))
    run.export(home / "moved.tar.gz")
    (home / "a.txt").unlink()
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("HTDAG_HOME", str(elsewhere))
    (path,) = htdag.import_run(home / "moved.tar.gz").result()
    assert path.is_relative_to(elsewhere)
    assert path.read_text() == "a"


# --- The user's own files -----------------------------------------------------------------


def same_again(item):
    return htdag.OutputFile("config.txt")


def test_an_input_file_that_is_returned_is_there_for_the_next_item(home: Path, tmp_path: Path):
    config = tmp_path / "config.txt"
    config.write_text("as it was")
    stage = htdag.map(same_again, [1, 2], chunk_size=2, input_files=config)
    found = htdag.Pipeline(stage).run(on="local")
    assert [path.read_text() for path in found] == ["as it was"] * 2


def scribble(item, name="config.txt"):
    """Write to an input file, in the working directory or an item."""
    path = Path(name) if isinstance(item, int) else item
    before = path.read_text()
    path.write_text("overwritten")
    return before


def test_an_input_file_is_a_copy_to_write_to(home: Path, tmp_path: Path):
    config = tmp_path / "config.txt"
    config.write_text("as it was")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside.txt").write_text("inside")
    inputs = {"config.txt": config, "folder": tmp_path / "folder"}
    stage = htdag.map(scribble, [1], input_files=inputs)
    inside = functools.partial(scribble, name="folder/inside.txt")
    other = htdag.map(inside, [1], input_files=inputs, name="inside")
    flow = htdag.Pipeline(stage, other, name="own")
    assert flow.run(on="local") == {"scribble": ["as it was"], "inside": ["inside"]}
    assert config.read_text() == "as it was"
    assert (tmp_path / "folder" / "inside.txt").read_text() == "inside"


def test_a_file_of_an_item_that_is_written_to_is_an_error_of_this_item(home: Path, tmp_path: Path):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(name)

    def careless(path):
        if path.name == "a.txt":
            path.write_text("overwritten")
        return path.name

    files = htdag.files([tmp_path / "a.txt", tmp_path / "b.txt"], chunk_size=2)
    run = htdag.Pipeline(files.map(careless)).submit(on="local")
    with pytest.raises(htdag.RunFailed, match=r"item 0 .*input file '.*a\.txt'.*let it write to"):
        run.wait(progress=False)
    assert [item.value for item in run.items(errors="skip")] == ["b.txt"]


def make_report(number):
    path = Path("report.txt")
    path.write_text(f"report {number}")
    folder = Path("pages")
    folder.mkdir()
    (folder / "1.txt").write_text("page")
    script = Path("run.sh")
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    return [htdag.OutputFile(path), htdag.OutputFile(folder), htdag.OutputFile(script)]


def test_delivered_files_are_the_users_own(home: Path, tmp_path: Path):
    out = tmp_path / "out"
    (out / "pages").mkdir(parents=True)
    (out / "pages" / "mine.txt").write_text("mine")
    stage = htdag.map(make_report, [1], output_destination=str(out))
    run = htdag.Pipeline(stage).submit(on="local").wait(progress=False)
    umask = os.umask(0)
    os.umask(umask)
    assert (out / "report.txt").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (out / "run.sh").stat().st_mode & 0o777 == 0o777 & ~umask
    assert (out / "pages" / "mine.txt").read_text() == "mine"
    # What is done to them changes nothing in the run; and they can be put there again.
    (out / "report.txt").write_text("edited")
    assert run.result()[0][0].read_text() == "report 1"
    run.rerun().wait(progress=False)
    assert (out / "report.txt").read_text() == "report 1"
    assert sorted(path.name for path in out.rglob("*")) == [
        "1.txt",
        "mine.txt",
        "pages",
        "report.txt",
        "run.sh",
    ]


def test_a_large_input_file_is_lent_and_looked_at(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(input_files, "LARGEST_COPY", 3)
    monkeypatch.setattr(input_files, "_of_job", {})
    large = tmp_path / "large"
    large.write_text("large")
    input_files.place(str(large), str(tmp_path / "input"))
    input_files.check()
    (tmp_path / "input").write_text("overwritten")
    with pytest.raises(PermissionError, match=r"large', which is your own and not a copy"):
        input_files.check()
    input_files.check()  # the items after it have not done that


@pytest.mark.parametrize("knows", ["neither", "copies", "clones"])
def test_a_copy_is_whole_however_the_file_system_makes_it(
    knows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    content = bytes(range(256)) * 9000
    (tmp_path / "old").write_bytes(content)

    def clone(new: int, request: int, old: int) -> None:
        assert request == 0x40049409
        if knows != "clones":
            raise OSError(errno.EOPNOTSUPP, "no")
        os.pwrite(new, os.pread(old, len(content), 0), 0)

    def copy(old: int, new: int, size: int) -> int:
        if knows != "copies":
            raise OSError(errno.EXDEV, "no")
        return os.write(new, os.read(old, min(size, 1 << 20)))

    monkeypatch.setattr("fcntl.ioctl", clone)
    monkeypatch.setattr(os, "copy_file_range", copy)
    with open(tmp_path / "old", "rb") as old, open(tmp_path / "new", "wb") as new:
        layout.copy_content(old.fileno(), new.fileno())
        # Nothing is copied once more.
        assert new.tell() == (0 if knows == "clones" else len(content))
    assert (tmp_path / "new").read_bytes() == content
