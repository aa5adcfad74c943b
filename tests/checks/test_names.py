"""Names that DAGMan, file systems and people can read."""

from __future__ import annotations

import re

import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

import htdag
from htdag.checks.names import check_stage_name, check_tag, derived_name, node_name, unique_name
from htdag.errors import StageNameError

RESERVED = ["parent", "CHILD", "All_Nodes", "job", "NODE", "final", "retry", "Vars", "done"]
VALID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,79}")


@pytest.mark.parametrize("name", ["a", "A", "_", "_x", "words", "a-b_c9", "x" * 80, "parents"])
def test_good_names_stay_as_they_are(name):
    assert check_stage_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "1st", "-a", "a.b", "a/b", "wörter", "a\n", "a+b", "x" * 81, "a$b", "a\0"],
)
def test_bad_names_are_refused_with_a_better_one(name):
    with pytest.raises(StageNameError, match="cannot name a stage") as caught:
        check_stage_name(name)
    better = re.search(r"for instance '([^']+)'", str(caught.value))
    assert better is not None
    assert check_stage_name(better[1]) == better[1]


@pytest.mark.parametrize("name", RESERVED)
def test_words_of_dagman_name_stages_but_no_nodes(tmp_path, monkeypatch, name):
    def work(number):
        return number + 1

    work.__name__ = name
    first = htdag.source([1, 2], name="numbers").map(work, name=name)
    second = htdag.source([1]).map(work)
    assert (check_stage_name(name), second.name) == (name, name)
    flow = htdag.Pipeline(first, name="words")
    assert [node.name for node in flow.plan().nodes] == [node_name(name)] == [name + "_"]
    run = reference.compiled(flow, tmp_path / "run")
    assert f"JOB {name}_ " in (run / "words.dag").read_text()
    with reference.without_fork(monkeypatch):
        assert reference.run_nodes(run) == []
    assert reference.result(run, name) == [2, 3]
    both = htdag.Pipeline(first, first.map(work, name=name + "_", fuse=False))
    assert len({node.name for node in both.plan().nodes}) == 2


@pytest.mark.parametrize("name", [None, 3, b"words", ["a"]])
def test_a_name_is_a_text(name):
    with pytest.raises(StageNameError, match="the name of a pipeline is a str"):
        check_stage_name(name, what="pipeline")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("words", "words"),
        ("naïve", "naive"),
        ("café", "cafe"),
        ("a.b c", "a_b_c"),
        ("  x  ", "x"),
        ("1st", "map_1st"),
        ("слова", "map"),
        ("", "map"),
        ("<lambda>", "lambda"),
        ("job", "job"),
        ("PARENT", "PARENT"),
        ("x" * 100, "x" * 60),
    ],
)
def test_derived_names_are_as_near_as_possible(text, name):
    assert derived_name(text, "map") == name


@given(st.text())
def test_any_text_has_a_valid_derived_name(text):
    name = derived_name(text, "filter")
    assert VALID.fullmatch(name)
    assert check_stage_name(name) == name


@pytest.mark.parametrize(
    ("name", "taken", "unique"),
    [
        ("a", set(), "a"),
        ("a", {"b"}, "a"),
        ("a", {"a"}, "a-2"),
        ("a", {"A"}, "a-2"),
        ("a", {"a", "a-2", "A-3"}, "a-4"),
    ],
)
def test_unique_names_are_numbered(name, taken, unique):
    assert unique_name(name, taken) == unique


@given(st.lists(st.sampled_from(["a", "A", "a-2", "b"]), max_size=8))
def test_unique_names_differ_in_more_than_case(wanted):
    taken: set[str] = set()
    for name in wanted:
        taken.add(unique_name(name, taken))
    assert len({name.lower() for name in taken}) == len(wanted)


@pytest.mark.parametrize("tag", ["a", "run 1", "läuft", "it's", "a,b;c", "x" * 100, "1", "v1.2"])
def test_good_tags_stay_as_they_are(tag):
    assert check_tag(tag) == tag


@pytest.mark.parametrize(
    ("tag", "why"),
    [
        ("", "empty"),
        (" a", "white space"),
        ("a\n", "white space"),
        ("x" * 101, "longer than 100 bytes"),
        ("ä" * 51, "longer than 100 bytes"),
        (".hidden", "begins with '.'"),
        ("-rf", "begins with '-'"),
        ("..", "begins with '.'"),
        ("a/b", "holds one of"),
        ("a\\b", "holds one of"),
        ("run*", "holds one of"),
        ("[a]", "holds one of"),
        ("a\tb", "cannot be printed"),
        ("a\x1b[1m", "holds one of|cannot be printed"),
        ("a\udc80", "cannot be printed"),
    ],
)
def test_bad_tags_are_refused_with_the_reason(tag, why):
    with pytest.raises(StageNameError, match=why):
        check_tag(tag)


def test_a_tag_is_a_text():
    with pytest.raises(StageNameError, match="a tag is a str, not int"):
        check_tag(3)
