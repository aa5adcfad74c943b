"""What users of HTMap had, group by group: files, checkpoints, delivery and options.

One run on the execute point that sees nothing of the submit side has a stage for each; its jobs are
evicted once. Packed packages and containers take long, and have tests of their own named after the
group: `test_environments.py::test_delivery_packed_brings_numpy`,
`test_containers.py::test_delivery_in_images`.
"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pool import Area, Pool, job_python

import htdag
from htdag.environments import Prepared
from htdag.errors import OptionError
from htdag.runtime import layout

pytestmark = pytest.mark.pool

BLIND = 'TARGET.FileSystemDomain == "blind.test"'
MOST = 60  # steps, of a second each


class Pair(NamedTuple):
    path: Path
    number: int


@dataclass(frozen=True)
class Scan:
    paths: frozenset[Path]
    table: dict[str, Any]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the path that was asked for."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.path)))
        self.end_headers()
        self.wfile.write(self.path.encode())

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class LabPython(htdag.Environment):
    """An environment of one's own, which says that it was taken."""

    def prepare(self) -> Prepared:
        return Prepared('export LAB=blue\npython=$(command -v python3)\nflags=" "', (), BLIND)


# --- What the jobs do --------------------------------------------------------------------------


def measure(scan: Scan) -> dict[str, Any]:
    """Read files from all kinds of places, and return a folder and a file."""
    (folder,) = scan.paths
    read = {
        "types": [type(scan.table["pair"]).__name__, type(scan.paths).__name__],
        "paths": isinstance(scan.table["pair"].path, Path),
        "equal names": [path.read_text() for path in scan.table["equal"]],
        "folder": sorted(str(path.relative_to(folder)) for path in folder.rglob("*")),
        "pair": scan.table["pair"].path.read_text(),
        "url": scan.table["url"].read_text(),
        "fixed": Path("the constants").read_text(),
        "page": Path("page").read_text(),
    }
    whole = Path("results")
    (whole / "of, a").mkdir(parents=True)
    (whole / "of, a" / "ü.txt").write_text("deep")
    Path("plot.txt").write_text(read["pair"])
    return {"read": read, "whole": htdag.OutputFile(whole), "plot": htdag.OutputFile("plot.txt")}


def next_stage(value: dict[str, Any]) -> list[str]:
    return [(value["whole"] / "of, a" / "ü.txt").read_text(), value["plot"].read_text()]


def simulate(most: int) -> list[str]:
    """Note in a folder which start of the job did each step, until two starts had a share."""
    state = Path("state/steps.json")
    done: list[str] = json.loads(state.read_text()) if state.exists() else []
    while len(set(done)) < 2 and len(done) < most:
        done.append(str(htdag.current().scratch))
        time.sleep(1)
        state.parent.mkdir(exist_ok=True)
        state.write_text(json.dumps(done))
        htdag.checkpoint(state.parent)
    return done


def where(number: int) -> tuple[int, str, str]:
    import sys

    return number, sys.executable, os.environ.get("LAB", "")


@htdag.stage(request_memory="64MB", retries=2, output_files={"*.txt": "nowhere/"})
def granted(number: int) -> tuple[int, int]:
    here = htdag.current()
    return here.cpus, here.memory


# --- The run -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parity:
    """The run, where its files went, and the ads of the jobs of `granted`."""

    run: htdag.Run
    home: Path
    ads: list[Any]


def the_pipeline(home: Path, server: str) -> htdag.Pipeline:
    user = home / "the user's, files"
    for name in ("one", "two"):
        (user / name).mkdir(parents=True)
        (user / name / "data.txt").write_text(name)
    (user / "constants.txt").write_text("pi = 3")
    travelling = htdag.TransferPath(user)
    table = {
        "pair": Pair(travelling / "one/data.txt", 3),
        "equal": [travelling / "one/data.txt", travelling / "two/data.txt"],
        "url": htdag.TransferURL(f"{server}/in/item"),
    }
    measured = htdag.source([Scan(frozenset([travelling]), table)]).map(
        measure,
        input_files={"the constants": user / "constants.txt", "page": f"{server}/for/all"},
        output_files={"plot.txt": home / "plots/{key}.txt", "results": home / "whole"},
    )
    numbers = htdag.source([1, 2], name="numbers", chunk_size=1)
    python = htdag.Environment.interpreter(job_python(), requirements=BLIND)
    looped = htdag.iterate(
        lambda state: state.map(simulate, name="in_round", checkpoint_interval=1),
        htdag.source([MOST]),
        max_rounds=1,
        name="loop",
    )
    return htdag.Pipeline(
        measured,
        measured.map(next_stage),
        looped,
        htdag.source([MOST]).map(simulate, checkpoint_interval=1),
        numbers.map(where, name="assume"),
        numbers.map(where, name="interpreter", environment=python),
        numbers.map(where, name="own", environment=LabPython()),
        numbers.map(
            granted,
            request_memory=lambda number: 64 * number,
            request_cpus=lambda number: number,
            requirements="TARGET.Memory > 1",
            submit={"+ProjectName": '"Survey"'},
        ),
        name="parity",
        requirements=BLIND,
        retries=1,
    )


