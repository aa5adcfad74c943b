"""A project of several files runs where none of them is.

Each test lays out a project, compiles its pipeline there as a user's script would, takes the
project away, and runs the run directory with a bare Python.
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from struct import Struct
from unittest import mock

import cloudpickle
import numpy as np
import pytest
import reference
from moved_project import bare_python, compile_project

import htdag
from htdag.functions.pickling import function_name
from htdag.runtime import layout
from htdag.runtime.code import culprit, pickling
from htdag.runtime.data import frames
from htdag.runtime.layout import NodeFiles


def test_functions_of_the_script_itself(run_project):
    assert run_project(
        {
            "main.py": """
            import htdag
            FACTOR = 3
            def helper(x):
                return x * FACTOR
            def f(x):
                return helper(x)
            stage = htdag.source([1, 2]).map(f, name="out")
            """
        }
    ) == ["3", "6"]


def test_functions_reached_through_other_modules(run_project):
    assert run_project(
        {
            "deep.py": "OFFSET = 100\ndef deepest(x):\n    return x + OFFSET\n",
            "middle.py": "from deep import deepest\ndef middle(x):\n    return deepest(x)\n",
            "main.py": """
            import htdag
            from middle import middle
            stage = htdag.source([1, 2]).map(lambda x: middle(x), name="out")
            """,
        }
    ) == ["101", "102"]


def test_module_objects_as_globals(run_project):
    assert run_project(
        {
            "deep.py": "OFFSET = 100\ndef deepest(x):\n    return x + OFFSET\n",
            "middle.py": "import deep\ndef middle(x):\n    return deep.deepest(x)\n",
            "main.py": """
            import htdag
            import middle
            stage = htdag.source([1, 2]).map(lambda x: middle.middle(x), name="out")
            """,
        }
    ) == ["101", "102"]


def test_a_module_that_cannot_be_pickled_whole(run_project):
    """As most modules: they hold a lock, a logger, an open file, a connection."""
    assert run_project(
        {
            "tools.py": """
            import logging, sys, threading
            log = logging.getLogger(__name__)
            lock = threading.Lock()
            out = sys.stdout
            def twice(x):
                return 2 * x
            """,
            "main.py": """
            import htdag
            import tools
            stage = htdag.source([1, 2]).map(lambda x: tools.twice(x), name="out")
            """,
        }
    ) == ["2", "4"]


def test_classes_of_the_project_as_items_and_results(run_project):
    assert run_project(
        {
            "shapes.py": """
            class Shape:
                def __init__(self, side):
                    self.side = side
                def __repr__(self):
                    return f"{type(self).__name__}({self.side})"
            class Square(Shape):
                @property
                def area(self):
                    return self.side ** 2
                @classmethod
                def of(cls, side):
                    return cls(side)
                @staticmethod
                def twice(side):
                    return 2 * side
                def grown(self):
                    return Square.of(self.twice(self.side))
            """,
            "main.py": """
            import htdag
            from shapes import Shape, Square
            def check(shape):
                assert isinstance(shape, Shape) and type(shape) is Square
                return shape.grown()
            stage = htdag.source([Square(1), Square(2)]).map(check)
            stage = stage.filter(lambda s: isinstance(s, Square) and s.area > 4, fuse=False)
            stage = stage.map(check, name="out")
            """,
        }
    ) == ["Square(8)"]


def test_dataclasses_enums_and_named_tuples(run_project):
    assert run_project(
        {
            "kinds.py": """
            import collections, dataclasses, enum, typing
            class Color(enum.Enum):
                RED = 1
                BLUE = 2
            class Flag(enum.IntFlag):
                A = 1
                B = 2
            Pair = collections.namedtuple("Pair", "a b")
            class Typed(typing.NamedTuple):
                a: int
                b: str = "x"
            @dataclasses.dataclass(frozen=True, order=True)
            class Book:
                title: str
                color: Color
                words: list = dataclasses.field(default_factory=list, compare=False)
            """,
            "main.py": """
            import dataclasses
            import htdag
            from kinds import Book, Color, Flag, Pair, Typed
            def f(item):
                book, pair = item
                assert book.color is Color.RED and Color(1) is Color.RED
                assert pair == Pair(1, 2) and Typed(3).b == "x"
                assert Flag.A | Flag.B == Flag(3)
                names = [field.name for field in dataclasses.fields(book)]
                assert names == ["title", "color", "words"], names
                assert dataclasses.asdict(book)["title"] == "t"
                return dataclasses.replace(book, title="u"), Typed(pair.b)
            stage = htdag.source([(Book("t", Color.RED), Pair(1, 2))]).map(f)
            def is_red(pair):
                return pair[0].color is Color.RED, pair
            stage = stage.map(is_red, fuse=False, name="out")
            """,
        }
    ) == ["(True, (Book(title='u', color=<Color.RED: 1>, words=[]), Typed(a=2, b='x')))"]


LAZY = {
    "a module": (
        {"helper.py": "def twice(x):\n    return 2 * x\n"},
        "import helper\n    return helper.twice(x)",
    ),
    "a name of a module": (
        {"helper.py": "def twice(x):\n    return 2 * x\n"},
        "from helper import twice\n    return twice(x)",
    ),
    "a module that imports another": (
        {
            "helper.py": "from other import two\ndef twice(x):\n    return two() * x\n",
            "other.py": "def two():\n    import third\n    return third.TWO\n",
            "third.py": "TWO = 2\n",
        },
        "import helper\n    return helper.twice(x)",
    ),
    "a module of a package": (
        {"pack/__init__.py": "", "pack/helper.py": "def twice(x):\n    return 2 * x\n"},
        "import pack.helper\n    return pack.helper.twice(x)",
    ),
    "a module from a package": (
        {"pack/__init__.py": "", "pack/helper.py": "def twice(x):\n    return 2 * x\n"},
        "from pack import helper\n    return helper.twice(x)",
    ),
    "a package with relative imports": (
        {
            "pack/__init__.py": "from .helper import twice\n",
            "pack/helper.py": "from . import sub\ndef twice(x):\n    return sub.deep.TWO * x\n",
            "pack/sub/__init__.py": "from . import deep\nfrom ..other import NOTHING\n",
            "pack/sub/deep.py": "TWO = 2\n",
            "pack/other.py": "NOTHING = 0\n",
        },
        "from pack import twice\n    return twice(x)",
    ),
    "a folder that is a package without __init__.py": (
        {"pack/helper.py": "def twice(x):\n    return 2 * x\n"},
        "from pack.helper import twice\n    return twice(x)",
    ),
}


@pytest.mark.parametrize("what", LAZY)
def test_modules_imported_while_a_function_runs(run_project, what):
    files, body = LAZY[what]
    main = f"""
