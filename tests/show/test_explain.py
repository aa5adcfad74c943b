"""The plan in words."""

from __future__ import annotations

import pytest

import htdag
from htdag.common.text import counted
from htdag.show.explain import WIDTH
from htdag.stages.operations import called


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


def test_the_book_analysis(book_analysis):
    assert (
        book_analysis.explain()
        == """\
Pipeline book_analysis: 6 stages in 4 DAGMan nodes, 8 jobs
  node  stage
        books        source of 3 files
  1     count_words  map words() over books
  1     is_long      filter over count_words
  1, 2  vocabulary   reduce merge() over is_long
  3     distinctive  map over is_long; bind vocabulary
  4     table        reduce merge() over distinctive; associative=False; initial=[]; result

  1. count_words.is_long: 3 jobs, 3 items
     reads    the source books; writes parts of vocabulary (one from each job), is_long
     options  retries=1
     why      is_long is fused with count_words: per item, and equal options; vocabulary is combined
              here, chunk by chunk (associative); 3 items in 3 jobs (at most 100 by default)
  2. vocabulary: 1 job
     reads    the parts of vocabulary from node 1; writes vocabulary
     options  retries=1
     why      vocabulary: one job combines what the chunks gave
  3. distinctive: 3 jobs, number of items known at run time
     reads    the items of is_long from node 1; the value of vocabulary from node 2, in every job
     writes   distinctive
     options  retries=2
     why      distinctive begins a node: its bind waits for vocabulary; 3 jobs, one for each chunk
              of node 1: counting so few takes longer
  4. table: 1 job
     reads    the items of distinctive from node 3; writes table (result)
     options  retries=1
     why      table: one job combines all items (associative=False, so in order)

What would change it: chunk_size=N (items of a job); fuse=False (a stage in jobs of its own);
  earlier runs, by what they measured"""
    )


def test_every_reason_is_given_but_those_that_say_what_is_read(book_analysis):
    text = " ".join(book_analysis.explain().split())
    plan = book_analysis.plan()
    reasons = [reason for node in plan.nodes for reason in node.reasons]
    assert [
        reason for reason in reasons if reason.replace(plan.nodes[0].name, "node 1") not in text
    ] == ["count_words begins a node: it reads the source books"]


def test_stages_that_are_fused_for_one_reason_share_it():
    stage = htdag.source([1]).map(keep, name="a").map(keep, name="b").map(keep, name="c")
    assert "b, c are fused with a: per item, and equal options" in htdag.Pipeline(stage).explain()


def test_what_a_zip_leaves_out_is_told():
    some = htdag.source(range(3), name="some")
    more = htdag.source(range(5), name="more")
    text = " ".join(htdag.Pipeline(some.zip(more, some)).explain().split())
    assert "zip ends with the shortest, and leaves out 2 of more" in text
    assert "leaves out" not in htdag.Pipeline(some.zip(some)).explain()


def test_it_is_the_same_every_time_and_fits_a_screen(book_analysis):
    text = book_analysis.explain()
    assert text == book_analysis.explain()
    assert len(text.splitlines()) <= 31
    assert max(map(len, text.splitlines())) <= WIDTH


def test_trees_of_reduces():
    numbers = htdag.source(range(100), chunk_size=1)
    text = htdag.Pipeline(numbers.reduce(merge, name="total", fan_in=5, initial=0)).explain()
    lines = text.splitlines()
    assert "  1, 2, 3, 4  total   reduce merge() over source; initial=0; fan_in=5; result" in lines
    assert "2. total.combine-1: 20 jobs" in text
    reads = "the parts of total from node 1; writes parts of total (one from each job)"
    assert f"     reads    {reads}" in lines


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
    assert "PRIORITY 1, for the longest path below it: 1 node" in " ".join(text.split())


def test_long_names_and_long_pipelines_stay_readable():
    stage = htdag.source(range(250))
    for number in range(40):
        stage = stage.map(keep, name=f"{'step_' * 12}{number}", fuse=number % 3 > 0)
    lines = htdag.Pipeline(stage).explain().splitlines()
    assert f"  27    {'step_' * 12}39" in lines
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


def test_what_is_alike_is_told_once(runs_dir):
    branches = []
    for number in range(40):
        items = htdag.source(range(3), name=f"s{number}")
        kept = items.map(keep, name=f"m{number}")
        branches.append(kept.reduce(merge, name=f"r{number}"))
    odd = htdag.source(range(5), name="odd").map(keep, name="single", retries=3)
    text = htdag.Pipeline(*branches, odd, name="wide").explain("local")
    lines = text.splitlines()
    assert len(lines) < 30
    (told,) = [line.split(maxsplit=2) for line in lines if line.split()[1:2] == ["m0"]]
    assert told == ["1", "m0", "map keep() over s0; and 39 more like it, the last m39"]
    assert "  39 more nodes like node 1; the last is 79, m39" in lines
    assert any(line.endswith("single: 5 jobs, 5 items") for line in lines)


def test_a_long_chain_is_told_in_a_few_lines(runs_dir):
    stage = htdag.source(range(3), name="items")
    for number in range(300):
        stage = stage.map(keep, name=f"step-{number}")
    text = htdag.Pipeline(stage).explain("local")
    assert len(text.splitlines()) < 20
    assert "and 298 more like it, the last step-298" in text
    assert "step-6, and 293 more are fused with step-0" in text
