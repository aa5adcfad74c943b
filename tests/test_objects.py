"""Values of ordinary scripts in all places where they can be: runs say what plain Python says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from objects import ENTRIES, IMPORTS, Entry
from objects_run import AS_DATA, IN_CODE

HERE = Path(__file__).parent
IN_CLOSURE = """
def _closure_{slug}():
    v = {value}
    def inner(_):
        return {probe}
    return inner
closure_{slug} = _closure_{slug}()
"""
IN_MODULE = """
G_{slug} = {value}
def {place}_{slug}(_):
    v = G_{slug}
    return {probe}
"""
IN_SCRIPT = """
def default_{slug}(_, v={value}):
    return {probe}
class A_{slug}:
    v = {value}
def attribute_{slug}(_):
    v = vars(A_{slug})["v"]
    return {probe}
"""
AS_VALUE = """
def make_{slug}(_):
    return {value}
def probe_{slug}(v):
    return {probe}
def raise_{slug}(_):
    raise objects_run.Raised({value})
"""
KEYS = [entry for entry in ENTRIES if entry.key and not entry.lives_in]
DATA = [entry for entry in ENTRIES if entry.lives_in in ("", "data")]
CODE = [entry for entry in ENTRIES if entry.lives_in in ("", "code")]
PLACES = {
    **dict.fromkeys(IN_CODE, CODE),
    **dict.fromkeys(AS_DATA, DATA),
    "exception": DATA,
    "key": KEYS,
}
BY_SLUG = {entry.slug: entry for entry in ENTRIES}


def filled(text: str, entry: Entry, place: str = "global") -> str:
    return text.format(slug=entry.slug, value=entry.value, probe=entry.probe, place=place)


def write_scripts(folder: Path, own: str, entries: list[Entry]) -> None:
    """Write script.py, in which the classes and functions are its own or those of a module."""
    text = (HERE / "objects_own.py").read_text()
    (folder / "objects_run.py").write_text((HERE / "objects_run.py").read_text())
    begin = IMPORTS + "import objects_run\n"
    if own == "module":
        (folder / "own.py").write_text(text)
        begin += "from own import *\n"
    else:
        future, _, rest = text.partition("from __future__ import annotations\n")
        begin = "from __future__ import annotations\n" + begin + rest
    values = [filled(IN_MODULE, entry, "module") for entry in entries if entry in CODE]
    (folder / "values.py").write_text(IMPORTS + "from own import *\n" + "".join(values))
    (folder / "own.py").write_text(text)
    script = [begin, "from values import *\n"]
    for entry in entries:
        if entry in CODE:
            script += [filled(form, entry) for form in (IN_MODULE, IN_CLOSURE, IN_SCRIPT)]
        script.append(filled(AS_VALUE, entry))
    script.append("if __name__ == '__main__':\n    objects_run.main(globals())\n")
    (folder / "script.py").write_text("".join(script))


def answers(folder: Path, on: str, tables: dict[str, list[Entry]], **fuse: bool) -> dict:
    asked = {
        "on": on,
        "tables": {place: [entry.slug for entry in entries] for place, entries in tables.items()},
        "fuse": fuse,
        "answers": str(folder / f"answers-{on}.json"),
    }
    (folder / "asked.json").write_text(json.dumps(asked))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "script.py", "asked.json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COVERAGE_PROCESS_START": ""},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(Path(asked["answers"]).read_text())
    return told["answers"]
