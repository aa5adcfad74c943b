"""Digests of keys: equal for equal keys, in every process, and different for all others."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import pathlib
import subprocess
import sys
import uuid
from collections import namedtuple
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htdag.runtime import keyed, keyhash
from htdag.runtime.program import StageError

Point = namedtuple("Point", "x y")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass(frozen=True)
class Star:
    name: str
    seen: int = dataclasses.field(default=0, compare=False)


@dataclasses.dataclass
class Loose:
    name: str


NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.timezone.utc)
EQUAL = [
    (1, 1.0, True, Decimal(1), Fraction(1), 1 + 0j, Level.LOW),
    (0.5, Decimal("0.5"), Fraction(1, 2), 0.5 + 0j),
    (0, -0.0, False),
    ((1, 2), Point(1, 2), (1.0, Fraction(2))),
    (frozenset([1, 2]), frozenset([2.0, 1])),
    (Star("a"), Star("a", 5)),
    (NOON, NOON.astimezone(datetime.timezone(datetime.timedelta(hours=5)))),
    (b"ab", bytearray(b"ab")),
    (float("nan"), float("nan")),
]
DIFFERENT = [
    0, 1, -1, 2**70, 0.1, 1e300, float("inf"), -float("inf"), 1j, "", "1", "a", b"", b"a", None,
    (), ("a",), (("a",),), ("a", "b"), ("ab",), frozenset(), frozenset(["a"]), Colour.RED,
    Colour.BLUE, Star("a"), Star("b"), NOON, NOON.replace(tzinfo=None), NOON.date(), NOON.time(),
    datetime.timedelta(1), uuid.UUID(int=1), pathlib.PurePosixPath("a"), "\udc80",
]  # fmt: skip


@pytest.mark.parametrize("keys", EQUAL)
def test_equal_keys_have_one_digest(keys):
    assert len({keyhash.digest(key) for key in keys}) == 1


def test_different_keys_have_different_digests():
    assert len({keyhash.digest(key) for key in DIFFERENT}) == len(DIFFERENT)


REFUSED = [[], {}, set(), object(), Loose("a"), abs, (1, [2])]


@pytest.mark.parametrize("key", REFUSED, ids=lambda key: type(key).__name__)
def test_what_processes_would_not_agree_on_is_refused(key):
    with pytest.raises(StageError, match="cannot be a key"):
        keyhash.digest(key)


def test_all_processes_agree():
    keys = ["a", 1, 2.5, None, ("b", 3)]
    code = (
        "import json; from htdag.runtime import keyhash;"
        "print(json.dumps([keyhash.digest(k).hex() for k in ['a', 1, 2.5, None, ('b', 3)]]))"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout) == [keyhash.digest(key).hex() for key in keys]


NUMBERS = st.integers() | st.floats(allow_nan=False) | st.fractions() | st.booleans()
KEYS = st.recursive(
    NUMBERS | st.text() | st.binary() | st.none(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)


@given(KEYS, KEYS)
def test_digests_are_equal_when_keys_are(a, b):
    assert (keyhash.digest(a) == keyhash.digest(b)) == (a == b)


@given(st.lists(st.text(), unique=True, min_size=1), st.integers(1, 100))
def test_partitions_are_ranges_of_digests(keys, parts):
    found = [keyed.partition(digest, parts) for digest in sorted(map(keyhash.digest, keys))]
    assert found == sorted(found)
    assert all(0 <= part < parts for part in found)
