"""What the doctor makes of facts about a pool."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from pool import version_of, wait_until

from htdag import cli
from htdag.backends.condor import bindings
from htdag.doctor import collect as collecting
from htdag.doctor.facts import ExecutePoint, Facts, Probe
from htdag.doctor.findings import LOCAL_SETTINGS, NEGOTIATOR_SETTINGS, Finding, Severity, findings
from htdag.show.pool import print_findings

POINT = ExecutePoint("node1.example.org", "25.14.1", 8, 16_000, clock_ahead=1.0)
FAST = {
    "DAGMAN_USER_LOG_SCAN_INTERVAL": "1",
    "DAGMAN_HOLD_CLAIM_TIME": "0",
    "DAGMAN_LOG_ON_NFS_IS_ERROR": "false",
    "GUIDANCE_KEEP_CALM_AND": "True",
    "JOB_DEFAULT_REQUESTMEMORY": "128",
    "SCHEDD_INTERVAL": "1",
    "SCHEDD_MIN_INTERVAL": "1",
    "NEGOTIATOR_INTERVAL": "1",
}
GOOD = Facts(
    "condor",
    "submit.example.org",
    "3.11.2",
    "/home/ada/.local/share/htdag/runs",
    schedd_answers=True,
    dagman_found=True,
    bindings="25.14.1",
    schedd="25.14.1",
    settings=FAST,
    points=(POINT,),
    probes=(Probe(POINT.name, "3.11.9"),),
    runs_filesystem="ext4",
)
LOCAL = Facts("local", "this machine", "3.11.2", "/tmp/runs", reason="no schedd answers")


def names(facts: Facts, severity: Severity | None = None) -> list[str]:
    return [one.name for one in findings(facts) if severity in (None, one.severity)]


def test_nothing_is_found_in_a_fast_pool():
    assert findings(GOOD) == []


def set_to(**changed: str) -> Facts:
    return replace(GOOD, settings={**FAST, **changed})


@pytest.mark.parametrize(
    ("facts", "name", "severity"),
    [
        (set_to(DAGMAN_USER_LOG_SCAN_INTERVAL="5"), "scan-interval", Severity.SLOWS),
        (set_to(GUIDANCE_KEEP_CALM_AND="False"), "guidance", Severity.SLOWS),
        (set_to(SCHEDD_MIN_INTERVAL="5"), "schedd-min-interval", Severity.SLOWS),
        (set_to(NEGOTIATOR_INTERVAL="60"), "negotiator-interval", Severity.SLOWS),
        (
            set_to(DAGMAN_HOLD_CLAIM_TIME="20", SCHEDD_INTERVAL="300"),
            "kept-claims",
            Severity.NOTE,
        ),
        (set_to(DAGMAN_HOLD_CLAIM_TIME="20", SCHEDD_INTERVAL=""), "kept-claims", Severity.NOTE),
        (replace(GOOD, bindings="24.0.1"), "bindings-version", Severity.NOTE),
        (
            replace(GOOD, points=(POINT, replace(POINT, name="old", version="24.0.1"))),
            "point-versions",
            Severity.NOTE,
        ),
        (
            replace(
                GOOD,
                schedd="23.8.1",
                bindings="23.8.1",
                points=(replace(POINT, version="23.8.1"),),
            ),
            "old-version",
            Severity.NOTE,
        ),
        (replace(GOOD, points=()), "no-slots", Severity.BREAKS),
        (replace(GOOD, points=(replace(POINT, memory_mb=100),)), "no-slots", Severity.BREAKS),
        (replace(GOOD, points=(replace(POINT, cpus=0),)), "no-slots", Severity.BREAKS),
        (replace(GOOD, points=(replace(POINT, starts_jobs=False),)), "no-slots", Severity.BREAKS),
        (replace(GOOD, probes=None), "python-unknown", Severity.NOTE),
        (replace(GOOD, probes=(Probe("a", "3.9.1"),)), "python-version", Severity.BREAKS),
        (replace(GOOD, probes=(Probe("a", ""),)), "python-version", Severity.BREAKS),
        (replace(GOOD, probes=(Probe("a", "", "did not"),)), "probe-silent", Severity.NOTE),
        (replace(GOOD, probes_left_out=3), "probe-bounded", Severity.NOTE),
        (replace(GOOD, runs_directory="/tmp/runs"), "runs-in-tmp", Severity.BREAKS),
        (replace(GOOD, runs_filesystem="nfs4"), "runs-on-network", Severity.NOTE),
        (
            replace(set_to(DAGMAN_LOG_ON_NFS_IS_ERROR="true"), runs_filesystem="nfs4"),
            "runs-on-network",
            Severity.BREAKS,
        ),
        (
            replace(GOOD, points=(replace(POINT, clock_ahead=-90.0),)),
            "clock",
            Severity.NOTE,
        ),
        (LOCAL, "no-htcondor", Severity.NOTE),
        (replace(LOCAL, root=True), "no-htcondor", Severity.NOTE),
        (replace(LOCAL, root=True, schedd_answers=True), "root", Severity.BREAKS),
        (replace(LOCAL, schedd_answers=True), "no-dagman", Severity.BREAKS),
    ],
)
def test_each_check_finds_what_it_is_for(facts, name, severity):
    (finding,) = findings(facts)
    assert (finding.name, finding.severity) == (name, severity)
    assert finding.what
    assert finding.remedy
    assert finding.cost or name in ("probe-silent", "probe-bounded", "negotiator-unknown")


def test_a_pool_at_htcondors_defaults_is_slow_in_four_ways():
    # What is not set has its default, but the negotiator may be elsewhere and tell nothing.
    facts = replace(GOOD, settings={"NEGOTIATOR_INTERVAL": "60"})
    assert len(names(facts, Severity.SLOWS)) == 4
    assert names(facts, Severity.NOTE) == ["kept-claims"]
    assert "negotiator-unknown" in names(replace(GOOD, settings={}), Severity.NOTE)


def test_the_worst_comes_first():
    facts = replace(GOOD, settings={}, probes=(Probe("a", "3.9.1"),), runs_filesystem="nfs")
    order = [list(Severity).index(finding.severity) for finding in findings(facts)]
    assert order == sorted(order)
    assert set(order) == {0, 1, 2}


def test_older_schedds_have_no_guidance_to_wait_for():
    facts = set_to(GUIDANCE_KEEP_CALM_AND="")
    assert "guidance" in names(facts)
    assert "guidance" not in names(replace(facts, schedd="24.4.9", bindings="24.12.1"))


def test_only_some_execute_points_are_named():
    probes = tuple(Probe(f"node{number}", "3.9.1") for number in range(20))
    (finding,) = findings(replace(GOOD, probes=probes))
    assert "20 of 20" in finding.what
    assert "node2" in finding.what
    assert "node3" not in finding.what
    assert "17 more" in finding.what


def test_findings_in_a_pipe_are_one_line_each(capsys):
    facts = replace(GOOD, settings={"NEGOTIATOR_INTERVAL": "60"}, probes=(Probe("a", ""),))
    found = findings(facts)
    print_findings(facts, found)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "runs go to HTCondor, submit.example.org"
    assert [line[10:] for line in lines if line.startswith(("breaks", "slows", "note"))] == [
        finding.what for finding in found
    ]
    assert lines[-1] == "one thing would break runs; 4 things slow them down"
    print_findings(GOOD, [])
    assert "nothing found" in capsys.readouterr().out


def test_the_page_shows_what_is_printed(capsys):
    page = Path(__file__).parents[2] / "docs/pool.md"
    shown = page.read_text(encoding="utf-8").partition("$ htdag doctor\n")[2].partition("```")[0]
    points = tuple(replace(POINT, name=f"node{number}", cpus=32) for number in range(12))
    facts = replace(set_to(NEGOTIATOR_INTERVAL="60", DAGMAN_USER_LOG_SCAN_INTERVAL="5"))
    facts = replace(facts, points=points, probes=None)
    print_findings(facts, findings(facts))
    assert capsys.readouterr().out == shown


def run(*words: str, status: int) -> str:
    result = CliRunner().invoke(cli.main, ["doctor", *words])
    assert result.exit_code == status, result.output
    return result.stdout


@pytest.fixture
def no_htcondor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONDOR_CONFIG", "/dev/null")
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))
    bindings._reload()  # a pool of another test may have been used in this process


@pytest.mark.usefixtures("no_htcondor")
def test_without_htcondor_the_doctor_says_where_runs_go():
    text = run(status=0)
    assert text.startswith("runs go to this machine\n")
    assert "htdag pool start" in text
    content = json.loads(run("--json", status=0))
    assert content["facts"]["place"] == "local"
    assert [one["name"] for one in content["findings"]] == ["no-htcondor"]
    assert content["findings"][0]["severity"] == "note"


def test_what_breaks_a_run_is_told_by_the_exit_status(monkeypatch):
    bad = replace(GOOD, points=())
    monkeypatch.setattr(collecting, "collect", lambda *words: bad)
    assert "no execute point" in run(status=1)
    monkeypatch.setattr(collecting, "collect", lambda *words: set_to(SCHEDD_MIN_INTERVAL="5"))
    assert "SCHEDD_MIN_INTERVAL = 1" in run(status=0)


def older(pool) -> set[str]:
    """What the doctor says of a pool whose daemons are older than the bindings."""
    import htcondor2

    same = pool.version[0] == version_of(htcondor2.version())[0]
    return set() if same else {"bindings-version"}


@pytest.mark.pool
def test_the_doctor_looks_at_a_real_pool(pool, runs_dir):
    facts = collecting.collect()
    assert facts.place == "condor"
    assert {*LOCAL_SETTINGS, *NEGOTIATOR_SETTINGS} - set(facts.settings) == set()
    assert facts.settings["DAGMAN_USER_LOG_SCAN_INTERVAL"] == "1"
    assert facts.settings["NEGOTIATOR_INTERVAL"] == "1"
    points = {point.name.partition("@")[0]: point for point in facts.points}
    assert set(points) == set(pool.points)
    assert {(point.cpus, point.memory_mb) for point in facts.points} == {(4, 4096)}
    assert all(abs(point.clock_ahead) < 5 for point in facts.points)
    assert facts.schedd.count(".") == 2
    assert set(names(facts)) == {"python-unknown"} | older(pool)


@pytest.mark.pool
def test_probe_jobs_tell_the_python_of_each_point(pool, runs_dir):
    facts = collecting.collect(probe=True, timeout=30)
    assert [probe.problem for probe in facts.probes] == ["", ""]
    assert all(probe.python.startswith(facts.python.rpartition(".")[0]) for probe in facts.probes)
    assert set(names(facts)) == older(pool)
    wait_until(lambda: not pool.schedd.query("true", ["ProcId"]), 200, "an empty queue")
    assert list((runs_dir / "runs").iterdir()) == []


@pytest.mark.pool
def test_a_probe_that_does_not_start_ends_in_time_and_leaves_nothing(pool, runs_dir):
    with pool.only("seeing"):
        facts = collecting.collect(probe=True, limit=1, timeout=1)
        assert facts.probes_left_out == 1
        (probe,) = facts.probes
    assert probe.point.startswith("blind")
    assert probe.problem == "its probe job did not start within 1 s"
    found: list[Finding] = findings(facts)
    assert "probe-silent" in [finding.name for finding in found]
    wait_until(lambda: not pool.schedd.query("true", ["ProcId"]), 200, "an empty queue")
