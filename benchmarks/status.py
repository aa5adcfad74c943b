"""How long a status of 100,000 jobs takes: at first, again, and of a run that goes on.

The run directory is a compiled one; records and the event log are written as jobs, DAGMan and
HTCondor would, without running anything.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common

import htdag
from htdag.runtime import layout
from htdag.runtime.layout import NodeFiles

RUNNING = 500
DAG_JOB = 9
ADDRESS = "127.0.0.1:9618?addrs=127.0.0.1-9618&alias=node.example.org&noUDP&sock=startd_1_fc1b"

SUBMITTED = """000 ({job}.000) 2026-11-25 14:00:00 Job submitted from host: <{address}>
    [ DAGNodeName = "{node}"; JobBatchName = "survey" ]
...
"""
STARTED = """001 ({job}.000) 2026-11-25 14:01:00 Job executing on host: <{address}>
	SlotName: slot1_1@node.example.org
	CondorScratchDir = "/var/lib/condor/execute/dir_21698/scratch"
	Cpus = 1
	Disk = 1024
	GPUs = 0
	Memory = 128
...
006 ({job}.000) 2026-11-25 14:01:10 Image size of job updated: 11232
	3  -  MemoryUsage of job (MB)
	2500  -  ResidentSetSize of job (KB)
...
"""
ENDED = """005 ({job}.000) 2026-11-25 14:11:00 Job terminated.
	(1) Normal termination (return value 0)
		Usr 0 00:00:00, Sys 0 00:00:00  -  Run Remote Usage
		Usr 0 00:00:00, Sys 0 00:00:00  -  Run Local Usage
		Usr 0 00:00:00, Sys 0 00:00:00  -  Total Remote Usage
		Usr 0 00:00:00, Sys 0 00:00:00  -  Total Local Usage
	0  -  Run Bytes Sent By Job
	0  -  Run Bytes Received By Job
	0  -  Total Bytes Sent By Job
	0  -  Total Bytes Received By Job
	Partitionable Resources :    Usage  Request Allocated
	   Cpus                 :        0        1         1
	   Disk (KB)            :      125     1024      1024
	   Memory (MB)          :        3      100       128
	   TimeExecute (s)      :        5
	   TimeSlotBusy (s)     :        5
...
"""  # noqa: E101


def work(x):
    return x


def compiled(home: Path, jobs: int) -> Path:
    """Write a run of two nodes, as `Pipeline.submit` would before it submits."""
    stage = htdag.source(range(jobs)).map(work, chunk_size=1)
    run = home / "runs" / "survey"
    flow = htdag.Pipeline(stage.map(work, name="then", fuse=False, chunk_size=jobs), name="survey")
    flow.compile(run)
    ticket = {"cluster": DAG_JOB, "dag": "survey.dag"}
    content = {"backend": "condor", "time": 0, "ticket": ticket}
    (run / "submit.json").write_text(json.dumps(content))
    (run / "survey.dag.dagman.log").write_text(
        STARTED.format(job=f"{DAG_JOB:03d}.000", address=ADDRESS).partition("006 (")[0]
    )
    return run


def record(run: Path, chunk: int) -> None:
    """Write the record of a job that is done."""
    name = layout.chunk_name(chunk)
    start = {"node": "work", "chunk": name, "attempt": 1, "host": "node.example.org"}
    start |= {"python": "3.11.7 /usr/bin/python3.11", "time": 1795615300.1234567}
    measured = {"items": 1, "seconds": 1.5, "base_kb": 9000, "stages": [["work", "whole", 1, 1, 1]]}
    end = {"items": 1, "done": 1, "failed": 0, "remaining": 0, "whole": True, "values": [1]}
    end |= {"sizes": [100], "time": 1795615301.1234567, "seconds": 1.0, "peak_kb": 20000}
    end |= {"disk_kb": 30, "disk_fixed_kb": 20, "measured": measured}
    text = json.dumps({"start": start}) + "\n" + json.dumps({"end": end}) + "\n"
    Path(NodeFiles(run, "work").attempt(chunk, 1).record).write_text(text)


def write_outcomes(run: Path, jobs: int) -> None:
    with open(run / "survey.dag.nodes.log", "w") as log:
        for chunk in range(jobs):
            log.write(SUBMITTED.format(job=f"010.{chunk:03d}", node="work", address=ADDRESS))
        for chunk in range(jobs):
            log.write(STARTED.format(job=f"010.{chunk:03d}", address=ADDRESS))
            if chunk < jobs - RUNNING:
                log.write(ENDED.format(job=f"010.{chunk:03d}"))
                record(run, chunk)


def end_one(run: Path, chunk: int) -> None:
    record(run, chunk)
    with open(run / "survey.dag.nodes.log", "a") as log:
        log.write(ENDED.format(job=f"010.{chunk:03d}"))


def timed(function: Any) -> tuple[float, Any]:
    begun = time.perf_counter()
    result = function()
    return time.perf_counter() - begun, result


def measure(home: Path, jobs: int) -> dict[str, float]:
    run = compiled(home, jobs)
    write_outcomes(run, jobs)
    log = (run / "survey.dag.nodes.log").stat().st_size
    found: dict[str, float] = {"jobs": jobs, "log_mb": log / 1e6}
    environment = os.environ | {"HTDAG_HOME": str(home)}
    command = [sys.executable, "-c", "from htdag.cli import main; main()", "status", "survey"]
    found["command"], _ = timed(
        lambda: subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    )
    found["command_again"], _ = timed(
        lambda: subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    )
    watched = htdag.Run(run)
    cpu = time.process_time()
    found["first"], status = timed(watched.status)
    found["first_cpu"] = time.process_time() - cpu
    assert status["work"].done == jobs - RUNNING, status
    assert status["work"].running == RUNNING, status
    found["again"], _ = timed(watched.status)
    end_one(run, jobs - 1)
    found["after_one"], status = timed(watched.status)
    assert status["work"].done == jobs - RUNNING + 1, status
    return found


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    args = parser.parse_args()
    figures = []
    for jobs in args.jobs:
        home = Path(tempfile.mkdtemp(prefix="htdag-status-", dir="/var/tmp"))
        try:
            figures.append(measure(home, jobs))
        finally:
            shutil.rmtree(home)
        print(figures[-1], flush=True)
    columns = ["command", "command_again", "first", "first_cpu", "again", "after_one"]
    head = [
        "jobs",
        "event log, MB",
        "`htdag status`",
        "once more",
        "`Run.status`",
        "of it CPU",
        "again",
    ]
    head += ["after a job has ended"]
    rows = [
        [f"{row['jobs']:,}", f"{row['log_mb']:.0f}", *(f"{row[name]:.2f}" for name in columns)]
        for row in figures
    ]
    text = "Seconds for the status of a run with that many jobs, of which 500 are running:\n\n"
    common.report("status", text + common.table(head, rows), figures, args)


if __name__ == "__main__":
    main()
