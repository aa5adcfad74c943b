"""The log of decisions about a node on the access point."""

from __future__ import annotations

import os
import time

from .. import lanes
from ..layout import NodeFiles


def note(run: str, unit: lanes.Unit, text: str) -> None:
    """Append a line to the node's log of decisions."""
    path = NodeFiles(run, unit.node).post_log
    if unit.lane:
        text = "lane %d, %s" % (unit.lane, text)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(time.strftime("%Y-%m-%d %H:%M:%S ") + text + "\n")


def note_failure(run: str, unit: lanes.Unit, before: str = "") -> None:
    """Append the current exception with its traceback."""
    import traceback  # it takes time, which is seldom to be spent

    note(run, unit, before + traceback.format_exc())
