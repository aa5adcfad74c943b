"""Why a DAG failed as a whole, from what DAGMan 25.14.1 writes."""

from __future__ import annotations

import pytest

from htdag.backends.condor import dagman_log

CASES = {
    "refused": (
        """\
Submitting node a from file a.sub using direct job submission
ERROR: on Line 2 of submit file: can't open file nothere.txt: No such file or directory
Event: ULOG_SUBMIT_FAILURE for HTCondor Node a (-1.-1.-1) {11/25/26 14:49:48} can't open file \
nothere.txt: No such file or directory
Node submit failed after 1 try.
ERROR: the following job(s) failed:
Aborting DAG...
""",
        "node a could not be submitted: can't open file nothere.txt: No such file or directory",
    ),
    "no script": (
        """\
Create_Process: Cannot access specified executable "post.sh": errno = 2 (No such file or directory)
Error: Failed to execute POST for Node a
POST Script of node a failed with status 1
ERROR: the following job(s) failed:
""",
        "DAGMan could not start the script post.sh: No such file or directory",
    ),
    "no python": (
        "POST Script of node a failed with status 127\n",
        (
            "the POST script of node a ended with status 127 (its program was not found): see "
            "nodes/a/log/post.log and the output of post.sh in dagman.out"
        ),
    ),
    "failed items": ("POST Script of node a failed with status 1\n", ""),
    "unreadable": (
        """\
ERROR: Node zz not found!
ERROR: Unknown child node zz specified
Processing error at d.dag:2
Failed to parse /there/d.dag
""",
        (
            "DAGMan could not read the DAG /there/d.dag, at d.dag:2: Node zz not found!; Unknown "
            "child node zz specified"
        ),
    ),
    "cycle": (
        """\
ERROR: DAG finished but not all nodes are complete -- checking for a cycle...
... ERROR: a cycle exists in the dag, please check input
""",
        "the DAG has a cycle",
    ),
    "failed items, without a script": (
        """\
ERROR: DAG finished but not all nodes are complete -- checking for a cycle...
... ERROR: no cycle found; unknown error condition
     Node Status: STATUS_ERROR
           Error: Job proc (8.0.0) failed with status 1
""",
        "",
    ),
    "something else": (
        "ERROR: the disk is full\nERROR: the following job(s) failed:\n",
        "the disk is full",
    ),
}


def written(text: str) -> str:
    lines = ["** condor_dagman (CONDOR_DAGMAN) STARTING UP", *text.splitlines()]
    return "".join(f"11/25/26 14:49:49 {line}\n" for line in lines)


@pytest.mark.parametrize("name", CASES)
def test_why_a_dag_failed(name: str):
    text, why = CASES[name]
    assert dagman_log.explain(written(text)) == why


def test_what_scripts_say_of_failed_items_is_told_by_the_items():
    failed = written("POST Script of node a failed with status 2\n")
    assert dagman_log.explain(failed, loops=["a"]) == ""
    assert dagman_log.explain(failed).startswith("the POST script of node a ended with status 2")
    hopeless = written("POST Script of node a failed with status 4\n")
    assert dagman_log.explain(hopeless) == ""


def test_only_the_last_sitting_counts():
    before = written(CASES["refused"][0])
    assert dagman_log.explain(before + written("")) == ""
    assert dagman_log.explain(before + written(CASES["cycle"][0])) == "the DAG has a cycle"


def test_a_halt_is_told_from_a_failure():
    halted = written("DAG status: 0 (DAG_STATUS_OK)\nDAG status: 6 (DAG_STATUS_HALTED)\n")
    assert dagman_log.was_halted(halted)
    assert not dagman_log.was_halted(halted + written("DAG status: 2 (DAG_STATUS_NODE_FAILED)"))
    assert not dagman_log.was_halted("")
    # As DAGMan before 24 says it.
    older = written(
        "DAG is halted because halt file a.dag.halt exists\n"
        "Writing Rescue DAG to a.dag.rescue001...\nDAG status: 0 (DAG_STATUS_OK)\n"
    )
    assert dagman_log.was_halted(older)
    assert not dagman_log.was_halted(older + written("DAG status: 0 (DAG_STATUS_OK)\n"))
    assert not dagman_log.was_halted(older.replace("DAG_STATUS_OK", "DAG_STATUS_NODE_FAILED"))


def test_which_nodes_failed():
    text = written("""\
---------------------- Node ----------------------
      Node Name: load.1
         NodeID: 0
    Node Status: STATUS_ERROR
Node return val: 1
      Node Name: mean
         NodeID: 1
    Node Status: STATUS_READY
      Node Name: last
    Node Status: STATUS_ERROR
""")
    assert dagman_log.failed_nodes(text) == ["load.1", "last"]
    assert dagman_log.failed_nodes(text + written("")) == []
