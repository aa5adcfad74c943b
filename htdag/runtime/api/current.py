"""`current`: information for a function about the job that it runs in."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional

from ..requests import ad, number
from ..task import Job, cpus
from .context import HERE
from .shim import public


@public
@dataclass(frozen=True)
class Current:
    """The job in which a function runs, and the item.

    Attributes
    ----------
    run : str
        The tag of the run.
    stage : str
        The stage whose function is called.
    key : str or None
        The key of the item; None if the function combines items.
    attempt : int
        Which attempt at the chunk this is, from 1.
    node : str
        The DAGMan node.
    chunk : int
        The number of the chunk in the node, from 0.
    job : str or None
        HTCondor's number of the job, such as ``"12.0"``; None without HTCondor.
    slot : str or None
        The name of the slot, such as ``"slot1_1@node7"``; None without HTCondor.
    scratch : pathlib.Path
        A directory for temporary files: HTCondor's scratch directory, which is removed with the
        job; without HTCondor, the machine's directory for temporary files.
    cpus : int
        How many CPUs the job was given.
    memory : int or None
        How much memory it was given, in MB; None without HTCondor, where there is no limit.
    disk : int or None
        How much disk it was given, in KB; None without HTCondor.
    gpus : int
        How many GPUs it was given.

    Examples
    --------
    >>> import htdag
    >>> def threads(item):
    ...     here = htdag.current()
    ...     return here.cpus if here else 1
    >>> threads("outside of a run")
    1
    """

    run: str
    stage: str
    key: Optional[str]
    attempt: int
    node: str
    chunk: int
    job: Optional[str]
    slot: Optional[str]
    scratch: Path
    cpus: int
    memory: Optional[int]
    disk: Optional[int]
    gpus: int


@public
def current() -> Optional[Current]:
    """Return the job in which the calling function runs; None outside of a run.

    This works in jobs on HTCondor and on this machine, even if htdag is not installed there.

    Returns
    -------
    Current or None

    Examples
    --------
    >>> import htdag
    >>> print(htdag.current())
    None
    """
    job = HERE.job
    if job is None:
        return None
    if HERE.granted is None:
        HERE.granted = _granted(job)
    return Current(
        run=job.program["run"],
        stage=HERE.cursor.stage,
        key=HERE.cursor.key or None,
        attempt=job.attempt,
        node=job.node,
        chunk=job.chunk,
        **HERE.granted,
    )


def _granted(job: Job) -> Dict[str, Any]:
    """Return the resources that HTCondor gave the job, from the ads in its scratch directory."""
    machine = ad("_CONDOR_MACHINE_AD")
    job_ad = ad("_CONDOR_JOB_AD")
    scratch = os.environ.get("_CONDOR_SCRATCH_DIR")
    cluster, process = number(job_ad, "ClusterId"), number(job_ad, "ProcId")
    granted = number(machine, "Cpus")
    return {
        "job": None if cluster is None else "%d.%d" % (cluster, process or 0),
        "slot": machine["name"].strip('"') if "name" in machine else None,
        "scratch": Path(scratch or tempfile.gettempdir()),
        "cpus": cpus(job) if granted is None else granted,
        "memory": number(machine, "Memory"),
        "disk": number(machine, "Disk"),
        "gpus": number(machine, "GPUs") or 0,
    }
