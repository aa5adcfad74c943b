"""Run benchmarks: all of them, or those that are named.

    benchmarks/run.py [PART ...] [--page]

The figures go to build/benchmarks/PART.json; with --page the tables go into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import common

HERE = Path(__file__).resolve().parent

PARTS = {
    "overhead": "HTCondor, beside DAGs written by hand (an hour)",
    "items": "planning and compiling, by number of items",
    "local": "the local backend, beside multiprocessing and joblib",
    "arrays": "large arrays: copies, memory, MB/s",
    "status": "the status of a run, by number of jobs",
    "flat_memory": "data larger than memory",
    "files": "items and files of 1 GB: memory",
    "lanes": "chained nodes in lanes and one after the other, on HTCondor",
    "loops": "a round of a loop, beside the same stages one after another, on HTCondor",
    "late_materialization": "with and without late materialisation, on HTCondor's defaults",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="\n".join(f"{name:22}{what}" for name, what in PARTS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="default: all")
    parser.add_argument("--page", action="store_true", help="put the tables on the page")
    args = parser.parse_args()
    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(PARTS)}")
    failed = []
    for part in args.parts or PARTS:
        print(f"--- {part}: {PARTS[part]}", flush=True)
        command = [sys.executable, str(HERE / f"{part}.py")]
        command += ["--json", str(common.PROJECT / "build" / "benchmarks" / f"{part}.json")]
        command += ["--page"] if args.page else []
        if subprocess.run(command, check=False).returncode:
            failed.append(part)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
