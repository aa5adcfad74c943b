"""Submit a run in place of an earlier one with the same tag, and reuse what is still valid."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from htdag.backends import Backend
from htdag.backends.base import RunState
from htdag.backends.tickets import Ticket
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
from htdag.reuse.decisions import ReuseDecision, decisions
from htdag.reuse.swap import (
    locked,
    read_identity,
    remove_quietly,
    restore,
    swap,
    swap_back,
    temporary_path,
)
from htdag.reuse.takeover import Takeover, is_as_before
from htdag.run.directory import RunDirectory
from htdag.runtime import layout, planfile
from htdag.runtime.dag import delivery, progress


def earlier_run(directory: Path, resume: bool) -> RunDirectory | None:
    """Return the run of a directory to be resumed; None if there is none.

    Raises `StageNameError` if there is one but it is not to be resumed, and `RunActive` if it has
    not ended.
    """
    restore(directory)
    if not directory.exists() or not any(directory.iterdir()):
        return None
    if not resume:
        raise _tag_error(directory)
    old = RunDirectory(directory)
    old.require_ended("resumed")
    return old


def _tag_error(directory: Path) -> StageNameError:
    tag = directory.name
    return StageNameError(
        f"there is a run with the tag {tag!r} already; choose another tag, submit with "
        f"resume=True to continue from what it has finished, use htdag.load({tag!r}) to inspect "
        f"it, or remove its directory {str(directory)!r}"
    )


def kept_stages(keep_finished: Collection[str] | bool) -> tuple[str, ...]:
    """Return the names of the stages whose finished items are kept."""
    if isinstance(keep_finished, bool):
        return (EVERY_STAGE,) if keep_finished else ()
    if isinstance(keep_finished, str):
        raise UsageError(
            f"keep_finished={keep_finished!r}: it takes names of stages, such as "
            f"[{keep_finished!r}], or True"
        )
    return tuple(validation.texts(keep_finished, "keep_finished"))


@dataclass(frozen=True)
class ResumeRequest:
    """The request to resume an earlier run, from the arguments of a call and the environment.

    Attributes
    ----------
    tag : str or None
        The tag.
    resume : bool
        Whether to resume an earlier run with this tag.
    keep_finished : tuple of str
        Stages whose finished items are kept.
    script_request : resume_request.ScriptRequest or None
        The request in the environment, if it is for this pipeline.
    """

    tag: str | None
    resume: bool
    keep_finished: tuple[str, ...]
    script_request: resume_request.ScriptRequest | None

    def acknowledge(self) -> None:
        """Report that the run was started."""
        if self.script_request is not None:
            self.script_request.acknowledge()


def request_of(
    pipeline: str, tag: str | None, resume: bool, keep_finished: Collection[str] | bool
) -> ResumeRequest:
    """Return the request to resume an earlier run, or raise `UsageError`."""
    stages = kept_stages(keep_finished)
    request = resume_request.from_environment()
    if resume and tag is None and request is None:
        raise UsageError("resume=True needs the tag of the run to resume: submit(tag=...)")
    if stages and not resume and request is None:
        raise UsageError("keep_finished=... is for an earlier run; it needs resume=True")
    if request is None or not request.applies_to(pipeline, tag):
        return ResumeRequest(tag, resume or request is not None, stages, None)
    return ResumeRequest(request.tag, True, stages or request.keep_finished, request)


def resumed_backend(old: RunDirectory | None, on: str) -> str:
    """Return the backend to resume a run on: its own one, unless the user names another."""
    if old is None or on != "auto":
        return on
    try:
        return old.backend_name
    except RunNotFound:
        return on


def resumed_ticket(old: RunDirectory | None, on: str) -> Ticket | None:
    """Return the ticket of a run that is resumed where it was submitted; else None."""
    if old is None or on != "auto":
        return None
    try:
        return old.ticket()["ticket"]
    except RunNotFound:
        return None


def layouts(old: RunDirectory) -> Layouts:
    """Return the layouts of a run's nodes."""
    return layouts_of(old.plan)


