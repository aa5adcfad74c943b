"""What went wrong in a run, and what its items printed."""

from __future__ import annotations

from htdag.errors import NotDone
from htdag.observe import failures
from htdag.observe.failures import ItemError
from htdag.run.files import RunFiles


class Troubles(RunFiles):
    """Errors and streams of a run."""

    def errors(self, stage: str | None = None) -> list[ItemError]:
        """Return what failed, in the order of the pipeline.

        Parameters
        ----------
        stage : str, optional
            Only the errors of this stage.

        Returns
        -------
        list of ItemError
            The errors of the last attempt of each job; [] where nothing failed.
        """
        if stage is not None:
            self._stage(stage)
        return list(failures.errors(self.path, self._plan, stage))

    def stdout(self, stage: str, key: str) -> str:
        """Return what an item printed while the jobs of a stage worked on it.

        Stages that are fused share their output.

        Parameters
        ----------
        stage : str
            The stage.
        key : str
            The item's key.

        Raises
        ------
        TimeoutError
            If no job of the stage has run yet.
        """
        return self._stream(stage, key, "out")

    def stderr(self, stage: str, key: str) -> str:
        """Return what an item wrote to standard error; as `stdout`."""
        return self._stream(stage, key, "err")

    def _stream(self, stage: str, key: str, which: str) -> str:
        self._stage(stage)
        text = failures.printed(self.path, self._plan, stage, str(key), which)
        if text is None:
            raise NotDone(f"run {self.tag!r}: no job of stage {stage!r} has run yet")
        return text
