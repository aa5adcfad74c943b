"""Who runs a run directory: HTCondor, or processes of this machine."""

from htdag.backends.base import Backend, backend, choose

__all__ = ["Backend", "backend", "choose"]
