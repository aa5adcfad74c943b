"""Forking and ending processes of htdag."""

from __future__ import annotations

import os
import signal
import sys


def fork() -> int:
    """Fork; the child, for which 0 is returned, ends with this process."""
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        die_with_parent(parent)
    return child


def redirect(descriptor: int, path: str) -> None:
    """Redirect a descriptor to a new file."""
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    os.dup2(target, descriptor)
    os.close(target)


def die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process with its parent (Linux; elsewhere nothing)."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        return
    if os.getppid() != parent:
        os._exit(1)  # it died before it could be asked
