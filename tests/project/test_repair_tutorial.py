"""The tutorial `docs/repair.md`: its commands, on this machine and on a real pool."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from pages import DOCS, plain

if TYPE_CHECKING:
    from pathlib import Path

PAGE = DOCS / "repair.md"
_SCRIPTS = re.compile(r"^```\{code-block\} python\n:caption: .*?\n\n(.*?)^```$", re.M | re.S)
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)


def scripts() -> tuple[str, str]:
    """The script at first, and after the edit."""
    script, function = _SCRIPTS.findall(PAGE.read_text(encoding="utf-8"))
    before, rest = script.split("def celsius", 1)
    return script, f"{before}{function}\n\ndef fahrenheit{rest.split('def fahrenheit', 1)[1]}"


def commands() -> list[tuple[str, str]]:
    """The commands of the page, and what it says that they print."""
    found = []
    for block in _CONSOLE.findall(PAGE.read_text(encoding="utf-8")):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def run(command: str, folder: Path, environment: dict[str, str]) -> str:
    return subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    ).stdout


def environment(home: Path) -> dict[str, str]:
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    return os.environ | {"HTDAG_HOME": str(home), "PATH": path}


def test_the_tutorial(tmp_path: Path):
    first, second = scripts()
    home = tmp_path / ".local/share/htdag"
    (tmp_path / "survey.py").write_text(first)
    assert len(commands()) == 5
    for command, output in commands():
        if command.startswith("htdag resume"):
            (tmp_path / "survey.py").write_text(second)
        text = run(command, tmp_path, environment(home))
        assert plain(text, tmp_path) == plain(output, tmp_path), command


@pytest.mark.pool
def test_the_tutorial_on_a_pool(pool: Any, runs_dir: Path, tmp_path: Path):
    printed = []
    with pool.use(), pool.only("blind"):
        scripts_of_pool = [text.replace('on="local"', 'on="condor"') for text in scripts()]
        (tmp_path / "survey.py").write_text(scripts_of_pool[0])
        for command, _ in commands():
            if command.startswith("htdag resume"):
                (tmp_path / "survey.py").write_text(scripts_of_pool[1])
            printed.append(run(command, tmp_path, environment(runs_dir)))
    assert "split: reuse: unchanged, 6 items" in printed[-2]
    assert printed[-1] == "('Pune', 81.5)\n"
