"""Time chained nodes in lanes and one after the other, side by side.

    tools/as-user .venv/bin/python benchmarks/lanes.py [--rounds 3] [--lanes 1 2 4 8] [--json FILE]

It starts the tests' own fast pool, so `make test` must have set that up. Jobs sleep, so that two
cores are enough for eight slots. Each round runs every number of lanes once, in turn.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import common
from pool import FAST, Area, Pool  # the tests' own pool; common sets the path

import htdag
from htdag.backends.condor.backend import CondorBackend
from htdag.reuse import history

# About what a node costs on that pool; 20 s are for HTCondor's default settings.
TURN = 3.0
SEEING = 'TARGET.FileSystemDomain == "seeing.test"'
BLIND = 'TARGET.FileSystemDomain == "blind.test"'


@dataclass(frozen=True)
class Case:
    """Two nodes: the seconds of the jobs of each, and the options of each."""

    what: str
    first: tuple[float, ...]
    second: float
    options: tuple[dict[str, Any], dict[str, Any]]

    @property
    def jobs(self) -> int:
        return len(self.first)


MORE = {"request_memory": 200}  # so that they are two nodes
CASES = {
    "slow": Case(
        "one slow job: 15 jobs of 2 s and one of 30 s, then 16 of 12 s; 8 slots for both",
        (*[2.0] * 7, 30.0, *[2.0] * 8),
        12.0,
        ({"request_memory": 100}, MORE),
    ),
    "kinds": Case(
        "two kinds of slots: 24 jobs of 6 s on 4 slots of one kind, then 24 of 6 s on 4 of another",
        (6.0,) * 24,
        6.0,
        ({"requirements": SEEING}, {"requirements": BLIND}),
    ),
    "even": Case(
        "nothing to gain: 24 jobs of 6 s, then 24 of 6 s; 8 slots for both",
        (6.0,) * 24,
        6.0,
        ({"request_memory": 100}, MORE),
    ),
}


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def pipeline(name: str, case: Case, lanes: int | None) -> htdag.Pipeline:
    numbers = htdag.source(case.first, chunk_size=1)
    before, after = case.options
    first = numbers.map(sleep, name="first", **before)
    second = first.map(lambda _, seconds=case.second: sleep(seconds), name="second", **after)
    return htdag.Pipeline(second, name=name, lanes=lanes)


def seconds(flow: htdag.Pipeline, jobs: int) -> float:
    """Run a pipeline and return the time from submit to result."""
    begun = time.perf_counter()
    run = flow.submit(on="condor")
    run.wait(timeout=600, progress=False)
    if len(run.result()) != jobs:
        raise SystemExit(f"the run gave something else: {run.path}")
    return time.perf_counter() - begun


def estimates(name: str, case: Case, wanted: list[int]) -> tuple[dict[int, float], str]:
    """Return what the planner takes for the time of each way, and what it prefers, in words."""
    history.gather_finished()
    found: dict[int, float] = {}
    for lanes in wanted:
        if lanes > 1:
            (chain,) = pipeline(name, case, lanes).plan(on="condor").chains
            found[1], found[lanes] = chain.plain or 0.0, chain.laned or 0.0
    (chain,) = pipeline(name, case, None).plan(on="condor").chains
    what = f"{chain.lanes} lanes" if chain.lanes > 1 else "no lanes"
    return found, f"makes {what} here ({chain.reason})"


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 2, 4, 8])
    args = parser.parse_args()
    times: dict[str, dict[int, list[float]]] = {
        name: {lanes: [] for lanes in args.lanes} for name in CASES
    }
    guesses: dict[str, dict[int, float]] = {}
    chosen: dict[str, str] = {}
    CondorBackend.turn = TURN
    area = Area()
    try:
        pool = Pool("fast", area, FAST)
        try:
            with pool.use():
                os.environ["HTDAG_HOME"] = str(area.new_runs_dir())
                for _ in range(args.rounds):
                    for name, case in CASES.items():
                        for lanes in args.lanes:
                            flow = pipeline(name, case, lanes)
                            times[name][lanes].append(seconds(flow, case.jobs))
                            print(f"{name}, {lanes}: {times[name][lanes][-1]:.1f} s", flush=True)
                for name, case in CASES.items():
                    guesses[name], chosen[name] = estimates(name, case, args.lanes)
                    print(pipeline(name, case, 4).explain(on="condor"), flush=True)
        finally:
            pool.stop()
    finally:
        area.close()
    parts = []
    for name, case in CASES.items():
        base = common.median(times[name][args.lanes[0]])
        rows = [
            [
                "one after the other" if lanes == 1 else f"{lanes} lanes",
                common.spread(found),
                f"{common.median(found) / base:.2f}",
                f"{guesses[name][lanes]:.0f}" if lanes in guesses[name] else "",
            ]
            for lanes, found in times[name].items()
        ]
        table = common.table(["way", "seconds: median (range)", "times", "estimate"], rows)
        end = f"Left to itself the planner {chosen[name]}."
        parts.append(f"{case.what[0].upper()}{case.what[1:]}:\n\n{table}\n\n{end}")
    text = "\n\n".join(parts)
    text += (
        f"\n\nMedians of {args.rounds} rounds on the fast pool. A node costs {TURN:g} s there in"
    )
    text += " the estimates, which know 8 slots of one kind."
    figures = {"seconds": times, "estimates": guesses, "chosen": chosen}
    common.report("lanes", text, figures, args)


if __name__ == "__main__":
    main()
