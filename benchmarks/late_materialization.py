"""Time one run on a pool with HTCondor's default settings, with and without late materialisation.

    tools/as-user .venv/bin/python benchmarks/late_materialization.py [--runs 3] [--json FILE]

It starts the tests' own pool, so `make test` must have set that up. The run is map and filter over
200 items in 4 jobs, then one job that sums.
"""

from __future__ import annotations

import operator
import os
import time
from pathlib import Path

import common
from pool import DEFAULT, Area, Pool  # the tests' own pool; common sets the path

import htdag


def square(x: int) -> int:
    return x * x


def is_even(x: int) -> bool:
    return x % 2 == 0


def seconds(late: bool) -> float:
    """Run once and return the time from submit to result."""
    total = htdag.source(range(200), chunk_size=50).map(square).filter(is_even).reduce(operator.add)
    run_directory = Path(os.environ["HTDAG_HOME"]) / f"{time.monotonic_ns()}"
    dag = htdag.Pipeline(total, name="sum").compile(run_directory)
    if not late:
        for path in run_directory.glob("nodes/*/*.sub"):
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(line for line in lines if "max_materialize" not in line))
    import htcondor2

    begun = time.perf_counter()
    description = htcondor2.Submit.from_dag(str(dag), {"UseDagDir": True})
    htcondor2.Schedd().submit(description)
    out = Path(f"{dag}.dagman.out")
    while not out.exists() or "EXITING WITH STATUS" not in out.read_text():
        time.sleep(0.2)
    if "EXITING WITH STATUS 0" not in out.read_text():
        raise SystemExit(f"the run failed: {out}")
    return time.perf_counter() - begun


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    area = Area()
    figures: dict[str, list[float]] = {"with": [], "without": []}
    try:
        pool = Pool("default", area, DEFAULT)
        try:
            with pool.use():
                os.environ["HTDAG_HOME"] = str(area.new_runs_dir())
                for _ in range(args.runs):
                    for name, times in figures.items():
                        times.append(seconds(name == "with"))
                        print(f"{name} late materialisation: {times[-1]:.1f} s", flush=True)
        finally:
            pool.stop()
    finally:
        area.close()
    base = common.median(figures["with"])
    rows = [
        [name, common.spread(times), f"{common.median(times) / base:.2f}"]
        for name, times in figures.items()
    ]
    table = common.table(["max_materialize", "seconds: median (range)", "times"], rows)
    settings = ", ".join(f"`{key} = {value}`" for key, value in DEFAULT.items())
    text = (
        f"`map` and `filter` over 200 items in 4 jobs, then one that sums:\n\n{table}\n\n"
        f"Medians of {args.runs} runs, on a pool with HTCondor's defaults ({settings})."
    )
    common.report("late_materialization", text, figures, args)


if __name__ == "__main__":
    main()
