"""What functions find around them: the same for each call, and the same on both backends."""

from __future__ import annotations

import contextlib
import decimal
import gc
import io
import locale
import logging
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import htdag


def seen():
    """All that a function can see of what others could have changed."""
    mask = os.umask(0o77)
    os.umask(mask)
    variables = {name: value for name, value in os.environ.items() if "HTDAG" not in name}
    streams = [
        [getattr(sys, name) is getattr(sys, name + "_", None) for name in ("stdout", "stderr")],
        [sys.stdout.closed, sys.stderr.closed],
        [os.fstat(number).st_ino for number in (0, 1, 2)],
    ]
    return {
        "directory": (os.getcwd(), sorted(os.listdir())),
        "variables": variables,
        "zone": time.strftime("%Z", time.localtime(0)),
        "streams": streams,
        "signals": [str(signal.getsignal(number)) for number in range(1, 32)],
        "timers": signal.getitimer(signal.ITIMER_REAL),
        "filters": str(warnings.filters),
        "decimal": str(decimal.Decimal(1) / 7),
        "numpy": np.geterr(),
        "limit": sys.getrecursionlimit(),
        "mask": mask,
        "collects": (gc.isenabled(), gc.get_threshold()),
        "locale": locale.setlocale(locale.LC_ALL),
        "timeout": socket.getdefaulttimeout(),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "arguments": len(sys.argv),
        "hook": sys.excepthook is sys.__excepthook__,
        "trace": sys.gettrace() is None,
    }


def into_a_folder_that_goes():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)


def remove_the_directory():
    shutil.rmtree(os.getcwd())


def exchange_the_directory():
    path = Path.cwd()
    os.rename(path, f"{path}.moved")
    path.mkdir()


def close_the_output():
    os.close(1)
    os.close(2)


def wrap_the_output():
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer)
    sys.stdout = io.StringIO()  # now the wrapper is gone, and has closed the file


def send_the_output_elsewhere():
    with open(os.devnull, "w") as file:
        os.dup2(file.fileno(), 1)


def another_zone():
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()


CHANGES = [
    lambda: None,
    lambda: os.chdir("/"),
    into_a_folder_that_goes,
    remove_the_directory,
    exchange_the_directory,
    lambda: os.environ.update(MORE="1", PATH="/nowhere"),
    lambda: os.environ.pop("PATH", None),
    lambda: os.environ.clear(),
    another_zone,
    lambda: setattr(sys, "stdout", None),
    lambda: setattr(sys, "stderr", io.StringIO()),
    lambda: sys.stdout.close(),
    close_the_output,
    wrap_the_output,
    send_the_output_elsewhere,
    lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    lambda: signal.signal(signal.SIGALRM, lambda *_: 1 / 0),
    lambda: signal.alarm(1),
    lambda: signal.setitimer(signal.ITIMER_REAL, 0.5),
    lambda: warnings.simplefilter("error"),
    lambda: warnings.resetwarnings(),
    lambda: setattr(decimal.getcontext(), "prec", 5),
    lambda: decimal.setcontext(decimal.Context(prec=3)),
    lambda: np.seterr(all="raise"),
    lambda: sys.setrecursionlimit(5000),
    lambda: os.umask(0o000),
    lambda: gc.disable(),
    lambda: locale.setlocale(locale.LC_ALL, "C"),
    lambda: socket.setdefaulttimeout(3),
    lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(7)[1])),
    lambda: sys.argv.append("more"),
    lambda: setattr(sys, "excepthook", print),
    lambda: sys.settrace(lambda *_: None),
    lambda: sys.exit("bye"),
    lambda: 1 // 0,
    lambda: None,
]


def change(number):
    print("printed by", number)  # noqa: T201
    CHANGES[number]()
    return number


def look(number):
    return seen()


def change_within(number):
    """A generator that gives its values where it has changed something, and puts that back."""
    with tempfile.TemporaryDirectory() as folder, decimal.localcontext() as context:
        context.prec = 4
        here = os.getcwd()
        os.chdir(folder)
        for part in range(3):
            yield str(decimal.Decimal(1) / 7), os.getcwd() == folder, part
        os.chdir(here)


def look_beside(value):
    os.chdir("/")
    return (*value, len(str(decimal.Decimal(1) / 7)))


def test_no_call_sees_what_another_has_changed():
    numbers = htdag.source(range(len(CHANGES)), chunk_size=1000)
    both = numbers.map(change).map(look)
    run = htdag.Pipeline(both, name="both").submit(on="local")
    with contextlib.suppress(htdag.RunFailed):
        run.wait(progress=False)
    errors = [(error.key, error.type) for error in run.errors()]
    last = len(CHANGES) - 1
    assert errors == [(str(last - 2), "SystemExit"), (str(last - 1), "ZeroDivisionError")]
    values = {int(item.key): item.value for item in run.items(errors="skip")}
    assert sorted(values) == [*range(last - 2), last]
    for number, value in values.items():
        differ = [name for name in value if value[name] != values[0][name]]
        assert not differ, (number, CHANGES[number], [(value[n], values[0][n]) for n in differ])
    printed = [run.stdout("look", str(number)) for number in values]
    assert printed == [f"printed by {number}\n" for number in values]


