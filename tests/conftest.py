"""Fixtures that several test modules use."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
import subprocess_coverage
from hypothesis import HealthCheck, settings
from pool import DEFAULT, FAST, POINTS, Area, Pool, PoolError

from htdag.runtime.code import image

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# Markers of the tests that a run begins with, and fixtures that only one process is to make. Pools
# are none of these: each process starts its own, in seconds, and tests on them wait for minutes.
FIRST = ["default_pool", "pool"]
MADE_ONCE = {
    "after_faults",
    "distributions",
    "facts",
    "module_home",
    "parity",
    "ran",
    "signals_home",
    "small_disks",
}

# How long an example takes says how busy the machine is, no more.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("soak", settings.get_profile("busy"), max_examples=400)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "busy"))


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put tests on a pool first; those that share what takes long to make, into one process.

    Tests on a pool are long, and mostly wait. Begun first, they leave the processor to the others,
    and none of them is left for the end, when the other processes have nothing to do any more.
    """
    for item in items:
        for name in MADE_ONCE.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group(name))
    items.sort(key=_turn)
    if "soak" not in config.option.markexpr:
        chosen = [item for item in items if item.get_closest_marker("soak") is None]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


def _turn(item: pytest.Item) -> int:
    return next((n for n, name in enumerate(FIRST) if item.get_closest_marker(name)), len(FIRST))


@pytest.fixture(scope="session", autouse=True)
def _measured_once_htdag_is_imported() -> None:
    coverage = subprocess_coverage
    if coverage.THEIRS in os.environ and importlib.util.find_spec(coverage.NAME):
        os.environ[coverage.OWN] = os.environ.pop(coverage.THEIRS)


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would all that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def pool_area() -> Iterator[Area]:
    area = Area()
    yield area
    area.close()


def _running(name: str, area: Area, settings: Mapping[str, str]) -> Iterator[Pool]:
    problem = ""
    try:
        pool = Pool(name, area, settings)
    except PoolError as error:
        problem = str(error)
    if problem:
        # A failure, not a skip: without HTCondor nothing has been tested.
        pytest.fail(problem, pytrace=False)
    yield pool
    pool.stop()


@pytest.fixture(scope="session")
def pool(pool_area: Area) -> Iterator[Pool]:
    """A real pool with settings that make it fast; mark the test with `pool`."""
    yield from _running("fast", pool_area, FAST)


@pytest.fixture(scope="session")
def default_pool(pool_area: Area) -> Iterator[Pool]:
    """A real pool with HTCondor's default settings; mark with `pool` and `default_pool`."""
    yield from _running("default", pool_area, DEFAULT)


@pytest.fixture(autouse=True)
def _pool_in_use(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test's pool is the one HTCondor's commands and bindings find; others find none."""
    names = {"pool", "default_pool"}.intersection(request.fixturenames)
    if not names:
        yield
        return
    assert len(names) == 1, "a test uses one pool"
    pool = request.getfixturevalue(names.pop())
    since = request.node.get_closest_marker("since")
    if since is not None and pool.version < since.args:
        pytest.skip(f"HTCondor is {'.'.join(map(str, pool.version))}: {since.kwargs['lacks']}")
    with pool.use():
        yield


@pytest.fixture(autouse=True)
def _modules_of_this_process() -> Iterator[None]:
    """A job that a test runs in its own process leaves no modules of its run to the next test."""
    finders, modules, given = list(sys.meta_path), dict(sys.modules), os.environ.get("HTDAG_CODE")
    yield
    if sys.meta_path != finders:
        sys.meta_path[:] = finders
        left = [name for name, module in sys.modules.items() if isinstance(module, image.Module)]
        for name in left:
            del sys.modules[name]
        sys.modules.update({name: modules[name] for name in left if name in modules})
        sys.modules["__main__"] = modules["__main__"]
        os.environ.pop("HTDAG_CODE", None)
        if given is not None:
            os.environ["HTDAG_CODE"] = given


@pytest.fixture(autouse=True)
def _no_earlier_runs(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plans must not follow what was run on this machine before; most tests run nothing."""
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path_factory.getbasetemp() / "no-home"))
    monkeypatch.setenv("HTDAG_SETTINGS", str(tmp_path_factory.getbasetemp() / "no-settings.toml"))


@pytest.fixture
def runs_dir(pool_area: Area, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh home of run directories, which execute nodes do not see; HTDAG_HOME names it."""
    path = pool_area.new_runs_dir()
    monkeypatch.setenv("HTDAG_HOME", str(path))
    return path


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder under /tmp, which even the blind execute point shares: for call records."""
    tmp_path.chmod(0o777)
    return tmp_path


@pytest.fixture(params=["local", pytest.param("condor", marks=pytest.mark.pool)])
def on(request: pytest.FixtureRequest, runs_dir: Path) -> Iterator[str]:
    """Each of the backends, with the pool where it is needed."""
    if request.param == "local":
        yield "local"
        return
    with request.getfixturevalue("pool").use():
        yield "condor"


@pytest.fixture(
    params=["local", *(pytest.param(point, marks=pytest.mark.pool) for point in POINTS)]
)
def place(request: pytest.FixtureRequest, runs_dir: Path) -> Iterator[dict[str, Any]]:
    """Where to run, and the options that send the jobs there: here, and to either point."""
    if request.param == "local":
        yield {"on": "local", "options": {}}
        return
    with request.getfixturevalue("pool").use():
        needs = f'Machine =?= Machine && regexp("{request.param}", Name)'
        yield {"on": "condor", "options": {"requirements": needs}}
