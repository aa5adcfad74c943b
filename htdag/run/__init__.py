"""Runs: wait for them, look at them, take their results, go on with them.

Each module holds the methods for one kind of thing; `Run` is all of them.
"""

from __future__ import annotations

from pathlib import Path

from htdag.backends import Backend
from htdag.backends.base import RunState
from htdag.observe.failures import ItemError
from htdag.observe.missing import MissingItem
from htdag.observe.outcomes import Item
from htdag.observe.status import Status
from htdag.reuse.directories import alone
from htdag.run.again import Again
from htdag.run.damage import translates
from htdag.run.debugging import Debugging
from htdag.run.keeping import Keeping
from htdag.run.looking import Looking
from htdag.run.results import Results
from htdag.run.streams import Streams

__all__ = ["Item", "ItemError", "MissingItem", "Run", "RunState", "Status"]


@translates
class Run(Results, Looking, Again, Debugging, Streams, Keeping):
    """One execution of a pipeline.

    Made by `Pipeline.submit`, `load` and `runs`. All that a run is lies in its directory, so any
    process of the same user can look at it, and several may at once.

    Attributes
    ----------
    tag : str
        The run's name.
    path : pathlib.Path
        Its directory.
    """

    @classmethod
    def start(cls, path: Path, backend: Backend) -> Run:
        """Submit a run directory that was just written; where that fails, remove it again."""
        import shutil

        run = cls(path)
        try:
            with alone(path):  # one that is not submitted may be cleaned up
                run._submit(backend)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return run

    def __repr__(self) -> str:
        return f"<htdag.Run {self.tag!r} in {str(self.path)!r}>"
