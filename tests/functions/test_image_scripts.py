"""Scripts give in jobs what they give in their own process."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import subprocess
import sys
import sysconfig
from typing import TYPE_CHECKING

import pytest
from script_in_job import in_both

from htdag.runtime import layout

if TYPE_CHECKING:
    from pathlib import Path

# Each of `CHECKS` is shown as a text, or as the error that it raises.
SHOWN = """
def shown(function):
    try:
        return repr(function())
    except Exception as error:
        return f"{type(error).__name__}: {error}"
def check():
    return [shown(each) for each in CHECKS]
"""

MODELS = """
import abc, typing
from typing import Annotated, ClassVar, Generic, Literal, Optional, TypeVar, Union
# No more is imported than what the script needs: the rest is imported while classes are made.
from pydantic import (
    AfterValidator, BaseModel, Field, PrivateAttr, RootModel, TypeAdapter, computed_field,
    create_model, field_serializer, field_validator, model_validator, validate_call,
)
import pydantic.dataclasses
T = TypeVar("T")
K = TypeVar("K", bound=int)
made = []
class Box(BaseModel, Generic[T]):
    v: T
class IntBox(Box[int]):
    w: int = 3
class Pair(BaseModel, Generic[T, K]):
    a: T
    b: K
class Half(Pair[str, K], Generic[K]):
    pass
class Node(BaseModel, Generic[T]):
    v: T
    next: "Optional[Node[T]]" = None
class Base(BaseModel, abc.ABC):
    known: ClassVar[list] = []
    @classmethod
    def __pydantic_init_subclass__(cls, **options):
        made.append((cls.__name__, options))
    @abc.abstractmethod
    def go(self): ...
class Checked(Base, frozen=True):
    x: int = Field(default=1)
    _note: int = PrivateAttr(default=7)
    _notes: list = PrivateAttr(default_factory=list)
    def go(self):
        return super().__repr__()
    @field_validator("x")
    @classmethod
    def positive(cls, value):
        if value < 0:
            raise ValueError("below 0")
        return value
    @computed_field
    @property
    def double(self) -> int:
        return self.x * 2
    @model_validator(mode="after")
    def whole(self):
        return self
    @field_serializer("x")
    def text(self, x):
        return str(x)
class Cat(BaseModel):
    kind: Literal["cat"]
class Dog(BaseModel):
    kind: Literal["dog"]
    friend: "Optional[Zoo]" = None
class Zoo(BaseModel):
    pets: list[Annotated[Union[Cat, Dog], Field(discriminator="kind")]]
    checked: Checked = Field(default_factory=lambda: Checked(x=1))
class Uses(BaseModel):
    box: Box[str]
    node: Node[int]
@pydantic.dataclasses.dataclass
class Data:
    a: int
    zoo: "Zoo | None" = None
    @field_validator("a")
    def more(cls, value):
        return value + 1
class Numbers(RootModel[list[int]]):
    pass
ADAPTER = TypeAdapter(list[Zoo])
@validate_call
def called(a: int, box: Box[int]) -> int:
    return a + box.v
Created = create_model("Created", a=(int, 3), box=(Box[int], ...))
class Annotated2(BaseModel):
    p: Annotated[int, AfterValidator(lambda v: v + 1)]
def make(x: T) -> Box[T]:
    return Box[type(x)](v=x)
