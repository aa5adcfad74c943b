"""Name, measure, export and delete runs."""

from __future__ import annotations

import json
import os
import re
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from htdag import _checks
from htdag._logging import LOGGER
from htdag._names import check_tag
from htdag._version import VERSION
from htdag.backends.base import RunState
from htdag.errors import RunActive, StageNameError
from htdag.reuse.directories import alone
from htdag.run import bundle
from htdag.run.files import RunFiles
from htdag.runtime import layout

_Self = TypeVar("_Self", bound="Keeping")
_MADE_TAG = re.compile(r"-\d{8}-\d{6}(-\d+)?")


class Keeping(RunFiles):
    """Housekeeping of one run."""

    @property
    def transient(self) -> bool:
        """Whether its tag was made up by htdag; a run that was given one, or got one, is kept."""
        return bool(_MADE_TAG.fullmatch(self.tag.removeprefix(self.pipeline_name)))

    @property
    def changed(self) -> datetime:
        """When anything was last written to its directory itself, in local time.

        Of a run that has ended, that is about when it ended.
        """
        times = [entry.stat(follow_symlinks=False).st_mtime for entry in os.scandir(self.path)]
        return datetime.fromtimestamp(max(times, default=self._manifest["created"])).astimezone()

    def size(self) -> int:
        """Tell how much of the disk its directory occupies, without what links lead to.

        Returns
        -------
        int
            Bytes.

        Examples
        --------
        >>> import htdag
        >>> sum(run.size() for run in htdag.runs("survey-*"))
        0
        """
        total = 0
        seen: set[tuple[int, int]] = set()
        for folder, _, files in os.walk(self.path):
            for name in files:
                try:
                    found = os.lstat(os.path.join(folder, name))
                except FileNotFoundError:
                    continue
                if (found.st_dev, found.st_ino) not in seen:
                    seen.add((found.st_dev, found.st_ino))
                    total += found.st_blocks * 512
        return total

    def retag(self: _Self, tag: str) -> _Self:
        """Give the run another tag; its directory is renamed.

        Parameters
        ----------
        tag : str
            The new one.

        Returns
        -------
        Run
            The run itself.

        Raises
        ------
        StageNameError
            If there is such a run already, or it cannot be a tag.
        RunActive
            If it has not ended: DAGMan works in its directory, whose name must stay.

        Examples
        --------
        >>> import htdag
        >>> htdag.load("walks-20261125-103000").retag("walks")  # doctest: +SKIP
        """
        target = self.path.with_name(check_tag(tag))
        self._check_at_rest("renamed")
        if target.exists():
            raise StageNameError(f"there is a run with the tag {tag!r} already; take another tag")
        # A file does not replace a directory: if one appears at this moment this is an error.
        os.rename(self.path, target)
        LOGGER.info("run %r: renamed to %r", self.tag, tag)
        self.path, self.tag = target, tag
        self._manifest["tag"] = tag
        content = json.dumps(self._manifest, indent=1, ensure_ascii=False) + "\n"
        layout.write_aside(str(target / layout.RUN), content.encode())
        self.__dict__.pop("_reader", None)
        return self

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Write the whole run to one file, for `htdag.import_run` elsewhere.

        The user's files that it reads (items of `htdag.files`) are in it too.

        Parameters
        ----------
        path : str or os.PathLike
            The file; its name ends with ``.tar``, ``.tar.gz`` or ``.tar.xz``. One that is there is
            replaced once the new one is whole.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        RunActive
            If the run has not ended.
        UsageError
            If the name ends otherwise.

        Examples
        --------
        >>> import htdag
        >>> htdag.load("survey").export("survey.tar.xz")  # doctest: +SKIP
        """
        target = _checks.path(path, "path")
        bundle.kind_of(target)
        self._check_at_rest("exported")
        state = self._state_at_rest()
        about: dict[str, Any] = {"htdag": VERSION, "tag": self.tag}
        about["state"] = None if state is None else state.value
        bundle.write(self.path, target, about)
        return target

    def delete(self) -> None:
        """Delete the run's directory, with its results.

        Raises
        ------
        RunActive
            If the run has not ended; remove it first.

        Examples
        --------
        >>> import htdag
        >>> for run in htdag.runs("trial-*"):
        ...     run.delete()
        """
        with alone(self.path):
            self._check_at_rest("deleted")
            # First out of sight: what is half deleted is no run.
            aside = self.path.with_name(f".{self.path.name}.{os.getpid()}.deleted")
            os.rename(self.path, aside)
        LOGGER.info("run %r: deleted", self.tag)
        shutil.rmtree(aside)

    def _check_at_rest(self, what: str) -> None:
        state = self._state_at_rest()
        if state is not None and not state.ended:
            raise RunActive(
                f"run {self.tag!r} is {state.value}, so it cannot be {what}: its jobs work in "
                f"{str(self.path)!r}. Wait until it has ended, or remove it first"
            )

    def _state_at_rest(self) -> RunState | None:
        """Return the state; None for a run that was never submitted."""
        if not self._is_submitted:
            return None
        return self._activity().state
