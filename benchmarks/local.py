"""Time the local backend against multiprocessing.Pool and joblib on the same items, side by side.

    .venv/bin/python benchmarks/local.py [--rounds 3] [--json FILE]

Each way is timed from its first line to all results in this process. `htdag` runs with its default
of at most 100 jobs and with a chunk a core; the others choose their own chunks.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import time
from multiprocessing import Pool as ProcessPool
from typing import Any

import common
from joblib import Parallel, delayed

import htdag


def burn(item: int) -> int:
    """Take 50 ms of CPU."""
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    return item + 1


def trivial(item: int) -> int:
    return item + 1


def by_htdag(function: Any, items: int, chunk_size: int | None) -> list[int]:
    stage = htdag.source(range(items), chunk_size=chunk_size).map(function)
    return list(htdag.Pipeline(stage).submit(on="local").wait(progress=False).result())


def by_processes(function: Any, items: int) -> list[int]:
    with ProcessPool(len(os.sched_getaffinity(0))) as pool:
        return pool.map(function, range(items))


def by_joblib(function: Any, items: int) -> list[int]:
    jobs = len(os.sched_getaffinity(0))
    return list(Parallel(n_jobs=jobs)(delayed(function)(item) for item in range(items)))


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--burns", type=int, default=200, help="how many items of 50 ms")
    parser.add_argument("--trivial", type=int, nargs="+", default=[200, 100_000])
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    figures = []
    cases = [(burn, args.burns), *((trivial, number) for number in args.trivial)]
    with tempfile.TemporaryDirectory(prefix="htdag-benchmark-", dir="/var/tmp") as home:
        os.environ["HTDAG_HOME"] = home
        for function, items in cases:
            what = "50 ms of CPU" if function is burn else "trivial"
            print(f"{items:,} items, {what}", flush=True)
            arguments = (function, items)
            ways = {
                "multiprocessing.Pool": functools.partial(by_processes, *arguments),
                "joblib": functools.partial(by_joblib, *arguments),
                "htdag, at most 100 jobs": functools.partial(by_htdag, *arguments, None),
                "htdag, a job a core": functools.partial(by_htdag, *arguments, -(-items // cores)),
            }
            times: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(args.rounds):
                for name, way in ways.items():
                    begun = time.perf_counter()
                    result = way()
                    times[name].append(time.perf_counter() - begun)
                    print(f"  {name}: {times[name][-1]:.2f} s", flush=True)
                    if result != [item + 1 for item in range(items)]:
                        sys.exit(f"{name}: another result")
            figures.append({"items": items, "what": what, "seconds": times})
    rows = []
    for figure in figures:
        base = common.median(figure["seconds"]["multiprocessing.Pool"])
        for name, times in figure["seconds"].items():
            found = common.median(times)
            rows.append(
                [
                    f"{figure['items']:,} items, {figure['what']}",
                    name,
                    common.spread(times),
                    f"{found / base:.2f}",
                    f"{found - base:+.2f}",
                ]
            )
    head = ["items", "way", "seconds: median (range)", "times multiprocessing", "seconds more"]
    text = f"{common.table(head, rows)}\n\nMedians of {args.rounds} rounds; no pool is used."
    common.report("local", text, figures, args)


if __name__ == "__main__":
    main()
