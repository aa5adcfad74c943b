"""Why jobs are on hold, in words, and what to do about it."""

from __future__ import annotations

import re

import pytest

from htdag.backends.base import JobState
from htdag.cli import main
from htdag.observe import holds


def held(code: int, subcode: int = 0, reason: str = "", **facts: int) -> JobState:
    return JobState("fit", 12, 3, "held", 0.0, reason=reason, code=code, subcode=subcode, **facts)


RELEASE = "htdag release 'my survey' fit"
CGROUP = (
    "Error from slot1_1@node7: Job has gone over cgroup memory limit of 1024 megabytes. "
    "Peak usage: 3277 megabytes.  Consider resubmitting with a higher request_memory."
)


@pytest.mark.parametrize(
    ("job", "why", "remedy"),
    [
        (
            held(34, 102, CGROUP, memory_asked=1024),
            "memory exceeded: asked 1 GB, used 3.2 GB",
            "htdag edit 'my survey' fit --request-memory 4GB; then: " + RELEASE,
        ),
        (
            held(
                26,
                0,
                "The system macro SYSTEM_PERIODIC_HOLD expression "
                "'MemoryUsage > RequestMemory' evaluated to TRUE",
                memory_granted=2048,
                memory_used=2500,
            ),
            "memory exceeded: had 2 GB, used 2.4 GB",
            "--request-memory 3GB",
        ),
        (
            held(21, 102, "memory usage exceeded request_memory, using 309 MB", memory_asked=100),
            "memory exceeded: asked 100 MB, used 309 MB",
            "--request-memory 512MB",
        ),
        (held(34, 0, "Job has encountered an out-of-memory event."), "memory exceeded", "512MB"),
        (held(34, 104), "disk exceeded", "htdag edit 'my survey' fit --request-disk SIZE"),
        (held(34, 0, "Job has exceeded its disk limit"), "disk exceeded", "--request-disk"),
        (held(1), "held by a person", RELEASE),
        (held(3), "the job's own rule", "htdag release"),
        (held(13), "its input could not be sent", "file exists"),
        (
            held(46, 0, "The job exceeded allowed job duration of 00:03"),
            "longer than allowed_job_duration",
            "htdag edit 'my survey' fit --time 6s; then",
        ),
        (held(47, 0, "... execute duration of 1+00:10:00"), "execute_duration", "--time 49h;"),
        (held(47), "longer than allowed_execute_duration", "--time TIME; then"),
        (held(33), "larger than max_transfer_output_mb", "MaxTransferOutputMB"),
        (held(4711), "HTCondor put it on hold", "htdag release"),
    ],
    ids=lambda value: value.code if isinstance(value, JobState) else "",
)
def test_the_cause_and_the_remedy(job: JobState, why: str, remedy: str):
    found = holds.explain(job, "my survey")
    assert why in found.why
    assert remedy in found.remedy
    assert "{" not in (found.why + found.remedy).replace("submit={...}", "")


@pytest.mark.parametrize("code", range(60))
def test_every_remedy_names_commands_that_there_are(code: int):
    found = holds.explain(held(code), "tag")
    assert found.why
    assert found.remedy
    for verb in re.findall(r"htdag (\w+)", found.remedy):
        assert verb in main.commands
    for verb, option in re.findall(r"htdag (\w+)[^;:]*? (--[\w-]+)", found.remedy):
        options = [name for each in main.commands[verb].params for name in each.opts]
        assert option in options


@pytest.mark.parametrize(
    ("asked", "used", "proposed"),
    [
        (1024, 3277, "4GB"),
        (100, 309, "512MB"),
        (1000, 1000, "2GB"),
        (0, 0, "512MB"),
        (8192, 0, "16GB"),
    ],
)
def test_how_much_memory_is_proposed(asked: int, used: int, proposed: str):
    assert holds.memory_proposal(asked, used) == proposed


def test_like_jobs_share_a_line():
    jobs = [held(1), held(1), held(13, 2, "no such\nfile")]
    one, other = holds.lines(jobs, "tag")
    assert one.startswith("node fit, 2 jobs, such as 12.3: held by a person (HTCondor, code 1).")
    assert (
        "job 12.3: its input could not be sent to it (HTCondor, code 13.2: no such file)." in other
    )
