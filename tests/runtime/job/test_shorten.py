"""Short texts of values."""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from htdag.runtime.job.shorten import HIDDEN, cut, named, short

Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Star:
    name: str
    path: list
    api_key: str = "0123"


class Plain:
    def __init__(self):
        self.a = 1


class Bad:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (None, "None"),
        ("a", "'a'"),
        (b"a", "b'a'"),
        ("a" * 100, "'" + "a" * 80 + "'... (100 characters)"),
        (1 << 5000, "<int of 5001 bits>"),
        ([1, 2], "[1, 2]"),
        (list(range(100)), "[0, 1, 2, 3, 4, 5, ... 100 in all]"),
        ((1,), "(1,)"),
        ((), "()"),
        ({1: "a"}, "{1: 'a'}"),
        ({1}, "{1}"),
        (set(), "set([])"),
        (collections.OrderedDict(a=1), "OrderedDict({'a': 1})"),
        (Point(1, [2]), "Point(x=1, y=[2])"),
        ([[[[1]]]], "[[[[... 1 in all]]]]"),
        (
            Star("Vega", [1] * 9),
            f"Star(name='Vega', path=[1, 1, 1, 1, 1, 1, ... 9 in all], api_key={HIDDEN})",
        ),
        (Plain(), "<Plain(a=1)>"),
        (Path("/a"), "PosixPath('/a')"),
        (Bad(), "<Bad, whose repr raised RuntimeError>"),
        (np.zeros((10, 3)), "<numpy.ndarray of shape (10, 3), float64>"),
        (np.array([1, 2]), "array([1, 2])"),
        (len, "<built-in function len>"),
    ],
)
def test_values(value, text):
    assert short(value) == text


@given(st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=200))
def test_any_value_gives_one_short_line(value):
    text = short(value)
    assert len(text) <= 200
    assert "\n" not in text


def test_a_large_value_is_not_written_out_whole():
    class Counted:
        written = 0

        def __repr__(self):
            Counted.written += 1
            return "c"

    assert short(Star("x", [[Counted()] * 1000] * 1000)).startswith("Star(name='x', path=[[c, c, ")
    assert Counted.written <= 6 * 6


def test_secrets_are_hidden_and_words_are_not():
    for name in ("password", "DB_PASSWD", "secret_key", "apikey"):
        assert named(name, "x") == HIDDEN
    assert named("token", "ghp_0123456789abcdef") == HIDDEN
    assert named("token", "whale") == "'whale'"
    assert named("tokens", ["a", "b"]) == "['a', 'b']"
    assert short({"password": "x", "a": 1}) == "{'password': (hidden), 'a': 1}"


def test_long_texts_lose_their_middle():
    assert cut("a" * 50 + "b" * 50, 20) == "a" * 12 + "..." + "b" * 5
