"""Values of ordinary scripts in all places where they can be: runs say what plain Python says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import objects
import pytest
from objects import ENTRIES, IMPORTS, KNOWN, OF_A_MACHINE, Entry
from objects_run import AS_DATA, IN_CODE

if TYPE_CHECKING:
    from pool import Area, Pool

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]

SUPPORT = Path(objects.__file__).parent
LIBRARIES = ("attrs", "numpy", "pandas", "pydantic", "tzdata")
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
AS_DEFAULT = """
def default_{slug}(_, v={value}):
    return {probe}
"""
IN_CLASS = """
class A_{slug}:
    v = {value}
def attribute_{slug}(_):
    v = A_{slug}.__dict__["v"]
    return {probe}
"""
AS_VALUE = """
def make_{slug}(_):
    return {value}
def probe_{slug}(v):
    return {probe}
"""
AS_ARGUMENT = """
def raise_{slug}(_):
    raise objects_run.Raised({value})
"""
KEYS = [entry for entry in ENTRIES if entry.key and not entry.lives_in]
DATA = [entry for entry in ENTRIES if entry.lives_in in ("", "data")]
CODE = [entry for entry in ENTRIES if entry.lives_in in ("", "code")]
ANYWHERE = [entry for entry in CODE if not entry.refused]
PLACES = {
    **dict.fromkeys(IN_CODE, ANYWHERE),
    "default": CODE,
    **dict.fromkeys(AS_DATA, DATA),
    "exception": DATA,
    "key": KEYS,
}
BY_SLUG = {entry.slug: entry for entry in ENTRIES}


def filled(text: str, entry: Entry, place: str = "global") -> str:
    return text.format(slug=entry.slug, value=entry.value, probe=entry.probe, place=place)


FORMS = {
    "global": IN_MODULE,
    "closure": IN_CLOSURE,
    "default": AS_DEFAULT,
    "attribute": IN_CLASS,
    "exception": AS_ARGUMENT,
    **dict.fromkeys([*AS_DATA, "key"], AS_VALUE),
}


def write_scripts(folder: Path, own: str, tables: dict[str, list[Entry]]) -> None:
    """Write script.py, in which the classes and functions are its own or those of a module."""
    text = (SUPPORT / "objects_own.py").read_text()
    (folder / "objects_run.py").write_text((SUPPORT / "objects_run.py").read_text())
    begin = IMPORTS + "import objects_run\n"
    if own == "module":
        begin += "from own import *\n"
    else:
        rest = text.partition("from __future__ import annotations\n")[2]
        begin = "from __future__ import annotations\n" + begin + rest
    values = [filled(IN_MODULE, entry, "module") for entry in tables.get("module", [])]
    (folder / "own.py").write_text(text)
    (folder / "values.py").write_text(IMPORTS + "from own import *\n" + "".join(values))
    forms = {
        (form, entry.slug): filled(form, entry)
        for place, entries in tables.items()
        for form in [FORMS.get(place, "")]
        for entry in entries
    }
    end = "if __name__ == '__main__':\n    objects_run.main(globals())\n"
    script = [begin, "from values import *\n", *forms.values(), end]
    (folder / "script.py").write_text("".join(script))


def answers(folder: Path, on: str, tables: dict[str, list[Entry]], **fuse: bool) -> Any:
    """Return what plain Python (``"plain"``) or runs say of the entries of some places.

    Execute points of the pool have none of the libraries, so there these travel.
    """
    asked = {
        "on": on,
        "packed": [f"{name}=={version(name)}" for name in LIBRARIES] if on == "condor" else [],
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
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(Path(asked["answers"]).read_text())


def differences(plain: Any, told: Any, tables: dict[str, list[Entry]]) -> dict[str, list[str]]:
    """Return what differs, by place and name, with both answers."""
    return {
        f"{place}: {entry.name}": [plain[place][entry.slug], told[place].get(entry.slug)]
        for place, entries in tables.items()
        for entry in entries
        if not agrees(entry, place, plain[place][entry.slug], told[place].get(entry.slug))
    }


def agrees(entry: Entry, place: str, plain: list[str], told: list[str] | None) -> bool:
    if told is None:
        return False
    if told[0] == "refused":
        if place == "key" and IS_NO_KEY.match(told[1]):
            return True
        # What Python pickles, htdag does too.
        if place in AS_DATA and plain[0] != "refused":
            return False
        return bool(entry.refused and is_said_of(entry, told[1]))
    if plain[0] == "refused" and place in AS_DATA:
        return told[0] == "said"  # more than plain pickle does
    if place == "exception" and plain[1].endswith("?"):
        # Where the exception has no text, plain Python shows none.
        return told[1].startswith(plain[1][:-1])
    return comparable(plain) == comparable(told)


IS_NO_KEY = re.compile(r"StageError: an? \S+ cannot be a key: .*; make the key from .* key=")
REFUSED = re.compile(r"(ItemPickle|Function|Stage|Pickling)Error: ")
INTERNAL = re.compile(r"_NotYet|(Key|Assertion|Attribute)Error|Traceback")


def is_said_of(entry: Entry, text: str) -> bool:
    """Tell whether a refusal is meant for users, and says what is refused."""
    said = REFUSED.match(text) and not INTERNAL.search(text)
    return bool(said and re.search(entry.refused, text))


def comparable(answer: list[str]) -> list[str]:
    """Return an answer without addresses, and without the order of sets of texts."""
    text = re.sub(r"0x[0-9a-fA-F]+|id='\d+'|fd=\d+", "0x", answer[1])
    text = re.sub(r"(?<=set\(\{)[^{}]*", lambda m: ", ".join(sorted(m[0].split(", "))), text)
    return [answer[0], text[:100]]


GROUPS = {
    "globals": ["global", "module"],
    "in functions": ["default", "closure", "attribute"],
    "as data": ["item", "result", "bind", "initial"],
    "keys and exceptions": ["key", "exception"],
}


def tables_of(group: str) -> dict[str, list[Entry]]:
    return {
        place: [entry for entry in PLACES[place] if f"{place}: {entry.name}" not in KNOWN]
        for place in GROUPS[group]
    }


def check(folder: Path, own: str, on: str, tables: dict[str, list[Entry]], **fuse: bool) -> None:
    write_scripts(folder, own, tables)
    plain = answers(folder, "plain", tables)
    told = answers(folder, on, tables, **fuse)
    found = differences(plain["answers"], told["answers"], tables)
    assert not found, "\n".join(f"{name}: {answers}" for name, answers in found.items())


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("own", ["script", "module"])
def test_values_are_in_runs_what_they_are_in_python(
    runs_dir: Path, tmp_path: Path, own: str, group: str
) -> None:
    """The classes are the script's own, and all is fused; or those of a module, and nothing is."""
    fuse = {} if own == "script" else {"fuse": False}
    check(tmp_path, own, "local", tables_of(group), **fuse)


