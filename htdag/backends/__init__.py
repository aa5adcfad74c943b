"""The backends that run a run directory: HTCondor, or processes on this machine."""

from htdag.backends.base import Backend
from htdag.backends.select import backend, choose, scheduler, slots

__all__ = ["Backend", "backend", "choose", "scheduler", "slots"]
