"""Small jobs that examine execute points from within, and leave nothing behind."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from htdag.backends.base import Ad
from htdag.backends.condor.bindings import htcondor2, message_of, using
from htdag.backends.condor.setup import Setup
from htdag.config.directories import make_folder

_PAUSE = 0.5
_SCRIPT = """#!/bin/sh
# Prints which Python jobs would use here: the one of the wanted version, or else python3.
for name in python{version} python3; do
    if command -v "$name" >/dev/null 2>&1; then
        "$name" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' && exit 0
    fi
done
echo none
"""


def run_probes(
    setup: Setup | None, points: Sequence[str], parent: Path, timeout: float
) -> dict[str, tuple[str, str]]:
    """Send a job to each of some execute points, and read its answer.

    Parameters
    ----------
    setup : Setup or None
        The HTCondor.
    points : sequence of str
        Names of startds, without those of their slots.
    parent : pathlib.Path
        A folder that the schedd sees; the files of the jobs are in a temporary folder inside it.
    timeout : float
        How many seconds to wait; jobs that have not ended by then are removed.

    Returns
    -------
    dict of str to (str, str)
        For each point the version of its Python ("" if it has none), and the problem, if any.
    """
    make_folder(parent)
    folder = Path(tempfile.mkdtemp(prefix=".doctor-", dir=parent))
    try:
        with using(setup):
            return _run(points, folder, timeout)
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder to which HTCondor may still write the last events of jobs."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


def _run(points: Sequence[str], folder: Path, timeout: float) -> dict[str, tuple[str, str]]:
    script = folder / "probe.sh"
    script.write_text(_SCRIPT.format(version=f"{sys.version_info[0]}.{sys.version_info[1]}"))
    script.chmod(0o755)
    schedd = htcondor2.Schedd()
    clusters: dict[str, int] = {}
    answers: dict[str, tuple[str, str]] = {}
    try:
        for number, point in enumerate(points):
            try:
                clusters[point] = int(schedd.submit(_description(folder, number, point)).cluster())
            except htcondor2.HTCondorException as error:
                answers[point] = ("", message_of(error))
        deadline = time.monotonic() + timeout
        while True:
            for number, point in enumerate(points):
                text = _printed(folder / f"{number}.out")
                if text and point not in answers:
                    answers[point] = ("" if text == "none" else text, "")
            if len(answers) == len(points) or time.monotonic() > deadline:
                break
            time.sleep(_PAUSE)
        why = {point: _why(schedd, cluster) for point, cluster in clusters.items()}
    finally:
        if clusters:
            constraint = " || ".join(f"ClusterId == {cluster}" for cluster in clusters.values())
            schedd.act(htcondor2.JobAction.Remove, constraint)
    for point in points:
        answers.setdefault(point, ("", f"{why[point]} within {timeout:g} s"))
    return answers


def _printed(path: Path) -> str:
    # On a shared file system, the file may exist before the job has written to it.
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    return text.strip() if text.endswith("\n") else ""


def _why(schedd: object, cluster: int) -> str:
    ads: list[Ad] = schedd.query(  # type: ignore[attr-defined]
        constraint=f"ClusterId == {cluster}", projection=["JobStatus", "HoldReason"]
    )
    status = ads[0].get("JobStatus") if ads else None
    if status == htcondor2.JobStatus.HELD:
        return f"its probe job was put on hold ({ads[0].get('HoldReason')})"
    if status == htcondor2.JobStatus.IDLE:
        return "its probe job did not start"
    return "its probe job did not end"


def _description(folder: Path, number: int, point: str) -> object:
    # The names of slots end with that of their startd.
    tail = f"@{point}"
    slots = f'(TARGET.Name == "{point}" || substr(TARGET.Name, -{len(tail)}) == "{tail}")'
    return htcondor2.Submit(
        {
            "executable": str(folder / "probe.sh"),
            "initialdir": str(folder),
            "output": str(folder / f"{number}.out"),
            "log": str(folder / "log"),
            "should_transfer_files": "IF_NEEDED",
            "when_to_transfer_output": "ON_EXIT",
            "request_cpus": "1",
            "request_memory": "64",
            "requirements": slots,
            "notification": "Never",
            "max_materialize": "1",
            "batch_name": "htdag doctor",
        }
    )
