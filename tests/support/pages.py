"""The pages of the documentation, and what their code prints."""

from __future__ import annotations

import re
import socket
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
DOCS = PROJECT / "docs"


def plain(text: str, folder: Path) -> str:
    """Return what was printed without what differs from one machine to the next."""
    text = text.replace(str(folder), "/home/ada").replace(socket.gethostname(), "laptop")
    text = re.sub(r"line \d+", "line N", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2026-11-22 18:56:28", text)
    text = re.sub(r"-\d{8}-\d{6}", "-20261122-185628", text)
    lines = [line.rstrip() for line in text.splitlines()]
    # Python 3.11 and later mark the place in a line of a traceback.
    return "\n".join(line for line in lines if not re.fullmatch(r"\s*[~^]+", line)).strip()
