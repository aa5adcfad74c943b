"""The shell lines with which a job unpacks a packed environment, or finds it unpacked."""

from __future__ import annotations

import sys

_VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"

# A period is ten days. Hosts may delete old files of an unpacked environment, so each period has a
# new one, next to the old one, which jobs may still use.
_DAYS = 10
_OLDEST = 4

_STORE = """\
# Where to unpack: a folder that outlives this job, so that the next job on this host finds it. It
# must belong to this user alone, and programs must be allowed to run there. Otherwise, the job's
# own folder.
own_folder() {{
    [ -n "$1" ] && [ -d "$1" ] && [ -w "$1" ] || return 1
    store=$1/htdag-environments-$(id -u)
    # If anybody may write there, only the sticky bit keeps others from renaming our folder.
    case $(LC_ALL=C ls -ldn "$1/." 2>/dev/null) in
        ????????w[tT]*) ;;
        ????????w*) return 1 ;;
    esac
    mkdir -m 700 "$store" 2>/dev/null
    set -- $(LC_ALL=C ls -ldn "$store" 2>/dev/null)
    [ "$3" = "$(id -u)" ] || return 1
    case $1 in drwx------ | drwx------.) ;; *) return 1 ;; esac
    try=$store/.try-$$
    printf '#!/bin/sh\\n' >"$try" 2>/dev/null && chmod 700 "$try" && "$try" 2>/dev/null
    status=$?
    rm -f "$try"
    return $status
}}
scratch=${{_CONDOR_SCRATCH_DIR:-}}
beside=
case $scratch in */dir_[0-9]*) beside=${{scratch%/dir_[0-9]*}} ;; esac
command -v flock >/dev/null 2>&1 && {{
    own_folder "${{HTDAG_ENVIRONMENTS:-}}" || own_folder "$beside" ||
        own_folder /var/tmp || own_folder /tmp
}} || {{
    store=${{scratch:-$PWD}}/.htdag-environments
    mkdir -p -m 700 "$store"
}}
# A new one every {days} days, since hosts delete old files.
period=$(($(date +%s) / 86400 / {days}))
place=$store/{key}.$period
"""

_UNPACK = """\
ready() {{
    [ -f "$place/python" ] && [ -x "$(cat "$place/python")" ]
}}
unpack() {{
    rm -rf "$place"
    mkdir -m 700 "$place" || return 1
{unpack}
    # Last, and in one step: this file marks the folder as complete.
    printf '%s\\n' "$found" >"$place/python.new" && mv "$place/python.new" "$place/python"
    for old in "$store"/*.*; do
        [ "${{old##*.}}" -lt $((period - {oldest})) ] 2>/dev/null && rm -rf "$old"
    done
    return 0
}}
if [ -z "$problem" ] && ! ready; then
    said=$(
        exec 9>"$store/{key}.lock"
        ! command -v flock >/dev/null 2>&1 || flock 9
        ready || unpack 2>&1
    ) || {{
        printf '%s\n' "$said" >&2
        problem="the packed environment cannot be unpacked in $place on $(hostname): $(
            printf '%s\n' "$said" | tail -n 1
        )"
    }}
fi
[ -n "$problem" ] || python=$(cat "$place/python")
"""

_PEX_PYTHON = """\
# pex packs packages, not Python itself.
base=
for name in python{version} python3; do
    base=$(command -v "$name" 2>/dev/null) || continue
    "$base" -S -E -c 'import sys; sys.exit(sys.version_info[:2] != ({version_pair}))' && break
    base=
done
[ -n "$base" ] ||
    problem="there is no python{version} on $(hostname), and packages packed by pex need it: \
choose execute nodes that have it on their PATH, or give an environment that brings Python"
"""

_PEX = """\
    # At its first start, pex makes a virtual environment; print its Python.
    found=$(PATH=$PATH PEX_ROOT=$place PEX_INTERPRETER=1 PEX_PYTHON=$base \\
        "$base" "$here/{file}" -c 'import sys; print(sys.executable)') || return 1
    [ -x "$found" ] || return 1"""

_CONDA = """\
    tar -xzf "$here/{file}" -C "$place" || return 1
    found=$place/bin/python
    # Paths inside of files still name the folder where it was packed.
    "$found" "$place/bin/conda-unpack" || return 1"""


def lines(tool: str, file: str, digest: str) -> str:
    """Return the setup of a packed environment.

    Parameters
    ----------
    tool : {"pex", "conda-pack"}
        What packed it.
    file : str
        The name of the archive beside the script.
    digest : str
        The SHA-256 of the archive.
    """
    key = digest[:32]
    store = _STORE.format(key=key, days=_DAYS)
    if tool == "pex":
        pair = _VERSION.replace(".", ", ")
        before = _PEX_PYTHON.format(version=_VERSION, version_pair=pair)
        unpack = _PEX.format(file=file)
    else:
        before, unpack = "", _CONDA.format(file=file)
    return before + store + _UNPACK.format(key=key, unpack=unpack, oldest=_OLDEST)