@pytest.fixture(scope="module")
def parity(pool: Pool, pool_area: Area) -> Iterator[Parity]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever).start()
    home = pool_area.new_runs_dir()
    with pytest.MonkeyPatch.context() as patch, pool.use():
        patch.setenv("HTDAG_HOME", str(home))
        flow = the_pipeline(home, f"http://127.0.0.1:{server.server_port}")
        run = flow.submit(on="condor")
        try:
            evict(pool, "simulate")
            evict(pool, "in_round")
            run.wait(timeout=200)
        finally:
            server.shutdown()
            server.server_close()
        # The ad of a job that has just ended may be on its way from the queue to the history.
        dagman = run.directory.ticket()["ticket"]["cluster"]
        of_granted = f'DAGNodeName == "granted" && DAGManJobId == {dagman}'
        pool.wait_until(lambda: len(pool.job_ads(of_granted)) == 2, 200, "the ads of two jobs")
        ads = pool.job_ads(of_granted)
        yield Parity(run, home, ads)


def evict(pool: Pool, node: str) -> None:
    """Evict the job of a node, once a checkpoint of it has come back."""
    constraint = f'DAGNodeName == "{node}" && JobStatus == 2 && CheckpointNumber >= 0'
    pool.wait_until(lambda: pool.schedd.query(constraint, ["ClusterId"]), 200, "a checkpoint")
    subprocess.run(["condor_vacate_job", "-constraint", constraint], check=True)


# --- Files -------------------------------------------------------------------------------------


def test_files_in_containers_travel_and_are_plain_paths(parity: Parity):
    read = parity.run.result("measure")[0]["read"]
    assert read["types"] == ["Pair", "frozenset"]
    assert read["paths"]
    assert read["pair"] == "one"
    assert read["equal names"] == ["one", "two"]


def test_files_directories_travel_whole(parity: Parity):
    read = parity.run.result("measure")[0]["read"]
    names = ["constants.txt", "one", "one/data.txt", "two", "two/data.txt"]
    assert read["folder"] == names


def test_files_urls_are_fetched(parity: Parity):
    read = parity.run.result("measure")[0]["read"]
    assert (read["url"], read["page"]) == ("/in/item", "/for/all")


def test_files_that_functions_return_come_back_and_go_on(parity: Parity):
    value = parity.run.result("measure")[0]
    assert (value["whole"] / "of, a" / "ü.txt").read_text() == "deep"
    assert value["plot"].is_relative_to(parity.run.path)
    assert parity.run.result("next_stage") == [["deep", "one"]]


def test_files_go_where_remaps_say(parity: Parity):
    assert (parity.home / "plots/0.txt").read_text() == "one"
    assert (parity.home / "whole/of, a/ü.txt").read_text() == "deep"


# --- Checkpoint --------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["simulate", "loop"])
def test_checkpoint_outlives_an_eviction(parity: Parity, stage: str):
    (starts,) = parity.run.result(stage)
    assert len(starts) < MOST
    assert len(set(starts)) == 2


def test_checkpoint_does_nothing_without_a_job(tmp_path: Path, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(htdag, "current", lambda: Path)
    monkeypatch.setattr(Path, "scratch", "here", raising=False)
    assert simulate(2) == ["here", "here"]


# --- Delivery ----------------------------------------------------------------------------------


def test_delivery_assume_takes_the_python_of_the_point(parity: Parity):
    assert [number for number, _, _ in parity.run.result("assume")] == [1, 2]


def test_delivery_interpreter_takes_the_one_that_is_named(parity: Parity):
    found = {python for _, python, _ in parity.run.result("interpreter")}
    assert {os.path.realpath(python) for python in found} == {os.path.realpath(job_python())}


def test_delivery_of_ones_own(parity: Parity):
    assert [lab for _, _, lab in parity.run.result("own")] == ["blue", "blue"]


# --- Options -----------------------------------------------------------------------------------


def asked(parity: Parity, name: str) -> list[Any]:
    return [ad.eval(name) for ad in parity.ads]


def test_options_input_files_for_all_items(parity: Parity):
    assert parity.run.result("measure")[0]["read"]["fixed"] == "pi = 3"


def test_options_by_the_item(parity: Parity):
    assert (asked(parity, "RequestMemory"), asked(parity, "RequestCpus")) == ([64, 128], [1, 2])
    assert [cpus for cpus, _ in parity.run.result("granted")] == [1, 2]


def test_options_of_the_call_go_before_the_functions_and_these_before_the_pipelines(
    parity: Parity,
):
    nodes = json.loads((parity.run.path / layout.PLAN).read_text())["nodes"]
    retries = {node["name"]: node["retries"] for node in nodes}
    assert (retries["granted"], retries["assume"]) == (2, 1)
    options = htdag.map(granted, [1], request_memory="32MB").options
    assert (options.request_memory, options.retries) == ("32MB", 2)
    assert options.output_files is not None  # not lost on the way


def test_options_requirements_all_hold(parity: Parity):
    text = str(parity.ads[0].lookup("Requirements"))
    assert '(TARGET.FileSystemDomain == "blind.test") && (TARGET.Memory > 1)' in text


def test_options_other_submit_commands(parity: Parity):
    assert asked(parity, "ProjectName") == ["Survey", "Survey"]


@pytest.mark.parametrize("name", ["Executable", "TRANSFER_INPUT_FILES", "log", "Request_Memory"])
def test_options_reserved_commands_are_refused(name: str):
    with pytest.raises(OptionError, match=r"set by htdag itself|as an option of the stage"):
        htdag.map(abs, [1], submit={name: "1"})
