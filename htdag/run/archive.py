"""Runs as single files: tar archives with the digests of all members."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypedDict, TypeGuard

from htdag.common.package import VERSION
from htdag.errors import RunDamaged, UsageError
from htdag.reuse.swap import temporary_path
from htdag.runtime import layout

DIGESTS = "htdag-export.json"
"""The last member: a description of the archive, and the SHA-256 of each other file."""

FORMAT = 1
_SUFFIXES = {".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.xz": "xz"}
_OMITTED = (layout.LOCAL_LOCK, ".tmp")
_PIECE = 1 << 20


class Manifest(TypedDict):
    """The last member of an archive."""

    format: int
    """The version of this format."""
    htdag: str
    """The version of htdag that wrote it."""
    tag: str
    """The tag of the run."""
    state: str | None
    """Its state; None of one that was never submitted."""
    sha256: dict[str, str]
    """The digest of each file by its name; "" for a folder."""


def kind_of(path: Path) -> str:
    """Return the compression that a file's suffix stands for, in `tarfile`'s notation."""
    for suffix, kind in _SUFFIXES.items():
        if path.name.endswith(suffix):
            return kind
    raise UsageError(f"{str(path)!r}: give a name that ends with {', '.join(_SUFFIXES)}")


class _Hashed(io.RawIOBase):
    """A file that is hashed while it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def write(run: Path, target: Path, tag: str, state: str | None) -> None:
    """Write a run directory to an archive, in one step: nobody sees half of it.

    Links are replaced by their targets, so the archive is complete. The tag and the state are
    stored with the digests.
    """
    aside = temporary_path(target, "new")
    digests: dict[str, str] = {}
    kind = kind_of(target)
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            opened: Any = tarfile.open  # its stubs allow only literal modes
            fast = {"compresslevel": 1} if kind == "gz" else {}
            with opened(fileobj=file, mode=f"w:{kind}", dereference=True, **fast) as archive:
                for name in _files(run):
                    digests[name] = _add(archive, run / name, name)
                content: Manifest = {
                    "format": FORMAT,
                    "htdag": VERSION,
                    "tag": tag,
                    "state": state,
                    "sha256": digests,
                }
                data = json.dumps(content, indent=1).encode()
                entry = tarfile.TarInfo(DIGESTS)
                entry.size, entry.mode = len(data), 0o600
                archive.addfile(entry, io.BytesIO(data))
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def _add(archive: tarfile.TarFile, path: Path, name: str) -> str:
    if path.is_dir():
        archive.addfile(_anonymous(archive.gettarinfo(path, name)))
        return ""
    with open(path, "rb") as file:
        entry = _anonymous(archive.gettarinfo(name, name, file))
        hashed = _Hashed(file)
        archive.addfile(entry, hashed)
        return hashed.digest.hexdigest()


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return a member without its owner."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _files(run: Path) -> Iterator[str]:
    """Yield all names below a run directory, folders before their content."""
    for folder, folders, files in os.walk(run, followlinks=True):
        folders.sort()
        inside = Path(folder).relative_to(run)
        if inside.parts:
            yield inside.as_posix()
        for name in sorted(files):
            if not name.endswith(_OMITTED) and (Path(folder) / name).is_file():
                yield (inside / name).as_posix()


def read(source: Path, directory: Path) -> Manifest:
    """Extract an archive into a new, empty directory, and return its description.

    Raises
    ------
    RunDamaged
        If it is not an exported run, or incomplete.
    """
    digests: dict[str, str] = {}
    about: Any = None
    try:
        with tarfile.open(source, "r:*") as archive:
            for entry in archive:
                if entry.name == DIGESTS:
                    file = archive.extractfile(entry)
                    about = json.loads(file.read()) if file is not None else None
                else:
                    digests[entry.name] = _extract(archive, entry, directory)
    except Exception as error:  # tarfile, gzip, lzma and json raise many types
        if isinstance(error, FileNotFoundError):
            raise
        message = str(error) or type(error).__name__
        raise RunDamaged(f"{str(source)!r} cannot be read: {message}") from error
    if not _describes_run(about):
        raise RunDamaged(f"{str(source)!r} is not a complete run exported by htdag")
    if digests != about["sha256"]:
        wrong = sorted(set(digests.items()) ^ set(about["sha256"].items()))[0][0]
        raise RunDamaged(f"{str(source)!r} is damaged: {wrong} differs from what was exported")
    return about


def _describes_run(about: Any) -> TypeGuard[Manifest]:
    return (
        isinstance(about, dict)
        and about.get("format") == FORMAT
        and isinstance(about.get("sha256"), dict)
        and isinstance(about.get("tag"), str)
        and "state" in about
    )


def _extract(archive: tarfile.TarFile, entry: tarfile.TarInfo, directory: Path) -> str:
    name = PurePosixPath(entry.name)
    if name.is_absolute() or ".." in name.parts or not (entry.isdir() or entry.isreg()):
        raise ValueError(f"it holds {entry.name!r}, which is not a file of a run")
    path = directory / name
    if entry.isdir():
        path.mkdir(mode=0o700)
        return ""
    digest = hashlib.sha256()
    file = archive.extractfile(entry)
    if file is None:
        raise ValueError(f"{entry.name!r} has no content")
    mode = 0o700 if entry.mode & 0o100 else 0o600
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as target:
        while piece := file.read(_PIECE):
            digest.update(piece)
            target.write(piece)
    os.utime(path, (entry.mtime, entry.mtime))
    return digest.hexdigest()
