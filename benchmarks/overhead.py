"""Time htdag on HTCondor against DAGs written by hand for the same work, side by side.

    tools/as-user .venv/bin/python benchmarks/overhead.py [--work squares burn books]
        [--items N] [--pools fast default] [--points blind seeing] [--rounds 3] [--no-single]
        [--json FILE]

It starts the tests' own pool, so `make htcondor` must have set that up. Each round runs every way
once, in turn. A way is timed from the first line of its script (for htdag: the pipeline is built)
to its result in this process. Both are given the same chunks, unless it says otherwise. One job an
item takes so long that it is run once, on the fast pool alone. What takes CPU is not repeated on
the pool with defaults, nor is the point that shares files. Plans do not follow earlier runs, so
that each round does the same.

The times jump by whole turns of DAGMan and of the negotiator, so the last column is of means.

With --update, figures of the JSON file that are not measured anew are kept.
"""

from __future__ import annotations

import functools
import json
import operator
import os
import pickle
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing import Pool as ProcessPool
from pathlib import Path
from typing import Any

import common

sys.path.insert(0, str(common.PROJECT / "examples" / "book_analysis"))
sys.path.insert(0, str(Path(__file__).resolve().parent / "by_hand"))

import book_analysis
import books
import timeline
from pool import DEFAULT, FAST, Area, Pool  # the tests' own pool

import htdag

BY_HAND = Path(__file__).resolve().parent / "by_hand"
BURNS, JOBS = 400, 8
_LONGEST = 900  # seconds that a DAG may take


# --- By hand --------------------------------------------------------------------------------


def submit_file(
    folder: Path, script: str, name: str, arguments: str, queue: str, inputs: str, late: bool
) -> None:
    """Write the submit description of a node, as one would by hand."""
    (folder / f"{name}.sub").write_text(
        f"executable = {script}\n"
        f"arguments = {arguments}\n"
        "should_transfer_files = IF_NEEDED\n"
        "when_to_transfer_output = ON_EXIT\n"
        "preserve_relative_paths = True\n"
        f"transfer_input_files = {inputs}\n"
        "transfer_output_files = $(output_file)\n"
        f"output = log/{name}.$(Process).out\n"
        f"error = log/{name}.$(Process).err\n"
        "request_cpus = 1\n" + ("max_materialize = 1000\n" if late else "") + f"{queue}\n"
    )


def start_by_hand(folder: Path, script: str, dag: list[str]) -> None:
    """Complete a folder with its script and DAG, run it, and wait for its end."""
    import htcondor2

    shutil.copy(BY_HAND / script, folder / script)
    # As htdag's own: without it both wait for the schedd's tick on a pool with defaults.
    (folder / "dagman.config").write_text("DAGMAN_HOLD_CLAIM_TIME = 0\n")
    path = folder / "work.dag"
    path.write_text("\n".join(["CONFIG dagman.config", *dag]) + "\n")
    description = htcondor2.Submit.from_dag(str(path), {"UseDagDir": True})
    htcondor2.Schedd().submit(description)
    log = Path(f"{path}.dagman.log")
    while not log.exists():
        time.sleep(0.02)
    code = None
    for event in htcondor2.JobEventLog(str(log)).events(stop_after=_LONGEST):
        if event.type == htcondor2.JobEventType.JOB_TERMINATED:
            code = event["ReturnValue"]
            break
    if code != 0:
        raise SystemExit(f"the DAG written by hand failed: {path}.dagman.out")


def new_folder(runs: Path) -> Path:
    folder = runs / f"by-hand-{time.monotonic_ns()}"
    for name in ("in", "out", "log"):
        (folder / name).mkdir(parents=True)
    return folder


def write_chunks(folder: Path, items: list[Any], size: int) -> list[str]:
    names = []
    for number, first in enumerate(range(0, len(items), size)):
        names.append(f"{number:04d}")
        (folder / f"in/{names[-1]}.json").write_text(json.dumps(items[first : first + size]))
    return names


def squares_by_hand(runs: Path, items: int, size: int, late: bool) -> int:
    """Chunked and fused: one cluster for map, filter and partial sums, one job for the sum."""
    folder = new_folder(runs)
    names = write_chunks(folder, list(range(items)), size)
    rows = [f"out/{name}.json, in/{name}.json" for name in names]
    (folder / "chunks.txt").write_text("\n".join(rows) + "\n")
    queue = "queue output_file, input_file from chunks.txt"
    arguments = "chunk $(output_file) $(input_file)"
    submit_file(folder, "squares.py", "squares", arguments, queue, "$(input_file)", late)
    sums = [f"out/{name}.json" for name in names]
    arguments = f"sum $(output_file) {' '.join(sums)}"
    queue = "queue output_file in (out/sum.json)"
    submit_file(folder, "squares.py", "sum", arguments, queue, ", ".join(sums), late)
    dag = ["JOB squares squares.sub", "JOB sum sum.sub", "PARENT squares CHILD sum"]
    start_by_hand(folder, "squares.py", dag)
    return int(json.loads((folder / "out/sum.json").read_text()))


