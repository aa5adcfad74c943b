"""What is done and what is left, as the scripts beside DAGMan decide it from the records."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
from pathlib import Path

import pytest
import reference

import htdag
from htdag.runtime import layout, planfile
from htdag.runtime.dag import judgement, post, prepare, progress
from htdag.runtime.data import itemfile, recordfile
from htdag.runtime.layout import NodeFiles

NODE = "f"


class Fails:
    """A function that fails on an item as long as a file is there, and notes all its calls."""

    def __init__(self, folder, *bad):
        self.folder = str(folder)
        folder.mkdir(exist_ok=True)
        for item in bad:
            (folder / f"bad-{item}").touch()

    def __call__(self, item):
        with open(f"{self.folder}/calls", "a") as calls:
            calls.write(f"{item}\n")
        if Path(f"{self.folder}/bad-{item}").exists():
            raise ValueError(item)
        return item * 10

    def calls(self):
        path = Path(self.folder) / "calls"
        found = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return [int(item) for item in found]

    def mend(self):
        for path in Path(self.folder).glob("bad-*"):
            path.unlink()


class Run:
    """A run directory of one node "f" with chunks of three, and optionally its child "g"."""

    def __init__(self, path, function, items=9, *, child=False, **options):
        stage = htdag.source(range(items), chunk_size=3).map(function, name=NODE, **options)
        if child:
            stage = stage.map(str, name="g", fuse=False)
        self.path = reference.compiled(htdag.Pipeline(stage), path)
        self.plan = planfile.read(str(path))

    def node(self, name=NODE):
        return self.plan["by_name"][name]

    def work(self, name=NODE):
        """Do the jobs that are listed, and return them."""
        jobs = reference.listed(self.path, name)
        for chunk, attempt in jobs:
            reference.work(self.path, name, chunk, attempt)
        return jobs

    def judge(self, name=NODE, *, last_try=True):
        return judgement.judge(str(self.path), self.plan, self.node(name), last_try=last_try)

    def todo(self, name=NODE):
        """What the listed jobs of a node are to do, by chunk and attempt."""
        return {
            (chunk, attempt): self.description(name, chunk, attempt)["todo"]
            for chunk, attempt in reference.listed(self.path, name)
        }

    def description(self, name, chunk, attempt):
        return json.loads(
            Path(NodeFiles(self.path, name).attempt(chunk, attempt).description).read_text()
        )

    def output(self, chunk=0, attempt=1, name=NODE):
        return Path(NodeFiles(self.path, name).attempt(chunk, attempt).output(name))

    def record(self, chunk=0, attempt=1, name=NODE):
        return Path(NodeFiles(self.path, name).attempt(chunk, attempt).record)

    def examine(self, **options):
        return progress.examine(str(self.path), self.node(), **options)

    def rewrite_end(self, chunk=0, attempt=1, **changes):
        """Change what a record says at its end."""
        path = self.record(chunk, attempt)
        *lines, last = path.read_text().splitlines()
        end = {**json.loads(last)["end"], **changes}
        path.write_text("\n".join([*lines, json.dumps({"end": end})]) + "\n")


@pytest.fixture
def fails(tmp_path):
    return lambda *bad: Fails(tmp_path / "fails", *bad)


@pytest.fixture
def make(tmp_path):
    return lambda *arguments, **options: Run(tmp_path / "run", *arguments, **options)


def flip(path, position=-20):
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def test_nothing_has_run(make):
    run = make(abs)
    assert [state.last_attempt for state in run.examine()] == [0, 0, 0]
    assert not any(state.complete or state.damaged for state in run.examine())
    assert not progress.is_done(str(run.path), run.node())
    assert run.todo() == {(0, 1): None, (1, 1): None, (2, 1): None}


def test_a_complete_node_succeeds(make):
    run = make(abs)
    run.work()
    verdict = run.judge()
    assert verdict.succeeded
    assert verdict.text == "3 of 3 chunks complete"
    assert progress.is_done(str(run.path), run.node())


def test_a_failed_node_lists_what_is_left(make, fails):
    run = make(fails(4, 5, 7))
    run.work()
    verdict = run.judge()
    assert not verdict.succeeded
    assert verdict.text == "1 of 3 chunks complete"
    assert run.todo() == {(1, 2): [[1, 2]], (2, 2): [[1, 1]]}


def test_only_what_is_left_is_computed_again(make, fails):
    function = fails(1, 4, 5)
    run = make(function)
    run.work()
    run.judge()
    function.calls()
    function.mend()
    assert run.work() == [(0, 2), (1, 2)]
    assert function.calls() == [1, 4, 5]
    assert run.judge().succeeded
    assert reference.result(run.path, NODE) == [n * 10 for n in range(9)]


def test_attempts_are_numbered_on(make, fails):
    function = fails(4)
    run = make(function)
    for attempt in (1, 2, 3):
        assert run.work()[-1][1] == attempt
        assert not run.judge().succeeded
    assert run.todo() == {(1, 4): [[1, 1]]}
    function.mend()
    run.work()
    assert run.judge().succeeded
    assert [state.last_attempt for state in run.examine()] == [1, 4, 1]


def test_a_job_that_never_came_back_is_listed_whole(make):
    run = make(abs)
    for chunk, attempt in reference.listed(run.path, NODE)[:2]:
        reference.work(run.path, NODE, chunk, attempt)
    assert not run.judge().succeeded
    assert run.todo() == {(2, 1): None}


def test_a_list_is_never_empty(make):
    run = make(abs)
    run.work()
    assert prepare.prepare(str(run.path), run.plan, run.node()) == 1
    assert run.todo() == {(2, 2): []}
    assert run.work() == [(2, 2)]
    assert run.judge().succeeded
    assert reference.result(run.path, NODE) == list(range(9))


@pytest.mark.parametrize("harm", [Path.unlink, truncate])
def test_outcome_files_that_are_missing_or_truncated_are_made_again(make, fails, harm):
    function = fails()
    run = make(function)
    run.work()
    function.calls()
    harm(run.output(1))
    verdict = run.judge()
    assert not verdict.succeeded
    assert str(run.output(1)) in verdict.text
    assert run.todo() == {(1, 2): None}
    run.work()
    assert function.calls() == [3, 4, 5]
    assert run.judge().succeeded
    assert reference.result(run.path, NODE) == [n * 10 for n in range(9)]


def test_a_damaged_part_is_made_again_and_the_sound_part_kept(make, fails):
    function = fails(4)
    run = make(function)
    run.work()
    run.judge()
    function.mend()
    run.work()
    function.calls()
    truncate(run.output(1, attempt=1))
    assert not run.judge().succeeded
    assert run.todo() == {(1, 3): [[0, 0], [2, 2]]}
    run.work()
    assert function.calls() == [3, 5]
    assert run.judge().succeeded
    assert reference.result(run.path, NODE) == [n * 10 for n in range(9)]


def test_flipped_bits_are_found_when_files_are_verified(make):
    run = make(abs)
    run.work()
    flip(run.output(1))
    assert [state.complete for state in run.examine()] == [True, True, True]
    states = run.examine(verify=True)
    assert [state.complete for state in states] == [True, False, True]
    assert str(run.output(1)) in states[1].damaged[0]


@pytest.mark.parametrize("harm", [Path.unlink, truncate, flip])
def test_damaged_outcomes_are_discarded_and_made_again(make, fails, harm):
    function = fails()
    run = make(function)
    run.work()
    function.calls()
    harm(run.output(1))
    (problem,) = progress.discard_damaged(str(run.path), run.node())
    assert str(run.output(1)) in problem
    assert not progress.is_done(str(run.path), run.node())
    assert prepare.prepare_ready(str(run.path), run.plan) == []
    assert run.todo() == {(1, 1): None}
    run.work()
    assert function.calls() == [3, 4, 5]
    assert run.judge().succeeded
    assert reference.result(run.path, NODE) == [n * 10 for n in range(9)]


def test_sound_outcomes_are_not_discarded(make, fails):
    run = make(fails(4))
    run.work()
    assert progress.discard_damaged(str(run.path), run.node()) == []
    assert run.record(1).exists()


def test_a_damaged_early_attempt_is_discarded_alone(make, fails):
    function = fails(4)
    run = make(function)
    run.work()
    run.judge()
    function.mend()
    run.work()
    flip(run.output(1, attempt=1))
    progress.discard_damaged(str(run.path), run.node())
    prepare.prepare_ready(str(run.path), run.plan)
    assert run.todo() == {(1, 3): [[0, 0], [2, 2]]}
    run.work()
    assert run.judge().succeeded
    assert reference.result(run.path, NODE) == [n * 10 for n in range(9)]


@pytest.mark.parametrize("cut", [1, 20])
def test_a_record_whose_end_was_cut_off_is_closed_and_its_items_kept(make, fails, cut):
    function = fails()
    run = make(function)
    run.work()
    function.calls()
    record = run.record(1)
    record.write_bytes(record.read_bytes()[:-cut])
    assert run.judge().succeeded
    assert function.calls() == []
    assert reference.result(run.path, NODE) == [n * 10 for n in range(9)]


def killed(run, chunk=1, items=2):
    """Leave chunk and record as a job does whose machine stopped after some items."""
    record, output = run.record(chunk), run.output(chunk)
    record.write_bytes(record.read_bytes().splitlines(keepends=True)[0])
    end = itemfile.index(str(output))[items - 1].end
    output.write_bytes(output.read_bytes()[: end + 7])


def test_finished_items_of_a_killed_job_are_kept(make, fails):
    function = fails()
    run = make(function)
    run.work()
    function.calls()
    killed(run)
    assert not run.judge().succeeded
    end = recordfile.end(str(run.record(1)))
    assert end["killed"]
    assert (end["items"], end["done"], end["remaining"]) == (3, 2, 1)
    assert run.todo() == {(1, 2): [[2, 2]]}
    run.work()
    assert function.calls() == [5]
    assert run.judge().succeeded
    assert reference.result(run.path, NODE) == [n * 10 for n in range(9)]


def test_closing_killed_jobs_twice_changes_nothing(make):
    run = make(abs)
    run.work()
    killed(run)
    progress.finish_killed(str(run.path), run.node())
    before = run.record(1).read_bytes(), run.output(1).read_bytes()
    progress.finish_killed(str(run.path), run.node())
    assert (run.record(1).read_bytes(), run.output(1).read_bytes()) == before


def test_a_killed_job_without_output_files_is_begun_anew(make):
    run = make(abs)
    run.work()
    killed(run)
    run.output(1).unlink()
    assert not run.judge().succeeded
    assert run.todo() == {(1, 2): None}
    run.work()
    assert run.judge().succeeded


def test_a_killed_job_counts_no_item_twice_in_several_reduces(tmp_path):
    made = htdag.source(range(6), chunk_size=6).map(abs, name=NODE)
    reduces = [made.reduce(lambda a, b: a + b, name=name) for name in ("one", "two")]
    run = reference.compiled(htdag.Pipeline(*reduces), tmp_path / "run")
    plan = planfile.read(str(run))
    node = plan["by_name"][NODE]
    # What a job left that was killed: one reduce had been saved up to item 5, the other up to 3.
    job = NodeFiles(run, NODE).attempt(0, 1)
    recordfile.start(job, "host", "3")
    for name, last in (("one", 5), ("two", 3)):
        writer = itemfile.ItemWriter(job.output(name))
        writer.value("0", pickle.dumps(sum(range(last + 1))))
        writer.end(0, last)
        writer.discard()
    judgement.judge(str(run), plan, node, last_try=False)
    assert reference.run_nodes(run) == []
    assert reference.result(run, "one") == reference.result(run, "two") == 15


@pytest.mark.parametrize("order", [("good", "bad"), ("bad", "good")])
def test_an_item_that_fails_in_one_reduce_counts_once_in_another(tmp_path, fails, order):
    function = fails(6)
    once = Fails(tmp_path / "once", 2)

    def sometimes(total, item):
        function(item)
        return total + item

    source = htdag.source(range(9), chunk_size=9)
    made = source.map(lambda x: once(x) // 10, name=NODE, retries=1)
    combine = {"good": lambda a, b: a + b, "bad": sometimes}
    reduces = [made.reduce(combine[name], name=name, retries=1) for name in order]
    run = reference.compiled(htdag.Pipeline(*reduces), tmp_path / "run")
    plan = planfile.read(str(run))
    reference.work(run, NODE)
    assert not judgement.judge(str(run), plan, plan["by_name"][NODE], last_try=False).succeeded
    function.mend()
    once.mend()
    assert reference.run_nodes(run) == []
    assert reference.result(run, "good") == reference.result(run, "bad") == sum(range(9))


@pytest.mark.parametrize("items", [None, 3])
def test_a_job_that_could_not_begin_is_done_again(make, items):
    # As where no Python was found, or the input was damaged: nobody counted the items.
    run = make(abs)
    run.work()
    with_no_python(run, 1, items)
    assert not run.judge().succeeded
    assert run.todo() in ({(1, 2): None}, {(1, 2): [[0, 2]]})
    run.work()
    assert run.judge().succeeded
    assert reference.result(run.path, NODE) == list(range(9))


def with_no_python(run, chunk, items=None):
    """Leave what the shell part of the archive leaves where there is no Python."""
    run.output(chunk).write_bytes(b"" if items is None else itemfile.MAGIC)
    if items is not None:
        itemfile.ItemWriter(str(run.output(chunk)), resume=True).close()
    run.rewrite_end(
        chunk,
        items=items,
        done=0,
        failed=1,
        remaining=items,
        values=[0],
        sizes=[run.output(chunk).stat().st_size],
    )


def test_a_job_whose_input_is_damaged_is_never_taken_for_done(make):
    run = make(abs, retries=9)
    source = Path(NodeFiles(run.path, NODE).source_items(1))
    whole = source.read_bytes()
    flip(source, len(whole) // 2)
    for _ in range(3):
        run.work()
        assert not run.judge(last_try=False).succeeded
    source.write_bytes(whole)
    run.work()
    assert run.judge().succeeded
    assert reference.result(run.path, NODE) == list(range(9))


def test_jobs_without_python_in_every_try_are_never_taken_for_done(make):
    run = make(abs, retries=2)
    for attempt in (1, 2, 3):
        run.work()
        chunk_output = run.output(1, attempt)
        chunk_output.write_bytes(b"")
        run.rewrite_end(
            1, attempt, items=None, done=0, failed=1, remaining=None, values=[0], sizes=[0]
        )
        assert not run.judge(last_try=attempt == 3).succeeded
    assert [state.complete for state in run.examine()] == [True, False, True]


# on_error="skip"


class Writes(Fails):
    """A function that fails like `Fails` and returns a file for each item."""

    def __call__(self, item):
        super().__call__(item)
        path = Path(f"{item}.txt")
        path.write_text(str(item))
        return htdag.OutputFile(path)


@pytest.mark.parametrize(
    ("harm", "at_once", "words"),
    [
        (lambda path: shutil.rmtree(path.parent), True, "has 2 of 3 returned files"),
        (Path.unlink, False, "4.txt is missing"),
        (lambda path: path.write_text("5"), False, "checksum of the returned file"),
        (lambda path: path.write_text("45"), False, "4.txt has 2 bytes, not 1"),
    ],
)
def test_returned_files_that_are_gone_or_changed_are_made_again(
    tmp_path, make, harm, at_once, words
):
    run = make(Writes(tmp_path / "fails"))
    run.work()
    assert run.judge().succeeded
    (path,) = run.path.rglob("4.txt")
    path.chmod(0o600)
    harm(path)
    states = run.examine(verify=not at_once)
    assert [state.complete for state in states] == [True, False, True]
    assert words in states[1].damaged[0]
    assert [state.complete for state in run.examine()] == [True, not at_once, True]
    assert len(progress.discard_damaged(str(run.path), run.node())) == 1
    assert list(run.path.rglob("4.txt")) == []
    assert not run.judge().succeeded
    assert [chunk for chunk, _ in run.work()] == [1]
    assert run.judge().succeeded
    assert [state.complete for state in run.examine(verify=True)] == [True] * 3


@pytest.mark.parametrize("lanes", [None, 2])
def test_files_are_put_where_they_are_wanted_when_the_whole_node_is_done(tmp_path, lanes):
    function, folder = Writes(tmp_path / "fails", 4), tmp_path / "put"
    stage = htdag.source(range(6), chunk_size=3).map(function, name=NODE, output_destination=folder)
    flow = htdag.Pipeline(stage.map(str, name="g", fuse=False), name="flow", lanes=lanes)
    run = reference.compiled(flow, tmp_path / "run")
    units = [f"{NODE}.{lane}" for lane in (1, 2)] if lanes else [NODE]

    def judged(unit):
        for chunk, attempt in reference.listed(run, unit):
            reference.work(run, NODE, chunk, attempt)
        return post.post(str(run), unit, 0, 0)

    assert [judged(unit) for unit in units] == ([0, 1] if lanes else [1])
    assert not folder.exists()
    function.mend()
    assert judged(units[-1]) == 0
    assert progress.is_done(str(run), planfile.read(str(run))["by_name"][NODE])
    assert sorted(path.name for path in folder.iterdir()) == [f"{item}.txt" for item in range(6)]
    # What cannot be put there fails the node, with the reason.
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("no folder")
    assert judged(units[-1]) == 1
    log = run.joinpath("nodes", NODE, "log", "post.log").read_text()
    assert "the returned files cannot be delivered" in log.splitlines()[-1]


@pytest.mark.parametrize(
    ("limit", "bad", "succeeds"),
    [
        (0, [], True),
        (0, [4], False),
        (2, [4, 8], True),
        (2, [1, 4, 8], False),
        (0.25, [4, 8], True),
        (0.25, [1, 4, 8], False),
        (1.0, range(9), True),
        (0.0, [4], False),
        (1, [4], True),
    ],
)
def test_failed_items_may_be_skipped_up_to_a_limit(make, fails, limit, bad, succeeds):
    run = make(fails(*bad), on_error="skip", max_errors=limit)
    run.work()
    verdict = run.judge()
    assert verdict.succeeded is succeeds
    assert progress.is_done(str(run.path), run.node()) is succeeds
    assert Path(NodeFiles(run.path, NODE).skipped).exists() is (succeeds and bool(bad))


def test_nothing_is_skipped_before_the_last_try(make, fails):
    run = make(fails(4), on_error="skip", max_errors=5)
    run.work()
    assert not run.judge(last_try=False).succeeded
    assert run.todo() == {(1, 2): [[1, 1]]}


def test_a_job_that_never_ran_is_not_skipped(make, fails):
    run = make(fails(), on_error="skip", max_errors=1.0)
    reference.work(run.path, NODE, 0, 1)
    assert not run.judge().succeeded


def test_nodes_after_skipped_items_read_the_others(make, fails):
    run = make(fails(4), on_error="skip", max_errors=1, child=True)
    run.work()
    assert run.judge().succeeded
    run.work("g")
    assert run.judge("g").succeeded
    assert reference.result(run.path, "g") == [str(n * 10) for n in range(9) if n != 4]


# What comes after


def test_a_child_reads_all_attempts(make, fails):
    function = fails(4)
    run = make(function, child=True)
    run.work()
    run.judge()
    function.mend()
    run.work()
    assert run.judge().succeeded
    files = [part["files"] for part in run.description("g", 1, 1)["streams"][0]["parts"]]
    expected = [NodeFiles("", NODE).attempt(1, attempt).output(NODE) for attempt in (1, 2)]
    assert files == [expected]
    run.work("g")
    assert run.judge("g").succeeded
    assert reference.result(run.path, "g") == [str(n * 10) for n in range(9)]


def test_a_childs_job_transfers_what_it_reads(make, fails):
    run = make(fails(), child=True)
    lines = Path(NodeFiles(run.path, "g").chunk_list()).read_text().splitlines()
    assert lines[1] == f"0001, 1, {NodeFiles('', NODE).attempt(1, 1).output(NODE)}"


@pytest.mark.parametrize("first", ["left", "right"])
def test_a_child_of_two_parents_reads_both_however_they_end(tmp_path, fails, first):
    """One parent needs a second try; the other ends at its first, before or after that."""
    function = fails(1)
    left = htdag.source(range(3), chunk_size=3).map(function, name="left", retries=1)
    right = htdag.source(range(4), chunk_size=2).map(abs, name="right")
    both = left.map(lambda x, r: (x, r), bind={"r": right}, name="both")
    run = reference.compiled(htdag.Pipeline(both), tmp_path / "run")
    tried = []

    def choose(ready):
        name = first if first in ready else ready[0]
        tried.append(name)
        if tried.count("left") == 2:
            function.mend()
        return name

    assert reference.run_nodes(run, choose) == []
    assert tried[0] == first
    assert reference.result(run, "both") == [(x, [0, 1, 2, 3]) for x in (0, 10, 20)]


def test_the_rest_of_a_run_begins_where_parents_are_done(make, fails):
    run = make(fails(4), child=True)
    assert prepare.prepare_ready(str(run.path), run.plan) == []
    run.work()
    run.judge()
    assert prepare.prepare_ready(str(run.path), run.plan) == []
    run.work()
    assert run.todo() == {(1, 2): [[1, 1]]}


def test_the_rest_of_a_run_names_the_nodes_that_are_done(make):
    run = make(abs, child=True)
    run.work()
    run.judge()
    assert prepare.prepare_ready(str(run.path), run.plan) == [NODE]
    run.work("g")
    run.judge("g")
    assert prepare.prepare_ready(str(run.path), run.plan) == [NODE, "g"]


def test_a_failed_reduce_is_done_again_whole(tmp_path, fails):
    function = fails(2)

    def adding(total, item):
        function(item)
        return total + item

    stage = htdag.source(range(4)).reduce(adding, associative=False, name=NODE, retries=1)
    run = reference.compiled(htdag.Pipeline(stage), tmp_path / "run")
    plan = planfile.read(str(run))
    reference.work(run, NODE)
    assert not judgement.judge(str(run), plan, plan["by_name"][NODE], last_try=False).succeeded
    assert reference.listed(run, NODE) == [(0, 2)]
    function.mend()
    reference.work(run, NODE, 0, 2)
    assert judgement.judge(str(run), plan, plan["by_name"][NODE], last_try=True).succeeded
    assert reference.result(run, NODE) == 6


# The POST script


def test_the_exit_status_of_post(make, fails):
    function = fails(4)
    run = make(function, retries=1)
    run.work()
    assert post.post(str(run.path), NODE, 0, 1) == 1
    run.work()
    assert post.post(str(run.path), NODE, 1, 1) == 1
    function.mend()
    run.work()
    assert post.post(str(run.path), NODE, 1, 1) == 0


def test_post_stops_the_dag_only_after_the_last_try(make, fails):
    run = make(fails(4), retries=1, on_error="stop")
    run.work()
    assert post.post(str(run.path), NODE, 0, 1) == 1
    run.work()
    assert post.post(str(run.path), NODE, 1, 1) == 3


def test_post_notes_what_it_decided(make, fails):
    run = make(fails(4), retries=1)
    for retry in (0, 1):
        run.work()
        post.post(str(run.path), NODE, retry, 1)
    lines = (Path(NodeFiles(run.path, NODE).logs) / "post.log").read_text().splitlines()
    assert lines[0].endswith("try 1 of 2: 2 of 3 chunks complete")
    assert lines[1].endswith("try 2 of 2: 2 of 3 chunks complete")


def test_the_post_script_judges_by_itself(make, fails):
    run = make(fails(4), on_error="stop")
    run.work()
    done = subprocess.run(
        [f"./{layout.POST}", NODE, "0", "0"],
        cwd=run.path,
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")
    assert run.todo() == {(1, 2): [[1, 1]]}


def test_the_post_script_unpickles_nothing(make):
    run = make(abs)
    run.work()
    # A pickle that cannot be loaded; to read it would fail.
    Path(NodeFiles(run.path, NODE).payload).write_bytes(b"no pickle")
    assert post.post(str(run.path), NODE, 0, 0) == 0


# Records


def test_damaged_lines_of_a_record_are_passed_over(tmp_path):
    path = tmp_path / "record"
    path.write_text('{"start": {}}\n{"error": {"sta\n[1]\n\n{"end": {}}\n{"streams')
    assert [list(line) for line in recordfile.lines(str(path))] == [["start"], ["end"]]


def test_a_line_after_one_that_was_cut_off_is_a_line_of_its_own(tmp_path):
    path = tmp_path / "record"
    path.write_text('{"start": {}}\n{"error": {"sta')
    recordfile.append(str(path), "end", {"items": 1})
    assert recordfile.end(str(path)) == {"items": 1}


@pytest.mark.parametrize(
    "content",
    ["", '{"start": {}}\n', '{"end": {"a": 1}}', '{"end": [1]}\n', "[1]\n", "{\n", '"end"\n'],
)
def test_a_record_without_a_sound_end_has_none(tmp_path, content):
    path = tmp_path / "record"
    path.write_text(content)
    assert recordfile.end(str(path)) is None
    assert recordfile.end(str(tmp_path / "missing")) is None
    assert list(recordfile.lines(str(tmp_path / "missing"))) == []


def test_the_end_of_a_long_record_is_found(tmp_path):
    path = str(tmp_path / "record")
    for number in range(300):
        recordfile.append(path, "error", {"message": "x" * 500, "sequence": number})
    recordfile.append(path, "end", {"items": 300})
    assert recordfile.end(path) == {"items": 300}
    assert sum("error" in line for line in recordfile.lines(path)) == 300


def test_attempts_are_found_by_their_records_alone(make):
    run = make(abs)
    folder = Path(NodeFiles(run.path, NODE).outcomes)
    for name in ("0001.2.record", "0001.10.record", "0001.3.f.items", "0002.1.record.damaged"):
        (folder / name).touch()
    (folder / "12345.1.record").touch()
    assert NodeFiles(run.path, NODE).attempts() == {1: [2, 10], 12345: [1]}


def test_attempts_that_could_not_count_their_items_are_never_the_whole(make):
    run = make(abs)
    run.work()
    run.rewrite_end(items=None, remaining=None)
    assert not run.judge(last_try=False).succeeded
    run.work()
    run.rewrite_end(attempt=2, items=None, remaining=None)
    assert not run.judge().succeeded
    assert run.todo() == {(0, 3): None}
