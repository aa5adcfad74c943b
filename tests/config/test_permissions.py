"""Nobody else can put a file where htdag reads one, whatever the umask."""

from __future__ import annotations

import grp
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import htdag
from htdag.config import directories
from htdag.errors import DirectoryError

SCRIPT = """
import os, sys
os.umask(int(sys.argv[1], 8))
import htdag

def same(x): return x
def both(a, b): return a + b

made = htdag.source(range(3), chunk_size=1).map(same, cache=True).reduce(both)
for attempt in range(2):
    flow = htdag.Pipeline(made, name="s")
    print(flow.submit("s" * (attempt + 1), on="local").wait(progress=False).result())
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "away" / "home"
    monkeypatch.setenv("HTDAG_HOME", str(path))
    return path


@pytest.mark.parametrize("umask", ["022", "002", "000", "077"])
def test_all_that_is_made_is_the_users_own(umask: str, home: Path):
    command = [sys.executable, "-c", SCRIPT, umask]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["3", "3"], done.stderr
    made = [home.parent, home, *home.rglob("*")]
    assert len(made) > 50
    open_to_others = [
        path for path in made if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o77
    ]
    assert open_to_others == []


def test_a_umask_that_takes_all_rights_is_refused(home: Path):
    command = [sys.executable, "-c", SCRIPT, "777"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "DirectoryError: the umask of this process keeps it from" in done.stderr
    assert not [path for path in home.rglob("*") if path.name.startswith("s")]


def open_up(place: Path, mode: int = 0o777) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(mode)
    return place


@pytest.mark.parametrize(
    ("place", "folder"),
    [
        ("..", directories.runs_directory),
        (".", directories.runs_directory),
        ("runs", directories.runs_directory),
        ("cache", directories.cache_directory),
        ("environments", directories.environments_directory),
        ("runtime", directories.runtime_directory),
        ("log", directories.log_file),
    ],
)
def test_a_store_that_others_can_write_to_is_refused(place: str, folder: object, home: Path):
    open_up(Path(os.path.normpath(home / place)))
    with pytest.raises(DirectoryError, match="by every user of this machine") as refusal:
        folder()
    subprocess.run(str(refusal.value).rpartition(": ")[2], shell=True, check=True)
    folder()
    assert htdag.runs() == []


def test_commands_say_so(home: Path):
    open_up(home / "runs")
    command = [str(Path(sys.executable).with_name("htdag")), "runs"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"chmod go-w {home / 'runs'}" in done.stderr.replace("'", "")
    assert "Traceback" not in done.stderr


def test_a_sticky_folder_and_a_private_group_are_no_danger(home: Path, monkeypatch):
    open_up(home.parent, 0o1777)
    assert htdag.runs() == []
    open_up(home, 0o770)
    user = directories._user_name(os.getuid())
    entry = grp.struct_group((user, "x", home.stat().st_gid, []))
    monkeypatch.setattr(grp, "getgrgid", lambda number: entry)
    assert htdag.runs() == []
    shared = grp.struct_group((user, "x", home.stat().st_gid, ["mallory"]))
    monkeypatch.setattr(grp, "getgrgid", lambda number: shared)
    with pytest.raises(DirectoryError, match="can be written to by the group"):
        htdag.runs()


def test_links_on_the_way_are_followed(home: Path, tmp_path: Path, monkeypatch):
    open_up(tmp_path / "open" / "there", 0o700)
    (tmp_path / "link").symlink_to("open/there")
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path / "link" / "home"))
    assert htdag.runs() == []
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(DirectoryError, match=r"/open' can be written to"):
        htdag.runs()


def test_what_is_another_users_is_refused(home: Path, monkeypatch):
    open_up(home, 0o755)
    monkeypatch.setattr(os, "getuid", lambda: home.stat().st_uid + 1)
    if home.stat().st_uid in (0, directories._unknown_user()):
        pytest.skip("root's folders are taken for safe")
    with pytest.raises(DirectoryError, match="belongs to another user"):
        htdag.runs()


def test_a_run_directory_that_others_can_write_to_is_refused(home: Path):
    run = htdag.Pipeline(htdag.map(abs, [1]), name="one").submit("one", on="local")
    run.wait(progress=False)
    run.path.chmod(0o777)
    with pytest.raises(DirectoryError, match="chmod go-w"):
        htdag.load("one")
    with pytest.warns(UserWarning, match="chmod go-w"):
        assert htdag.runs() == []
