"""The errors of a run, from the records of its jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from htdag.common.text import visible
from htdag.observe.outcomes import Sources
from htdag.runtime import layout, planfile
from htdag.runtime.dag import delivery
from htdag.runtime.data import recordfile
from htdag.runtime.job.environment import MISMATCHES
from htdag.runtime.layout import NodeFiles
from htdag.runtime.planfile import RunPlan

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import NodeEntry, Plan
    from htdag.runtime.formats.record import RecordContext, RecordError, RecordStart, RecordStreams

_NOT_DELIVERED = "NotDelivered"
_PRINTED = 4000  # bytes of what an item printed, at most
_FRAME = re.compile(r'  File "(.*)", line (\d+), in (.*)')


@dataclass(frozen=True)
class FrameLocals:
    """The variables of one frame of a traceback, as short texts.

    Attributes
    ----------
    file, function : str
        The file and function of the frame.
    line : int
        The line that was executed.
    names : dict of str to str
        The variables. Long values are cut, and those of names such as ``password`` are hidden.
    """

    file: str
    line: int
    function: str
    names: dict[str, str]


@dataclass(frozen=True)
class ItemError:
    """The reason why one item, or a whole job, has no result.

    Attributes
    ----------
    stage : str
        The stage whose function failed.
    key : str or None
        The key of the item; None if the whole job failed.
    type : str
        The exception's type, such as ``"ValueError"``, or one of htdag's own words:
        ``ProcessDied``, ``JobEnded``, ``NotDelivered`` (returned files could not be moved to their
        destination), and for environments that do not fit ``PythonVersionMismatch``,
        ``PackagesMissing``, ``PythonNotFound``, ``EnvironmentNotReady``.
    message : str
        The exception's message.
    traceback : str
        The traceback, from the user's first frame on; "" if there is none.
    host : str
        The machine it ran on.
    python : str
        The version and path of the Python it ran with.
    node, chunk, attempt
        The job: its DAGMan node, the number of its chunk, and the attempt.
    stdout, stderr : str
        The output of the item (at most the last 4,000 characters).
    item : str
        The node's input, as a short text; "" if unknown.
    argument : str
        The stage's own input, if that is not the node's.
    locals : tuple of FrameLocals
        The variables of the user's frames, outermost first. If a job has many errors with the same
        traceback, only the first three have them.
    time : float or None
        When it happened, in seconds since the epoch.
    packages : dict of str to str
        The versions of the installed packages that the job had imported.
    scratch : tuple of str
        The files in the job's scratch directory at its first error, with their sizes.
    system : str
        The system and kernel of the machine.
    differs : str
        Packages whose versions differ from those where the script ran; "" if none are known.
    rounds : tuple of int
        The round of the loop in which it happened; for nested loops the rounds of all, outermost
        first; () outside of loops.
    """

    stage: str
    key: str | None
    type: str
    message: str
    traceback: str
    host: str
    python: str
    node: str
    chunk: int
    attempt: int
    stdout: str = ""
    stderr: str = ""
    differs: str = ""
    item: str = ""
    argument: str = ""
    locals: tuple[FrameLocals, ...] = ()
    time: float | None = None
    packages: dict[str, str] = field(default_factory=dict, hash=False)
    scratch: tuple[str, ...] = ()
    system: str = ""
    rounds: tuple[int, ...] = ()
    _loops: tuple[str, ...] = field(default=(), repr=False, compare=False)  # outermost first
    _sequence: int | None = field(default=None, repr=False, compare=False)
    _sources: Sources | None = field(default=None, repr=False, compare=False)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print it as text in IPython and notebooks."""
        printer.text(str(self))

    def __str__(self) -> str:
        if self.type == _NOT_DELIVERED:
            return visible(f"{self.stage}: {self.message}")
        item = "a whole job" if self.key is None else f"item {self.key}"
        differs = f" [{self.differs}]" if self.differs else ""
        where = "".join(f"round {number}, " for number in self.rounds)
        text = f"{self.stage}, {where}{item} ({self.host}): {self.type}: {self.message}{differs}"
        return visible(text)

    @property
    def source(self) -> Any:
        """The source item that it comes from (for files the path); None if there is none.

        It is read from the run's files, so this needs the modules of its value.
        """
        if self._sources is None or self.key is None:
            return None
        return self._sources.of(self.node, self.key)

    def as_dict(self) -> dict[str, Any]:
        """Return all fields, as values that JSON can represent."""
        content = {
            entry.name: getattr(self, entry.name)
            for entry in fields(self)
            if not entry.name.startswith("_")
        }
        content["locals"] = [vars(frame) for frame in self.locals]
        content["scratch"] = list(self.scratch)
        content["rounds"] = list(self.rounds)
        return content

    def traceback_with_locals(self) -> str:
        """Return the traceback with the variables of each frame below it."""
        variables = {(frame.file, frame.line, frame.function): frame.names for frame in self.locals}
        lines: list[str] = []
        pending: dict[str, str] = {}
        for line in self.traceback.splitlines():
            match = _FRAME.match(line)
            if match or not line.startswith("    "):
                lines += [f"      {name} = {text}" for name, text in pending.items()]
                pending = {}
            if match:
                pending = variables.pop((match[1], int(match[2]), match[3]), {})
            lines.append(line)
        lines += [f"      {name} = {text}" for name, text in pending.items()]
        return "\n".join(lines)


