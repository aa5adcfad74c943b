"""Whether a run has ended, from its files alone."""

from __future__ import annotations

from pathlib import Path

from htdag.runtime import layout


def has_ended(run: Path) -> bool:
    """Tell from files alone whether a run has ended; one that was killed has not."""
    try:
        state = layout.read_json(str(run / layout.LOCAL_STATE), "state")
        return bool(state["state"] != "running")
    except FileNotFoundError:
        manifest = layout.read_json(str(run / layout.RUN), "dag")
        return (run / f"{manifest['dag']}.metrics").exists()  # DAGMan's last act
