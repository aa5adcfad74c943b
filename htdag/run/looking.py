"""Look at the items of a run, and at what its jobs have used, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from htdag.observe import items
from htdag.observe.items import ItemState, JobUsage
from htdag.run import locating
from htdag.run.files import RunFiles
from htdag.run.jobs import JobControl
from htdag.runtime import layout


class Looking(JobControl):
    """What is known of single items and jobs."""

    def item_states(
        self, stage: str, *, ask: bool = False, round: int | None = None
    ) -> list[ItemState]:
        """Return the state of each item of a stage.

        What is done and what failed comes from the records of jobs that have ended, the rest from
        the jobs that wait or run. Where the file system is shared, items that a running job has
        finished are done already.

        Parameters
        ----------
        stage : str
            The stage. Its items are those that its DAGMan node takes, so stages that share a node
            share them.
        ask : bool
            Ask the schedd too. By default files alone tell.
        round : int, optional
            For a stage in a loop, the round; by default the present one.

        Returns
        -------
        list of ItemState
            In the order of items, without those that are not known yet since stages before have to
            make them.

        Raises
        ------
        UsageError
            If there is no such stage, or it is a source.
        BackendError
            If the schedd was to be asked, and does not answer.

        Examples
        --------
        >>> [item.key for item in run.item_states("fit") if item.state == "held"]  # doctest: +SKIP
        ['17', '18']
        """
        self._stage(stage)
        place: Looking = self
        within: tuple[tuple[str, int], ...] = ()
        while True:
            inner = next(place._rounds_with(stage, round), None)
            if inner is None:
                break
            within = (*within, (inner._loop, int(inner.path.name)))
            place, round = inner, None
        found: list[ItemState] = []
        jobs = [job for job in self.jobs(stage, ask) if job.within == within]
        for node in _nodes(place, stage):
            mine = {
                job.chunk: job for job in jobs if job.node == node["name"] and job.chunk is not None
            }
            found += items.states(place.path, node, mine)
        return found

    def usage(self, stage: str | None = None) -> list[JobUsage]:
        """Return what the jobs that have ended have used: time, memory, disk.

        With ``chunk_size=1`` each of them had one item.

        Parameters
        ----------
        stage : str, optional
            Only the jobs of this stage.

        Returns
        -------
        list of JobUsage
            In the order of the plan; jobs that were killed could not tell. Of a loop those of all
            of its rounds.

        Examples
        --------
        >>> max(run.usage("fit"), key=lambda job: job.memory).key  # doctest: +SKIP
        '17'
        """
        if stage is not None:
            self._stage(stage)
        return list(self._usage(stage))

    def _usage(self, stage: str | None) -> Iterator[JobUsage]:
        for node in self._plan["nodes"]:
            if node["mode"] != "loop" and stage in (None, *node["stages"], *node["outputs"]):
                yield from items.usage(self.path, node)
            if node["mode"] == "loop":
                name = node["name"]
                inside = None if stage == name else stage
                for number in range(1, layout.last_round(str(self.path), name) + 1):
                    inner = type(self)(self.path / layout.one_round(name, number))
                    if inside is None or inside in inner.stages:
                        for entry in inner._usage(inside):
                            yield replace(entry, rounds=(number, *entry.rounds))


def _nodes(run: RunFiles, stage: str) -> list[dict[str, Any]]:
    """Return the node whose items are those of a stage: of a reduce the last one."""
    found = [node for node in run._plan["nodes"] if stage in node["stages"]]
    return found or locating.nodes_of(run._plan, stage)