@pytest.fixture(scope="module")
def pool_home(pool_area: Area) -> Path:
    """One home for all runs on the pool: to pack the libraries takes long."""
    return pool_area.new_runs_dir()


@pytest.mark.pool
@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "unfused"])
def test_values_are_on_a_pool_what_they_are_in_python(
    pool: Pool, pool_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fuse: bool
) -> None:
    """The classes are the script's own, and all is fused; or those of a module, and nothing is.

    Execute points see nothing of the submit side.
    """
    monkeypatch.setenv("HTDAG_HOME", str(pool_home))
    tables = {
        place: [entry for entry in entries if f"{place}: {entry.name}" not in OF_A_MACHINE]
        for group in GROUPS
        for place, entries in tables_of(group).items()
    }
    with pool.only("blind"):
        check(tmp_path, "script" if fuse else "module", "condor", tables, fuse=fuse)


def test_the_table_of_what_is_known_to_go_wrong_is_true(runs_dir: Path, tmp_path: Path) -> None:
    """What is mended has to leave the table."""
    tables = {
        place: [entry for entry in entries if f"{place}: {entry.name}" in KNOWN]
        for place, entries in PLACES.items()
    }
    tables = {place: entries for place, entries in tables.items() if entries}
    write_scripts(tmp_path, "script", tables)
    plain = answers(tmp_path, "plain", tables)["answers"]
    told = answers(tmp_path, "local", tables)["answers"]
    assert set(differences(plain, told, tables)) == set(KNOWN)
