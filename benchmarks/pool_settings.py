"""Time one run on a fast pool, and on pools where one of the fast settings is HTCondor's default.

    tools/as-user .venv/bin/python benchmarks/pool_settings.py [--runs 3] [--json FILE]

It starts the tests' own pools, so `make test` must have set that up. The run has three nodes, one
after the other: 4 jobs, 4 jobs and one that sums, all of them with file transfer.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import platform
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

from pool import DEFAULT, FAST, Area, Pool  # the tests' own pool; after the path is set

import htdag

DEFAULTS = {
    "nothing": {},
    "GUIDANCE_KEEP_CALM_AND": {"GUIDANCE_KEEP_CALM_AND": "False"},
    "DAGMAN_USER_LOG_SCAN_INTERVAL": {"DAGMAN_USER_LOG_SCAN_INTERVAL": "5"},
    "SCHEDD_MIN_INTERVAL": {"SCHEDD_MIN_INTERVAL": "5"},
    "SCHEDD_INTERVAL": {"SCHEDD_INTERVAL": "300"},
    "NEGOTIATOR_INTERVAL": {
        "NEGOTIATOR_INTERVAL": "60",
        "NEGOTIATOR_MIN_INTERVAL": "5",
        "NEGOTIATOR_CYCLE_DELAY": "20",
    },
    "all of them": {**dict.fromkeys(FAST, ""), **DEFAULT},
}


def square(x: int) -> int:
    return x * x


def double(x: int) -> int:
    return 2 * x


def seconds() -> float:
    """Run once and return the time from submit to result."""
    squares = htdag.source(range(200), chunk_size=50).map(square)
    total = squares.map(double, fuse=False).reduce(operator.add)
    begun = time.perf_counter()
    htdag.Pipeline(total, name="sum").submit(on="condor").wait(600, progress=False)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    area = Area()
    figures: dict[str, list[float]] = {}
    try:
        for number, (name, settings) in enumerate(DEFAULTS.items()):
            fast = {key: value for key, value in FAST.items() if settings.get(key) != ""}
            own = {key: value for key, value in settings.items() if value != ""}
            pool = Pool(f"pool{number}", area, {**fast, **own})
            try:
                with pool.use(), pool.only("blind"):
                    os.environ["HTDAG_HOME"] = str(area.new_runs_dir())
                    figures[name] = [seconds() for _ in range(args.runs)]
            finally:
                pool.stop()
            times = ", ".join(f"{one:.1f}" for one in figures[name])
            ratio = statistics.median(figures[name]) / statistics.median(figures["nothing"])
            print(f"{name} at its default: {times} s, {ratio:.1f} times", flush=True)
    finally:
        area.close()
    if args.json:
        machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
        args.json.write_text(json.dumps({"machine": machine, "seconds": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
