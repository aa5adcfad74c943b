"""A run on a pool whose submit side has no room left: full_disk.py NOTES.

To be run in a mount namespace where HTDAG_HOME is a small disk of its own, with a pool that is
started in there too; `on_a_small_disk` does so.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from faults import CHUNK, ITEMS, SETTINGS, Disturbed, check_nothing_is_left, notes, work
from pool import FAST, POINTS, Area, Pool, wait_until

import htdag
from htdag.runtime.data import recordfile
from htdag.runtime.layout import NodeFiles

LARGE = 100_000  # bytes


def on_a_small_disk(disk: Path, notes: Path) -> subprocess.CompletedProcess[str]:
    """Run this file where `disk` has 20 MB."""
    ids = f"--map-user={os.getuid()} --map-group={os.getgid()}"
    inside = f'mount -t tmpfs -o size=20m,mode=700 none "$1" && shift && exec unshare -U {ids} "$@"'
    words = [sys.executable, __file__, str(notes)]
    return subprocess.run(
        ["unshare", "-U", "-r", "-m", "sh", "-c", inside, "sh", str(disk), *words],
        env={**os.environ, "HTDAG_HOME": str(disk)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def work_for_much(folder: Path, item: int) -> bytes:
    """Work, in the first chunk without waiting: it has come back when the others are at work."""
    if item < CHUNK:
        for name in ("begun", "ended"):
            with open(folder / name, "a") as file:
                file.write(f"{item}\n")
    else:
        work(folder, item)
    return bytes([item]) * LARGE


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Leave not one byte of room."""
    ballast = disk / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        for size in (1 << 16, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    assert os.statvfs(disk).f_bavail == 0
    try:
        yield
    finally:
        ballast.unlink()


def survive(pool: Pool, point: str, disk: Path, folder: Path) -> None:
    """Fill the disk while two jobs are in their middle, make room, and let the run go on."""
    with pool.only(point):
        disturbed = Disturbed(folder, work=work_for_much).wait_for_the_middle()
        first = Path(NodeFiles(disturbed.run.path, "work").attempt(0, 1).record)
        wait_until(lambda: recordfile.end(str(first)), 200, "the outcome of the first chunk")
        with full(disk):
            disturbed.let_go()
            wait_until(lambda: len(notes(folder, "ended")) == ITEMS, 200, "the end of the work")
            told = wait_until(lambda: what_is_told(disturbed.run), 200, "a word of the disk")
            assert "No space left on device" in told, told
        run = disturbed.run
        if point == "blind":
            # HTCondor could not bring back what the jobs had made, and holds them.
            wait_until(lambda: len(held(run)) == ITEMS // CHUNK - 1, 200, "all to be held")
            assert run.release() == ITEMS // CHUNK - 1
        resumes = disturbed.finish()
    assert resumes == (point == "seeing"), resumes
    assert run.result("work") == [bytes([item]) * LARGE for item in range(ITEMS)]
    begun = disturbed.begun()
    assert [begun[item] for item in range(CHUNK)] == [1] * CHUNK, begun
    assert max(begun.values()) == 2, begun
    check_nothing_is_left(run, folder, pool)


def what_is_told(run: htdag.Run) -> str:
    """What a person is told of a run that does not go on; "" while it does."""
    status = run.status()
    if status.held:
        return "\n".join(status.held)
    errors = run.errors()
    return str(errors[0]) if errors else status.reason


def held(run: htdag.Run) -> list[str]:
    """The jobs that are on hold; the schedd tells, since the event log had no room either."""
    return [job.state for job in run.jobs("work", ask=True) if job.state == "held"]


def main() -> None:
    disk, folder = Path(os.environ["HTDAG_HOME"]), Path(sys.argv[1])
    area = Area()
    pool = Pool("full-disk", area, {**FAST, **SETTINGS})
    try:
        with pool.use():
            for point in POINTS:
                survive(pool, point, disk, folder / point)
    finally:
        pool.stop()
        area.close()


if __name__ == "__main__":
    main()
