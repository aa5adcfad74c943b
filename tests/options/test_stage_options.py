"""Options: checked where they are given, in one normal form, and combined in one way."""

from __future__ import annotations

import numpy as np
import pytest

import htdag
from htdag.errors import OptionError
from htdag.options import stage_options
from htdag.options.stage_options import Options, parse


@pytest.mark.parametrize(
    ("option", "value", "normal"),
    [
        ("request_cpus", 4, 4),
        ("request_gpus", 0, 0),
        ("request_memory", 512, "512MB"),
        ("request_memory", "512", "512MB"),
        ("request_memory", "2GB", "2GB"),
        ("request_memory", " 2 g ", "2GB"),
        ("request_memory", "2.5GiB", "2.5GB"),
        ("request_memory", "1024k", "1024KB"),
        ("request_disk", 100, "100KB"),
        ("request_disk", "1tb", "1TB"),
        ("retry_request_memory", 4096, "4096"),
        ("requirements", " HasGPU ", "HasGPU"),
        ("rank", 3.5, "3.5"),
        ("priority", -5, -5),
        ("accounting_group", "physics", "physics"),
        ("max_idle", 1, 1),
        ("category", "db-2.x", "db-2.x"),
        ("node_priority", 0, 0),
        ("node_priority", -7, -7),
        ("chunk_size", 1, 1),
        ("retries", 0, 0),
        ("on_error", "skip", "skip"),
        ("max_errors", 0, 0),
        ("max_errors", 7, 7),
        ("max_errors", 0.05, 0.05),
        ("max_errors", 1.0, 1.0),
        ("fuse", False, False),
        ("submit", {"+B": 1, "a": True}, (("+B", "1"), ("a", "True"))),
        ("submit", {"MY.Project": '"x"'}, (("MY.Project", '"x"'),)),
        ("submit", {}, ()),
        ("chunk_size", np.int64(5), 5),
        ("retries", np.array(1), 1),
        ("max_errors", np.float32(0.5), 0.5),
        ("max_errors", np.uint8(3), 3),
        ("request_memory", np.int32(512), "512MB"),
        ("allowed_job_duration", np.float64(60), 60),
        ("rank", np.float32(3.5), "3.5"),
        ("submit", {"a": np.int8(3)}, (("a", "3"),)),
    ],
)
def test_good_values_have_one_normal_form(option, value, normal):
    assert parse({option: value}, "words").given() == {option: normal}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("request_cpus", 0),
        ("request_cpus", 1.0),
        ("request_cpus", True),
        ("request_cpus", np.bool_(True)),
        ("request_cpus", np.float64(2)),
        ("request_cpus", "2"),
        ("request_memory", 0),
        ("request_memory", -1),
        ("request_memory", "0GB"),
        ("request_memory", "much"),
        ("request_memory", "2 PB"),
        ("request_memory", True),
        ("request_memory", [1]),
        ("requirements", ""),
        ("requirements", "   "),
        ("requirements", "a\nqueue 5"),
        ("requirements", "a\0"),
        ("requirements", ["HasGPU"]),
        ("rank", None.__class__),
        ("accounting_group", "group x"),
        ("priority", "high"),
        ("priority", 2**31),
        ("max_idle", 0),
        ("category", ""),
        ("category", "two words"),
        ("category", "+all"),
        ("category", "größe"),
        ("category", 1),
        ("node_priority", 1.5),
        ("node_priority", True),
        ("chunk_size", 0),
        ("chunk_size", 2.5),
        ("retries", -1),
        ("retries", True),
        ("on_error", "ignore"),
        ("on_error", True),
        ("max_errors", -1),
        ("max_errors", -0.1),
        ("max_errors", 1.5),
        ("max_errors", float("nan")),
        ("max_errors", True),
        ("max_errors", "5%"),
        ("fuse", 0),
        ("fuse", "no"),
        ("submit", "a = b"),
        ("submit", {1: 2}),
        ("submit", {"a b": 2}),
        ("submit", {"a": "b\nc"}),
        ("submit", {"a": ""}),
        ("submit", {"a": None}),
    ],
)
def test_bad_values_are_refused_by_name(option, value):
    with pytest.raises(OptionError) as caught:
        parse({option: value}, "words")
    assert str(caught.value).startswith(f"stage 'words': option {option}=")


REFUSED = {
    "set by htdag itself": "Executable arguments LOG output iwd InitialDir +Iwd MY.Cmd "
    "remote_initialdir submit_event_notes stream_output log_xml batch_name universe shell "
    "output_directory transfer_checkpoint_files transfer_output_remaps dagman_log notification",
    "a keyword of submit descriptions": "if elif else endif include use queue Include",
    "is a variable of htdag's": "chunk attempt inputs unit memory_of_chunk",
    "give transfer_files=True": "should_transfer_files",
    r"call run\.hold\(\)": "hold Hold",
    "nothing would be computed": "noop_job skip_if_dataflow",
    "keep done jobs in the queue": "leave_in_queue",
    "another universe": "ec2_ami_id grid_resource batch_queue vm_memory machine_count jar_files",
}


@pytest.mark.parametrize(
    ("name", "why"), [(name, why) for why, names in REFUSED.items() for name in names.split()]
)
def test_submit_commands_that_would_not_do_are_refused(name, why):
    with pytest.raises(OptionError, match=why):
        parse({"submit": {name: "x"}}, "words")


