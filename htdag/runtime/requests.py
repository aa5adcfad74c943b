"""What each chunk of a node asks for, where that depends on its items."""

from __future__ import annotations

import json
import os
from typing import Dict, List

from . import layout


def of_chunks(run: str, node: str) -> Dict[str, List[int]]:
    """Return what the chunks ask for, by option; {} where all of them ask for the same."""
    try:
        with open(os.path.join(run, layout.requests(node)), encoding="utf-8") as file:
            found: Dict[str, List[int]] = json.load(file)
    except FileNotFoundError:
        return {}
    return found
