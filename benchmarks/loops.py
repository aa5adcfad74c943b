"""Time what a round of a loop costs: three rounds, and the same stages one after another.

    tools/as-user .venv/bin/python benchmarks/loops.py [--pool default] [--runs 2] [--json FILE]

It starts the tests' own pool, so `make test` must have set that up. A round is a map over 4 items
in 2 jobs, with the state bound, and a reduce in one.
"""

from __future__ import annotations

import operator
import os
import time

import common
from pool import DEFAULT, ENFORCING, FAST, Area, Pool  # the tests' own pool; common sets the path

import htdag

ROUNDS = 3
POOLS = {
    "fast": {key: value for key, value in FAST.items() if key not in ENFORCING},
    "default": DEFAULT,
}


def shifted(x: int, n: int) -> int:
    return x + n


def never(n: int) -> bool:
    return n < 0


def stages(name: str) -> htdag.Stage:
    """Return three rounds, as a loop or one after another; the jobs are the same."""
    numbers = htdag.source(range(4), chunk_size=2)

    def step(n: htdag.Stage) -> htdag.Stage:
        return numbers.map(shifted, bind={"n": n}).reduce(operator.add)

    if name == "loop":
        return htdag.iterate(step, 0, until=never, max_rounds=ROUNDS, name="loop")
    n = htdag.source([0]).reduce(operator.add)
    for _ in range(ROUNDS):
        n = step(n)
    return n


def seconds(name: str) -> float:
    begun = time.perf_counter()
    run = htdag.Pipeline(stages(name), history=False).submit(on="condor")
    run.wait(timeout=600, progress=False)
    return time.perf_counter() - begun


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--pool", choices=POOLS, default="fast")
    args = parser.parse_args()
    area = Area()
    figures: dict[str, list[float]] = {"loop": [], "one after another": []}
    try:
        pool = Pool(args.pool, area, POOLS[args.pool])
        try:
            with pool.use():
                os.environ["HTDAG_HOME"] = str(area.new_runs_dir())
                for _ in range(args.runs):
                    for name, times in figures.items():
                        times.append(seconds(name))
                        print(f"{name}: {times[-1]:.1f} s", flush=True)
        finally:
            pool.stop()
    finally:
        area.close()
    base = common.median(figures["one after another"])
    rows = [
        [name, common.spread(times), f"{common.median(times) / base:.2f}"]
        for name, times in figures.items()
    ]
    table = common.table([f"{ROUNDS} rounds", "seconds: median (range)", "times"], rows)
    more = (common.median(figures["loop"]) - base) / ROUNDS
    settings = ", ".join(f"`{key} = {value}`" for key, value in POOLS[args.pool].items())
    text = (
        f"{ROUNDS} rounds of a `map` in 2 jobs and a `reduce` in one, on the {args.pool} pool:\n\n"
        f"{table}\n\nMedians of {args.runs} runs; a round of the loop took {more:.1f} s more. "
        f"The pool (4 slots on each point, besides HTCondor's own settings): {settings}."
    )
    common.report("loops", text, figures, args)


if __name__ == "__main__":
    main()
