"""The bars of a run's nodes and the counts of its jobs, which all displays of progress show."""

from __future__ import annotations

from dataclasses import dataclass

from htdag.backends.base import RunState
from htdag.observe.status import StageStatus, Status

PLACES = {"local": "on this machine", "condor": "on HTCondor"}
"""The name of a backend in a sentence."""


def jobs_text(status: Status) -> str:
    """Return how many jobs are in which state, such as ``jobs: 4 running, 96 waiting``."""
    nodes = {stage.node: stage for stage in status.stages}.values()
    running = sum(stage.jobs_running for stage in nodes)
    done = sum(stage.jobs_done for stage in nodes)
    held = sum(stage.jobs_held for stage in nodes)
    others = sum(stage.jobs for stage in nodes) - running - held - done
    what = "waiting"
    if status.state.ended:  # they failed, did not run, or have failed items that were skipped
        what = "with skipped items" if status.state is RunState.DONE else "not done"
    counts = [(running, "running"), (held, "on hold"), (others, what), (done, "done")]
    return "jobs: " + ", ".join(f"{count} {what}" for count, what in counts if count)


@dataclass(frozen=True)
class Bar:
    """One DAGMan node in a display of progress.

    Attributes
    ----------
    node : str
        Its name.
    label : str
        The stages that it computes.
    count : str
        How many of its items are done, such as ``5/20``.
    total : int or None
        How many items it has; None while that is unknown.
    done, failed, running : int
        Its items by state.
    complete : bool
        Whether all its jobs are done.
    """

    node: str
    label: str
    count: str
    total: int | None
    done: int
    failed: int
    running: int
    complete: bool

    @property
    def count_width(self) -> int:
        """The greatest width that the count can reach."""
        return max(len(self.count), 2 * len(str(self.total or 0)) + 1)

    @property
    def ended(self) -> bool:
        """Whether no item is running or waiting."""
        failed = self.total is not None and self.done + self.failed >= self.total
        return self.complete or (failed and not self.running)

    @property
    def started(self) -> bool:
        """Whether any of its jobs has run."""
        return bool(self.done or self.failed or self.running or self.complete)


def bars(status: Status) -> list[Bar]:
    """Return one bar per DAGMan node, which fused stages share.

    Nodes without a stage of their own (the inner levels of a reduction's tree) have none.
    """
    nodes: dict[str, list[StageStatus]] = {}
    for stage in status.stages:
        # Each round of a loop has nodes of its own.
        within = f"{stage.loop} {stage.rounds} " if stage.loop else ""
        nodes.setdefault(within + stage.node, []).append(stage)
    result = []
    for name, stages in nodes.items():
        one = stages[0]
        result.append(
            Bar(
                name,
                " + ".join(stage.name for stage in stages),
                f"{one.done}/{'?' if one.total is None else one.total}",
                one.total,
                one.done,
                one.failed,
                one.running,
                one.jobs_done == one.jobs,
            )
        )
    return result
