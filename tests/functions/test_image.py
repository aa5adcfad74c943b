"""In a job the user's modules are what they were at submit: one image of each, under its own name.

Each test lays out a project, compiles its pipeline there, takes the project away, and runs the run
directory with a bare Python.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from moved_project import compile_project, write_project

import htdag
from htdag.errors import FunctionError, ItemPickleError, ValueUnreadable
from htdag.functions.image import Image
from htdag.runtime import layout
from htdag.runtime.code import image, pickling
from htdag.runtime.job import program
from htdag.runtime.layout import NodeFiles

if TYPE_CHECKING:
    from pool import Pool


class Star:
    """As small as plain pickle makes it."""

    def __init__(self, number: int) -> None:
        self.number = number


CLASSES = """
import abc, collections, dataclasses, enum, functools, sys, typing
import htdag

class Base:
    registry = []
    def __init_subclass__(cls, tag, **others):
        super().__init_subclass__(**others)
        cls.tag = tag
        Base.registry.append(cls)
class Sub(Base, tag="x"):
    def __init__(self, v):
        self.v = v
    one = 1
class SubSub(Sub, tag="y"):
    one = Sub.one
class Meta(type):
    made = []
    def __new__(meta, name, bases, names, *, need):
        made = super().__new__(meta, name, bases, names)
        meta.made.append(name)
        type.__setattr__(made, "need", need)
        return made
    def __init__(cls, name, bases, names, *, need):
        super().__init__(name, bases, names)
    def __setattr__(cls, name, value):
        raise AttributeError("it cannot change")
class WithMeta(metaclass=Meta, need=3):
    x = 1
class Abstract(abc.ABC):
    @abc.abstractmethod
    def f(self): ...
@Abstract.register
class Virtual:
    pass
class Concrete(Abstract):
    def f(self):
        return super().__repr__() and 5
class Slots:
    __slots__ = ("a", "__b", "__weakref__")
    def __init__(self):
        self.a, self.__b = 1, 2
    def b(self):
        return self.__b
@dataclasses.dataclass(slots=True, frozen=True, order=True)
class Point:
    x: int
    y: int = 0
@dataclasses.dataclass
class Tree:
    left: "Tree | None" = None
    n: int = dataclasses.field(default=3, metadata={"a": 1}, repr=False)
class Typed(typing.NamedTuple):
    x: int
    y: int = 4
Named = collections.namedtuple("Named", "a b", defaults=[1])
class Color(enum.Enum):
    RED = "r"
    @property
    def upper(self):
        return self.value.upper()
class Operation(enum.Enum):
    ADD = ("+", 1)
    PLUS = ADD
    def __init__(self, sign, arity):
        self.sign = sign
class Flags(enum.IntFlag):
    A = 1
    B = 2
class Text(str, enum.Enum):
    X = "x"
T = typing.TypeVar("T")
class Box(typing.Generic[T]):
    def __init__(self, v: T):
        self.v = v
class IntBox(Box[int]):
    pass
@typing.runtime_checkable
class Protocol(typing.Protocol):
    def f(self) -> int: ...
class Dict(typing.TypedDict, total=False):
    a: int
Number = typing.NewType("Number", int)
@functools.singledispatch
def dispatched(x):
    return "object"
@dispatched.register
def _(x: int):
    return "int"
@dispatched.register(Sub)
def _(x):
    return "Sub"
@functools.lru_cache(maxsize=None)
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)
class Own(Exception):
    def __init__(self, a):
        super().__init__(a)
        self.a = a
class Named2:
    def __set_name__(self, owner, name):
        self.name = name
    def __get__(self, owner, kind):
        return self.name
SHARED = [1]
SENTINEL = object()
class Members:
    cache = {"key": SHARED}
    holds = {"shared": SHARED}
    named = Named2()
    @functools.cached_property
    def seven(self):
        return 7
    @staticmethod
    def one():
        return 1
    @classmethod
    def kind(cls):
        return cls
    class Inner:
        z = 5
def sentinel():
    return SENTINEL
def hinted(tree: "Tree"):
    return tree

