"""What jobs ask for: sizes as they are written, and the requests of each chunk of a node."""

from __future__ import annotations

import re
from typing import Dict, List, Optional

from . import layout
from .layout import NodeFiles

SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", re.IGNORECASE)
"""A size: its number, and the first letter of its unit."""
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}


def size_in(unit: str, text: Optional[str]) -> Optional[float]:
    """Return a size in a unit (``"KB"`` or ``"MB"``), which one without a unit is in already.

    None is returned where it is not given, or an expression.
    """
    match = SIZE.fullmatch(text or "")
    if match is None:
        return None
    own = _POWERS[unit[0].lower()]
    return float(match[1]) * 1024.0 ** (_POWERS.get(match[2].lower(), own) - own)


def of_chunks(run: str, node: str) -> Dict[str, List[int]]:
    """Return what the chunks ask for, by option; {} where all of them ask for the same."""
    try:
        found: Dict[str, List[int]] = layout.read_json(NodeFiles(run, node).requests)
    except FileNotFoundError:
        return {}
    return found
