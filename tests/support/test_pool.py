"""The tests' own pool does what the other tests rely on. htdag itself is not used here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pool import AREAS, PROJECT, Area, locked_folder, processes_of, wait_until

if TYPE_CHECKING:
    from pool import Pool

pytestmark = pytest.mark.pool

COMPLETED, HELD = 4, 5

SCRIPT = """\
#!/bin/sh
set -eu
cat "in/$1.txt" >"out/$1.txt"
[ "$2" = make ] || cat "in/more-$1.txt" >>"out/$1.txt"
sleep 1
"""

DESCRIPTION = """\
executable = work.sh
arguments = "$(item) {step}"
should_transfer_files = IF_NEEDED
when_to_transfer_output = ON_EXIT
preserve_relative_paths = True
transfer_input_files = $(files)
transfer_output_files = out/$(item).txt
output = {step}-$(item).out
error = {step}-$(item).err
log = jobs.log
request_memory = 100
request_disk = 1M
queue item, files from {step}.txt
"""


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write_script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def write_dag(folder: Path) -> None:
    """Two nodes, one after the other, of four jobs each."""
    write_script(folder / "work.sh", SCRIPT)
    (folder / "in").mkdir()
    (folder / "out").mkdir()
    steps = {"make": [], "add": []}
    for item in "abcd":
        (folder / f"in/{item}.txt").write_text(f"{item}\n")
        (folder / f"in/more-{item}.txt").write_text(f"more {item}\n")
        steps["make"].append(f"{item}, in/{item}.txt, out\n")
        steps["add"].append(f"{item}, in/{item}.txt, in/more-{item}.txt, out\n")
    for step, lines in steps.items():
        (folder / f"{step}.txt").write_text("".join(lines))
        (folder / f"{step}.sub").write_text(DESCRIPTION.format(step=step))
    lines = [f"JOB {step} {step}.sub\n" for step in steps]
    (folder / "two.dag").write_text("".join([*lines, "PARENT make CHILD add\n"]))


def finish(pool: Pool, cluster: int, timeout: float) -> None:
    """Wait for the jobs of a cluster, and see that they did not fail."""

    def ended() -> bool:
        ads = pool.job_ads(f"ClusterId == {cluster}", ["JobStatus", "HoldReason"])
        held = [ad["HoldReason"] for ad in ads if ad["JobStatus"] == HELD]
        assert not held, held
        return all(ad["JobStatus"] == COMPLETED for ad in ads)

    pool.wait_until(ended, timeout)
    codes = [ad.get("ExitCode") for ad in pool.job_ads(f"ClusterId == {cluster}", ["ExitCode"])]
    assert set(codes) == {0}, codes


def run_dag(pool: Pool, folder: Path, timeout: float) -> Counter[str]:
    """Run the DAG of write_dag, look at its results, and tell where its jobs ran."""
    # The bindings read their configuration when they are imported: not at the top.
    import htcondor2

    write_dag(folder)
    description = htcondor2.Submit.from_dag(str(folder / "two.dag"), {"UseDagDir": True})
    cluster = pool.schedd.submit(description).cluster()
    finish(pool, cluster, timeout)
    for item in "abcd":
        assert (folder / f"out/{item}.txt").read_text() == f"{item}\nmore {item}\n"
    return pool.where(f"DAGManJobId == {cluster}")


def submit(folder: Path, script: str, count: int = 1) -> int:
    """Submit jobs of a shell script, which write to out-0, out-1, ..."""
    write_script(folder / "job.sh", f"#!/bin/sh\n{script}\n")
    (folder / "job.sub").write_text(
        "executable = job.sh\narguments = $(Process)\nshould_transfer_files = IF_NEEDED\n"
        "output = out-$(Process)\nerror = err-$(Process)\nlog = job.log\n"
        f"request_memory = 100\nrequest_disk = 1M\nqueue {count}\n"
    )
    return int(run("condor_submit", "-terse", "job.sub", cwd=folder).split(".")[0])


def test_a_dag_runs_on_both_execute_points(pool: Pool, runs_dir: Path):
    where = run_dag(pool, runs_dir, timeout=90)
    assert where == {"seeing": where["seeing"], "blind": where["blind"]}
    assert sum(where.values()) == 8


def test_both_points_work_at_the_same_time(pool: Pool, runs_dir: Path):
    # More jobs than one point takes at once.
    cluster = submit(runs_dir, "sleep 3", count=8)
    finish(pool, cluster, 60)
    # On a busy machine a slot may do two of them.
    assert pool.where(f"ClusterId == {cluster}").keys() == {"seeing", "blind"}


def test_the_dag_checker_passes_that_dag(pool: Pool, runs_dir: Path):
    if shutil.which("condor_dag_checker") is None:
        pytest.skip("this HTCondor is older than condor_dag_checker")
    write_dag(runs_dir)
    run("condor_dag_checker", "two.dag", cwd=runs_dir)


@pytest.mark.parametrize("point", ["seeing", "blind"])
def test_only_steers_all_jobs_to_one_point(pool: Pool, runs_dir: Path, point: str):
    with pool.only(point):
        assert run_dag(pool, runs_dir, timeout=90) == {point: 8}


def test_the_blind_point_sees_nothing_of_the_submit_side(pool: Pool, runs_dir: Path):
    places = [PROJECT, Path(sys.prefix), runs_dir, runs_dir.parent, Path.home(), pool.folder]
    if not pool.python.is_relative_to(sys.base_prefix):
        places.append(Path(sys.base_prefix))
    script = "\n".join(
        [
            *(f"echo '== {place}'; find '{place}' -maxdepth 1 -mindepth 1" for place in places),
            "echo '== python'; command -v python3",
            "python3 -c 'import sys; print(*sys.version_info[:2]); print(sys.prefix)'",
            f"echo '== home'; ls -A '{Path.home()}' \"$HOME\"",
            "true",
        ]
    )
    with pool.only("blind"):
        cluster = submit(runs_dir, script)
        finish(pool, cluster, 60)
    lines = (runs_dir / "out-0").read_text().splitlines()
    for place in places[:5]:
        found = [line for line in lines if line.startswith(f"{place}/")]
        # The programs of HTCondor are there, wherever they lie, and the python of the jobs.
        assert all(any(kept.is_relative_to(line) for kept in pool.kept()) for line in found)
    assert f"{pool.folder}/blind" in lines
    python = lines[lines.index("== python") + 1 :]
    if pool.python == Path("/usr/bin/python3"):
        assert python[0] == str(pool.python)
    assert python[1] == "{} {}".format(*sys.version_info[:2])
    assert Path(python[2]) not in (Path(sys.prefix), PROJECT / ".venv")


def test_runs_dir_is_the_home_of_run_directories(runs_dir: Path):
    assert os.environ["HTDAG_HOME"] == str(runs_dir)
    assert not any(runs_dir.iterdir())
    assert " " in str(runs_dir)
    assert not str(runs_dir).isascii()


# A session of its own, which starts a pool and a job and then waits to be ended.
SESSION = """\
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pool import FAST, Area, Pool
from test_pool import submit
area = Area()
pool = Pool("fast", area, FAST)
with pool.use():
    submit(area.new_runs_dir(), "sleep 1000", count=8)
    pool.wait_until(lambda: len(pool.schedd.query("JobStatus == 2", ["ProcId"])) == 8)
    print(area.path, flush=True)
    time.sleep(1000)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_session_leaves_nothing(pool: Pool, number: signal.Signals):
    command = [sys.executable, "-c", SESSION, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout is not None
        area = Path(session.stdout.readline().strip())
        assert area.parent == AREAS
        assert len(processes_of(area)) > 20
        session.send_signal(number)
    wait_until(lambda: not area.exists(), 200, "the area to go")
    assert processes_of(area) == []


def test_a_session_clears_what_a_crash_left():
    # A machine that went down leaves the folder; a watcher that was killed also processes.
    area, lock = locked_folder()
    environment = {"CONDOR_CONFIG": f"{area}/fast/condor_config"}
    left = subprocess.Popen(["/bin/sleep", "1000"], env=environment)
    try:
        Area().close()
        assert left.poll() is None, "it is in use"
        os.close(lock)
        # Whichever session starts first, and tests may run beside these, clears it.
        Area().close()
        assert left.wait(timeout=200) == -signal.SIGKILL
        wait_until(lambda: not area.exists(), 200, "the area to go")
    finally:
        left.kill()
        left.wait()
