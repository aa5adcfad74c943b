"""A run as it lies in its directory: what it is, where it runs, how it is submitted."""

from __future__ import annotations

import difflib
import json
import time
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from htdag import _settings, backends, history
from htdag._home import runs_directory
from htdag._logging import LOGGER
from htdag.backends import Backend
from htdag.backends.base import Activity, RunState
from htdag.errors import RunDamaged, RunNotFound, UsageError
from htdag.observe.status import Reader
from htdag.runtime import layout, progress

TICKET = "submit.json"
IMPORTED = "imported"
"""In the ticket of a run that was brought from elsewhere: the state that it had there."""


class RunFiles:
    """What all that can be done with a run builds on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        manifest = _read_json(path / layout.RUN)
        if manifest is None:
            raise RunNotFound(f"there is no run in {str(path)!r}")
        missing = {"tag", "pipeline", "dag", "created", "targets"} - set(manifest)
        if missing:
            raise RunDamaged(f"{str(path / layout.RUN)!r} lacks {', '.join(sorted(missing))}")
        self._manifest = manifest
        # The name of its directory is what it is found by.
        self.tag: str = path.name if path.parent == runs_directory() else manifest["tag"]

    def _submit(self, backend: Backend) -> None:
        old = _read_json(self.path / TICKET) or {}
        before = None if IMPORTED in old else old.get("ticket")
        ticket = backend.submit(self.path, self._manifest["dag"], before)
        content = {"backend": backend.name, "time": time.time(), "ticket": ticket}
        layout.write_aside(str(self.path / TICKET), json.dumps(content).encode())
        self.__dict__.pop("_reader", None)
        LOGGER.info("run %r: submitted (%s, %s)", self.tag, backend.name, ticket)

    @property
    def pipeline_name(self) -> str:
        """The name of the pipeline."""
        return str(self._manifest["pipeline"])

    @property
    def created(self) -> datetime:
        """When the run was made, in local time."""
        return datetime.fromtimestamp(self._manifest["created"]).astimezone()

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the stages whose results were asked for."""
        return tuple(self._manifest["targets"])

    @property
    def backend_name(self) -> str:
        """Where it runs: ``"condor"`` or ``"local"``."""
        return str(self._ticket()["backend"])

    @property
    def state(self) -> RunState:
        """The state of the run as a whole, read anew."""
        return self._activity().state

    def _ticket(self) -> dict[str, Any]:
        content = _read_json(self.path / TICKET)
        if content is None:
            raise RunNotFound(f"the run {self.tag!r} was written, but never submitted")
        return content

    @property
    def _is_submitted(self) -> bool:
        return (self.path / TICKET).exists()

    def _activity(self) -> Activity:
        ticket = self._ticket()
        if IMPORTED in ticket:
            return Activity(RunState(ticket[IMPORTED]), "imported from elsewhere")
        return self._backend(ticket["backend"]).activity(self.path, ticket["ticket"])

    def _backend(self, name: str) -> Backend:
        if self._backend_in_use is None or self._backend_in_use.name != name:
            self._backend_in_use = backends.backend(name)
        return self._backend_in_use

    _backend_in_use: Backend | None = None

    @cached_property
    def _plan(self) -> dict[str, Any]:
        try:
            return progress.read_plan(str(self.path))
        except (FileNotFoundError, ValueError) as error:
            raise RunDamaged(f"run {self.tag!r}: {layout.PLAN} cannot be read: {error}") from error

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self.path, self._plan)

    def _target(self, target: str | None) -> str:
        if target is None:
            if len(self.targets) > 1:
                raise UsageError(
                    f"run {self.tag!r} has several targets, name one: {', '.join(self.targets)}"
                )
            return self.targets[0]
        if target not in self.targets:
            raise UsageError(
                f"run {self.tag!r} has no target {target!r}; it has: {', '.join(self.targets)}"
            )
        return target

    def _stage(self, stage: str) -> None:
        names = [entry["name"] for entry in self._plan["stages"]]
        if stage not in names:
            near = difflib.get_close_matches(stage, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(names)}"
            raise UsageError(f"run {self.tag!r} has no stage {stage!r}; {hint}")

    def _remember(self, again: bool = False) -> None:
        """Keep what the run has measured for later plans."""
        if _settings.use_history(None):
            history.gather(self.path, again=again)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise RunDamaged(f"{str(path)!r} cannot be read: {error}") from error
    return content
