"""What of a function's code counts, and what does not."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from htdag.functions import fingerprint
from htdag.functions.fingerprint import of_function, of_item, of_kind, of_value

BOOKS = '''
"""A module."""
import collections
import functools
from dataclasses import dataclass, field
from enum import Enum

LIMIT = 3
UNUSED = 1
WORDS = {"to", "be", "or", "not"}
TABLE = {"a": [1, 2], "b": (3, {"x", "y", "z"})}


class Kind(Enum):
    PROSE = 1
    VERSE = 2


@dataclass
class Book:
    """A book."""

    name: str
    pages: int = 100
    words: list = field(default_factory=list)

    def size(self):
        return self.pages * LIMIT

    @property
    def short(self):
        return cut(self.name)

    @staticmethod
    def made(name):
        return Book(name)


def cut(text, length=5):
    """Cut a text."""
    return text[:length]


def parse(text):
    # Split it.
    words = [cut(word) for word in text.split() if word not in {"a", "the", "an"}]
    return collections.Counter(words), [w for w in words if w in WORDS], TABLE


def unused(text):
    return text


def describe(text):
    book = Book.made(text)
    return book.short, Kind.PROSE, book.size()


def scaled(factor):
    def scale(number):
        return number * factor

    return scale


def loud(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


@loud
def shout(text):
    return cut(text).upper()


class Parser:
    def __init__(self, length):
        self.length = length

    def __call__(self, text):
        return cut(text, self.length)

    def method(self, text):
        return parse(text)


def even(number):
    return number == 0 or odd(number - 1)


def odd(number):
    return number != 0 and even(number - 1)


def late(text):
    import chapters

    return chapters.count(text)


def looped(numbers, *, start=0):
    total = start
    for number in numbers:
        try:
            total += 1 / number
        except ZeroDivisionError:
            continue
    return total


twice = scaled(2)
partly = functools.partial(cut, length=4)
parser = Parser(4)
bound = Parser(5).method
'''
CHAPTERS = '''
"""Chapters."""


def count(text):
    return text.count("CHAPTER")
'''
NAMES = [
    *("parse", "describe", "twice", "shout", "partly", "parser"),
    *("bound", "even", "late", "looped", "cut"),
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Loads the modules of a project after an edit, and returns what its functions are made of."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(books: str = BOOKS, chapters: str = CHAPTERS) -> dict[str, Any]:
        (tmp_path / "books.py").write_text(books)
        (tmp_path / "chapters.py").write_text(chapters)
        sys.modules.pop("chapters", None)
        spec = importlib.util.spec_from_file_location("books", tmp_path / "books.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "books", module)
        exec(compile(books, tmp_path / "books.py", "exec"), vars(module))
        return {name: of_function(getattr(module, name)) for name in NAMES}

    return load


def changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, set[str]]:
    """The components that are not the same, by function."""
    found = {}
    for name in before:
        mine, its = before[name].components, after[name].components
        names = {each for each in {**mine, **its} if mine.get(each) != its.get(each)}
        if names:
            found[name] = names
    return found


SAME = {
    "moved": lambda text: "\n\n\n" + text,
    "comment": lambda text: text.replace("# Split it.", "# Split it, into words."),
    "white space": lambda text: text.replace("text[:length]", "text[ : length ]"),
    "broken line": lambda text: text.replace("total += 1 / number", "total += (\n    1 / number)"),
    "docstring changed": lambda text: text.replace('"""Cut a text."""', '"""Cut it."""'),
    "docstring gone": lambda text: text.replace('    """Cut a text."""\n', ""),
    "docstring new": lambda text: text.replace("    # Split it.", '    """Split it."""'),
    "annotation": lambda text: text.replace(
        "def cut(text, length=5)", "def cut(text: str, length=5)"
    ),
    "what is not used": lambda text: text.replace("UNUSED = 1", "UNUSED = 2").replace(
        "def unused(text):\n    return text", "def unused(text):\n    return None"
    ),
    "order of definitions": lambda text: text.replace("LIMIT = 3\n", "").replace(
        "UNUSED = 1\n", "UNUSED = 1\nLIMIT = 3\n"
    ),
    "quotes": lambda text: text.replace('"to"', "'to'"),
}


@pytest.mark.parametrize("edit", SAME.values(), ids=SAME)
def test_what_does_not_count(project: Any, edit: Any):
    assert edit(BOOKS) != BOOKS
    assert changed(project(), project(edit(BOOKS))) == {}


CUT = {"parse", "describe", "shout", "partly", "parser", "bound", "cut"}
PARSE = {"parse", "bound", "parser"}
CHANGED = {
    "constant in code": ("text[:length]", "text[1:length]", CUT, "helper cut"),
    "default": ("length=5", "length=6", CUT, "defaults of helper cut"),
    "global": ("LIMIT = 3", "LIMIT = 4", {"describe"}, "variable LIMIT"),
    "set": (
        '"or", "not"',
        '"or", "and"',
        PARSE,
        "variable WORDS",
    ),
    "set in code": ('"the", "an"', '"the", "one"', PARSE, ""),
    "order of a dict": (
        '"a": [1, 2], "b": (3, {"x", "y", "z"})',
        '"b": (3, {"x", "y", "z"}), "a": [1, 2]',
        PARSE,
        "variable TABLE",
    ),
    "closure": ("scaled(2)", "scaled(3)", {"twice"}, "enclosing variable factor of its function"),
    "method": (
        "self.pages * LIMIT",
        "self.pages + LIMIT",
        {"describe"},
        "helper Book.size",
    ),
    "property": ("cut(self.name)", "self.name", {"describe"}, "helper Book.short"),
    "field": (
        "pages: int = 100",
        "pages: int = 99",
        {"describe"},
        "pages of class Book",
    ),
    "member of an enum": (
        "PROSE = 1",
        "PROSE = 3",
        {"describe"},
        "members of class Kind",
    ),
    "decorated": ("cut(text).upper()", "cut(text).lower()", {"shout"}, "helper shout"),
    "decorator": ("function(*args)", "function(*args) * 2", {"shout"}, ""),
    "partial": ("cut, length=4", "cut, length=3", {"partly"}, "its function"),
    "attribute of an object": ("Parser(4)", "Parser(3)", {"parser"}, "its function"),
    "object of a bound method": ("Parser(5)", "Parser(6)", {"bound"}, "its function"),
    "recursion": ("number != 0 and", "number != 1 and", {"even"}, "helper odd"),
    "exception": ("except ZeroDivisionError", "except ValueError", {"looped"}, "its function"),
    "loop": ("continue", "break", {"looped"}, "its function"),
    "default of a keyword": ("start=0", "start=1", {"looped"}, "defaults of its function"),
    "name of an argument": ("def cut(text,", "def cut(words,", CUT, ""),
}


@pytest.mark.parametrize("edit", CHANGED.values(), ids=CHANGED)
def test_what_counts(project: Any, edit: tuple[str, str, set[str], str]):
    old, new, functions, component = edit
    text = BOOKS.replace(old, new)
    if "words" in new:
        text = text.replace("text[:length]", "words[:length]")
    assert text != BOOKS
    found = changed(project(), project(text))
    assert set(found) == functions
    names = set().union(*found.values())
    assert not component or component in names or "cut" in functions


def test_a_module_that_is_imported_when_a_function_runs(project: Any):
    before = project()
    commented = CHAPTERS.replace('"""Chapters."""', "# Chapters.")
    assert changed(before, project(chapters=commented)) == {}
    found = changed(before, project(chapters=CHAPTERS.replace("CHAPTER", "BOOK")))
    assert found == {"late": {"module chapters"}}


def test_nothing_is_unsure(project: Any):
    assert {name: found.unsure for name, found in project().items() if found.unsure} == {}


PRINT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from htdag.functions.fingerprint import of_function, of_item, of_kind, of_value
import books
names = json.loads(sys.argv[2])
found = {name: of_function(getattr(books, name)).content() for name in names}
items = [{"a", "b", "c"}, books.Book("x"), [frozenset("xyz")], (books.Kind.VERSE, {1: {"q", "r"}})]
print(json.dumps([found, [of_item(item).hex() for item in items]]))
"""


