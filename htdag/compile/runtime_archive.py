"""The runtime archive: everything that a job needs beside a bare python3, in one file.

To compile and to compress it takes longer than the rest of a small pipeline's compilation. So it
is kept in the user's home folder of htdag, named by a digest of all that it is made of. Each run
has a copy: a link would share what is written to the one with all others.
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

_WITHOUT_DOCUMENTATION = 2  # which is as much again to read and to load
_EPOCH = (2020, 1, 1, 0, 0, 0)  # equal contents give equal archives
_MOST_KEPT = 8  # as of several versions of Python, or of a checkout that is being edited
_DIGEST_SIZE = hashlib.sha256().digest_size

_PREAMBLE = """#!/bin/sh
# htdag's runtime: a zip archive of Python modules behind this script. It looks for the Python that
# pickled the functions, {major}.{minor}, and else takes any python3, which will say what is wrong.
# work: the exit status says that the outcome was delivered. work-status: also, whether all is done.
case $1 in work*)
    out="nodes/$2/out"
    mkdir -p "$out" "nodes/$2/log" ;;
esac
# What run.sh of an environment has found; not for the programs that functions start.
python=${{HTDAG_PYTHON:-}} flags=${{HTDAG_PYTHON_FLAGS:-}} problem=${{HTDAG_PROBLEM:-}}
unset HTDAG_PYTHON HTDAG_PYTHON_FLAGS HTDAG_PROBLEM
[ -z "$python" ] || [ -n "$problem" ] || exec "$python" $flags "$0" "$@"
for name in python{major}.{minor} python3; do
    [ -z "$problem" ] || break
    # With its path: without PATH in the environment Python could not find out what it is.
    if python=$(command -v "$name" 2>/dev/null); then
        [ "$name" != python3 ] ||
            "$python" -S -E -c 'import sys; sys.exit(sys.version_info < (3, 8))' || continue
        exec "$python" -E "$0" "$@"
    fi
done
type=EnvironmentNotReady
if [ -z "$problem" ]; then
    type=PythonNotFound
    problem="there is no python{major}.{minor} on $(hostname), nor any python3 from 3.8 on its \
PATH; choose other execute nodes, or give the stage an environment that brings Python"
    echo "htdag: PATH=$PATH" >&2
    echo "htdag: $problem" >&2
else
    echo "htdag: $problem" >&2
    # As it can stand in JSON.
    problem=$(printf '%s' "$problem" | tr '"\\\\\n\t\r' "'/   ") ||
        problem="the environment cannot be set up; the job's standard error says why"
fi
case $1 in
    work) status=0 ;;
    work-status) status=1 ;;
    *) exit 120 ;;
esac
# The outcome files must exist, or HTCondor holds the job for them.
node=$2 chunk=$3 attempt=$4
mkdir -p "$out/$chunk.$attempt.files"
shift 4
sizes= values=
for stage in "$@"; do
    : >"$out/$chunk.$attempt.$stage.items"
    sizes="$sizes${{sizes:+, }}0" values="$values${{values:+, }}0"
done
{{
    printf '{{"start": {{"node": "%s", "chunk": "%s", "attempt": %s, "host": "%s", ' \\
        "$node" "$chunk" "$attempt" "$(hostname)"
    printf '"python": "none", "time": 0}}}}\\n'
    printf '{{"error": {{"stage": "%s", "key": null, "sequence": null, ' "$1"
    printf '"type": "%s", "message": "%s", "traceback": ""}}}}\\n' "$type" "$problem"
    printf '{{"end": {{"items": null, "done": 0, "failed": 0, "remaining": null, '
    printf '"mismatch": "%s", ' "$type"
    printf '"values": [%s], "sizes": [%s], "seconds": 0, "peak_kb": 0, "time": 0}}}}\\n' \\
        "$values" "$sizes"
}} >"$out/$chunk.$attempt.record"
exit $status
"""


@lru_cache(maxsize=1)
def runtime_archive() -> bytes:
    """Return the archive: a shell script that finds Python, and a zip file behind it.

    Returns
    -------
    bytes
        An executable file. It needs a POSIX shell and python3 from 3.8 on to start, and Python of
        the submitting minor version to do work.
    """
    sources = _sources()
    try:
        path = make_folder(runtime_directory()) / _digest_of(sources)
        kept = _read(path)
    except (OSError, DirectoryError):
        return _make(sources)  # for this process alone
    if kept is not None:
        return kept
    content = _make(sources)
    with contextlib.suppress(OSError):
        _keep(path, content)
        _forget_old(path.parent)
    return content


def _sources() -> dict[str, bytes]:
    """Return the modules of the archive by their names in it."""
    package = Path(runtime.__file__).parent
    root = Path(cloudpickle.__file__).parent
    return {
        **{
            f"htdag_runtime/{path.relative_to(package).as_posix()}": path.read_bytes()
            for path in sorted(package.rglob("*.py"))
        },
        **{
            path.relative_to(root.parent).as_posix(): path.read_bytes()
            for path in sorted(root.rglob("*.py"))
        },
    }


def _digest_of(sources: Mapping[str, bytes]) -> str:
    """Return a digest of all that an archive is made of: modules, this one, and Python."""
    digest = hashlib.sha256(repr((sys.version, sys.implementation.cache_tag)).encode())
    for name, source in [*sources.items(), ("", Path(__file__).read_bytes())]:
        digest.update(f"{name} {len(source)}\n".encode())
        digest.update(source)
    return digest.hexdigest()


def _read(path: Path) -> bytes | None:
    """Return an archive that was made before; None where there is none, or a damaged one."""
    try:
        kept = path.read_bytes()
        os.utime(path)  # when it was used last
    except FileNotFoundError:
        return None
    content = kept[_DIGEST_SIZE:]
    return content if hashlib.sha256(content).digest() == kept[:_DIGEST_SIZE] else None


def _keep(path: Path, content: bytes) -> None:
    """Keep an archive behind a digest of its own, which tells whether it is whole."""
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
    """Remove what was not used for longest, and what processes that were killed have left."""
    found = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found[_MOST_KEPT:]:
        path.unlink(missing_ok=True)


def _make(sources: Mapping[str, bytes]) -> bytes:
    preamble = _PREAMBLE.format(major=sys.version_info[0], minor=sys.version_info[1])
    buffer = io.BytesIO()
    buffer.write(preamble.encode())
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        main = "htdag_runtime/__main__.py"
        _add(archive, "__main__.py", sources[main])
        for name, source in sources.items():
            if name != main:
                _add_module(archive, name, source)
    return buffer.getvalue()


def _add_module(archive: zipfile.ZipFile, name: str, source: bytes) -> None:
    """Add a module as source, and compiled: to compile it in each job takes longer than to run.

    Another version of Python passes over what is compiled. The hash makes it independent of the
    time; it is not compared, since both stand in this one file.
    """
    _add(archive, name, source)
    code = compile(source, name, "exec", dont_inherit=True, optimize=_WITHOUT_DOCUMENTATION)
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
