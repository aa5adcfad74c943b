"""The plan in words."""

from __future__ import annotations

import pytest

import htdag
from htdag._text import counted
from htdag.show.explain import WIDTH, called


def words(path):
    return path.read_text().split()


def is_long(book):
    return len(book) > 10


def merge(left, right):
    return left + right


def distinctive(book, vocabulary):
    return [word for word in book if vocabulary.count(word) == 1]


def keep(item, **bound):
    return item


@pytest.fixture
def book_analysis(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("a b c")
    books = htdag.files(str(tmp_path / "*.txt"), name="books")
    long_books = books.map(words, name="count_words").filter(is_long)
    vocabulary = long_books.reduce(merge, name="vocabulary")
    rare = long_books.map(distinctive, bind={"vocabulary": vocabulary}, retries=2)
    table = rare.reduce(merge, name="table", associative=False, initial=[])
    return htdag.Pipeline(table, name="book_analysis", retries=1)


def facts(text):
    """The text without the reasons, whose words are the planner's."""
    kept = []
    for line in text.splitlines():
        if line.startswith("     why"):
            kept.append("     why")
        elif not line.startswith(" " * 14 + "- ") and not line.startswith(" " * 16):
            kept.append(line)
    return "\n".join(kept)


def test_the_book_analysis(book_analysis):
    assert (
        facts(book_analysis.explain())
        == """\
Pipeline book_analysis: 6 stages in 4 DAGMan nodes, 8 jobs

Stages
  books        source of 3 files
  count_words  map words() over books
  is_long      filter over count_words
  vocabulary   reduce merge() over is_long
  distinctive  map over is_long; bind vocabulary
  table        reduce merge() over distinctive; associative=False; initial=[]; result

DAGMan nodes
  1. count_words.is_long: 3 jobs, 3 items
     reads    the source books
     runs     map count_words, filter is_long, combine vocabulary
     writes   parts of vocabulary, one from each job; is_long
     options  retries=1
     why
  2. vocabulary: 1 job
     reads    the parts of vocabulary from node 1
     runs     reduce vocabulary
     writes   vocabulary
     options  retries=1
     why
  3. distinctive: 3 jobs, number of items known at run time
     reads    the items of is_long from node 1; the value of vocabulary from node 2, in every
              job
     runs     map distinctive
     writes   distinctive
     options  retries=2
     why
  4. table: 1 job
     reads    the items of distinctive from node 3
     runs     reduce table
     writes   table (result)
     options  retries=1
     why

What would change it
  - chunk_size=N on a stage or its source sets the items of a job; fuse=False gives a stage jobs
    of its own
  - earlier runs: jobs, memory and disk that are left open follow what they measured, unless
    history=False"""
    )


def test_every_reason_is_given(book_analysis):
    text = " ".join(book_analysis.explain().split())
    reasons = [reason for node in book_analysis.plan().nodes for reason in node.reasons]
    assert reasons
    assert [reason for reason in reasons if f"- {reason}" not in text] == []


def test_it_is_the_same_every_time_and_fits_a_screen(book_analysis):
    text = book_analysis.explain()
    assert text == book_analysis.explain()
    assert len(text.splitlines()) <= 50
    assert max(map(len, text.splitlines())) <= WIDTH


def test_trees_of_reduces():
    numbers = htdag.source(range(100), chunk_size=1)
    text = htdag.Pipeline(numbers.reduce(merge, name="total", fan_in=5, initial=0)).explain()
    assert "  total   reduce merge() over source; initial=0; fan_in=5; result" in text
    assert "2. total.combine-1: 20 jobs" in text
    assert "the parts of total from node 1" in text
    assert "runs     combine total\n     writes   parts of total, one from each job" in text


def test_options_that_were_given_are_told():
    squares = htdag.source(range(5)).map(
        keep, request_memory="2GB", requirements='OpSys == "LINUX"', submit={"+Project": '"x"'}
    )
    text = " ".join(htdag.Pipeline(squares).explain().split())
    assert (
        "options request_memory='2GB', requirements='OpSys == \"LINUX\"', "
        "submit={'+Project': '\"x\"'}"
    ) in text


def test_nothing_is_said_of_options_that_were_not_given():
    assert "options" not in htdag.Pipeline(htdag.map(keep, range(5))).explain()


def test_binds_of_all_items_under_other_keywords():
    names = htdag.source(range(3), name="names")
    stage = htdag.source(range(5)).map(keep, bind={"names": names, "others": names})
    text = htdag.Pipeline(stage).explain()
    assert "bind names; bind others=names; result" in text
    assert "all items of names from the source, in every job" in text


def test_values_that_are_long_or_differ_by_run_are_not_shown():
    numbers = htdag.source(range(3))
    first = numbers.reduce(merge, name="first", initial={"a": object})
    second = numbers.reduce(merge, name="second", initial="x" * 100)
    text = htdag.Pipeline(first, second).explain()
    assert "initial=<dict>" in text
    assert "initial='xxx" in text
    assert "x" * 40 not in text


def test_throttles_and_priorities_are_told():
    first = htdag.source([1, 2]).map(keep, name="first", category="disk")
    long = first.map(keep, fuse=False, name="long").map(keep, fuse=False, name="last")
    short = first.map(keep, fuse=False, name="short")
    flow = htdag.Pipeline(long, short, name="flow", max_jobs_submitted=3, maxjobs={"disk": 1})
    text = flow.explain()
    assert text.startswith(
        "Pipeline flow: 5 stages in 4 DAGMan nodes, 8 jobs\n"
        "  with max_jobs_submitted=3, maxjobs={'disk': 1}\n"
    )
    assert "options  category='disk'" in text
    assert text.count("PRIORITY") == 1
    assert "- PRIORITY 1, for the longest path below it: 1 node\n" in text


def test_long_names_and_long_pipelines_stay_readable():
    stage = htdag.source(range(250))
    for number in range(40):
        stage = stage.map(keep, name=f"{'step_' * 12}{number}", fuse=number % 3 > 0)
    lines = htdag.Pipeline(stage).explain().splitlines()
    assert f"  {'step_' * 12}39" in lines
    names = [line for line in lines if len(line) > WIDTH]
    assert all(len(line.split()) <= 7 for line in names)  # only what has no place to break


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 jobs"), (1, "1 job"), (2, "2 jobs"), (12345, "12,345 jobs")]
)
def test_counted(number, text):
    assert counted(number, "job") == text


def test_called_names_a_function_only_where_the_stage_does_not():
    assert called("map", keep, "keep") == "map"
    assert called("map", keep, "other") == "map keep()"
    assert called("map", lambda item: item, "map") == "map"
    assert called("source", None, "source") == "source"


def test_called_takes_names_that_cannot_be_printed():
    def function(item):
        return item

    function.__name__ = "größe\n\x00\ud800" + "x" * 100
    text = called("map", function, "groesse")
    assert text.startswith("map größe???xxx")
    assert text.isprintable()
    assert len(text) < 40
