"""Whatever is given to a public function, it is taken, or refused with words, and nothing is left.

Wrong types, empty, huge and hostile values: paths that lead elsewhere, newlines, and what means
something to shells, submit descriptions, DAG files and ClassAds.
"""

from __future__ import annotations

import contextlib
import math
import os
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pool import Area

import htdag
import htdag.errors
from htdag.options.stage_options import Options

HOSTILE_TEXTS = [
    "",
    " ",
    ".",
    "..",
    "../x",
    "../../../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "a b",
    "-rf",
    "--help",
    "a\nb",
    "a\r\nqueue 1000",
    "a\0b",
    "\x1b[2J",
    "$(HOME)",
    "$$(Memory)",
    "$ENV(HOME)",
    "`id`",
    "; rm -rf x",
    "| cat",
    '"',
    "'",
    '""',
    "\\",
    "a,b",
    "a#b",
    "%s%d",
    "{0}",
    "[bold]x[/bold]",
    "*",
    "[!",
    "?",
    "true || Owner =!= undefined",
    '"]; Owner = "root"',
    "ümläut",
    "日本語",
    "e\u0301",
    "\u202egnp.exe",
    "\udc80",
    "x" * 300,
    "x" * 70_000,
    "PARENT",
    "ALL_NODES",
    "nan",
    "1e400",
    "9" * 5000,
]
HOSTILE_NUMBERS = [0, -1, 1, 2**31, 2**63, 10**30, -(10**30), 0.5, -0.0, math.nan, math.inf]