def errors(
    run: Path, plan: Plan, stage: str | None = None, *, streams: bool = True
) -> Iterator[ItemError]:
    """Yield the errors of the last attempt of each chunk, in the order of the pipeline.

    Parameters
    ----------
    run : pathlib.Path
        The run directory.
    plan : dict
        Its plan.
    stage : str, optional
        Only the errors of this stage.
    streams : bool
        Read also the output of items.
    """
    sources: dict[str, Sources] = {}
    for place, node in planfile.walk_nodes(RunPlan(str(run), plan)):
        wanted = None if stage in place.loops else stage
        if wanted not in (None, *node["stages"], *node["outputs"]):
            continue
        if place.folder not in sources:
            sources[place.folder] = Sources(Path(place.folder), place.plan)
        for error in _node_errors(place, node, sources[place.folder], streams):
            if wanted in (None, error.stage):
                yield error


def _node_errors(
    place: RunPlan, node: NodeEntry, sources: Sources, streams: bool
) -> Iterator[ItemError]:
    """Yield the errors of a node, those of environments that do not fit once for all jobs."""
    files = NodeFiles(place.folder, node["name"])
    unfit: dict[str, list[ItemError]] = {}
    for chunk, attempts in sorted(files.attempts().items()):
        for error in chunk_errors(place, node, chunk, attempts[-1], sources, streams=streams):
            if error.type in MISMATCHES:
                unfit.setdefault(error.type, []).append(error)
            else:
                yield error
    for alike in unfit.values():
        yield _merged(alike)
    problem = delivery.problem_of(place.folder, node)
    if problem:
        name = (node["stages"] or node["outputs"])[-1]
        yield ItemError(name, None, _NOT_DELIVERED, problem, "", "", "", node["name"], 0, 0)


def _merged(alike: list[ItemError]) -> ItemError:
    """Return one error for all jobs of a node whose environment does not fit."""
    first = alike[0]
    if len(alike) == 1:
        return first
    hosts = sorted({error.host for error in alike})
    where = f"on {hosts[0]}" if len(hosts) == 1 else f"on {len(hosts)} machines"
    message = f"{first.message} (the same in {len(alike)} jobs of this stage, {where})"
    return replace(first, message=message)


def differences(run: Path, plan: Plan) -> str:
    """Return a line about packages whose versions differ in jobs; "" if there are none."""
    versions: dict[str, set[str]] = {}
    for node in plan["nodes"]:
        if not node.get("compares"):
            continue
        files = NodeFiles(run, node["name"])
        for chunk, attempts in files.attempts().items():
            for line in recordfile.lines(files.attempt(chunk, attempts[-1]).record):
                for name, remote, local in line.get("differs", ()):
                    versions.setdefault(f"{name} {local} here", set()).add(remote)
    return "; ".join(
        f"{what}, {' and '.join(sorted(remote))} in jobs"
        for what, remote in sorted(versions.items())
    )


