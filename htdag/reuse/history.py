"""The history: measurements of earlier runs, stored for the planner in one file per user.

They come from the records of runs, which hold no user values: nothing is unpickled. A run may be
deleted afterwards. Several processes may gather at once. If the file is damaged or lost, plans only
get worse, and the file is made again from the existing runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from htdag.common.warn import warn
from htdag.config.directories import make_folder, runs_directory
from htdag.config.log import LOGGER
from htdag.plan.simulate import weighted_median
from htdag.plan.stage_keys import GROUPS, PARTS
from htdag.plan.tune import Measured, Measures
from htdag.reuse.ended import has_ended
from htdag.runtime import layout, planfile
from htdag.runtime.data import recordfile
from htdag.runtime.data.keyed import BY_HASH
from htdag.runtime.layout import NodeFiles

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import Manifest, Plan
    from htdag.runtime.formats.record import JobMeasures, RecordEnd, StageMeasure

FORMAT = 1
KEPT_RUNS = 5
"""How many runs of a stage are stored: the last ones."""
MOST_STAGES = 500
_MOST_NAMES = 5_000  # run directories that need not be read again
_MOST_RECORDS = 200  # records to read per node
_MOST_ROUNDS = 20  # rounds to read per loop: the last ones
_BUDGET = 0.25  # seconds for gathering from new runs; the rest follows the next time
_LOCK_TIMEOUT = 1.0


@dataclass(frozen=True)
class _History:
    """The content of the file.

    Attributes
    ----------
    gathered : dict of str to int
        The runs that were gathered from, with the inodes of their directories.
    stages : dict of str to list of Measured
        The measurements of stages, by their keys; the latest are at the end.
    """

    gathered: dict[str, int] = field(default_factory=dict)
    stages: dict[str, list[Measured]] = field(default_factory=dict)


def store_path() -> Path:
    """Return the path of the file: ``history.json`` next to the folder of runs."""
    return runs_directory().parent / "history.json"


def read() -> Measures:
    """Return the measurements of stages, by their keys."""
    return {key: tuple(runs) for key, runs in _load().stages.items()}


def measures_for(keys: Mapping[str, str]) -> Measures:
    """Return the measurements of the stages of one pipeline.

    Parameters
    ----------
    keys : mapping
        The keys of the stages (`htdag.plan.stage_keys.stage_keys`).
    """
    measure_keys = {key + end for key in keys.values() for end in ("", PARTS, GROUPS)}
    return {key: runs for key, runs in read().items() if key in measure_keys}


def gather(run: Path, *, again: bool = True) -> None:
    """Store the measurements of a run that has ended.

    Parameters
    ----------
    run : pathlib.Path
        The run directory.
    again : bool
        Do so even if that was done before, since the run may have been resumed.
    """
    try:
        inode = run.stat().st_ino
        if not again and _load().gathered.get(run.name) == inode:
            return
        measures = measure_run(run)
    except (OSError, ValueError, KeyError, TypeError) as error:
        LOGGER.info("%s is damaged, or not a run; it has no measurements: %r", run, error)
        return
    _update({run.name: inode}, [measures])


def gather_finished() -> int:
    """Store the measurements of runs that have ended since the last call; return their number."""
    start = time.monotonic()
    gathered = _load().gathered
    names: dict[str, int] = {}
    existing: dict[str, int] = {}
    fresh = []
    for path, inode in _newest_first():
        existing[path.name] = inode
        if gathered.get(path.name) == inode or time.monotonic() - start > _BUDGET:
            continue
        try:
            if not has_ended(path):
                continue
            fresh.append(measure_run(path))
        except FileNotFoundError:
            continue  # it is not a run (yet)
        except (OSError, ValueError, KeyError, TypeError) as error:
            LOGGER.info("%s is damaged, or not a run; it has no measurements: %r", path, error)
        names[path.name] = inode  # even if it is damaged, since that will not change
    if names:
        _update(names, fresh, existing)
    return len(names)


def _newest_first() -> list[tuple[Path, int]]:
    runs = runs_directory()
    try:
        with os.scandir(runs) as scanned:
            entries = [(entry.name, entry.inode()) for entry in scanned if entry.name[0] != "."]
    except OSError:
        return []
    # By inode, which usually grows; the time would need a system call for each.
    entries.sort(key=lambda entry: -entry[1])
    return [(runs / name, inode) for name, inode in entries]


# The measurements of a run


def measure_run(run: Path) -> dict[str, Measured]:
    """Return the measurements of a run's jobs, by the keys of stages."""
    manifest: Manifest = layout.read_json(str(run / layout.RUN), "created")
    created = float(manifest["created"])
    plan = planfile.read(str(run))
    return dict(_measure_plan([run], created, plan))


