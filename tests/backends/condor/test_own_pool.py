"""A pool of one's own: its configuration, and a real one that is started, used and stopped."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from pool import find_htcondor, wait_until

import htdag
from htdag import cli
from htdag.backends.base import HOW_TO_START
from htdag.backends.condor import capacity, own_pool, pool_config, pool_install
from htdag.backends.condor.own_pool import OwnPool
from htdag.backends.condor.pool_state import PoolState, end_orphans
from htdag.backends.condor.setup import Setup
from htdag.errors import BackendError, DirectoryError, RunActive, RunHeld, UsageError

PROGRAM = [sys.executable, "-c", "from htdag.cli import main; main()"]


def command(*words: str, status: int = 0, **extra: str):
    result = CliRunner().invoke(cli.main, ["pool", *words], **extra)
    assert result.exit_code == status, result.output
    return result


# The configuration


def settings(text: str) -> dict[str, str]:
    pairs = [line.partition(" =") for line in text.splitlines() if " =" in line]
    return {name: value.strip() for name, _, value in pairs if not name.startswith("#")}


def test_the_configuration_is_fast_private_and_complete():
    text = pool_config.pool_config(
        Path("/home/ada/my pool"), {"SBIN": "/opt/sbin"}, 4, 2048, "/bin"
    )
    found = settings(text)
    assert pool_config.FAST.items() <= found.items()
    assert found["SBIN"] == "/opt/sbin"
    assert found["LOCAL_DIR"] == "/home/ada/my pool"
    assert found["LOCAL_CONFIG_FILE"] == ""
    assert (found["NUM_CPUS"], found["MEMORY"]) == ("4", "2048")
    assert (found["NETWORK_INTERFACE"], found["BIND_ALL_INTERFACES"]) == ("127.0.0.1", "False")
    assert found["FILESYSTEM_DOMAIN"] == found["UID_DOMAIN"]
    assert {value for name, value in found.items() if name.startswith("ALLOW_")} == {
        "$(USERNAME)@$(UID_DOMAIN)"
    }
    assert "MEMORY" not in settings(pool_config.pool_config(Path("/p"), {}, 1, None, "/bin"))


def test_jobs_find_the_python_that_started_the_pool_first():
    path = pool_config.job_path("/home/ada/.venv/bin/python", "/usr/bin:relative::/a$(b):/opt/bin")
    assert path == "/home/ada/.venv/bin:/usr/bin:/opt/bin:/bin"
    text = pool_config.pool_config(Path("/p"), {}, 1, None, '/it\'s/"here":/a b')
    assert settings(text)["STARTER_JOB_ENVIRONMENT"] == '"PATH=\'/it\'\'s/""here"":/a b\'"'


@pytest.mark.parametrize("path", ["/home/$(HOME)/pool", "/home/a\nb/pool"])
def test_a_path_that_htcondor_would_misread_is_refused(path):
    with pytest.raises(DirectoryError, match="something else"):
        pool_config.check_directory(path)


# Finding HTCondor


def make_prefix(folder: Path, inner: str = "usr") -> Path:
    for name in ("bin", "sbin", "libexec/condor"):
        (folder / inner / name).mkdir(parents=True)
    master = folder / inner / "sbin/condor_master"
    master.write_text("#!/bin/sh\n")
    master.chmod(0o755)
    return folder


def test_an_htcondor_is_found_where_it_was_named_then_remembered_then_on_path(
    tmp_path, monkeypatch
):
    one, two, three = (make_prefix(tmp_path / name) for name in ("one", "two", "three"))
    monkeypatch.setenv("PATH", str(three / "usr/sbin"))
    monkeypatch.delenv(pool_install.VARIABLE, raising=False)
    assert pool_install.find(None, None).master == str(three / "usr/sbin/condor_master")
    assert pool_install.find(None, str(two)).prefix == str(two)
    assert pool_install.find(None, str(tmp_path / "gone")).prefix is None
    monkeypatch.setenv(pool_install.VARIABLE, str(one))
    found = pool_install.find(None, str(two))
    assert found.prefix == str(one)
    assert found.programs == (str(one / "usr/bin"), str(one / "usr/sbin"))
    assert found.places["LIBEXEC"] == str(one / "usr/libexec/condor")
    assert pool_install.find(str(two), None).prefix == str(two)


def test_folders_without_htcondor_are_mistakes(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(pool_install, "_SYSTEM", ())
    monkeypatch.delenv(pool_install.VARIABLE, raising=False)
    with pytest.raises(UsageError, match=r"--htcondor names .* no sbin/condor_master"):
        pool_install.find(str(tmp_path), None)
    with pytest.raises(BackendError, match="there is no HTCondor on this machine"):
        pool_install.find(None, None)
    with pytest.raises(BackendError, match="used last, in '/gone', is gone"):
        pool_install.find(None, "/gone")


def test_an_htcondor_is_asked_where_its_parts_are(tmp_path, monkeypatch):
    prefix = make_prefix(tmp_path / "prefix")
    (prefix / "condor_config").touch()
    ask = prefix / "usr/bin/condor_config_val"
    ask.write_text(f'#!/bin/sh\n[ "$1" = LIB ] && echo {tmp_path} && [ -e "$CONDOR_CONFIG" ]\n')
    ask.chmod(0o755)
    places = pool_install.find(str(prefix), None).places
    assert places["LIB"] == str(tmp_path)
    assert places["SBIN"] == str(prefix / "usr/sbin")


# Turning a process to an HTCondor


def test_a_setup_changes_the_environment_for_a_while(tmp_path, monkeypatch):
    config = tmp_path / "condor_config"
    config.touch()
    monkeypatch.setenv("CONDOR_CONFIG", "/dev/null")
    monkeypatch.setenv("_CONDOR_SCHEDD_HOST", "elsewhere")
    before = dict(os.environ)
    setup = Setup(str(config), ("/opt/condor/bin",), own=True)
    assert not setup.in_use
    with setup.environment():
        assert setup.in_use
        assert os.environ["PATH"] == f"/opt/condor/bin:{before['PATH']}"
        assert "_CONDOR_SCHEDD_HOST" not in os.environ
    assert dict(os.environ) == before
    assert Setup.of_ticket({"htcondor": json.loads(json.dumps(setup.to_ticket()))}) == setup
    assert Setup.of_ticket({"cluster": 1}) == Setup.current()


def test_a_configuration_that_is_gone_is_named(tmp_path):
    with (
        pytest.raises(BackendError, match="gone_config', which the run was submitted with"),
        Setup(str(tmp_path / "gone_config")).environment(),
    ):
        pass


# Which HTCondor a new run takes


@pytest.mark.parametrize(
    ("machine", "running", "own_problem", "taken", "said"),
    [
        ("", True, "", "machine", "schedd"),
        ("silent", True, "", "own", "your own pool, in "),
        ("silent", True, "deaf", None, "is running, but deaf"),
        ("silent", False, "", None, "silent; your own pool is not running, start it with"),
    ],
)
def test_the_order_of_pools(home, monkeypatch, machine, running, own_problem, taken, said):
    condor = pytest.importorskip("htdag.backends.condor.backend")
    own = OwnPool()
    own.path.mkdir()
    own.config.touch()
    monkeypatch.setattr(OwnPool, "is_running", running)
    monkeypatch.setattr(condor, "schedd_name", lambda: "the schedd of this machine")
    monkeypatch.setattr(
        condor, "why_unusable", lambda setup=None: own_problem if setup else machine
    )
    setup, what = condor.find()
    assert said in what
    assert {None: setup is None}.get(taken, setup is not None and setup.own == (taken == "own"))


@pytest.mark.parametrize(
    ("machine", "own", "expected"),
    [
        ((8, 1), (2, 0), (8, 1)),
        ((0, 0), (2, 0), (0, 0)),
        (None, (2, 0), (2, 0)),
        (None, None, (0, 0)),
    ],
)
def test_slots_are_those_of_the_pool_that_is_chosen(home, monkeypatch, machine, own, expected):
    condor = pytest.importorskip("htdag.backends.condor.backend")
    monkeypatch.setattr(OwnPool, "is_running", True)
    monkeypatch.setattr(Setup, "current", lambda: Setup(None, ("/usr/bin",)))
    monkeypatch.setattr(condor.capacity, "ask", lambda setup: own if setup.own else machine)
    assert condor.CondorBackend().slots() == expected
    assert condor.CondorBackend(Setup(None, (), own=True)).slots() == (own or (0, 0))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print('schedd'); print(8, 1)", (8, 1)),
        ("print('schedd'); raise SystemExit('no collector')", (0, 0)),
        ("print('schedd', flush=True); import time; time.sleep(9)", (0, 0)),
        ("raise SystemExit('no schedd')", None),
        ("import time; time.sleep(9)", None),
    ],
)
def test_who_does_not_answer_is_not_waited_for(monkeypatch, code, expected):
    monkeypatch.setattr(capacity, "_COUNT", code)
    monkeypatch.setattr(capacity, "_TIMEOUT", 3.0)
    assert capacity.ask(Setup.current()) == expected


# The commands where no pool runs


@pytest.fixture
def home(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home for a pool, below /var/tmp, on a machine with no other HTCondor."""
    monkeypatch.setenv("CONDOR_CONFIG", "/dev/null")
    return runs_dir