ZOO = {"pets": [{"kind": "cat"}, {"kind": "dog", "friend": {"pets": []}}]}
CHECKS = [
    lambda: (Box[int](v="3"), Box(v="x"), IntBox(v=1), Pair[str, int](a="a", b=2)),
    lambda: (Half[int](a="q", b=3), Node[int](v=1, next={"v": 3}), make(3)),
    lambda: (Box[int] is IntBox.__mro__[1], isinstance(IntBox(v=1), Box[int])),
    lambda: (Uses.model_fields["box"].annotation is Box[str], type(make(3)) is Box[int]),
    lambda: (Box.__parameters__ == (T,), typing.get_type_hints(make)["x"] is T),
    lambda: Uses(box=Box[str](v="a"), node={"v": 1}),
    lambda: (Checked(x=3).go(), Checked()._note, Checked()._notes, Checked.known, made),
    lambda: Checked(x=-1),
    lambda: setattr(Checked(), "x", 2),
    lambda: (Checked(x=4).model_dump(), hash(Checked()) == hash(Checked())),
    lambda: Base(),
    lambda: (Zoo(**ZOO), Data(3, ZOO), ADAPTER.validate_python([ZOO])),
    lambda: Zoo.model_json_schema(mode="serialization"),
    lambda: (Numbers([1, "2"]), called("3", Box[int](v=1)), Created(box=Box[int](v=2))),
    lambda: (Annotated2(p=1), Zoo.model_validate_json('{"pets": []}').model_copy()),
]
"""


def test_models_of_pydantic(tmp_path: Path):
    script, job = in_both(tmp_path, {"main.py": MODELS + SHOWN})
    assert job == script
    assert "Traceback" not in script


TYPES = """
import collections, dataclasses, functools, typing
from typing import *
import attrs
T = TypeVar("T"); C = TypeVar("C", int, str); CO = TypeVar("CO", covariant=True)
P = ParamSpec("P")
class Box(Generic[T]):
    def __init__(self, v: T):
        self.v = v
    def get(self) -> T:
        return self.v
    @classmethod
    def of(cls, v: T) -> "Box[T]":
        return cls(v)
class Two(Box[C], Generic[C, T]):
    pass
@runtime_checkable
class Sized2(Protocol[CO]):
    def size(self) -> CO: ...
class Impl(Sized2):
    pass
