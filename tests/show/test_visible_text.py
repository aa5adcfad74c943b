"""Text of jobs, and of whoever made a run, cannot steer the terminal of who looks at it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import htdag
from htdag import cli
from htdag.common.text import visible
from htdag.show import notebook
from htdag.show.progress import progress_line

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\x08\x00\x7f\u202egnp.exe\u2066\u200b\ufeff\u2028"
WRITTEN_OUT = r"\x1b]0;owned\x07\x1b[2J\x9b31m\r\x08\x00\x7f\u202egnp.exe\u2066\u200b\ufeff\u2028"
# Whatever steers a terminal, or is not seen in it.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # rich's own
TAG = "loud"


def test_what_is_seen_stays_as_it_is():
    text = "Übung: 東京 🙂\u00a0naïve\tcolumns\n- 1\u202f234 €\n"
    assert visible(text) == text
    assert visible("two\r\nlines\r\n") == "two\nlines\n"
    assert visible(HOSTILE) == WRITTEN_OUT
    assert visible("\ud800") == "\\ud800"


def shout(x):
    sys.stdout.write(f"{HOSTILE} printed\n")
    sys.stdout.flush()
    sys.stderr.write(f"{HOSTILE} said\n")
    sys.stderr.flush()
    local = HOSTILE
    if x != "calm":
        kind = type("E" + HOSTILE.replace("\0", ""), (ValueError,), {})
        raise kind(f"{local} red {x}\nand {HOSTILE} more")
    return x


def key(x):
    return f"{HOSTILE}{x}"


@pytest.fixture(scope="module")
def module_home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTDAG_HOME", str(home))
        shouted = htdag.source([HOSTILE, "calm"]).map(
            shout, name="shout", on_error="skip", max_errors=1
        )
        grouped = shouted.group_by(key, name="grouped")
        htdag.Pipeline(grouped).submit("keyed", on="local").wait(progress=False)
        failing = htdag.source([HOSTILE, "calm"]).map(shout, name="failing")
        flow = htdag.Pipeline(grouped, failing, name=TAG)
        run = flow.submit(TAG, on="local")
        with pytest.raises(htdag.RunFailed):
            run.wait(progress=False)
        # What a job, or who has exported the run, says of its machine.
        for record in run.path.rglob("*.record"):
            lines = []
            for line in record.read_text().splitlines():
                content = json.loads(line)
                if "start" in content:
                    content["start"] |= {"host": HOSTILE, "python": HOSTILE}
                if "context" in content:
                    content["context"] |= {"system": HOSTILE, "scratch": [HOSTILE]}
                lines.append(json.dumps(content))
            record.write_text("\n".join(lines) + "\n")
        state = run.path / "local.state.json"
        state.write_text(json.dumps(json.loads(state.read_text()) | {"message": HOSTILE}))
    return home


@pytest.fixture(autouse=True)
def home(module_home: Path, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", str(module_home))
    return module_home


@pytest.mark.parametrize(
    "words",
    [
        f"errors {TAG}",
        f"errors {TAG} --items",
        f"errors {TAG} --item 0",
        f"errors {TAG} --json",
        f"wait {TAG}",
        f"wait {TAG} --timeout 0",
        f"status {TAG}",
        f"status {TAG} --csv",
        f"why {TAG}",
        "runs",
        f"jobs {TAG}",
        f"items {TAG} grouped",
        "items keyed grouped",
        "items keyed grouped --keys",
        "items keyed grouped --csv",
        "result keyed",
        f"usage {TAG}",
        f"usage {TAG} --csv",
        f"stdout {TAG} failing",
        f"stdout {TAG} failing 0",
        f"stderr {TAG} failing",
        f"result {TAG} --target grouped",
        f"result {TAG} --target failing",
        f"rerun {TAG} failing --keys {HOSTILE}",
        f"stdout {TAG} {HOSTILE}",
        f"load {HOSTILE}",
        f"status {HOSTILE}",
    ],
)
def test_no_verb_lets_a_terminal_be_steered(words: str):
    told = CliRunner().invoke(cli.main, words.split(" "), color=True)
    assert told.output
    assert "Traceback (most recent call last):\n  File" not in told.stderr or "shout" in told.stderr
    assert not UNSEEN.search(COLOUR.sub("", told.output)), told.output
    assert "\x1b[31mE" not in told.output


def test_raw_gives_every_byte():
    told = CliRunner().invoke(cli.main, ["stdout", TAG, "failing", "0", "--raw"], color=True)
    assert told.stdout_bytes == f"{HOSTILE} printed\n".encode()
    told = CliRunner().invoke(cli.main, ["stderr", TAG, "failing", "0", "--raw"], color=True)
    assert told.stdout_bytes.startswith(f"{HOSTILE} said\n".encode())


def test_what_python_shows_is_visible():
    run = htdag.load(TAG)
    with pytest.raises(htdag.RunFailed) as failed:
        run.wait(progress=False)
    shown = [failed.value, run.status(), *run.errors(), *run.error_groups(), *run.why()]
    shown += run.missing("grouped")
    shown += [notebook.status_html(run.status()), run._repr_html_(), progress_line(run.status())]
    for each in shown:
        assert not UNSEEN.search(str(each)), each
    assert WRITTEN_OUT in str(failed.value)
    assert run.errors()[0].message.startswith(HOSTILE)  # as the job said it, for programs
    assert HOSTILE in run.stdout("failing", "0")
