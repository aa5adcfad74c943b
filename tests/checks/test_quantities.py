"""Amounts as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htdag.checks.quantities import duration, size, units_of
from htdag.errors import OptionError


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (90, 90),
        (1.5, 2),
        ("90", 90),
        ("90s", 90),
        ("90 s", 90),
        ("30 min", 1800),
        ("2h", 7200),
        ("1.5 hours", 5400),
        ("1d 12h", 129_600),
        ("1h30m", 5400),
        ("1:30:00", 5400),
        ("2-00:00:01", 172_801),
        (timedelta(hours=2), 7200),
        (timedelta(microseconds=1), 1),
    ],
)
def test_a_duration(value, seconds):
    assert duration()(value) == seconds


@pytest.mark.parametrize(
    "value", ["", "soon", "2 fortnights", "1:30", "-1h", 0, -5, True, None, [], float("inf"), "h"]
)
def test_what_is_no_duration(value):
    with pytest.raises(OptionError):
        duration()(value)


@given(st.timedeltas(min_value=timedelta(seconds=1), max_value=timedelta(days=9999)))
def test_a_duration_is_never_shorter_than_what_was_given(delta):
    assert 0 <= duration()(delta) - delta.total_seconds() < 1


@pytest.mark.parametrize(
    ("text", "unit", "amount"),
    [
        ("512MB", "MB", 512),
        ("2.5GB", "MB", 2560),
        ("1KB", "MB", 1),
        ("1.5TB", "MB", 1_572_864),
        ("512MB", "KB", 524_288),
        ("1GiB", "KB", 1_048_576),
    ],
)
def test_a_size_in_whole_units(text, unit, amount):
    assert units_of(size(unit)(text), unit) == amount