def test_it_is_the_same_in_every_process(tmp_path: Path):
    (tmp_path / "books.py").write_text(BOOKS)
    (tmp_path / "chapters.py").write_text(CHAPTERS)
    printed = [
        subprocess.run(
            [sys.executable, "-c", PRINT, str(tmp_path), json.dumps(NAMES)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed[0] == printed[1]
    assert len(json.loads(printed[0])[0]) == len(NAMES)


def test_functions_of_packages_count_by_name_and_version(monkeypatch: pytest.MonkeyPatch):
    import networkx

    before = of_function(networkx.shortest_path)
    assert before.components == of_function(networkx.shortest_path).components
    monkeypatch.setattr(networkx, "__version__", "99")
    assert before.components != of_function(networkx.shortest_path).components


def test_builtins():
    functions = [len, str.upper, "a".join, "b".join, functools.reduce, int, print]
    digests = [of_function(function).components[fingerprint.ITSELF] for function in functions]
    assert len(set(digests)) == len(functions)


def test_what_cannot_be_digested_is_told():
    numbers = (number for number in range(3))

    def numbered(item):
        return next(numbers), item

    found = of_function(numbered)
    assert list(found.unsure) == ["enclosing variable numbers of its function"]
    assert "cannot be compared" in next(iter(found.unsure.values()))


def test_values():
    loop: list[Any] = []
    loop.append(loop)
    assert of_value(loop, "x").components == of_value(loop, "x").components
    assert of_value([1, "a"], "x").components == of_value([1, "".join(["a"])], "x").components
    assert of_value(1, "x").components != of_value(1.0, "x").components
    assert of_value(1, "x").components != of_value(True, "x").components
    assert of_item(threading.Lock()) is None
    assert of_item(lambda x: x) is None


def test_a_class_of_items():
    class One:
        def size(self):
            return 1

    first = of_kind(One)

    class One:  # type: ignore[no-redef]
        def size(self):
            return 2

    assert first.components != of_kind(One).components


def test_files_of_a_package_count_where_it_asks_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "stations"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "names.py").write_text(
        "from pathlib import Path\nFOLDER = Path(__file__).parent\n"
        "def name(number):\n    return (FOLDER / 'names.txt').read_text().split()[number]\n"
    )
    (package / "names.txt").write_text("Oslo Lima")
    names = importlib.import_module("stations.names")
    before = of_function(names.name).components
    assert before == of_function(names.name).components
    (package / "names.txt").write_text("Oslo Pune")
    after = of_function(names.name).components
    assert {k for k in after if before[k] != after[k]} == {"files of package stations"}


def test_native_code_of_the_user_counts_by_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import _bisect

    if not getattr(_bisect, "__file__", None):
        pytest.skip("this Python has no extension module to copy")
    copied = tmp_path / Path(_bisect.__file__).name
    shutil.copy(_bisect.__file__, copied)
    monkeypatch.delitem(sys.modules, "_bisect")
    monkeypatch.syspath_prepend(str(tmp_path))
    own = importlib.import_module("_bisect")
    assert own.__file__ == str(copied)
    before = of_function(own.bisect_left).components
    by_name = of_function(lambda numbers: own.bisect_left(numbers, 1)).components
    with copied.open("ab") as file:
        file.write(b"changed")
    assert before != of_function(own.bisect_left).components
    assert by_name != of_function(lambda numbers: own.bisect_left(numbers, 1)).components


def test_numpy_and_pandas(monkeypatch: pytest.MonkeyPatch):
    numpy = pytest.importorskip("numpy")
    table = numpy.arange(100_000)

    def look_up(item):
        return table[item], numpy.sin(item)

    found = of_function(look_up)
    assert found.unsure == {}
    assert "package numpy" in found.components
    table[7] = 0
    after = of_function(look_up).components
    assert {k for k in after if after[k] != found.components[k]} == {
        "enclosing variable table of its function"
    }
    assert of_function(numpy.sin).components != of_function(numpy.cos).components
