"""Whether a run has ended, from its files alone."""

from __future__ import annotations

import json
from pathlib import Path

from htdag.runtime import layout


def has_ended(run: Path) -> bool:
    """Tell from files alone whether a run has ended; one that was killed has not."""
    try:
        state = json.loads((run / layout.LOCAL_STATE).read_bytes())
        return bool(state["state"] != "running")
    except FileNotFoundError:
        manifest = json.loads((run / layout.RUN).read_bytes())
        return (run / f"{manifest['dag']}.metrics").exists()  # DAGMan's last act
