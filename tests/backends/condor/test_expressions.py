"""Expressions that HTCondor could not read are refused before there is a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import htdag
from htdag.errors import OptionError

pytest.importorskip("classad2")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"requirements": "Memory >"}, r"option requirements: Memory > is not a ClassAd"),
        ({"rank": "(("}, r"option rank: \(\( is no"),
        ({"submit": {"+Project": "My Lab"}}, r"option submit, \+Project: My Lab is no"),
        ({"submit": {"MY.Project": '"Lab'}}, r"option submit, MY.Project"),
    ],
)
def test_an_expression_that_is_none_names_its_stage(
    runs_dir: Path, options: dict[str, Any], named: str
):
    stage = htdag.map(abs, [1], name="first").map(abs, name="second", **options)
    with pytest.raises(OptionError, match=f"stage 'second': {named}"):
        htdag.Pipeline(stage).compile(runs_dir / "run")
    assert not (runs_dir / "run").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"requirements": 'regexp("^a", TARGET.Machine) && x =?= undefined'},
        {"requirements": 'Lab == "$(LAB)"'},  # condor_submit fills it in
        {"rank": "10 * Mips", "submit": {"+Project": '"Lab"', "nice_user": "True"}},
    ],
)
def test_others_are_left_to_htcondor(runs_dir: Path, options: dict[str, Any]):
    htdag.Pipeline(htdag.map(abs, [1], **options)).compile(runs_dir / "run")


@pytest.mark.pool
def test_no_run_is_left_of_one(pool: Any, runs_dir: Path):
    stage = htdag.map(abs, [1], requirements="Memory >")
    with pytest.raises(OptionError, match="is not a ClassAd expression"):
        htdag.Pipeline(stage, name="half").submit(on="condor")
    assert htdag.runs("half*") == []