class Awkward:
    """An object that cannot be compared, hashed, pickled or shown."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not to be compared")

    def __reduce__(self) -> Any:
        raise RuntimeError("not to be pickled")


OTHERS: list[Any] = [
    None,
    True,
    False,
    b"",
    b"bytes",
    (),
    [],
    {},
    set(),
    [None],
    [[]],
    ["a", 1],
    {"a": 1},
    {1: "a"},
    {None: None},
    {"a\nb": "c\nd"},
    range(3),
    Path(),
    Path("/nowhere/at all"),
    object(),
    object,
    abs,
    lambda: None,
    lambda *a, **k: None,
    Awkward(),
    Awkward,
    math,
    3j,
    ...,
]
VALUES = [*HOSTILE_TEXTS, *HOSTILE_NUMBERS, *OTHERS]

anything = st.one_of(
    st.sampled_from(VALUES),
    st.text(max_size=20),
    st.integers(),
    st.floats(),
    st.binary(max_size=5),
    st.lists(st.sampled_from(VALUES), max_size=3),
    st.dictionaries(st.text(max_size=5), st.sampled_from(VALUES), max_size=2),
)


def one() -> htdag.Stage:
    return htdag.source([1, 2], name="one")


def other() -> htdag.Stage:
    return htdag.source([3, 4], name="other")


def identity(x: Any) -> Any:
    return x


def add(a: Any, b: Any) -> Any:
    return a + b


def flow(*targets: Any, **options: Any) -> htdag.Pipeline:
    return htdag.Pipeline(*(targets or [one().map(identity, name="same")]), **options)


def with_bound(value: Any) -> Any:
    return one().map(lambda x, b: x, bind=value)


def with_files(value: Any) -> Any:
    return one().map(identity, input_files=value)


Call = Callable[[Any], Any]

STAGES: dict[str, Call] = {
    "source": htdag.source,
    "source name": lambda v: htdag.source([1], name=v),
    "source chunk_size": lambda v: htdag.source([1], chunk_size=v),
    "map function": lambda v: htdag.map(v, [1]),
    "map items": lambda v: htdag.map(identity, v),
    "map name": lambda v: htdag.map(identity, [1], name=v),
    "starmap function": lambda v: htdag.starmap(v, [(1,)]),
    "starmap items": lambda v: htdag.starmap(identity, v),
    "files": htdag.files,
    "files name": lambda v: htdag.files(__file__, name=v),
    "files chunk_size": lambda v: htdag.files(__file__, chunk_size=v),
    "iterate step": lambda v: htdag.iterate(v, 1, max_rounds=2),
    "iterate start": lambda v: htdag.iterate(lambda s: s.map(identity), v, max_rounds=2),
    "iterate until": lambda v: htdag.iterate(lambda s: s.map(identity), 1, v, max_rounds=2),
    "iterate max_rounds": lambda v: htdag.iterate(lambda s: s.map(identity), 1, max_rounds=v),
    "iterate name": lambda v: htdag.iterate(lambda s: s.map(identity), 1, max_rounds=2, name=v),
    "Stage.map": lambda v: one().map(v),
    "Stage.map name": lambda v: one().map(identity, name=v),
    "Stage.map bind": with_bound,
    "Stage.map bind value": lambda v: with_bound({"b": v}),
    "Stage.filter": lambda v: one().filter(v),
    "Stage.flat_map": lambda v: one().flat_map(v),
    "Stage.starmap": lambda v: one().starmap(v),
    "Stage.reduce": lambda v: one().reduce(v),
    "Stage.reduce initial": lambda v: one().reduce(add, initial=v),
    "Stage.reduce associative": lambda v: one().reduce(add, associative=v),
    "Stage.reduce fan_in": lambda v: one().reduce(add, fan_in=v),
    "Stage.fold binop": lambda v: one().fold(v, add, initial=0),
    "Stage.fold combine": lambda v: one().fold(add, v, initial=0),
    "Stage.fold initial": lambda v: one().fold(add, add, initial=v),
    "Stage.group_by": lambda v: one().group_by(v),
    "Stage.group_by partitions": lambda v: one().group_by(identity, partitions=v),
    "Stage.reduce_by_key": lambda v: one().reduce_by_key(v),
    "Stage.reduce_by_key key": lambda v: one().reduce_by_key(add, key=v),
    "Stage.distinct": lambda v: one().distinct(v),
    "Stage.sort_by": lambda v: one().sort_by(v),
    "Stage.sort_by reverse": lambda v: one().sort_by(reverse=v),
    "Stage.take": lambda v: one().take(v),
    "Stage.batch": lambda v: one().batch(v),
    "Stage.combinations": lambda v: one().combinations(v),
    "Stage.enumerate": lambda v: one().enumerate(v),
    "Stage.concat": lambda v: one().concat(v),
    "Stage.product": lambda v: one().product(v),
    "Stage.zip": lambda v: one().zip(v),
    "Stage.apply": lambda v: one().apply(v),
    "Environment.container": htdag.Environment.container,
    "Environment.container requirements": lambda v: htdag.Environment.container(
        "docker://python", requirements=v
    ),
    "Environment.interpreter": htdag.Environment.interpreter,
    "Environment.packed": htdag.Environment.packed,
    "command": lambda v: one().map(htdag.command(v)),
    "command returns": lambda v: one().map(htdag.command("echo", returns=v)),
    "command output": lambda v: one().map(htdag.command("echo", returns="file", output=v)),
    "command ok_exit": lambda v: one().map(htdag.command("echo", ok_exit=v)),
    "command env": lambda v: one().map(htdag.command("echo", env=v)),
    "command env value": lambda v: one().map(htdag.command("echo", env={"A": v})),
    "command timeout": lambda v: one().map(htdag.command("echo", timeout=v)),
    "command shell": lambda v: one().map(htdag.command("echo", shell=v)),
    "command value": lambda v: one().map(htdag.command("echo {x}", x=v)),
    "checkpoint": lambda v: htdag.checkpoint(v),
    "TransferURL": lambda v: with_files([htdag.TransferURL(v)]),
    "input_files path": lambda v: with_files([v]),
    "input_files name": lambda v: with_files({v: __file__}),
    "input_files named": lambda v: with_files({"name": v}),
    "output_files path": lambda v: one().map(identity, output_files=[v]),
    "Pipeline": flow,
    "Pipeline name": lambda v: flow(name=v),
    "Pipeline lanes": lambda v: flow(lanes=v),
    "Pipeline history": lambda v: flow(history=v),
    "Pipeline target_job_seconds": lambda v: flow(target_job_seconds=v),
    "Pipeline maxjobs": lambda v: flow(maxjobs=v),
    "Pipeline maxjobs value": lambda v: flow(maxjobs={"a": v}),
    "Pipeline dagman": lambda v: flow(dagman=v),
    "Pipeline dagman value": lambda v: flow(dagman={"DAGMAN_MAX_JOBS_IDLE": v}),
    "Pipeline max_jobs_submitted": lambda v: flow(max_jobs_submitted=v),
    "Pipeline on_success": lambda v: flow().on_success(v),
    "Pipeline on_failure": lambda v: flow().on_failure(v),
    "option submit name": lambda v: one().map(identity, submit={v: "1"}),
    "option submit value": lambda v: one().map(identity, submit={"nice_user": v}),
}


def _with_option(name: str) -> Call:
    return lambda v: one().map(identity, **{name: v})


STAGES |= {f"option {name}": _with_option(name) for name in Options.__dataclass_fields__}


@pytest.fixture(scope="module")
def home_of_all(pool_area: Area) -> Path:
    return pool_area.new_runs_dir()


@pytest.fixture
def here(home_of_all: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of the runs; the current folder is deep enough for what means one above it."""
    folder = tmp_path / "a" / "b" / "c" / "d" / "e"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HTDAG_HOME", str(home_of_all))
    monkeypatch.chdir(folder)
    return home_of_all


