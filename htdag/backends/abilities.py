"""What a version of HTCondor lacks, told by its programs, and what is done instead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from htdag.compile.submit import SENDS_FOLDERS
from htdag.errors import BackendError
from htdag.runtime import layout, progress

_KEEPS_OTHERS = b"DAGMAN_REMOVE_JOB_LIST_ON_FAILURE"
_VERSION = re.compile(rb"\$CondorVersion: (\d+)\.(\d+)\.(\d+)")
# DAGMan itself submits with late materialisation from this version on.
_MATERIALIZES = (23, 10, 1)

_URL = re.compile(r'^transfer_output_remaps = "[^"=]*=(.*)"$', re.MULTILINE)

_SUBMIT_BY_PROGRAM = """
# This version of DAGMan heeds max_materialize and max_idle only where condor_submit submits for it.
DAGMAN_USE_DIRECT_SUBMIT = False
"""


def version(program: Path) -> tuple[int, int, int] | None:
    """Return the version that a program of HTCondor's carries; None where it cannot be read."""
    try:
        match = _VERSION.search(program.read_bytes())
    except OSError:
        return None
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def keeps_others(dagman: Path) -> bool:
    """Return whether DAGMan can leave the other jobs of a node alone when one has failed."""
    try:
        return _KEEPS_OTHERS in dagman.read_bytes()
    except OSError:
        return False


def written(run: Path, dag: str) -> Iterator[tuple[Path, str]]:
    """Yield all run directories, with their DAG files, of a run that was never submitted.

    Beside its own they are, for each loop, what its rounds will be copies of, and the first round
    where that was made with the run.
    """
    yield run, dag
    for node in progress.read_plan(str(run))["nodes"]:
        if node["mode"] == "loop":
            name = node["name"]
            begun = range(1, layout.last_round(str(run), name) + 1)
            for folder in (layout.step(name), *(layout.one_round(name, each) for each in begun)):
                yield from written(run / folder, layout.ROUND_DAG)


def described(run: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """Yield the nodes of a run directory that have jobs, each with its submit description."""
    for node in progress.read_plan(str(run))["nodes"]:
        if node["mode"] != "loop":
            yield node, run / layout.submit(node["name"])


def check_destinations(run: Path, dagman: Path) -> None:
    """Refuse files of jobs that are to go to a URL, where HTCondor cannot send them.

    Parameters
    ----------
    run : pathlib.Path
        The run directory.
    dagman : pathlib.Path
        The program ``condor_dagman`` that will run it.

    Raises
    ------
    BackendError
        If a stage has a URL as ``output_destination``, and this HTCondor would never end its jobs.
    """
    found = version(dagman)
    if found is None or found >= SENDS_FOLDERS:
        return
    for node, submit in described(run):
        match = _URL.search(submit.read_text(encoding="utf-8"))
        if match is not None:
            raise BackendError(
                f"{node['name']!r} has output_destination={match[1]!r}, but HTCondor "
                f"{_text(found)} never ends a job whose files go to a URL ({_text(SENDS_FOLDERS)} "
                "does); give a folder of this machine, or let the function send its files itself"
            )


def _text(found: tuple[int, int, int]) -> str:
    return ".".join(map(str, found))


def settle_throttles(run: Path, dagman: Path) -> None:
    """Make DAGMan heed ``max_materialize`` and ``max_idle`` of stages, where it would not.

    Parameters
    ----------
    run : pathlib.Path
        The run directory.
    dagman : pathlib.Path
        The program ``condor_dagman`` that will run it.
    """
    found = version(dagman)
    if found is None or found >= _MATERIALIZES:
        return
    if any(has_throttle(node, submit) for node, submit in described(run)):
        path = run / layout.CONFIG
        text = path.read_text(encoding="utf-8")
        if _SUBMIT_BY_PROGRAM not in text:
            layout.write_aside(str(path), (text + _SUBMIT_BY_PROGRAM).encode(), sync=False)


def has_throttle(node: dict[str, Any], submit: Path) -> bool:
    """Return whether a stage of a node limits how many of its jobs are in the queue."""
    if node["max_materialize"] is not None:
        return True
    text = submit.read_text(encoding="utf-8")
    return re.search(r"^max_idle\s*=", text, re.MULTILINE) is not None
