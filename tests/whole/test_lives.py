"""Pipelines that are run, edited, killed and gone on with give what plain Python gives today.

`HYPOTHESIS_PROFILE=soak` lives longer. A life that fails is printed as a script that can be run.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from lives import EDITS, FORMS, ITEM_EDITS, KNOWN, Life, Program, Server, Stage, servers, step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pool import Area, Pool

pytestmark = pytest.mark.timeout(7200)

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
LIVES, STEPS = (170, 12) if LONG else (5, 10)
NUMBERS = st.integers(0, 40)
AT_ONCE, POOL_STEPS = 4, 13  # lives on a pool, and steps of each


@pytest.fixture(scope="module")
def shell() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="lives-", dir="/var/tmp"))
    with servers(folder) as shell:
        yield shell
    shutil.rmtree(folder)


@contextlib.contextmanager
def told(life: Life) -> Iterator[None]:
    try:
        yield
    except BaseException:
        print(life.text())  # noqa: T201  (shown where the test fails)
        raise


class Lives(RuleBasedStateMachine):
    """One life an example."""

    shell: ClassVar[Server]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="life-", dir="/var/tmp"))
        self.life = Life(self.folder, self.shell, self.folder)

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def told(self) -> Iterator[Life]:
        with told(self.life):
            yield self.life

    @initialize(seed=st.integers(0, 10**6))
    def begin(self, seed: int) -> None:
        with self.told() as life:
            life.begin(seed)
            life.run()

    @rule(what=st.sampled_from([*EDITS]), a=NUMBERS, b=NUMBERS)
    def edit(self, what: str, a: int, b: int) -> None:
        with self.told() as life:
            life.edit(what, a, b)
            life.run()

    @rule(what=st.sampled_from([*ITEM_EDITS]), a=NUMBERS, b=NUMBERS)
    def edit_items(self, what: str, a: int, b: int) -> None:
        with self.told() as life:
            life.edit(what, a, b)
            life.run("script")

    @rule(edits=st.lists(st.tuples(st.sampled_from([*EDITS]), NUMBERS, NUMBERS), min_size=2))
    def edit_much(self, edits: list[tuple[str, int, int]]) -> None:
        with self.told() as life:
            for edit in edits[:5]:
                life.edit(*edit)
            life.run("script")

    @rule(
        what=st.sampled_from([*EDITS]),
        a=NUMBERS,
        b=NUMBERS,
        call=st.integers(1, 20),
        victim=st.sampled_from(["worker", "job", "run"]),
    )
    def kill(self, what: str, a: int, b: int, call: int, victim: str) -> None:
        with self.told() as life:
            life.edit(what, a, b)
            life.run("resume", (call, victim))
            life.go_on()

    @rule(what=st.sampled_from([*EDITS]), a=NUMBERS, b=NUMBERS, change=st.integers(1, 90))
    def kill_submit(self, what: str, a: int, b: int, change: int) -> None:
        with self.told() as life:
            life.edit(what, a, b)
            life.kill_submit(change)

    @rule(how=st.sampled_from(["resume", "script", "keep", "fresh"]))
    def run_again(self, how: str) -> None:
        with self.told() as life:
            life.run(how)

    @precondition(lambda self: any(s.kind == "flaky" for s in self.life.program.stages))
    @rule()
    def bad_weather(self) -> None:
        with self.told() as life:
            life.weather(True)
            life.run()
            life.weather(False)
            life.go_on()

    @rule(what=st.sampled_from(["errors", "stage", "key", "all"]), a=NUMBERS)
    def rerun(self, what: str, a: int) -> None:
        with self.told() as life:
            life.rerun(what, a)

    @rule(what=st.sampled_from(["retag", "export", "upgrade", "damage"]))
    def manage(self, what: str) -> None:
        with self.told() as life:
            life.manage(what)
            life.run()


@pytest.mark.soak
def test_lives(shell: Server) -> None:
    Lives.shell = shell
    run_state_machine_as_test(
        Lives,
        settings=settings(
            max_examples=LIVES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=not LONG,
            database=None,
            # What fails is a script of a few lines; smaller ones would take minutes to find.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=LONG,
        ),
    )


def life_on(pool_area: Area, runs_dir: Path, shell: Server, number: int = 0) -> Life:
    """A life that execute points see nothing of but its notes."""
    folder = runs_dir / f"life {number}"
    folder.mkdir()
    notes = Path(tempfile.mkdtemp(prefix="notes-", dir=pool_area.path))
    finds = {name: os.environ[name] for name in ("PATH", "CONDOR_CONFIG")}
    return Life(folder, shell, notes, on="condor", environ=finds)


@pytest.mark.pool
def test_a_life_on_a_pool(pool: Pool, pool_area: Area, runs_dir: Path, shell: Server) -> None:
    life = life_on(pool_area, runs_dir, shell)
    life.program = Program(
        ("a", "bc", "abc", "cc"),
        (
            Stage(1, "own", "class", 1, 9, 0),
            Stage(2, "group", "config", 1, 9, 0),
        ),
        options=(("source_chunk", 2),),
    )
    life.write()
    with told(life), pool.only("blind"):
        life.run()
        life.edit("delete an item", 1, 0)
        life.run("script", strike=(1, "remove"))
        life.edit("change a number", 0, 0)
        life.run()


@pytest.mark.soak
@pytest.mark.pool
@pytest.mark.parametrize("points", ["blind", "both"])
def test_lives_on_a_pool(
    pool: Pool, pool_area: Area, runs_dir: Path, shell: Server, points: str
) -> None:
    seeds = [random.randrange(10**6) if LONG else number for number in range(AT_ONCE)]

    def live(seed: int) -> None:
        life = life_on(pool_area, runs_dir, shell, seed)
        dice = random.Random(seed)
        with told(life):
            life.begin(seed)
            life.run()
            for _ in range(POOL_STEPS):
                step(life, dice)

    steered = pool.only("blind") if points == "blind" else contextlib.nullcontext()
    with steered, ThreadPoolExecutor(AT_ONCE) as threads:
        lives = [threads.submit(live, seed) for seed in seeds]
    # All of them to their ends, and then all that failed.
    errors = [error for life in lives if (error := life.exception()) is not None]
    assert not errors, errors


@pytest.mark.soak
@pytest.mark.parametrize("name", KNOWN)
def test_what_is_known_to_go_wrong_still_does(shell: Server, tmp_path: Path, name: str) -> None:
    """An entry that is mended has to leave the table."""
    life = Life(tmp_path, shell, tmp_path)
    form, kind = (name, "map") if name in FORMS else ("literal", name)
    life.program = Program(("a", "bc", "abc"), (Stage(1, kind, form, 1, 9, 0),))
    life.write()
    with pytest.raises(AssertionError):
        life.run()
