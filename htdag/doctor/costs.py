"""What the slow settings cost, as it was measured; the words are for people."""

from __future__ import annotations

_RUN = "a run of 3 nodes with 9 short jobs"

# Medians of three runs on 2 cores, by benchmarks/pool_settings.py: one setting at HTCondor's
# default, all others fast.
NEGOTIATOR = f"{_RUN} took 60 s at the default of 60, and 17 s at 1"
SCAN = f"{_RUN} took 43 s at the default of 5, and 17 s at 1"
GUIDANCE = f"{_RUN} took 28 s so, and 17 s without the wait"
SCHEDD_MIN = f"{_RUN} took 21 s at the default of 5, and 17 s at 1"
# From the page of facts about HTCondor.
CLAIMS = (
    "3 chained nodes of 40 jobs on 8 slots took 142 s with SCHEDD_INTERVAL at 60, and 44 s at 5; "
    "without kept claims there is no such wait"
)
