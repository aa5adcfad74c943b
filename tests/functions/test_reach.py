"""What functions reach, however they hold it, and without a call of anything on the way."""

from __future__ import annotations

import collections
import contextlib
import functools
import operator
import sys
import types
import typing
import unittest.mock
import weakref

import numpy
import pytest

from htdag.functions.packages import packages_of
from htdag.functions.project import variables
from htdag.functions.reach import reach


class Loud(Exception):
    """Something was called."""


class Meta(type):
    def __hash__(cls):
        raise Loud

    __eq__ = __getattr__ = __bool__ = __iter__ = __instancecheck__ = __subclasscheck__ = __hash__


class Odd(metaclass=Meta):
    def __init__(self):
        vars(type(self))  # as any object
        object.__setattr__(self, "held", helper)

    def __getattr__(self, name):
        raise Loud(name)

    def _loud(self, *_):
        raise Loud

    __eq__ = __hash__ = __bool__ = __len__ = __iter__ = _loud
    __class__ = a_property = __wrapped__ = func = property(_loud)


class CatchAll:
    def __getattr__(self, name):
        return CatchAll()

    __call__ = __getattr__


class Slotted:
    __slots__ = ("empty", "held")

    def __init__(self):
        self.held = helper

    __dict__ = property(lambda self: Odd().a_property)


class Lazy(types.ModuleType):
    def __getattribute__(self, name):
        raise Loud(name)


class Mapping(collections.abc.Mapping):
    held = None

    def __getitem__(self, key):
        raise Loud

    __iter__ = __len__ = __getitem__


class Dispatcher:
    """As those of numba: it has the code of the function that it stands for."""

    def __init__(self, function):
        self.py_func, self.__code__ = function, function.__code__

    def __call__(self, *arguments):
        return self.py_func(*arguments)

    def __reduce__(self):
        raise Loud


Dispatcher.__module__ = "numpy"  # of something installed


def helper(x):
    import needed

    return needed.f(x)


def closed_over(held):
    def inner(x):
        return held(x)

    return inner


def empty_cell():
    def inner():
        return later()

    if len(KEPT.__dict__) > 100:
        later = None
    return inner


def cycle():
    def f():
        return f

    f.__wrapped__ = f
    return f


def with_default(x, f=helper, *, g=None):
    return f(x)


class Method:
    def f(self):
        return helper(self)

    prop = property(f)
    of_class = classmethod(f)


class Kept:
    def __init__(self):
        self.callback = helper


class WithMeta(type):
    def f(cls):
        return helper(cls)


def deep(held):
    for _ in range(20_000):
        held = [held]
    return held


KEPT = Kept()
HOLDERS = {
    "a closure": lambda: closed_over(helper),
    "a default": lambda: with_default,
    "a keyword default": lambda: types.FunctionType(
        with_default.__code__, {}, "f", (None,), None
    ).__get__(Kept()),
    "a partial": lambda: functools.partial(functools.partial(print), helper),
    "a method": lambda: Method().f,
    "a property": lambda: Method.prop,
    "a class": lambda: Method,
    "a metaclass": lambda: WithMeta("A", (), {}),
    "a subclass": lambda: type("A", (Method,), {}),
    "an object": Kept,
    "an object with slots": Slotted,
    "an object of all oddities": Odd,
    "a dict": lambda: {"a": (1, [{helper}])},
    "a key": lambda: {helper: 1},
    "a default dict": lambda: collections.defaultdict(helper),
    "a deque": lambda: collections.deque([helper]),
    "a proxy of a dict": lambda: types.MappingProxyType({1: helper}),
    "a bound method of C": lambda: {"a": helper}.get,
    "a wrapper of C": lambda: [helper].__len__,
    "a map": lambda: map(helper, []),
    "a cache": lambda: functools.lru_cache(helper),
    "a cached property": lambda: functools.cached_property(helper),
    "a partial method": lambda: functools.partialmethod(helper),
    "a single dispatch": lambda: functools.singledispatch(helper),
    "what another package decorated": lambda: contextlib.contextmanager(helper),
    "a stack of contexts": lambda: (s := contextlib.ExitStack(), s.callback(helper))[0],
    "a weak reference": lambda: weakref.ref(KEPT),
    "an alias of types": lambda: typing.List[Method],  # noqa: UP006
    "an alias": lambda: list[Method],
    "a universal function": lambda: numpy.frompyfunc(helper, 1, 1),
    "a vectorized function": lambda: numpy.vectorize(helper),
    "an array of objects": lambda: numpy.array([helper, None], dtype=object),
    "a compiled function": lambda: Dispatcher(helper),
    "a function attribute": lambda: (f := closed_over(print), setattr(f, "held", helper))[0],
    "an exception": lambda: ValueError(helper),
    "a deep list": lambda: deep(helper),
    "an object after many": lambda: [*range(300_000), helper],
}


@pytest.mark.parametrize("how", HOLDERS)
def test_what_holds_a_function(how):
    assert "needed" in reach([HOLDERS[how]()]).names


NOTHING = {
    "any attribute": CatchAll,
    "a mock": unittest.mock.MagicMock,
    "a lazy module": lambda: Lazy("lazy"),
    "a mapping": Mapping,
    "a cycle": cycle,
    "an empty cell": empty_cell,
    "a lie": lambda: (f := closed_over(print), setattr(f, "__module__", ["no", "text"]))[0],
    "a mock as annotation": lambda: (
        f := closed_over(print),
        f.__annotations__.update(x=unittest.mock.MagicMock()),
    )[0],
}


@pytest.mark.parametrize("what", NOTHING)
def test_nothing_is_called(what):
    value = NOTHING[what]()
    assert "needed" not in reach([value, lambda: value]).names


def test_packages_are_found_through_objects():
    found = [each.module for each in packages_of([KEPT, numpy.vectorize(abs), Dispatcher(helper)])]
    assert found == ["numpy"]


def test_names_of_getters_count():
    assert reach([operator.attrgetter("a.b"), operator.methodcaller("c", 1)]).names == {
        *("a", "b", "c")
    }


def test_a_global_with_a_builtins_name_is_a_variable():
    exec("def f(): return sum(1)\ndef sum(x): return x", made := {"__name__": "made"})
    assert ("global", "sum", made["sum"]) in list(variables(made["f"]))


def test_compiled_functions_of_numba():
    numba = pytest.importorskip("numba")
    compiled = numba.njit(helper)
    assert "needed" in reach([lambda x: compiled(x)]).names
    assert "numba" in {name.partition(".")[0] for name in reach([compiled]).foreign}


def test_a_module_with_its_own_encoding(tmp_path, monkeypatch):
    (tmp_path / "latin.py").write_bytes("# coding: latin-1\nX = 'é'\n".encode("latin-1"))
    monkeypatch.syspath_prepend(tmp_path)

    def f():
        import latin

        return latin.X

    try:
        assert "'é'" in reach([f]).modules["latin"]["source"]
    finally:
        sys.modules.pop("latin", None)
