"""The facts about the HTCondor, or the machine, that new runs would go to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ExecutePoint:
    """A machine, or a part of a machine, that runs jobs.

    Attributes
    ----------
    name : str
        The name of its startd, such as ``node7.example.org``.
    version : str
        Its version of HTCondor, such as ``"25.14.1"``.
    cpus, memory_mb : int
        The size of its largest slot, in use or not.
    starts_jobs : bool
        False if its policy never starts a job.
    clock_ahead : float or None
        How many seconds its clock is ahead of this machine's; None if unknown.
    """

    name: str
    version: str
    cpus: int
    memory_mb: int
    starts_jobs: bool = True
    clock_ahead: float | None = None


@dataclass(frozen=True)
class Probe:
    """The answer of a small job on an execute point.

    Attributes
    ----------
    point : str
        The execute point's name.
    python : str
        The version of the Python that a run's jobs would use there; "" if there is none.
    problem : str
        Why the job did not report; "" if it did.
    """

    point: str
    python: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Facts:
    """All facts that the checks need.

    Attributes
    ----------
    place : {"condor", "own", "local"}
        Where ``on="auto"`` runs: on an HTCondor, on the user's own pool, or on this machine.
    name : str
        The name of that place.
    reason : str
        For ``"local"``, why runs do not go to an HTCondor.
    schedd_answers : bool
        Whether an HTCondor answers, usable or not.
    dagman_found : bool
        Whether its program condor_dagman is on PATH.
    root : bool
        Whether the user is root.
    python : str
        The Python that runs htdag, such as ``"3.11.2"``.
    bindings, schedd : str
        Versions of HTCondor's Python bindings and of the schedd; "" if they are missing.
    settings : mapping of str to str
        HTCondor's settings, as far as they are accessible.
    points : tuple of ExecutePoint
        The execute points.
    probes : tuple of Probe or None
        The answers of probe jobs; None: none were sent.
    probes_left_out : int
        How many execute points were not probed.
    runs_directory, runs_filesystem : str
        Where runs are kept, and the type of file system there.
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
