"""Pass more data than fits into memory through a run, and watch the memory of every process.

    .venv/bin/python benchmarks/flat_memory.py [--gigabytes 2] [--json FILE]

Items of 1 MB come from a generator and go through ``map`` and ``filter``, ``reduce_by_key`` (each
with a key of its own) and ``sort_by``, on the local backend. The memory of this process and of
every process that works for the run is sampled; the peaks are the kernel's own (``VmHWM``), and
those that the jobs left in their records. Results are read one at a time, as a script should that
has more of them than memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import common
import psutil

import htdag
from htdag.runtime import layout
from htdag.runtime.data import recordfile

ITEM = 1_000_000
LIMIT_MB = 300


def items(number: int) -> Iterator[bytes]:
    for n in range(number):
        yield n.to_bytes(8, "little") * (ITEM // 8)


def reversed_bytes(item: bytes) -> bytes:
    return item[::-1]


def is_even(item: bytes) -> bool:
    return item[-1] % 2 == 0


def through_map_and_filter(number: int) -> tuple[htdag.Pipeline, int]:
    """Return a pipeline in two nodes, and how many items it gives."""
    source = htdag.source(items(number), chunk_size=max(1, number // 16))
    kept = source.map(reversed_bytes).filter(is_even, fuse=False)
    return htdag.Pipeline(kept, name="map_filter"), sum(n % 256 % 2 == 0 for n in range(number))


def key_of(item: bytes) -> bytes:
    return item[:8]


def first(kept: bytes, item: bytes) -> bytes:
    return kept


def through_reduce_by_key(number: int) -> tuple[htdag.Pipeline, int]:
    """Return a pipeline that combines by key where no two items have one, the hardest case."""
    source = htdag.source(items(number), chunk_size=max(1, number // 16))
    combined = source.map(reversed_bytes).reduce_by_key(first, key=key_of, name="combined")
    return htdag.Pipeline(combined.map(key_of), name="reduce_by_key"), number


def through_sort_by(number: int) -> tuple[htdag.Pipeline, int]:
    source = htdag.source(items(number), chunk_size=max(1, number // 16))
    ordered = source.map(reversed_bytes).sort_by(key_of, name="ordered")
    return htdag.Pipeline(ordered.map(key_of), name="sort_by"), number


FLOWS: dict[str, Callable[[int], tuple[htdag.Pipeline, int]]] = {
    "map, filter": through_map_and_filter,
    "map, reduce_by_key": through_reduce_by_key,
    "map, sort_by": through_sort_by,
}


class Watch:
    """Samples the peak memory of all processes of this one's run, by what they do."""

    def __init__(self, home: str) -> None:
        self.peaks: dict[str, float] = {}
        self._home = home
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(0.02):
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error, OSError, IndexError):
                    mine = process.pid == os.getpid()
                    if not mine and self._home not in process.environ().get("HTDAG_HOME", ""):
                        continue
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
                    name = "this script" if mine else "the processes of the run"
                    self.peaks[name] = max(self.peaks.get(name, 0), peak)


def measure(name: str, number: int) -> dict[str, Any]:
    # Not /tmp, which may be memory itself.
    with tempfile.TemporaryDirectory(prefix="htdag-benchmark-", dir="/var/tmp") as home:
        os.environ["HTDAG_HOME"] = home
        os.environ["TMPDIR"] = home
        tempfile.tempdir = None
        begun = time.perf_counter()
        with Watch(home) as watch:
            flow, expected = FLOWS[name](number)
            run = flow.submit(on="local")
            submitted = time.perf_counter() - begun
            run.wait(progress=False)
            ran = time.perf_counter() - begun
            found = sum(1 for _ in run.items())
            seconds = time.perf_counter() - begun
        if found != expected:
            sys.exit(f"{name}: {found} items, not {expected}")
        ends = [
            recordfile.end(str(path)) for path in run.path.glob(f"{layout.NODES}/*/out/*.record")
        ]
        watch.peaks["jobs, by their records"] = max(end["peak_kb"] for end in ends if end) / 1024
    return {
        "flow": name,
        "items": number,
        "seconds": seconds,
        "submit_s": submitted,
        "run_s": ran - submitted,
        "peaks_mb": watch.peaks,
    }


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--flows", nargs="+", default=list(FLOWS), choices=list(FLOWS))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one[0], int(args.one[1]))))
        return
    number = int(args.gigabytes * 1e9) // ITEM
    figures = []
    for name in args.flows:
        # In a process of its own each, whose peak is its own.
        done = subprocess.run(
            [sys.executable, __file__, "--one", name, str(number)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        figures.append(json.loads(done.stdout))
    rows = [
        [one["flow"], who, f"{peak:.0f}", "yes" if peak < LIMIT_MB else "NO"]
        for one in figures
        for who, peak in one["peaks_mb"].items()
    ]
    head = ["flow", "who", "peak MB", f"below {LIMIT_MB} MB"]
    seconds = ", ".join(
        f"{one['flow']}: {one['submit_s']:.1f} s to submit, {one['run_s']:.1f} s to run, "
        f"{one['seconds'] - one['submit_s'] - one['run_s']:.1f} s to read the results"
        for one in figures
    )
    text = (
        f"{args.gigabytes:g} GB in items of {ITEM / 1e6:g} MB, from a generator, on the local "
        f"backend:\n\n{common.table(head, rows)}\n\n{seconds}. No pool is used."
    )
    common.report("flat_memory", text, figures, args)


if __name__ == "__main__":
    main()