def squares_one_job_an_item(runs: Path, items: int, late: bool) -> int:
    """A DAGMan node for each item (map and filter in it), and one for the sum."""
    folder = new_folder(runs)
    names = write_chunks(folder, list(range(items)), 1)
    queue = "queue output_file in (out/$(item).json)"
    arguments = "chunk $(output_file) in/$(item).json"
    submit_file(folder, "squares.py", "item", arguments, queue, "in/$(item).json", late)
    return _sum_of_items(folder, names, [f"JOB i{name} item.sub" for name in names], late)


def squares_one_job_an_item_and_stage(runs: Path, items: int, late: bool) -> int:
    """A DAGMan node for the map of each item, one for its filter, and one for the sum."""
    folder = new_folder(runs)
    names = write_chunks(folder, list(range(items)), 1)
    queue = "queue output_file in (out/$(item).map)"
    arguments = "square $(output_file) in/$(item).json"
    submit_file(folder, "squares.py", "map", arguments, queue, "in/$(item).json", late)
    queue = "queue output_file in (out/$(item).json)"
    arguments = "filter $(output_file) out/$(item).map"
    submit_file(folder, "squares.py", "filter", arguments, queue, "out/$(item).map", late)
    dag = [f"JOB i{name} filter.sub" for name in names]
    for name in names:
        dag += [
            f"JOB m{name} map.sub",
            f'VARS m{name} item="{name}"',
            f"PARENT m{name} CHILD i{name}",
        ]
    return _sum_of_items(folder, names, dag, late)


def _sum_of_items(folder: Path, names: list[str], dag: list[str], late: bool) -> int:
    outs = [f"out/{name}.json" for name in names]
    arguments = f"sum $(output_file) {' '.join(outs)}"
    queue = "queue output_file in (out/sum.json)"
    submit_file(folder, "squares.py", "sum", arguments, queue, ", ".join(outs), late)
    dag = [*dag, "JOB sum sum.sub"]
    dag += [f'VARS i{name} item="{name}"' for name in names]
    dag.append(f"PARENT {' '.join('i' + name for name in names)} CHILD sum")
    start_by_hand(folder, "squares.py", dag)
    return int(json.loads((folder / "out/sum.json").read_text()))


def burn_with_dag(runs: Path, size: int, late: bool) -> list[int]:
    """Both stages fused, in chunks: one cluster."""
    folder = new_folder(runs)
    names = write_chunks(folder, list(range(BURNS)), size)
    rows = [f"out/{name}.json, in/{name}.json" for name in names]
    (folder / "chunks.txt").write_text("\n".join(rows) + "\n")
    queue = "queue output_file, input_file from chunks.txt"
    submit_file(
        folder, "burn.py", "burn", "$(output_file) $(input_file)", queue, "$(input_file)", late
    )
    start_by_hand(folder, "burn.py", ["JOB burn burn.sub"])
    return [
        item for name in names for item in json.loads((folder / f"out/{name}.json").read_text())
    ]


def books_by_hand(runs: Path, paths: list[Path], size: int, late: bool) -> list[Any]:
    """Count in chunks, then the vocabulary, then what sets the books of each chunk apart."""
    folder = new_folder(runs)
    for path in paths:
        (folder / "in" / path.name.replace(" ", "_")).symlink_to(path)
    names = [path.name.replace(" ", "_") for path in paths]
    chunks, rows = [], []
    for number, first in enumerate(range(0, len(names), size)):
        files = [f"in/{name}" for name in names[first : first + size]]
        chunks.append(f"{number:04d}")
        (folder / f"in/{chunks[-1]}.list").write_text("\n".join(files))
        rows.append(f"out/{chunks[-1]}.count, in/{chunks[-1]}.list, {', '.join(files)}\n")
    (folder / "counts.txt").write_text("".join(rows))
    submit_file(
        folder,
        "words.py",
        "count",
        "count $(output_file) $(list)",
        "queue output_file, list, files from counts.txt",
        "$(list), $(files)",
        late,
    )
    counts = [f"out/{name}.count" for name in chunks]
    submit_file(
        folder,
        "words.py",
        "vocabulary",
        f"vocabulary $(output_file) {' '.join(counts)}",
        "queue output_file in (out/vocabulary)",
        ", ".join(counts),
        late,
    )
    (folder / "rows.txt").write_text(
        "".join(f"out/{name}.rows, out/{name}.count\n" for name in chunks)
    )
    submit_file(
        folder,
        "words.py",
        "distinctive",
        "distinctive $(output_file) out/vocabulary $(counts)",
        "queue output_file, counts from rows.txt",
        "out/vocabulary, $(counts)",
        late,
    )
    dag = [
        "JOB count count.sub",
        "JOB vocabulary vocabulary.sub",
        "JOB distinctive distinctive.sub",
        "PARENT count CHILD vocabulary distinctive",
        "PARENT vocabulary CHILD distinctive",
    ]
    start_by_hand(folder, "words.py", dag)
    return [
        row for name in chunks for row in pickle.loads((folder / f"out/{name}.rows").read_bytes())
    ]


