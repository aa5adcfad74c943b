"""Measure what htdag does with large arrays: copies, peak memory and MB/s.

    .venv/bin/python benchmarks/arrays.py [--items 20] [--megabytes 10] [--rounds 3] [--json FILE]

Arrays go from a source through two stages, each in a node of its own. Each step is also done by
plain code, side by side: pickle protocol 5 with its buffers beside the pickle, in one file, in a
process of its own. Bytes that were read and written are those of system calls, by the kernel's
accounts (/proc/self/io), as multiples of the arrays' size.
"""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np

from htdag.runtime.data import frames, itemfile

PLAIN = """
import pickle, struct, sys
import numpy as np
LENGTHS = struct.Struct("<QI")
def write(file, value):
    buffers = []
    data = pickle.dumps(value, 5, buffer_callback=buffers.append)
    raws = [buffer.raw() for buffer in buffers]
    file.write(LENGTHS.pack(len(data), len(raws)))
    file.write(struct.pack("<%dQ" % len(raws), *map(len, raws)))
    file.write(data)
    for raw in raws:
        file.write(raw)
def read(file):
    head = file.read(LENGTHS.size)
    if not head:
        raise EOFError
    length, number = LENGTHS.unpack(head)
    sizes = struct.unpack("<%dQ" % number, file.read(8 * number))
    data = file.read(length)
    buffers = []
    for size in sizes:
        buffers.append(bytearray(size))
        file.readinto(buffers[-1])
    return pickle.loads(data, buffers=buffers)
"""
PLAIN_STAGE = """
with open(sys.argv[1], "rb") as old, open(sys.argv[2], "wb") as new:
    while True:
        try:
            array = read(old)
        except EOFError:
            break
        array += 1
        write(new, array)
        del array
"""
PLAIN_SOURCE = """
items, size = int(sys.argv[1]), int(sys.argv[2])
with open(sys.argv[3], "wb") as new:
    for number in range(items):
        write(new, np.full(size, number, dtype=np.float64))
"""

plain: dict[str, Any] = {}
exec(PLAIN, plain)


def arrays(items: int, size: int) -> Iterator[Any]:
    for number in range(items):
        yield np.full(size, number, dtype=np.float64)


def add_one(array: Any) -> Any:
    array += 1
    return array


# --- One process: writing and reading -------------------------------------------------------


def write_items(path: str, values: list[Any]) -> None:
    writer = itemfile.ItemWriter(path)
    for number, value in enumerate(values):
        buffers: list[Any] = []
        payload = pickle.dumps(value, 5, buffer_callback=frames.large_buffers(buffers))
        writer.value(str(number), payload, buffers=buffers)
        writer.end(number, number)
    writer.close()


def read_items(path: str) -> Iterator[Any]:
    for frame in itemfile.read(path):
        value = pickle.loads(frame.payload, buffers=frame.buffers)
        del frame  # as jobs do: not to be kept while the next one is read
        yield value
        del value


def write_plain(path: str, values: list[Any]) -> None:
    with open(path, "wb") as file:
        for value in values:
            plain["write"](file, value)


def read_plain(path: str) -> Iterator[Any]:
    with open(path, "rb") as file:
        while True:
            try:
                yield plain["read"](file)
            except EOFError:
                return


def write_in_band(path: str, values: list[Any]) -> None:
    with open(path, "wb") as file:
        for value in values:
            pickle.dump(value, file, 5)


def read_in_band(path: str) -> Iterator[Any]:
    with open(path, "rb") as file:
        while True:
            try:
                yield pickle.load(file)
            except EOFError:
                return


FORMATS: dict[str, tuple[Callable[..., None], Callable[..., Any]]] = {
    "htdag's item files": (write_items, read_items),
    "plain, buffers beside the pickle": (write_plain, read_plain),
    "plain, all in the pickle": (write_in_band, read_in_band),
}


def drain(read: Callable[..., Iterator[Any]], path: str) -> None:
    for value in read(path):
        assert value[0] == value[-1]
        del value


def formats(folder: Path, items: int, size: int, rounds: int) -> list[dict[str, Any]]:
    values = list(arrays(items, size))
    path = str(folder / "values")
    works: list[tuple[str, str, Callable[[], None]]] = []
    for name, (write, read) in FORMATS.items():
        works.append((name, "write", partial(write, path, values)))
        works.append((name, "read", partial(drain, read, path)))
    found: dict[str, dict[str, Any]] = {name: {"write": [], "read": []} for name in FORMATS}
    for _ in range(rounds):
        for name, what, work in works:
            begun = time.perf_counter()
            work()
            found[name][what].append(items * size * 8 / 1e6 / (time.perf_counter() - begun))
    for name, what, work in works:
        tracemalloc.start()
        work()
        found[name][what + "_peak"] = tracemalloc.get_traced_memory()[1] / (size * 8)
        tracemalloc.stop()
    os.unlink(path)
    return [{"format": name, **figures} for name, figures in found.items()]


# --- Whole jobs -----------------------------------------------------------------------------