def refused_with_words(call: Call, value: Any) -> Any:
    """Call it: it returns, or says what is wrong with a value, as htdag or as Python's own call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", htdag.errors.ItemsMissing)
        try:
            return call(value)
        except (htdag.HtdagError, FileNotFoundError, TypeError) as error:
            problem = error
    told = "".join(traceback.format_exception(problem))
    assert str(problem), told
    if isinstance(problem, FileNotFoundError):
        assert problem.filename == str(Path(value)), told  # as by `open`
    elif isinstance(problem, TypeError):
        # Of a wrong call, as Python itself tells it, not of what was done with the value inside.
        last = traceback.extract_tb(problem.__traceback__)[-1]
        calls_it = call in (STAGES["iterate step"], STAGES["Stage.apply"])
        assert last.filename == __file__ or (calls_it and callable(value)), told
    return None


def plan_and_show(stage: Any) -> None:
    with contextlib.suppress(htdag.HtdagError):
        if isinstance(stage, htdag.Stage):
            stage = htdag.Pipeline(stage)
        if isinstance(stage, htdag.Pipeline):
            stage.explain(on="local")
            stage.render()


@pytest.mark.parametrize("name", STAGES)
def test_stages_and_pipelines(here: Path, name: str):
    for value in VALUES:
        plan_and_show(refused_with_words(STAGES[name], value))


_EXAMPLES = 400 if os.environ.get("HYPOTHESIS_PROFILE") == "soak" else 15


@settings(
    max_examples=_EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(values=st.lists(anything, min_size=1, max_size=4), name=st.sampled_from(sorted(STAGES)))
def test_stages_and_pipelines_of_anything(here: Path, values: list[Any], name: str):
    for value in values:
        plan_and_show(refused_with_words(STAGES[name], value))


# --- What starts or changes runs --------------------------------------------------------


@pytest.fixture(scope="module")
def made(home_of_all: Path) -> htdag.Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTDAG_HOME", str(home_of_all))
        run = flow(history=False).submit("finished", on="local")
        return run.wait(200, progress=False)


@pytest.fixture
def finished(here: Path, made: htdag.Run) -> htdag.Run:
    return made


def ended(run: Any) -> None:
    """Wait for a run that was started after all, so that nothing is under way."""
    if isinstance(run, htdag.Run):
        run.wait(200, progress=False)


SUBMITS: dict[str, Call] = {
    "tag": lambda v: ended(flow(history=False).submit(v, on="local")),
    "on": lambda v: ended(flow(history=False).submit("on", on=v)),
    "name": lambda v: ended(flow(name=v, history=False).submit(on="local")),
    "item": lambda v: ended(
        htdag.Pipeline(htdag.map(repr, [v]), history=False).submit("item", on="local", resume=True)
    ),
    "keep_finished": lambda v: ended(
        flow(history=False).submit("finished", on="local", resume=True, keep_finished=v)
    ),
    "compile": lambda v: flow(history=False).compile(v),
}

RUNS: dict[str, Callable[[htdag.Run, Any], Any]] = {
    "result": lambda run, v: run.result(v),
    "result timeout": lambda run, v: run.result(timeout=v),
    "wait": lambda run, v: run.wait(v, progress=False),
    "items": lambda run, v: list(run.items(v)),
    "items errors": lambda run, v: list(run.items(errors=v)),
    "as_completed": lambda run, v: list(run.as_completed(v)),
    "errors": lambda run, v: run.errors(v),
    "error_groups": lambda run, v: run.error_groups(v),
    "missing": lambda run, v: run.missing(v),
    "jobs": lambda run, v: run.jobs(v),
    "stdout": lambda run, v: run.stdout(v),
    "stdout key": lambda run, v: run.stdout("same", v),
    "stdout round": lambda run, v: run.stdout("same", round=v),
    "stderr": lambda run, v: run.stderr(v),
    "stderr key": lambda run, v: run.stderr("same", v),
    "debug stage": lambda run, v: run.debug(v, 0, pdb=False),
    "debug key": lambda run, v: run.debug("same", v, pdb=False),
    "debug round": lambda run, v: run.debug("same", 0, pdb=False, round=v),
    "hold": lambda run, v: run.hold(v),
    "hold keys": lambda run, v: run.hold("same", v),
    "release": lambda run, v: run.release(v),
    "vacate": lambda run, v: run.vacate(v),
    "pause keys": lambda run, v: run.pause(keys=v),
    "continue_": lambda run, v: run.continue_(v),
    "edit": lambda run, v: run.edit(v, time=3),
    "edit request_memory": lambda run, v: run.edit("same", request_memory=v),
    "edit request_disk": lambda run, v: run.edit("same", request_disk=v),
    "edit time": lambda run, v: run.edit("same", time=v),
    "edit attributes": lambda run, v: run.edit("same", attributes=v),
    "edit attribute": lambda run, v: run.edit("same", attributes={"Rank": v}),
    "priority": lambda run, v: run.priority(v),
    "priority stage": lambda run, v: run.priority(1, v),
    "rerun": lambda run, v: ended(run.rerun(v)),
    "rerun keys": lambda run, v: ended(run.rerun(keys=v)),
    "rerun key": lambda run, v: ended(run.rerun("same", keys=[v])),
    "export": lambda run, v: run.export(v),
    "retag": lambda run, v: run.retag(v).retag("finished"),
    "load": lambda run, v: htdag.load(v),
    "runs": lambda run, v: htdag.runs(v),
    "clean": lambda run, v: htdag.clean(v, dry_run=True),
    "clean states": lambda run, v: htdag.clean(states=v, dry_run=True),
    "clean older_than": lambda run, v: htdag.clean(older_than=v, dry_run=True),
    "import_run": lambda run, v: htdag.import_run(v),
    "import_run on": lambda run, v: htdag.import_run(__file__, on=v),
}


@pytest.fixture
def nothing_else(here: Path) -> Iterator[None]:
    """Afterwards all runs that there are can be read, and no part of one is left."""
    yield
    runs = here / "runs"
    assert not [path.name for path in runs.iterdir() if path.name.startswith(".")]
    assert {path.name for path in runs.iterdir()} == {run.tag for run in htdag.runs()}
    for run in htdag.runs():
        assert run.state.ended
        if run.tag != "finished":
            run.delete()


@pytest.mark.parametrize("name", RUNS)
def test_what_is_done_with_a_run(here: Path, finished: htdag.Run, nothing_else: None, name: str):
    for value in VALUES:
        refused_with_words(lambda value: RUNS[name](finished, value), value)
    assert finished.state is htdag.RunState.DONE
    assert finished.result() == [1, 2]


@pytest.mark.parametrize("name", SUBMITS)
def test_what_starts_a_run(here: Path, finished: htdag.Run, nothing_else: None, name: str):
    for value in VALUES[:: 4 if name == "item" else 1]:
        refused_with_words(SUBMITS[name], value)