# --- By htdag -------------------------------------------------------------------------------


def square(number: int) -> int:
    return number * number


def is_even(number: int) -> bool:
    return number % 2 == 0


def squares_by_htdag(items: int, size: int | None) -> int:
    numbers = htdag.source(range(items), chunk_size=size)
    total = numbers.map(square).filter(is_even).reduce(operator.add, initial=0)
    # Left to itself, it follows the run before.
    pipeline = htdag.Pipeline(total, name="squares", history=size is None)
    return int(finished(pipeline).result())


def burn(item: int) -> int:
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    return item + 1


def burn_by_htdag(size: int | None) -> list[int]:
    first = htdag.source(range(BURNS), chunk_size=size).map(burn, name="first")
    return list(finished(htdag.Pipeline(first.map(burn, name="second"), name="burn")).result())


def burn_by_processes() -> list[int]:
    with ProcessPool() as pool:
        return pool.map(burn_twice, range(BURNS))


def burn_twice(item: int) -> int:
    return burn(burn(item))


def books_by_htdag(paths: list[Path], size: int) -> list[Any]:
    run = finished(book_analysis.pipeline(paths, size))
    return [tuple(row) for row in run.result()]


def finished(pipeline: htdag.Pipeline) -> htdag.Run:
    return pipeline.submit(on="condor").wait(progress=False)


# --- Rounds ---------------------------------------------------------------------------------

ONCE = (
    "htdag, left to itself, the first time",
    "htdag, left to itself, the second time",
    "by hand, a job an item",
    "by hand, a job an item and stage",
)
Ways = dict[str, Callable[[], Any]]


