"""The check whether a run has ended, from its files alone."""

from __future__ import annotations

from pathlib import Path

from htdag.runtime import layout


def has_ended(run: Path) -> bool:
    """Return whether a run has ended, from its files alone; a killed run counts as not ended."""
    try:
        state = layout.read_json(str(run / layout.LOCAL_STATE), "state")
        return bool(state["state"] != "running")
    except FileNotFoundError:
        manifest = layout.read_json(str(run / layout.RUN), "dag")
        return (run / f"{manifest['dag']}.metrics").exists()  # DAGMan's last act
