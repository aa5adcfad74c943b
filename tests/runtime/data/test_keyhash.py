"""Digests of keys: equal for equal keys, in every process, and different for all others."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import ipaddress
import json
import os
import pathlib
import pickle
import re
import subprocess
import sys
import types
import uuid
import weakref
import zoneinfo
from collections import Counter, namedtuple
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from htdag.runtime.code import pickling
from htdag.runtime.data import keyed, keyhash
from htdag.runtime.errors import StageError

try:
    import attrs
except ImportError:
    attrs = None
try:
    import pandas as pd
except ImportError:
    pd = None

Point = namedtuple("Point", "x y")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2
    SCARLET = 1  # noqa: PIE796


class Level(enum.IntEnum):
    LOW = 1


class Word(str, enum.Enum):
    A = "a"


class Half(float, enum.Enum):
    HALF = 0.5


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


class Name(str):
    pass


class Row(tuple):
    pass


@dataclasses.dataclass(frozen=True)
class Star:
    name: str
    seen: int = dataclasses.field(default=0, compare=False)


@dataclasses.dataclass(frozen=True)
class Dwarf(Star):
    """Equal to no star."""


@dataclasses.dataclass(order=True)
class Ordered:
    rank: int

    def __hash__(self):
        return hash(self.rank)


def copy_of(kind, module, **changes):
    """Return a class of the same name and fields from another module."""
    made = type(kind.__name__, kind.__bases__, {"__annotations__": {"name": str}, **changes})
    made.__module__ = module
    return dataclasses.dataclass(frozen=True)(made)


OtherStar = copy_of(Star, "elsewhere")
OtherColour = enum.Enum("Colour", "RED BLUE", module="elsewhere")

UTC = datetime.timezone.utc
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=UTC)
TWICE = datetime.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)
FIVE_EAST = datetime.timezone(datetime.timedelta(hours=5))
NEW_YEAR = datetime.datetime(2024, 1, 1)
ip, net = ipaddress.ip_address, ipaddress.ip_network

POOL = [
    *(0, 1, -1, True, False, 1.0, -0.0, 0.5, 0.1, 1e300, 5e-324, float("inf"), -float("inf")),
    *(1j, 1 + 0j, 0.5 + 0j, 2**53, 2**53 + 1, float(2**53), 2**70, 10**599, 10**600),
    *(10**5000, -(10**5000), 10**5000 + 1, Decimal("1e5000"), Fraction(10**5000), 2**20000),
    *(Decimal(1), Decimal("1.0"), Decimal("-0"), Decimal("0.1"), Decimal("0.5"), Decimal("inf")),
    *(Decimal("1e-5000"), Fraction(1, 10**5000), Decimal("-1e-5000"), Decimal("1e99999")),
    *(Fraction(1), Fraction(1, 2), Fraction(1, 10), Fraction(10**700 + 1, 10**700)),
    Decimal("1." + "0" * 699 + "1"),
    *(Level.LOW, Half.HALF, Word.A, Colour.RED, Colour.BLUE, Colour.SCARLET, OtherColour.RED),
    *(Mode.READ, Mode.WRITE, Mode.READ | Mode.WRITE, Mode(0)),
    *("", "1", "a", "\udc80", Name("a"), b"", b"a", None, ..., NotImplemented),
    *((), (1, 2), (1.0, Fraction(2)), Point(1, 2), Row((1, 2)), ("a",), (("a",),), ("a", "b")),
    *(("ab",), (1, (2, 3)), (None,), (10**5000, "a"), (float("inf"), Decimal("inf"))),
    *(frozenset(), frozenset([1, 2]), frozenset([2.0, True]), frozenset(["a"]), frozenset([()])),
    *(range(0), range(5, 1), range(1, 2), range(1, 5, 9), range(0, 5, 2), range(0, 6, 2), range(4)),
    *(Star("a"), Star("a", 5), Star("b"), Dwarf("a"), OtherStar("a"), Ordered(1), Ordered(1.0)),
    *(Star(("a", 1)), Star(Star("a"))),
    *(NOON, NOON.astimezone(FIVE_EAST), NOON.astimezone(BERLIN), NOON.replace(tzinfo=None)),
    *(NOON.date(), NOON.time(), NOON.timetz(), datetime.time(17, tzinfo=FIVE_EAST)),
    *(datetime.time(12, tzinfo=BERLIN), datetime.time(0), datetime.time(0, tzinfo=UTC)),
    *(TWICE, TWICE.replace(fold=1), TWICE.astimezone(UTC), TWICE.replace(fold=1).astimezone(UTC)),
    *(datetime.datetime.min, datetime.datetime.min.replace(tzinfo=FIVE_EAST)),
    *(datetime.datetime.max.replace(tzinfo=UTC), NEW_YEAR, NEW_YEAR.date()),
    *(datetime.timedelta(1), datetime.timedelta(hours=24), datetime.timedelta(0)),
    *(datetime.timedelta(microseconds=-1), UTC, datetime.timezone(datetime.timedelta(0)), BERLIN),
    *(uuid.UUID(int=1), ip("1.2.3.4"), ip("::1"), ip("::1%1"), ip(16909060), net("1.2.3.4")),
    *(net("::1"), ipaddress.ip_interface("1.2.3.4"), ipaddress.ip_interface("1.2.3.4/8")),
    *(pathlib.PurePosixPath("a"), Path("a"), Path("A"), Path("a/../a"), Path("a/./")),
    *(pathlib.PureWindowsPath("A"), pathlib.PureWindowsPath("a")),
    *(int, str, Star, OtherStar, Colour, pathlib.Path),
    *(np.bool_(True), np.int8(1), np.uint64(2**64 - 1), float(2**64), np.int64(2**53 + 1)),
    *(np.float16(0.5), np.float32(0.1), np.float64(0.1), np.float64(np.float32(0.1))),
    *(np.longdouble("0.1"), np.longdouble(1), np.longdouble("1e4000"), Decimal("1e4000")),
    *(np.complex64(1), np.complex128(1j), np.clongdouble(0.5), np.float32("inf")),
    *(np.str_("a"), np.bytes_(b"a")),
    *(np.datetime64("2024"), np.datetime64("2024-01"), np.datetime64("2024-01-01T00", "ns")),
    *(np.datetime64("2024-01-02"), np.datetime64("2024-01-01T00:00:00.000000001")),
    *(np.datetime64("1970-01-01T00:00:00.000000000000000001"), np.datetime64("40000-01-01")),
    *(np.datetime64("0001-01-01", "s"), np.datetime64(1, "25s"), np.datetime64(25, "s")),
    *(np.timedelta64(1, "M"), np.timedelta64(1, "Y"), np.timedelta64(12, "M")),
    *(np.timedelta64(1, "ns"), np.timedelta64(1, "us"), np.timedelta64(1000, "ns")),
    *(np.timedelta64(24, "h"), np.timedelta64(1, "D"), np.timedelta64(-1, "us")),
]
# Python 3.12 and later hash slices.
POOL += [slice(1), slice(None, 1), slice(1, 2)] if slice.__hash__ else []
if attrs is not None:

    @attrs.frozen
    class Planet:
        name: str
        seen: int = attrs.field(default=0, eq=False)
        order: str = attrs.field(default="", eq=str.lower)

    POOL += [Planet("a"), Planet("a", 5), Planet("a", 0, "X"), Planet("a", 0, "x"), Planet("b")]
if pd is not None:
    stamp, delta = pd.Timestamp, pd.Timedelta
    POOL += [
        *(stamp(NOON), stamp(NOON.replace(tzinfo=None)), stamp(NOON).tz_convert("Europe/Berlin")),
        *(stamp(NEW_YEAR), stamp(NEW_YEAR).as_unit("s"), stamp("2024-01-01T00:00:00.000000001")),
        *(delta(1, "ns"), delta(2, "ns"), delta(1, "D"), delta(1, "us"), delta(-1, "us")),
        *(pd.Interval(0, 1), pd.Interval(0.0, 1.0), pd.Interval(0, 1, "left"), pd.Interval(0, 2)),
        *(pd.Period("2024-01", "M"), pd.Period("2024-01-01", "D"), pd.Period("2024-02", "M")),
        *pd.Categorical(["a", "b"]),
    ]

NOT_EQUAL_TO_ITSELF = {
    "nan": [float("nan"), -float("nan"), Decimal("nan"), np.float32("nan"), complex("nan")],
    "datetime64": [np.datetime64("NaT"), np.datetime64("NaT", "s")],
    "timedelta64": [np.timedelta64("NaT", "s"), np.timedelta64("NaT", "ns")],
    **({} if pd is None else {"NaT": [pd.NaT], "NA": [pd.NA]}),
}


def are_one(a, b):
    """Whether two keys are one in a dict, but for two oddities.

    A month of numpy's equals the number 1 there, which no other time does; and a time of pandas may
    equal one of numpy and have another hash.
    """
    lengths = isinstance(a, np.timedelta64), isinstance(b, np.timedelta64)
    other = a if lengths[1] else b
    if any(lengths) and not isinstance(other, np.timedelta64 | datetime.timedelta):
        return False
    try:
        with np.errstate(over="ignore"):
            moments = all(isinstance(each, np.datetime64 | datetime.datetime) for each in (a, b))
            return bool(a == b) and (hash(a) == hash(b) or any(lengths) or moments)
    except (TypeError, ValueError, OverflowError):  # of numpy, for times of units that do not fit
        return False


def python_groups(keys):
    """Return a number for each key, the same where keys are equal.

    Equality of numpy's times is not transitive: one of days equals one of nanoseconds and a
    `datetime`, but these two are not equal. Then all are one.
    """
    number = list(range(len(keys)))
    for position, key in enumerate(keys):
        for other in range(position):
            if number[other] != number[position] and are_one(keys[other], key):
                low, high = sorted((number[other], number[position]))
                number = [low if each == high else each for each in number]
    return number


def test_keys_are_one_just_where_python_says_so():
    groups, digests = python_groups(POOL), [keyhash.digest(key) for key in POOL]
    wrong = [
        (POOL[a], POOL[b])
        for a in range(len(POOL))
        for b in range(a)
        if (groups[a] == groups[b]) != (digests[a] == digests[b])
    ]
    assert wrong == []
    assert len(set(groups)) < len(POOL) - 50


def test_what_is_not_equal_to_itself_is_one_key_of_each_kind():
    for kind, keys in NOT_EQUAL_TO_ITSELF.items():
        assert len({keyhash.digest(key) for key in keys}) == 1, kind
    every = [*(keys[0] for keys in NOT_EQUAL_TO_ITSELF.values()), *POOL]
    digests = [keyhash.digest(key) for key in every]
    assert all(digests.count(each) == 1 for each in digests[: len(NOT_EQUAL_TO_ITSELF)])
    assert keyhash.digest((float("nan"), 1)) == keyhash.digest((np.float64("nan"), True))


def test_bytes_that_can_be_changed_are_equal_to_others():
    assert keyhash.digest(bytearray(b"ab")) == keyhash.digest(b"ab")


def test_all_processes_agree():
    code = (
        "import json, sys; from importlib.util import module_from_spec, spec_from_file_location;"
        f"spec = spec_from_file_location({__name__!r}, {__file__!r});"
        "t = sys.modules[spec.name] = module_from_spec(spec); spec.loader.exec_module(t);"
        "print(json.dumps([t.keyhash.digest(key).hex() for key in t.POOL]))"
    )
    expected = [keyhash.digest(key).hex() for key in POOL]
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout) == expected


def test_copies_have_the_digest_of_what_they_are_copies_of():
    here = [
        key for key in POOL if not isinstance(key, type) and type(key).__module__ != "elsewhere"
    ]
    copies = pickle.loads(pickle.dumps(here))
    assert list(map(keyhash.digest, copies)) == list(map(keyhash.digest, here))


def test_digests_are_what_they_were():
    """The order of groups is that of digests, so it changes with them."""
    keys = [1, 0.5, "a", b"a", None, (1, "a"), frozenset([1]), NOON, NOON.date(), Path("a")]
    keys += [datetime.timedelta(1), uuid.UUID(int=1), 1j, datetime.time(1, 2)]
    expected = "ac6e9e 2a14a8 d6b69f d381b2 1240a4 c02c98 23f7f0 ee80ed d0cabc 2560b0 4586d2 e84660"
    assert [keyhash.digest(key).hex()[:6] for key in keys] == [
        *expected.split(),
        "9beb88",
        "097178",
    ]


class Caseless(str):
    def __eq__(self, other):
        return self.lower() == other.lower()

    def __hash__(self):
        return hash(self.lower())


@dataclasses.dataclass(frozen=True)
class Rounded:
    value: float

    def __eq__(self, other):
        return round(self.value) == round(other.value)

    def __hash__(self):
        return hash(round(self.value))


@dataclasses.dataclass
class Loose:
    name: str


@dataclasses.dataclass(eq=False)
class Lone:
    name: str


REFUSED = {
    "no hash of it.*a tuple has one": [[], (1, [2])],
    "no hash of it.*frozenset": [{}, set(), Counter()],
    "no hash of it.*frozen=True": [Loose("a")],
    "no hash of it": [np.zeros(2), types.SimpleNamespace(), Star([1])],
    "equal to no other": [object(), Lone("a"), partial(int), int.bit_length, lambda: 0],
    "__eq__ of its own": [Caseless("a"), Rounded(1.2), re.compile("a"), (1, Caseless("a")), abs],
    "signaling": [Decimal("snan")],
    "no unit": [np.timedelta64(5)],
    "not that of equal values": [np.zeros(1, "i4,i4")[0]],
}


@pytest.mark.parametrize(("why", "keys"), REFUSED.items(), ids=range(len(REFUSED)))
def test_what_has_no_equality_in_all_processes_is_refused(why, keys):
    for key in keys:
        with pytest.raises(StageError, match=rf"a \S+ cannot be a key: .*{why}.*key=lambda"):
            keyhash.digest(key)


NUMBERS = (
    st.integers()
    | st.floats(allow_nan=False)
    | st.fractions()
    | st.booleans()
    | st.decimals(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
)
TIMES = (
    st.datetimes(timezones=st.none() | st.timezones())
    | st.dates()
    | st.times(timezones=st.none() | st.just(UTC) | st.just(FIVE_EAST))
    | st.timedeltas()
)
KEYS = st.recursive(
    NUMBERS | TIMES | st.text() | st.binary() | st.none(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)


@given(KEYS, KEYS)
def test_digests_are_equal_when_keys_are(a, b):
    assert (keyhash.digest(a) == keyhash.digest(b)) == (a == b)


@given(NUMBERS, st.sampled_from([int, float, complex, Fraction, Decimal]))
def test_a_number_is_one_key_in_all_types(number, kind):
    try:
        other = kind(number)
    except (TypeError, ValueError, OverflowError):
        return
    assert (keyhash.digest(number) == keyhash.digest(other)) == are_one(number, other)


@given(st.datetimes(timezones=st.timezones()), st.timezones())
def test_a_time_is_one_key_in_all_zones(when, zone):
    try:
        other = when.astimezone(zone)
    except OverflowError:
        return
    assert (keyhash.digest(when) == keyhash.digest(other)) == (when == other)


@given(st.lists(st.text(), unique=True, min_size=1), st.integers(1, 100))
def test_partitions_are_ranges_of_digests(keys, parts):
    found = [keyed.partition(digest, parts) for digest in sorted(map(keyhash.digest, keys))]
    assert found == sorted(found)
    assert all(0 <= part < parts for part in found)


def test_what_is_nested_too_deep_is_refused():
    key = ()
    for _ in range(5000):
        key = (key,)
    with pytest.raises(StageError, match="a tuple cannot be a key: its parts are nested too deep"):
        keyhash.digest(key)


def test_a_copy_of_a_weak_reference_is_refused_by_the_name_that_users_know():
    copied = pickle.loads(pickling.dumps(weakref.ref(Lone("a"))))
    with pytest.raises(StageError, match=r"a weakref\.ReferenceType cannot be a key"):
        keyhash.digest(copied)
