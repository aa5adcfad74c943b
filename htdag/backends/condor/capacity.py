"""How many jobs of one CPU a pool can run at once."""

from __future__ import annotations

import subprocess
import sys

from htdag.backends.condor.setup import Setup

_TIMEOUT = 5.0  # seconds
# Partitionable slots with the slots that were cut from them, and static ones: all that they have.
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
    """Ask a schedd whether it is there, and its collector for the pool's CPUs and GPUs.

    In a process of its own: where no daemon answers the bindings wait for a minute, and no other
    thread goes on meanwhile.

    Returns
    -------
    tuple of int or None
        None where the schedd does not answer within a few seconds, (0, 0) where it is the
        collector that does not.
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