def test_no_pool_is_no_error_but_told_by_the_exit_status(home):
    assert "not running" in command("status", status=1).stdout
    assert json.loads(command("status", "--json", status=1).stdout)["running"] is False
    assert command("stop").stdout == "your own pool is not running\n"
    assert not (home / "pool").exists()


def test_root_is_refused(home, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 0)
    with pytest.raises(BackendError, match="start the pool as an ordinary user"):
        OwnPool(home / "pool").start()
    assert not (home / "pool").exists()


def test_a_pool_below_tmp_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", "/tmp/somewhere")
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert "may clear at any time" in command("start", status=2).stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--memory", "much"], "'much' is not a size"),
        (["--memory", "0"], "is not a size"),
        (["--cpus", "0"], "0 is not in the range"),
        (["--htcondor", "/nowhere"], "no sbin/condor_master in it"),
    ],
)
def test_mistakes_in_the_options(home, words, said, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: os.stat(home).st_uid)
    assert said in command("start", *words, status=2).stderr


@pytest.mark.parametrize(
    ("text", "amount"), [("512MB", 512), ("2GB", 2048), ("1.5g", 1536), ("300", 300)]
)
def test_sizes_of_memory(text, amount):
    from htdag.cli.pool import _Memory

    assert _Memory().convert(text, None, None) == amount


