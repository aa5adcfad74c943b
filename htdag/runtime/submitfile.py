"""Read and change the commands of a node's submit description, which DAGMan reads each attempt."""

from __future__ import annotations

import os
import re
from typing import Dict, List, Optional

from . import layout

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", re.IGNORECASE)
_MEGABYTES = {"k": 1 / 1024, "": 1.0, "m": 1.0, "g": 1024.0, "t": 1024.0 * 1024}


def commands(run: str, node: str) -> Dict[str, str]:
    """Return the commands of a node's submit description, their names in small letters."""
    found = {}
    for line in _lines(run, node):
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[name.strip().lower()] = value.strip()
    return found


def change(run: str, node: str, values: Dict[str, str]) -> None:
    """Give commands other values, or add them; written aside, so that DAGMan reads old or new."""
    lines = _lines(run, node)
    for name, value in values.items():
        text = "%s = %s\n" % (name, value)
        places = [
            number
            for number, line in enumerate(lines)
            if line.partition("=")[0].strip().lower() == name.lower() and "=" in line
        ]
        if places:
            lines[places[-1]] = text
        else:
            queue = next(n for n, line in enumerate(lines) if line.split(None, 1)[:1] == ["queue"])
            lines.insert(queue, text)
    path = os.path.join(run, layout.submit(node))
    layout.write_aside(path, "".join(lines).encode())


def _lines(run: str, node: str) -> List[str]:
    with open(os.path.join(run, layout.submit(node)), encoding="utf-8") as file:
        return file.readlines()


def megabytes(size: Optional[str]) -> Optional[float]:
    """Return a size of memory in MB; None where it is not given, or an expression."""
    match = _SIZE.fullmatch(size or "")
    return float(match[1]) * _MEGABYTES[match[2].lower()] if match else None