import htdag
def f(x):
    {body}
stage = htdag.source([1, 2]).map(f, name="out")
"""
    assert run_project({**files, "main.py": main}) == ["2", "4"]


def test_relative_imports_while_a_function_runs(run_project):
    assert run_project(
        {
            "pack/__init__.py": "",
            "pack/helper.py": "def twice(x):\n    return 2 * x\n",
            "pack/work.py": """
            def f(x):
                from . import helper
                from .helper import twice
                return helper.twice(twice(x))
            """,
            "main.py": """
            import htdag
            from pack.work import f
            stage = htdag.source([1, 2]).map(f, name="out")
            """,
        }
    ) == ["4", "8"]


def test_an_import_in_a_function_of_many_names(run_project):
    """Python numbers names; from 256 on the number is in an instruction of its own."""
    names = "".join(f"        x.name{number}\n" for number in range(300))
    main = f"""
import htdag
def f(x):
    if not x:
{names}
    from helper import twice
    return twice(x)
stage = htdag.source([1, 2]).map(f, name="out")
"""
    helper = "def twice(x):\n    return 2 * x\n"
    assert run_project({"helper.py": helper, "main.py": main}) == ["2", "4"]


REACHED = {
    "a table of functions": ("TABLE = {'f': work.f}", "TABLE['f'](x)"),
    "a list of functions": ("LIST = [work.f]", "LIST[0](x)"),
    "an object that is not called": ("THING = work.Thing()", "THING.f(x)"),
    "an argument's default": ("", "default(x)"),
    "a partial": ("PARTIAL = functools.partial(work.f)", "PARTIAL(x)"),
    "a method": ("METHOD = work.Thing().f", "METHOD(x)"),
    "a subclass": ("class Sub(work.Thing):\n    pass", "Sub().f(x)"),
}


@pytest.mark.parametrize("how", REACHED)
def test_functions_that_import_later_however_they_are_reached(run_project, how):
    variable, call = REACHED[how]
    main = f"""
