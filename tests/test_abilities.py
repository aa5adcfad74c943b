"""What a version of HTCondor lacks is told by its programs."""

from __future__ import annotations

from pathlib import Path

import pytest
import reference

import htdag
from htdag.backends import abilities, poolconfig
from htdag.runtime import layout

OLD = b"...\0$CondorVersion: 23.9.6 2026-07-12 PackageID: 23.9.6 $\0..."
NEW = b"...\0$CondorVersion: 23.10.1 2024-10-10 $\0DAGMAN_REMOVE_JOB_LIST_ON_FAILURE\0"


def program(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "condor_dagman"
    path.write_bytes(content)
    return path


def test_a_program_tells_its_version(tmp_path: Path):
    assert abilities.version(program(tmp_path, OLD)) == (23, 9, 6)
    assert abilities.version(program(tmp_path, NEW)) == (23, 10, 1)
    assert abilities.version(program(tmp_path, b"a script")) is None
    assert abilities.version(tmp_path / "none") is None


def test_only_a_newer_dagman_can_keep_other_jobs(tmp_path: Path):
    assert not abilities.keeps_others(program(tmp_path, OLD))
    assert abilities.keeps_others(program(tmp_path, NEW))
    assert not abilities.keeps_others(tmp_path / "none")


@pytest.mark.parametrize(
    ("content", "options", "told"),
    [
        (OLD, {"max_materialize": 2}, True),
        (OLD, {"max_idle": 2}, True),
        (OLD, {}, False),
        (NEW, {"max_materialize": 2}, False),
        (b"a script", {"max_materialize": 2}, False),
    ],
)
def test_an_old_dagman_is_told_to_heed_throttles(
    tmp_path: Path, content: bytes, options: dict[str, int], told: bool
):
    stage = htdag.source(range(4), chunk_size=1).map(abs, **options)
    run = reference.compiled(htdag.Pipeline(stage, name="flow"), tmp_path / "run")
    for _ in range(2):
        abilities.settle_throttles(run, program(tmp_path, content))
    text = (run / layout.CONFIG).read_text()
    assert text.count("\nDAGMAN_USE_DIRECT_SUBMIT = False\n") == told


@pytest.mark.parametrize("older", [False, True])
def test_bindings_may_log_in_to_older_daemons_of_ones_own(tmp_path: Path, older: bool):
    text = poolconfig.pool_config(tmp_path, {}, 2, None, "/bin", older)
    assert ("\nSEC_FS_ENFORCE_CHANNEL_BINDING = False\n" in text) is older
