"""Bars of a run's nodes, and words for its jobs: what every display of progress shows."""

from __future__ import annotations

from dataclasses import dataclass

from htdag.backends.base import RunState
from htdag.observe.status import StageStatus, Status

PLACES = {"local": "on this machine", "condor": "on HTCondor"}
"""What a backend is called in a sentence."""


def jobs_text(status: Status) -> str:
    """Return how many jobs are in which state, such as ``jobs: 4 running, 96 waiting``."""
    nodes = {stage.node: stage for stage in status.stages}.values()
    running = sum(stage.jobs_running for stage in nodes)
    done = sum(stage.jobs_done for stage in nodes)
    held = sum(stage.jobs_held for stage in nodes)
    others = sum(stage.jobs for stage in nodes) - running - held - done
    what = "waiting"
    if status.state.ended:  # they have failed or did not run; or their failed items were let go
        what = "with items let go" if status.state is RunState.DONE else "not done"
    counts = [(running, "running"), (held, "on hold"), (others, what), (done, "done")]
    return "jobs: " + ", ".join(f"{count} {what}" for count, what in counts if count)


@dataclass(frozen=True)
class Bar:
    """What is shown of one DAGMan node.

    Attributes
    ----------
    node : str
        Its name.
    label : str
        The stages that it computes.
    count : str
        Items done, of how many.
    total : int or None
        How many items it takes; None while that is not known.
    done, failed, running : int
        Its items by state.
    complete : bool
        Whether all its jobs are.
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
        """How wide the count will become at most."""
        return max(len(self.count), 2 * len(str(self.total or 0)) + 1)

    @property
    def over(self) -> bool:
        """Whether nothing of it is under way or left, but what has failed."""
        failed = self.total is not None and self.done + self.failed >= self.total
        return self.complete or (failed and not self.running)

    @property
    def begun(self) -> bool:
        """Whether any of its jobs has run."""
        return bool(self.done or self.failed or self.running or self.complete)


def bars(status: Status) -> list[Bar]:
    """Return one bar a DAGMan node; stages that are fused share it.

    Nodes without a stage of their own (the levels of a reduction's tree) have none.
    """
    nodes: dict[str, list[StageStatus]] = {}
    for stage in status.stages:
        # Those of each round of a loop are others.
        within = f"{stage.loop} {stage.rounds} " if stage.loop else ""
        nodes.setdefault(within + stage.node, []).append(stage)
    found = []
    for name, stages in nodes.items():
        one = stages[0]
        found.append(
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
    return found
