"""What a pipeline means, in plain Python; and a plain way to run one in this process.

`evaluate` gives each stage one obvious meaning, with no chunks, no nodes and no files; plans and
runs of any kind have to give the same. `run_nodes` does what DAGMan does with a run directory,
one job at a time and without forking, so that many small runs take little time.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from htdag.compile import write_run
from htdag.compile.scheduler import ANY, Scheduler
from htdag.observe import outcomes
from htdag.runtime import lanes, planfile
from htdag.runtime.dag import judgement, looping
from htdag.runtime.data import keyhash
from htdag.runtime.job import compute, worker
from htdag.runtime.layout import AttemptFiles, NodeFiles
from htdag.stages import MISSING, Iterate
from htdag.stages.graph import upstreams
from htdag.stages.operations import Elementwise, GroupBy
from htdag.stages.sources import FileSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import networkx as nx
    import pytest

    import htdag


class EmptyReduce(Exception):
    """A reduce without an initial value that no item reaches."""


def evaluate(graph: nx.DiGraph, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """The result of every stage of `Pipeline.graph`: a list, or the value of a reduce.

    Functions get copies, so that one that changes its arguments changes no other stage's items:
    in a run these are other processes. What a round of a loop begins with is `given`.
    """
    results: dict[str, Any] = {}
    for name, stage in graph.nodes(data="stage"):
        if given is not None and name in given:
            results[name] = given[name]
            continue
        if isinstance(stage.operation, Iterate):
            results[name] = repeated(graph, name, results)
            continue
        bound = {}
        for above, _, data in graph.in_edges(name, data=True):
            bound.update(dict.fromkeys(data["keywords"], results[above]))
        inputs = [
            [results[above]] if graph.nodes[above]["stage"].one else results[above]
            for above in upstreams(graph, name)
        ]
        if stage.source is not None:
            results[name] = source_items(stage)
        else:
            call = functools.partial(call_on_copies, function_of(stage), bound)
            mean = _without_failed if stage.options.on_error == "skip" else _meaning
            results[name] = mean(stage.operation, call, *inputs)
    return results


def function_of(stage: htdag.Stage) -> Callable[..., Any] | None:
    return getattr(stage.operation, "function", None)


def _meaning(operation: Any, call: Callable[..., Any], *inputs: list[Any]) -> Any:
    return MEANINGS[operation.kind](operation, call, *inputs)


def _without_failed(operation: Any, call: Callable[..., Any], *inputs: list[Any]) -> Any:
    """What a stage gives of the items that do not fail in it: each is tried alone."""
    if isinstance(operation, GroupBy):
        inputs = (_accepted(operation.key, inputs[0]),)
    if not isinstance(operation, Elementwise):
        return _meaning(operation, call, *inputs)
    found: list[Any] = []
    for item in inputs[0]:
        with contextlib.suppress(Exception):
            found += _meaning(operation, call, [item])
    return found


def _accepted(function: Callable[..., Any], items: list[Any]) -> list[Any]:
    """The items with which a function does not fail."""
    found = []
    for item in items:
        with contextlib.suppress(Exception):
            function(item)
            found.append(item)
    return found


def repeated(graph: nx.DiGraph, name: str, results: dict[str, Any]) -> Any:
    """The last state of a loop."""
    data = graph.nodes[name]
    loop, names = data["stage"].operation, data["names"]
    start, *outside = upstreams(graph, name)
    given = {other: results[other] for other in outside}
    state = results[start]
    if loop.one and not graph.nodes[start]["stage"].one:
        (state,) = state
    for _ in range(loop.max_rounds):
        previous = state
        state = evaluate(data["inner"], {**given, names["state"]: state})[names["result"]]
        if loop.one and not data["inner"].nodes[names["result"]]["stage"].one:
            (state,) = state
        both = copy.deepcopy((state, previous))
        if loop.until is not None and loop.until(*both[: 1 + loop.previous]):
            break
    return state


def source_items(stage: htdag.Stage) -> list[Any]:
    assert stage.source is not None
    if isinstance(stage.source, FileSource):
        return [Path(path) for path in stage.source.items]
    return [pickled.load_copy() for pickled in stage.source.pickles()]


def call_on_copies(function: Callable[..., Any], bound: dict, *values: Any, **named: Any) -> Any:
    return function(*copy.deepcopy(values), **copy.deepcopy({**named, **bound}))


def _starmap(operation: Any, call: Callable[..., Any], items: list[Any]) -> list[Any]:
    return [call(**item) if isinstance(item, dict) else call(*item) for item in items]


def _reduce(operation: Any, call: Callable[..., Any], items: list[Any]) -> Any:
    values = list(items) if operation.initial is MISSING else [operation.initial, *items]
    if not values:
        raise EmptyReduce
    return functools.reduce(call, values)


def keyed(operation: Any, items: list[Any], key: Callable[..., Any]) -> list[tuple[Any, list[Any]]]:
    """Pairs of a key and its items, in the order of the digests of the keys."""
    groups: dict[bytes, tuple[Any, list[Any]]] = {}
    for item in copy.deepcopy(items):
        own = key(item)
        groups.setdefault(keyhash.digest(own), (own, []))[1].append(item)
    return [groups[digest] for digest in sorted(groups)]


def _reduce_by_key(operation: Any, call: Callable[..., Any], items: list[Any]) -> list[Any]:
    if operation.key is None:
        groups = keyed(operation, items, lambda pair: pair[0])
        groups = [(key, [value for _, value in pairs]) for key, pairs in groups]
    else:
        groups = keyed(operation, items, operation.key)
    return [(key, functools.reduce(call, values)) for key, values in groups]


def _distinct(operation: Any, call: Callable[..., Any], items: list[Any]) -> list[Any]:
    return [items[0] for _, items in keyed(operation, items, operation.key or (lambda item: item))]


def _batch(operation: Any, call: Callable[..., Any], items: list[Any]) -> list[Any]:
    return [items[n : n + operation.number] for n in range(0, len(items), operation.number)]


MEANINGS: dict[str, Callable[..., Any]] = {
    "map": lambda operation, call, items: [call(item) for item in items],
    "starmap": _starmap,
    "flat_map": lambda operation, call, items: [new for item in items for new in call(item)],
    "filter": lambda operation, call, items: [item for item in items if call(item)],
    "reduce": _reduce,
    "fold": _reduce,
    "count": lambda operation, call, items: len(items),
    "group_by": lambda operation, call, items: keyed(operation, items, operation.key),
    "reduce_by_key": _reduce_by_key,
    "distinct": _distinct,
    "sort_by": lambda operation, call, items: sorted(
        items, key=operation.key, reverse=operation.reverse
    ),
    "take": lambda operation, call, items: items[: operation.number],
    "batch": _batch,
    "enumerate": lambda operation, call, items: list(enumerate(items, operation.number)),
    "zip": lambda operation, call, *inputs: list(zip(*inputs, strict=False)),
    "product": lambda operation, call, *inputs: list(itertools.product(*inputs)),
    "combinations": lambda operation, call, items: list(
        itertools.combinations(items, operation.number)
    ),
    "concat": lambda operation, call, *inputs: list(itertools.chain(*inputs)),
}


def compiled(flow: htdag.Pipeline, run: Path, scheduler: Scheduler = ANY) -> Path:
    """A run directory, anywhere (under /tmp too, where only DAGMan minds)."""
    write_run(flow.plan(), run, run.name, scheduler=scheduler)
    return run


@contextlib.contextmanager
def without_fork(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The worker calls the functions in this process, and nothing waits for the disk.

    What goes wrong inside an item is still the worker's to handle; anything else is raised.
    """

    def run_child(job: worker.Job, shared: Any, skip: set[int] | None) -> int:
        shared.put(0, 0, 0, 0, 0)
        compute.run(job, shared, skip)
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(worker, "_run_child", run_child)
        for name in ("sync", "fsync"):
            patch.setattr(os, name, lambda *_: None)
        yield


