"""What jobs tell of errors, and how it is read again."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import reference

import htdag
from htdag.observe import item_errors
from htdag.runtime import layout, planfile
from htdag.runtime.data import recordfile
from htdag.runtime.job import describe
from htdag.runtime.layout import NodeFiles

NODE = "f"


def failures_of(run, function, items, **options):
    """The record, and the errors, of one job that works through items."""
    options = {"chunk_size": 1000, "name": NODE} | options
    stage = htdag.source(items).map(function, **options)
    return read(reference.compiled(htdag.Pipeline(stage), run))


def read(run, node=NODE):
    reference.work(run, node)
    lines = list(recordfile.lines(NodeFiles(run, node).attempt(0, 1).record))
    return lines, list(item_errors.errors(run, planfile.read(str(run))))


@pytest.fixture
def run(tmp_path):
    return tmp_path / "run"


def test_the_same_frames_are_written_once_in_a_job(run):
    def broken(x):
        raise ValueError(f"no {x}, which nobody should see twice")

    lines, errors = failures_of(run, broken, range(1000))
    assert len(errors) == 1000
    size = Path(NodeFiles(run, NODE).attempt(0, 1).record).stat().st_size
    assert size / 1000 < 400
    assert sum("text" in json.dumps(line) for line in lines) < 10
    last = errors[-1]
    assert last.traceback.startswith("Traceback (most recent call last):\n  File ")
    assert last.traceback.endswith("ValueError: no 999, which nobody should see twice\n")
    assert last.traceback.replace("999", "0") == errors[0].traceback
    assert [bool(error.locals) for error in errors[:5]] == [True, True, True, False, False]


def test_another_cause_among_many_has_its_variables(run):
    def broken(x):
        if x == 500:
            raise KeyError(x)
        raise ValueError(x)

    _, errors = failures_of(run, broken, range(600))
    assert errors[500].locals[0].names == {"x": "500"}


def test_variables_of_each_frame_of_the_users_own(run):
    def inner(numbers, secret_word):
        several = np.zeros((5, 5))
        del numbers
        return json.loads(f"{{{several.size}")

    def outer(x):
        return inner([x] * 20, "open sesame")

    _, (error,) = failures_of(run, outer, [7])
    names = [frame.function for frame in error.locals]
    assert names[:2] == ["outer", "inner"]
    assert error.locals[0].names == {"x": "7"}
    assert error.locals[1].names == {
        "secret_word": "(hidden)",
        "several": "<numpy.ndarray of shape (5, 5), float64>",
    }
    assert names[2:] == ["raw_decode"]  # where it happened; what lies between is Python's own
    text = error.traceback_with_locals()
    assert text.index("in inner") < text.index("      several = ") < text.index("in loads")


def test_an_error_tells_its_item_and_what_the_stage_was_given(run):
    items = htdag.source([{"a": 1}]).map(lambda item: item["a"] + 1, name="plus")
    flow = htdag.Pipeline(items.map(lambda x: x.nothing, name="then"))
    _, (error,) = read(reference.compiled(flow, run), "plus.then")
    assert error.stage == "then"
    assert error.item == "{'a': 1}"
    assert error.argument == "2"
    assert error.source == {"a": 1}


def test_items_of_a_reduce_are_told_too(run):
    total = htdag.source([1, 2, "x"]).reduce(lambda a, b: a + b, associative=False, name="total")
    _, (error,) = read(reference.compiled(htdag.Pipeline(total), run), "total")
    assert (error.key, error.item) == ("2", "'x'")


def test_what_is_true_of_the_whole_job_is_told_once(run, monkeypatch, tmp_path):
    scratch = tmp_path / "scratch"
    (scratch / "sub").mkdir(parents=True)
    (scratch / "sub/a.txt").write_text("four")
    (scratch / "b").symlink_to("nowhere")
    monkeypatch.setenv("_CONDOR_SCRATCH_DIR", str(scratch))
    lines, errors = failures_of(run, lambda x: 1 / 0 + np.sum(x), range(3))
    assert sum("context" in line for line in lines) == 1
    for error in errors:
        assert error.packages["numpy"] == np.__version__
        assert error.scratch == ("b (a link to nothing)", "sub/", "sub/a.txt (4 bytes)")
        assert error.system.startswith(os.uname().sysname)
        assert error.time == pytest.approx(lines[0]["start"]["time"], abs=60)
    assert json.dumps(errors[0].as_dict())


def test_without_errors_nothing_is_told(run):
    lines, errors = failures_of(run, abs, range(3))
    assert errors == []
    assert [*map(list, lines)] == [["start"], ["end"]]


def test_a_scratch_directory_of_any_size_is_listed_in_part(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("_CONDOR_SCRATCH_DIR", raising=False)
    for number in range(300):
        (tmp_path / f"{number:03}").touch()
    found = describe.scratch()
    assert found is not None
    assert (len(found), found[0], found[-1]) == (101, "000 (0 bytes)", "...")
    (tmp_path / layout.RUN).touch()
    assert describe.scratch() is None


def test_packages_are_those_that_are_imported():
    found = describe.packages()
    assert found["numpy"] == np.__version__
    assert "click" not in found or found["click"]
    assert not set(found) & set(sys.stdlib_module_names)


@pytest.mark.parametrize("text", ["", "ValueError: x\n", "  File\n  x\nError\n  File\n  x\n", "a"])
def test_tracebacks_are_read_as_they_were_written(text, tmp_path):
    details, texts = describe.Details(str(tmp_path / "record")), {}
    for _ in range(2):
        pieces = json.loads(json.dumps(details.deduplicated_traceback(text)))
        assert recordfile.whole_traceback(pieces, texts) == text


def test_a_traceback_of_an_older_record_is_a_text():
    assert recordfile.whole_traceback("as it is", {}) == "as it is"
