"""The writer of run directories, which renames complete ones, so that half of one never exists."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from htdag.common.package import VERSION
from htdag.compile import (
    dag,
    environments,
    file_flow,
    final,
    post_scripts,
    requests,
    submit,
    urls,
)
from htdag.compile.environments import Placed, environment_of
from htdag.compile.file_flow import FileFlow
from htdag.compile.node_content import (
    PLAN_FORMAT,
    calls_checkpoint,
    functions_of,
    payload,
    plan_content,
    program,
)
from htdag.compile.runtime_archive import write_archive
from htdag.compile.scheduler import ANY, Scheduler
from htdag.compile.script import script_of_this_process
from htdag.compile.signatures import identity_content
from htdag.compile.sources import write_source, write_stored_source
from htdag.compile.submit import check_destination
from htdag.config.directories import make_folder
from htdag.environments import Environment
from htdag.errors import DirectoryError, OptionError
from htdag.functions import surroundings
from htdag.functions.image import Image, Payload
from htdag.options import transfer
from htdag.plan import Node, Plan
from htdag.runtime import lanes, layout, planfile
from htdag.runtime.dag import inputs, prepare, progress, submitfile
from htdag.runtime.layout import NodeFiles

if TYPE_CHECKING:
    from htdag.runtime.formats.identity import Identity
    from htdag.runtime.formats.plan import Manifest, PlanContent
    from htdag.runtime.formats.task import Program


class Take(Protocol):
    """A callable that gives nodes the finished results of other runs."""

    @property
    def kept_urls(self) -> urls.KeptStates:
        """The states of URLs in an earlier run that remain valid."""

    def __call__(self, run: Path, identity: Identity, /) -> Iterable[str]:
        """Return the nodes that got results.

        The arguments are the run directory that is being written, and the computations of its nodes
        (`htdag.compile.signatures`).
        """


def write_run(
    plan: Plan,
    directory: Path,
    tag: str,
    take: Take | None = None,
    functions: Sequence[final.FinalFunction] = (),
    scheduler: Scheduler = ANY,
) -> Path:
    """Write a run directory and return the path of its DAG file.

    Parameters
    ----------
    plan : Plan
        The plan.
    directory : pathlib.Path
        The directory to make; it must not exist, or be empty.
    tag : str
        The run's tag.
    take : callable, optional
        Brings the finished results of other runs.
    functions : sequence of FinalFunction
        The functions to call when the run has ended.
    scheduler : Scheduler
        The HTCondor that will run it.

    Raises
    ------
    BackendError
        If that HTCondor lacks a capability that a stage needs.
    DirectoryError
        If the directory cannot be made.
    FunctionError, ItemPickleError
        If a function or an item cannot be pickled; then nothing is left behind.
    PackingError
        If an environment cannot be packed.
    """
    placed = environments.prepare(plan)
    _check_empty(directory)
    try:
        make_folder(directory.parent)
        aside = Path(
            tempfile.mkdtemp(".new", f".{directory.name}.{os.getpid()}.", dir=directory.parent)
        )
    except OSError as error:
        raise DirectoryError(
            f"cannot make the run directory {str(directory)!r}: {error}"
        ) from error
    if aside.stat().st_mode & 0o700 != 0o700:
        aside.rmdir()
        raise DirectoryError(
            "the umask of this process keeps it from reading and writing its own files; "
            "before it starts, set one such as: umask 077"
        )
    try:
        stored = dict(_store(plan, aside))
        code = _Code(aside, stored, functions)
        _fill(plan, aside, tag, placed, code, take, functions, scheduler=scheduler)
        begin_loops(aside)
        os.sync()
        try:
            os.replace(aside, directory)
        except OSError:
            _check_empty(directory)  # another process may have just made it
            raise
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return directory / dag_name(plan)


def _check_empty(directory: Path) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise DirectoryError(f"{str(directory)!r} exists already and is not empty")


def dag_name(plan: Plan) -> str:
    """Return the name of a plan's DAG file."""
    return f"{plan.name}.dag"


Stored = dict[Path, tuple[Plan, dict[str, set[Any]]]]


def _store(plan: Plan, run: Path) -> Iterator[tuple[Path, tuple[Plan, dict[str, set[Any]]]]]:
    """Write the items of sources, including those of loops.

    Yields each run directory with its plan, and the classes that unpickling its items needs.
    """
    for node in plan.nodes:
        files = NodeFiles(run, node.name)
        if node.round is None:
            for folder in (files.inputs, files.outcomes, files.logs):
                make_folder(Path(folder))
        else:
            for folder in (files.outcomes, files.logs, files.rounds, files.step):
                make_folder(Path(folder))
            yield from _store(node.round.plan, Path(files.step))
    yield run, (plan, _write_sources(plan, run))


