"""What a version of HTCondor lacks is told by its programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import reference

import htdag
from htdag.backends.condor import abilities, pool_config
from htdag.compile.scheduler import Scheduler
from htdag.errors import BackendError
from htdag.runtime import layout
from htdag.runtime.layout import NodeFiles

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
    assert not abilities.keeps_jobs(program(tmp_path, OLD))
    assert abilities.keeps_jobs(program(tmp_path, NEW))
    assert not abilities.keeps_jobs(tmp_path / "none")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_materialize": 2}, True),
        ({"max_idle": 2}, True),
        ({}, False),
    ],
)
def test_an_old_dagman_is_told_to_heed_throttles(
    tmp_path: Path, options: dict[str, Any], told: bool
):
    stage = htdag.source(range(4), chunk_size=1).map(abs, **options)
    run = reference.compiled(htdag.Pipeline(stage, name="flow"), tmp_path / "run")
    text = (run / layout.CONFIG).read_text()
    block = "\nif version < 23.10.1\nDAGMAN_USE_DIRECT_SUBMIT = False\nendif\n"
    assert (block in text) == told


def made(number: int) -> htdag.OutputFile:
    Path("made.txt").write_text(str(number))
    return htdag.OutputFile("made.txt")


def test_files_go_to_a_url_where_htcondor_can_send_them_only(tmp_path: Path):
    url = "https://data.example.org/run-7"
    away = htdag.map(made, [1, 2], name="away", output_destination=url)
    here = htdag.map(made, [1, 2], name="here", output_destination=tmp_path / "put")
    flow = htdag.Pipeline(away, here, name="flow")
    reference.compiled(flow, tmp_path / "new", Scheduler(version=(23, 10, 1)))
    with pytest.raises(BackendError) as caught:
        reference.compiled(flow, tmp_path / "old", Scheduler(version=(23, 9, 6)))
    assert str(caught.value) == (
        "'away' has output_destination='https://data.example.org/run-7', but HTCondor 23.9.6 never "
        "ends a job whose files go to a URL (23.10.1 does); give a folder of this machine, or let "
        "the function send its files itself"
    )
    assert not (tmp_path / "old").exists()
    # An old execute point does not get such jobs in any pool.
    newer = 'requirements = versionGE(split(TARGET.CondorVersion)[1], "23.10.1")\n'
    assert newer in Path(NodeFiles(tmp_path / "new", "away").submit).read_text()
    assert "requirements" not in Path(NodeFiles(tmp_path / "new", "here").submit).read_text()
    other = htdag.Pipeline(here, name="other")
    reference.compiled(other, tmp_path / "other", Scheduler(version=(23, 9, 6)))


def test_files_do_not_go_to_a_file_url_on_htcondor(tmp_path: Path):
    stage = htdag.map(made, [1, 2], name="away", output_destination=f"file://{tmp_path}/put")
    flow = htdag.Pipeline(stage, name="flow")
    with pytest.raises(BackendError, match=r"makes no folders.*give the path of a folder"):
        reference.compiled(flow, tmp_path / "run", Scheduler(version=(25, 14, 1)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("older", [False, True])
def test_bindings_may_log_in_to_older_daemons_of_ones_own(tmp_path: Path, older: bool):
    text = pool_config.pool_config(tmp_path, {}, 2, None, "/bin", older)
    assert ("\nSEC_FS_ENFORCE_CHANNEL_BINDING = False\n" in text) is older
