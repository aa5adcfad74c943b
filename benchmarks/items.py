"""Time the way from a source to a run directory, and a run on this machine, by number of items.

    python benchmarks/items.py [--sizes 1000 10000 100000] [--json FILE]

The pipeline is ``x -> x*x``, a filter and a sum; each size runs in a process of its own, so that
the peak of memory is that of the process which compiles. Beside it, in the same minute, stands the
floor: the same work in a plain loop.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1_000, 10_000, 100_000])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one)))
        return
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.platform()}"
    print(machine)
    print(f"{'items':>10} {'compile':>9} {'memory':>8} {'files':>6} {'run':>8} {'plain loop':>11}")
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
        row = json.loads(done.stdout)
        rows.append(row)
        print(
            f"{row['items']:>10,} {row['compile_s']:>7.2f} s {row['compile_mb']:>5.0f} MB "
            f"{row['files']:>6,} {row['run_s']:>6.2f} s {row['plain_loop_s']:>9.3f} s",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
