"""The states of a run's items, and what its jobs have used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from htdag.observe import items
from htdag.observe.items import ItemState, JobUsage
from htdag.run import locate
from htdag.run.directory import RunDirectory
from htdag.run.jobs import JobControl
from htdag.runtime import planfile

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import NodeEntry


class ItemStates:
    """The part of a run that reports on single items and jobs."""

    def __init__(self, run: RunDirectory, jobs: JobControl) -> None:
        self._run = run
        self._jobs = jobs

    def item_states(
        self, stage: str, *, ask: bool = False, round: int | None = None
    ) -> list[ItemState]:
        """Return the state of each item of a stage."""
        self._run.stage(stage)
        directory = self._run
        within: tuple[tuple[str, int], ...] = ()
        while True:
            inner = next(directory.rounds_with(stage, round), None)
            if inner is None:
                break
            within = (*within, (inner.loop, int(inner.path.name)))
            directory, round = inner, None
        result: list[ItemState] = []
        jobs = [job for job in self._jobs.jobs(stage, ask) if job.within == within]
        for node in _nodes(directory, stage):
            by_chunk = {
                job.chunk: job for job in jobs if job.node == node["name"] and job.chunk is not None
            }
            result += items.states(directory.path, node, by_chunk)
        return result

    def usage(self, stage: str | None = None) -> list[JobUsage]:
        """Return the time, memory and disk that ended jobs have used."""
        if stage is not None:
            self._run.stage(stage)
        return list(_usage(self._run, stage))


def _usage(run: RunDirectory, stage: str | None) -> Iterator[JobUsage]:
    for place, node in planfile.walk_nodes(planfile.RunPlan(str(run.path), run.plan)):
        if stage in (None, *place.loops, *node["stages"], *node["outputs"]):
            for entry in items.usage(Path(place.folder), node):
                yield replace(entry, rounds=place.rounds)


def _nodes(run: RunDirectory, stage: str) -> list[NodeEntry]:
    """Return the nodes whose items are those of a stage; for a reduce, the last one."""
    nodes = [node for node in run.plan["nodes"] if stage in node["stages"]]
    return nodes or locate.nodes_of(run.plan, stage)
