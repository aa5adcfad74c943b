"""Time what measuring adds to a stage and an item, and what gathering from runs takes.

    python benchmarks/measuring.py [--items 200000] [--runs 100]

The same chain of stages is driven with the functions as they are and with timed ones, in turn, in
one process. Gathering is timed over runs of 20 jobs: the first time, when their records are read,
and again, when all of them are known.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from htdag.runtime.job import program
from htdag.runtime.job.calls import Calls

STAGES = 4
ROUNDS = 7


def same(x: int) -> int:
    return x


def drive(kind: str, functions: list[object], items: int) -> float:
    """Return the seconds that a chain of stages takes for so many items."""
    operations = [
        {"kind": kind, "stage": f"stage_{n}", "function": n, "after": n - 1, "bind": {}}
        for n in range(STAGES)
    ]
    emit = program.chain(operations, functions, {}, {}, program.Cursor())
    begun = time.perf_counter()
    for item in range(1, items + 1):
        emit("0", item)
    return time.perf_counter() - begun


def overhead(kind: str, function: object, items: int) -> tuple[float, float]:
    """Return microseconds an item and stage: without measuring, and what measuring adds."""
    rest = {"stages": ["s"], "outputs": [], "combine": None}
    content = rest | {
        "operations": [{"stage": "s", "kind": kind, "function": n} for n in range(STAGES)]
    }
    plain, timed = [], []
    for _ in range(ROUNDS):
        plain.append(drive(kind, [function] * STAGES, items))
        timed.append(drive(kind, Calls(0).wrap(content, [function] * STAGES), items))
    scale = 1e6 / items / STAGES
    return min(plain) * scale, (min(timed) - min(plain)) * scale


def gathering(runs: int) -> tuple[float, float]:
    """Return the seconds to gather from so many runs, and to look again."""
    import htdag
    from htdag.reuse import history

    flow = htdag.Pipeline(htdag.source(range(20)).map(same), name="small")
    first = flow.submit("0", on="local").wait()
    plan = (first.path / "plan.json").read_text()
    manifest = json.loads((first.path / "run.json").read_text())
    for number in range(1, runs):
        copy = first.path.with_name(str(number))
        for path in first.path.rglob("*"):
            if path.is_dir():
                (copy / path.relative_to(first.path)).mkdir(parents=True, exist_ok=True)
        for path in first.path.rglob("*.record"):
            (copy / path.relative_to(first.path)).write_bytes(path.read_bytes())
        (copy / "plan.json").write_text(plan)
        (copy / "run.json").write_text(json.dumps(manifest | {"created": float(number)}))
        state = (first.path / "local.state.json").read_text()
        (copy / "local.state.json").write_text(state)
    history.store_path().unlink()
    begun = time.perf_counter()
    while history.gather_finished():
        pass
    reading = time.perf_counter() - begun
    again = []
    for _ in range(5):
        begun = time.perf_counter()
        history.gather_finished()
        history.read()
        again.append(time.perf_counter() - begun)
    return reading, statistics.median(again)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=100)
    args = parser.parse_args()
    print(f"microseconds an item and stage, {STAGES} stages of a function that returns its item")
    for kind in ("map", "filter"):
        plain, added = overhead(kind, same, args.items)
        print(f"{kind:>8}: {plain:.3f}, measuring adds {added:.3f}")
    with tempfile.TemporaryDirectory(prefix="htdag-benchmark-", dir="/var/tmp") as home:
        os.environ["HTDAG_HOME"] = str(Path(home))
        reading, again = gathering(args.runs)
    print(
        f"{args.runs} runs of 20 jobs: {reading:.3f} s to gather, "
        f"{again * 1000:.1f} ms to look again"
    )


if __name__ == "__main__":
    main()