CHECKS = {
    "what __init_subclass__ did": lambda: Base.registry == [Sub, SubSub] and SubSub.tag == "y",
    "what a metaclass did": lambda: Meta.made == ["WithMeta"] and WithMeta.need == 3,
    "a metaclass": lambda: type(WithMeta) is Meta,
    "abstract classes": lambda: isinstance(Virtual(), Abstract) and Concrete().f() == 5,
    "slots": lambda: Slots().b() == 2 and not hasattr(Slots(), "__dict__"),
    "a dataclass with slots": lambda: Point(1) < Point(2) and not hasattr(Point(1), "__dict__"),
    "a dataclass": lambda: repr(Tree()) == "Tree(left=None)",
    "metadata": lambda: dataclasses.fields(Tree)[1].metadata["a"] == 1,
    "named tuples": lambda: Typed(1)._replace(x=5) == (5, 4) and Named(2).b == 1,
    "enums": lambda: Color("r") is Color.RED and Color.RED.upper == "R" and len(Color) == 1,
    "enums that do more": lambda: Operation.PLUS is Operation.ADD and Operation.ADD.sign == "+",
    "type hints": lambda: typing.get_type_hints(hinted) == {"tree": Tree},
    "flags": lambda: Flags.A | Flags.B == Flags(3) and Text.X == "x",
    "generic classes": lambda: Box[int](3).v == 3 and Box.__parameters__ == (T,),
    "their bases": lambda: typing.get_args(IntBox.__orig_bases__[0]) == (int,),
    "protocols": lambda: isinstance(Concrete(), Protocol),
    "typed dicts": lambda: Dict(a=1) == {"a": 1} and Dict.__total__ is False,
    "new types": lambda: Number(3) == 3,
    "single dispatch": lambda: [dispatched(x) for x in (1, "", Sub(1))] == ["int", "object", "Sub"],
    "caches": lambda: fibonacci(30) == 832040 and fibonacci.cache_info().currsize == 31,
    "members": lambda: (Members().seven, Members.one(), Members.Inner.z) == (7, 1, 5),
    "descriptors": lambda: Members().named == "named" and Members.kind() is Members,
    "one object": lambda: Members.cache["key"] is SHARED and Members.holds["shared"] is SHARED,
    "a sentinel": lambda: sentinel() is SENTINEL,
    "imports by what is written in C": lambda: "__builtins__" in globals(),
    "the script": lambda: sys.modules["__main__"].Sub is Sub,
    "an error": lambda: Own(3).a == 3,
    "members as inherited": lambda: "one" in vars(SubSub) and SubSub.one is Sub.one,
}
ITEM = [Sub(1), Point(2), Typed(3), Named(4), Color.RED, Flags(3), Slots(), WithMeta(), IntBox]
KINDS = [Sub, Point, Typed, Named, Color, Flags, Slots, WithMeta]
def check(item):
    kinds = [kind for thing, kind in zip(item, KINDS) if type(thing) is not kind]
    return item, kinds, [name for name, is_right in CHECKS.items() if not is_right()]
def look(found):
    item, *wrong = found
    item.append(Own(1))
    _, kinds, checks = check(item)
    return (*wrong, kinds, checks, item[8] is IntBox, item[4] is Color.RED, type(item[-1]) is Own)
