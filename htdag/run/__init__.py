"""Runs: the class `Run` and its parts."""

from htdag.backends.base import RunState
from htdag.observe.item_errors import ItemError
from htdag.observe.missing import MissingItem
from htdag.observe.outcomes import Item
from htdag.observe.status import Status
from htdag.run.run import Run

__all__ = ["Item", "ItemError", "MissingItem", "Run", "RunState", "Status"]
