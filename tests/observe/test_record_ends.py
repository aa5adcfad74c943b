"""The ends of many records, read fast."""

from __future__ import annotations

import json

import pytest

from htdag.observe.record_ends import End, Ends
from htdag.runtime.data import recordfile

END = {"items": 4, "done": 3, "failed": 1, "remaining": 1, "whole": True, "sizes": [1]}


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def write(folder, name, *lines):
    (folder / f"{name}.record").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_ends_and_beginnings(folder):
    ends = Ends(str(folder))
    ends.read()
    assert (ends.ended, ends.started) == ({}, set())
    write(folder, "0000.1", {"start": {}}, {"end": END})
    write(folder, "0001.2", {"start": {}})
    write(folder, "0002.1", {"start": {}}, {"end": {**END, "items": None, "remaining": None}})
    write(folder, "10000.1", {"start": {}}, {"end": {"remaining": 0, **END}})  # in another order
    (folder / "0000.1.f.items").touch()
    ends.read()
    assert ends.ended == {
        0: {1: End(4, 3, 1, 1)},
        2: {1: End(None, 3, 1, None)},
        10000: {1: End(4, 3, 1, 1)},
    }
    assert ends.started == {(1, 2)}
    write(folder, "0001.2", {"start": {}}, {"end": END})
    ends.read()
    assert ends.ended[1] == {2: End(4, 3, 1, 1)}
    assert ends.started == set()


def test_an_end_that_is_cut_off_is_none(folder):
    write(folder, "0000.1", {"start": {}}, {"end": END})
    path = folder / "0000.1.record"
    path.write_bytes(path.read_bytes()[:-1])
    ends = Ends(str(folder))
    ends.read()
    assert (ends.ended, ends.started) == ({}, {(0, 1)})


def test_a_record_with_many_errors(folder):
    errors = [{"error": {"message": "x" * 1000}}] * 200
    write(folder, "0000.1", {"start": {}}, *errors, {"end": END})
    ends = Ends(str(folder))
    ends.read()
    assert ends.ended == {0: {1: End(4, 3, 1, 1)}}
    assert recordfile.end(str(folder / "0000.1.record")) == END


def test_records_that_were_set_aside_count_no_more(folder):
    write(folder, "0000.1", {"end": END})
    write(folder, "0001.1", {"end": END})
    ends = Ends(str(folder))
    ends.read()
    (folder / "0000.1.record").rename(folder / "0000.1.record.damaged")
    ends.read()
    assert ends.ended == {1: {1: End(4, 3, 1, 1)}}
