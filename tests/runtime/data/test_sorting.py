"""Sorting by way of the disk gives what sorted() gives, however little is held in memory."""

from __future__ import annotations

import pickle
import re
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htdag.runtime.data import sorting
from htdag.runtime.data.sorting import Entry


def entries(values):
    return [Entry(value[0], str(n), pickle.dumps(value)) for n, value in enumerate(values)]


def order_of(payload):
    return pickle.loads(payload)[0]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.text(max_size=4)), max_size=60),
    st.booleans(),
    st.sampled_from([1, 1000, 5000, 1 << 20]),
)
@settings(deadline=None)
def test_it_is_a_stable_sort(values, reverse, budget):
    made = entries(values)
    found = list(sorting.sort(iter(made), order_of, reverse=reverse, budget=budget))
    assert found == sorted(made, key=lambda entry: entry.order, reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
def test_many_runs_are_merged_in_several_steps(monkeypatch, reverse):
    monkeypatch.setattr(sorting, "_MOST_RUNS", 3)
    made = entries([(n * 7 % 10, "x") for n in range(200)])
    found = list(sorting.sort(iter(made), order_of, reverse=reverse, budget=1))
    assert found == sorted(made, key=lambda entry: entry.order, reverse=reverse)


@pytest.mark.parametrize("budget", [1, 1 << 20])
def test_items_that_have_no_order_are_named(budget):
    made = entries([(1, "a"), (2, "b"), (None, "c"), (3, "d")])
    with pytest.raises(TypeError, match="not supported between instances of") as caught:
        list(sorting.sort(iter(made), order_of, budget=budget))
    if budget > 1:
        assert "those of the items" in str(caught.value)
        assert re.search(r"\b2\b", str(caught.value))


def test_scratch_files_are_in_the_jobs_scratch_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("_CONDOR_SCRATCH_DIR", str(tmp_path))
    opened = []
    real = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **how: opened.append(how) or real(**how))
    sorting.scratch_file("x-").close()
    assert opened[0]["dir"] == str(tmp_path)
    monkeypatch.setenv("_CONDOR_SCRATCH_DIR", str(tmp_path / "gone"))
    sorting.scratch_file("x-").close()
    assert opened[1]["dir"] is None
