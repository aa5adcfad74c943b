"""What loops rely on in DAGMan's nested DAGs: docs/htcondor-facts.md. htdag is not used here."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from pool import Area, Pool

pytestmark = pytest.mark.pool

OUTER = """\
SUBDAG EXTERNAL loop round.dag DIR rounds/current
RETRY loop 5 UNLESS-EXIT 2
SCRIPT POST loop post.sh $RETRY $RETURN
"""
ROUND = """\
JOB one one.sub NOOP
JOB two one.sub NOOP
PARENT one CHILD two
SCRIPT POST two two.sh
"""
# In the first round all goes well. In the second one its last node fails at first.
POST = """\
#!/bin/sh
echo "$1 $2 $(basename "$PWD")" >>../../tries
case $1 in
    0) ln -sfn b ../current; exit 1 ;;
    1) touch mended; exit 1 ;;
esac
"""
TWO = """\
#!/bin/sh
[ "$(basename "$PWD")" = a ] || [ -e mended ]
"""


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture(scope="module")
def ran(pool: Pool, pool_area: Area) -> Path:
    """A node that is a nested DAG, tried three times in the folder that a link leads to."""
    folder = pool_area.new_runs_dir()
    for name in "ab":
        place = folder / "rounds" / name
        place.mkdir(parents=True)
        (place / "round.dag").write_text(ROUND)
        (place / "one.sub").write_text("executable = /bin/true\nqueue\n")
        script(place / "two.sh", TWO)
        script(place / "post.sh", POST)
    (folder / "rounds/current").symlink_to("a")
    for name in ("outer.dag", "refused.dag"):
        (folder / name).write_text(OUTER)
    with pool.use():
        for command in (["outer.dag"], ["-usedagdir", "refused.dag"]):
            subprocess.run(
                ["condor_submit_dag", *command], cwd=folder, capture_output=True, check=True
            )

        def ended() -> bool:
            outs = [folder / f"{name}.dag.dagman.out" for name in ("outer", "refused")]
            return all(out.exists() and "EXITING WITH" in out.read_text() for out in outs)

        pool.wait_until(ended, 200)
    return folder


def test_each_try_of_a_nested_dag_goes_where_the_link_of_its_dir_leads(ran: Path):
    tries = [line.split() for line in (ran / "tries").read_text().splitlines()]
    assert [(retry, place) for retry, _, place in tries] == [("0", "a"), ("1", "b"), ("2", "b")]
    assert "EXITING WITH STATUS 0" in (ran / "outer.dag.dagman.out").read_text()


def test_the_script_of_a_nested_dag_runs_in_its_dir_and_gets_its_status(ran: Path):
    tries = [line.split() for line in (ran / "tries").read_text().splitlines()]
    assert [(returned, place) for _, returned, place in tries] == [
        ("0", "a"),
        ("1", "b"),
        ("0", "b"),
    ]


def test_a_nested_dag_that_is_tried_again_goes_on_from_its_rescue_file(ran: Path):
    assert (ran / "rounds/b/round.dag.rescue001").exists()
    text = (ran / "rounds/b/round.dag.dagman.out").read_text()
    assert "Number of pre-completed nodes: 1" in text


def test_a_dir_of_a_nested_dag_is_refused_with_usedagdir(ran: Path):
    text = (ran / "refused.dag.dagman.out").read_text()
    assert "EXITING WITH STATUS 1" in text
    assert re.search(r"DIR .*(can not be used|not allowed) with -UseDagDir", text)
