"""The runtime archive: everything that a job needs beside a bare python3, in one file."""

from __future__ import annotations

import importlib.util
import io
import marshal
import os
import sys
import zipfile
from functools import lru_cache
from pathlib import Path

import cloudpickle

from htdag import runtime

_WITHOUT_DOCUMENTATION = 2  # which is as much again to read and to load
_EPOCH = (2020, 1, 1, 0, 0, 0)  # equal contents give equal archives

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
    preamble = _PREAMBLE.format(major=sys.version_info[0], minor=sys.version_info[1])
    buffer = io.BytesIO()
    buffer.write(preamble.encode())
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        package = Path(runtime.__file__).parent
        _add(archive, "__main__.py", (package / "__main__.py").read_bytes())
        for path in sorted(package.rglob("*.py")):
            name = path.relative_to(package).as_posix()
            if name != "__main__.py":
                _add_module(archive, f"htdag_runtime/{name}", path.read_bytes())
        root = Path(cloudpickle.__file__).parent
        for path in sorted(root.rglob("*.py")):
            relative = path.relative_to(root.parent)
            _add_module(archive, relative.as_posix(), path.read_bytes())
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
