"""The capabilities of the HTCondor that a run directory is written for."""

from __future__ import annotations

from dataclasses import dataclass

Version = tuple[int, int, int]


@dataclass(frozen=True)
class Scheduler:
    """The capabilities of an HTCondor. By default nothing is known: then the DAG runs anywhere.

    Attributes
    ----------
    version : tuple of int or None
        The version of its DAGMan; None if unknown.
    keeps_jobs : bool
        Whether DAGMan can let the other jobs of a node go on when one has failed.
    negotiates_often : bool
        Whether negotiation cycles are so frequent that late materialization would delay jobs.
    file_system_domain : str
        The ``FILESYSTEM_DOMAIN`` of the submit side; "" if unknown.
    """

    version: Version | None = None
    keeps_jobs: bool = False
    negotiates_often: bool = False
    file_system_domain: str = ""


ANY = Scheduler()
"""An HTCondor with unknown capabilities."""