def decorated(f: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(f)
    def inner(*args: P.args, **kwargs: P.kwargs) -> T:
        return f(*args, **kwargs)
    return inner
@decorated
def add(a: int, b: int = 2) -> int:
    return a + b
UserId = NewType("UserId", int)
Super = NewType("Super", UserId)
class Named(NamedTuple):
    a: UserId
    b: "Box[int]" = None
class Dict1(TypedDict, total=False):
    a: int
    b: "Box"
class Dict2(Dict1):
    c: str
Dict3 = TypedDict("Dict3", {"in": int})
Named2 = collections.namedtuple("Named2", "a b", defaults=[UserId(3)])
@dataclasses.dataclass(order=True)
class Data(Generic[T]):
    a: T
    b: List[T] = dataclasses.field(default_factory=list)
    c: ClassVar[dict] = {"k": UserId}
    d: dataclasses.InitVar[int] = 5
    def __post_init__(self, d):
        self.e = d
@dataclasses.dataclass(slots=True, frozen=True, kw_only=True)
class Slots(Generic[T]):
    a: T
@attrs.define
class Attrs(Generic[T]):
    a: T
    b: int = attrs.field(default=3, converter=int)
    c: List[int] = attrs.field(default=attrs.Factory(lambda self: [self.b], takes_self=True))
    @c.validator
    def _check(self, attribute, value):
        if len(value) > 1:
            raise ValueError("long")
@attrs.frozen
class Frozen:
    x: "Attrs[int]"
class Derived(Frozen):
    def shown(self):
        return super().__repr__()
Alias = Dict[str, Box[T]]
Noted = Annotated[Box[int], "meta", UserId]
def f(x: T, y: "Optional[Box]", *z: Noted) -> Alias:
    return x
CHECKS = [
    lambda: (Box.__parameters__[0] is T, Box.get.__annotations__["return"] is T),
    lambda: (f.__annotations__["x"] is T, typing.get_type_hints(f, include_extras=True)),
    lambda: (Alias[int], Alias.__parameters__[0] is T, Box[int](3).v, Box[int](3).__orig_class__),
    lambda: (Two.__parameters__, Two.__orig_bases__, Two[int, str], Two.__parameters__[0] is C),
    lambda: (isinstance(Impl(), Sized2), isinstance(3, Sized2), Sized2.__parameters__[0] is CO),
    lambda: (C.__constraints__, CO.__covariant__, T.__module__, P.__module__, UserId.__module__),
    lambda: (add(1), add.__annotations__, decorated.__annotations__["f"].__parameters__[0] is P),
    lambda: (UserId(3), Super.__supertype__ is UserId, Named.__annotations__["a"] is UserId),
    lambda: (typing.get_type_hints(Named), Named(1), Named2(1), Named2._field_defaults),
    lambda: (Dict1(a=1), Dict1.__total__, Dict1.__annotations__, Dict2(c=1), Dict3.__annotations__),
    lambda: (sorted(Dict2.__optional_keys__), sorted(Dict2.__required_keys__), type(Dict2)),
    lambda: (Data[int](3), Data(3) < Data(4), Data(3).e, Data.c["k"] is UserId),
    lambda: (dataclasses.fields(Data)[0].type is T, dataclasses.replace(Data(1), a=2, d=1)),
    lambda: (Slots(a=3) == Slots(a=3), hash(Slots(a=2)) == hash(Slots(a=2))),
    lambda: setattr(Slots(a=1), "a", 2),
    lambda: (Attrs(1, "7"), attrs.fields(Attrs)[0].type is T, attrs.evolve(Attrs(1), b=9, c=[])),
    lambda: Attrs(1, 2, [1, 2]),
    lambda: (Derived(3).shown(), hash(Frozen(1)) == hash(Frozen(1)), Frozen(1) == Frozen(1)),
]
"""


def test_generic_classes_and_what_annotations_are_made_of(tmp_path: Path):
    script, job = in_both(tmp_path, {"main.py": TYPES + SHOWN})
    assert job == script
    assert "Traceback" not in script


ENUMS = """
import copy, dataclasses, datetime, enum, pickle
LOG = []
def known(kind):
    LOG.append(kind)
    return kind
SCALE = 3
@known
class Own(enum.Enum):
    A = 1
    B = "b"
    C = (1, 2)
    ALIAS = 1
    D = [1]
    def __init__(self, *values):
        LOG.append(self.name)
        self.extra = SCALE
    def go(self):
        return self.value, Own.B, self.extra, TABLE[Own.A]
    @classmethod
    def _missing_(cls, value):
        return cls.A if value == "missing" else None
class Number(enum.IntEnum):
    X = 1
    Y = enum.auto()
class Flags(enum.Flag):
    R = enum.auto()
    W = enum.auto()
    RW = R | W
class Bits(enum.IntFlag):
    R = 1
    Q = 8
class Text(str, enum.Enum):
    P = "p"
    def __str__(self):
        return self.value + "!"
class Labelled(enum.Enum):
    def __new__(cls, value, label):
        made = object.__new__(cls)
        made._value_, made.label = value, label
        return made
    K = (1, "one")
@dataclasses.dataclass
class Data:
    a: int
    b: int = 5
class OfData(Data, enum.Enum):
    V = 2, 7
class OfTuple(tuple, enum.Enum):
    Z = (1, 2)
class Day(datetime.date, enum.Enum):
    M = 2020, 1, 2
class Base(enum.Enum):
    def shout(self):
        return self.name + "!"
class Derived(Base):
    G = 1
Functional = enum.Enum("Functional", "a b")
class Meta(enum.EnumMeta):
    def first(cls):
        return next(iter(cls))
class WithMeta(enum.Enum, metaclass=Meta):
    O = 1
def make():
    class Local(enum.Enum):
        A = 1
        def me(self):
            return Local.A
    return Local
Local = make()
TABLE = {Own.A: "a", Number.Y: Own.C, Flags.RW: 1, Bits.R | Bits.Q: 3, Derived.G: Own}
Own.table = TABLE
CHECKS = [
    lambda: (list(Own), Own(1) is Own.ALIAS, Own.A.go(), Own("missing"), Own([1]), LOG),
    lambda: (Own.table is TABLE, TABLE[Own.A], TABLE[Number(2)] is Own.C, Own["B"], dir(Own.A)),
    lambda: (Number.X + 1, sorted(Number), Flags.R | Flags.W is Flags.RW, ~Flags.R, Flags(3)),
    lambda: (Bits.R | Bits.Q, TABLE[Bits(9)], Bits(16), list(Flags), (Flags.R | Flags.W).name),
    lambda: (Text.P == "p", str(Text("p")), Labelled(1).label, OfData.V.b, OfTuple.Z[1]),
    lambda: (Day.M.year, Derived.G.shout(), Functional["b"].value, WithMeta.first()),
    lambda: (Local.A.me() is Local.A, pickle.loads(pickle.dumps(Own.A)) is Own.A),
    lambda: (copy.deepcopy(Own.C) is Own.C, Own.A.__class__ is Own, Own.__members__),
    lambda: setattr(Own, "A", 3),
    lambda: Own.Missing,
    lambda: Own(99),
    lambda: type("Sub", (Own,), {}),
]
"""


def test_enumerations(tmp_path: Path):
    script, job = in_both(tmp_path, {"main.py": ENUMS + SHOWN})
    assert job == script
    assert "Traceback" not in script


BY_STATEMENTS = {
    "what refers to one another": """
    import threading
    class First:
        never_pickled = (i for i in (1, 2))
        def go(self):
            return sorted(TABLE), TABLE["k"] is First, helper(), [x.__name__ for x in LIST]
    TABLE = {"k": First}
    class Second(First):
        thread = threading.Thread(target=print)
        table = TABLE
        def go(self):
            return super().go(), Second.table is TABLE, LIST[0] is Second
    LIST = [Second]
    def helper():
        return [kind.__name__ for kind in (First, Second)], Second in LIST
    def check():
        return First().go(), Second().go(), helper()
    """,
    "what is changed later": """
    LIST = []
    class First:
        never_pickled = (i for i in (1, 2))
        def go(self):
            return [kind.__name__ for kind in LIST], First in LIST, sorted(TABLE)
    class Second:
        ref = First
        def go(self):
            return First in LIST, First().go()
    LIST.extend([First, Second])
    TABLE = {"b": Second(), "k": First}
    First.table = TABLE
    def check():
        return LIST[0] is First, Second().go(), Second.ref is First, First.table is TABLE
    """,
}


@pytest.mark.parametrize("what", BY_STATEMENTS)
def test_classes_that_only_their_statements_can_make(tmp_path: Path, what: str):
    script, job = in_both(tmp_path, {"main.py": BY_STATEMENTS[what]})
    assert job == script
    assert "Traceback" not in script


COMPILED = """
#include <Python.h>
static PyObject *twice(PyObject *self, PyObject *number) {
    PyObject *module = PyImport_ImportModule(SIBLING);
    if (!module) return NULL;
    PyObject *offset = PyObject_GetAttrString(module, "OFFSET");
    Py_DECREF(module);
    if (!offset) return NULL;
    long found = PyLong_AsLong(offset);
    Py_DECREF(offset);
    return PyLong_FromLong(2 * PyLong_AsLong(number) + found);
}
static PyMethodDef methods[] = {{"twice", twice, METH_O, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "fast", NULL, -1, methods};
PyMODINIT_FUNC PyInit_fast(void) { return PyModule_Create(&module); }
"""


def compiled(folder: Path, sibling: str) -> bytes:
    """Return a module in machine code, which uses OFFSET of another module."""
    include = sysconfig.get_paths()["include"]
    compiler = shutil.which("cc")
    if compiler is None or not os.path.exists(os.path.join(include, "Python.h")):
        pytest.skip("there is no compiler")
    source, made = folder / "fast.c", folder / "fast.so"
    source.write_text(COMPILED)
    options = ["-shared", "-fPIC", "-I" + include, f'-DSIBLING="{sibling}"']
    subprocess.run([compiler, *options, str(source), "-o", str(made)], check=True)
    return made.read_bytes()


def test_modules_in_machine_code_and_what_they_import(tmp_path: Path):
    name = "fast" + sysconfig.get_config_var("EXT_SUFFIX")
    main = """
    import fast
    import pack
    import side
    from pack.fast import twice
    side.OFFSET = 7
    def late(x):
        import pack.fast as again
        return again.twice(x), again is pack.fast
    def check():
        return fast.twice(1), pack.fast.twice(2), twice(3), late(4)
    """
    files = {
        "main.py": main,
        name: compiled(tmp_path, "side"),
        "side.py": "OFFSET = 1\n",
        "pack/__init__.py": "from . import fast\n",
        f"pack/{name}": compiled(tmp_path, "pack.beside"),
        "pack/beside.py": "OFFSET = len([1] * 1000)\n",
    }
    assert in_both(tmp_path, files) == ("(9, 1004, 1006, (1008, True))",) * 2


ODD = """
import copyreg, functools, pickle, types
from unittest.mock import MagicMock
class Never:
    def __init__(self, a):
        self.a, self.how = a, "made by the script"
    def __reduce_ex__(self, protocol):
        raise TypeError("no")
def remade(a):
    made = Never(a)
    made.how = "made again"
    return made
copyreg.pickle(Never, lambda value: (remade, (value.a,)))
copyreg.pickle(types.GeneratorType, lambda generator: (iter, (list(generator),)))
def by_length(one, other):
    return len(one) - len(other)
KEY = functools.cmp_to_key(by_length)
KEYED = KEY("abc")
MOCK = MagicMock(name="mock")
MOCK.__len__.return_value = 5
CHECKS = [
    lambda: pickle.loads(pickle.dumps(Never(1))).how,
    lambda: list(pickle.loads(pickle.dumps(i for i in (1, 2)))),
    lambda: (sorted(["aaa", "b", "cc"], key=KEY), KEYED < KEY("abcd"), KEYED.obj),
    lambda: (len(MOCK), len(MagicMock()), MOCK.f()()),
]
"""


def test_what_the_script_told_copyreg_and_odd_objects(tmp_path: Path):
    script, job = in_both(tmp_path, {"main.py": ODD + SHOWN})
    assert re.sub("id='\\d+'", "", job) == re.sub("id='\\d+'", "", script)
    assert "made again" in script


@pytest.mark.parametrize(("called", "travels"), [("number", False), ("text", True), ("own", True)])
def test_files_of_a_package_travel_where_what_is_reached_asks(
    tmp_path: Path, called: str, travels: bool
):
    files = {
        "main.py": f"""
        import importlib.resources
        import pack.a
        def own():
            return importlib.resources.files("pack").joinpath("data.txt").read_text()
        def check():
            return {"own()" if called == "own" else f"pack.a.{called}()"}
        """,
        "pack/__init__.py": "",
        "pack/a.py": """
        from pathlib import Path
        HERE = Path(__file__).parent
        def text():
            return (HERE / "data.txt").read_text()
        def number():
            return "of the package"
        """,
        "pack/data.txt": "of the package",
    }
    assert in_both(tmp_path, files) == ("'of the package'",) * 2
    modules = pickle.loads((tmp_path / "run" / layout.IMAGE).read_bytes())["modules"]
    assert (modules["pack"]["data"] != b"") is travels


PARAMETERS = """
import dataclasses, typing
type Named[T] = dict[str, T]
type Nested = int | list[Nested]
class Box[T: (int, str)]:
    def __init__(self, v: T):
        self.v = v
    def same[U](self, u: U) -> tuple[T, U]:
        return self.v, u
class Sub[K, *Ts, **P](Box[int]):
    k: K
def f[T, U: "Box"](x: T, y: U) -> Named[T]:
    return x
@dataclasses.dataclass
class Data[T]:
    a: T
CHECKS = [
    lambda: (Named[int], Named.__value__, Named.__type_params__, Nested.__value__),
    lambda: Nested.__value__.__args__[1].__args__[0] is Nested,
    lambda: (Box(3).same("x"), Box.__type_params__[0] is Box.__init__.__annotations__["v"]),
    lambda: (Box.same.__type_params__, Box.__type_params__[0].__constraints__),
    lambda: (Sub.__type_params__, Sub[int, str, float, [int]]),
    lambda: (f(1, 2), f.__type_params__),
    lambda: (f.__annotations__["x"] is f.__type_params__[0], typing.get_type_hints(f)),
    lambda: (Data[int](3), dataclasses.fields(Data)[0].type is Data.__type_params__[0]),
]
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax is that of Python 3.12")
def test_parameters_of_types_in_the_syntax_of_python_3_12(tmp_path: Path):
    script, job = in_both(tmp_path, {"main.py": PARAMETERS + SHOWN})
    assert job == script
    assert "Traceback" not in script