def test_a_master_that_ends_at_once_is_told_with_its_words(home, monkeypatch, tmp_path):
    prefix = make_prefix(tmp_path / "prefix")
    master = prefix / "usr/sbin/condor_master"
    master.write_text("#!/bin/sh\necho 'the config is odd' >&2\nexit 4\n")
    monkeypatch.setattr(os, "getuid", lambda: os.stat(home).st_uid)
    error = command("start", "--htcondor", str(prefix), status=1).stderr
    assert "condor_master did not start (status 4)" in error
    assert "the config is odd" in error


def test_a_pool_that_never_answers_is_told_with_the_end_of_its_log(home, monkeypatch, tmp_path):
    prefix = make_prefix(tmp_path / "prefix")
    master = prefix / "usr/sbin/condor_master"
    master.write_text(f"#!/bin/sh\necho 'no room' > '{home}/pool/log/MasterLog'\n")
    monkeypatch.setattr(os, "getuid", lambda: os.stat(home).st_uid)
    monkeypatch.setattr(own_pool, "_START_TIMEOUT", 0.6)
    error = command("start", "--htcondor", str(prefix), status=1).stderr
    assert "its condor_master ended" in error
    assert "MasterLog ends with:\n  no room" in error


def test_a_number_in_the_file_is_not_enough_to_be_our_master(home):
    own = OwnPool()
    (own.path / "lock").mkdir(parents=True)
    (own.path / "lock/InstanceLock").touch()
    (own.path / "master.pid").write_text(str(os.getpid()))
    assert not own.is_running
    assert own.stop() is False


def test_stop_asks_where_jobs_are_in_the_queue(home, monkeypatch):
    busy = PoolState(True, True, "/p", "/p/c", pid=1, running_jobs=2, runs=1)
    stopped = []
    monkeypatch.setattr(OwnPool, "state", lambda self: busy)
    monkeypatch.setattr(OwnPool, "stop", lambda self, notify: stopped.append(1))
    error = command("stop", status=2).stderr
    assert "its queue holds 1 run and 2 jobs" in error
    assert "htdag pool stop --yes" in error
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True)
    assert command("stop", status=1, input="n\n").stderr.endswith("your own pool keeps running\n")
    assert stopped == []
    assert command("stop", input="y\n").stdout == "your own pool is stopped\n"
    assert stopped == [1]
    assert command("stop", "--yes").stdout == "your own pool is stopped\n"
    assert stopped == [1, 1]