def measured(command: list[str], cwd: Path, nbytes: int) -> dict[str, float]:
    """Run a command and return its seconds, and what it read and wrote for each byte of data."""
    before, begun = _account(), time.perf_counter()
    subprocess.run(command, cwd=cwd, check=True, stdin=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - begun, _account()
    # A process that has run tells its peak in a file of its own; the largest child is no help.
    return {
        "seconds": seconds,
        "read": (after["rchar"] - before["rchar"]) / nbytes,
        "written": (after["wchar"] - before["wchar"]) / nbytes,
    }


def _account() -> dict[str, int]:
    """Return what this process, and those that it waited for, read and wrote."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


PEAK = """
import resource
print(max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
          resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss), file=open(sys.argv[-1], "w"))
"""

COMPILE = """
import sys
sys.path.insert(0, {here!r})
import arrays, htdag
items, size, run = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
source = htdag.source(arrays.arrays(items, size), chunk_size=items)
once = source.map(arrays.add_one, name="once")
twice = once.map(arrays.add_one, name="twice", fuse=False)
htdag.Pipeline(twice, name="arrays").compile(run)
"""


def jobs(folder: Path, items: int, size: int) -> list[dict[str, Any]]:
    nbytes = items * size * 8
    run, peak = folder / "run", folder / "peak"
    here = str(Path(__file__).resolve().parent)
    numbers = [str(items), str(size)]
    rows = []

    def step(what: str, way: str, command: list[str], peak_kb: Callable[[], float]) -> None:
        row = measured(command, run if run.exists() else folder, nbytes)
        rows.append({"step": what, "way": way, **row, "peak_mb": peak_kb() / 1024})

    def of_python() -> float:
        return float(peak.read_text())

    def of_job(node: str) -> float:
        from htdag.runtime.data import recordfile

        end = recordfile.end(str(run / f"nodes/{node}/out/0000.1.record"))
        assert end is not None
        return float(end["peak_kb"])

    python = [sys.executable, "-c"]
    step(
        "source",
        "plain",
        [*python, PLAIN + PLAIN_SOURCE + PEAK, *numbers, str(folder / "0"), str(peak)],
        of_python,
    )
    step(
        "source",
        "htdag",
        [*python, COMPILE.format(here=here) + PEAK, *numbers, str(run), str(peak)],
        of_python,
    )
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for number, node in enumerate(["once", "twice"]):
        old, new = str(folder / str(number)), str(folder / str(number + 1))
        step(
            f"stage {node}",
            "plain",
            [*python, PLAIN + PLAIN_STAGE + PEAK, old, new, str(peak)],
            of_python,
        )
        step(
            f"stage {node}",
            "htdag",
            ["./runtime.pyz", "work", node, "0000", "1", node],
            lambda node=node: of_job(node),
        )
    return rows


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--items", type=int, default=20)
    parser.add_argument("--megabytes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    size = args.megabytes * 1_000_000 // 8
    with tempfile.TemporaryDirectory(prefix="htdag-benchmark-", dir="/var/tmp") as home:
        folder = Path(home)
        steps: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for _ in range(args.rounds):
            each = folder / "round"
            each.mkdir()
            for row in jobs(each, args.items, size):
                steps.setdefault((row["step"], row["way"]), []).append(row)
            shutil.rmtree(each)
        # Last: a process that starts as part of a large one counts that one's memory as its peak.
        in_process = formats(folder, args.items, size, args.rounds)
    data = f"{args.items} arrays of {args.megabytes} MB"
    first = common.table(
        ["format", "write MB/s", "read MB/s", "memory to write one", "memory to read one"],
        [
            [
                one["format"],
                f"{common.median(one['write']):,.0f}",
                f"{common.median(one['read']):,.0f}",
                f"{one['write_peak']:.2f}",
                f"{one['read_peak']:.2f}",
            ]
            for one in in_process
        ],
    )
    rows = []
    for (step, way), found in steps.items():
        seconds = [row["seconds"] for row in found]
        rows.append(
            [
                step,
                way,
                common.spread(seconds),
                f"{args.items * args.megabytes / common.median(seconds):,.0f}",
                f"{found[0]['read']:.2f}",
                f"{found[0]['written']:.2f}",
                f"{common.median([row['peak_mb'] for row in found]):.0f}",
            ]
        )
    second = common.table(
        ["step", "way", "seconds: median (range)", "MB/s", "read", "written", "peak MB"], rows
    )
    text = (
        f"{data}, written to a file and read again by one process (memory in sizes of an array, "
        f"besides the arrays written):\n\n{first}\n\n"
        f"The same arrays from a source through two stages that change them in place, each step a "
        f"process of its own, its start included; read and written in sizes of the data:"
        f"\n\n{second}\n\nMedians of {args.rounds} rounds; no pool is used."
    )
    figures = {"formats": in_process, "steps": [row for found in steps.values() for row in found]}
    common.report("arrays", text, figures, args)


if __name__ == "__main__":
    main()