class _Code:
    """The functions of all nodes, and the image of their modules.

    Parameters
    ----------
    run : pathlib.Path
        The run directory, into which the image is written.
    stored : dict
        The run directories and plans, from `_store`.
    functions : sequence of FinalFunction
        The functions to call when the run has ended.
    """

    def __init__(self, run: Path, stored: Stored, functions: Sequence[final.FinalFunction]) -> None:
        self.run = run
        self.stored = stored
        image = Image()
        self._payloads: dict[tuple[Path, str], Payload] = {}
        for folder, (plan, classes) in stored.items():
            image.add_classes(set[Any]().union(*classes.values()))
            for node in plan.nodes:
                if node.round is None:
                    self._payloads[folder, node.name] = payload(node, image)
        self.of_end = final.payload(functions, image).encode() if functions else b""
        image.finish()
        image.write(run)
        self._image = image

    def files(self, run: Path, node: str) -> list[str]:
        """Return the files that the jobs of a node need besides its functions."""
        return [layout.IMAGE, *self._image.files_of(self._payloads[run, node])]

    def payload(self, run: Path, node: str) -> bytes:
        """Return the pickled functions of a node."""
        return self._payloads[run, node].encode()


def _fill(
    plan: Plan,
    run: Path,
    tag: str,
    placed: Mapping[Environment, Placed],
    code: _Code,
    take: Take | None = None,
    functions: Sequence[final.FinalFunction] = (),
    around: Path | None = None,
    scheduler: Scheduler = ANY,
) -> None:
    """Write a run directory, or the template of a loop's rounds in the run directory `around`."""
    with_jobs = [node for node in plan.nodes if node.round is None]
    environments.write(run, {placed[environment_of(node)]: None for node in with_jobs})
    _, of_source = code.stored[run]
    flows = file_flow.file_flows(plan)
    for node in with_jobs:
        check_destination(node, flows[node.name], scheduler)
    checkpoints = _write_nodes(with_jobs, run, flows, code)
    content = plan_content(plan, flows, checkpoints)
    last = _write_final(plan, run, functions, code.of_end) if functions else None
    content["final"] = last
    for entry, node in zip(content["nodes"], plan.nodes, strict=True):
        if node.round is not None:
            entry |= {"environment": None, "compares": False}
            continue
        environment = environments.content(node, placed)
        calls = node.name in checkpoints
        of_node: Program = {
            **program(node, flows[node.name], tag, checkpoints=calls),
            **environment,
            "environ": list(node.options.environ or ()),
            "surroundings": surroundings.of_node(functions_of(node)),
        }
        _write_json(NodeFiles(run, node.name).program, of_node)
        entry["environment"] = placed[environment_of(node)].local_script
        entry["compares"] = bool(environment["packages"])
    if around is None:
        url_states = urls.NOTHING_KEPT if take is None else take.kept_urls
        of_urls = urls.of_plan(plan, flows, url_states)
        identity = identity_content(plan, of_source, flows, of_urls)
        taking = set() if take is None else set(take(run, identity))
        for entry in content["nodes"]:
            entry["reuse"] = entry["name"] in taking
            entry["asks_key"] = identity["nodes"][entry["name"]]["asks_key"]
        _write_json(run / layout.IDENTITY, identity)
    _write_json(run / layout.PLAN, content)
    places = {node.name: placed[environment_of(node)] for node in with_jobs}
    by_status = post_scripts.judged_by_status(plan, content, places, scheduler)
    for node in with_jobs:
        lines = submit.submit_lines(
            node,
            places[node.name],
            flows[node.name],
            code.files(run, node.name),
            checkpoints=node.name in checkpoints,
            judged_by_status=node.name in by_status,
            scheduler=scheduler,
        )
        files = NodeFiles(run, node.name)
        _write(files.submit, "\n".join(lines) + "\n")
        _write(files.held, submitfile.NOT_HELD)
    if around is None:
        write_lists(run, content)
        for node in with_jobs:
            _check_limits(run, node.name)
        write_archive(str(run / layout.RUNTIME))
    else:
        layout.link_or_copy(str(around / layout.RUNTIME), str(run / layout.RUNTIME))
        shutil.copytree(around / layout.CODE, run / layout.CODE, copy_function=layout.link_or_copy)
    keeps_jobs = post_scripts.keeps_jobs(plan)
    _write(run / layout.CONFIG, "\n".join(dag.config_lines(plan, keeps_jobs)) + "\n")
    _write(run / layout.LIST, dag.list_script(sys.executable), mode=0o700)
    _write(run / layout.POST, dag.post_script(sys.executable), mode=0o700)
    name = dag_name(plan) if around is None else layout.ROUND_DAG
    lines = dag.dag_lines(plan, around is not None, last, by_status)
    _write(run / name, "\n".join(lines) + "\n")
    _write_json(run / layout.RUN, _manifest(plan, tag, name))
    _write_rounds(plan, run, tag, placed, code, scheduler)


def _write_nodes(
    nodes: Iterable[Node],
    run: Path,
    flows: Mapping[str, FileFlow],
    code: _Code,
) -> set[str]:
    """Write the functions of nodes, their input files, and the requests of their chunks.

    Returns the nodes whose functions call `htdag.checkpoint`.
    """
    checkpoints = set()
    for node in nodes:
        flow = flows[node.name]
        for each in flow.inputs:
            if "at" in each:
                transfer.link(run, each["at"], each["path"])
        files = NodeFiles(run, node.name)
        _write(files.payload, code.payload(run, node.name))
        if calls_checkpoint(node):
            checkpoints.add(node.name)
        chunk_requests = requests.of_chunks(node)
        if chunk_requests:
            _write_json(files.requests, chunk_requests)
    return checkpoints


