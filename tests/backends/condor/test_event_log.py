"""HTCondor's event logs, read fast: what matters is the same as by the bindings."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from htdag.backends.condor.bindings import htcondor2
from htdag.backends.condor.event_log import EventLog

USAGE = (
    "\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Run Remote Usage\n"
    "\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Run Local Usage\n"
)
BYTES = "\t0  -  Run Bytes Sent By Job\n\t0  -  Run Bytes Received By Job\n"
HEAD = "{kind:03d} ({cluster:03d}.{proc:03d}.000) 2026-11-25 14:00:{second:02d} "
TEXTS = {
    0: "Job submitted from host: <127.0.0.1:9618>\n"
    '    [ DAGNodeName = "node{cluster}"; JobBatchName = "d.dag+4" ]\n',
    1: "Job executing on host: <127.0.0.1:9618>\n\tSlotName: slot1_{proc}@vm\n\tCpus = 1\n"
    "\tMemory = 128\n",
    4: "Job was evicted. Code 1023 Subcode 0\n\t(0) CPU times\n" + USAGE + BYTES,
    5: "Job terminated.\n\t(1) Normal termination (return value 3)\n"
    + USAGE
    + USAGE.replace("Run", "Total")
    + BYTES
    + BYTES.replace("Run", "Total"),
    6: "Image size of job updated: 11232\n\t{second}  -  MemoryUsage of job (MB)\n",
    9: "Job was aborted.\n\tDAG Removed: it was removed\n",
    12: "Job was held.\n\tCannot send {proc}\n\tCode 13 Subcode 2\n",
    13: "Job was released.\n\tvia condor_release\n",
}


def text_of(kind, cluster, proc, second=0):
    values = {"kind": kind, "cluster": cluster, "proc": proc, "second": second}
    return (HEAD + TEXTS[kind]).format(**values) + "...\n"


def folded(events, jobs=None, nodes=None):
    """What is known of the jobs in the queue, and of which node each cluster is."""
    jobs = {} if jobs is None else jobs
    nodes = {} if nodes is None else nodes
    for event in events:
        job = (event.cluster, event.proc)
        if event.type == 0:
            nodes.setdefault(event.cluster, event.get("LogNotes"))
        if event.type in (5, 9):
            jobs.pop(job, None)
        else:
            jobs.setdefault(job, []).append(
                (int(event.type), event.get("HoldReasonCode"), event.get("SlotName"))
            )
    return jobs, nodes


JOB = st.tuples(st.integers(1, 2000), st.integers(0, 12))
LIVES = st.lists(
    st.tuples(JOB, st.lists(st.sampled_from([1, 4, 6, 12, 13]), max_size=4), st.booleans()),
    max_size=12,
    unique_by=lambda life: life[0],
)


@settings(max_examples=40)
@given(LIVES, st.randoms(), st.lists(st.integers(0, 60), max_size=4))
def test_what_matters_is_told_however_the_log_grows(lives, random, cuts):
    queues = [
        [text_of(0, *job), *(text_of(kind, *job) for kind in kinds)]
        + ([text_of(random.choice([5, 9]), *job)] if gone else [])
        for job, kinds, gone in lives
    ]
    texts = []
    while any(queues):
        texts.append(random.choice([queue for queue in queues if queue]).pop(0))
    data = "".join(texts).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        log = EventLog(path)
        assert list(log.events()) == []
        jobs, nodes = {}, {}
        edges = [0, *sorted(min(len(data), cut * 40) for cut in cuts), len(data)]
        for start, stop in itertools.pairwise(edges):
            with path.open("ab") as file:
                file.write(data[start:stop])  # also in the midst of an event
            folded(log.events(), jobs, nodes)
        expected = folded(htcondor2.JobEventLog(str(path)).events(stop_after=0))
        assert list(log.events()) == []
    assert jobs == expected[0]
    # A cluster's node is told by its first submit event, whatever became of that job.
    assert nodes == expected[1]


def test_the_facts_are_those_that_the_bindings_tell(tmp_path):
    path = tmp_path / "log"
    path.write_text("".join(text_of(kind, 7, 3, 5) for kind in (0, 1, 6, 12, 4)))
    mine = list(EventLog(path).events())
    theirs = list(htcondor2.JobEventLog(str(path)).events(stop_after=0))
    assert len(mine) == len(theirs) == 5
    names = ["LogNotes", "HoldReason", "HoldReasonCode", "HoldReasonSubCode", "SlotName"]
    for one, other in zip(mine, theirs, strict=True):
        assert (one.type, one.cluster, one.proc) == (other.type, other.cluster, other.proc)
        assert one.timestamp == other.timestamp
    held, told = mine[3], theirs[3]
    for name in names[1:4]:
        assert held.get(name) == told.get(name)
    assert mine[0].get("LogNotes").split() == theirs[0].get("LogNotes").split()
    assert mine[1].get("SlotName") == theirs[1].get("SlotName")
    assert mine[1].get("ExecuteProps")["Memory"] == theirs[1].get("ExecuteProps")["Memory"]
    assert mine[2].get("MemoryUsage") == theirs[2].get("MemoryUsage")
    assert mine[1].get("HoldReasonCode") is None


def test_what_one_has_left_since_the_last_look_is_told(tmp_path):
    path = tmp_path / "log"
    path.write_text(text_of(0, 7, 3))
    log = EventLog(path)
    assert [event.type for event in log.events()] == [0]
    with path.open("a") as file:
        file.write(text_of(1, 7, 3) + text_of(5, 7, 3))
    assert [(event.type, event.proc) for event in log.events()] == [(5, 3)]


def test_a_log_that_is_shorter_is_read_anew(tmp_path):
    path = tmp_path / "log"
    path.write_text(text_of(0, 7, 3) + text_of(1, 7, 3))
    log = EventLog(path)
    assert len(list(log.events())) == 2
    path.write_text(text_of(0, 8, 0))
    assert [event.cluster for event in log.events()] == [8]


def test_that_a_job_has_left_of_which_another_told_is_said_too(tmp_path):
    path = tmp_path / "log"
    path.write_text(text_of(0, 7, 0) + text_of(0, 7, 3) + text_of(5, 7, 3) + text_of(5, 7, 4))
    found = EventLog(path).events([(7, 3), (7, 5), (1234, 1234)])
    assert [(event.type, event.proc) for event in found] == [(0, 0), (5, 3)]
