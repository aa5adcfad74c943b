"""From a plan to a run directory: the only writer of one."""

from htdag.compile.writer import write_run

__all__ = ["write_run"]
