"""Repeat what a job did with one item in this process, with its true input and functions."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from htdag.common.text import visible
from htdag.common.warn import say
from htdag.errors import HtdagError, UsageError
from htdag.observe import item_errors
from htdag.run.directory import RunDirectory
from htdag.run.locate import Place, find, in_folder
from htdag.runtime import layout
from htdag.runtime.api.context import Cursor
from htdag.runtime.code import image
from htdag.runtime.data import chunkfile, keyed, views
from htdag.runtime.files import file_references, paths
from htdag.runtime.job import compute, describe, shorten, workdir
from htdag.runtime.job.program import chain, keywords_of
from htdag.runtime.job.values import MISSING
from htdag.runtime.task import Job

if TYPE_CHECKING:
    from htdag.runtime.formats.image import Functions
    from htdag.runtime.formats.plan import Manifest, Plan
    from htdag.runtime.formats.task import OperationEntry, OutputEntry, Program

Wrap = Callable[[Any], Any]


@dataclass
class Replay:
    """The outcome of repeating one item.

    Attributes
    ----------
    stage : str
        The stage up to which the item was repeated.
    key : str
        The key of the node's item.
    item : object
        Its value; for a reduce, the last value that was read.
    steps : list of (str, str, object)
        For each call of a stage's function, the stage, the key and the returned value.
    error : BaseException or None
        The exception, if there was one.
    failed_in : str
        The stage that raised it; "" if there was none.
    """

    stage: str
    key: str
    item: Any = None
    steps: list[tuple[str, str, Any]] = field(default_factory=list)
    error: BaseException | None = None
    failed_in: str = ""

    @property
    def results(self) -> list[Any]:
        """The values that the stage itself returned: usually one, none if it failed."""
        return [value for stage, _, value in self.steps if stage == self.stage]

    def user_trace(self) -> TracebackType | None:
        """Return the traceback of the error, from the user's first frame on."""
        if self.error is None:
            return None
        return describe.first_of_user(self.error) or self.error.__traceback__

    def traceback(self) -> str:
        """Return the traceback of the error as Python prints it; "" if there is no error."""
        if self.error is None:
            return ""
        lines = traceback.format_exception(type(self.error), self.error, self.user_trace())
        return "".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the outcome with short texts for values, for JSON."""
        return {
            "stage": self.stage,
            "key": self.key,
            "item": shorten.short(self.item),
            "steps": [
                {"stage": stage, "key": key, "returned": shorten.short(value)}
                for stage, key, value in self.steps
            ],
            "error": None if self.error is None else type(self.error).__name__,
            "message": None if self.error is None else str(self.error),
            "failed_in": self.failed_in,
            "traceback": self.traceback(),
        }

    def __str__(self) -> str:
        lines = [f"{self.stage}, item {self.key}", f"  given: {shorten.short(self.item)}"]
        lines += [
            f"  {stage}{'' if key == self.key else ' ' + key} returned: {shorten.short(value)}"
            for stage, key, value in self.steps
        ]
        if self.error is not None:
            kind = type(self.error).__name__
            message = shorten.cut(str(self.error).partition("\n")[0], shorten.LONGEST)
            lines.append(f"  {self.failed_in} raised: {kind}: {message}")
        return visible("\n".join(lines))


def _content(modules: image.Image, path: str) -> Functions:
    """Return the functions of a node."""
    with open(path, "rb", opener=layout.unblocked) as file:
        data = file.read()
    try:
        return modules.loads(data)
    except (pickle.UnpicklingError, EOFError, ValueError, LookupError) as error:
        problem = f"it has no functions ({type(error).__name__})"
        raise layout.DamagedFile(os.path.abspath(path), problem) from error


def replay(
    run: Path,
    plan: Plan,
    stage: str,
    key: str,
    wrap: Wrap | None = None,
    inspect: Callable[[Replay], None] | None = None,
) -> Replay:
    """Repeat an item up to a stage, in a scratch directory, which is removed afterwards.

    Parameters
    ----------
    run : pathlib.Path
        The run directory.
    plan : dict
        Its plan.
    stage, key : str
        The item.
    wrap : callable, optional
        Takes the stage's function and returns the function to call instead.
    inspect : callable, optional
        Called with the outcome while the scratch directory still exists.

    Returns
    -------
    Replay
        The outcome, with the exception if a function raised one.
    """
    _check_python(run)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="htdag-fetched-"))
        # Files that functions return stay where they are.
        site = file_references.Here(
            os.path.abspath(run), folder, frozenset(), lambda path: (path, None)
        )
        stack.enter_context(paths.entered(site))
        with in_folder(run):
            place = find(run, plan, stage, key)
            # With the names of files as from anywhere, since it is done again in a directory aside.
            place = replace(place, job=place.job.at(os.path.abspath(run)))
            job = place.job
            modules = _image(run)
            stack.enter_context(modules.entered())
            content = _content(modules, job.payload)
            bound = chunkfile.bound_values(job.description["binds"])
        done = Replay(stage, place.key or key)
        if job.program["mode"] == "reduce":
            act = _reduction(job, content, bound, done, wrap)
        else:
            act = _chained(place, content, bound, done, wrap)
        stack.enter_context(_scratch())
        workdir.link_inputs(job, site, os.getcwd())
        try:
            act()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            done.error = error
        if inspect is not None:
            inspect(done)
    return done


def _image(run: Path) -> image.Image:
    try:
        return image.Image.read(os.path.abspath(run))
    except FileNotFoundError:
        raise HtdagError(
            "this run was submitted by an older htdag, and only that one can repeat its items"
        ) from None


def _check_python(run: Path) -> None:
    manifest: Manifest = layout.read_json(str(run / layout.RUN), "python")
    version = manifest["python"]
    if list(sys.version_info[:2]) != version[:2]:
        raise HtdagError(
            f"the functions of this run were pickled by Python {version[0]}.{version[1]}, and this "
            f"is {sys.version.split()[0]}: use the former"
        )


@contextlib.contextmanager
def _scratch() -> Iterator[None]:
    name = "_CONDOR_SCRATCH_DIR"
    before = os.environ.get(name)
    with tempfile.TemporaryDirectory(prefix="htdag-debug-") as folder, in_folder(folder):
        os.environ[name] = folder
        try:
            yield
        finally:
            os.environ.pop(name)
            if before is not None:
                os.environ[name] = before


def _chained(
    place: Place,
    content: Functions,
    bound: dict[str, Any],
    done: Replay,
    wrap: Wrap | None,
) -> Callable[[], None]:
    """Return a function that passes the item through the stages of its node, up to the given one.

    For a stage that combines items, it also passes the earlier items of the chunk, as the job does.
    """
    program, functions = place.job.program, content["functions"]
    combine = program["combine"]
    combining = None if combine is None else functions[combine]
    operations, output = _up_to(program, done.stage)
    indices = [each["function"] for each in operations if each["stage"] == done.stage]
    if output is not None:
        roles = (output["combine"], output["merge"], output["key"])
        indices += [role for role in roles if role is not None]
    if wrap is not None:
        for index in indices:
            functions[index] = wrap(functions[index])
    cursor = Cursor()
    sinks: dict[int, list[Any]] = {
        number: [_StepSink(done, operation["stage"])] for number, operation in enumerate(operations)
    }
    every = [sink for group in sinks.values() for sink in group]
    if output is not None:
        every.append(compute.make_sink(output, _MemoryWriter(done), content, cursor))
        sinks.setdefault(output["after"], []).append(every[-1])
    emit = chain(operations, functions, bound, sinks, cursor)

    def act() -> None:
        view = views.open_view(place.job.description, combining)

        def load(stored: Any) -> Any:
            done.item = view.load(stored)
            return done.item

        items = itertools.islice(view.items, place.sequence + 1)
        numbers = range(0 if output is not None else place.sequence, place.sequence + 1)
        watcher = _Recorder(done, cursor)
        stage = program["stages"][0]
        noting = views.View(items, load)
        compute.each_item(noting, emit, every, cursor, stage, watcher, (), numbers)
        try:
            for sink in every:
                sink.close()
        except BaseException:
            watcher.note()
            raise

    return act


class _Recorder:
    """Ends it all at the first error, and notes whose it is."""

    def __init__(self, done: Replay, cursor: Cursor) -> None:
        self._done = done
        self._cursor = cursor

    def begin(self, sequence: int, key: str) -> None:
        del sequence, key
        self._done.steps.clear()

    def check(self) -> None:
        """What functions are lent is not looked after here."""

    def fail(
        self, sequence: int, key: str, error: BaseException, load: Callable[[], Any]
    ) -> NoReturn:
        del sequence, key, load
        self.note()
        raise error

    def end(self, sequence: int, trace: str) -> None:
        """Nothing is written."""

    def note(self) -> None:
        """Note at which stage and item it is."""
        self._done.failed_in, self._done.key = self._cursor.stage, self._cursor.key


def _up_to(program: Program, stage: str) -> tuple[list[OperationEntry], OutputEntry | None]:
    """Return the operations that a stage needs, and its output if it combines items."""
    operations = program["operations"]
    output: OutputEntry | None = None
    last = next((n for n, each in enumerate(operations) if each["stage"] == stage), -1)
    if last < 0:
        outputs = [each for each in program["outputs"] if each["stage"] == stage]
        if outputs and outputs[0]["kind"] != "items":
            output = outputs[0].copy()
            last = output["after"]
    needed = []
    while last >= 0:
        needed.append(last)
        last = operations[last]["after"]
    needed.reverse()
    if output is not None:
        output["after"] = len(needed) - 1
    kept: list[OperationEntry] = [
        {**operations[each], "after": number - 1} for number, each in enumerate(needed)
    ]
    return kept, output


class _StepSink:
    """A sink that records the values that an operation returns."""

    keeps = False

    def __init__(self, done: Replay, stage: str) -> None:
        self._done = done
        self._stage = stage

    def take(self, key: str, value: Any) -> None:
        self._done.steps.append((self._stage, key, value))

    def end(self, sequence: int) -> None:
        """Do nothing at the end of an item."""

    def close(self) -> None:
        """Do nothing at the end of all items."""


class _MemoryWriter:
    """A writer for an output that combines values, which keeps them in memory."""

    partition = b""

    def __init__(self, done: Replay) -> None:
        self._done = done
        self._values: list[tuple[str, Any]] = []

    @property
    def mark(self) -> int:
        return len(self._values)

    def rewind(self, mark: int) -> None:
        del self._values[mark:]

    def value(
        self, key: str, payload: bytes, buffers: Sequence[Any] = (), files: Sequence[str] = ()
    ) -> None:
        del files
        packed = bool(self.partition) or not payload.startswith(b"\x80")
        value = keyed.value(payload) if packed else pickle.loads(payload, buffers=buffers)
        self._values.append((key, value))

    def end(self, first: int, last: int) -> None:
        del first, last
        earlier = [step for step in self._done.steps if step[0] != self._done.stage]
        self._done.steps[:] = earlier + [(self._done.stage, key, v) for key, v in self._values]

    def abandon(self) -> None:
        """Do nothing: an error ends the replay."""

    def close(self, sync: bool = False) -> int:
        return 0

    def discard(self) -> None:
        """Do nothing: there is no file."""


def _reduction(
    job: Job,
    content: Functions,
    bound: dict[str, Any],
    done: Replay,
    wrap: Wrap | None,
) -> Callable[[], None]:
    """Return a function that combines all inputs of a reduce, one by one."""
    reduction = job.program["reduction"]
    function = content["functions"][reduction["function"]]
    if wrap is not None:
        function = wrap(function)
    initial: Any = MISSING
    if reduction["initial"] is not None:
        initial = content["initials"][reduction["initial"]]

    def items() -> Iterator[Any]:
        for frame in chunkfile.frames(job.description["streams"][0]["parts"]):
            done.key, done.item = frame.key, chunkfile.value(frame)
            yield done.item

    def act() -> None:
        done.failed_in = done.stage
        keywords = keywords_of(reduction["bind"], bound) or dict
        total = compute.combined(reduction, function, initial, keywords, items())
        done.failed_in = ""
        if total is not MISSING:
            done.steps.append((done.stage, "0", total))

    return act


class Debugger:
    """The part of a run that repeats items in this process."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run

    def debug(
        self,
        stage: str,
        key: str | int,
        *,
        pdb: bool | None = None,
        step: bool = False,
        round: int | None = None,
    ) -> Replay:
        """Repeat an item in this process, with its true input and function."""
        self._run.stage(stage)
        key = str(key)
        if not key:
            raise UsageError("the key of an item is not empty")
        for inner in self._run.rounds_with(stage, round):
            return Debugger(inner).debug(stage, key, pdb=pdb, step=step)
        interactive = sys.stdin.isatty() if pdb is None else pdb
        if any(
            error.key == key and error.type == "ProcessDied"
            for error in item_errors.errors(self._run.path, self._run.plan, stage, streams=False)
        ):
            say(f"htdag: item {key} ended its process; it may end this one, too")
        return replay(
            self._run.path,
            self._run.plan,
            stage,
            key,
            wrap=_stepped if step else None,
            inspect=_post_mortem if interactive else None,
        )


def _stepped(function: Callable[..., Any]) -> Callable[..., Any]:
    from pdb import Pdb

    def call(*arguments: Any, **keywords: Any) -> Any:
        return Pdb().runcall(function, *arguments, **keywords)

    return call


def _post_mortem(done: Replay) -> None:
    if done.error is None:
        return
    import pdb

    sys.stdout.write(f"{done}\n")
    pdb.post_mortem(done.user_trace())
