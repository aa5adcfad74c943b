"""A job notices that another one has taken its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from htdag.runtime.data import recordfile
from htdag.runtime.job.lease import Claim
from htdag.runtime.layout import NodeFiles


@pytest.fixture
def record(tmp_path: Path) -> str:
    return start(tmp_path, anew=True)


def start(folder: Path, *, anew: bool) -> str:
    job = NodeFiles(folder, "work").attempt(0, 1)
    Path(job.node.outcomes).mkdir(parents=True, exist_ok=True)
    recordfile.start(job, "here", "3.8", anew=anew)
    return job.record


def test_what_the_job_itself_writes_does_not_count(record: str):
    claim = Claim(record)
    recordfile.append(record, "streams", {"sequence": 0})
    assert not claim.is_lost()
    recordfile.append(record, "error", {"message": '{"start": is a text'})
    assert not claim.is_lost()


def test_another_start_counts_whatever_comes_after_it(record: str, tmp_path: Path):
    claim = Claim(record)
    start(tmp_path, anew=False)
    recordfile.append(record, "end", {})
    assert claim.is_lost()
    assert claim.is_lost()  # also when that was read
    assert not Claim(record).is_lost()  # of the later one


def test_an_end_that_somebody_else_wrote_counts(record: str):
    claim = Claim(record)
    recordfile.append(record, "end", {"killed": True})
    assert claim.is_lost()


def test_a_record_that_was_brought_from_elsewhere_counts(record: str, tmp_path: Path):
    claim = Claim(record)
    other = start(tmp_path / "other", anew=True)
    recordfile.append(other, "end", {})
    Path(record).write_bytes(Path(other).read_bytes())  # as HTCondor does, in the same file
    assert claim.is_lost()
    os.remove(record)
    assert Claim(other).is_lost() is False


def test_a_record_that_is_gone_counts_and_one_that_cannot_be_read_does_not(record: str):
    claim = Claim(record)
    os.remove(record)
    os.mkdir(record)  # opening it fails, with another error
    assert not claim.is_lost()
    os.rmdir(record)
    assert claim.is_lost()


def test_items_that_are_short_do_not_look_each_time(
    record: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    now = [100.0]
    monkeypatch.setattr("htdag.runtime.job.lease.time.monotonic", lambda: now[0])
    claim = Claim(record)
    start(tmp_path, anew=False)
    assert not claim.is_lost_by_now()
    now[0] += 1.1
    assert claim.is_lost_by_now()
