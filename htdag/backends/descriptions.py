"""The submit descriptions of a run's nodes and of the rounds of its loops."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from htdag.runtime import planfile
from htdag.runtime.dag import submitfile


def places(run: Path, stage: str | None = None) -> Iterator[tuple[Path, str]]:
    """Yield the folder and node of the submit descriptions of a stage's jobs, or of all jobs.

    For a loop, these are the descriptions of its current round and of its template, which is
    copied for later rounds.
    """
    whole = planfile.RunPlan(str(run), planfile.read(str(run)))
    for place, node in planfile.walk_nodes(whole, most=1, template=True):
        names = (None, *place.loops, node["name"], *(node["stages"] or node["outputs"]))
        if stage in names:
            yield Path(place.folder), node["name"]


def release(run: Path) -> None:
    """Keep later jobs of a run from being submitted on hold."""
    for folder, node in places(run):
        submitfile.release(str(folder), node)
