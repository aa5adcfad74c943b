"""A run in the place of an earlier one with the same tag, with all that is still right of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from htdag.backends import Backend
from htdag.backends.base import RunState
from htdag.checks import validation
from htdag.common.text import counted
from htdag.common.warn import say
from htdag.compile import write_run
from htdag.compile.final import FinalFunction
from htdag.errors import DirectoryError, RunNotFound, StageNameError, UsageError
from htdag.options import resume_request
from htdag.plan import Plan
from htdag.plan.layouts import Layouts, layouts_of
from htdag.reuse import cache
from htdag.reuse.compare import EVERY_STAGE
from htdag.reuse.swap import alone, read_identity, remove_quietly, restore, swap, swap_back
from htdag.reuse.takeover import Takeover, is_as_before
from htdag.reuse.verdicts import Verdict, verdicts
from htdag.run.directory import RunDirectory
from htdag.runtime import layout, planfile
from htdag.runtime.dag import delivery, progress


def earlier(directory: Path, again: bool) -> RunDirectory | None:
    """Return the run of a directory that is to be gone on with; None where there is none.

    Raises `StageNameError` where there is one and nobody said to go on with it (`again`), and
    `RunActive` where it has not ended.
    """
    restore(directory)
    if not directory.exists() or not any(directory.iterdir()):
        return None
    if not again:
        raise _taken(directory)
    old = RunDirectory(directory)
    old.require_ended("gone on with")
    return old


def _taken(directory: Path) -> StageNameError:
    tag = directory.name
    return StageNameError(
        f"there is a run with the tag {tag!r} already; take another tag, or submit with "
        f"resume=True to go on from what it has finished, or htdag.load({tag!r}) to look at "
        f"it, or remove its directory {str(directory)!r}"
    )


def kept_stages(keep_finished: Collection[str] | bool) -> tuple[str, ...]:
    """Return the names of the stages whose finished items are to be kept."""
    if isinstance(keep_finished, bool):
        return (EVERY_STAGE,) if keep_finished else ()
    if isinstance(keep_finished, str):
        raise UsageError(
            f"keep_finished={keep_finished!r}: it takes names of stages, such as "
            f"[{keep_finished!r}], or True"
        )
    return tuple(validation.texts(keep_finished, "keep_finished"))


@dataclass(frozen=True)
class Asked:
    """What is to become of an earlier run, by the arguments of a call and the environment.

    Attributes
    ----------
    tag : str or None
        The tag.
    again : bool
        Whether an earlier run with it is to be gone on with.
    keep_finished : tuple of str
        Stages whose finished items are to be kept.
    wanted : _resuming.Wanted or None
        What the environment says, if it means this pipeline.
    """

    tag: str | None
    again: bool
    keep_finished: tuple[str, ...]
    wanted: resume_request.Wanted | None

    def taken(self) -> None:
        """Note that the run was started."""
        if self.wanted is not None:
            self.wanted.take()


def asked(
    pipeline: str, tag: str | None, resume: bool, keep_finished: Collection[str] | bool
) -> Asked:
    """Return what is to become of an earlier run, or raise `UsageError`."""
    kept = kept_stages(keep_finished)
    wanted = resume_request.wanted()
    again = resume or wanted is not None
    if resume and tag is None and wanted is None:
        raise UsageError("resume=True needs the tag of the run to go on with: submit(tag=...)")
    if kept and not again:
        raise UsageError("keep_finished=... is about an earlier run; it needs resume=True")
    if wanted is None or not wanted.means(pipeline, tag):
        return Asked(tag, again, kept, None)
    return Asked(wanted.tag, True, kept or wanted.keep_finished, wanted)


def place(old: RunDirectory | None, on: str) -> str:
    """Return where to go on with a run: where it was, if nobody says otherwise."""
    if old is None or on != "auto":
        return on
    try:
        return old.backend_name
    except RunNotFound:
        return on


def ticket(old: RunDirectory | None, on: str) -> dict[str, Any] | None:
    """Return where a run was submitted, if it is gone on with there."""
    if old is None or on != "auto":
        return None
    try:
        found: dict[str, Any] = old.ticket()["ticket"]
    except RunNotFound:
        return None
    return found


def layouts(old: RunDirectory) -> Layouts:
    """Return how a run had laid out its nodes."""
    return layouts_of(old.plan)


def aside(directory: Path, what: str) -> Path:
    """Return where a run directory is written before it takes its place."""
    return directory.with_name(f".{directory.name}.{os.getpid()}.{what}")


def start_new(
    directory: Path,
    tag: str,
    plan: Plan,
    backend: Backend,
    functions: Sequence[FinalFunction] = (),
) -> None:
    """Write and start a run, with what the cache has."""
    takeover = Takeover()
    try:
        write_run(plan, directory, tag, takeover, functions, backend.scheduler())
    except DirectoryError:
        if (directory / layout.RUN).exists():  # another process was faster
            raise _taken(directory) from None
        raise
    _mark(directory)
    if takeover.matches:
        content = planfile.read(str(directory))
        _say(verdicts(directory, content, takeover.matches), only_reused=True)
    _start(directory, backend)


def _start(directory: Path, backend: Backend) -> None:
    """Submit a run directory that was just written; where that fails, remove it again."""
    run = RunDirectory(directory)
    try:
        with alone(directory):  # one that is not submitted may be cleaned up
            run.submit(backend)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def start_again(
    old: RunDirectory,
    plan: Plan,
    backend: Backend,
    keep_finished: Collection[str] = (),
    before: dict[str, Any] | None = None,
    functions: Sequence[FinalFunction] = (),
) -> None:
    """Write a run, with what an earlier one has finished, in the place of that one; start it.

    ``before`` is where that one was submitted, if the new one is to go there too.

    Where nothing is left to compute, the earlier run stays as it is.
    """
    with alone(old.path):
        _start_again(old, plan, backend, keep_finished, before, functions)


def _start_again(
    old: RunDirectory,
    plan: Plan,
    backend: Backend,
    keep_finished: Collection[str],
    before: dict[str, Any] | None,
    functions: Sequence[FinalFunction],
) -> None:
    old.require_ended("gone on with")
    directory = old.path
    new = aside(directory, "again")
    takeover = Takeover(directory, keep_finished)
    write_run(plan, new, old.tag, takeover, functions, backend.scheduler(before))
    try:
        content = planfile.read(str(new))
        found = verdicts(new, content, takeover.matches)
        if _is_done(old) and is_as_before(directory, new):
            _tell(f"run {old.tag!r} is done already, and nothing of it changed")
            _deliver_again(old)
            return
        _say(found)
        _mark(new)
        put_in_place(new, directory, lambda: RunDirectory(directory).submit(backend, before))
    finally:
        remove_quietly(new)


def _deliver_again(run: RunDirectory) -> None:
    """Put files that a finished run returned where the user wants them, if they are not there."""
    path = str(run.path)
    for node in run.plan["nodes"]:
        if not node["delivers"]:
            continue
        try:
            put = delivery.deliver_again(path, node, progress.examine(path, node))
        except OSError as error:
            raise DirectoryError(
                f"run {run.tag!r} is done, but files that {node['name']!r} returned are not where "
                f"they are wanted any more, and cannot be put there again: {error}"
            ) from error
        if put:
            more = f" and {counted(len(put) - 1, 'other file')}" if len(put) > 1 else ""
            _tell(f"{node['name']}: put again, as the run has it: {put[0]}{more}")


def _is_done(run: RunDirectory) -> bool:
    try:
        return run.state is RunState.DONE
    except RunNotFound:
        return False  # it was written, but never submitted


def put_in_place(new: Path, directory: Path, submit: Callable[[], None]) -> None:
    """Put a run directory in the place of an old one and submit it; if that fails, undo it."""
    os.sync()
    swap(new, directory)
    try:
        with alone(directory):
            submit()
    except BaseException:
        swap_back(directory)
        raise


def compare(old: RunDirectory, plan: Plan, keep_finished: Collection[str] = ()) -> list[Verdict]:
    """Return what `start_again` would take over, and why not the rest; nothing is changed."""
    with alone(old.path):
        old.require_ended("compared")
        new = aside(old.path, "compared")
        takeover = Takeover(old.path, keep_finished)
        write_run(plan, new, old.tag, takeover)
        try:
            return verdicts(new, planfile.read(str(new)), takeover.matches)
        finally:
            remove_quietly(new)


def _mark(run: Path) -> None:
    identity = read_identity(run)
    if identity is not None:
        cache.mark(run, identity)


def _say(found: list[Verdict], only_reused: bool = False) -> None:
    for verdict in found:
        if not only_reused or verdict.what.startswith("reuse"):
            _tell(str(verdict))


def _tell(text: str) -> None:
    say(f"htdag: {text}")