def start_new(
    directory: Path,
    tag: str,
    plan: Plan,
    backend: Backend,
    functions: Sequence[FinalFunction] = (),
) -> None:
    """Write and start a run, with results from the cache."""
    takeover = Takeover()
    try:
        write_run(plan, directory, tag, takeover, functions, backend.scheduler())
    except DirectoryError:
        if (directory / layout.RUN).exists():  # another process has just made it
            raise _tag_error(directory) from None
        raise
    _mark(directory)
    if takeover.matches:
        content = planfile.read(str(directory))
        _report(decisions(directory, content, takeover.matches), only_reused=True)
    _start(directory, backend)


def _start(directory: Path, backend: Backend) -> None:
    """Submit a run directory that was just written; if that fails, remove it again."""
    run = RunDirectory(directory)
    try:
        with locked(directory):  # htdag.clean may delete runs that are not submitted
            run.submit(backend)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def restart(
    old: RunDirectory,
    plan: Plan,
    backend: Backend,
    keep_finished: Collection[str] = (),
    before: Ticket | None = None,
    functions: Sequence[FinalFunction] = (),
) -> None:
    """Write a run with the results of an earlier one, put it in its place, and start it.

    ``before`` is the ticket of the earlier run, if the new one goes to the same place.

    If nothing remains to be computed, the earlier run stays as it is.
    """
    with locked(old.path):
        _restart(old, plan, backend, keep_finished, before, functions)


def _restart(
    old: RunDirectory,
    plan: Plan,
    backend: Backend,
    keep_finished: Collection[str],
    before: Ticket | None,
    functions: Sequence[FinalFunction],
) -> None:
    old.require_ended("resumed")
    directory = old.path
    new = temporary_path(directory, "again")
    takeover = Takeover(directory, keep_finished)
    write_run(plan, new, old.tag, takeover, functions, backend.scheduler(before))
    try:
        content = planfile.read(str(new))
        reuse = decisions(new, content, takeover.matches)
        if _is_done(old) and is_as_before(directory, new):
            _print(f"run {old.tag!r} is done already, and nothing changed")
            _deliver_again(old)
            return
        _report(reuse)
        _mark(new)
        put_in_place(new, directory, lambda: RunDirectory(directory).submit(backend, before))
    finally:
        remove_quietly(new)


def _deliver_again(run: RunDirectory) -> None:
    """Deliver files that a finished run returned again if they are missing there."""
    path = str(run.path)
    for node in run.plan["nodes"]:
        if not node["delivers"]:
            continue
        try:
            put = delivery.deliver_again(path, node, progress.examine(path, node))
        except OSError as error:
            raise DirectoryError(
                f"run {run.tag!r} is done, but files that {node['name']!r} returned are missing "
                f"at their destination, and cannot be put there again: {error}"
            ) from error
        if put:
            more = f" and {counted(len(put) - 1, 'other file')}" if len(put) > 1 else ""
            _print(f"{node['name']}: put back from the run: {put[0]}{more}")


def _is_done(run: RunDirectory) -> bool:
    try:
        return run.state is RunState.DONE
    except RunNotFound:
        return False  # it was written, but never submitted


def put_in_place(new: Path, directory: Path, submit: Callable[[], None]) -> None:
    """Replace a run directory by a new one and submit it; if that fails, undo it."""
    os.sync()
    swap(new, directory)
    try:
        with locked(directory):
            submit()
    except BaseException:
        swap_back(directory)
        raise


def compare(
    old: RunDirectory, plan: Plan, keep_finished: Collection[str] = ()
) -> list[ReuseDecision]:
    """Return what `restart` would reuse, and why not the rest, without changing anything."""
    with locked(old.path):
        old.require_ended("compared")
        new = temporary_path(old.path, "compared")
        takeover = Takeover(old.path, keep_finished)
        write_run(plan, new, old.tag, takeover)
        try:
            return decisions(new, planfile.read(str(new)), takeover.matches)
        finally:
            remove_quietly(new)


def _mark(run: Path) -> None:
    identity = read_identity(run)
    if identity is not None:
        cache.mark(run, identity)


def _report(reuse: list[ReuseDecision], only_reused: bool = False) -> None:
    for decision in reuse:
        if not only_reused or decision.what.startswith("reuse"):
            _print(str(decision))


def _print(text: str) -> None:
    say(f"htdag: {text}")
