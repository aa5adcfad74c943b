"""What htdag relies on in HTCondor: docs/htcondor-facts.md. htdag itself is not used here.

Should a later HTCondor fail one of these, the test's name says what has changed. All jobs are
submitted at once, and each test looks at its own.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pool import Area, Pool

pytestmark = pytest.mark.pool

IDLE, COMPLETED, HELD, BLOCKED = 1, 4, 5, 9
TRANSFER_OUTPUT_ERROR, TRANSFER_INPUT_ERROR = 12, 13
JOB_DURATION_EXCEEDED = 46

COMMON = """\
executable = job.sh
arguments = {name}
should_transfer_files = IF_NEEDED
when_to_transfer_output = ON_EXIT
preserve_relative_paths = True
output = {name}.stdout
error = {name}.stderr
log = jobs.log
request_memory = 100
request_disk = 1M
"""
BLIND = 'requirements = TARGET.FileSystemDomain == "blind.test"\n'
SEEING = 'requirements = TARGET.FileSystemDomain == "seeing.test"\n'
NOWHERE = "requirements = False\n"

SCRIPT = """\
#!/bin/sh
set -eu
mkdir -p "out/$1"
case $1 in
    paths) cat in/deep/data.txt alias tree/inner/link >out/paths/result.txt ;;
    killed) echo before >out/killed/result.txt; kill -KILL $$ ;;
    remapped) echo there >out/remapped/result.txt ;;
    too-long) sleep 100 ;;
    pausing)
        echo again; echo again >>out/pausing/result.txt; mkdir -p out/pausing/folder/deep
        [ $(wc -l <out/pausing/result.txt) = 3 ] || exit 85 ;;
    folders)
        mkdir -p "out/folders/some/in, side" out/folders/none
        echo deep >"out/folders/some/in, side/ü.txt" ;;
