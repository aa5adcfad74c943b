"""Runs are renamed, cleaned up, exported and imported."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import tarfile
import time
from datetime import timedelta

import pytest
from click.testing import CliRunner

import htdag
from htdag import cli
from htdag.errors import RunActive, RunDamaged, RunNotFound, StageNameError, UsageError
from htdag.run import archive as bundle


def refuse_three(x):
    if x == 3:
        raise ValueError("no three")
    return 10 * x


def tag_told_once(home):
    """Note what the job is told, and fail the first time."""
    first = not (home / "told").exists()
    with open(home / "told", "a") as file:
        print(htdag.current().run, file=file)
    if first:
        raise ValueError("the first time")
    return home


def length(path):
    return len(path.read_text())


@pytest.fixture
def home(tmp_path, monkeypatch):
    path = tmp_path / "home"
    monkeypatch.setenv("HTDAG_HOME", str(path))
    return path


def failed_run(tag):
    stage = htdag.source(range(5), chunk_size=2).map(refuse_three)
    run = htdag.Pipeline(stage).submit(tag, on="local")
    with pytest.raises(htdag.RunFailed):
        run.wait(200)
    return run


def tags():
    return [run.tag for run in htdag.runs()]


def command(*words, status=0, stdin=None):
    result = CliRunner().invoke(cli.main, list(words), input=stdin)
    assert result.exit_code == status, result.output
    return result


# retag


def test_a_run_gets_another_tag_and_goes_on_under_it(home):
    run = failed_run(None)
    assert run.transient
    assert run.retag("kept") is run
    assert not run.transient
    assert tags() == ["kept"]
    assert htdag.load("kept").errors()[0].key == "3"
    assert json.loads((run.path / "run.json").read_text())["tag"] == "kept"
    with pytest.raises(htdag.RunFailed):
        run.resume().wait(200)
    assert run.status()["refuse_three"].done == 4


def test_jobs_are_told_the_tag_that_the_run_has_now(home):
    def one_round(numbers):
        return numbers.map(tag_told_once, name="told")

    flow = htdag.Pipeline(htdag.iterate(one_round, htdag.source([home]), max_rounds=2))
    run = flow.submit("one", on="local")
    with pytest.raises(htdag.RunFailed):
        run.wait(200)
    run.retag("two").resume().wait(200)
    assert run.result() == [home]
    assert (home / "told").read_text().split() == ["one", "two", "two"]


def test_tags_that_are_taken_or_wrong_change_nothing(home):
    run = failed_run("one")
    failed_run("two")
    for tag in ("two", "a/b", "one"):
        with pytest.raises(StageNameError):
            run.retag(tag)
    assert tags() == ["one", "two"]


def test_a_directory_that_was_renamed_by_hand_has_the_tag_of_its_name(home):
    run = failed_run("one")
    run.path.rename(run.path.with_name("moved"))
    assert htdag.load("moved").tag == "moved"


def test_a_run_that_is_under_way_is_left_alone(home):
    flow = htdag.Pipeline(htdag.source([1]).map(lambda x: time.sleep(60)))
    run = flow.submit("busy", on="local")
    try:
        for act in (lambda: run.retag("x"), run.delete, lambda: run.export("x.tar")):
            with pytest.raises(RunActive, match="cannot be"):
                act()
        assert htdag.clean("*") == []
        assert tags() == ["busy"]
    finally:
        run.remove(force=True)
    assert [entry.state for entry in htdag.clean("busy")] == ["stopped"]


# clean


def test_without_a_pattern_only_transient_runs_are_cleaned(home):
    failed_run(None)
    failed_run("kept")
    (entry,) = htdag.clean(dry_run=True)
    assert entry.state == "failed"
    assert entry.size > 10_000
    assert len(tags()) == 2
    assert [found.tag for found in htdag.clean()] == [entry.tag]
    assert tags() == ["kept"]
    assert [path.name for path in (home / "runs").iterdir()] == ["kept"]


def test_states_and_age_select(home):
    failed_run("a")
    htdag.Pipeline(htdag.map(abs, [1])).submit("b", on="local").wait(200)
    assert htdag.clean("*", states="done", older_than=3600) == []
    assert htdag.clean("*", older_than=timedelta(days=1)) == []
    assert [entry.tag for entry in htdag.clean("*", states=["done"], older_than=0)] == ["b"]
    with pytest.raises(UsageError, match="running"):
        htdag.clean("*", states="running")
    assert tags() == ["a"]


def test_clean_asks_and_shows_sizes(home, monkeypatch):
    failed_run("a")
    failed_run("b")
    text = command("clean", "--all", "--dry-run").stdout
    assert text.splitlines()[0].split() == ["tag", "state", "size", "ended"]
    assert "2 runs" in text
    assert re.search(r"\d [kM]B", text)
    assert "--yes" in command("clean", "a", status=2).stderr
    assert "no such run" in command("clean").stderr
    assert "excl" in command("clean", "--all", "a", status=2).stderr or tags() == ["a", "b"]
    assert tags() == ["a", "b"]
    assert "deleted: 1" in command("clean", "a", "--yes").stdout
    assert [row["tag"] for row in json.loads(command("clean", "b", "--yes", "--json").stdout)] == [
        "b"
    ]
    assert tags() == []
    assert "12h or 30d" in command("clean", "--older-than", "soon", status=2).stderr


# export and import


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz"])
def test_a_run_is_what_it_was_on_another_machine(home, tmp_path, monkeypatch, suffix):
    run = failed_run("there")
    before = run.status()
    path = run.export(tmp_path / f"run{suffix}")
    assert path.stat().st_mode & 0o777 == 0o600
    run.delete()
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path / "elsewhere"))
    there = htdag.import_run(path)
    assert there.tag == "there"
    assert there.state is htdag.RunState.FAILED
    assert there.status().stages == before.stages
    assert there.errors()[0].message == "no three"
    assert next(there.items(errors="skip")).value == 0
    with pytest.raises(htdag.RunFailed):
        there.resume().wait(200)
    assert there.status()["refuse_three"].done == 4


def test_files_of_the_user_come_along(home, tmp_path, monkeypatch):
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in ("a", "b"):
        (texts / f"{name}.txt").write_text(name * 7)
    stage = htdag.files(str(texts / "*.txt"), name="texts").map(length)
    run = htdag.Pipeline(stage.map(lambda n: n // (n - 7), name="bad", fuse=False)).submit(
        "files", on="local"
    )
    with pytest.raises(htdag.RunFailed):
        run.wait(200)
    path = run.export(tmp_path / "run.tar")
    shutil.rmtree(texts)
    there = htdag.import_run(path, "again", on="local")
    # What is done is kept; done anew, it reads the files that came along.
    for record in (there.path / "nodes/length/out").iterdir():
        record.unlink()
    with pytest.raises(htdag.RunFailed):
        there.resume().wait(200)
    assert there.status()["length"].done == 2


def test_damaged_archives_are_refused_and_leave_nothing(home, tmp_path):
    run = failed_run("one")
    path = run.export(tmp_path / "run.tar")
    data = path.read_bytes()
    at = data.index(b"no three")
    changed = tmp_path / "changed.tar"
    changed.write_bytes(data[:at] + b"NO" + data[at + 2 :])
    cut = tmp_path / "cut.tar"
    cut.write_bytes(data[: len(data) // 2])
    other = tmp_path / "other.tar"
    with tarfile.open(other, "w") as archive:
        archive.add(__file__, "run.json")
    evil = tmp_path / "evil.tar"
    with tarfile.open(evil, "w") as archive:
        archive.add(__file__, "../evil")
    text = tmp_path / "text.tar"
    text.write_text("no archive")
    for wrong in (changed, cut, other, evil, text):
        with pytest.raises(RunDamaged, match=str(wrong)):
            htdag.import_run(wrong, "new")
    assert [entry.name for entry in (home / "runs").iterdir()] == ["one"]
    assert not (home / "evil").exists()
    with pytest.raises(StageNameError, match="already"):
        htdag.import_run(path)
    with pytest.raises(FileNotFoundError):
        htdag.import_run(tmp_path / "nothing.tar")
    with pytest.raises(UsageError, match=r"ends with \.tar"):
        run.export(tmp_path / "run.zip")


def test_an_export_that_fails_leaves_the_one_that_is_there(home, tmp_path, monkeypatch):
    run = failed_run("one")
    path = run.export(tmp_path / "run.tar")
    before = path.read_bytes()

    def broken(*args):
        raise OSError("disk is full")

    monkeypatch.setattr(bundle, "_add", broken)
    with pytest.raises(OSError, match="full"):
        run.export(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir() if "run" in entry.name] == ["run.tar"]


def test_the_verbs(home, tmp_path):
    failed_run("one")
    path = str(tmp_path / "run.tar.gz")
    assert "is now 'two'" in command("retag", "one", "two").stdout
    assert path in command("export", "two", path).stdout
    assert "run 'three'" in command("import", path, "--tag", "three").stdout
    assert sorted(tags()) == ["three", "two"]
    assert "failed" in command("status", "three").stdout
    assert "no three" in command("errors", "three").stdout
    with pytest.raises(RunNotFound):
        htdag.load("one")


def tampered(archive, target, change):
    """Write an archive again, with other files, as whoever sends it could."""
    digests = {}
    with tarfile.open(archive) as old, tarfile.open(target, "w") as new:
        about = json.loads(old.extractfile(bundle.DIGESTS).read())
        for entry in old:
            if entry.name == bundle.DIGESTS:
                continue
            data = old.extractfile(entry).read() if entry.isfile() else b""
            data = change(entry.name, data)
            entry.size = len(data) if entry.isfile() else 0
            digests[entry.name] = hashlib.sha256(data).hexdigest() if entry.isfile() else ""
            new.addfile(entry, io.BytesIO(data))
        about = {**about, "sha256": digests}
        data = change(bundle.DIGESTS, json.dumps(about).encode())
        entry = tarfile.TarInfo(bundle.DIGESTS)
        entry.size = len(data)
        new.addfile(entry, io.BytesIO(data))
    return target


LOOKS = ("status", "why", "jobs", "errors", "usage", "wait", "release", "remove", "runs", "path")


@pytest.mark.parametrize(
    ("backend", "state"), [("condor", "failed"), ("condor", "running"), ("local", "held")]
)
def test_an_archive_names_no_program_and_no_path(home, tmp_path, monkeypatch, backend, state):
    run = failed_run("there")
    archive = run.export(tmp_path / "there.tar")
    run.delete()
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    config = tmp_path / "config"
    config.write_text(f"include command : {program}\n")
    known = {"config": str(config), "programs": [str(tmp_path)], "own": True}

    def change(name, data):
        if name == "submit.json":
            ticket = {"cluster": 1, "dag": "x.dag", "htcondor": known}
            content = {"backend": backend, "time": 0, "ticket": ticket}
            return json.dumps(content).encode()
        if name == "run.json":
            script = {"file": str(config), "module": None, "arguments": [], "folder": "/"}
            return json.dumps(
                json.loads(data) | {"script": script | {"python": str(program)}}
            ).encode()
        if name == bundle.DIGESTS:
            return json.dumps(json.loads(data) | {"state": state}).encode()
        return data

    hostile = tampered(archive, tmp_path / "hostile.tar", change)
    brought = htdag.import_run(hostile)
    for verb in LOOKS:
        told = CliRunner().invoke(cli.main, [verb, *(["there"] if verb != "runs" else [])])
        assert told.exception is None or isinstance(told.exception, SystemExit), verb
    CliRunner().invoke(cli.main, ["status", "there", "--ask"])
    CliRunner().invoke(cli.main, ["stdout", "there", "refuse_three"])
    told = CliRunner().invoke(cli.main, ["resume", "there", "--script"])
    assert "its script is not part of an export" in told.stderr
    assert brought.state.value == ("failed" if state == "failed" else "stopped")
    assert str(tmp_path / "config") not in (brought.path / "submit.json").read_text()
    assert not ran.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (bundle.DIGESTS, b"[]"),
        (bundle.DIGESTS, b'{"format": 1}'),
        (bundle.DIGESTS, b'{"format": 1, "sha256": 5, "tag": "x", "state": null}'),
        ("run.json", b"{}"),
        ("run.json", b"[1"),
        ("plan.json", b"5"),
        ("submit.json", b"null"),
    ],
)
def test_an_archive_without_a_whole_run_is_refused_in_words(home, tmp_path, name, content):
    run = failed_run("there")
    archive = run.export(tmp_path / "there.tar")
    run.delete()
    bad = tampered(archive, tmp_path / "bad.tar", lambda of, data: content if of == name else data)
    with pytest.raises(RunDamaged, match=r"bad\.tar"):
        htdag.import_run(bad)
    assert tags() == []


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz"])
def test_damaged_archives_are_refused_in_words(home, tmp_path, suffix):
    run = failed_run("there")
    archive = run.export(tmp_path / f"there{suffix}")
    run.delete()
    whole = archive.read_bytes()
    damages = [whole[: len(whole) // 2], b"", b"\x1f\x8b" + whole[2:], whole[:700] + bytes(900)]
    damages += [whole[:at] + b"\xff\x00\xff" + whole[at + 3 :] for at in range(40, 4000, 400)]
    refused = 0
    for damage in damages:
        archive.write_bytes(damage)
        try:
            htdag.import_run(archive).delete()
        except RunDamaged:
            refused += 1
    assert refused > len(damages) // 2
    assert [path.name for path in (home / "runs").iterdir()] == []


def test_ages_have_one_form_everywhere(home):
    for verb in (["clean"], ["cache", "clear"]):
        for age in ("-1d", "soon", "30", ""):
            assert "12h or 30d" in command(*verb, f"--older-than={age}", status=2).stderr
        command(*verb, "--older-than=1d 12h", "--yes")


def test_what_is_cleaned_up_without_a_question_is_what_was_named(home):
    failed_run("a")
    failed_run("b")
    told = command("clean", "a", "--state", "failed", status=2).stderr
    assert "htdag clean a --state failed --yes" in told
    assert tags() == ["a", "b"]
