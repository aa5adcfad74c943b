"""What is known of the HTCondor, or the machine, that new runs would go to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ExecutePoint:
    """A machine, or a part of one, that runs jobs.

    Attributes
    ----------
    name : str
        The name of its startd, such as ``node7.example.org``.
    version : str
        Its HTCondor, such as ``"25.14.1"``.
    cpus, memory_mb : int
        The size of its largest slot, whether that is in use or not.
    starts_jobs : bool
        False where its policy never starts a job.
    clock_ahead : float or None
        By how many seconds its clock differs from this machine's; None where that is not known.
    """

    name: str
    version: str
    cpus: int
    memory_mb: int
    starts_jobs: bool = True
    clock_ahead: float | None = None


@dataclass(frozen=True)
class Probe:
    """What a small job found on an execute point.

    Attributes
    ----------
    point : str
        The execute point's name.
    python : str
        The version of the Python that a run's jobs would take there; "" where there is none.
    problem : str
        Why the job told nothing; "" where it did.
    """

    point: str
    python: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Facts:
    """All that the checks look at.

    Attributes
    ----------
    place : {"condor", "own", "local"}
        Where ``on="auto"`` runs: on an HTCondor, on the user's own pool, or on this machine.
    name : str
        What that is called.
    reason : str
        For ``"local"``, why not on an HTCondor.
    schedd_answers : bool
        Whether an HTCondor answers, be it usable or not.
    dagman_found : bool
        Whether its program condor_dagman was found.
    root : bool
        Whether the user is root.
    python : str
        The Python that runs htdag, such as ``"3.11.2"``.
    bindings, schedd : str
        Versions of HTCondor's Python bindings and of the schedd; "" where they are not there.
    settings : mapping of str to str
        HTCondor's settings, as far as they could be asked for.
    points : tuple of ExecutePoint
        What runs jobs.
    probes : tuple of Probe or None
        What probe jobs found; None: there were none.
    probes_left_out : int
        How many execute points no probe job was sent to.
    runs_directory, runs_filesystem : str
        Where runs are kept, and on what kind of file system.
    """

    place: str
    name: str
    python: str
    runs_directory: str
    reason: str = ""
    schedd_answers: bool = False
    dagman_found: bool = False
    root: bool = False
    bindings: str = ""
    schedd: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    points: tuple[ExecutePoint, ...] = ()
    probes: tuple[Probe, ...] | None = None
    probes_left_out: int = 0
    runs_filesystem: str = ""
