"""Go on with runs, and end them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from shlex import quote
from typing import TypeVar

from htdag._logging import LOGGER
from htdag._warn import say
from htdag.backends.base import HOW_TO_START, Activity, RunState
from htdag.errors import RunActive, UsageError
from htdag.reuse.directories import alone
from htdag.run.files import RunFiles
from htdag.runtime import layout, looping, progress

_Self = TypeVar("_Self", bound="Control")


class Control(RunFiles):
    """What changes the course of a run."""

    def resume(self: _Self) -> _Self:
        """Go on with a run that failed, was removed or was killed, from what is there.

        Items that have succeeded are not computed again; damaged outcome files are found and
        theirs are. On HTCondor this goes through a rescue DAG.

        Returns
        -------
        Run
            The run itself, under way again.

        Raises
        ------
        RunActive
            If it has not ended, or another process is about to go on with it.
        UsageError
            If it runs on this machine, and this Python is of another minor version than its own.
        BackendError
            If HTCondor refuses it.

        Examples
        --------
        >>> import htdag
        >>> htdag.load("survey").resume().wait()  # doctest: +SKIP
        """
        with alone(self.path):
            return self._resume()

    def _resume(self: _Self) -> _Self:
        activity = self._activity_at_rest()
        if not activity.state.ended:
            if activity.reason.endswith(HOW_TO_START):
                raise RunActive(f"run {self.tag!r} goes on by itself: {activity.reason}")
            raise RunActive(
                f"run {self.tag!r} is {activity.state.value}: there is nothing to resume; "
                f"to begin anew from what is there, remove it first"
            )
        if activity.state is RunState.DONE and all(
            state.complete
            for node in self._plan["nodes"]
            for state in progress.examine(str(self.path), node, verify=True)
        ):
            return self
        self._check_python()
        self._discard_damaged()
        self._submit(self._backend(self.backend_name))
        return self

    def _check_python(self) -> None:
        """Raise `UsageError` where jobs would run in this Python, and it cannot read functions.

        On HTCondor, and where an environment brings a Python, jobs look for the one that they need.
        """
        wanted = self._manifest["python"][:2]
        here = any(
            node.get("environment") is None and node["mode"] != "loop"
            for node in self._plan["nodes"]
        )
        if self.backend_name != "local" or not here or wanted == list(sys.version_info[:2]):
            return
        version = ".".join(map(str, wanted))
        tag = quote(self.tag)
        made_by = (self.script or {}).get("python") or sys.executable
        command = Path(made_by).with_name("htdag")
        by_that = f" ({quote(str(command))} resume {tag})" if made_by != sys.executable else ""
        raise UsageError(
            f"run {self.tag!r} was made by Python {version}, and this is Python "
            f"{sys.version.split()[0]}, which cannot read its functions: go on with the htdag of "
            f"Python {version}{by_that}, or run the script again by this Python, with "
            f"resume=True or `htdag resume {tag} --script SCRIPT`; that computes all of it anew"
        )

    def _activity_at_rest(self) -> Activity:
        """Return what goes on; a damaged state is set aside: the outcomes tell what is done."""
        try:
            return self._activity()
        except layout.DamagedFile as error:
            if Path(error.path).name != layout.LOCAL_STATE:
                raise
            os.replace(error.path, error.path + ".damaged")
            LOGGER.warning("run %r: %s", self.tag, error)
            return self._activity()

    def _discard_damaged(self) -> None:
        """Set aside the records of outcomes that are damaged, so that they are made again."""
        # A round goes on from the one before it, and from none of those before that.
        rounds = looping.last_rounds(str(self.path), self._plan, most=2)
        places = [(str(self.path), self._plan), *((path, plan) for _, path, plan in rounds)]
        for path, plan in places:
            for node in plan["nodes"]:
                progress.close_killed(path, node)
                progress.discard_damaged(path, node)

    def remove(self, force: bool = False) -> None:
        """End the run; what is done stays, and `resume` can go on.

        Parameters
        ----------
        force : bool
            Do not wait for an orderly end.

        Raises
        ------
        BackendError
            If HTCondor does not answer.

        Examples
        --------
        >>> import htdag
        >>> for run in htdag.runs("survey-*"):
        ...     run.remove()
        """
        ticket = self._ticket()
        if ticket["ticket"] is None:
            return  # it was submitted elsewhere, and has ended
        self._backend(ticket["backend"]).remove(self.path, ticket["ticket"], force)
        LOGGER.info("run %r: removed", self.tag)

    def interrupted(self) -> None:
        """Do what Ctrl-C means for a run that was started by `Pipeline.run`, and say so."""
        if self.backend_name == "local":
            self.remove()
            state, command = "is stopped; what is done is kept", "resume"
        else:
            state, command = "goes on; htdag remove would end it", "wait"
        say(f"\nhtdag: interrupted. The run {state}. Go on with: htdag {command} {quote(self.tag)}")