def test_the_screen_of_a_pool_that_does_not_answer(capsys):
    from htdag.show.pool import print_pool

    print_pool(PoolState(True, False, "/p", "/p/c", pid=1, problem="its schedd is silent"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "your own pool: does not answer"
    assert lines[1].split(maxsplit=1) == ["problem", "its schedd is silent"]


# A real one

SCRIPT = """\
import os, sys, time
import htdag

release = sys.argv[1]

def patient(x):
    while not os.path.exists(release):
        time.sleep(0.05)
    return x + 1

htdag.Pipeline(htdag.map(patient, [1, 2, 3], chunk_size=3)).submit("patient")
"""


def htdag_command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *words], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.pool
def test_a_pool_of_ones_own(home, tmp_path, monkeypatch):
    """Two starts at once, a script, a stop in the middle of its run, and on to its end."""
    found = find_htcondor()
    if found.prefix is not None:
        monkeypatch.setenv(pool_install.VARIABLE, str(found.prefix))
    own = OwnPool()
    release = tmp_path / "release"
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    try:
        starts = [
            subprocess.Popen(
                [*PROGRAM, "pool", "start", "--cpus", "2", "--memory", "1GB"],
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        said = sorted(start.communicate(timeout=200)[0] for start in starts)
        assert [start.returncode for start in starts] == [0, 0]
        assert said[0].startswith("your own pool is already running: 2 CPUs, 1 GB")
        assert said[1].startswith("your own pool is running: 2 CPUs, 1 GB")
        assert stat.S_IMODE(own.path.stat().st_mode) == 0o700
        assert os.getsid(own.state().pid) != os.getsid(0)
        assert {address(one) for one in listening(own)} == {"127.0.0.1"}

        monkeypatch.delenv(pool_install.VARIABLE, raising=False)
        command_line = [sys.executable, str(script), str(release)]
        done = subprocess.run(command_line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert f"running on HTCondor: your own pool, in '{own.path}'" in done.stderr
        run = htdag.load("patient")
        wait_until(lambda: run.status()["patient"].running == 3, 200, "the job to run")

        page = Path(__file__).parents[3] / "docs/pool.md"
        shown = page.read_text(encoding="utf-8").partition("$ htdag pool status\n")[2]
        printed = command("status").stdout
        assert "queue     1 run; jobs: 1 running, 0 waiting, 0 on hold\n" in printed
        assert [line[:10] for line in printed.splitlines()] == [
            line[:10] for line in shown.partition("```")[0].splitlines()
        ]
        assert htdag_command("pool", "stop").returncode == 2
        assert own.is_running
        assert command("stop", "--yes").stdout == "your own pool is stopped\n"
        assert run.state is htdag.RunState.HELD
        with pytest.raises(RunHeld, match=HOW_TO_START):
            run.wait(5, progress=False)
        with pytest.raises(BackendError, match=HOW_TO_START):
            run.remove()
        with pytest.raises(RunActive, match=HOW_TO_START):
            run.resume()
        with pytest.raises(RunActive, match=HOW_TO_START):
            run.retag("other")
        assert "your own pool is not running, start it with" in htdag.backends.choose("auto")[1]

        # It remembers its HTCondor.
        assert own.start(cpus=2) is True
        assert own.start() is False
        with pytest.raises(UsageError, match="running with --cpus 2"):
            own.start(cpus=1)
        release.touch()
        assert htdag_command("wait", "patient").returncode == 0
        assert run.result() == [2, 3, 4]
    finally:
        own.stop()
    assert not own.is_running
    assert not listening(own)


@pytest.mark.pool
def test_daemons_that_outlived_their_master_are_ended(home, monkeypatch):
    found = find_htcondor()
    prefix = None if found.prefix is None else str(found.prefix)
    own = OwnPool()
    try:
        assert own.start(prefix, cpus=1)
        first = own.state().pid
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: not own.is_running, 200, "the master to be gone")
        assert listening(own), "its daemons go on"
        assert own.start(cpus=1)
        assert own.state().pid != first
        schedds = [one for one in daemons(own) if one.name() == "condor_schedd"]
        assert len(schedds) == 1
    finally:
        own.stop()
        end_orphans(str(own.config))


def daemons(own: OwnPool) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("CONDOR_CONFIG") == str(own.config):
                found.append(process)
        except psutil.Error:
            continue
    return found


def listening(own: OwnPool) -> list[object]:
    found = []
    for process in daemons(own):
        connections = getattr(process, "net_connections", None) or process.connections
        try:
            found += [one for one in connections("inet") if one.status == psutil.CONN_LISTEN]
        except psutil.Error:
            continue
    return found


def address(connection: object) -> str:
    return str(connection.laddr.ip)