@contextlib.contextmanager
def job_streams(job: AttemptFiles) -> Iterator[None]:
    """Send this process's output to the files of a job, as what starts one does."""
    saved = [os.dup(1), os.dup(2)]
    streams = sys.stdout, sys.stderr
    for number, path in enumerate((job.stdout, job.stderr), 1):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    try:
        with open(1, "w", closefd=False) as sys.stdout, open(2, "w", closefd=False) as sys.stderr:
            yield
    finally:
        sys.stdout, sys.stderr = streams
        for number, descriptor in enumerate(saved, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)


def listed(run: Path, name: str) -> list[tuple[int, int]]:
    """Chunk and attempt of the jobs that a node, or a lane of one, would queue now."""
    unit = lanes.unit(name)
    lines = Path(NodeFiles(run, unit.node).chunk_list(unit.lane)).read_text(encoding="utf-8")
    jobs = [line.split(", ", 2)[:2] for line in lines.splitlines()]
    return [(int(chunk), int(attempt)) for chunk, attempt in jobs]


def work(run: Path, node: str, chunk: int = 0, attempt: int = 1) -> int:
    """Do one job and return its exit status."""
    here = Path.cwd()
    os.chdir(run)
    try:
        with job_streams(NodeFiles("", node).attempt(chunk, attempt)):
            return worker.work(node, chunk, attempt)
    finally:
        os.chdir(here)


def run_nodes(
    run: Path, choose: Callable[[list[str]], str] = min, done: Iterable[str] = ()
) -> list[str]:
    """Do what DAGMan does, one attempt after another; return the nodes, or lanes, that failed.

    ``choose`` picks which of those that could run has its next attempt: DAGMan promises no order
    but that of parents and children.
    """
    plan = planfile.read(str(run))
    units = [unit for node in plan["nodes"] for unit in lanes.units(node)]
    finished = set(map(lanes.unit, done))
    failed: list[str] = []
    tries = dict.fromkeys(units, 0)
    while True:
        ready = [
            unit.name
            for unit in units
            if unit not in finished
            and unit.name not in failed
            and finished.issuperset(lanes.parents(plan, unit))
        ]
        if not ready:
            return failed
        unit = lanes.unit(choose(ready))
        node = plan["by_name"][unit.node]
        if node["mode"] == "loop":
            number = NodeFiles(run, unit.node).last_round()
            returned = run_nodes(Path(NodeFiles(run, unit.node).round(number)), choose)
            verdict = looping.judge(str(run), plan, node, len(returned))
            if verdict.status == looping.DONE:
                finished.add(unit)
            elif verdict.status != looping.AGAIN:
                failed.append(unit.name)
            continue
        here = Path.cwd()
        os.chdir(run)
        try:
            for chunk, attempt in listed(run, unit.name):
                worker.work(unit.node, chunk, attempt)
        finally:
            os.chdir(here)
        tries[unit] += 1
        last_try = tries[unit] > node["retries"]
        verdict = judgement.judge(str(run), plan, node, last_try=last_try, lane=unit.lane)
        if verdict.succeeded:
            finished.add(unit)
        elif last_try:
            failed.append(unit.name)


def result(run: Path, stage: str) -> Any:
    """The result of a stage whose values were written, from a run directory that is done."""
    plan = planfile.read(str(run))
    frames = outcomes.stage_values(run, plan, stage, whole=True)
    values = [outcomes.load_value(frame, run) for _, frame in frames]
    if outcomes.stage_entry(plan, stage)["one"]:
        (values,) = values
    return values