import functools
import htdag
import work
{variable}
def default(x, f=work.f):
    return f(x)
stage = htdag.source([1, 2]).map(lambda x: {call}, name="out")
"""
    work = """
    def f(x):
        import helper
        return helper.twice(x)
    class Thing:
        def f(self, x):
            return f(x)
    """
    helper = "def twice(x):\n    return 2 * x\n"
    assert run_project({"helper.py": helper, "work.py": work, "main.py": main}) == ["2", "4"]


def test_items_whose_methods_import_later(run_project):
    assert run_project(
        {
            "helper.py": "def twice(x):\n    return 2 * x\n",
            "work.py": """
            class Thing:
                def f(self):
                    import helper
                    return helper.twice(1)
            """,
            "main.py": """
            import htdag
            import work
            stage = htdag.source([work.Thing()]).map(lambda thing: thing.f(), name="out")
            """,
        }
    ) == ["2"]


CALLABLES = {
    "partial": "functools.partial(add, 10)",
    "partial of a method": "functools.partial(Adder(10).add)",
    "bound method": "Adder(10).add",
    "class method": "Adder.ten",
    "callable object": "Adder(10)",
    "lambda": "lambda x: x + 10",
    "closure": "make(10)",
    "decorated": "decorated",
    "cached": "cached",
    "recursive": "recursive",
    "mutually recursive": "even_odd",
    "nested lambda": "(lambda y: lambda x: x + y)(10)",
    "with keyword default": "lambda x, *, y=10: x + y",
    "generator based": "generated",
    "built in": "int(10).__add__",
    "operator": "operator.methodcaller('__add__', 10)",
}


@pytest.mark.parametrize("which", CALLABLES)
def test_callables_of_all_kinds(run_project, which):
    functions = """
    import functools
    def add(a, b):
        return a + b
    class Adder:
        def __init__(self, n):
            self.n = n
        def add(self, x):
            return add(self.n, x)
        __call__ = add
        @classmethod
        def ten(cls, x):
            return cls(10).add(x)
    def make(n):
        def inner(x):
            return add(x, n)
        return inner
    def ten_more(f):
        @functools.wraps(f)
        def wrapped(*args):
            return f(*args) + 10
        return wrapped
    @ten_more
    def decorated(x):
        return x
    @functools.lru_cache
    def cached(x):
        return x + 10
    def recursive(x, left=10):
        return recursive(x + 1, left - 1) if left else x
    def even_odd(x, left=10):
        return odd_even(x + 1, left - 1) if left else x
    def odd_even(x, left):
        return even_odd(x + 1, left - 1)
    def generated(x):
        def numbers():
            yield x
            yield 10
        return sum(numbers())
    """
    main = f"""
import functools, operator
import htdag
from functions import *
f = {CALLABLES[which]}
stage = htdag.source([1, 2]).map(f, name="out")
"""
    assert run_project({"functions.py": functions, "main.py": main}) == ["11", "12"]


def test_tracebacks_show_the_lines_of_modules_that_are_not_there(tmp_path):
    """The record of a failed item quotes the user's file."""
    work = "def f(x):\n    return 1 // x  # oh dear\n"
    main = "import htdag\nfrom work import f\nstage = htdag.source([0]).map(f, name='out')"
    run = compile_project(tmp_path, {"work.py": work, "main.py": main})
    bare_python(run / layout.RUNTIME, "work", "out", "0000", "1", cwd=run)
    assert "1 // x  # oh dear" in Path(NodeFiles(run, "out").attempt(0, 1).record).read_text()


