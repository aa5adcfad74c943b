"""Debug an item of a run in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from htdag.common.warn import say
from htdag.errors import UsageError
from htdag.observe import item_errors
from htdag.run.directory import RunDirectory
from htdag.run.replay import Replay, replay


class Debugging:
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
            return Debugging(inner).debug(stage, key, pdb=pdb, step=step)
        wanted = sys.stdin.isatty() if pdb is None else pdb
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
            inspect=_post_mortem if wanted else None,
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
