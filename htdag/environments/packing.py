"""The cache of packed environments; its keys are digests of their contents."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

from htdag.common.text import size_of_file
from htdag.common.warn import say
from htdag.config.directories import environments_directory, make_folder
from htdag.errors import PackingError

LARGE = 250_000_000  # bytes; a larger archive gets a warning
UNUSED = 90 * 86_400  # seconds after which an archive is deleted; run directories keep theirs
_FORMAT = 1
_INSTALL = "pip install 'htdag[packed]'"
# Jobs have no use for these: htdag itself travels as runtime.pyz.
_LEFT_OUT = frozenset(["htdag", "pip", "pex", "conda-pack"])
_NAMES = {"pex": "environment.pex", "conda-pack": "environment.tar.gz"}


@dataclass(frozen=True)
class Archive:
    """A packed environment: its file, the SHA-256 of its content, and the tool that made it."""

    path: Path
    digest: str
    tool: str


class _MadeOf(TypedDict, total=False):
    requirements: list[str]
    """Of a list of requirements: these."""
    file: str
    """Of a file of requirements: its path."""
    text: str
    """Its content."""
    prefix: str
    """Of the current environment: its folder."""
    installed: list[tuple[str, str, str]]
    """Name, version and digest of what is installed in it."""
    conda: list[str]
    """What conda says of it."""


class _Content(_MadeOf):
    """What a packed environment is made of; its digest names the archive."""

    format: int
    """The version of this format."""
    tool: str
    """What packs it."""
    python: str
    """The version of Python."""
    implementation: str
    """Which Python it is."""
    platform: list[str]
    """The system and the machine."""


class _Entry(TypedDict):
    """``environment.json``: what lies beside it."""

    sha256: str
    """The digest of the archive."""
    size: int
    """Its bytes."""
    created: float
    """When it was made, in seconds since the epoch."""
    content: _Content
    """What it is made of."""


def archive(requirements: tuple[str, ...] | None, file: str) -> Archive:
    """Return a packed environment, and make it if there is none yet.

    Parameters
    ----------
    requirements : tuple of str or None
        What to pack; None: `file`, or else the current environment.
    file : str
        A requirements file, or "".

    Raises
    ------
    PackingError
        If the tool is not installed, or cannot pack it.
    """
    import filelock

    whole = requirements is None and not file
    tool = "conda-pack" if whole and is_conda(sys.prefix) else "pex"
    content = _content(tool, requirements, file)
    home = make_folder(environments_directory())
    folder = home / _digest(json.dumps(content, sort_keys=True).encode())[:20]
    packed = _read(folder, tool)
    if packed is not None:
        return packed
    _need(tool)
    with filelock.FileLock(home / f"{folder.name}.lock", mode=0o600):
        packed = _read(folder, tool)
        if packed is not None:
            return packed  # another process has made it in the meantime
        return _pack(folder, tool, content)


def is_conda(prefix: str) -> bool:
    """Return whether a folder is a conda environment."""
    return os.path.isdir(os.path.join(prefix, "conda-meta"))


def is_virtual(prefix: str) -> bool:
    """Return whether a folder is a virtual environment."""
    return os.path.isfile(os.path.join(prefix, "pyvenv.cfg"))


def _content(tool: str, requirements: tuple[str, ...] | None, file: str) -> _Content:
    """Return a description of what a packed environment consists of."""
    content: _Content = {
        "format": _FORMAT,
        "tool": tool,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": [platform.system(), platform.machine()],
    }
    if requirements is not None:
        content["requirements"] = list(requirements)
    elif file:
        content["file"] = file
        try:
            content["text"] = Path(file).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise PackingError(f"the requirements file {file!r} cannot be read: {error}") from error
    else:
        content["prefix"] = sys.prefix
        content["installed"] = sorted(installed())
        if tool == "conda-pack":
            names = os.listdir(os.path.join(sys.prefix, "conda-meta"))
            content["conda"] = sorted(name for name in names if name.endswith(".json"))
    return content


def installed() -> Iterator[tuple[str, str, str]]:
    """Yield the name, version and digest of each installed package that is to be packed.

    Editable installations are the user's code, which travels with the functions.
    """
    seen = set()
    for distribution in metadata.distributions():
        name: str = distribution.metadata["Name"] or ""
        if not name or name.lower() in _LEFT_OUT or name.lower() in seen:
            continue
        seen.add(name.lower())
        source = json.loads(distribution.read_text("direct_url.json") or "{}")
        if source.get("dir_info", {}).get("editable"):
            continue
        record = distribution.read_text("RECORD") or distribution.read_text("installed-files.txt")
        yield name, distribution.version, _digest((record or "").encode())[:16]


def _read(folder: Path, tool: str) -> Archive | None:
    """Return an archive that was made before; None if it is missing or incomplete."""
    path = folder / _NAMES[tool]
    try:
        entry: _Entry = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
        if path.stat().st_size != entry["size"]:
            return None
        os.utime(folder)  # records its last use
        return Archive(path, entry["sha256"], tool)
    except (OSError, ValueError, KeyError):
        return None


def _need(tool: str) -> None:
    if find_spec(tool.replace("-", "_")) is None:
        raise PackingError(
            f"htdag.Environment.packed() needs {tool}, which is not installed for "
            f"{sys.executable}: {_INSTALL}"
        )


def _pack(folder: Path, tool: str, content: _Content) -> Archive:
    """Pack into a temporary folder, and rename it when it is complete."""
    what = "the current environment"
    if "requirements" in content:
        what = ", ".join(content["requirements"])
    elif "file" in content:
        what = content["file"]
    _say(f"packing {what} with {tool}; later pipelines reuse it")
    start = time.monotonic()
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        path = aside / _NAMES[tool]
        command = _pex(path, content) if tool == "pex" else _conda_pack(path)
        _run(command, tool, what)
        path.chmod(0o500 if tool == "pex" else 0o400)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        size, digest = path.stat().st_size, _digest_of(path)
        entry: _Entry = {"sha256": digest, "size": size, "created": time.time(), "content": content}
        (aside / "environment.json").write_text(json.dumps(entry, indent=1) + "\n")
        _forget_unused(folder.parent)
        if folder.exists():
            shutil.rmtree(folder)  # left by an interrupted process, or it would have been used
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    seconds = time.monotonic() - start
    _say(f"packed {size_of_file(size)} in {seconds:,.0f} s: {folder / path.name}")
    if size > LARGE:
        _say(
            f"that is a lot to send: each execute point, or each job, gets {size_of_file(size)}. "
            f"List only what the functions need: htdag.Environment.packed(['numpy', ...])"
        )
    return Archive(folder / path.name, digest, tool)


def _forget_unused(home: Path) -> None:
    """Remove archives that no pipeline has used for a long time."""
    for entry in home.glob("*/environment.json"):
        if time.time() - entry.parent.stat().st_mtime > UNUSED:
            shutil.rmtree(entry.parent, ignore_errors=True)


def _pex(path: Path, content: _Content) -> list[str]:
    command = [sys.executable, "-m", "pex", "--venv", "--output-file", str(path)]
    if "requirements" in content:
        return [*command, *content["requirements"]]
    if "file" in content:
        return [*command, "--requirement", content["file"]]
    pinned = [f"{name}=={version}" for name, version, _ in content["installed"]]
    if not pinned:
        raise PackingError(
            f"htdag.Environment.packed(): no package is installed in {sys.prefix}, so there is "
            f"nothing to pack; give a list of requirements, or leave the environment out"
        )
    if is_virtual(sys.prefix):
        command += ["--venv-repository", sys.executable]
    return [*command, *pinned]  # without a repository, pex takes them from the package index


def _conda_pack(path: Path) -> list[str]:
    code = (
        "import sys, conda_pack; conda_pack.pack(prefix=sys.argv[1], output=sys.argv[2], "
        "ignore_editable_packages=True, ignore_missing_files=True)"
    )
    return [sys.executable, "-c", code, sys.prefix, str(path)]


def _run(command: list[str], tool: str, what: str) -> None:
    # It runs with the user's directory and variables, since pip's settings are among them.
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise PackingError(
            f"{tool} cannot pack {what}. Name what the functions import in a list of requirements, "
            f"or fix this:\n{done.stdout.strip()[-3000:]}"
        )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _say(text: str) -> None:
    say(f"htdag: {text}")
