"""The compiler from plans to run directories, and their only writer."""

from htdag.compile.writer import write_run

__all__ = ["write_run"]