stage = htdag.source([ITEM]).map(check).map(look, fuse=False, name="out")
"""


def test_classes_are_what_they_were(run_project: Any):
    assert run_project({"main.py": CLASSES}) == ["([], [], [], [], True, True, True)"]


PACKAGE = {
    "pack/__init__.py": "from .a import A\nfrom . import b\nVERSION = '1'\n",
    "pack/a.py": """
    from __future__ import annotations
    import configparser
    from pathlib import Path
    from .b import BASE, helper
    HERE = Path(__file__).parent
    FILE = str(HERE / "config.ini")
    config = configparser.ConfigParser()
    config.read(HERE / "config.ini")
    class A:
        def go(self, x):
            from .c import late
            return late(x) + BASE + helper(x) + config.getint("main", "scale")
        def files(self):
            import importlib.resources, pkgutil
            read = importlib.resources.files("pack").joinpath("config.ini").read_text()
            data = pkgutil.get_data("pack", "config.ini").decode()
            texts = {read, data, (HERE / "config.ini").read_text(), open(FILE).read()}
            return texts == {(Path(__file__).parent / "config.ini").read_text()}
    """,
    "pack/config.ini": "[main]\nscale = 1\n",
    "pack/b.py": "BASE = 10\nUNREACHED = []\ndef helper(x):\n    return x\n",
    "pack/c.py": """
    from .b import BASE
    from . import VERSION
    import pack.sub.deep
    def late(x):
        return x * 100 + int(VERSION) + pack.sub.deep.DEEP
    """,
    "pack/sub/__init__.py": "",
    "pack/sub/deep.py": "from ..b import *\nDEEP = BASE * 1000\n",
}


def test_packages_with_relative_imports_and_files(run_project: Any):
    main = """
    import htdag
    import pack
    pack.b.BASE = 20
    pack.b.UNREACHED.append(1)
    def f(x):
        same = pack.A is __import__("pack.a").A
        return pack.A().go(x), pack.A().files(), same, getattr(pack.b, "".join(("UNREA", "CHED")))
    stage = htdag.source([1]).map(f, name="out")
    """
    # BASE is what it was in each module; what nobody was seen to use is made from the source.
    assert run_project({**PACKAGE, "main.py": main}) == ["(20113, True, True, [])"]


def test_modules_are_as_they_were_at_submit(run_project: Any):
    assert run_project(
        {
            "tools.py": """
            # -*- coding: latin-1 -*-
            import random
            SEED = random.random()
            class State:
                seen = 0
            def late():
                return State.seen, SEED
            """,
            "statistics.py": "def mean(values):\n    return 'mine'\n",
            "main.py": """
            import htdag
            import statistics
            import tools
            tools.State.seen = 3
            tools.added = {"later": 1}
            seed = tools.SEED
            def f(x):
                import tools as again
                from tools import State
                return (again is tools, State is tools.State, tools.late() == (3, seed),
                        tools.added["later"], statistics.mean([x]))
            stage = htdag.source([1]).map(f, name="out")
            """,
        }
    ) == ["(True, True, True, 1, 'mine')"]


NAMES = {
    "in globals()": "globals()[''.join(('lim', 'it'))]",
    "evaluated": "eval('limit * 1')",
    "in a text": "sys._getframe().f_globals['limit']",
    "in the globals of a frame": "sys._getframe().f_globals[''.join(('li', 'mit'))]",
    "in the globals of a function": "f.__globals__[''.join(('li', 'mit'))]",
    "by getattr": "getattr(sys.modules['__main__'], ''.join(('li', 'mit')))",
    "of a module by name": "importlib.import_module(''.join(('hel', 'per'))).limit()",
    "by an import of its own script": "__import__('__main__').limit",
    "of an attribute": "helper.limit()",
    "that a module makes": "helper.made_up",
    "in a variable": "pydoc.locate(LOCATE)",
    "in a pickle": "pickle.loads(BLOB)()",
    "of a module in a variable": "importlib.import_module(LATE).ONE * 3",
    "in a query": "helper.query(QUERY)[0]",
    "in an expression": "helper.evaluate(EXPRESSIONS[0])",
    "in a query of a class": "sum(helper.query(Names.query))",
}


@pytest.mark.parametrize("how", NAMES)
def test_names_that_no_code_names(run_project: Any, how: str):
    main = f"""
import importlib, pickle, pydoc, sys
import htdag
import helper
limit = 3
lower = 3
whole = 3
EXPRESSIONS = ["whole", "nothing"]
some = 1
more = 2
helper.located = helper.added = 3
LOCATE = "helper.located"
BLOB = pickle.dumps(helper.pickled)
LATE = "pack.late"
QUERY = "m > @lower"
class Names:
    query = "m > @some and m < @more"
def f(x):
    return {NAMES[how]}