def test_a_generator_keeps_its_surroundings_and_its_followers_have_theirs():
    stage = htdag.source(range(2), chunk_size=2).flat_map(change_within).map(look_beside)
    expected = [("0.1429", True, part, 30) for part in range(3)] * 2
    assert htdag.Pipeline(stage).run(on="local") == expected


# ---------------------------------------------------------------------------------------------
# Processes of a function's own
# ---------------------------------------------------------------------------------------------


def child_ends(x):
    child = os.fork()
    if child == 0:
        sys.exit(3)
    return x, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def child_returns(x):
    print("before")  # noqa: T201
    child = os.fork()
    if child == 0:
        print("in the child")  # noqa: T201
        return "child"
    return x, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def child_fails(x):
    child = os.fork()
    if child == 0:
        raise ValueError("in the child")
    return x, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def child_outlives(x):
    child = os.fork()
    if child == 0:
        time.sleep(0.5)
        return "late"
    return x, 0


def children_generate(x):
    if os.fork() == 0:
        yield "child"
    else:
        os.wait()
        yield x, 0


def add_in_child(a, b):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return [*a, *b]


FORKS = {child_ends: 3, child_returns: 0, child_fails: 1, child_outlives: 0}


def test_a_forked_child_gives_no_results_and_ends_as_it_would():
    items = htdag.source(range(3), chunk_size=3)
    stages = [items.map(function) for function in FORKS]
    stages.append(items.flat_map(children_generate))
    stages.append(items.map(lambda x: [x], name="lists").reduce(add_in_child))
    run = htdag.Pipeline(*stages, name="forks").submit(on="local").wait(progress=False)
    for function, status in FORKS.items():
        assert run.result(function.__name__) == [(x, status) for x in range(3)]
    assert run.result("children_generate") == [(x, 0) for x in range(3)]
    assert run.result("add_in_child") == [0, 1, 2]
    assert not run.errors()


LINES = None


def log(x):
    global LINES
    if LINES is None:
        LINES = open(x[1], "w")  # noqa: SIM115  (left open, as scripts do)
    LINES.write(f"{x[0]}\n")
    return x[0]


def test_what_open_files_hold_back_is_written(tmp_path):
    path = tmp_path / "log"
    stage = htdag.source([(n, str(path)) for n in range(3)], chunk_size=3).map(log)
    htdag.Pipeline(stage).run(on="local")
    assert path.read_text() == "0\n1\n2\n"


# ---------------------------------------------------------------------------------------------
# What of the script's process is there, on both backends
# ---------------------------------------------------------------------------------------------

ODD = 'it\'s "quoted" $HOME ; a=b\n\ttwo lines, ünïcode 漢字 \\ 100%'
LOGGER = logging.getLogger("of this test")


def deep(number):
    return number and 1 + deep(number - 1)