esac
"""

# Name: what is added to COMMON. Each of them is one job.
JOBS = {
    "paths": BLIND
    + "transfer_input_files = in/deep/data.txt, alias, tree\n"
    + "transfer_output_files = out/paths/result.txt\n",
    "folder-link": BLIND + "transfer_input_files = folder\n",
    "killed": BLIND + "transfer_output_files = out/killed/result.txt\n",
    "missing": BLIND + "transfer_output_files = out/missing/result.txt\n",
    "missing-shared": SEEING + "transfer_output_files = out/missing-shared/result.txt\n",
    "remapped": BLIND
    + "transfer_output_files = out/remapped/result.txt\n"
    + 'transfer_output_remaps = "out/remapped/result.txt=out/remapped/result.txt"\n',
    "pausing": BLIND
    + "transfer_output_files = out/pausing/result.txt\n"
    + "checkpoint_exit_code = 85\n"
    + "transfer_checkpoint_files = out/pausing/result.txt, out/pausing/folder\n",
    "too-long": BLIND + "allowed_job_duration = 2\n",
    "folders": BLIND + "transfer_output_files = out/folders/some, out/folders/none\n",
    "common": BLIND + 'MY.CommonInputFiles = "in/deep/data.txt"\n',
    "on-hold": NOWHERE + "hold = True\n",
    "on-hold-late": NOWHERE + "hold = True\nmax_materialize = 10\n",
}

# A line of the list may be long; with late materialisation up to 65,538 bytes.
LONG = {
    "early": ", ".join(f"in/{number:06d}.items" for number in range(7000)),
    "late": ", ".join(f"in/{number:06d}.items" for number in range(3600)),
}
ROWS = """\
0000, 1, one.txt, two.txt
# 0001, 2, three.txt
0002, 3, {long}
{blank}0003, 4, end.txt
"""
# With late materialisation a blank line is refused.
BLANK = {"early": "\n", "late": ""}
FROM_LIST = """\
executable = job.sh
arguments = list
requirements = False
request_memory = 100
request_disk = 1M
My.Chunk = "$(chunk)"
My.Attempt = "$(attempt)"
My.Inputs = "$(inputs)"
{more}
queue chunk, attempt, inputs from {name}.txt
"""
LISTS = {
    name: FROM_LIST.format(name=name, more=more)
    for name, more in {"early": "", "late": "max_materialize = 100"}.items()
}

DAG = "JOB first.node in/node.sub\n"

# Node: the PRIORITY that the DAG gives it, and the priority in its submit description.
PRIORITIES = {"none": (None, None), "own": (None, 5), "node": (10, None), "both": (20, 5)}
THROTTLES = """\
DAGMAN_MAX_JOBS_SUBMITTED = 9
DAGMAN_MAX_JOBS_IDLE = 70
DAGMAN_MAX_POST_SCRIPTS = 8
DAGMAN_MAX_PRE_SCRIPTS = 3
"""
# What an administrator set: settings in the environment count as the pool's own.
POOLS = {
    "_CONDOR_DAGMAN_MAX_POST_SCRIPTS": "4",
    "_CONDOR_DAGMAN_MAX_PRE_SCRIPTS": "5",
    # Some need this for their own DAGs.
    "_CONDOR_DAGMAN_DEFAULT_APPEND_VARS": "True",
}
# One submit description for several nodes, each of which queues from a list of its own.
NAMED = {"named-early": "", "named-late": "max_materialize = 100"}


class Facts(NamedTuple):
    """The folder of the jobs, and their ads by name once they have ended."""

    folder: Path
    ads: dict[str, Any]
    rows: dict[str, list[tuple[str, str, str]]]
    priorities: list[tuple[str, int]]
    materialized: int
    named: dict[str, list[str]]


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def submit(folder: Path, name: str, description: str) -> int:
    (folder / f"{name}.sub").write_text(description)
    return int(run("condor_submit", "-terse", f"{name}.sub", cwd=folder).split(".")[0])


def write_files(folder: Path) -> None:
    (folder / "job.sh").write_text(SCRIPT)
    (folder / "job.sh").chmod(0o755)
    (folder / "in/deep").mkdir(parents=True)
    (folder / "in/deep/data.txt").write_text("data ")
    (folder / "elsewhere/inside").mkdir(parents=True)
    (folder / "elsewhere/file.txt").write_text("linked ")
    (folder / "alias").symlink_to(folder / "elsewhere/file.txt")
    (folder / "folder").symlink_to(folder / "elsewhere/inside")
    (folder / "tree/inner").mkdir(parents=True)
    (folder / "tree/inner/link").symlink_to(folder / "elsewhere/file.txt")
    for name, text in LONG.items():
        (folder / f"{name}.txt").write_text(ROWS.format(long=text, blank=BLANK[name]))
    (folder / "one.dag").write_text(DAG)
    lines = ["CONFIG throttles.config"]
    for name, (of_node, of_job) in PRIORITIES.items():
        added = NOWHERE + (f"priority = {of_job}\n" if of_job else "")
        (folder / f"{name}.sub").write_text(COMMON.format(name=name) + added + "queue\n")
        lines += [f"JOB {name} {name}.sub", f"PRIORITY {name} {of_node}" if of_node else ""]
    many = NOWHERE + "max_idle = 2\nqueue 5\n"
    (folder / "many.sub").write_text(COMMON.format(name="many") + many)
    lines.append("JOB many many.sub")
    for name, more in NAMED.items():
        description = FROM_LIST.format(name=name, more=more).replace(f"{name}.txt", "$(list)")
        (folder / f"{name}.sub").write_text(description)
        for number in "12":
            (folder / f"{name}.{number}.txt").write_text(f"{number}0, 1, a\n{number}1, 1, b, c\n")
            lines.append(f"JOB {name}.{number} {name}.sub")
            lines.append(f'VARS {name}.{number} PREPEND list="{name}.{number}.txt"')
    (folder / "priorities.dag").write_text("\n".join(lines) + "\n")
    (folder / "throttles.config").write_text(THROTTLES)
    (folder / "in/node.sub").write_text(COMMON.format(name="node") + SEEING + "queue\n")
    (folder / "other").mkdir()


@pytest.fixture(scope="module")
def facts(pool: Pool, pool_area: Area) -> Iterator[Facts]:
    folder = pool_area.new_runs_dir()
    write_files(folder)
    with pool.use():
        clusters = {
            name: submit(folder, name, COMMON.format(name=name) + added + "queue\n")
            for name, added in JOBS.items()
        }
        lists = {name: submit(folder, name, description) for name, description in LISTS.items()}
        run("condor_submit_dag", "-usedagdir", str(folder / "one.dag"), cwd=folder / "other")
        environment = os.environ | POOLS
        command = ["condor_submit_dag", "priorities.dag"]
        subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
        wanted = " || ".join(f"ClusterId == {cluster}" for cluster in clusters.values())

        def ads() -> dict[str, Any]:
            found = {ad["ClusterId"]: ad for ad in pool.job_ads(wanted)}
            return {name: found[cluster] for name, cluster in clusters.items() if cluster in found}

        def at_rest() -> bool:
            return all(
                name in now
                and (now[name]["JobStatus"] in (COMPLETED, HELD, BLOCKED) or name == "on-hold-late")
                for now in [ads()]
                for name in clusters
            )

        def rows(name: str) -> list[tuple[str, str, str]]:
            found = pool.schedd.query(f"ClusterId == {lists[name]}")
            found = sorted(found, key=lambda ad: ad["ProcId"])
            return [(ad["Chunk"], ad["Attempt"], ad["Inputs"]) for ad in found]

        def priorities() -> list[tuple[str, int]]:
            known = " || ".join(f'DAGNodeName == "{name}"' for name in PRIORITIES)
            found = sorted(pool.schedd.query(known), key=lambda ad: ad["ClusterId"])
            return [(ad["DAGNodeName"], ad["JobPrio"]) for ad in found]

        def materialized() -> int:
            return len(pool.schedd.query('DAGNodeName == "many"', ["ProcId"]))

        def named() -> dict[str, list[str]]:
            ads = pool.schedd.query('regexp("^named", DAGNodeName)', ["DAGNodeName", "Chunk"])
            found: dict[str, list[str]] = {}
            for ad in ads:
                found.setdefault(ad["DAGNodeName"], []).append(ad["Chunk"])
            return {name: sorted(chunks) for name, chunks in sorted(found.items())}

        def dag_ended() -> bool:
            path = folder / "one.dag.dagman.out"
            return path.exists() and "EXITING WITH STATUS" in path.read_text()

        pool.wait_until(at_rest, 200, "the jobs to end or be held")
        pool.wait_until(lambda: len(rows("late")) >= 4, 200, "four jobs")
        pool.wait_until(dag_ended, 200)
        pool.wait_until(lambda: len(priorities()) == len(PRIORITIES), 200)
        pool.wait_until(lambda: materialized() >= 2, 200, "two jobs")
        pool.wait_until(lambda: sum(map(len, named().values())) >= 8, 200, "eight jobs")
        rows_of = {name: rows(name) for name in lists}
        yield Facts(folder, ads(), rows_of, priorities(), materialized(), named())
        left = " ".join(map(str, (*clusters.values(), *lists.values())))
        # Those that have left the queue are errors to it.
        subprocess.run(["condor_rm", *left.split()], capture_output=True, check=False)
        dagmans = "JobUniverse == 7"  # which takes its jobs with it
        subprocess.run(["condor_rm", "-constraint", dagmans], capture_output=True, check=False)


def test_relative_paths_are_kept_both_ways_and_links_to_files_are_followed(
    pool: Pool, facts: Facts
):
    ad = facts.ads["paths"]
    assert (ad["JobStatus"], ad.get("ExitCode")) == (COMPLETED, 0)
    assert (facts.folder / "out/paths/result.txt").read_text() == "data linked linked "


def test_a_link_to_a_directory_holds_the_job(pool: Pool, facts: Facts):
    ad = facts.ads["folder-link"]
    assert (ad["JobStatus"], ad.get("HoldReasonCode")) == (HELD, TRANSFER_INPUT_ERROR)


def test_what_a_killed_job_wrote_comes_back(pool: Pool, facts: Facts):
    ad = facts.ads["killed"]
    assert (ad["JobStatus"], ad["ExitBySignal"], ad["ExitSignal"]) == (COMPLETED, True, 9)
    assert (facts.folder / "out/killed/result.txt").read_text() == "before\n"


def test_an_output_file_that_is_missing_holds_the_job(pool: Pool, facts: Facts):
    ad = facts.ads["missing"]
    assert (ad["JobStatus"], ad.get("HoldReasonCode")) == (HELD, TRANSFER_OUTPUT_ERROR)


def test_without_transfer_no_output_file_is_asked_for(pool: Pool, facts: Facts):
    ad = facts.ads["missing-shared"]
    assert (ad["JobStatus"], ad.get("ExitCode")) == (COMPLETED, 0)


def test_a_remap_of_a_path_onto_itself_holds_the_job(pool: Pool, facts: Facts):
    ad = facts.ads["remapped"]
    assert (ad["JobStatus"], ad.get("HoldReasonCode")) == (HELD, TRANSFER_OUTPUT_ERROR)


def test_a_job_that_ends_with_its_checkpoint_exit_code_is_started_again(pool: Pool, facts: Facts):
    ad = facts.ads["pausing"]
    assert (ad["JobStatus"], ad.get("ExitCode")) == (COMPLETED, 0)
    assert (ad["CheckpointNumber"], ad["NumShadowStarts"]) == (1, 1)
    assert "HasSelfCheckpointTransfers" in str(ad["Requirements"])
    # Its output is added to, and what is only a checkpoint file does not come back.
    assert (facts.folder / "pausing.stdout").read_text() == "again\n" * 3
    assert not (facts.folder / "out/pausing/folder").exists()


def test_transfer_on_eviction_is_refused_where_files_are_transferred_if_needed(
    pool: Pool, facts: Facts
):
    text = COMMON.format(name="evict").replace("= ON_EXIT\n", "= ON_EXIT_OR_EVICT\n")
    (facts.folder / "evict.sub").write_text(text + "queue\n")
    command = ["condor_submit", "evict.sub"]
    done = subprocess.run(command, cwd=facts.folder, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "incompatible" in done.stderr


def test_a_job_that_takes_longer_than_it_may_is_held(pool: Pool, facts: Facts):
    ad = facts.ads["too-long"]
    assert (ad["JobStatus"], ad["HoldReasonCode"]) == (HELD, JOB_DURATION_EXCEEDED)
    assert ad["HoldReason"] == "The job exceeded allowed job duration of 00:02"


def test_folders_come_back_whole_and_empty_ones_too(pool: Pool, facts: Facts):
    assert facts.ads["folders"]["JobStatus"] == COMPLETED
    assert (facts.folder / "out/folders/some/in, side/ü.txt").read_text() == "deep\n"
    assert (facts.folder / "out/folders/none").is_dir()


@pytest.mark.since(25, 0, 0, lacks="a job with common input files runs without them")
def test_a_job_with_common_input_files_waits_for_ever(pool: Pool, facts: Facts):
    assert facts.ads["common"]["JobStatus"] == BLOCKED


@pytest.mark.since(23, 10, 1, lacks="late materialisation heeds hold")
def test_late_materialisation_forgets_hold(pool: Pool, facts: Facts):
    assert facts.ads["on-hold"]["JobStatus"] == HELD
    assert facts.ads["on-hold-late"]["JobStatus"] == IDLE


@pytest.mark.parametrize("when", LISTS)
def test_the_last_variable_of_queue_takes_the_rest_of_the_line(pool: Pool, facts: Facts, when: str):
    rows = facts.rows[when]
    assert len(LONG[when]) > (60_000 if when == "late" else 100_000)
    assert rows[0] == ("0000", "1", "one.txt, two.txt")
    assert rows[2] == ("0002", "3", LONG[when])
    assert rows[-1] == ("0003", "4", "end.txt")


@pytest.mark.parametrize("when", LISTS)
def test_a_comment_in_an_item_file_is_a_job(pool: Pool, facts: Facts, when: str):
    # Values end at white space as well as at a comma.
    assert facts.rows[when][1] == ("#", "0001", "2, three.txt")


@pytest.mark.since(23, 10, 1, lacks="a blank line is a job with empty values")
def test_a_blank_line_of_an_item_file_is_a_job_like_the_one_before(pool: Pool, facts: Facts):
    rows = facts.rows["early"]
    assert len(rows) == 5
    assert rows[3] == rows[2]


def test_a_submit_event_names_its_dagman_node(pool: Pool, facts: Facts):
    import htcondor2

    log = htcondor2.JobEventLog(str(facts.folder / "one.dag.nodes.log"))
    kind = htcondor2.JobEventType.SUBMIT
    notes = [event["LogNotes"] for event in log.events(stop_after=0) if event.type == kind]
    # In an older form up to 24.
    form = r'DAGNodeName = "([^"]*)"|^ *DAG Node: (\S+)'
    found = [re.findall(form, text) for text in notes]
    assert ["".join(names) for one in found for names in one] == ["first.node"]


def test_dagman_works_from_any_folder_with_usedagdir(pool: Pool, facts: Facts):
    assert "EXITING WITH STATUS 0" in (facts.folder / "one.dag.dagman.out").read_text()
    assert (facts.folder / "node.stdout").exists()


def test_a_jobs_own_priority_goes_before_that_of_its_node(pool: Pool, facts: Facts):
    assert dict(facts.priorities) == {"none": 0, "own": 5, "node": 10, "both": 5}


def test_nodes_are_submitted_by_priority(pool: Pool, facts: Facts):
    assert [name for name, _ in facts.priorities] == ["both", "node", "none", "own"]


@pytest.mark.since(25, 0, 0, lacks="DAGMan does not tell the limits that it keeps")
def test_a_dag_may_set_its_throttles_but_not_above_the_pools(pool: Pool, facts: Facts):
    text = (facts.folder / "priorities.dag.dagman.out").read_text()
    limits = dict(re.findall(r"Maximum ([\w ]+?)-*: (\d+)", text))
    assert {limits["Submitted Nodes"], limits["Idle Jobs"]} == {"9", "70"}
    assert limits["Post Scripts"] == POOLS["_CONDOR_DAGMAN_MAX_POST_SCRIPTS"]
    assert limits["Pre Scripts"] == "3"


@pytest.mark.since(23, 10, 1, lacks="DAGMan does not materialise late")
def test_max_idle_holds_in_a_node_too(pool: Pool, facts: Facts):
    assert facts.materialized == 2


def test_vars_of_a_node_may_name_the_list_that_it_queues_from(pool: Pool, facts: Facts):
    nodes = [(name, number) for name in NAMED for number in "12"]
    assert facts.named == {f"{name}.{n}": [f"{n}0", f"{n}1"] for name, n in nodes}


def test_a_list_may_come_from_a_program(pool: Pool, pool_area: Area):
    """Also with late materialisation, which may be paused, and taken back by an included file."""
    folder = pool_area.new_runs_dir()
    (folder / "job.sh").write_text(SCRIPT)
    (folder / "list.sh").write_text('#!/bin/sh\necho "$1, 1"\necho "green, 2"\n')
    (folder / "list.sh").chmod(0o755)
    (folder / "more.sub").write_text("hold = True\nmax_materialize =\n")
    found = {}
    queue = 'My.Colour = "$(colour)"\nqueue colour, rest from ./list.sh {} |\n'
    with pool.use():
        for name, more in {
            "plain": "",
            "late": "max_materialize = 10\n",
            "held": "max_materialize = 10\ninclude : more.sub\n",
            "paused": "max_materialize = 10\nMY.JobMaterializePaused = 1\n",
        }.items():
            text = COMMON.format(name=name) + NOWHERE + more + queue.format(name)
            found[name] = submit(folder, name, text)

        def states(name: str) -> dict[str, int]:
            ads = pool.schedd.query(f"ClusterId == {found[name]}", ["Colour", "JobStatus"])
            return {ad["Colour"]: ad["JobStatus"] for ad in ads}

        for name in ("plain", "late"):
            pool.wait_until(lambda name=name: len(states(name)) == 2, 200, name)
            assert states(name) == {name: IDLE, "green": IDLE}
        assert states("held") == {"held": HELD, "green": HELD}
        assert states("paused") == {}
        run("condor_release", str(found["paused"]), cwd=folder)
        pool.wait_until(lambda: len(states("paused")) == 2, 200, "paused")
        assert set(states("paused").values()) == {IDLE}
        run("condor_rm", *map(str, found.values()), cwd=folder)


LATE = NOWHERE + "max_materialize = 1\n" + 'My.Colour = "white"\n'


def test_only_condor_qedit_of_a_cluster_reaches_jobs_that_are_not_there_yet(
    pool: Pool, pool_area: Area
):
    folder = pool_area.new_runs_dir()
    (folder / "job.sh").write_text(SCRIPT)
    with pool.use():
        cluster = submit(folder, "late", COMMON.format(name="late") + LATE + "queue 2\n")
        mine = f"ClusterId == {cluster}"

        def colours() -> dict[int, str]:
            return {ad["ProcId"]: ad["Colour"] for ad in pool.schedd.query(mine)}

        pool.wait_until(lambda: 0 in colours(), 200)
        run("condor_qedit", str(cluster), "RequestMemory", "300", cwd=folder)
        assert pool.schedd.edit(mine, "Colour", '"red"') == 1
        assert colours() == {0: "red"}
        run("condor_rm", f"{cluster}.0", cwd=folder)
        pool.wait_until(lambda: 1 in colours(), 200)
        (job,) = pool.schedd.query(mine)
        assert (job["Colour"], job["RequestMemory"]) == ("white", 300)
        run("condor_rm", str(cluster), cwd=folder)


def test_the_bindings_lose_a_reason_that_is_a_text(pool: Pool, pool_area: Area):
    import htcondor2

    folder = pool_area.new_runs_dir()
    (folder / "job.sh").write_text(SCRIPT)
    with pool.use():
        cluster = submit(folder, "idle", COMMON.format(name="idle") + NOWHERE + "queue\n")
        mine = f"ClusterId == {cluster}"
        found = []
        for reason in ("lost", ("kept", 0)):
            pool.schedd.act(htcondor2.JobAction.Hold, mine, reason=reason)
            pool.wait_until(lambda: pool.schedd.query(mine)[0]["JobStatus"] == HELD, 200)
            found.append(pool.schedd.query(mine)[0]["HoldReason"])
            pool.schedd.act(htcondor2.JobAction.Release, mine)
        run("condor_rm", str(cluster), cwd=folder)
    assert "lost" not in found[0]
    assert "kept" in found[1]


FINAL_DAG = """\
JOB fails fails.sub
FINAL last last.sub
"""
ON_THE_ACCESS_POINT = "universe = scheduler\nexecutable = /bin/sh\n"


def test_the_final_node_decides_how_a_dag_ends(pool: Pool, pool_area: Area):
    folder = pool_area.new_runs_dir()
    for name, script in {"fails": "exit 1", "last": "echo $(DAG_STATUS) >status"}.items():
        (folder / f"{name}.sub").write_text(
            f"{ON_THE_ACCESS_POINT}arguments = \"-c '{script}'\"\nqueue\n"
        )
    (folder / "final.dag").write_text(FINAL_DAG)
    with pool.use():
        run("condor_submit_dag", "final.dag", cwd=folder)
        out = folder / "final.dag.dagman.out"
        pool.wait_until(lambda: out.exists() and "EXITING WITH" in out.read_text(), 200)
    assert (folder / "status").read_text() == "2\n"
    assert "EXITING WITH STATUS 0" in out.read_text()
