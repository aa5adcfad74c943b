"""What each chunk of a node asks for, where that depends on its items."""

from __future__ import annotations

import os
from typing import Dict, List

from . import layout


def of_chunks(run: str, node: str) -> Dict[str, List[int]]:
    """Return what the chunks ask for, by option; {} where all of them ask for the same."""
    try:
        found: Dict[str, List[int]] = layout.read_json(os.path.join(run, layout.requests(node)))
    except FileNotFoundError:
        return {}
    return found
