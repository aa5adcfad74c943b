"""The cache: results of stages with ``cache=True``, kept for all later runs.

It has a folder for each computation, named by the digest of what it does (`htdag.reuse.compare`).
Inside is a folder for each run, in the format of `htdag.runtime.dag.reusable`, with links to the
run's own files. So it takes no additional space until the runs are deleted.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from htdag.common.warn import warn
from htdag.config.directories import cache_directory, make_folder, runs_directory
from htdag.config.log import LOGGER
from htdag.reuse.compare import key
from htdag.reuse.ended import has_ended
from htdag.reuse.swap import read_identity, temporary_path
from htdag.runtime import layout, planfile
from htdag.runtime.dag import adopt, progress
from htdag.runtime.dag.pack_writer import PackWriter
from htdag.runtime.layout import NodeFiles

if TYPE_CHECKING:
    from htdag.runtime.formats.identity import Identity, NodeIdentity
    from htdag.runtime.formats.plan import Manifest


_ABOUT = "about.json"


class _About(TypedDict):
    """``about.json``: what an entry of the cache is from."""

    tag: str
    """The run."""
    stages: list[str]
    """The stages as they were named there."""


@dataclass(frozen=True)
class Entry:
    """The results of one run for one computation in the cache.

    Attributes
    ----------
    path : pathlib.Path
        Its folder.
    tag : str
        The tag of the run.
    stages : tuple of str
        The names of the stages in that run.
    size : int
        The bytes of its files, which it shares with the run while that exists.
    used : float
        When it was made or last used, in seconds since the epoch.
    """

    path: Path
    tag: str
    stages: tuple[str, ...]
    size: int
    used: float


def fill(folder: Path, node: NodeIdentity, identity: Identity) -> bool:
    """Add the cached results of a node to its folder; return whether there are any."""
    name = key(node, identity)
    if name is None:
        return False
    writer: PackWriter | None = None
    for path in _packs(cache_directory() / name):
        writer = writer or PackWriter(str(folder))
        try:
            writer.add_pack(str(path))
            os.utime(path)
        except FileNotFoundError:
            continue  # it has just been cleared
    if writer is not None:
        writer.close()
    return writer is not None


def mark(run: Path, identity: Identity) -> None:
    """Mark a run that will have results for the cache."""
    if any(node["cache"] for node in identity["nodes"].values()):
        (run / layout.CACHE_TODO).touch(mode=0o600)


def gather(run: Path) -> None:
    """Put the results of stages with ``cache=True`` of a run that has ended into the cache."""
    if not (run / layout.CACHE_TODO).exists():
        return
    try:
        _gather(run)
    except (OSError, ValueError, KeyError) as error:
        warn(f"the results of run {run.name!r} are not in the cache: {error}")


def gather_ended() -> None:
    """Put the results of all runs that have ended since into the cache."""
    try:
        paths = sorted(runs_directory().iterdir())
    except FileNotFoundError:
        return
    for run in paths:
        if run.name.startswith(".") or not (run / layout.CACHE_TODO).exists():
            continue
        try:
            ended = has_ended(run)
        except (OSError, ValueError, KeyError) as error:
            LOGGER.info("%s is damaged; its results are not in the cache: %s", run, error)
            continue
        if ended:
            gather(run)


def _gather(run: Path) -> None:
    identity = read_identity(run)
    if identity is None:
        return
    plan = planfile.read(str(run))
    manifest: Manifest = layout.read_json(str(run / layout.RUN), "created")
    for name, node in identity["nodes"].items():
        cache_key = key(node, identity) if node["cache"] and not node["mixed"] else None
        taken = adopt.taken(str(run), plan["by_name"][name])
        nothing_new = taken is not None and taken.reused == taken.items
        if cache_key is None or nothing_new or not NodeFiles(run, name).attempts():
            continue
        entry_name = f"{run.name}-{int(manifest['created'] * 1000):x}"
        folder = cache_directory() / cache_key / entry_name
        aside = temporary_path(folder, "new")
        make_folder(folder.parent)
        try:
            writer = PackWriter(str(aside))
            writer.add_node(str(run), plan["by_name"][name])
            writer.close()
            about: _About = {"tag": run.name, "stages": node["stages"] or node["outputs"]}
            layout.write_aside(str(aside / _ABOUT), json.dumps(about).encode())
            shutil.rmtree(folder, ignore_errors=True)  # from before the run was resumed
            os.replace(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    if all(progress.is_done(str(run), node) for node in plan["nodes"]):
        (run / layout.CACHE_TODO).unlink(missing_ok=True)


def _packs(folder: Path) -> list[Path]:
    try:
        packs = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except FileNotFoundError:
        return []
    return sorted(packs)


def entries() -> Iterator[Entry]:
    """Yield the entries of the cache."""
    try:
        folders = sorted(cache_directory().iterdir())
    except FileNotFoundError:
        return
    for folder in folders:
        for path in _packs(folder):
            try:
                about: _About = layout.read_json(str(path / _ABOUT), "tag", "stages")
                size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                used = path.stat().st_mtime
            except FileNotFoundError:
                continue  # it has just been cleared
            except layout.DamagedFile as error:
                warn(f"skipped: {error}")
                continue
            yield Entry(path, about["tag"], tuple(about["stages"]), size, used)


def clear(older_than: float = 0.0) -> list[Entry]:
    """Remove the entries that have not been used for this many seconds, and return them."""
    limit = time.time() - older_than
    removed = []
    for entry in entries():
        if entry.used <= limit:
            shutil.rmtree(entry.path, ignore_errors=True)
            removed.append(entry)
            if not any(entry.path.parent.iterdir()):
                entry.path.parent.rmdir()
    return removed
