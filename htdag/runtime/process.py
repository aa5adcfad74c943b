"""What processes of htdag do about one another."""

from __future__ import annotations

import os
import signal


def die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process with its parent (Linux; elsewhere nothing)."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        return
    if os.getppid() != parent:
        os._exit(1)  # it died before it could be asked
