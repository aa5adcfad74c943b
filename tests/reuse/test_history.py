"""What earlier runs measured: gathered from their records, kept in a file, used by later plans."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import stat
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import htdag
from htdag.errors import OptionError, UsageError
from htdag.plan.tune import Measured
from htdag.reuse import history
from htdag.runtime import layout
from htdag.runtime.data import recordfile
from htdag.runtime.layout import NodeFiles


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path / "home"))
    for name in ("HTDAG_HISTORY", "HTDAG_TARGET_JOB_SECONDS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def slow(x):
    time.sleep(0.02)
    return x


def small(x):
    return x < 5


def add(a, b):
    return a + b


def flow(items=20, **options):
    stage = htdag.source(range(items), name="numbers").map(slow, name="slow", **options)
    total = stage.filter(small, name="small").reduce(add, name="total")
    return htdag.Pipeline(total, name="flow")


def fake_run(home, name, key="flow/slow/map", seconds=1.0, created=1.0, ended=True):
    """A directory with just what is gathered from."""
    run = home / "runs" / name
    Path(NodeFiles(run, "slow").outcomes).mkdir(parents=True)
    stages = [{"name": "slow", "history": key}]
    nodes = [{"name": "slow", "stages": ["slow"]}]
    plan = {"nodes": nodes, "stages": stages, "sources": {}}
    (run / layout.PLAN).write_text(json.dumps(plan))
    manifest = {"created": created, "dag": "flow.dag"}
    (run / layout.RUN).write_text(json.dumps(manifest))
    end = {"peak_kb": 30_000, "disk_kb": 300, "disk_fixed_kb": 100}
    end["measured"] = {
        "items": 10,
        "seconds": 10 * seconds + 1,
        "base_kb": 20_000,
        "stages": [["slow", "whole", 10, 10 * seconds, 10]],
    }
    recordfile.append(NodeFiles(run, "slow").attempt(0, 1).record, "end", end)
    state = {"state": "done" if ended else "running"}
    (run / layout.LOCAL_STATE).write_text(json.dumps(state))
    return run


# A run, and the plan after it


def test_the_second_plan_follows_the_first_run(home):
    first = flow().plan(on="local")
    assert first.nodes[0].chunks == 20
    run = flow().submit("first", on="local").wait()
    assert run.result() == 10
    second = flow().plan(on="local")
    node = second.nodes[0]
    assert node.jobs == min(20, 2 * _cores())
    assert node.chunks == node.jobs
    assert node.options.request_memory == "128MB"
    assert node.options.retry_request_memory == "256MB"
    assert "in 1 run" in node.measured
    (known,) = history.read()["flow/slow/map"]
    assert 0.02 <= known.seconds < 5
    assert (known.calls, known.jobs, known.ratio) == (20, 20, 1.0)
    assert 0 <= known.memory_mb < 100
    assert 0 < known.disk_mb < 1
    (filtered,) = history.read()["flow/small/filter"]
    assert filtered.ratio == 5 / 20
    assert filtered.seconds < known.seconds  # not the time of the stage that it shares jobs with
    # The same pipeline runs by the new plan, and gives the same.
    again = flow().submit("second", on="local").wait()
    assert again.result() == 10
    assert len(history.read()["flow/slow/map"]) == 2


def test_how_many_keys_were_found_is_remembered():
    groups = htdag.source(range(60)).group_by(lambda n: n % 7, name="groups")
    counted = groups.map(len, name="sizes").map(slow, name="next", fuse=False)
    htdag.Pipeline(counted, name="flow").submit(on="local").wait()
    (found,) = history.read()["flow/groups/group_by/groups"]
    assert found.calls == 7
    last = htdag.Pipeline(counted, name="flow").plan(on="local").nodes[-1]
    assert "so little work" in " ".join(last.reasons)
    assert last.cost is not None
    assert last.cost.items == 7


def _cores():
    from htdag.backends.local import cores

    return cores()


def test_explain_says_what_was_measured_and_what_would_change_it():
    flow().submit("first", on="local").wait()
    text = flow().explain(on="local")
    assert text == flow().explain(on="local")
    lines = " ".join(text.split())
    assert "measured in 1 run: " in lines
    assert re.search(r"with request_memory='\d+MB', .*, as measured node stage", lines)
    assert f"two for each of {_cores()} slot" in lines
    assert "request_memory=... and request_disk=... (what jobs ask for)" in lines
    assert "target_job_seconds=..." in lines


def test_each_node_says_what_is_proposed_where_it_is_not_the_same_for_all():
    def made():
        return htdag.Pipeline(
            htdag.source([1]).map(slow, name="a").map(slow, name="b", request_disk="3GB"),
            name="two",
        )

    made().submit("first", on="local").wait()
    text = made().explain(on="local")
    assert text.count("     proposed request_memory=") == 2
    assert "     options  request_disk='3GB'" in text


def test_a_script_that_did_not_wait_is_gathered_from_by_the_next_plan(home):
    run = flow().submit("alone", on="local")
    while not run.state.ended:
        time.sleep(0.02)
    assert not history.store_path().exists()
    assert flow().plan(on="local").nodes[0].jobs == min(20, 2 * _cores())


def test_to_delete_a_run_does_not_lose_what_it_measured(home):
    run = flow().submit("gone", on="local").wait()
    shutil.rmtree(run.path)
    assert history.gather_finished() == 0
    assert flow().plan(on="local").nodes[0].jobs


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_history_can_be_left_out(how, monkeypatch, home):
    def plain(x):
        return x

    def made(**options):
        stage = htdag.source(range(300)).map(plain, name="plain")
        return htdag.Pipeline(stage, name="off", **options)

    if how == "environment":
        monkeypatch.setenv("HTDAG_HISTORY", "off")
        made().submit("one", on="local").wait()
        assert not history.store_path().exists()
        monkeypatch.delenv("HTDAG_HISTORY")
        assert made().plan(on="local").nodes[0].jobs  # the run is still there
        monkeypatch.setenv("HTDAG_HISTORY", "off")
        assert made().plan(on="local").nodes[0].jobs is None
        assert made(history=True).plan(on="local").nodes[0].jobs
    else:
        made().submit("one", on="local").wait()
        assert made(history=False).plan(on="local").nodes[0].jobs is None


def test_the_target_comes_from_the_pipeline_or_the_environment(home, monkeypatch):
    fake_run(home, "a", seconds=10.0)
    stage = htdag.source(range(1000)).map(slow, name="slow")

    def jobs(**options):
        (node,) = htdag.Pipeline(stage, name="flow", **options).plan(on="local").nodes
        return node.chunks

    assert jobs() == 17
    assert jobs(target_job_seconds=100) == 101  # 0.1 s an item are spent outside of functions
    monkeypatch.setenv("HTDAG_TARGET_JOB_SECONDS", "1010")
    assert jobs() == 10
    assert jobs(target_job_seconds=2020) == 5


@pytest.mark.parametrize(
    ("options", "variables", "named"),
    [
        ({"target_job_seconds": 0}, {}, "target_job_seconds"),
        ({"target_job_seconds": "10"}, {}, "target_job_seconds"),
        ({"target_job_seconds": True}, {}, "target_job_seconds"),
        ({"target_job_seconds": float("inf")}, {}, "target_job_seconds"),
        ({"history": 1}, {}, "history"),
        ({}, {"HTDAG_TARGET_JOB_SECONDS": "ten"}, "HTDAG_TARGET_JOB_SECONDS"),
        ({}, {"HTDAG_TARGET_JOB_SECONDS": "-1"}, "HTDAG_TARGET_JOB_SECONDS"),
        ({}, {"HTDAG_HISTORY": "perhaps"}, "HTDAG_HISTORY"),
    ],
)
def test_wrong_settings_are_errors_that_name_them(options, variables, named, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OptionError, match=named):
        htdag.Pipeline(htdag.map(slow, [1]), **options)


def test_a_place_that_is_none_is_an_error_without_history_too():
    with pytest.raises(UsageError, match="on='cloud'"):
        flow().plan(on="cloud")


# Gathering


def test_what_is_kept_of_a_run(home):
    fake_run(home, "one", seconds=2.0, created=5.0)
    assert history.gather_finished() == 1
    (known,) = history.read()["flow/slow/map"]
    assert known == Measured(
        run=5.0,
        node="slow",
        jobs=1,
        calls=10,
        seconds=2.0,
        ratio=1.0,
        rest=pytest.approx(0.1),
        memory_mb=10_000 / 1024,
        disk_mb=20 / 1024,
        disk_fixed_mb=100 / 1024,
        slowest=2.0,
    )


def test_runs_are_gathered_from_once_and_only_when_they_have_ended(home):
    run = fake_run(home, "one", ended=False)
    assert history.gather_finished() == 0
    (run / layout.LOCAL_STATE).write_text('{"state": "done"}')
    assert history.gather_finished() == 1
    assert history.gather_finished() == 0


def test_a_run_on_htcondor_has_ended_when_dagman_says_so(home):
    run = fake_run(home, "one")
    (run / layout.LOCAL_STATE).unlink()
    assert history.gather_finished() == 0
    (run / "flow.dag.metrics").write_text("{}")
    assert history.gather_finished() == 1


def test_a_run_that_was_resumed_replaces_what_it_had_measured(home):
    run = fake_run(home, "one", seconds=1.0)
    history.gather(run)
    record = Path(NodeFiles(run, "slow").attempt(0, 1).record)
    Path(NodeFiles(run, "slow").attempt(0, 2).record).write_text(
        record.read_text().replace("11.0", "12.0")
    )
    history.gather(run, again=False)
    assert history.read()["flow/slow/map"][0].rest == pytest.approx(0.1)
    history.gather(run)
    (known,) = history.read()["flow/slow/map"]
    assert known.rest == pytest.approx(0.2)


def test_a_tag_that_is_used_again_is_another_run(home):
    shutil.rmtree(fake_run(home, "one", created=1.0))
    history.gather_finished()
    fake_run(home, "one", created=1.0)
    assert history.gather_finished() == 1
    (home / "runs" / "one").rename(home / "moved")  # so that the inode is another one
    fake_run(home, "one", created=2.0)
    history.gather_finished()
    assert [run.run for run in history.read()["flow/slow/map"]] == [1.0, 2.0]


def test_only_the_last_runs_of_a_stage_and_the_last_stages_are_kept(home, monkeypatch):
    for number in range(history.KEPT_RUNS + 3):
        history.gather(fake_run(home, f"a-{number}", key="a", created=float(number)))
    assert [run.run for run in history.read()["a"]] == [3, 4, 5, 6, 7]
    monkeypatch.setattr(history, "MOST_STAGES", 3)
    for key in "bcde":
        history.gather(fake_run(home, key, key=key))
    assert list(history.read()) == ["c", "d", "e"]


def test_of_more_runs_than_are_remembered_the_first_are_read_again(home, monkeypatch):
    monkeypatch.setattr(history, "_MOST_NAMES", 3)
    for number in range(5):
        history.gather(fake_run(home, f"run-{number}", key="a", created=float(number)))
    assert history.gather_finished() == 2


@pytest.mark.parametrize("damage", ["no plan", "no manifest", "plan", "record", "old", "a file"])
def test_runs_that_are_damaged_or_older_are_passed_over(home, damage):
    fake_run(home, "good")
    run = fake_run(home, "bad", key="flow/bad/map")
    if damage == "no plan":
        (run / layout.PLAN).unlink()
    elif damage == "no manifest":
        (run / layout.RUN).unlink()
    elif damage == "plan":
        (run / layout.PLAN).write_text('{"nodes": [{"no": "name"}], "stages": []}')
    elif damage == "record":
        Path(NodeFiles(run, "slow").attempt(0, 1).record).write_bytes(b'{"end": {"measured": \xff')
    elif damage == "old":
        recordfile.append(NodeFiles(run, "slow").attempt(0, 1).record, "end", {"items": 3})
    else:
        shutil.rmtree(run)
        run.write_text("")
    history.gather_finished()
    history.gather(run)
    assert list(history.read()) == ["flow/slow/map"]


# The file


def test_the_file_is_for_its_owner_only_and_no_other_is_left(home):
    history.gather(fake_run(home, "one"))
    assert stat.S_IMODE(history.store_path().stat().st_mode) == 0o600
    names = sorted(path.name for path in home.iterdir())
    assert names == ["history.json", "history.json.lock", "runs"]


DAMAGES = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[]",
    b"null",
    b"{}",
    b'{"format": 1}',
    b'{"format": "1", "gathered": {}, "stages": {}}',
    b'{"format": 1, "gathered": [], "stages": {}}',
    b'{"format": 1, "gathered": {"a": "b"}, "stages": {}}',
    b'{"format": 1, "gathered": {}, "stages": {"k": [{"run": 1}]}}',
    b'{"format": 1, "gathered": {}, "stages": {"k": 3}}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=range(len(DAMAGES)))
def test_a_damaged_file_is_a_warning_and_made_anew(home, damage):
    fake_run(home, "one")
    history.gather_finished()
    history.store_path().write_bytes(damage)
    with pytest.warns(UserWarning, match="history of earlier runs, is damaged"):
        assert flow().plan(on="local").nodes[0].options.request_memory == "128MB"
    assert list(history.read()) == ["flow/slow/map"]


@pytest.mark.parametrize("value", ["1e400", "NaN", "-1", "true", '"1"', "null", "[]"])
def test_numbers_that_are_none_are_damage(home, value):
    history.gather(fake_run(home, "one"))
    text = history.store_path().read_text()
    assert '"ratio":1.0' in text
    history.store_path().write_text(text.replace('"ratio":1.0', f'"ratio":{value}'))
    with pytest.warns(UserWarning, match="damaged"):
        assert history.read() == {}


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.data())
def test_whatever_is_in_the_file_planning_goes_on(home, data):
    store = history.store_path()
    shutil.rmtree(home, ignore_errors=True)
    history.gather(fake_run(home, "one"))
    content = bytearray(store.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    store.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert flow().plan(on="local").nodes


def test_a_file_of_a_later_format_is_left_to_those_who_know_it(home):
    history.gather(fake_run(home, "one"))
    history.store_path().write_text('{"format": 99, "other": 1}')
    assert history.read() == {}


def test_a_home_that_cannot_be_written_is_a_warning(home, tmp_path, monkeypatch):
    run = fake_run(home, "one")
    home.rename(tmp_path / "moved")
    home.write_text("a file, not a folder")
    with pytest.warns(UserWarning, match="not stored for later plans"):
        history.gather(tmp_path / "moved" / "runs" / "one")
    assert run.name == "one"


def test_several_processes_may_gather_at_once(home):
    code = """
import sys
from pathlib import Path
from htdag.reuse import history
for name in sys.argv[1:]:
    history.gather(Path(name))
"""
    runs = [fake_run(home, str(number), key=f"stage-{number}") for number in range(24)]
    processes = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", code, *runs[first : first + 6]])
        for first in range(0, 24, 6)
    ]
    assert [process.wait(200) for process in processes] == [0] * 4
    assert sorted(history.read()) == sorted(f"stage-{number}" for number in range(24))


def test_a_lock_that_is_never_given_back_does_not_stop_anyone(home, monkeypatch):
    monkeypatch.setattr(history, "_LOCK_TIMEOUT", 0.05)
    run = fake_run(home, "one")
    with open(f"{history.store_path()}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        history.gather(run)
    assert list(history.read()) == ["flow/slow/map"]