def ways(work: str, runs: Path, items: int, late: bool, single: bool) -> tuple[Ways, Any]:
    """Return each way to do a piece of work, and the result that all must have."""
    if work == "squares":
        made: Ways = {
            "by hand, 4 chunks, fused": functools.partial(
                squares_by_hand, runs, items, items // 4, late
            ),
            "htdag, the same chunks": functools.partial(squares_by_htdag, items, items // 4),
        }
        if single:
            made |= {
                "htdag, left to itself, the first time": functools.partial(
                    squares_by_htdag, items, None
                ),
                "htdag, left to itself, the second time": functools.partial(
                    squares_by_htdag, items, None
                ),
                "by hand, a job an item": functools.partial(
                    squares_one_job_an_item, runs, items, late
                ),
                "by hand, a job an item and stage": functools.partial(
                    squares_one_job_an_item_and_stage, runs, items, late
                ),
            }
        return made, sum(n * n for n in range(items) if n % 2 == 0)
    if work == "burn":
        size = BURNS // JOBS
        return {
            "by hand, 8 chunks, fused": functools.partial(burn_with_dag, runs, size, late),
            "htdag, the same chunks": functools.partial(burn_by_htdag, size),
            "multiprocessing.Pool": burn_by_processes,
        }, [n + 2 for n in range(BURNS)]
    paths = books.king_james_bible(runs.parent / "books")
    size = books.share(len(paths))
    return {
        "by hand, 8 chunks": functools.partial(books_by_hand, runs, paths, size, late),
        "htdag, the same chunks": functools.partial(books_by_htdag, paths, size),
    }, None


def rounds(number: int, made: Ways, expected: Any) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(number):
        for name, way in made.items():
            if turn and name in ONCE:
                continue
            begun = time.perf_counter()
            result = way()
            times[name].append(time.perf_counter() - begun)
            print(f"  {name}: {times[name][-1]:.2f} s", flush=True)
            if expected is None:
                expected = plain(result)
            if plain(result) != expected:
                raise SystemExit(f"{name}: another result")
    return times


def plain(result: Any) -> Any:
    """Return a result without what differs between equal ones: blanks in titles of books."""
    if isinstance(result, list) and result and isinstance(result[0], tuple):
        return [(title.replace("_", " ").casefold(), *rest) for title, *rest in result]
    return result


POOLS = {"fast": FAST, "default": DEFAULT}


def settings_text(name: str) -> str:
    pairs = ", ".join(f"`{key} = {value}`" for key, value in POOLS[name].items())
    return f"The {name} pool (4 slots on each point, besides HTCondor's own settings): {pairs}."


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument(
        "--work",
        nargs="+",
        default=["squares", "burn", "books"],
        choices=["squares", "burn", "books"],
    )
    parser.add_argument("--pools", nargs="+", default=["fast", "default"], choices=list(POOLS))
    parser.add_argument(
        "--points", nargs="+", default=["blind", "seeing"], choices=["blind", "seeing", "both"]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--items", type=int, default=200, metavar="N", help="of squares: a multiple of 4"
    )
    parser.add_argument(
        "--no-single", action="store_true", help="without one job an item, which is slow"
    )
    parser.add_argument("--update", action="store_true", help="keep the other figures of --json")
    parser.add_argument("--timeline", action="store_true", help="show when each node did what")
    args = parser.parse_args()
    figures = []
    area = Area()
    try:
        for pool_name in args.pools:
            fractions = {"DEFAULT_USERLOG_FORMAT_OPTIONS": "SUB_SECOND"} if args.timeline else {}
            pool = Pool(pool_name, area, POOLS[pool_name] | fractions)
            try:
                points = args.points[:1] if pool_name == "default" else args.points
                for point in points:
                    figures += measure(pool, pool_name, point, area, args)
            finally:
                pool.stop()
    finally:
        area.close()
    if args.update and args.json and args.json.exists():
        old = json.loads(args.json.read_text())["figures"]
        new = {(one["title"], one["pool"], one["point"]) for one in figures}
        figures += [one for one in old if (one["title"], one["pool"], one["point"]) not in new]
    figures.sort(
        key=lambda one: (
            list(TITLES).index(one["work"]),
            one["items"],
            one["pool"] != "fast",
            one["point"],
        )
    )
    heads = ["pool, point", "way", "rounds", "seconds: median (range)", "mean", "times by hand"]
    parts = []
    pools = [name for name in POOLS if any(one["pool"] == name for one in figures)]
    for title in dict.fromkeys(one["title"] for one in figures):
        rows = []
        for figure in (one for one in figures if one["title"] == title):
            floor = statistics.mean(next(iter(figure["seconds"].values())))
            for name, times in figure["seconds"].items():
                mean = statistics.mean(times)
                place = f"{figure['pool']}, {figure['point']}"
                row = [place, name, len(times), common.spread(times), f"{mean:.2f}"]
                rows.append([*row, f"{mean / floor:.2f}"])
        parts.append(f"{title}\n\n{common.table(heads, rows)}")
    parts.append(" ".join(map(settings_text, pools)))
    common.report("overhead", "\n\n".join(parts), figures, args)


TITLES = {
    "squares": "`map`, `filter` and `reduce` over {items:,} trivial items:",
    "burn": f"{BURNS} items of 2 x 50 ms of CPU:",
    "books": "The book analysis of `examples/book_analysis`, 66 books:",
}


def measure(pool: Pool, pool_name: str, point: str, area: Area, args: Any) -> list[dict[str, Any]]:
    import contextlib

    found = []
    with pool.use(), contextlib.nullcontext() if point == "both" else pool.only(point):
        runs = area.new_runs_dir()
        os.environ["HTDAG_HOME"] = str(runs)
        os.environ["HTDAG_HISTORY"] = "off"
        fast = pool_name == "fast"
        for work in args.work:
            if work == "burn" and not fast:
                continue
            print(f"{work}, {pool_name} pool, {point}:", flush=True)
            # By hand late materialisation is used where it is faster: on a pool with defaults.
            made, expected = ways(work, runs, args.items, not fast, fast and not args.no_single)
            seconds = rounds(args.rounds, made, expected)
            if args.timeline:
                for dag in sorted(runs.glob("**/*.dag"), key=lambda dag: dag.stat().st_mtime):
                    print(f"{dag}\n\n{timeline.timeline(dag.parent)}\n")
            title = TITLES[work].format(items=args.items)
            items = args.items if work == "squares" else 0
            where = {"pool": pool_name, "point": point}
            found.append(
                {"title": title, "work": work, "items": items, **where, "seconds": seconds}
            )
    return found


if __name__ == "__main__":
    main()