def chunk_errors(
    place: RunPlan,
    node: NodeEntry,
    chunk: int,
    attempt: int,
    sources: Sources | None = None,
    *,
    streams: bool = True,
) -> Iterator[ItemError]:
    """Yield the errors of one job."""
    job = NodeFiles(place.folder, node["name"]).attempt(chunk, attempt)
    end = recordfile.end(job.record)
    if end is not None and end["remaining"] == 0:
        return  # the rest of the record need not be read
    entries: list[RecordError] = []
    start: RecordStart | None = None
    context: RecordContext = {}
    printed: dict[int | None, RecordStreams] = {}
    texts: dict[str, str] = {}
    differs: list[tuple[str, str, str]] = []
    for line in recordfile.lines(job.record):
        start = line.get("start", start)
        context = line.get("context", context)
        end = line.get("end", end)
        differs = line.get("differs", differs)
        if "error" in line:
            entries.append(line["error"])
        elif streams and "streams" in line:
            printed[line["streams"]["sequence"]] = line["streams"]
    if end is not None and end.get("killed") and end["remaining"] != 0:
        entries.append(
            {
                "stage": (node["stages"] or node["outputs"])[0],
                "key": None,
                "sequence": None,
                "type": "JobEnded",
                "message": "the job was removed, evicted or killed before it was done; its "
                "finished items are kept",
                "traceback": "",
            }
        )
    out, err = Path(job.stdout), Path(job.stderr)
    for error in entries:
        spans = printed.get(error["sequence"])
        yield ItemError(
            stage=error["stage"],
            key=error["key"],
            type=error["type"],
            message=error["message"],
            traceback=recordfile.whole_traceback(error["traceback"], texts),
            host=start["host"] if start else "an unknown machine",
            python=start["python"] if start else "",
            node=node["name"],
            chunk=chunk,
            attempt=attempt,
            stdout=_tail(out, spans and spans["out"]),
            stderr=_tail(err, spans and spans["err"]),
            item=error.get("item", ""),
            argument=error.get("argument", ""),
            locals=tuple(FrameLocals(**frame) for frame in error.get("locals", ())),
            time=error.get("time"),
            packages=context.get("packages", {}),
            scratch=tuple(context.get("scratch") or ()),
            system=context.get("system", ""),
            rounds=place.rounds,
            _loops=place.loops,
            _sequence=error["sequence"],
            _sources=sources,
            differs="; ".join(
                f"{name} {remote} there, {local} here" for name, remote, local in differs
            ),
        )


def with_streams(run: Path, plan: Plan, errors: Sequence[ItemError]) -> list[ItemError]:
    """Return errors that were read without what their items printed, each with that.

    The record of each job is read once, however many errors it has.
    """
    jobs: dict[tuple[Any, ...], dict[tuple[Any, ...], int]] = {}
    for position, error in enumerate(errors):
        job = (error._loops, error.rounds, error.node, error.chunk, error.attempt)
        jobs.setdefault(job, {})[error._sequence, error.key, error.type] = position
    result = list(errors)
    for wanted in jobs.values():
        first = errors[min(wanted.values())]
        place = RunPlan(str(run), plan)
        for loop, number in zip(first._loops, first.rounds, strict=True):
            place = place.round_of(loop, number)
        node = place.plan["by_name"][first.node]
        for other in chunk_errors(place, node, first.chunk, first.attempt, first._sources):
            position = wanted.get((other._sequence, other.key, other.type), -1)
            if position >= 0:
                result[position] = other
    return result


def _tail(path: Path, span: list[int] | None) -> str:
    if span is None:
        return ""
    start, end = max(span[0], span[1] - _PRINTED), span[1]
    try:
        with open(path, "rb", opener=layout.unblocked) as file:
            file.seek(start)
            return file.read(end - start).decode(errors="replace")
    except FileNotFoundError:
        return ""
