"""The submit descriptions of a run: those of its nodes, and of the rounds of its loops."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from htdag.runtime import planfile
from htdag.runtime.dag import submitfile
from htdag.runtime.layout import NodeFiles


def places(run: Path, stage: str | None = None) -> Iterator[tuple[Path, str]]:
    """Yield the submit descriptions of a stage's jobs, or of all: folder and node of each.

    Of a loop these are those of its template, which later rounds are copies of, and of the present
    round.
    """
    for node in planfile.read(str(run))["nodes"]:
        name = node["name"]
        mine = stage in (None, name, *(node["stages"] or node["outputs"]))
        if node["mode"] != "loop":
            if mine:
                yield run, name
            continue
        files = NodeFiles(run, name)
        number = files.last_round()
        for folder in [files.step, *([files.round(number)] if number else [])]:
            yield from places(Path(folder), None if mine else stage)


def release(run: Path) -> None:
    """Let no jobs of a run that are to come be on hold."""
    for folder, node in places(run):
        submitfile.release(str(folder), node)