stage = htdag.source([1]).map(f, name="out")
"""
    helper = """
    import re, sys
    def query(text):
        names = sys._getframe(1).f_globals
        return [names[name] for name in re.findall("@([a-z]+)", text)]
    def evaluate(text):
        return sys._getframe(1).f_globals[text]
    def limit():
        return 3
    located = added = 0
    def pickled():
        return added
    def __getattr__(name):
        if name == "made_up":
            return 3
        raise AttributeError(name)
    """
    late = {
        "pack/__init__.py": "",
        "pack/late.py": "from .one import ONE",
        "pack/one.py": "ONE = 1",
    }
    assert run_project({"main.py": main, "helper.py": helper, **late}) == ["3"]


def test_nothing_of_htdag_is_a_module_of_the_users(tmp_path: Path):
    """A checkout lies in a folder in which modules are searched for, as the user's do."""

    def told(x: int) -> Any:
        return "htdag.MISSING", "htdag.files", "htdag.stages.operations", x

    image = Image()
    image.dump({"functions": [told]})
    image.finish()
    image.write(tmp_path)
    content = pickle.loads((tmp_path / layout.IMAGE).read_bytes())
    assert [name for name in content["pieces"] if name[0].startswith("htdag")] == []
    assert [name for name in content["modules"] if name.startswith("htdag")] == []


def test_packages_are_not_imported_at_submit(run_project: Any):
    main = """
    import htdag
    def f(x):
        import pack.sub.deep
        from folder.inner.module import TWO
        return pack.sub.deep.DEEP * TWO * x
    stage = htdag.source([1, 2]).map(f, name="out")
    """
    files = {
        "pack/__init__.py": "import sys\nif 'htdag.compile' in sys.modules: raise RuntimeError\n",
        "pack/sub/__init__.py": "",
        "pack/sub/deep.py": "DEEP = 10\n",
        "folder/inner/module.py": "TWO = 2\n",
    }
    assert run_project({**files, "main.py": main}) == ["20", "40"]


def test_names_are_made_by_the_statements_that_bind_them(run_project: Any):
    main = """
    import sys
    import htdag
    kept = {"at submit": 1}
    try:
        import a_module_that_no_one_has as fast
    except ImportError:
        fast = None
    number = 1
    for number in range(3):
        pass
    words = ["a"]
    words.append("b")
    words[0] = len(kept)
    def made(x=number):
        stage = [x, kept]  # not what is further down
        return words + stage
    if __name__ == "__main__":
        never = 1 / len([*words])
    kept["at submit"] = 2
    def f(x):
        main = sys.modules["__main__"]
        made, never = "".join(("ma", "de")), "".join(("ne", "ver"))
        return main.kept, getattr(main, made)(), hasattr(main, never)
    stage = htdag.source([1]).map(f, name="out")
    """
    expected = "({'at submit': 2}, [1, 'b', 2, {'at submit': 2}], False)"
    assert run_project({"main.py": main}) == [expected]


def test_what_is_pickled_by_its_name_has_other_names_in_other_modules(
    run_project: Any,
):
    own = """
    import typing
    class One:
        def __reduce__(self):
            return "ONE"
    ONE = One()
    T = typing.TypeVar("T")
    class Box(typing.Generic[T]):
        pass
    def one():
        return ONE
    """
    main = """
    import htdag
    import own
    from own import ONE as only, T as kind, Box, one
    def f(x, given=only, of=kind):
        return given is only is own.ONE is one(), of is kind is own.T, Box.__parameters__ == (of,)
    stage = htdag.source([1]).map(f, name="out")
    """
    assert run_project({"own.py": own, "main.py": main}) == ["(True, True, True)"]


def test_parameters_of_types_and_modules_are_items(run_project: Any):
    main = """
    import typing
    import htdag
    import own
    T = typing.TypeVar("T")
    def f(x):
        return T, own.T, own
    def g(found):
        return [one is other for one, other in zip(found, (T, own.T, own))]
    stage = htdag.source([1]).map(f).map(g, fuse=False, name="out")
    """
    own = "import typing\nT = typing.TypeVar('T')\n"
    assert run_project({"own.py": own, "main.py": main}) == ["[True, True, True]"]


