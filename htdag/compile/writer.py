"""Write a run directory: aside, then renamed, so that half of one never exists."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from htdag._options import Options
from htdag._pickling import dump_content
from htdag._sources import FileSource
from htdag._version import VERSION
from htdag.compile import archive, dag, submit
from htdag.errors import DirectoryError, OptionError, UsageError
from htdag.plan import Node, Plan
from htdag.runtime import itemfile, layout, progress
from htdag.stages import MISSING

FORMAT = 1


def write_run(plan: Plan, directory: Path, tag: str) -> Path:
    """Write a run directory and return the path of its DAG file.

    Parameters
    ----------
    plan : Plan
        What to run.
    directory : pathlib.Path
        The directory to make; it must not exist, or be empty.
    tag : str
        The run's tag.

    Raises
    ------
    DirectoryError
        If the directory cannot be made.
    FunctionError, ItemPickleError
        If a function or an item cannot be pickled; then nothing is left behind.
    """
    aside = directory.with_name(f".{directory.name}.{os.getpid()}.new")
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise DirectoryError(f"{str(directory)!r} exists already and is not empty")
        directory.parent.mkdir(parents=True, exist_ok=True)
        aside.mkdir(mode=0o700)
    except OSError as error:
        raise DirectoryError(
            f"cannot make the run directory {str(directory)!r}: {error}"
        ) from error
    try:
        _fill(plan, aside, tag)
        os.sync()
        os.replace(aside, directory)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return directory / dag_name(plan)


def dag_name(plan: Plan) -> str:
    """Return the name of a plan's DAG file."""
    return f"{plan.name}.dag"


def _fill(plan: Plan, run: Path, tag: str) -> None:
    classes: set[type] = set()
    for node in plan.nodes:
        for folder in (layout.inputs, layout.outcomes, layout.logs, layout.files):
            (run / folder(node.name)).mkdir(parents=True)
        _write_json(run / layout.program(node.name), _program(node))
        lines = submit.submit_lines(node, plan.name)
        _write(run / layout.submit(node.name), "\n".join(lines) + "\n")
        if node.input.source is not None:
            _write_source(run, node)
            classes |= node.input.source.classes
    for node in plan.nodes:
        _write(run / layout.payload(node.name), _payload(node, classes))
    content = _plan_content(plan)
    _write_json(run / layout.PLAN, content)
    content["by_name"] = {node["name"]: node for node in content["nodes"]}
    for node_content in content["nodes"]:
        attempts: dict[str, progress.Files | None] = dict.fromkeys(node_content["parents"])
        jobs = ((number, 1, None) for number in range(node_content["chunks"]))
        options = plan[node_content["name"]].options
        progress.write_list(str(run), content, node_content, jobs, attempts)
        _check_limits(run, node_content["name"], options)
    archive.write_archive(str(run / layout.RUNTIME))
    _write(run / layout.CONFIG, "\n".join(dag.config_lines(plan)) + "\n")
    _write(run / layout.POST, dag.post_script(sys.executable), mode=0o700)
    _write(run / dag_name(plan), "\n".join(dag.dag_lines(plan)) + "\n")
    _write_json(run / layout.RUN, _manifest(plan, tag))


def _check_limits(run: Path, node: str, options: Options) -> None:
    """Refuse limits on materialised jobs that had to be left out of the submit description."""
    if options.max_materialize is None and options.max_idle is None:
        return
    if "max_materialize" not in (run / layout.submit(node)).read_text():
        raise OptionError(
            f"node {node!r}: its jobs read too many files each for max_materialize or max_idle, "
            f"with which HTCondor takes {progress.LONGEST_MATERIALIZED:,} characters of file names "
            f"a job; give a smaller chunk_size (or fan_in), or leave these options out"
        )


def _manifest(plan: Plan, tag: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "htdag": VERSION,
        "python": list(sys.version_info[:3]),
        "tag": tag,
        "pipeline": plan.name,
        "dag": dag_name(plan),
        "created": time.time(),
        "targets": list(plan.targets),
    }


def _plan_content(plan: Plan) -> dict[str, Any]:
    nodes = []
    for node in plan.nodes:
        source = node.input.source
        numbers = list(zip(node.boundaries, node.boundaries[1:], strict=False))
        nodes.append(
            {
                "name": node.name,
                "stages": list(node.stages),
                "parents": list(node.parents),
                "children": list(plan.graph.successors(node.name)),
                "mode": "items" if node.reduction is None else "reduce",
                "input": {
                    "stage": node.input.stage,
                    "node": node.input.node,
                    "files": numbers if isinstance(source, FileSource) else None,
                },
                "outputs": [output.stage for output in node.outputs],
                "binds": {
                    bind.stage: {"node": bind.node, "stage": bind.stage, "one": bind.one}
                    for bind in node.binds
                },
                "chunks": node.chunks,
                "sizes": [end - start for start, end in numbers],
                "takes": [[take.first, take.last, take.part] for take in node.takes],
                "items": node.items,
                "retries": node.options.retries or 0,
                "on_error": node.options.on_error,
                "max_errors": node.options.max_errors,
                "request_cpus": node.options.request_cpus,
                "max_materialize": node.options.max_materialize,
                "category": node.options.category,
                "priority": node.priority,
                "job_priority": node.options.priority,
            }
        )
    stages = [
        {
            "name": name,
            "kind": data["stage"].kind,
            "node": next((node.name for node in plan.nodes if name in node.stages), None),
            "where": plan.where.get(name),
        }
        for name, data in plan.stages.nodes(data=True)
    ]
    return {
        "format": FORMAT,
        "name": plan.name,
        "max_jobs_submitted": plan.throttles.max_jobs_submitted,
        "maxjobs": dict(plan.throttles.maxjobs),
        "nodes": nodes,
        "stages": stages,
    }


