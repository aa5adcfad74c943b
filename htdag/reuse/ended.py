"""The check whether a run has ended, from its files alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from htdag.runtime import layout

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import LocalState, Manifest


def has_ended(run: Path) -> bool:
    """Return whether a run has ended, from its files alone; a killed run counts as not ended."""
    try:
        state: LocalState = layout.read_json(str(run / layout.LOCAL_STATE), "state")
        return state["state"] != "running"
    except FileNotFoundError:
        manifest: Manifest = layout.read_json(str(run / layout.RUN), "dag")
        return (run / f"{manifest['dag']}.metrics").exists()  # DAGMan's last act
