"""Time the way from a source to a run directory, and a run on this machine, by number of items.

    python benchmarks/items.py [--sizes 1000 10000 100000 1000000] [--json FILE]

The pipeline is ``x -> x*x``, a filter and a sum; each size runs in a process of its own, so that
the peak of memory is that of the process which compiles. Beside it, in the same minute, stands the
floor: the same work in a plain loop.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common


def square(x: int) -> int:
    return x * x


def is_even(x: int) -> bool:
    return x % 2 == 0


def add(a: int, b: int) -> int:
    return a + b


def measure(items: int) -> dict[str, float]:
    """Run the pipeline over a generator of so many items."""
    import htdag

    begun = time.perf_counter()
    numbers = htdag.source(x for x in range(items))
    flow = htdag.Pipeline(numbers.map(square).filter(is_even).reduce(add, initial=0), name="sum")
    directory = Path(os.environ["HTDAG_HOME"]) / "compiled"
    flow.compile(directory)
    compiled = time.perf_counter() - begun
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    files = sum(len(names) for _, _, names in os.walk(directory))
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())

    begun = time.perf_counter()
    result = (
        htdag.Pipeline(
            htdag.source(range(items)).map(square).filter(is_even).reduce(add, initial=0)
        )
        .submit(on="local")
        .wait()
        .result()
    )
    ran = time.perf_counter() - begun
    begun = time.perf_counter()
    floor = sum(y for y in map(square, range(items)) if is_even(y))
    plain = time.perf_counter() - begun
    if result != floor:
        raise SystemExit(f"{items} items gave {result}, not {floor}")
    return {
        "items": items,
        "compile_s": compiled,
        "compile_mb": memory,
        "files": files,
        "directory_mb": size / 1e6,
        "run_s": ran,
        "plain_loop_s": plain,
    }


def linear(rows: list[dict[str, float]], what: str) -> float:
    """Return by how much more a figure grew than its number of items, from the last but one on.

    1 is linear; small sizes have a constant part, so only the two largest count.
    """
    small, large = rows[-2:]
    return (large[what] / small[what]) / (large["items"] / small["items"])


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[100, 1_000, 10_000, 100_000, 1_000_000]
    )
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one)))
        return
    rows = []
    for size in args.sizes:
        # Not /tmp, where DAGMan, and so compile, refuses to work.
        with tempfile.TemporaryDirectory(prefix="htdag-benchmark-", dir="/var/tmp") as home:
            done = subprocess.run(
                [sys.executable, __file__, "--one", str(size)],
                env={**os.environ, "HTDAG_HOME": home},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        rows.append(json.loads(done.stdout))
    head = ["items", "compile s", "memory MB", "files", "directory MB", "run s", "plain loop s"]
    body = [
        [
            f"{row['items']:,}",
            f"{row['compile_s']:.2f}",
            f"{row['compile_mb']:.0f}",
            f"{row['files']:,}",
            f"{row['directory_mb']:.1f}",
            f"{row['run_s']:.2f}",
            f"{row['plain_loop_s']:.3f}",
        ]
        for row in rows
    ]
    text = (
        "`map`, `filter` and `reduce` over numbers from a generator, compiled into a directory "
        "(seconds, peak memory of that process, files), and run on this machine:\n\n"
        f"{common.table(head, body)}"
    )
    if len(rows) > 1:
        small, large = (f"{row['items']:,}" for row in rows[-2:])
        text += (
            f"\n\nFrom {small} to {large} items an item takes {linear(rows, 'compile_s'):.2f} "
            f"times as long to compile, and {linear(rows, 'run_s'):.2f} times as long to run "
            f"(1 is linear). No pool is used."
        )
    common.report("items", text, rows, args)


if __name__ == "__main__":
    main()