# In this process


def test_pickling_changes_nothing_of_cloudpickle():
    before = cloudpickle.list_registry_pickle_by_value()
    htdag.source([reference]).map(lambda x: reference.MEANINGS)
    assert cloudpickle.list_registry_pickle_by_value() == before


def test_a_module_with_two_names_can_be_pickled(monkeypatch):
    monkeypatch.setitem(sys.modules, "another_name_of_reference", reference)
    assert htdag.source([1]).map(lambda x: reference.MEANINGS and x).name == "map"


def test_a_module_that_the_user_registered_stays_registered(monkeypatch):
    import cloudpickle

    monkeypatch.setitem(sys.modules, "reference", reference)
    cloudpickle.register_pickle_by_value(reference)
    try:
        htdag.source([1]).map(lambda x: x)
        assert "reference" in cloudpickle.list_registry_pickle_by_value()
    finally:
        cloudpickle.unregister_pickle_by_value(reference)


@pytest.mark.parametrize(
    ("thing", "name"),
    [(len, "len"), (lambda: 1, ""), (str.upper, "upper"), (json.dumps, "dumps"), (3, "")],
)
def test_names_of_functions(thing, name):
    assert function_name(thing) == name


# Without cloudpickle


@pytest.mark.parametrize(
    "value", [[1, "a", None], (2.5, b"x"), {"a": [True, (1,)]}, {1, 2}, frozenset({3})]
)
def test_containers_of_plain_values_are_pickled_as_all_else(value):
    found = frames.plain_container(value)
    assert found is not None
    assert found.payload == pickling.dumps(value)


@pytest.mark.parametrize("value", [[abs], (int,), [...], {"a": 1j}, [pickle.PickleBuffer(b"a")]])
def test_what_holds_more_than_plain_values_is_left_to_others(value):
    assert frames.plain_container(value) is None


def test_all_classes_that_cloudpickle_reduces_are_left_to_it():
    table = cloudpickle.Pickler._dispatch_table
    modules = {kind.__module__ for kind in table if isinstance(kind, type)}
    assert modules <= pickling.HELPED
    for kind in filter(lambda each: isinstance(each, type), table):
        assert pickling.Pickler.dispatch_table[kind] is table[kind]


class Asked:
    def ask(self, what):
        return what


def asked_mock():
    made = mock.MagicMock()
    made.__len__.return_value = 7
    made.__str__ = lambda made: "text of a mock"
    made.a.b(1).c(x=2)
    return made


@pytest.mark.parametrize(
    ("value", "probe"),
    [
        (mock.MagicMock(), len),
        (mock.Mock(return_value=3), lambda made: made()),
        (mock.MagicMock(side_effect=[1, 2]), lambda made: (made(), made(), made.mock_calls)),
        (asked_mock(), lambda made: (len(made), str(made), made.mock_calls)),
        (mock.create_autospec(Asked)(), lambda made: isinstance(made, Asked) and dir(made)),
        (mock.call.a(1), lambda made: made == mock.call.a(1)),
        (Struct("<hb"), lambda made: made.pack(1, 2)),
        (np.finfo(np.float32), lambda made: made.eps),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_plain_pickle_refuses_is_the_same_after_two_ways(value, probe):
    made = pickle.loads(pickling.dumps(pickle.loads(pickling.dumps(value))))
    assert probe(made) == probe(value)


def test_the_way_to_what_cannot_be_pickled_is_short():
    chain = (number for number in ())
    for _ in range(300):
        chain = [chain]
    shown = culprit.place(chain, "item", pickling.dumps)
    assert len(shown) < 300
    assert shown.endswith("[0][0], a generator)")
