"""What is done with the jobs of a run while it is under way, on a real pool and on this machine."""

from __future__ import annotations

import functools
import json
import operator
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import htdag
from htdag.errors import BackendError, OptionError, RunEnded, UsageError
from htdag.runtime.dag import submitfile
from htdag.runtime.layout import NodeFiles

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_for(condition: Callable[[], Any], timeout: float = 200) -> Any:
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, condition
        time.sleep(0.1)


def called(folder: Path, item: Any) -> None:
    with open(folder / "calls", "a") as file:
        file.write(f"{item}\n")


def calls(folder: Path) -> list[str]:
    path = folder / "calls"
    return path.read_text().split() if path.exists() else []


def patient(folder: Path, x: int) -> int:
    """Wait for a file the first time, so that the test decides how long a job takes."""
    called(folder, x)
    while not (folder / "go").exists():
        time.sleep(0.05)
    return x


def text_of(*arguments: str, status: int = 0) -> str:
    """Run a verb of the command line, and return what it printed."""
    command = [str(Path(sys.executable).with_name("htdag")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def cli(*arguments: str) -> Any:
    """Run a verb of the command line, and return its JSON."""
    return json.loads(text_of(*arguments, "--json"))


def states(run: htdag.Run, ask: bool = False) -> list[str]:
    return sorted(job.state for job in run.jobs(ask=ask))


def once(folder: Path, x: int) -> int:
    patient(folder, x)
    if x == 3 and calls(folder).count("3") == 1:
        raise ValueError("not at once")
    return x


@pytest.mark.pool
def test_what_is_done_to_jobs_that_are_under_way(pool: Any, runs_dir: Path, shared: Path):
    # The fourth job is materialised late, and its item needs another attempt.
    work = htdag.source(range(4), chunk_size=1).map(
        functools.partial(once, shared), name="work", retries=1, max_materialize=3
    )
    run = htdag.Pipeline(work.reduce(operator.add, name="sum")).submit("jobs", on="condor")
    wait_for(lambda: states(run) == ["running"] * 3)

    assert cli("pause", "jobs", "work", "--key", "1")["jobs"] == 1
    wait_for(lambda: states(run) == ["running", "running", "suspended"])
    assert "1 job is paused until htdag continue jobs" in str(run.status())
    assert any("htdag continue jobs work" in reason.remedy for reason in run.why())
    assert run.pause("work", keys=["1"]) == 0
    assert run.continue_() == 1
    wait_for(lambda: states(run) == ["running"] * 3)
    with pytest.raises(UsageError, match="no job in the queue has the items 17"):
        run.hold("work", keys=["17"])

    assert run.vacate("work", keys=["0"]) == 1
    wait_for(lambda: calls(shared).count("0") == 2)

    assert cli("edit", "jobs", "work", "--request-memory", "200MB")["jobs"] == 3
    assert run.edit("work", time="1h", attributes={"Colour": '"red"'}) == 3
    assert run.priority(7, "work") == 3
    with pytest.raises(BackendError, match="Owner"):
        run.edit("work", attributes={"Owner": '"me"'})

    assert run.hold("work") == 3
    wait_for(lambda: run.state is htdag.RunState.HELD)
    assert [(job.state, job.code) for job in run.jobs(ask=True)] == [("held", 1)] * 3
    with pytest.raises(htdag.RunHeld, match=r"3 jobs, .*held by a person.*htdag release jobs work"):
        run.wait(progress=False)
    told = {reason.about: reason.why for reason in run.why()}
    assert told["node sum"] == "not started: it needs all of work"

    (shared / "go").touch()
    assert cli("release", "jobs")["jobs"] == 3
    assert run.wait(timeout=200, progress=False).result() == 6
    wanted = ["RequestMemory", "Colour", "JobPrio", "AllowedExecuteDuration"]
    cluster = json.loads((run.path / "submit.json").read_text())["ticket"]["cluster"]
    ads = pool.job_ads(f'DAGManJobId == {cluster} && DAGNodeName == "work"', wanted)
    assert len(ads) == 5
    assert {tuple(ad[name] for name in wanted) for ad in ads} == {(200, "red", 7, 3600)}
    with pytest.raises(RunEnded, match="htdag resume jobs"):
        run.hold()
    assert [reason.about for reason in run.why()] == ["the run"]


def hungry(folder: Path, name: str, x: int) -> int:
    """Use 200 MB, and wait to be caught at it where less was asked for."""
    called(folder, name)
    eaten = bytearray(200 << 20)
    eaten[:: 1 << 12] = b"x" * (len(eaten) >> 12)
    with open(os.environ["_CONDOR_JOB_AD"]) as file:
        asked = next(int(line.split("=")[1]) for line in file if line.startswith("RequestMemory "))
    if asked < 200:
        time.sleep(60)
    if name == "raised" and not (folder / "seen").exists():
        (folder / "seen").touch()
        raise ValueError("not at once")
    return asked


@pytest.mark.pool
@pytest.mark.since(25, 0, 0, lacks="there is no retry_request_memory")
def test_memory_that_is_exceeded(pool: Any, runs_dir: Path, shared: Path):
    stages = [
        htdag.source([0]).map(
            functools.partial(hungry, shared, name),
            name=name,
            request_memory="100MB",
            submit={"+EnforceMemory": "True"},
            **options,
        )
        for name, options in {
            "raised": {"retry_request_memory": "600", "retries": 1},
            "held": {},
        }.items()
    ]
    run = htdag.Pipeline(*stages).submit("memory", on="condor")
    wait_for(lambda: "held" in states(run))
    (told,) = run.status().held
    stage = run.status()["held"]
    assert (stage.held, stage.waiting, stage.running) == (1, 0, 0)
    assert "  held  " in text_of("status", "memory").splitlines()[1]
    shown = text_of("errors", "memory", "held")
    assert re.search(r"Held: memory exceeded.*\n.*\n.*says: .*\n   htdag edit memory held", shown)
    assert re.search(r"memory exceeded: had 1\d\d MB, used 2\d\d MB", told), told
    command = re.search(r"htdag (edit memory held --request-memory \w+); then: htdag rel", told)
    assert command, told
    assert cli(*command[1].split())["jobs"] == 1
    assert run.release("held") == 1
    run.wait(timeout=200, progress=False)
    assert run.result("held") == [int(submitfile.commands(str(run.path), "held")["request_memory"])]
    # HTCondor raised what the first attempt asked for; the second began with that.
    assert run.result("raised") == [600]
    assert calls(shared).count("raised") == 3
    ads = pool.job_ads('DAGNodeName == "raised"', ["RequestMemory", "NumJobStarts"])
    assert [(ad["RequestMemory"], ad["NumJobStarts"]) for ad in ads] == [(600, 2), (600, 1)]
    assert (
        "later attempts ask for 600 MB"
        in (Path(NodeFiles(run.path, "raised").logs) / "post.log").read_text()
    )


@pytest.mark.pool
def test_a_machine_that_seems_to_share_files(pool: Any, runs_dir: Path):
    stage = htdag.source(range(2), chunk_size=1).map(abs, name="work")
    sent = htdag.source(range(2), chunk_size=1).map(abs, name="sent", transfer_files=True)
    with pool.only("blind", pretends=True):
        run = htdag.Pipeline(stage, sent).submit("seems", on="condor")
        wait_for(lambda: states(run).count("held") == 2 and run.status()["sent"].done == 2)
        (told,) = run.status().held
        assert "2 jobs, such as" in told
        assert "does not see the run's directory" in told
        command = re.search(r"htdag (edit seems work --transfer-files); then: htdag rel", told)
        assert command, told
        assert cli(*command[1].split())["jobs"] == 2
        assert run.release("work") == 2
        assert run.wait(timeout=200, progress=False).result("work") == [0, 1]
    written = submitfile.commands(str(run.path), "work")
    assert written["should_transfer_files"] == "YES"


@pytest.mark.pool
def test_a_request_that_no_slot_meets_and_a_halt(
    pool: Any, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    first = htdag.source(range(2), chunk_size=1).map(abs, name="first", request_memory="64GB")
    run = htdag.Pipeline(first.map(abs, name="second", fuse=False)).submit("why", on="condor")
    wait_for(lambda: states(run) == ["idle"] * 2)
    idle = next(reason for reason in run.why() if reason.about.startswith("node first, 2 jobs"))
    assert "requests 64 GB of memory, and the largest of 2 slots has 4 GB" in idle.why
    assert "htdag edit why first --request-memory 4096MB" in idle.remedy
    assert [part.slots for part in idle.clauses if "TARGET.Memory" in part.text] == [0]
    assert [reason["about"] for reason in cli("why", "why")][-1] == "node second"

    # Without being asked why, but only when they have waited for a minute.
    assert htdag.load("why").status().notes == ()
    with monkeypatch.context() as patch:
        patch.setattr("htdag.run.wait._IDLE_FOR", 0.0)
        (note,) = htdag.load("why").status().notes
    assert note.startswith("node first, 2 jobs")
    assert "64 GB of memory" in note
    assert "htdag edit why first" in note

    assert run.hold() == 2
    assert run.state is htdag.RunState.HELD
    yet = "later jobs will be on hold until htdag release why"
    assert yet in str(run.status())
    assert run.release() == 2
    assert states(run, ask=True) == ["idle"] * 2
    assert yet not in str(run.status(ask=True))

    run.halt()
    assert any("htdag unhalt why" in reason.remedy for reason in run.why())
    assert "halted" in str(run.status())
    assert run.edit("first", request_memory="100MB") == 2
    with pytest.raises(htdag.RunFailed, match="it was halted, and all running jobs have ended"):
        run.wait(timeout=200, progress=False)
    assert run.state is htdag.RunState.STOPPED
    run.unhalt()
    assert run.wait(timeout=200, progress=False).result() == [0, 1]


@pytest.mark.pool
def test_jobs_that_are_not_submitted_yet_are_held_and_paused(
    pool: Any, runs_dir: Path, shared: Path
):
    first = htdag.source(range(2), chunk_size=1).map(
        functools.partial(patient, shared), name="first"
    )
    second = first.map(abs, name="second", fuse=False)
    (shared / "go").touch()
    run = htdag.Pipeline(second).submit("fresh", on="condor")
    run.pause("second")
    run.hold("first")
    with pytest.raises(htdag.RunHeld, match=r"node first, 2 jobs.*htdag release fresh first"):
        run.wait(timeout=200, progress=False)
    assert calls(shared) == []
    assert run.release("first") == 2
    pool.wait_until(lambda: run.status()["first"].done == 2, 200, "the first stage")
    with pytest.raises(htdag.RunHeld, match=r"node second, 2 jobs.*htdag continue"):
        run.wait(timeout=200, progress=False)
    assert "will not start until htdag continue fresh" in str(run.status())
    assert run.continue_("second") == 2
    assert run.wait(timeout=200, progress=False).result() == [0, 1]


def go_on_when_told(folder: Path, x: int) -> int:
    return patient(folder, x) + 1 if x == 0 else x + 1


@pytest.mark.pool
def test_the_jobs_of_a_loop_are_listed_explained_and_edited(
    pool: Any, runs_dir: Path, shared: Path
):
    step = functools.partial(go_on_when_told, shared)

    def one_round(numbers: htdag.Stage) -> htdag.Stage:
        return numbers.map(step, name="step").map(abs, name="size", fuse=False)

    end = htdag.iterate(one_round, htdag.source([0, 5]), max_rounds=2, name="loop", chunk_size=1)
    run = htdag.Pipeline(end).submit("loop", on="condor")
    wait_for(lambda: [job.state for job in run.jobs("step")] == ["running"])
    (job,) = run.jobs("step", ask=True)
    assert (job.place, job.within) == ("step (round 1 of loop)", (("loop", 1),))
    assert "step (round 1 of loop)" in text_of("jobs", "loop")
    assert run.edit("step", request_memory="200MB", attributes={"Colour": '"red"'}) == 1
    assert run.edit("loop", time="2h") == 1
    assert run.edit("size", attributes={"Requirements": "false"}) == 0
    (shared / "go").touch()
    wait_for(lambda: len(run.jobs("size")) == 2)
    asked = {reason.about.split(",")[0]: reason for reason in run.why()}
    assert "htdag edit loop size" in asked["node size"].remedy
    run.remove()

    def written(folder: Path) -> list[dict[str, str]]:
        return [submitfile.commands(str(folder), node) for node in ("step", "size")]

    for folder in ("nodes/loop/step", "nodes/loop/rounds/0001"):
        first, second = written(run.path / folder)
        assert (first["request_memory"], first["my.colour"]) == ("200", '"red"')
        assert first["allowed_execute_duration"] == second["allowed_execute_duration"] == "7200"
        assert "my.colour" not in second
        assert second["requirements"] == "false"


@pytest.mark.pool
def test_remove_where_no_schedd_answers(
    pool: Any, runs_dir: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
):
    work = htdag.source(range(2), chunk_size=1).map(functools.partial(patient, shared), name="work")
    run = htdag.Pipeline(work).submit("remove", on="condor")
    wait_for(lambda: states(run) == ["running"] * 2)
    cluster = json.loads((run.path / "submit.json").read_text())["ticket"]["cluster"]
    mine = f"ClusterId == {cluster} || DAGManJobId == {cluster}"
    with monkeypatch.context() as without:
        without.setenv("_CONDOR_SCHEDD_HOST", "nowhere")
        pool._htcondor.reload_config()
        with pytest.raises(BackendError, match="HTCondor"):
            run.remove()
        assert any(reason.about == "the schedd" for reason in run.why())
        run.remove(force=True)
        assert run.state is htdag.RunState.REMOVED
        assert "its schedd did not answer" in run.status().reason
        with pytest.raises(BackendError):
            run.resume()
    pool._htcondor.reload_config()
    assert len(pool.schedd.query(mine, ["ClusterId"])) == 3
    (shared / "go").touch()
    run.resume()
    assert run.wait(timeout=200, progress=False).result() == [0, 1]
    assert pool.schedd.query(mine, ["ClusterId"]) == []


def test_jobs_on_this_machine(runs_dir: Path, shared: Path):
    work = htdag.source(range(2), chunk_size=1).map(functools.partial(patient, shared), name="work")
    after = work.map(abs, name="after", fuse=False)
    run = htdag.Pipeline(after).submit("here", on="local")
    wait_for(lambda: len(calls(shared)) == 2)
    assert run.pause("work", keys=["1"]) == 1
    wait_for(lambda: states(run) == ["running", "suspended"])
    assert "1 job is paused" in str(run.status())
    shown = text_of("jobs", "here").splitlines()
    assert [line.split()[:4:3] for line in shown[1:]] == [
        ["work", "running"],
        ["work", "suspended"],
    ]
    assert text_of("continue", "her?") == "here: 1 job continued\n"
    wait_for(lambda: states(run) == ["running", "running"])
    assert cli("continue", "here")["jobs"] == 0
    assert text_of("why", "here") == "node after: not started: it needs all of work\n"
    for refused in (run.hold, run.release, run.vacate, lambda: run.edit(request_memory=1)):
        with pytest.raises(UsageError, match="the run is on this machine"):
            refused()
    assert not list(run.path.glob("*.halt"))
    assert "to undo it: htdag unhalt here" in text_of("halt", "here")
    assert next(reason.remedy for reason in run.why()) == "htdag unhalt here"
    (shared / "go").touch()
    with pytest.raises(htdag.RunFailed, match="it was halted"):
        run.wait(timeout=200, progress=False)
    assert text_of("unhalt", "here").startswith("no longer halted: it is ")
    assert run.wait(timeout=200, progress=False).result() == [0, 1]


def test_mistakes_are_told_at_once(runs_dir: Path):
    run = htdag.Pipeline(htdag.map(abs, [1], name="work")).submit("mistakes", on="local")
    run.wait(timeout=200, progress=False)
    with pytest.raises(UsageError, match="no stage or node 'wrok'"):
        run.jobs("wrok")
    with pytest.raises(UsageError, match="nothing to change"):
        run.edit("work")
    with pytest.raises(OptionError, match="request_memory='much'"):
        run.edit("work", request_memory="much")
    with pytest.raises(OptionError, match="time=-1"):
        run.edit("work", time=-1)
    with pytest.raises(OptionError, match="not the name of an attribute"):
        run.edit("work", attributes={"a b": 1})
    with pytest.raises(RunEnded, match="mistakes"):
        run.halt()
    assert "there are no jobs to pause" in text_of("pause", "mistakes", status=2)
    edit = functools.partial(text_of, "edit", "mistakes", "--stage", "work", status=2)
    assert "it takes NAME=EXPRESSION" in edit("--attribute", "Colour")
    assert "it takes seconds, a datetime.timedelta, or a text such as" in edit("--time", "soon")
    assert "where it cannot edit" in edit("--time", "8h", "--request-disk", "1000")
    assert "cannot give another priority" in text_of("priority", "mistakes", "3", status=2)
