"""The options of a pipeline as a whole: checked where they are given, and in DAGMan's words."""

from __future__ import annotations

from pathlib import Path

import pytest
import reference

import htdag
from htdag.compile.scheduler import Scheduler
from htdag.errors import OptionError
from htdag.options import pipeline_options
from htdag.options.pipeline_options import Throttles, parse
from htdag.options.stage_options import PIPELINE_ONLY
from htdag.runtime.layout import NodeFiles


def stage(**options):
    return htdag.source([1]).map(abs, name="size", **options)


def test_every_option_has_a_check_and_a_field():
    assert tuple(pipeline_options._CHECKS) == PIPELINE_ONLY == tuple(Throttles.__dataclass_fields__)


def test_they_are_told_as_they_were_given():
    given = {
        "max_jobs_submitted": 5,
        "max_jobs_idle": 100,
        "max_post_scripts": 2,
        "maxjobs": {"disk": 3, "db": 1},
        "dagman": {"DAGMAN_SUBMIT_DELAY": "1"},
    }
    assert parse(given, "flow").given() == given
    assert parse(dict.fromkeys(given), "flow") == Throttles()
    assert Throttles().given() == {}


def test_they_are_settings_of_dagman():
    given = {"max_jobs_submitted": 5, "dagman": {"Dagman_Submit_Delay": 1, "DAGMAN_VERBOSITY": 4}}
    assert parse(given, "flow").settings() == {
        "DAGMAN_MAX_JOBS_SUBMITTED": "5",
        "DAGMAN_SUBMIT_DELAY": "1",
        "DAGMAN_VERBOSITY": "4",
    }
    assert Throttles().settings() == {}


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("max_jobs_submitted", 0, "from 1 to"),
        ("max_jobs_idle", True, "whole number"),
        ("max_post_scripts", "3", "whole number"),
        ("maxjobs", 3, r"a dict of categories and numbers of nodes"),
        ("maxjobs", {"db": 0}, "from 1 to"),
        ("maxjobs", {"a b": 2}, "letters, digits"),
        ("dagman", "DAGMAN_VERBOSITY = 3", "a dict of DAGMan's settings"),
        ("dagman", {"MAX_JOBS_RUNNING": 3}, "not the name of a setting of DAGMan's"),
        ("dagman", {"DAGMAN_DEFAULT_NODE_LOG": "x"}, "by htdag itself"),
        ("dagman", {"dagman_suppress_job_logs": True}, "by htdag itself"),
        ("dagman", {"DAGMAN_MAX_JOBS_IDLE": 3}, "give max_jobs_idle=... as an option"),
        ("dagman", {"DAGMAN_VERBOSITY": "3\nDAGMAN_AUTO_RESCUE = 0"}, "one line"),
    ],
)
def test_wrong_values_are_refused_by_name(option, value, why):
    with pytest.raises(OptionError, match=rf"^pipeline 'flow': option {option}=.*{why}"):
        htdag.Pipeline(stage(), name="flow", **{option: value})


def test_a_category_needs_a_limit():
    with pytest.raises(OptionError, match=r"stage 'size': .*give Pipeline\(..., maxjobs={'db': 2}"):
        htdag.Pipeline(stage(category="db"))
    with pytest.raises(OptionError, match="stage 'size'"):
        htdag.Pipeline(stage(), category="db")
    assert htdag.Pipeline(stage(), category="db", maxjobs={"db": 1}).plan().throttles.maxjobs


def test_a_limit_needs_a_category():
    with pytest.raises(OptionError, match=r"no stage has category='dbs'; did you mean 'db'\?"):
        htdag.Pipeline(stage(category="db"), maxjobs={"db": 1, "dbs": 2})
    with pytest.raises(OptionError, match=r"no stage has category='disk'$"):
        htdag.Pipeline(stage(), maxjobs={"disk": 1})


def test_a_misspelt_one_names_a_near_one():
    with pytest.raises(OptionError, match="did you mean 'max_jobs_submitted'"):
        htdag.Pipeline(stage(), max_job_submitted=3)


@pytest.mark.parametrize(("often", "late"), [(True, {"some"}), (False, {"plain", "some"})])
def test_jobs_are_made_late_where_negotiations_are_rare(
    tmp_path: Path, often: bool, late: set[str]
):
    plain = htdag.source(range(4)).map(abs, name="plain")
    some = plain.map(abs, name="some", max_idle=2)
    run = reference.compiled(
        htdag.Pipeline(some), tmp_path / "run", Scheduler(negotiates_often=often)
    )
    texts = {name: Path(NodeFiles(run, name).submit).read_text() for name in ("plain", "some")}
    assert {name for name, text in texts.items() if "\nmax_materialize = " in text} == late
    assert all("\nqueue chunk" in text for text in texts.values())
