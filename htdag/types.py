"""The types that users get from runs and plans, besides those that `htdag` itself exports."""

from htdag.backends.base import JobState
from htdag.catalog.housekeeping import Cleaned
from htdag.environments import Prepared
from htdag.observe.diagnosis import Reason
from htdag.observe.final import FinalCall
from htdag.observe.groups import ErrorGroup
from htdag.observe.item_errors import FrameLocals
from htdag.observe.items import ItemState, JobUsage
from htdag.observe.matchmaking import Clause
from htdag.observe.status import StageStatus
from htdag.plan.model import Node
from htdag.run.replay import Replay
from htdag.runtime.dag.final import SummaryError

__all__ = [
    "Clause",
    "Cleaned",
    "ErrorGroup",
    "FinalCall",
    "FrameLocals",
    "ItemState",
    "JobState",
    "JobUsage",
    "Node",
    "Prepared",
    "Reason",
    "Replay",
    "StageStatus",
    "SummaryError",
]
