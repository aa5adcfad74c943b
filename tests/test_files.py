"""Files of stages, in and out: the same scripts on this machine and on either execute point."""

from __future__ import annotations

import collections
import dataclasses
import http.server
import operator
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import htdag
from htdag.runtime import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    return run.wait(timeout=100)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what was asked for."""

    def do_GET(self) -> None:
        body = f"you asked for {self.path}".encode()
        missing = "missing" in self.path
        self.send_response(404 if missing else 200)
        self.send_header("Content-Length", str(len(body) + ("short" in self.path)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

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
    check(sorted(os.listdir()) == ["constants", "page.html", "the table.txt"])
    texts.append(Path("the table.txt").read_text())
    texts.append(Path("constants", "pi.txt").read_text())
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
        "constants": user / "constants",
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
    tasks = (run.path / layout.chunk_list("read")).read_text().splitlines()
    assert [line.count(".files/") for line in tasks] == [2] * 4
    left = [path for path in run.path.rglob("*") if path.name.endswith(".work")]
    assert left == []
