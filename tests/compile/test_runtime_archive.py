"""The runtime archive is made once, and kept for later processes."""

from __future__ import annotations

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from htdag.compile import runtime_archive
from htdag.config.directories import runtime_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    place = tmp_path / "home"
    monkeypatch.setenv("HTDAG_HOME", str(place))
    runtime_archive.runtime_archive.cache_clear()
    yield place
    runtime_archive.runtime_archive.cache_clear()


def in_a_new_process() -> bytes:
    runtime_archive.runtime_archive.cache_clear()
    return runtime_archive.runtime_archive()


def kept() -> list[Path]:
    return sorted(runtime_directory().iterdir())


def refuse(_: object) -> bytes:
    raise AssertionError("made again")


def test_it_is_made_once(monkeypatch: pytest.MonkeyPatch):
    made = in_a_new_process()
    (path,) = kept()
    assert path.stat().st_mode & 0o777 == 0o400
    assert path.parent.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(runtime_archive, "_make", refuse)
    assert in_a_new_process() == made


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content[: len(content) // 2],
        lambda content: b"",
    ],
    ids=["flipped", "cut", "empty"],
)
def test_a_damaged_one_is_made_again(damage: Callable[[bytes], bytes]):
    made = in_a_new_process()
    (path,) = kept()
    whole = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(damage(whole))
    assert in_a_new_process() == made
    assert path.read_bytes() == whole


def test_other_sources_and_another_python_get_another(monkeypatch: pytest.MonkeyPatch):
    made = in_a_new_process()
    sources = runtime_archive._sources()
    with monkeypatch.context() as edited:
        name = "htdag_runtime/layout.py"
        other = {**sources, name: sources[name] + b"EDITED = 1\n"}
        edited.setattr(runtime_archive, "_sources", lambda: other)
        assert in_a_new_process() == runtime_archive._make(other) != made
    with monkeypatch.context() as upgraded:
        upgraded.setattr(sys, "version", "3.99.0")
        in_a_new_process()
    assert len(kept()) == 3
    assert in_a_new_process() == made


def test_a_home_that_cannot_be_used_is_done_without(home: Path):
    made = in_a_new_process()
    shutil.rmtree(home)
    home.mkdir(mode=0o500)
    assert in_a_new_process() == made
    home.chmod(0o777)
    assert in_a_new_process() == made
    assert list(home.iterdir()) == []
    home.chmod(0o700)
    (home / "runtime").touch()  # no folder
    assert in_a_new_process() == made
    (home / "runtime").unlink()
    (home / "runtime").mkdir()
    in_a_new_process()
    (path,) = kept()
    path.chmod(0)
    assert in_a_new_process() == made


def test_those_that_were_not_used_for_longest_are_removed(monkeypatch: pytest.MonkeyPatch):
    used = in_a_new_process()
    (path,) = kept()
    monkeypatch.setattr(runtime_archive, "_make", lambda sources: next(iter(sources.values())))
    own = runtime_archive._sources()
    for number in range(12):
        for position, entry in enumerate(kept()):
            os.utime(entry, (0, position))
        monkeypatch.setattr(runtime_archive, "_sources", lambda: own)
        assert in_a_new_process() == used
        other = {"a.py": str(number).encode()}
        monkeypatch.setattr(runtime_archive, "_sources", lambda other=other: other)
        assert in_a_new_process() == str(number).encode()
    assert len(kept()) == runtime_archive._MOST_KEPT
    assert path in kept()


def test_several_at_once_make_the_same():
    with ThreadPoolExecutor(4) as pool:
        made = [pool.submit(runtime_archive.runtime_archive.__wrapped__) for _ in range(4)]
        assert len({each.result() for each in made}) == 1
    assert len(kept()) == 1


def test_a_run_shares_nothing_with_it(tmp_path: Path):
    made = in_a_new_process()
    (path,) = kept()
    before = path.read_bytes()
    one, two = tmp_path / "one", tmp_path / "two"
    runtime_archive.write_archive(str(one))
    runtime_archive.write_archive(str(two))
    one.write_bytes(b"other")
    assert path.read_bytes() == before
    shutil.rmtree(path.parent)
    assert two.read_bytes() == made
    assert two.stat().st_mode & 0o777 == 0o700
