"""Pass an item of 1 GB, and a file of 1 GB, and watch the memory of the jobs.

    .venv/bin/python benchmarks/files.py [--gigabytes 1] [--json FILE]

Each flow has two nodes, on the local backend. `bytes` and `array` are made in the first and looked
at in the second; `file` is written by the first, returned, and read in pieces by the second. The
peaks are those that jobs left in their records, above what they occupied before they began.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import numpy as np

import htdag
from htdag.runtime.data import recordfile
from htdag.runtime.layout import NodeFiles

PIECE = 1 << 20


def make_bytes(size: int) -> bytes:
    return os.urandom(1024) * (size // 1024)


def make_array(size: int) -> Any:
    return np.ones(size // 8)


def make_file(size: int) -> Path:
    with open("large.bin", "wb") as file:
        for _ in range(size // PIECE):
            file.write(bytes(PIECE))
    return htdag.OutputFile("large.bin")


def length(value: Any) -> int:
    return len(value)


def read_file(path: Path) -> int:
    total = 0
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            total += len(piece)
    return total


FLOWS = {
    "bytes": (make_bytes, length),
    "array": (make_array, length),
    "file": (make_file, read_file),
}


def peak_mb(run: htdag.Run, node: str) -> float:
    """Return the peak of a node's only job above what it began with."""
    end = recordfile.end(NodeFiles(run.path, node).attempt(0, 1).record)
    assert end is not None
    return float(end["peak_kb"] - end["measured"]["base_kb"]) * 1024 / 1e6


def measure(name: str, size: int) -> dict[str, Any]:
    make, look = FLOWS[name]
    with tempfile.TemporaryDirectory(prefix="htdag-benchmark-", dir="/var/tmp") as home:
        os.environ["HTDAG_HOME"] = home
        made = htdag.source([size], name="size").map(make, name="make")
        flow = htdag.Pipeline(made.map(look, name="look", fuse=False), name=name)
        begun = time.perf_counter()
        run = flow.submit(on="local").wait(progress=False)
        seconds = time.perf_counter() - begun
        assert abs(run.result()[0] - (size if name != "array" else size // 8)) < PIECE
        return {
            "item": name,
            "making_mb": peak_mb(run, "make"),
            "reading_mb": peak_mb(run, "look"),
            "seconds": seconds,
        }


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    args = parser.parse_args()
    size = int(args.gigabytes * 1e9)
    figures = [measure(name, size) for name in FLOWS]
    rows = [
        [
            one["item"],
            f"{one['making_mb']:.0f}",
            f"{one['reading_mb']:.0f}",
            f"{one['seconds']:.1f}",
        ]
        for one in figures
    ]
    head = ["item", "the job that makes it, MB", "the job that reads it, MB", "seconds"]
    text = (
        f"One item of {args.gigabytes:g} GB from one node to another, on the local backend; peaks "
        f"above what the jobs begin with:\n\n{common.table(head, rows)}\n\nNo pool is used."
    )
    common.report("files", text, figures, args)


if __name__ == "__main__":
    main()
