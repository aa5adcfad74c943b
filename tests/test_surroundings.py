"""What functions find around them: the same for each call, and the same on both backends."""

from __future__ import annotations

import contextlib
import decimal
import gc
import io
import locale
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

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
