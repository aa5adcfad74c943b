"""The runtime archive: all that a job needs besides a bare python3, in one file.

Making it takes longer than the rest of a small pipeline's compilation. So it is cached in htdag's
folder of the user, under a digest of its content. Each run has a copy, since a change to a linked
file would affect all runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import marshal
import os
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import cloudpickle

from htdag import runtime
from htdag.config.directories import make_folder, runtime_directory
from htdag.errors import DirectoryError

_WITHOUT_DOCSTRINGS = 2  # docstrings would double the size
_EPOCH = (2020, 1, 1, 0, 0, 0)  # constant, so that equal contents give equal archives
_MOST_KEPT = 8  # for several versions of Python, or a checkout that is being edited
_DIGEST_SIZE = hashlib.sha256().digest_size

_LAUNCHER = Path(__file__).with_name("launcher.sh")


@lru_cache(maxsize=1)
def runtime_archive() -> bytes:
    """Return the archive: a shell script that finds Python, followed by a zip file.

    Returns
    -------
    bytes
        An executable file. It needs a POSIX shell and python3 3.8 or later to start, and the
        submitting minor version of Python to run functions.
    """
    sources = _sources()
    try:
        path = make_folder(runtime_directory()) / _digest_of(sources)
        archive = _read(path)
    except (OSError, DirectoryError):
        return _make(sources)  # for this process alone
    if archive is not None:
        return archive
    content = _make(sources)
    with contextlib.suppress(OSError):
        _keep(path, content)
        _forget_old(path.parent)
    return content


def _sources() -> dict[str, bytes]:
    """Return the modules of the archive, by their names in it."""
    package = Path(runtime.__file__).parent
    root = Path(cloudpickle.__file__).parent
    return {
        **{
            f"htdag_runtime/{path.relative_to(package).as_posix()}": path.read_bytes()
            for path in sorted(package.rglob("*.py"))
            if path.parent.name != "formats"  # only types, which jobs do not import
        },
        **{
            path.relative_to(root.parent).as_posix(): path.read_bytes()
            for path in sorted(root.rglob("*.py"))
        },
    }


def _digest_of(sources: Mapping[str, bytes]) -> str:
    """Return a digest of all that determines an archive: modules, launcher, this module, Python."""
    digest = hashlib.sha256(repr((sys.version, sys.implementation.cache_tag)).encode())
    made_by = [("", path.read_bytes()) for path in (_LAUNCHER, Path(__file__))]
    for name, source in [*sources.items(), *made_by]:
        digest.update(f"{name} {len(source)}\n".encode())
        digest.update(source)
    return digest.hexdigest()


def _read(path: Path) -> bytes | None:
    """Return a cached archive; None if there is none, or it is damaged."""
    try:
        stored = path.read_bytes()
        os.utime(path)  # records its last use
    except FileNotFoundError:
        return None
    content = stored[_DIGEST_SIZE:]
    return content if hashlib.sha256(content).digest() == stored[:_DIGEST_SIZE] else None


def _keep(path: Path, content: bytes) -> None:
    """Write an archive to the cache, preceded by its digest, which shows whether it is complete."""
    descriptor, aside = tempfile.mkstemp(".new", f".{path.name}.", path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(content).digest() + content)
        os.chmod(aside, 0o400)
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise


def _forget_old(folder: Path) -> None:
    """Remove the least recently used files, including those that killed processes have left."""
    files = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files[_MOST_KEPT:]:
        path.unlink(missing_ok=True)


def _make(sources: Mapping[str, bytes]) -> bytes:
    head = "#!/bin/sh\npickled_by={}.{}\n".format(*sys.version_info[:2])
    buffer = io.BytesIO()
    buffer.write(head.encode() + _LAUNCHER.read_bytes())
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        main = "htdag_runtime/__main__.py"
        _add(archive, "__main__.py", sources[main])
        for name, source in sources.items():
            if name != main:
                _add_module(archive, name, source)
    return buffer.getvalue()


def _add_module(archive: zipfile.ZipFile, name: str, source: bytes) -> None:
    """Add a module as source and compiled, since compiling in each job takes longer than running.

    Other versions of Python ignore the compiled one. Its hash makes it independent of times; Python
    does not check it.
    """
    _add(archive, name, source)
    code = compile(source, name, "exec", dont_inherit=True, optimize=_WITHOUT_DOCSTRINGS)
    unchecked = (1).to_bytes(4, "little")
    head = importlib.util.MAGIC_NUMBER + unchecked + importlib.util.source_hash(source)
    _add(archive, name + "c", head + marshal.dumps(code))


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.external_attr = 0o644 << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, content)


def write_archive(path: str) -> None:
    """Write the archive as an executable file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700)
    with os.fdopen(descriptor, "wb") as file:
        file.write(runtime_archive())
