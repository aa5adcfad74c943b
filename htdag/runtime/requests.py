"""What each chunk of a node asks for, where that depends on its items."""

from __future__ import annotations

from typing import Dict, List

from . import layout
from .layout import NodeFiles


def of_chunks(run: str, node: str) -> Dict[str, List[int]]:
    """Return what the chunks ask for, by option; {} where all of them ask for the same."""
    try:
        found: Dict[str, List[int]] = layout.read_json(NodeFiles(run, node).requests)
    except FileNotFoundError:
        return {}
    return found
