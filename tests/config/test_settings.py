"""Settings: code before environment before file before default; and the log."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from click.testing import CliRunner

import htdag
from htdag import cli
from htdag.config import directories, settings
from htdag.config import log as _logging
from htdag.errors import OptionError


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "settings.toml"
    monkeypatch.setenv("HTDAG_SETTINGS", str(path))
    return path


def origins() -> dict[str, tuple[object, str]]:
    return {each.setting.name: (each.value, each.origin) for each in settings.every()}


def test_the_order(file, monkeypatch):
    assert settings.resolve("target_job_seconds").origin == "default"
    file.write_text("target_job_seconds = 100\nhistory = false\n")
    assert origins()["target_job_seconds"] == (100.0, str(file))
    assert not settings.use_history(None)
    monkeypatch.setenv("HTDAG_TARGET_JOB_SECONDS", "50")
    monkeypatch.setenv("HTDAG_HISTORY", "Yes")
    assert origins()["target_job_seconds"] == (50.0, "HTDAG_TARGET_JOB_SECONDS")
    assert settings.use_history(None)
    found = settings.resolve("target_job_seconds", 20)
    assert (found.value, found.origin) == (20.0, "code")


def test_the_file_is_in_the_folder_of_configuration(monkeypatch, tmp_path):
    monkeypatch.delenv("HTDAG_SETTINGS")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert settings.file() == tmp_path / "htdag" / "settings.toml"


def test_home_of_the_file(file, monkeypatch, tmp_path):
    monkeypatch.delenv("HTDAG_HOME")
    file.write_text(f"home = {json.dumps(str(tmp_path / 'runs here'))}\n")
    assert directories.runs_directory() == tmp_path / "runs here" / "runs"
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path / "other"))
    assert directories.runs_directory() == tmp_path / "other" / "runs"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("histroy = true", "did you mean 'history'"),
        ("on = 'cloud'", "on='cloud': it takes auto, condor, local"),
        ("history = 'off'", "it takes on or off"),
        ("home = 3", "the path of a folder"),
        ("options = 3", "is a table"),
        ("a = b", "cannot be read"),
        ("[options]\nrequest_cpu = 1", "request_cpus"),
    ],
)
def test_mistakes_in_the_file_name_it(file, text, said, monkeypatch):
    monkeypatch.delenv("HTDAG_HOME")
    file.write_text(text + "\n")

    def use_all():
        settings.every()
        htdag.Pipeline(htdag.map(abs, [1]))

    with pytest.raises(OptionError, match=said) as error:
        use_all()
    assert str(file) in str(error.value)


def test_default_options_of_all_stages(file, monkeypatch):
    file.write_text("[options]\nretries = 2\nrequirements = 'HasGPU'\nrequest_memory = '1GB'\n")
    stage = htdag.map(abs, [1], requirements="Fast", retries=0)
    plan = htdag.Pipeline(stage, request_memory="2GB").plan()
    options = plan.nodes[0].options
    assert (options.retries, options.request_memory) == (0, "2GB")
    assert options.requirements == "(HasGPU) && (Fast)"
    assert htdag.Pipeline(htdag.map(abs, [1])).plan().nodes[0].options.retries == 2


def test_where_runs_go_by_default(file, monkeypatch, tmp_path):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))
    file.write_text("on = 'local'\n")
    run = htdag.Pipeline(htdag.map(abs, [1])).submit("here")
    assert run.backend_name == "local"
    run.wait(200)


def test_the_verb_shows_each_and_where_it_comes_from(file, monkeypatch):
    file.write_text("on = 'local'\n[options]\nretries = 2\n")
    monkeypatch.setenv("HTDAG_HISTORY", "off")
    result = CliRunner().invoke(cli.main, ["settings"])
    assert result.exit_code == 0
    lines = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line}
    assert lines["on"][1:3] == ["local", str(file)]
    assert lines["history"][1:3] == ["off", "HTDAG_HISTORY"]
    assert lines["target_job_seconds"][1:3] == ["600", "default"]
    assert lines["options.retries"][1] == "2"
    assert lines["log"][1] == str(directories.log_file())
    content = json.loads(CliRunner().invoke(cli.main, ["settings", "--json"]).stdout)
    assert content["settings"]["on"] == {"value": "local", "from": str(file)}
    file.unlink()
    assert "it would be TOML" in CliRunner().invoke(cli.main, ["settings"]).stdout


# The log


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path / "home"))
    before = _logging.LOGGER.level
    yield directories.log_file()
    monkeypatch.setenv("HTDAG_LOG_LEVEL", "off")
    _logging.log_to_file()
    _logging.LOGGER.setLevel(before)


def test_what_happens_to_runs_is_logged(log):
    run = htdag.Pipeline(htdag.map(abs, [1])).submit("one", on="local")
    run.wait(200)
    run.retag("two").delete()
    text = log.read_text()
    assert "INFO" in text
    for said in ("run 'one': submitted (local", "'one': renamed to 'two'", "'two': deleted"):
        assert said in text
    assert log.stat().st_mode & 0o777 == 0o600


def test_the_level_and_none(log, monkeypatch):
    _logging.LOGGER.setLevel(logging.NOTSET)
    monkeypatch.setenv("HTDAG_LOG_LEVEL", "warning")
    _logging.log_to_file()
    _logging.LOGGER.info("not this")
    _logging.LOGGER.warning("but this")
    assert log.read_text().count("\n") == 1
    monkeypatch.setenv("HTDAG_LOG_LEVEL", "off")
    _logging.log_to_file()
    assert not [each for each in _logging.LOGGER.handlers if isinstance(each, _logging._File)]


def test_the_file_does_not_grow_for_ever(log, monkeypatch):
    monkeypatch.setattr(_logging, "_SIZE", 1000)
    _logging.log_to_file()
    for number in range(100):
        _logging.LOGGER.warning("line %d", number)
    names = sorted(path.name for path in log.parent.iterdir())
    assert names == ["htdag.log", "htdag.log.1", "htdag.log.2", "htdag.log.3"]
    assert all(path.stat().st_size <= 1000 for path in log.parent.iterdir())


def test_a_log_that_cannot_be_written_is_said_once_and_stops_nothing(log, capsys):
    log.parent.parent.mkdir()
    log.parent.write_text("not a folder")
    _logging.log_to_file()
    _logging.LOGGER.warning("one")
    _logging.LOGGER.warning("two")
    assert capsys.readouterr().err.count("cannot log to") == 1
