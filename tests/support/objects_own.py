"""What a user's own module may hold: functions and classes of all the kinds that Python has.

`objects.py` makes values of them. The text of this file is also written into scripts, so that the
same definitions are tried in ``__main__``.
"""

from __future__ import annotations

import abc
import asyncio
import collections
import contextlib
import contextvars
import copyreg
import ctypes
import dataclasses
import datetime
import enum
import functools
import logging
import operator
import re
import threading
import types
import typing
import weakref

import attrs
import numpy as np
import pandas as pd
import pydantic

# --- functions ----------------------------------------------------------------------------


def plain(x=3):
    return x + 1


def recursive(n):
    return 1 if n < 2 else n * recursive(n - 1)


def is_even(n):
    return n == 0 or is_odd(n - 1)


def is_odd(n):
    return n != 0 and is_even(n - 1)


def keyword_only(a, /, b=2, *rest, c=3, **more):
    return a, b, rest, c, more


def annotated(x: int, y: typing.Optional[str] = None) -> list[int]:  # noqa: UP045
    return [x]


def with_attributes(x):
    return x + with_attributes.step


with_attributes.step = 5


def decorate(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return "decorated", function(*args, **kwargs)

    return wrapper


@decorate
def decorated(x=1):
    return x


@decorate
@decorate
def decorated_twice(x=1):
    return x


def decorate_with(word):
    def decorator(function):
        return functools.wraps(function)(lambda *args: (word, function(*args)))

    return decorator


@decorate_with("word")
def decorated_with(x=1):
    return x


@functools.lru_cache(maxsize=7)
def cached(x):
    return x * 2


@functools.cache
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@functools.singledispatch
def dispatched(x):
    return "other"


@dispatched.register
def _(x: int):
    return "int"


@dispatched.register(list)
def _(x):
    return "list of " + dispatched(x[0])


@contextlib.contextmanager
def managed(value):
    yield value + 1


@contextlib.contextmanager
def suppressing():
    with contextlib.suppress(KeyError):
        yield


def generator(n):
    received = yield from range(n)
    return received


async def coroutine(x):
    await asyncio.sleep(0)
    return x * 2


async def async_generator(n):
    for i in range(n):
        yield i


async def collected(n):
    return [i async for i in async_generator(n)]


def counter():
    count = 0

    def increment():
        nonlocal count
        count += 1
        return count

    return increment


def adders():
    return [lambda x, n=n: x + n for n in range(3)]


def compose(*functions):
    return lambda x: functools.reduce(lambda value, f: f(value), functions, x)


def matched(value):
    match value:
        case {"kind": "point", "at": (x, y)}:
            return x + y
        case Point(x=x):
            return x
        case [first, *_]:
            return first
        case _:
            return "nothing"


def imports_inside(x):
    import textwrap

    return textwrap.indent(str(x), "> ")


def by_name(name):
    return globals()[name]


def module_name():
    return __name__.rpartition(".")[2]


def walrus(values):
    return [y for x in values if (y := x * 2) > 2]


def raises_own():
    try:
        raise OwnError("code", 3)
    except OwnError as error:
        return type(error).__name__, error.args, error.number


made_by_exec: dict = {}
exec("def squared(x):\n    return x * x\n", made_by_exec)
squared = made_by_exec["squared"]
evaluated = eval("lambda x: x + 40")
own_globals = types.FunctionType(plain.__code__, {"__builtins__": {}}, "renamed", (10,))


# --- classes ------------------------------------------------------------------------------


class Point:
    """A class as people write it."""

    __match_args__ = ("x", "y")
    count = 0
    registry: typing.ClassVar[dict] = {}

    def __init__(self, x=1, y=2):
        self.x = x
        self.y = y

    def __eq__(self, other):
        return isinstance(other, Point) and (self.x, self.y) == (other.x, other.y)

    def __hash__(self):
        return hash((self.x, self.y))

    def __repr__(self):
        return f"{type(self).__name__}({self.x}, {self.y})"

    def __add__(self, other):
        return type(self)(self.x + other.x, self.y + other.y)

    def __lt__(self, other):
        return (self.x, self.y) < (other.x, other.y)

    def length(self):
        return self.x + self.y

    @property
    def double(self):
        return self.x * 2

    @double.setter
    def double(self, value):
        self.x = value // 2

    @staticmethod
    def origin():
        return 0

    @classmethod
    def unit(cls):
        return cls(1, 0)

    tripled = functools.partialmethod(lambda self, n: self.x * n, 3)

    class Inner:
        value = 7

        def __repr__(self):
            return "Inner()"


class Point3(Point):
    def __init__(self, x=1, y=2, z=3):
        super().__init__(x, y)
        self.z = z

    def length(self):
        return super().length() + self.z

    def own_class(self):
        return __class__.__name__


class Slow(Point):
    @functools.cached_property
    def slow(self):
        return self.x * 100


class Shown(Point):
    @functools.singledispatchmethod
    def shown(self, value):
        return "other"

    @shown.register
    def _(self, value: int):
        return "int"


class Left(Point):
    def length(self):
        return "left", super().length()


class Right(Point):
    def length(self):
        return "right", super().length()


class Diamond(Left, Right):
    pass


class Slots:
    __slots__ = ("__weakref__", "a", "b")

    def __init__(self, a=1):
        self.a = a  # b stays without a value


class SlotsChild(Slots):
    __slots__ = ("c",)

    def __init__(self):
        super().__init__(5)
        self.c = 6


class MixedSlots(Slots):
    def __init__(self):
        super().__init__(8)
        self.free = 9


class State:
    def __init__(self, kept):
        self.kept = kept
        self.lock = threading.Lock()

    def __getstate__(self):
        return {"kept": self.kept}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.lock = threading.Lock()


class FalseState:
    """Its state is falsy, so that Python does not call `__setstate__`."""

    restored = False

    def __getstate__(self):
        return ()

    def __setstate__(self, state):
        self.restored = True


class Reduced:
    def __init__(self, a, b):
        self.both = (a, b)

    def __reduce__(self):
        return Reduced, self.both


class ReducedEx:
    def __init__(self):
        self.items = []

    def __reduce_ex__(self, protocol):
        return type(self), (), {"protocol": protocol > 1}, iter(self.items)

    def append(self, item):
        self.items.append(item)

    def extend(self, items):
        self.items.extend(items)


class NewArgs:
    def __new__(cls, value, *, scale):
        self = super().__new__(cls)
        self.value = value * scale
        self.scale = scale
        return self

    def __getnewargs_ex__(self):
        return (self.value // self.scale,), {"scale": self.scale}


class Single:
    """One object for the whole process."""

    _only = None

    def __new__(cls):
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __reduce__(self):
        return Single, ()


class NamedOne:
    def __reduce__(self):
        return "THE_ONE"


THE_ONE = NamedOne()


class Registered:
    def __init__(self, value, how="as it was made"):
        self.value = value
        self.how = how


def reduce_registered(registered):
    return Registered, (registered.value, "as copyreg was told")


copyreg.pickle(Registered, reduce_registered)


class CatchAll:
    """Answers to every name, as proxies and mocks do."""

    def __getattr__(self, name):
        return f"<{name}>"


class Forwarding:
    """Without `inner` its `__getattr__` calls itself for ever."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)


class Callable:
    def __init__(self, n):
        self.n = n

    def __call__(self, x=1):
        return x + self.n


class Typed:
    """A descriptor."""

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner):
        return self if instance is None else instance.__dict__[self.name]

    def __set__(self, instance, value):
        instance.__dict__[self.name] = int(value)


class Described:
    size = Typed()

    def __init__(self, size):
        self.size = size


class Plugin:
    plugins: typing.ClassVar[list] = []

    def __init_subclass__(cls, **options):
        super().__init_subclass__()
        Plugin.plugins.append((cls.__name__, options))


class PluginA(Plugin, order=1):
    pass


class Meta(type):
    made: typing.ClassVar[list] = []

    def __new__(mcs, name, bases, names, **options):
        cls = super().__new__(mcs, name, bases, names)
        mcs.made.append(name)
        cls.options = options
        return cls

    def __init__(cls, name, bases, names, **options):
        super().__init__(name, bases, names)

    def __len__(cls):
        return 42


class OfMeta(metaclass=Meta, word="given"):
    pass


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...


class Square(Shape):
    def area(self):
        return 9


@Shape.register
class Foreign:
    pass


@typing.runtime_checkable
class HasArea(typing.Protocol):
    def area(self): ...


T = typing.TypeVar("T")


class Box(typing.Generic[T]):
    def __init__(self, content):
        self.content = content


class Record(typing.NamedTuple):
    name: str
    size: int = 3

    def double(self):
        return self.size * 2


Pair = collections.namedtuple("Pair", "left right", defaults=[0])


class Movie(typing.TypedDict, total=False):
    title: str


@dataclasses.dataclass
class Data:
    a: int
    b: list = dataclasses.field(default_factory=list)
    c: dataclasses.InitVar[int] = 0
    d: int = dataclasses.field(init=False, default=4, metadata={"unit": "m"})

    def __post_init__(self, c):
        self.d += c


@dataclasses.dataclass(frozen=True, order=True)
class FrozenData:
    a: int
    b: str = "b"


@dataclasses.dataclass(slots=True)
class SlotsData:
    a: int
    b: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AllData:
    a: int
    b: tuple = ()


class Colour(enum.Enum):
    RED = 1
    GREEN = "green"
    ROSE = 1  # noqa: PIE796  (an alias)

    def shout(self):
        return self.name + "!"


class Number(enum.IntEnum):
    ONE = 1
    TWO = 2


class Level(float, enum.Enum):
    LOW = 0.5


class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Operation(enum.Enum):
    PLUS = (operator.add, "+")
    MINUS = (operator.sub, "-")

    def __init__(self, function, sign):
        self.function = function
        self.sign = sign


class Planet(str, enum.Enum):
    EARTH = "earth"


Animal = enum.Enum("Animal", "CAT DOG")


class OwnError(Exception):
    """An exception that plain pickle cannot make again: `args` is not what `__init__` takes."""

    def __init__(self, word, number):
        super().__init__(f"{word}-{number}")
        self.number = number


class FriendlyError(ValueError):
    """One that keeps its arguments."""

    def __init__(self, word, number=0):
        super().__init__(word, number)
        self.number = number

    def __str__(self):
        return f"{self.args[0]} ({self.number})"


class KeywordError(Exception):
    def __init__(self, *, code):
        self.code = code

    def __str__(self):
        return f"code {self.code}"


class OwnDict(dict):
    label = "of class"

    def __missing__(self, key):
        return f"no {key}"


class OwnList(list):
    def __init__(self, items=(), label=""):
        super().__init__(items)
        self.label = label


class OwnText(str):
    def __new__(cls, text, note=None):
        self = super().__new__(cls, text)
        self.note = note
        return self


class OwnInt(int):
    def __add__(self, other):
        return OwnInt(int(self) + int(other) + 1000)


class OwnFloat(float):
    def __eq__(self, other):
        return abs(float(self) - float(other)) < 0.1

    __hash__ = None


class OwnTuple(tuple):
    def __new__(cls, *items):
        return super().__new__(cls, items)

    def __getnewargs__(self):
        return tuple(self)


class OwnBytes(bytes):
    pass


class OwnSet(frozenset):
    pass


class OwnZone(datetime.tzinfo):
    def __init__(self, hours=5):
        self.hours = hours

    def utcoffset(self, moment):
        return datetime.timedelta(hours=self.hours)

    def dst(self, moment):
        return datetime.timedelta(0)

    def tzname(self, moment):
        return f"own+{self.hours}"

    def __getinitargs__(self):
        return (self.hours,)


class Node:
    """One of a linked list."""

    def __init__(self, value, rest=None):
        self.value = value
        self.rest = rest

    def __iter__(self):
        node = self
        while node is not None:
            yield node.value
            node = node.rest


class Tree:
    """Parents know their children, and these their parent."""

    def __init__(self, name, parent=None):
        self.name = name
        self.parent = parent
        self.children = []
        if parent is not None:
            parent.children.append(self)


class Iterating:
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return iter(range(self.n))

    def __len__(self):
        return self.n

    def __getitem__(self, at):
        return range(self.n)[at]


class NoBool:
    """An object whose truth cannot be asked, as an array's."""

    def __bool__(self):
        raise ValueError("ambiguous")

    def __eq__(self, other):
        return self

    __hash__ = None


class NoRepr:
    def __repr__(self):
        raise RuntimeError("no repr")


class Equal:
    """Equal to everything."""

    def __eq__(self, other):
        return True

    def __hash__(self):
        return 1


class Insensitive:
    """Equality of one's own."""

    def __init__(self, text):
        self.text = text

    def __eq__(self, other):
        return isinstance(other, Insensitive) and self.text.lower() == other.text.lower()

    def __hash__(self):
        return hash(self.text.lower())


class Structure(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


class OwnArray(np.ndarray):
    def __new__(cls, values, unit="m"):
        self = np.asarray(values).view(cls)
        self.unit = unit
        return self

    def __array_finalize__(self, other):
        self.unit = getattr(other, "unit", None)

    def __reduce__(self):
        make, parts, state = super().__reduce__()
        return make, parts, (*state, self.unit)

    def __setstate__(self, state):
        self.unit = state[-1]
        super().__setstate__(state[:-1])


class OwnFrame(pd.DataFrame):
    _metadata = ["label"]  # noqa: RUF012

    @property
    def _constructor(self):
        return OwnFrame


@attrs.define
class Attrs:
    a: int
    b: list = attrs.field(factory=list)


@attrs.frozen
class AttrsFrozen:
    a: int = attrs.field(converter=int, validator=attrs.validators.ge(0))
    b: str = "b"


@attrs.define(slots=False)
class AttrsDict:
    a: int

    @functools.cached_property
    def double(self):
        return self.a * 2


@attrs.define
class AttrsCached:
    a: int

    @functools.cached_property
    def double(self):
        return self.a * 2


@attrs.define
class AttrsError(Exception):
    code: int


class Model(pydantic.BaseModel):
    a: int
    b: list[str] = []
    _note: str = pydantic.PrivateAttr(default="private")

    @pydantic.field_validator("a")
    @classmethod
    def positive(cls, value):
        if value < 0:
            raise ValueError("not positive")
        return value


class FrozenModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    a: int


class Outer(pydantic.BaseModel):
    inner: Model
    colour: Colour = Colour.RED


class Listed(pydantic.RootModel[list[int]]):
    pass


G = typing.TypeVar("G")


class GenericModel(pydantic.BaseModel, typing.Generic[G]):
    value: G


Created = pydantic.create_model("Created", x=(int, 5))


@pydantic.dataclasses.dataclass
class PydanticData:
    a: int


@pydantic.validate_call
def validated(x: int) -> int:
    return x + 1


UserId = typing.NewType("UserId", int)
P = typing.ParamSpec("P") if hasattr(typing, "ParamSpec") else None


def local_class(base=Point):
    class Local(base):
        def length(self):
            return super().length() * 10

    return Local


# --- state of the module ------------------------------------------------------------------

CONSTANT = 12
TABLE = {"a": [1, 2, 3]}
LOCK = threading.Lock()
LOG = logging.getLogger("own.log")
PATTERN = re.compile(r"(?P<word>\w+)-(\d+)")
VARIABLE = contextvars.ContextVar("VARIABLE", default="default")
LOCAL = threading.local()
LOCAL.value = 5
SENTINEL = object()
CACHE: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


def is_sentinel(value=SENTINEL):
    return value is SENTINEL


def locked(x):
    with LOCK:
        return x + 1


def logged(x):
    LOG.debug("logged %s", x)
    return LOG.name


def from_table(key):
    return TABLE[key]


def add_to_table(key):
    return TABLE.setdefault(key, []) or CONSTANT


def nothing(*_):
    return None


# --- what is asked of values ----------------------------------------------------------------


def cause_of(error):
    return [repr(error.__cause__), error.__suppress_context__, getattr(error, "__notes__", [])]


def error_with_cause():
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner
    except ValueError as error:
        return error


def self_list():
    values = [1]
    values.append(values)
    return values


def shared():
    part = [1]
    return [part, part]


def deep(depth):
    value = ()
    for _ in range(depth):
        value = (value,)
    return value


def depth_of(value):
    depth = 0
    while value:
        (value,) = value
        depth += 1
    return depth


def linked(n):
    node = None
    for value in range(n):
        node = Node(value, node)
    return node


def tree():
    root = Tree("root")
    Tree("leaf", Tree("branch", root))
    return root


def consumed(iterator, n=1):
    for _ in range(n):
        next(iterator)
    return iterator


def with_label(frame, label):
    frame.label = label
    return frame


def with_attrs(frame, **given):
    frame.attrs.update(given)
    return frame


def read_only(array):
    array.flags.writeable = False
    return array


def set_state(state, n):
    state.seed(n)
    return state


def changed_class():
    Point.count += 1
    return Point.count


def returns(generator_object):
    try:
        while True:
            next(generator_object)
    except StopIteration as stop:
        return stop.value
