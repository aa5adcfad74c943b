"""The submit descriptions of a run's nodes and of the rounds of its loops."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from htdag.runtime import planfile
from htdag.runtime.dag import submitfile
from htdag.runtime.layout import NodeFiles


def places(run: Path, stage: str | None = None) -> Iterator[tuple[Path, str]]:
    """Yield the folder and node of the submit descriptions of a stage's jobs, or of all jobs.

    For a loop, these are the descriptions of its current round and of its template, which is
    copied for later rounds.
    """
    for node in planfile.read(str(run))["nodes"]:
        name = node["name"]
        matches = stage in (None, name, *(node["stages"] or node["outputs"]))
        if node["mode"] != "loop":
            if matches:
                yield run, name
            continue
        files = NodeFiles(run, name)
        number = files.last_round()
        for folder in [files.step, *([files.round(number)] if number else [])]:
            yield from places(Path(folder), None if matches else stage)


def release(run: Path) -> None:
    """Keep later jobs of a run from being submitted on hold."""
    for folder, node in places(run):
        submitfile.release(str(folder), node)
