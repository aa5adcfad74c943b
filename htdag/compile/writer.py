"""Write a run directory: aside, then renamed, so that half of one never exists."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from htdag import _paths
from htdag._options import Options
from htdag._version import VERSION
from htdag.compile import archive, dag, requests, submit, travelling
from htdag.compile.content import FORMAT, calls_checkpoint, payload, plan_content, program
from htdag.compile.sources import write_source, write_stored_source
from htdag.errors import DirectoryError, OptionError
from htdag.plan import Plan
from htdag.runtime import lanes, layout, progress, streams


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
        for folder in (layout.inputs, layout.outcomes, layout.logs):
            (run / folder(node.name)).mkdir(parents=True)
        if node.input.source is not None:
            write_source(run, node)
            classes |= node.input.source.classes
    for stored in plan.sources:
        write_stored_source(run, stored)
        classes |= stored.source.classes
    travels = travelling.travels(plan)
    checkpoints = set()
    for node in plan.nodes:
        travel = travels[node.name]
        for each in travel.inputs:
            if "at" in each:
                _paths.link(run, each["at"], each["path"])
        functions = payload(node, classes)
        _write(run / layout.payload(node.name), functions)
        calls = calls_checkpoint(node, functions)
        if calls:
            checkpoints.add(node.name)
        _write_json(run / layout.program(node.name), program(node, travel, tag, checkpoints=calls))
        lines = submit.submit_lines(node, plan.name, travel, checkpoints=calls)
        _write(run / layout.submit(node.name), "\n".join(lines) + "\n")
    content = plan_content(plan, travels, checkpoints)
    _write_json(run / layout.PLAN, content)
    content["by_name"] = {node["name"]: node for node in content["nodes"]}
    _write_requests(plan, run)
    for node_content in content["nodes"]:
        if node_content["dynamic"]:
            continue  # the POST script of the last node before it writes the list
        options = plan[node_content["name"]].options
        reading = streams.Reading(str(run), content, node_content, None)
        for unit in lanes.units(node_content):
            numbers = lanes.chunks(node_content, unit.lane, node_content["chunks"])
            jobs = ((number, 1, None) for number in numbers)
            progress.write_list(str(run), node_content, jobs, reading, unit.lane)
        _check_limits(run, node_content["name"], options)
    archive.write_archive(str(run / layout.RUNTIME))
    _write(run / layout.CONFIG, "\n".join(dag.config_lines(plan)) + "\n")
    _write(run / layout.POST, dag.post_script(sys.executable), mode=0o700)
    _write(run / dag_name(plan), "\n".join(dag.dag_lines(plan)) + "\n")
    _write_json(run / layout.RUN, _manifest(plan, tag))


def _write_requests(plan: Plan, run: Path) -> None:
    for node in plan.nodes:
        asked = requests.of_chunks(node)
        if asked:
            _write_json(run / layout.requests(node.name), asked)


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


def _write(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    data = content.encode() if isinstance(content, str) else content
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _write(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
