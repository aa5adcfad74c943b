"""The number of jobs with one CPU that a pool can run at once."""

from __future__ import annotations

import subprocess
import sys

from htdag.backends.condor.setup import Setup

_TIMEOUT = 5.0  # seconds
# The total sizes of static and partitionable slots; the latter include their dynamic slots.
_COUNT = """
import htcondor2
htcondor2.Schedd().query(constraint="false", projection=["ClusterId"])
print("schedd", flush=True)
ads = htcondor2.Collector().query(
    htcondor2.AdType.Startd,
    constraint='SlotType =!= "Dynamic"',
    projection=["TotalSlotCpus", "TotalSlotGPUs"],
)
wanted = {"TotalSlotCpus": 1, "TotalSlotGPUs": 0}
print(*(sum(int(ad.get(name, least)) for ad in ads) for name, least in wanted.items()))
"""


def ask(setup: Setup) -> tuple[int, int] | None:
    """Return the CPUs and GPUs of the pool of an HTCondor.

    A separate process queries it: if no daemon answers, the bindings block for a minute, and all
    other threads with them.

    Returns
    -------
    tuple of int or None
        None if the schedd does not answer within a few seconds; (0, 0) if the collector does not.
    """
    try:
        output = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _COUNT],
            env=setup.variables(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT,
            check=False,
        ).stdout
    except subprocess.TimeoutExpired as stopped:
        output = stopped.stdout or b""
    except OSError:
        return None
    answered, *counts = output.split() or [b""]
    if answered != b"schedd":
        return None
    return (int(counts[0]), int(counts[1])) if len(counts) == 2 else (0, 0)