def _measure_plan(runs: list[Path], created: float, plan: Plan) -> Iterator[tuple[str, Measured]]:
    """Yield the measurements of a plan that ran in one run directory, or in many rounds."""
    keys = {entry["name"]: entry.get("history") for entry in plan["stages"]}
    for node in plan["nodes"]:
        name = node["name"]
        if node.get("mode") != "loop":
            yield from _measure_node(runs, created, name, node["stages"], keys)
            if node.get("input", {}).get("view") in BY_HASH:
                yield from _count_groups(runs, created, name, keys.get(node["stages"][0]))
            continue
        rounds = [
            Path(NodeFiles(run, name).round(number))
            for run in runs
            for number in range(1, NodeFiles(run, name).last_round() + 1)
        ]
        if not rounds:
            continue  # it never started
        inner = planfile.read(NodeFiles(runs[0], name).step)
        yield from _measure_plan(rounds[-_MOST_ROUNDS:], created, inner)


def _measure_node(
    runs: list[Path], created: float, node: str, stages: list[str], keys: Mapping[str, str | None]
) -> Iterator[tuple[str, Measured]]:
    ends = [end for run in runs for end in _ends(run, node, _MOST_RECORDS // len(runs))]
    by_stage: dict[tuple[str, str], list[tuple[int, float, int]]] = {}
    rests = []
    for _, measured in ends:
        inside = sum(seconds for _, _, _, seconds, _ in measured["stages"])
        if measured["items"] > 0:
            rests.append((max(0.0, measured["seconds"] - inside) / measured["items"], 1))
        for (stage, role), counts in _merged(measured["stages"]).items():
            by_stage.setdefault((stage, role), []).append(counts)
    if ends and stages and not any(role == "whole" for _, role in by_stage):
        # It calls no function, or only those of other stages.
        items = [measured["items"] for _, measured in ends]
        by_stage[stages[0], "whole"] = [(number, 0.0, number) for number in items]
    memory = max((_growth(*end) for end in ends), default=0.0)
    fixed = max((end["disk_fixed_kb"] for end, _ in ends), default=0)
    disk = max(
        (
            max(0, end["disk_kb"] - end["disk_fixed_kb"]) / max(1, measured["items"])
            for end, measured in ends
        ),
        default=0.0,
    )
    rest = weighted_median(rests)
    for (stage, role), jobs in by_stage.items():
        calls = sum(job[0] for job in jobs)
        key = keys.get(stage)
        if key is None:
            continue
        yield (
            key + (PARTS if role == "parts" else ""),
            Measured(
                run=created,
                node=node,
                jobs=len(jobs),
                calls=calls,
                seconds=weighted_median(
                    [(seconds / calls, calls) for calls, seconds, _ in jobs if calls]
                ),
                ratio=sum(job[2] for job in jobs) / calls if calls else 1.0,
                rest=rest,
                memory_mb=memory / 1024,
                disk_mb=disk / 1024,
                disk_fixed_mb=fixed / 1024,
                slowest=max((seconds / calls for calls, seconds, _ in jobs if calls), default=0.0),
            ),
        )
        rest = 0.0


def _count_groups(
    runs: list[Path], created: float, node: str, key: str | None
) -> Iterator[tuple[str, Measured]]:
    """Yield the number of groups of a keyed stage: the items of its node, averaged over rounds."""
    ends = [end for run in runs for end in _ends(run, node, _MOST_RECORDS // len(runs))]
    if key is None or not ends:
        return
    jobs = sum(len(NodeFiles(run, node).attempts()) for run in runs)
    groups = sum(measured["items"] for _, measured in ends) * jobs / len(ends) / len(runs)
    yield key + GROUPS, Measured(created, node, jobs, round(groups), 0, 1, 0, 0, 0, 0)


def _merged(stages: list[StageMeasure]) -> dict[tuple[str, str], tuple[int, float, int]]:
    """Return calls, seconds and outputs by stage and role, merged for several functions."""
    merged: dict[tuple[str, str], tuple[int, float, int]] = {}
    for stage, role, calls, seconds, returned in stages:
        most, before, outputs = merged.get((stage, role), (0, 0.0, 0))
        merged[stage, role] = (max(most, calls), before + seconds, max(outputs, returned))
    return merged


def _ends(run: Path, node: str, most: int) -> Iterator[tuple[RecordEnd, JobMeasures]]:
    """Yield the ends of the last attempt of each chunk of a node, if they have measurements.

    If a node has very many jobs, evenly spread ones are read.
    """
    files = NodeFiles(run, node)
    chunks = sorted(files.attempts().items())
    step = max(1, -(-len(chunks) // most))
    for chunk, attempts in chunks[::step]:
        path = Path(files.attempt(chunk, attempts[-1]).record)
        end = recordfile.end(str(path))
        measured = None if end is None else end.get("measured")
        if end is not None and measured:
            yield end, measured


def _growth(end: RecordEnd, measured: JobMeasures) -> float:
    """Return how much the functions made their process grow, in KB."""
    return float(max(0, end["peak_kb"] - measured["base_kb"]))


# The file


def _load() -> _History:
    """Return the content of the file; if it is damaged, issue a warning and return none."""
    path = store_path()
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return _History()
    except OSError as error:
        warn(f"the history of earlier runs cannot be read: {error}")
        return _History()
    try:
        return _parsed(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        warn(
            f"{str(path)!r}, the history of earlier runs, is damaged ({error}); "
            f"it is made again from the existing runs",
        )
        return _History()


def _parsed(content: Any) -> _History:
    """Return the content of the file; raise an error if it is not valid."""
    if not isinstance(written := content["format"], int):
        raise TypeError("its format is not a number")
    if written != FORMAT:
        return _History()
    gathered, stages = content["gathered"], content["stages"]
    if not all(isinstance(inode, int) for inode in gathered.values()):
        raise TypeError("the runs in it are not numbers")
    return _History(
        dict(gathered), {key: [_measured(run) for run in runs] for key, runs in stages.items()}
    )


_FIELDS = {each.name: str if each.type == "str" else float for each in fields(Measured)}


def _measured(content: Any) -> Measured:
    measured = Measured(**content)
    for name, kind in _FIELDS.items():
        value = getattr(measured, name)
        valid = isinstance(value, str) if kind is str else type(value) in (int, float)
        # Arithmetic needs finite numbers that are not negative.
        if not valid or (kind is float and not 0 <= value < 1e15):
            raise ValueError(f"{name} is {value!r}")
    return measured


def _update(
    names: Mapping[str, int],
    measures: list[dict[str, Measured]],
    existing: Mapping[str, int] | None = None,
) -> None:
    """Add measurements to the file.

    ``existing`` are all run directories, if they were listed: others are removed from the file, so
    that their names can be used again.
    """
    try:
        with _locked():
            history = _load()
            gathered = {
                name: inode
                for name, inode in history.gathered.items()
                if existing is None or existing.get(name) == inode
            }
            for name, inode in names.items():
                gathered.pop(name, None)
                gathered[name] = inode
            _add(history.stages, measures)
            content = {
                "format": FORMAT,
                "gathered": dict(list(gathered.items())[-_MOST_NAMES:]),
                "stages": {key: [*map(vars, runs)] for key, runs in history.stages.items()},
            }
            data = json.dumps(content, separators=(",", ":")).encode()
            layout.write_aside(str(store_path()), data, sync=False)
    except OSError as error:
        warn(
            f"the measurements of this run are not stored for later plans: {error}; "
            f"HTDAG_HISTORY=off avoids this warning",
        )


def _add(stages: dict[str, list[Measured]], measures: list[dict[str, Measured]]) -> None:
    for of_run in measures:
        for key, measured in of_run.items():
            others = [run for run in stages.pop(key, []) if run.run != measured.run]
            runs = sorted([*others, measured], key=lambda run: run.run)
            stages[key] = runs[-KEPT_RUNS:]
    # The stages with the latest measurements are at the end.
    for key in list(stages)[: max(0, len(stages) - MOST_STAGES)]:
        del stages[key]


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Lock the file against other processes, if possible.

    Without the lock, the last writer wins. Lost measurements are gathered again the next time,
    since the file lists the runs that it has.
    """
    path = store_path()
    make_folder(path.parent)
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + _LOCK_TIMEOUT
        while time.monotonic() < deadline:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                break  # a file system without locks
        yield
    finally:
        os.close(descriptor)
