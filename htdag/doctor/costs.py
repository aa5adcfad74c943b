"""The measured costs of slow settings, as texts for people."""

from __future__ import annotations

_RUN = "a run of 3 nodes with 9 short jobs"

# Medians of three runs on 2 cores by benchmarks/pool_settings.py, with one setting at HTCondor's
# default and all others fast.
NEGOTIATOR = f"{_RUN} took 60 s at the default of 60, and 17 s at 1"
SCAN = f"{_RUN} took 43 s at the default of 5, and 17 s at 1"
GUIDANCE = f"{_RUN} took 28 s with this wait, and 17 s without it"
SCHEDD_MIN = f"{_RUN} took 21 s at the default of 5, and 17 s at 1"
# From docs/htcondor-facts.md.
CLAIMS = (
    "3 chained nodes of 40 jobs on 8 slots took 142 s with SCHEDD_INTERVAL at 60, and 44 s at 5; "
    "without kept claims there is no such wait"
)