def test_what_is_defined_inside_of_functions_goes_from_stage_to_stage(run_project: Any):
    main = """
    import htdag
    limit = 3
    def helper(x):
        return x + limit
    def make(x):
        class Inside:
            def up(self):
                return helper(x)
        return Inside(), Inside(), lambda y: helper(y)
    def use(made):
        one, two, function = made
        return type(one) is type(two), one.up(), function(10)
    stage = htdag.source([1]).map(make).map(use, fuse=False, name="out")
    """
    assert run_project({"main.py": main}) == ["(True, 4, 13)"]


PROCESSES = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
import htdag
import stars
offset = 10
class Moon:
    def __init__(self, mass):
        self.mass = mass
def square(n):
    return n * n + offset
def grown(moon):
    return Moon(moon.mass + offset)
def f(how):
    context = multiprocessing.get_context(how)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        moon = pool.submit(grown, Moon(1)).result()
        star = pool.submit(stars.grown, stars.Star(1)).result()
        squares = list(pool.map(square, range(3)))
    return squares, type(moon) is Moon, moon.mass, type(star) is stars.Star, star.mass
"""
STARS = """
factor = 7
class Star:
    def __init__(self, mass):
        self.mass = mass
def grown(star):
    return Star(star.mass * factor)
"""
IN_PROCESSES = "([10, 11, 14], True, 11, True, 7)"


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_processes_inside_of_an_item(run_project: Any, how: str):
    main = PROCESSES + f"stage = htdag.source([{how!r}]).map(f, name='out')\n"
    assert run_project({"main.py": main, "stars.py": STARS}) == [IN_PROCESSES]


def _doubled(star: Star) -> Star:
    return Star(2 * star.number)


def _by_processes(how: str) -> Any:
    import pack

    context: Any = multiprocessing.get_context(how)
    with ProcessPoolExecutor(1, mp_context=context) as processes:
        star = processes.submit(_doubled, Star(4)).result()
    return star, pack.A().go(1), pack.A().files(), os.path.isfile(pack.__file__)


@pytest.mark.pool
def test_on_an_execute_point_that_sees_nothing_of_it(
    pool: Pool, runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_project(tmp_path, PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    stars = htdag.source(["fork", "spawn"]).map(_by_processes)
    with pool.only("blind"):
        result = htdag.Pipeline(stars, history=False).run(on="condor")
    for star, *others in result:
        assert type(star) is Star
        assert star.number == 8
        assert others == [10113, True, True]


# What does not travel


def test_what_is_not_used_does_no_harm(run_project: Any):
    main = """
    import sqlite3
    import htdag
    connection = sqlite3.connect(":memory:")
    def helper(x):
        return connection.execute("select 1") if x > 5 else x
    def f(x):
        return helper(x) if x < 5 else connection
    stage = htdag.source([1]).map(f, name="out")
    """
    assert run_project({"main.py": main}) == ["1"]


def test_what_is_used_says_why_it_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))
    with pytest.raises(htdag.RunFailed) as caught:
        htdag.Pipeline(htdag.source([1]).map(_uses_later), history=False).run(on="local")
    assert f"'_OPENED' of the module {__name__}, a generator" in str(caught.value)
    assert "make it inside of the function" in str(caught.value)


_OPENED = (x for x in [1])


def _uses_later(x: int) -> Any:
    return next(_OPENED) if x else 0


def test_what_is_certain_to_fail_is_refused():
    with pytest.raises(FunctionError, match="global variable '_OPENED', a generator"):
        htdag.source([1]).map(lambda x: next(_OPENED) + x)
    with pytest.raises(FunctionError, match="global variable '_OPENED', a generator"):
        htdag.source([1]).map(lambda x: _uses_it(x))


def _uses_it(x: int) -> Any:
    return next(_OPENED) + x


# Its layers


def test_items_are_as_small_as_plain_pickle_makes_them():
    plain = pickle.dumps([Star(1), Star], 5)
    assert pickling.dumps([Star(1), Star]) == plain
    (stored,) = htdag.source([[Star(1), Star]]).source.pickles()
    assert stored.payload == plain


def test_pieces_are_pickled_once_for_all_nodes(tmp_path: Path):
    made = Image()
    first, second = made.dump(_uses_it), made.dump([_uses_it, _uses_later])
    made.finish()
    made.write(tmp_path)
    assert b"next" not in first.content + second.content
    read = image.Image.read(str(tmp_path))
    with read.entered():
        one, (other, later) = read.loads(first.encode()), read.loads(second.encode())
    assert one is other
    assert one is not _uses_it
    assert one.__globals__ is later.__globals__ is vars(read.module(__name__))


def test_a_large_value_is_a_file_of_its_own(tmp_path: Path):
    run = compile_project(
        tmp_path,
        {
            "main.py": """
            import htdag
            TABLE = bytes(3 << 20)
            def large(x):
                return len(TABLE) + x
            def small(x):
                return -x
            stage = htdag.source([1]).map(large).map(small, fuse=False, name="out")
            """
        },
    )
    (piece,) = run.glob("code/*.piece")
    large = Path(NodeFiles(run, "large").submit).read_text()
    assert f"code/{piece.name}" in large
    assert f"code/{piece.name}" not in Path(NodeFiles(run, "out").submit).read_text()
    assert Path(NodeFiles(run, "large").payload).stat().st_size < 1000


# What cannot be pickled, or read


class Link:
    """An object that holds the next one."""

    def __init__(self, following: Link | None) -> None:
        self.following = following


def _chain(length: int) -> Link | None:
    found = None
    for _ in range(length):
        found = Link(found)
    return found


def _longest_chain() -> int:
    """How long a chain plain pickle takes, less what a few frames of the stack take."""
    length = 10
    try:
        while True:
            pickle.dumps(_chain(length + 3), 5)
            length += 1
    except RecursionError:
        return length


def test_chains_of_objects_are_taken_as_long_as_plain_pickle_takes_them():
    length = _longest_chain()
    assert len(list(htdag.source([_chain(length)]).source.pickles())) == 1
    assert program.pickler()(_chain(length)).payload
    with pytest.raises(ItemPickleError, match=r"item 0, a Link.* in too long a chain .* a list"):
        list(htdag.source([_chain(100_000)]).source.pickles())


class Bad:
    """It pickles, but what it pickles does not give it."""

    def __init__(self, sensor: str) -> None:
        self.sensor = sensor

    def __reduce__(self) -> Any:
        return Bad, ()


def _bad(x: int) -> Any:
    return Bad("a") if x == 1 else x


class Later:
    """Can be unpickled but where it holds a zero."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __setstate__(self, state: Any) -> None:
        self.x = state["x"]
        self.y = 1 / self.x


def test_the_stage_that_makes_a_value_that_cannot_be_read_is_to_blame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))
    bad = htdag.source([0, 1, 2]).map(_bad, fuse=False)
    run = htdag.Pipeline(bad.map(repr, fuse=False), history=False).submit(on="local")
    run.wait(progress=False, errors_ok=True)
    (error,) = run.errors()
    assert (error.stage, error.key) == ("bad", "1")
    assert "its pickle cannot be read: TypeError" in error.message


def test_other_items_can_be_read_than_one_that_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))
    later = htdag.source([1, 0, 2], chunk_size=3).map(Later)
    run = htdag.Pipeline(later, history=False).submit(on="local")
    run.wait(progress=False)
    assert [item.value.y for item in run.items(errors="skip")] == [1, 0.5]
    one, wrong, _ = run.items(errors="return")
    assert one.value.x == 1
    assert isinstance(wrong.value, ValueUnreadable)
    with pytest.raises(ValueUnreadable, match=r"'Later', item 1.*ZeroDivisionError"):
        run.result()


def test_a_source_item_that_cannot_be_read_is_refused():
    with pytest.raises(ItemPickleError, match=r"item 1, a Bad.*cannot be read: TypeError"):
        list(htdag.source([0, Bad("a")]).source.pickles())
