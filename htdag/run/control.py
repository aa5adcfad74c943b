"""Resume runs, and end them."""

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
from htdag.runtime import layout, planfile
from htdag.runtime.dag import progress


class Control:
    """The part of a run that resumes and ends it."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run

    def resume(self) -> None:
        """Continue a run that failed, was removed or was killed."""
        with locked(self._run.path):
            self._resume()

    def _resume(self) -> None:
        activity = self._activity_at_rest()
        if not activity.state.ended:
            if activity.reason.endswith(HOW_TO_START):
                raise RunActive(f"run {self._run.tag!r} continues by itself: {activity.reason}")
            raise RunActive(
                f"run {self._run.tag!r} is {activity.state.value}: there is nothing to resume; "
                f"to restart it from its finished items, remove it first"
            )
        if activity.state is RunState.DONE and all(
            state.complete
            for node in self._run.plan["nodes"]
            for state in progress.examine(str(self._run.path), node, verify=True)
        ):
            return
        self.check_python()
        self._run.submission().finish_removal()  # before that, jobs may still write files
        self._discard_damaged()
        self._run.submit(self._run.backend(self._run.backend_name))

    def check_python(self) -> None:
        """Raise `UsageError` if jobs would run in this Python, but it cannot load the functions.

        On HTCondor, and in an environment with a Python, jobs find the Python that they need.
        """
        python = self._run.manifest["python"][:2]
        uses_this_python = any(
            node.get("environment") is None and node["mode"] != "loop"
            for node in self._run.plan["nodes"]
        )
        if self._run.backend_name != "local" or not uses_this_python:
            return
        if python == list(sys.version_info[:2]):
            return
        version = ".".join(map(str, python))
        tag = quote(self._run.tag)
        script = self._run.script
        made_by = script["python"] if script else sys.executable
        command = Path(made_by).with_name("htdag")
        example = f" ({quote(str(command))} resume {tag})" if made_by != sys.executable else ""
        raise UsageError(
            f"run {self._run.tag!r} was made by Python {version}, and this is Python "
            f"{sys.version.split()[0]}, which cannot load its functions: resume it with the htdag "
            f"of Python {version}{example}, or run the script again with this Python, with "
            f"resume=True or `htdag resume {tag} --script SCRIPT`; that recomputes all of it"
        )

    def _activity_at_rest(self) -> Activity:
        """Return the activity; a damaged state file is set aside, since the records suffice."""
        try:
            return self._run.activity()
        except layout.DamagedFile as error:
            if Path(error.path).name != layout.LOCAL_STATE:
                raise
            os.replace(error.path, error.path + ".damaged")
            LOGGER.warning("run %r: %s", self._run.tag, error)
            return self._run.activity()

    def _discard_damaged(self) -> None:
        """Set aside the records of damaged results, so that these are computed again."""
        # A round depends on the previous round only.
        run = planfile.RunPlan(str(self._run.path), self._run.plan)
        for place in planfile.walk_loops(run, most=2):
            for node in place.plan["nodes"]:
                progress.finish_killed(place.folder, node)
                progress.discard_damaged(place.folder, node)

    def remove(self, force: bool = False) -> None:
        """End the run; finished items are kept, and `resume` can continue it."""
        submission = self._run.submission()
        if not submission.is_here:
            return  # it was submitted elsewhere, and has ended there
        submission.remove(force=force)
        LOGGER.info("run %r: removed", self._run.tag)

    def interrupted(self) -> None:
        """Handle Ctrl-C in `Pipeline.run`: stop a local run, leave others alone, and say so."""
        if self._run.backend_name == "local":
            self.remove()
            state, command = "is stopped; finished items are kept", "resume"
        else:
            state, command = "goes on; htdag remove would end it", "wait"
        say(
            f"\nhtdag: interrupted. The run {state}. "
            f"Continue with: htdag {command} {quote(self._run.tag)}"
        )