TAKEN = """
+ProjectName MY.Colour periodic_release on_exit_hold max_retries kill_sig request_fpgas
accounting_group_user concurrency_limits_expr use_oauth_services transfer_plugins nice_user
docker_network_type job_lease_duration description cron_minute deferral_time encrypt_input_files
max_transfer_input_mb retry_request_disk gs_access_key_id_file
"""


def test_other_submit_commands_are_taken():
    given = dict.fromkeys(TAKEN.split(), "1")
    assert dict(parse({"submit": given}, "words").submit or ()) == given


def test_a_command_is_given_once_whatever_its_letters():
    with pytest.raises(OptionError, match="'RANDOM' is given twice"):
        parse({"submit": {"random": 1, "RANDOM": 2}}, "words")


@pytest.mark.parametrize("option", ["rank", "requirements", "retry_request_memory"])
def test_a_line_that_would_go_on_in_the_next_is_refused(option):
    for given in ({option: "Mips > 1 \\ "}, {"submit": {"+A": "1\\"}}):
        with pytest.raises(OptionError, match="it ends with a backslash"):
            parse(given, "words")


@pytest.mark.parametrize("name", ["request_cpus", "Requirements", "MAX_IDLE"])
def test_submit_commands_that_are_options_are_refused(name):
    with pytest.raises(OptionError, match=f"give {name}=... as an option"):
        parse({"submit": {name: "x"}}, "words")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("request_memroy", "request_memory"),
        ("request_cpu", "request_cpus"),
        ("retry", "retries"),
        ("chunksize", "chunk_size"),
        ("max_error", "max_errors"),
    ],
)
def test_unknown_options_name_a_near_one(name, near):
    with pytest.raises(OptionError, match=f"no option '{name}'; did you mean '{near}'"):
        parse({name: 1}, "words")


def test_unknown_options_say_where_submit_commands_go():
    with pytest.raises(OptionError, match=r"there is no option 'zzz' \(any other submit command"):
        parse({"zzz": 1}, "words")


@pytest.mark.parametrize("name", stage_options.PIPELINE_ONLY)
def test_a_stage_takes_no_option_of_the_whole_pipeline(name):
    with pytest.raises(OptionError, match=rf"give it to Pipeline\(..., {name}=...\)"):
        parse({name: 1}, "words")


def test_none_is_not_given():
    assert parse({"retries": None, "fuse": None}, "words") == Options()


def test_every_option_has_a_check_and_a_field():
    assert set(stage_options._CHECKS) == set(Options.__dataclass_fields__)


def test_own_options_go_before_defaults():
    own = parse({"retries": 2, "fuse": False}, "words")
    defaults = parse({"retries": 5, "request_cpus": 3}, "flow")
    assert own.with_defaults(defaults).given() == {"retries": 2, "fuse": False, "request_cpus": 3}


@pytest.mark.parametrize("falsy", [{"retries": 0}, {"request_gpus": 0}, {"max_errors": 0}])
def test_a_zero_is_given(falsy):
    (name,) = falsy
    assert parse(falsy, "words").with_defaults(parse({name: 1}, "flow")).given() == falsy


def test_requirements_of_stage_and_pipeline_both_hold():
    own = parse({"requirements": "a || b"}, "words")
    assert own.with_defaults(parse({"requirements": "c || d"}, "flow")).requirements == (
        "(c || d) && (a || b)"
    )
    assert own.with_defaults(Options()).requirements == "a || b"


def test_submit_commands_of_stage_and_pipeline_are_merged():
    own = parse({"submit": {"a": "1", "b": "2"}}, "words")
    merged = own.with_defaults(parse({"submit": {"b": "3", "c": "4"}}, "flow"))
    assert merged.submit == (("a", "1"), ("b", "2"), ("c", "4"))


def test_with_options_replaces_what_was_given():
    stage = htdag.source([1]).map(abs, retries=1, requirements="a")
    changed = stage.with_options(retries=5, requirements="b")
    assert changed.options.retries == 5
    assert changed.options.requirements == "b"
    assert stage.options.retries == 1


def test_a_source_takes_a_chunk_size_only():
    source = htdag.source([1]).with_options(chunk_size=5)
    assert source.options.chunk_size == 5
    with pytest.raises(OptionError, match="give 'retries' to the stages after it"):
        source.with_options(retries=2)


def test_a_mistake_in_a_pipelines_defaults_names_the_pipeline():
    with pytest.raises(OptionError, match=r"'flow'.*did you mean 'retries'"):
        htdag.Pipeline(htdag.source([1]).map(abs), name="flow", retrys=1)


def test_max_errors_is_for_skip_alone():
    source = htdag.source([1])
    with pytest.raises(OptionError, match="stage 'abs': max_errors=3 has no effect with on_error"):
        htdag.Pipeline(source.map(abs, max_errors=3))
    with pytest.raises(OptionError, match="give on_error='skip', too"):
        htdag.Pipeline(source.map(abs, max_errors=0.1), on_error="stop")
    htdag.Pipeline(source.map(abs, max_errors=3), on_error="skip")
    # A default of the pipeline is for those of its stages that skip.
    htdag.Pipeline(source.map(abs, on_error="stop"), on_error="skip", max_errors=3)
