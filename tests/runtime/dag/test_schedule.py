"""What a local run does next: the schedule is driven by events, without any process or file."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from htdag.runtime.dag.schedule import (
    AGAIN,
    DONE,
    FAILED,
    BeginRound,
    Cancel,
    Judge,
    JudgeRound,
    Schedule,
    Submit,
)
from htdag.runtime.lanes import Unit, parents, unit, units

RUN = "."


def node(name, *before, **given_options):
    options = {
        "mode": "map",
        "priority": 0,
        "job_priority": None,
        "category": None,
        "retries": 0,
        "on_error": "finish",
        "max_materialize": None,
        "chunks": 1,
        "cpus": 1,
    }
    return {"name": name, "parents": list(before), **options, **given_options}


def plan_of(*nodes, most=None, **maxjobs):
    return {
        "nodes": nodes,
        "by_name": {each["name"]: each for each in nodes},
        "max_jobs_submitted": most,
        "maxjobs": maxjobs,
    }


class Driver:
    """Carries out what a schedule says, without doing anything, and checks that it is right.

    Each job runs until it is told to end. Units are judged by ``verdicts``: for each unit what is
    made of its tries, one after another; then it is done.
    """

    def __init__(self, plan, cores=1, verdicts=None, rounds=None, done=()):
        self.schedule = Schedule(RUN, plan, done, cores)
        self.cores = cores
        self.plans = {RUN: plan}
        self.done = {RUN: set(done)}
        self.verdicts = verdicts or {}
        self.rounds = rounds or {}
        self.running = []
        self.started = []
        self.actions = []
        self.tries = {}
        self.go_on()

    def go_on(self):
        """Carry out all that the schedule says, until jobs have to end."""
        while True:
            actions = self.schedule.next_actions()
            if not actions:
                return
            for action in actions:
                self.actions.append(action)
                getattr(self, f"_{type(action).__name__}")(*action)

    def end(self, task, status=0):
        self.running.remove(task)
        self.schedule.ended(task, status)
        self.go_on()

    def end_all(self):
        while self.running:
            self.end(self.running[0])

    def names(self, kind):
        return [each.unit.name for each in self.actions if isinstance(each, kind)]

    def jobs(self):
        return [(task.unit.name, task.chunk) for task in self.running]

    def _Submit(self, run, unit):  # noqa: N802  (as the action)
        plan = self.plans[run]
        assert set(parents(plan, unit)) <= self.done[run]
        made = plan["by_name"][unit.node]
        number = self.tries[run, unit] = self.tries.get((run, unit), 0) + 1
        jobs = [(chunk, number, made["cpus"]) for chunk in range(made["chunks"])]
        self.schedule.listed(run, unit, jobs)

    def _BeginRound(self, run, unit):  # noqa: N802
        number = self.tries[run, unit] = self.tries.get((run, unit), 0) + 1
        folder = f"{run}/{unit.node}/{number}"
        self.plans[folder] = self.rounds[unit.node]
        self.done[folder] = set()
        self.schedule.begin(folder, self.plans[folder], (), (run, unit))

    def _Start(self, task):  # noqa: N802
        assert task not in self.started
        self.started.append(task)
        self.running.append(task)
        assert sum(each.cpus for each in self.running) <= self.cores
        assert set(parents(self.plans[task.run], task.unit)) <= self.done[task.run]
        most = self.plans[task.run]["by_name"][task.unit.node]["max_materialize"]
        same = [each for each in self.running if each[:2] == task[:2]]
        assert most is None or len(same) <= most

    def _Cancel(self, run, unit):  # noqa: N802
        self.running = [each for each in self.running if each[:2] != (run, unit)]

    def _Judge(self, run, unit, number, is_last):  # noqa: N802
        assert not [each for each in self.running if each[:2] == (run, unit)]
        assert number == self.tries[run, unit]
        waiting = self.verdicts.get(unit.name, [])
        verdict = waiting.pop(0) if waiting else DONE
        self._judged(run, unit, FAILED if verdict == AGAIN and is_last else verdict)

    def _JudgeRound(self, run, unit, failed):  # noqa: N802
        assert not [each for each in self.running if each.run.startswith(f"{run}/{unit.node}/")]
        waiting = self.verdicts.get(unit.name, [])
        verdict = waiting.pop(0) if waiting else DONE
        self._judged(run, unit, FAILED if failed else verdict)

    def _judged(self, run, unit, verdict):
        if verdict == DONE:
            self.done[run].add(unit)
        self.schedule.judged(run, unit, verdict)


def test_a_unit_is_submitted_when_its_parents_are_done():
    driver = Driver(plan_of(node("a"), node("b"), node("c", "a", "b")), cores=2)
    assert driver.names(Submit) == ["a", "b"]
    driver.end(driver.running[0])
    assert driver.names(Submit) == ["a", "b"]
    driver.end(driver.running[0])
    assert driver.jobs() == [("c", 0)]
    driver.end_all()
    assert driver.schedule.state == "done"


def test_what_is_done_already_is_not_submitted():
    driver = Driver(plan_of(node("a"), node("b", "a")), done=[Unit("a")])
    assert driver.names(Submit) == ["b"]


def test_a_run_that_is_done_has_nothing_to_do():
    driver = Driver(plan_of(node("a")), done=[Unit("a")])
    assert (driver.actions, driver.schedule.state) == ([], "done")


def test_as_many_jobs_run_as_there_are_cores():
    driver = Driver(plan_of(node("a", chunks=5)), cores=2)
    assert driver.jobs() == [("a", 0), ("a", 1)]
    driver.end(driver.running[1])
    assert driver.jobs() == [("a", 0), ("a", 2)]


def test_a_job_waits_for_its_cpus_and_a_larger_one_than_the_machine_gets_all_of_it():
    driver = Driver(plan_of(node("a", cpus=3), node("b", cpus=64), node("c")), cores=4)
    assert driver.jobs() == [("a", 0)]  # none passes over the one that is next
    driver.end(driver.running[0])
    assert [(task.unit.node, task.cpus) for task in driver.running] == [("b", 4)]
    driver.end_all()
    assert driver.schedule.state == "done"


def test_jobs_and_nodes_go_by_priority():
    first, second = node("a", job_priority=1), node("b", priority=5)
    driver = Driver(plan_of(first, second, node("c", job_priority=7)))
    assert driver.names(Submit) == ["b", "a", "c"]
    driver.end_all()
    assert driver.names(Judge) == ["c", "b", "a"]


def test_a_node_with_a_limit_lets_others_pass():
    driver = Driver(plan_of(node("a", chunks=3, max_materialize=1), node("b")), cores=3)
    assert driver.jobs() == [("a", 0), ("b", 0)]
    driver.end(driver.running[0])
    assert driver.jobs() == [("b", 0), ("a", 1)]


def test_throttles_count_submitted_nodes():
    nodes = [node(name, category="x") for name in "abc"]
    driver = Driver(plan_of(*nodes, node("d"), x=2), cores=9)
    assert driver.names(Submit) == ["a", "b", "d"]
    driver.end(driver.running[0])
    assert driver.names(Submit) == ["a", "b", "d", "c"]
    driver = Driver(plan_of(*nodes, most=1), cores=9)
    assert driver.names(Submit) == ["a"]
    driver.end_all()
    assert driver.names(Submit) == ["a", "b", "c"]


def test_a_node_is_tried_again_as_often_as_it_may_be():
    driver = Driver(plan_of(node("a", retries=2), node("b", "a")), verdicts={"a": [AGAIN] * 9})
    driver.end_all()
    judged = [action for action in driver.actions if isinstance(action, Judge)]
    assert [(each.number, each.is_last) for each in judged] == [(1, False), (2, False), (3, True)]
    assert [task.attempt for task in driver.started] == [1, 2, 3]
    assert (driver.schedule.failed, driver.schedule.state) == (["a"], "failed")


def test_other_nodes_go_on_when_one_has_failed():
    driver = Driver(plan_of(node("a"), node("b"), node("c", "a")), verdicts={"a": [FAILED]})
    driver.end_all()
    assert driver.names(Submit) == ["a", "b"]
    assert driver.schedule.failed == ["a"]


@pytest.mark.parametrize("on_error", ["stop", "finish"])
def test_a_failed_job_takes_the_others_of_its_node_along_only_with_stop(on_error):
    verdicts = {"a": [FAILED]}
    plan = plan_of(node("a", chunks=4, on_error=on_error), node("b"))
    driver = Driver(plan, cores=3, verdicts=verdicts)
    driver.end(driver.running[0], 1)
    if on_error == "finish":
        assert driver.jobs() == [("a", 1), ("a", 2), ("a", 3)]
    else:
        assert driver.jobs() == []  # of the whole run
        assert driver.names(Cancel) == ["a", "b"]
        assert driver.schedule.failed == ["a"]


def test_a_node_that_stops_is_tried_again_before():
    plan = plan_of(node("a", chunks=2, on_error="stop", retries=1))
    driver = Driver(plan, cores=2, verdicts={"a": [AGAIN]})
    driver.end(driver.running[1], 1)
    assert [(task.chunk, task.attempt) for task in driver.running] == [(0, 2), (1, 2)]
    driver.end_all()
    assert driver.schedule.state == "done"


def test_lanes_go_on_one_by_one():
    first = node("a", lanes=[0, 1, 2])
    second = node("b", "a", lanes=[0, 1, 2], lane_parent="a")
    driver = Driver(plan_of(first, second, node("c", "b")), cores=2)
    driver.end(driver.running[0])
    assert driver.jobs() == [("a.2", 0), ("b.1", 0)]
    driver.end_all()
    assert driver.names(Submit) == ["a.1", "a.2", "b.1", "b.2", "c"]


def test_a_halted_run_submits_nothing_more_and_ends_what_runs():
    driver = Driver(plan_of(node("a", chunks=2), node("b", "a")))
    driver.schedule.halted = True
    driver.end_all()
    assert (driver.names(Submit), driver.schedule.state) == (["a"], "halted")
    assert len(driver.started) == 2


def test_a_halt_that_keeps_nothing_back_is_none():
    driver = Driver(plan_of(node("a")))
    driver.schedule.halted = True
    driver.end_all()
    assert driver.schedule.state == "done"


def test_a_unit_without_jobs_is_judged_at_once():
    driver = Driver(plan_of(node("a", chunks=0)))
    assert driver.names(Judge) == ["a"]


def test_a_loop_has_round_after_round():
    rounds = {"loop": plan_of(node("x", chunks=2), node("y", "x"))}
    plan = plan_of(node("a"), node("loop", "a", mode="loop"), node("b", "loop"))
    driver = Driver(plan, verdicts={"loop": [AGAIN, AGAIN]}, rounds=rounds)
    driver.end_all()
    assert driver.names(BeginRound) == driver.names(JudgeRound) == ["loop"] * 3
    made = [(task.run, task.unit.name) for task in driver.started]
    assert made[1:4] == [("./loop/1", "x"), ("./loop/1", "x"), ("./loop/1", "y")]
    assert (len(made), driver.schedule.state) == (11, "done")


def test_a_round_that_fails_fails_its_loop():
    rounds = {"loop": plan_of(node("x"), node("y", "x"))}
    driver = Driver(plan_of(node("loop", mode="loop")), verdicts={"x": [FAILED]}, rounds=rounds)
    driver.end_all()
    assert driver.schedule.failed == ["loop"]
    assert [task.unit.name for task in driver.started] == ["x"]


def test_a_round_that_stops_leaves_no_job_of_it_running():
    rounds = {"loop": plan_of(node("x", on_error="stop"), node("y", chunks=2))}
    plan = plan_of(node("loop", mode="loop"), node("b"))
    driver = Driver(plan, cores=4, verdicts={"x": [FAILED]}, rounds=rounds)
    driver.end(next(task for task in driver.running if task.unit.node == "x"), 1)
    assert driver.jobs() == [("b", 0)]
    driver.end_all()
    assert driver.schedule.failed == ["loop"]


def test_a_run_that_stops_ends_the_rounds_too():
    rounds = {"loop": plan_of(node("x", chunks=2))}
    plan = plan_of(node("loop", mode="loop"), node("b", on_error="stop"))
    driver = Driver(plan, cores=4, verdicts={"b": [FAILED]}, rounds=rounds)
    driver.end(next(task for task in driver.running if task.unit.node == "b"), 1)
    assert (driver.running, driver.names(JudgeRound)) == ([], [])
    assert driver.schedule.state == "failed"


def test_loops_in_loops_have_schedules_too():
    rounds = {
        "outer": plan_of(node("inner", mode="loop"), node("z", "inner")),
        "inner": plan_of(node("x")),
    }
    verdicts = {"outer": [AGAIN], "inner": [AGAIN, DONE, AGAIN]}
    driver = Driver(plan_of(node("outer", mode="loop")), verdicts=verdicts, rounds=rounds)
    driver.end_all()
    assert [task.unit.name for task in driver.started] == ["x", "x", "z", "x", "x", "z"]


# Whatever the plan, and whatever happens

NAMES = "abcdef"


@st.composite
def plans(draw, loops=True):
    nodes = []
    for position in range(draw(st.integers(1, 5))):
        name = NAMES[position]
        before = draw(st.lists(st.sampled_from(NAMES[:position]), unique=True)) if position else []
        options = {
            "priority": draw(st.integers(0, 2)),
            "job_priority": draw(st.none() | st.integers(0, 2)),
            "category": draw(st.sampled_from([None, "x", "y"])),
            "retries": draw(st.integers(0, 2)),
            "on_error": draw(st.sampled_from(["finish", "skip", "stop"])),
            "max_materialize": draw(st.none() | st.integers(1, 2)),
            "chunks": draw(st.integers(0, 3)),
            "cpus": draw(st.integers(1, 5)),
        }
        if loops and draw(st.booleans()) and draw(st.booleans()):
            options["mode"] = "loop"
        elif draw(st.booleans()):
            options["lanes"] = [0, 1, 2]
            laned = [each for each in before if "lanes" in nodes[NAMES.index(each)]]
            if laned:
                options["lane_parent"] = laned[0]
        nodes.append(node(name, *before, **options))
    limits = draw(st.dictionaries(st.sampled_from("xy"), st.integers(1, 2)))
    return plan_of(*nodes, most=draw(st.none() | st.integers(1, 3)), **limits)


class Chance(Driver):
    """Judges as it comes."""

    def __init__(self, chance, plan, rounds, cores):
        self.chance = chance
        self.left = 6
        super().__init__(plan, cores, rounds=rounds)

    def go_on(self):
        super().go_on()
        for run, plan in self.plans.items():
            submitted = self.schedule.submitted(run)
            most = plan["max_jobs_submitted"]
            assert most is None or len(submitted) <= most
            for category, limit in plan["maxjobs"].items():
                same = [u for u in submitted if plan["by_name"][u.node]["category"] == category]
                assert len(same) <= limit

    def _Judge(self, run, unit, number, is_last):  # noqa: N802
        self.verdicts = {unit.name: [self.chance.choice([DONE, DONE, AGAIN, FAILED])]}
        super()._Judge(run, unit, number, is_last)

    def _JudgeRound(self, run, unit, failed):  # noqa: N802
        self.left -= 1
        self.verdicts = {unit.name: [self.chance.choice([DONE, AGAIN][: 1 + (self.left > 0)])]}
        super()._JudgeRound(run, unit, failed)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plans(), plans(loops=False), st.integers(1, 4), st.integers(0, 1 << 32))
def test_every_run_ends_and_no_job_starts_twice_too_early_or_beyond_the_limits(
    plan, inner, cores, seed
):
    chance = random.Random(seed)
    driver = Chance(chance, plan, dict.fromkeys(NAMES, inner), cores)
    while driver.running:
        driver.end(chance.choice(driver.running), chance.choice([0, 0, 1]))
    failed = {unit(name) for name in driver.schedule.failed}
    assert failed.isdisjoint(driver.done[RUN])
    if not any(plan["by_name"][each.node]["on_error"] == "stop" for each in failed):
        # Only what waits for something that failed is left.
        every = {each for made in plan["nodes"] for each in units(made)}
        for each in every - driver.done[RUN] - failed:
            assert not driver.done[RUN].issuperset(parents(plan, each))
    assert driver.schedule.state == ("failed" if failed else "done")
