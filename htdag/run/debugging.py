"""Debug an item of a run in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from htdag._warn import say
from htdag.errors import UsageError
from htdag.observe import failures
from htdag.run.files import RunFiles
from htdag.run.replay import Replay, replay


class Debugging(RunFiles):
    """Doing items again, where they can be looked at."""

    def debug(
        self,
        stage: str,
        key: str | int,
        *,
        pdb: bool | None = None,
        step: bool = False,
        round: int | None = None,
    ) -> Replay:
        """Do an item again in this process, with its true input and function.

        It flows through the stages before this one that share its node, too. The run's files stay
        as they are, and the current directory is a scratch directory meanwhile. Side effects of
        the functions are real.

        Parameters
        ----------
        stage : str
            The stage.
        key : str or int
            The item's key, as `errors` and `items` tell it.
        pdb : bool, optional
            Open Python's debugger where the function raised. None: if stdin is a terminal.
        step : bool
            Open the debugger where the stage's function begins.
        round : int, optional
            For a stage in a loop, the round; by default the last one.

        Returns
        -------
        Replay
            What each stage was given and returned, and what was raised.

        Raises
        ------
        UsageError
            If there is no such stage or item.
        TimeoutError
            If what the item is made of is not there yet.

        Examples
        --------
        >>> print(htdag.load("survey").debug("calibrate", 7, pdb=False))  # doctest: +SKIP
        calibrate, item 7
          given: <ndarray of shape (512, 512), float64>
          calibrate raised: ZeroDivisionError: division by zero
        """
        self._stage(stage)
        key = str(key)
        if not key:
            raise UsageError("the key of an item is not empty")
        for inner in self._rounds_with(stage, round):
            return inner.debug(stage, key, pdb=pdb, step=step)
        wanted = sys.stdin.isatty() if pdb is None else pdb
        if any(
            error.key == key and error.type == "ProcessDied"
            for error in failures.errors(self.path, self._plan, stage, streams=False)
        ):
            say(f"htdag: item {key} ended its process; it may end this one too")
        return replay(
            self.path,
            self._plan,
            stage,
            key,
            wrap=_stepped if step else None,
            look=_post_mortem if wanted else None,
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