def _program(node: Node) -> dict[str, Any]:
    position = {operation.stage: number for number, operation in enumerate(node.operations)}
    functions = _functions(node)
    program: dict[str, Any] = {
        "python": list(sys.version_info[:2]),
        "node": node.name,
        "stages": list(node.stages) or [node.outputs[0].stage],
        "mode": "items" if node.reduction is None else "reduce",
        "on_error": node.options.on_error,
        "operations": [
            {
                "stage": operation.stage,
                "kind": operation.kind,
                "function": functions.index(("operation", operation.stage)),
                "after": -1 if operation.after is None else position[operation.after],
                "bind": dict(operation.binds),
            }
            for operation in node.operations
        ],
        "outputs": [
            {
                "stage": output.stage,
                "after": -1 if output.after is None else position[output.after],
                "combine": None
                if output.combine is None
                else functions.index(("combine", output.stage)),
            }
            for output in node.outputs
        ],
    }
    if node.reduction is not None:
        program["reduction"] = {
            "stage": node.reduction.stage,
            "function": functions.index(("reduce", node.reduction.stage)),
            "final": node.reduction.final,
            "initial": None if node.reduction.initial is MISSING else 0,
            "bind": dict(node.reduction.binds),
        }
    return program


def _functions(node: Node) -> list[tuple[str, str]]:
    """Return the role and stage of each function of a node, in the order of its payload."""
    roles = [("operation", operation.stage) for operation in node.operations]
    roles += [("combine", output.stage) for output in node.outputs if output.combine is not None]
    if node.reduction is not None:
        roles.append(("reduce", node.reduction.stage))
    return roles


def _payload(node: Node, classes: set[type]) -> bytes:
    functions: list[Any] = [operation.function for operation in node.operations]
    functions += [output.combine for output in node.outputs if output.combine is not None]
    initials = []
    if node.reduction is not None:
        functions.append(node.reduction.function)
        if node.reduction.initial is not MISSING:
            initials.append(node.reduction.initial)
    names = [stage for _, stage in _functions(node)]
    content = {"functions": functions, "initials": initials}
    return dump_content(content, list(zip(names, functions, strict=True)), classes)


def _write_source(run: Path, node: Node) -> None:
    source = node.input.source
    assert source is not None
    sizes = [end - start for start, end in zip(node.boundaries, node.boundaries[1:], strict=False)]
    items: Iterator[tuple[int, bytes]]
    if isinstance(source, FileSource):
        for number, path in enumerate(source.paths):
            _link(Path(path), run / layout.linked_file(node.name, number))
        items = ((itemfile.FILE, payload) for payload in _file_payloads(node.name, source.paths))
    else:
        items = ((itemfile.VALUE, payload) for payload in source.payloads())
    number = 0
    for chunk, size in enumerate(sizes):
        target = run / layout.source_items(node.name, layout.chunk_name(chunk))
        writer = itemfile.ItemWriter(str(target))
        try:
            for position, (kind, payload) in enumerate(islice(items, size)):
                writer.value(str(number), payload, kind)
                writer.end(position, position)
                number += 1
            writer.close()
        finally:
            writer.discard()
    if number != node.boundaries[-1]:
        raise UsageError(
            f"the source {node.input.stage!r} gave {number} items, not the "
            f"{node.boundaries[-1]} that were planned; was it changed meanwhile?"
        )


def _file_payloads(node: str, paths: Iterable[str]) -> Iterator[bytes]:
    for number, path in enumerate(paths):
        content = {
            "link": layout.linked_file(node, number),
            "name": os.path.basename(path),
            "path": path,
        }
        yield json.dumps(content).encode()


def _link(path: Path, link: Path) -> None:
    """Link to a file; make a directory as a real one with links to its files.

    HTCondor follows links to files, but holds a job for one to a directory.
    """
    if not path.is_dir():
        link.symlink_to(path)
        return
    for folder, folders, names in os.walk(path, followlinks=True):
        here = link / os.path.relpath(folder, path)
        here.mkdir()
        real = os.path.realpath(folder)
        folders[:] = [
            name
            for name in folders
            if not real.startswith(os.path.realpath(os.path.join(folder, name)) + os.sep)
            and real != os.path.realpath(os.path.join(folder, name))
        ]
        for name in names:
            (here / name).symlink_to(os.path.join(folder, name))


def _write(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    data = content.encode() if isinstance(content, str) else content
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _write(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
