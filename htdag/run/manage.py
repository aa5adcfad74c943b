"""Rename, measure, export and delete runs."""

from __future__ import annotations

import json
import os
import re
import shutil
from datetime import datetime
from pathlib import Path

from htdag.checks import validation
from htdag.checks.names import check_tag
from htdag.config.log import LOGGER
from htdag.errors import StageNameError
from htdag.reuse.swap import locked, temporary_path
from htdag.run import archive
from htdag.run.directory import RunDirectory
from htdag.runtime import layout

_MADE_TAG = re.compile(r"-\d{8}-\d{6}(-\d+)?")


class Manager:
    """The part of a run that renames, measures, exports and deletes it."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run

    @property
    def transient(self) -> bool:
        """Whether htdag made up its tag, so that `htdag.clean` deletes it by default."""
        return bool(_MADE_TAG.fullmatch(self._run.tag.removeprefix(self._run.pipeline_name)))

    @property
    def changed(self) -> datetime:
        """The time of the last change in the run's directory itself, in local time."""
        times = [entry.stat(follow_symlinks=False).st_mtime for entry in os.scandir(self._run.path)]
        return datetime.fromtimestamp(
            max(times, default=self._run.manifest["created"])
        ).astimezone()

    def size(self) -> int:
        """Return how many bytes of disk its directory occupies, without the targets of links."""
        total = 0
        seen: set[tuple[int, int]] = set()
        for folder, _, files in os.walk(self._run.path):
            for name in files:
                try:
                    status = os.lstat(os.path.join(folder, name))
                except FileNotFoundError:
                    continue
                if (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    total += status.st_blocks * 512
        return total

    def retag(self, tag: str) -> None:
        """Give the run another tag; its directory is renamed."""
        target = self._run.path.with_name(check_tag(tag))
        self._run.require_ended("renamed")
        if target.exists():
            raise StageNameError(f"there is a run with the tag {tag!r} already; choose another tag")
        # A file that appears at this moment makes this fail: it cannot replace a directory.
        os.rename(self._run.path, target)
        LOGGER.info("run %r: renamed to %r", self._run.tag, tag)
        self._run.path, self._run.tag = target, tag
        self._run.manifest["tag"] = tag
        content = json.dumps(self._run.manifest, indent=1, ensure_ascii=False) + "\n"
        layout.write_aside(str(target / layout.RUN), content.encode())
        self._run.__dict__.pop("reader", None)

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Write the whole run to one file, for `htdag.import_run` elsewhere."""
        target = validation.path(path, "path")
        archive.kind_of(target)
        self._run.require_ended("exported")
        state = self._run.state.value if self._run.is_submitted else None
        archive.write(self._run.path, target, self._run.tag, state)
        return target

    def delete(self) -> None:
        """Delete the run's directory, with its results."""
        with locked(self._run.path):
            self._run.require_ended("deleted")
            # Renamed first, so that nobody takes a half-deleted directory for a run.
            aside = temporary_path(self._run.path, "deleted")
            os.rename(self._run.path, aside)
        LOGGER.info("run %r: deleted", self._run.tag)
        shutil.rmtree(aside)