def found(item):
    LOGGER.info("logged at %s", item)
    shown = subprocess.run(["printenv", "ODD"], capture_output=True, check=True).stdout.decode()
    mask = os.umask(0o77)
    os.umask(mask)
    return {
        "given": os.environ["ODD"] == shown.removesuffix("\n") == ODD,
        "empty": os.environ["EMPTY"],
        "default of the pipeline": os.environ["EVERYWHERE"],
        "named in the code": os.environ["OF_THE_SHELL"],
        "set by the script": os.environ.get("SET_" + "BY_THE_SCRIPT"),
        "threads": [os.environ[n] for n in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")],
        "threads, given": os.environ["MKL_NUM_THREADS"],
        "backend": os.environ["MPLBACKEND"],
        "zone": (os.environ["TZ"], time.strftime("%H", time.localtime(0))),
        "language": os.environ["LANG"],
        "there": [bool(os.environ.get(name)) for name in ("PATH", "HOME", "PWD")],
        "directory": os.environ["PWD"] == os.getcwd(),
        "decimal": str(decimal.Decimal(1) / 7),
        "numpy": np_geterr(),
        "recursion": deep(3000),
        "mask": oct(mask),
        "cpus": htdag.current().cpus,
    }


def np_geterr():
    try:
        import numpy
    except ImportError:
        return None  # the Python of an execute point need not have it
    return numpy.geterr()["over"]


EXPECTED = {
    "given": True,
    "empty": "",
    "default of the pipeline": "yes",
    "named in the code": "from the shell",
    "set by the script": "by hand",
    "threads": ["2", "2"],
    "threads, given": "7",
    "backend": "Agg",
    "zone": ("Asia/Tokyo", "09"),
    "language": "C.UTF-8",
    "there": [True] * 3,
    "directory": True,
    "decimal": "0.142857",
    "recursion": 3000,
    "mask": "0o37",
    "cpus": 2,
}


@pytest.fixture
def script(monkeypatch):
    """The state that a script has set, and a pipeline that shows what of it is there in jobs."""
    for name, value in {
        "OF_THE_SHELL": "from the shell",
        "SET_BY_THE_SCRIPT": "by hand",
        "LANG": "C.UTF-8",
        "TZ": "Asia/Tokyo",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    mask, limit = os.umask(0o037), sys.getrecursionlimit()
    sys.setrecursionlimit(4000)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    environ = {"ODD": ODD, "EMPTY": "", "MKL_NUM_THREADS": "7"}
    stage = htdag.source([1, 2], chunk_size=2).map(found, environ=environ, request_cpus=2)
    flow = htdag.Pipeline(stage, name="state", environ={"EVERYWHERE": "yes", "EMPTY": "no"})
    with decimal.localcontext() as context, np.errstate(over="ignore"):
        context.prec = 6
        yield flow
    root.removeHandler(handler)
    root.setLevel(before)
    sys.setrecursionlimit(limit)
    os.umask(mask)


def check_state(run):
    for number, value in enumerate(run.wait(timeout=200).result()):
        assert value.pop("numpy") in ("ignore", None)
        assert value == EXPECTED
        assert run.stderr("found", str(number)) == f"of this test: logged at {number + 1}\n"


def test_the_state_of_the_script_on_this_machine(script):
    check_state(script.submit(on="local"))


@pytest.mark.pool
@pytest.mark.filterwarnings("ignore::htdag.environments.EnvironmentWarning")
@pytest.mark.parametrize("point", ["blind", "seeing"])
def test_the_state_of_the_script_on_a_pool(pool, runs_dir, point, script):
    with pool.only(point):
        check_state(script.submit(on="condor"))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([("A", "b")], "takes a dict"),
        ({"A": 3}, "the value of A is a int; give a string, such as '3'"),
        ({"A B": "c"}, "'A B' is not the name of a variable"),
        ({"A": "b\0c"}, "NUL"),
        ({"HTDAG_ITEM": "1"}, "HTDAG_ITEM is reserved"),
        ({"_CONDOR_SLOT": "1"}, "HTCondor sets _CONDOR_SLOT itself"),
        ({"CUDA_VISIBLE_DEVICES": "1"}, "HTCondor sets CUDA_VISIBLE_DEVICES itself"),
        ({"PYTHONHASHSEED": "1"}, "ignores PYTHONHASHSEED"),
    ],
)
def test_variables_that_cannot_be_given(value, words):
    with pytest.raises(htdag.errors.OptionError, match=words):
        htdag.source([1]).map(abs, environ=value)


@pytest.mark.parametrize("command", ["environment", "env", "getenv"])
def test_commands_for_variables_lead_to_the_option(command):
    with pytest.raises(htdag.errors.OptionError, match=r"environ=\{'NAME': 'value'\}"):
        htdag.source([1]).map(abs, submit={command: "A=b"})


def environ_of(*changes):
    stage = htdag.source([1]).map(abs, environ=dict(changes), name="abs")
    return htdag.Pipeline(stage, name="again")


def test_variables_count_for_what_can_be_reused(tmp_path, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))
    environ_of(("A", "1")).submit("tag", on="local").wait(progress=False)
    assert "changed: environ" not in environ_of(("A", "1")).explain(tag="tag")
    assert "changed: environ" in environ_of(("A", "2")).explain(tag="tag")


# ---------------------------------------------------------------------------------------------
# A script that has little around it
# ---------------------------------------------------------------------------------------------


def test_a_script_without_streams_children_or_folder(tmp_path):
    script, gone = tmp_path / "script.py", tmp_path / "gone"
    script.write_text(
        "import pathlib, htdag\n"
        "flow = htdag.Pipeline(htdag.source([1, 2]).map(lambda x: x + 1), name='bare')\n"
        f"pathlib.Path({str(tmp_path / 'out')!r}).write_text(repr(flow.run(on='local')))\n"
    )
    gone.mkdir()

    def leave_little():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.chdir(gone)
        gone.rmdir()
        for number in range(3):
            os.close(number)

    environment = os.environ | {"HTDAG_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, str(script)],
        env=environment,
        preexec_fn=leave_little,
        check=False,
    )
    assert done.returncode == 0
    assert (tmp_path / "out").read_text() == "[2, 3]"


def test_a_user_without_a_home(tmp_path, monkeypatch):
    def nobody(user):
        raise KeyError(user)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    for name in ("HOME", "HTDAG_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "HTDAG_SETTINGS"):
        monkeypatch.delenv(name, raising=False)
    stage = htdag.source([1]).map(abs)
    with pytest.raises(htdag.errors.DirectoryError, match=r"has no home directory.*HTDAG_HOME"):
        htdag.Pipeline(stage).submit(on="local")
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))
    assert htdag.Pipeline(stage).run(on="local") == [1]
