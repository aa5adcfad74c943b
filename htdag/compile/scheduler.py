"""What is known of the HTCondor that is to run a directory when that is written."""

from __future__ import annotations

from dataclasses import dataclass

Version = tuple[int, int, int]


@dataclass(frozen=True)
class Scheduler:
    """What the HTCondor at hand can do. By default nothing is known: then the DAG runs anywhere.

    Attributes
    ----------
    version : tuple of int or None
        The version of its DAGMan; None where it is not known.
    keeps_jobs : bool
        Whether DAGMan can leave the other jobs of a node alone when one has failed.
    negotiates_often : bool
        Whether its negotiator looks so often that late materialisation would delay jobs.
    file_system_domain : str
        The ``FILESYSTEM_DOMAIN`` of the submit side; "" where it is not known.
    """

    version: Version | None = None
    keeps_jobs: bool = False
    negotiates_often: bool = False
    file_system_domain: str = ""


ANY = Scheduler()
"""An HTCondor of which nothing is known."""