def _write_sources(plan: Plan, run: Path) -> dict[str, set[Any]]:
    """Write the items of sources, and return the classes that unpickling them needs."""
    classes: dict[str, set[Any]] = {}
    same: dict[bytes, bytes] = {}
    for node in plan.nodes:
        if node.round is None and node.input.source is not None:
            write_source(run, node)
            classes[node.input.stage] = node.input.source.classes
            same |= node.input.source.same
    for stored in plan.sources:
        write_stored_source(run, stored)
        classes[stored.stage] = stored.source.classes
        same |= stored.source.same
    if same:
        _write(run / layout.SAME, b"".join(pickle + item for pickle, item in same.items()))
    return classes


def _write_rounds(
    plan: Plan,
    run: Path,
    tag: str,
    placed: Mapping[Environment, Placed],
    code: _Code,
    scheduler: Scheduler,
) -> None:
    """Write the templates of the rounds of loops."""
    for node in plan.nodes:
        if node.round is not None:
            # DAGMan before version 24 refuses a DAG with a DIR that does not exist at its start.
            files = NodeFiles(run, node.name)
            os.symlink(os.path.basename(files.rounds), files.current)
            step = Path(files.step)
            _fill(node.round.plan, step, tag, placed, code, around=run, scheduler=scheduler)


def begin_loops(run: Path) -> None:
    """Make the first round of loops that depend on no other node."""
    plan = planfile.read(str(run))
    for node in plan["nodes"]:
        if node["mode"] == "loop" and not node["parents"]:
            prepare.prepare(str(run), plan, node)


def write_lists(run: Path, content: PlanContent) -> None:
    """Write the lists of jobs of all nodes whose layout is known before anything runs.

    Parameters
    ----------
    run : pathlib.Path
        The run directory.
    content : dict
        The content of its ``plan.json``.
    """
    plan = planfile.indexed(content)
    takes_over = any(node["reuse"] for node in plan["nodes"])
    for node in plan["nodes"]:
        # The files in its input, and what is done already, are known only at run time.
        carried = any(plan["by_name"][name]["carries_files"] for name in node["parents"])
        if node["reuse"]:
            for unit in lanes.units(node):
                # Otherwise the POST script of its last parent does this.
                if all(
                    progress.is_done(str(run), plan["by_name"][parent.node], parent.lane)
                    for parent in lanes.parents(plan, unit)
                ):
                    prepare.prepare(str(run), plan, node, lane=unit.lane)
        elif not node["dynamic"]:
            reading = inputs.Reading(str(run), plan, node, None)
            for unit in lanes.units(node):
                numbers = lanes.chunks(node, unit.lane, node["chunks"])
                jobs = ((number, 1, None) for number in numbers)
                prepare.write_list(str(run), node, jobs, reading, unit.lane)
                if carried or (takes_over and node["parents"]):
                    prepare.outdate(str(run), unit)


def _write_final(
    plan: Plan, run: Path, functions: Sequence[final.FinalFunction], pickled: bytes
) -> str:
    """Write the FINAL node and return its name."""
    name = final.node_name({node.name for node in plan.nodes})
    files = NodeFiles(run, name)
    make_folder(Path(files.logs))
    _write(files.payload, pickled)
    _write_json(files.program, final.program(functions))
    lines = final.submit_lines(name)
    _write(files.submit, "\n".join(lines) + "\n")
    _write(run / layout.FINAL, final.script(sys.executable), mode=0o700)
    return name


def _check_limits(run: Path, node: str) -> None:
    """Raise `OptionError` if the submit description had to omit limits on materialized jobs."""
    if submitfile.limits_left_out(str(run), node):
        raise OptionError(
            f"node {node!r}: its jobs read too many files each for max_materialize or max_idle, "
            f"with which HTCondor accepts at most {submitfile.LONGEST_MATERIALIZED:,} characters "
            f"of file names per job; give a smaller chunk_size (or fan_in), or omit these options"
        )


def _manifest(plan: Plan, tag: str, dag: str) -> Manifest:
    return {
        "format": PLAN_FORMAT,
        "htdag": VERSION,
        "python": list(sys.version_info[:3]),
        "tag": tag,
        "pipeline": plan.name,
        "dag": dag,
        "created": time.time(),
        "targets": list(plan.targets),
        "script": script_of_this_process(),
    }


def _write(path: str | Path, content: str | bytes, mode: int = 0o600) -> None:
    data = content.encode() if isinstance(content, str) else content
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _write_json(path: str | Path, content: Mapping[str, object]) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    # Paths that are not UTF-8 have lone surrogates, which JSON escapes in the same way.
    _write(path, text.encode("utf-8", "backslashreplace"))
