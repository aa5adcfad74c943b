"""What a job measures of itself."""

from __future__ import annotations

import os

from htdag.runtime.job import measure
from htdag.runtime.job.shared_memory import Shared


def test_a_note_goes_to_the_process_that_stays():
    shared = Shared()
    assert shared.noted() is None
    child = os.fork()
    if child == 0:
        shared.note({"seconds": 1.5})
        os._exit(0)
    os.waitpid(child, 0)
    assert shared.noted() == {"seconds": 1.5}
    shared.put(1, 2, 3, 4, 5)
    assert shared.noted() == {"seconds": 1.5}
    assert shared.get() == (1, 2, 3, 4, 5)


def test_a_note_without_room_is_left_out():
    shared = Shared()
    shared.note({"stages": "x" * 40_000})
    assert shared.noted() is None


def test_what_is_left_in_a_folder_is_counted_without_links(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "a").write_bytes(b"x" * 1000)
    (tmp_path / "b").write_bytes(b"x" * 500)
    (tmp_path / "link").symlink_to(tmp_path / "b")
    (tmp_path / "broken").symlink_to(tmp_path / "none")
    assert measure._left_in(str(tmp_path)) == 1500
    assert measure._left_in(str(tmp_path / "none")) == 0
