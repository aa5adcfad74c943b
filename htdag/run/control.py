"""Go on with runs, and end them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from shlex import quote

from htdag.backends.base import HOW_TO_START, Activity, RunState
from htdag.common.warn import say
from htdag.config.log import LOGGER
from htdag.errors import RunActive, UsageError
from htdag.reuse.swap import locked
from htdag.run.directory import RunDirectory
from htdag.runtime import layout
from htdag.runtime.dag import looping, progress


class Control:
    """What changes the course of a run."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run

    def resume(self) -> None:
        """Go on with a run that failed, was removed or was killed, from what is there."""
        with locked(self._run.path):
            self._resume()

    def _resume(self) -> None:
        activity = self._activity_at_rest()
        if not activity.state.ended:
            if activity.reason.endswith(HOW_TO_START):
                raise RunActive(f"run {self._run.tag!r} goes on by itself: {activity.reason}")
            raise RunActive(
                f"run {self._run.tag!r} is {activity.state.value}: there is nothing to resume; "
                f"to begin anew from what is there, remove it first"
            )
        if activity.state is RunState.DONE and all(
            state.complete
            for node in self._run.plan["nodes"]
            for state in progress.examine(str(self._run.path), node, verify=True)
        ):
            return
        self.check_python()
        self._run.submission().finish_removal()  # until then jobs may still write their files
        self._discard_damaged()
        self._run.submit(self._run.backend(self._run.backend_name))

    def check_python(self) -> None:
        """Raise `UsageError` where jobs would run in this Python, and it cannot read functions.

        On HTCondor, and where an environment brings a Python, jobs look for the one that they need.
        """
        wanted = self._run.manifest["python"][:2]
        here = any(
            node.get("environment") is None and node["mode"] != "loop"
            for node in self._run.plan["nodes"]
        )
        if self._run.backend_name != "local" or not here or wanted == list(sys.version_info[:2]):
            return
        version = ".".join(map(str, wanted))
        tag = quote(self._run.tag)
        made_by = (self._run.script or {}).get("python") or sys.executable
        command = Path(made_by).with_name("htdag")
        by_that = f" ({quote(str(command))} resume {tag})" if made_by != sys.executable else ""
        raise UsageError(
            f"run {self._run.tag!r} was made by Python {version}, and this is Python "
            f"{sys.version.split()[0]}, which cannot read its functions: go on with the htdag of "
            f"Python {version}{by_that}, or run the script again by this Python, with "
            f"resume=True or `htdag resume {tag} --script SCRIPT`; that computes all of it anew"
        )

    def _activity_at_rest(self) -> Activity:
        """Return what goes on; a damaged state is set aside: the outcomes tell what is done."""
        try:
            return self._run.activity()
        except layout.DamagedFile as error:
            if Path(error.path).name != layout.LOCAL_STATE:
                raise
            os.replace(error.path, error.path + ".damaged")
            LOGGER.warning("run %r: %s", self._run.tag, error)
            return self._run.activity()

    def _discard_damaged(self) -> None:
        """Set aside the records of outcomes that are damaged, so that they are made again."""
        # A round goes on from the one before it, and from none of those before that.
        rounds = looping.last_rounds(str(self._run.path), self._run.plan, most=2)
        places = [
            (str(self._run.path), self._run.plan),
            *((path, plan) for _, path, plan in rounds),
        ]
        for path, plan in places:
            for node in plan["nodes"]:
                progress.finish_killed(path, node)
                progress.discard_damaged(path, node)

    def remove(self, force: bool = False) -> None:
        """End the run; what is done stays, and `resume` can go on."""
        submission = self._run.submission()
        if not submission.is_here:
            return  # it was submitted elsewhere, and has ended
        submission.remove(force=force)
        LOGGER.info("run %r: removed", self._run.tag)

    def interrupted(self) -> None:
        """Do what Ctrl-C means for a run that was started by `Pipeline.run`, and say so."""
        if self._run.backend_name == "local":
            self.remove()
            state, command = "is stopped; what is done is kept", "resume"
        else:
            state, command = "goes on; htdag remove would end it", "wait"
        say(
            f"\nhtdag: interrupted. The run {state}. "
            f"Go on with: htdag {command} {quote(self._run.tag)}"
        )
