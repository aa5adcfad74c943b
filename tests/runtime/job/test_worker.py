"""One job: whatever the functions do to it, it leaves an outcome that tells what happened."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import reference

import htdag
from htdag.runtime import layout
from htdag.runtime.data import itemfile, recordfile
from htdag.runtime.layout import NodeFiles

NODE = "f"


def compile_map(run, function, items=range(6), **options):
    """A run directory of one node, "f", with one job unless `chunk_size` says otherwise."""
    options.setdefault("chunk_size", 1000)
    stage = htdag.source(items).map(function, name=NODE, **options)
    return reference.compiled(htdag.Pipeline(stage), run)


class Outcome:
    """What a job left behind."""

    def __init__(self, run, node=NODE, chunk=0, attempt=1):
        job = NodeFiles(run, node).attempt(chunk, attempt)
        self.lines = list(recordfile.lines(job.record))
        self.start = self.lines[0]["start"]
        texts = {}
        self.errors = [line["error"] for line in self.lines if "error" in line]
        for error in self.errors:
            error["traceback"] = recordfile.whole_traceback(error["traceback"], texts)
        self.streams = [line["streams"] for line in self.lines if "streams" in line]
        self.end = self.lines[-1]["end"]
        program = json.loads(Path(job.node.program).read_text())
        stages = [output["stage"] for output in program["outputs"]]
        self.paths = [Path(path) for path in job.outputs(stages)]

    def values(self, which=0):
        return [pickle.loads(frame.payload) for frame in itemfile.read(str(self.paths[which]))]

    @property
    def finished(self):
        ranges = itemfile.finished(map(str, self.paths))
        return [n for first, last in ranges for n in range(first, last + 1)]


def check_counts(outcome):
    """What every record must say truly, whatever happened."""
    end = outcome.end
    assert end["done"] == len(outcome.finished)
    assert end["remaining"] == end["items"] - end["done"]
    assert end["sizes"] == [path.stat().st_size for path in outcome.paths]
    assert end["values"] == [itemfile.count(str(path)) for path in outcome.paths]


def do(run, **options):
    assert reference.work(run, NODE, **options) == 0
    outcome = Outcome(run)
    check_counts(outcome)
    return outcome


@pytest.fixture
def run(tmp_path):
    return tmp_path / "läuft 'n run"


def test_a_good_chunk(run):
    outcome = do(compile_map(run, lambda x: x * x))
    assert outcome.values() == [0, 1, 4, 9, 16, 25]
    assert outcome.errors == []
    assert outcome.end["items"] == outcome.end["done"] == 6
    assert outcome.end["failed"] == outcome.end["remaining"] == 0


def test_the_record_tells_where_and_with_what_it_ran(run):
    outcome = do(compile_map(run, abs))
    assert outcome.start["node"] == NODE
    assert (outcome.start["chunk"], outcome.start["attempt"]) == ("0000", 1)
    assert outcome.start["host"] == os.uname().nodename
    assert outcome.start["python"] == f"{sys.version.split()[0]} {sys.executable}"
    assert outcome.end["time"] >= outcome.start["time"]
    assert outcome.end["seconds"] >= 0
    assert outcome.end["peak_kb"] > 0


def test_the_record_is_for_its_owner_and_holds_no_values(run):
    reference.work(compile_map(run, lambda x: x, ["a secret value"]), NODE)
    path = Path(NodeFiles(run, NODE).attempt(0, 1).record)
    assert path.stat().st_mode & 0o777 == 0o600
    assert "secret" not in path.read_text()


def test_an_exception_costs_one_item(run):
    outcome = do(compile_map(run, lambda x: 1 // (x - 2)))
    assert outcome.values() == [-1, -1, 1, 0, 0]
    assert outcome.finished == [0, 1, 3, 4, 5]
    (error,) = outcome.errors
    assert (error["stage"], error["key"], error["sequence"]) == (NODE, "2", 2)
    assert error["type"] == "ZeroDivisionError"
    assert outcome.end["failed"] == outcome.end["remaining"] == 1


def test_a_traceback_begins_with_the_users_own_frame(run):
    def broken(x):
        return inner(x)

    def inner(x):
        raise LookupError("nothing here")

    (error,) = do(compile_map(run, broken, [1])).errors
    lines = error["traceback"].splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert Path(__file__).name in lines[1]
    assert "in broken" in lines[1]
    assert 'raise LookupError("nothing here")' in error["traceback"]
    assert "htdag/runtime" not in error["traceback"]


def test_an_exception_of_the_users_own_class_is_named(run):
    class Unlucky(Exception):
        pass

    def broken(x):
        raise Unlucky("13")

    (error,) = do(compile_map(run, broken, [1])).errors
    assert error["type"].endswith("Unlucky")
    assert error["message"] == "13"


def test_an_exception_that_cannot_be_printed_costs_one_item(run):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    def broken(x):
        if x == 1:
            raise Mute
        return x

    outcome = do(compile_map(run, broken, [0, 1, 2]))
    assert outcome.values() == [0, 2]
    assert outcome.errors[0]["sequence"] == 1


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (KeyboardInterrupt, "KeyboardInterrupt"),
        (MemoryError, "MemoryError"),
        (RecursionError, "RecursionError"),
        (GeneratorExit, "GeneratorExit"),
        (StopIteration, "StopIteration"),
    ],
)
def test_exceptions_of_all_kinds_cost_one_item(run, error, name):
    def broken(x):
        if x == 1:
            raise error("by hand")
        return x

    outcome = do(compile_map(run, broken, [0, 1, 2]))
    assert outcome.values() == [0, 2]
    assert [found["type"] for found in outcome.errors] == [name]


@pytest.mark.parametrize("code", [0, 3, None, "a text"])
def test_sys_exit_costs_one_item(run, code):
    def leave(x):
        if x == 1:
            sys.exit(code)
        return x

    outcome = do(compile_map(run, leave, [0, 1, 2]))
    assert outcome.values() == [0, 2]
    (error,) = outcome.errors
    assert error["type"] == "SystemExit"
    assert error["message"] == f"the function called sys.exit({code!r})"


def test_os_exit_costs_one_item(run):
    def leave(x):
        if x in (1, 4):
            os._exit(x % 2)
        return x

    outcome = do(compile_map(run, leave))
    assert outcome.values() == [0, 2, 3, 5]
    assert [(e["key"], e["type"]) for e in outcome.errors] == [
        ("1", "ProcessDied"),
        ("4", "ProcessDied"),
    ]
    assert "exit status 1, as os._exit does" in outcome.errors[0]["message"]
    assert outcome.end["failed"] == outcome.end["remaining"] == 2


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_a_signal_costs_one_item(run, number):
    number = int(number)

    def crash(x):
        if x == 2:
            os.kill(os.getpid(), number)
        return x

    outcome = do(compile_map(run, crash))
    assert outcome.values() == [0, 1, 3, 4, 5]
    (error,) = outcome.errors
    assert (error["stage"], error["key"], error["type"]) == (NODE, "2", "ProcessDied")
    assert f"signal {number} ({signal.Signals(number).name})" in error["message"]


def test_every_item_may_kill_its_process(run):
    outcome = do(compile_map(run, lambda x: os._exit(1)))
    assert outcome.values() == []
    assert [error["sequence"] for error in outcome.errors] == list(range(6))
    assert outcome.end["failed"] == 6


def test_items_that_failed_are_not_tried_again_after_a_crash(run, tmp_path):
    calls = tmp_path / "calls"

    def picky(x):
        with open(calls, "a") as file:
            file.write(f"{x}\n")
        if x == 1:
            raise ValueError(x)
        if x == 3:
            os._exit(1)
        return x

    outcome = do(compile_map(run, picky))
    assert calls.read_text().split() == ["0", "1", "2", "3", "4", "5"]
    assert outcome.values() == [0, 2, 4, 5]
    assert outcome.end["failed"] == 2


def test_a_crash_in_fused_stages_names_them_all(run):
    stage = htdag.source([1]).map(abs, name=NODE).map(lambda x: os._exit(1), name="g")
    reference.compiled(htdag.Pipeline(stage), run)
    assert reference.work(run, "f.g") == 0
    (error,) = Outcome(run, "f.g").errors
    assert "one of the fused stages f, g" in error["message"]


def test_a_crash_keeps_what_was_combined(run):
    def crash(x):
        if x == 50:
            os._exit(1)
        return x

    total = htdag.source(range(100), chunk_size=100).map(crash, name=NODE).reduce(int.__add__)
    reference.compiled(htdag.Pipeline(total, total.inputs[0]), run)
    assert reference.work(run, NODE) == 0
    outcome = Outcome(run)
    check_counts(outcome)
    assert outcome.finished == [n for n in range(100) if n != 50]
    assert sum(outcome.values(0)) == sum(range(100)) - 50
    assert sum(outcome.values(1)) == sum(range(100)) - 50


@pytest.mark.parametrize("crash_at", [1, 37, 199])
def test_a_crash_counts_no_item_twice_in_any_of_several_reduces(run, crash_at):
    def crash(x):
        if x == crash_at:
            os._exit(1)
        return x

    made = htdag.source(range(200), chunk_size=200).map(crash, name=NODE)
    reduces = [made.reduce(function, name=name) for name, function in REDUCES.items()]
    reference.compiled(htdag.Pipeline(*reduces), run)
    assert reference.work(run, NODE) == 0
    outcome = Outcome(run)
    check_counts(outcome)
    for number, path in enumerate(outcome.paths):
        covered = itemfile.finished([str(path)])
        want = sum(n for first, last in covered for n in range(first, last + 1))
        assert sum(outcome.values(number)) == want, path.name
        extents = sorted((e.first, e.last) for e in itemfile.index(str(path)))
        assert all(a[1] < b[0] for a, b in itertools.pairwise(extents)), path.name


def _slow_to_add(a, b):
    return sum([a, b, *[0] * 2000])


REDUCES = {"quick": int.__add__, "slow": _slow_to_add, "third": lambda a, b: a + b}


def test_a_result_that_cannot_be_pickled_costs_one_item(run):
    outcome = do(compile_map(run, lambda x: (y for y in "ab") if x == 1 else x, [0, 1, 2]))
    assert outcome.values() == [0, 2]
    (error,) = outcome.errors
    assert (error["type"], error["key"], error["stage"]) == ("StageError", "1", NODE)
    assert error["message"].startswith("the result, a generator, cannot be pickled: ")
    assert error["traceback"] == ""


def test_classes_of_results_need_not_be_importable(run):
    class Point:
        def __init__(self, x):
            self.x = x

    outcome = do(compile_map(run, Point, [1, 2]))
    assert [point.x for point in outcome.values()] == [1, 2]


class _Missing:
    """Unpickles by importing a module that no job has."""

    def __reduce__(self):
        return __import__, ("a_module_of_another_machine",)


def test_an_import_that_fails_in_the_function_costs_the_item(run):
    def needy(x):
        if x == 1:
            import a_module_of_another_machine  # noqa: F401
        return x

    outcome = do(compile_map(run, needy, [0, 1]))
    assert outcome.values() == [0]
    (error,) = outcome.errors
    assert error["type"] == "ModuleNotFoundError"
    assert f"{sys.executable} on {os.uname().nodename} does not have it" in error["message"]


def test_functions_that_cannot_be_loaded_fail_the_job_and_leave_all_items(run):
    missing = _Missing()
    outcome = do(compile_map(run, lambda x: (x, missing)))
    (error,) = outcome.errors
    assert error["key"] is None
    assert error["stage"] == NODE
    assert error["type"] == "ModuleNotFoundError"
    assert "a_module_of_another_machine" in error["message"]
    assert outcome.end["items"] == outcome.end["remaining"] == 6
    assert outcome.end["failed"] >= 1
    assert outcome.values() == []


def test_an_item_that_cannot_be_loaded_costs_itself(run):
    outcome = do(compile_map(run, abs, [1, _Missing(), 3]))
    assert outcome.values() == [1, 3]
    assert outcome.errors[0]["type"] == "ModuleNotFoundError"
    assert outcome.errors[0]["key"] == "1"


def test_damaged_input_leaves_its_items_and_says_so(run):
    compile_map(run, abs)
    path = Path(NodeFiles(run, NODE).source_items(0))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert reference.work(run, NODE) == 0
    outcome = Outcome(run)
    assert outcome.end["remaining"] != 0
    assert outcome.end["failed"] >= 1
    assert outcome.errors[-1]["type"].endswith("DamagedFile")


def test_missing_input_leaves_its_items_and_says_so(run):
    compile_map(run, abs)
    Path(NodeFiles(run, NODE).source_items(0)).unlink()
    assert reference.work(run, NODE) == 0
    outcome = Outcome(run)
    assert outcome.end["remaining"] != 0
    assert outcome.errors[-1]["type"].endswith("MissingFile")


def test_on_error_stop_ends_the_job_with_a_status(run):
    compile_map(run, lambda x: 1 // x, [1, 0], on_error="stop")
    assert reference.work(run, NODE) == 1
    assert Outcome(run).values() == [1]


def test_on_error_stop_is_silent_where_nothing_fails(run):
    compile_map(run, abs, [1, 0], on_error="stop")
    assert reference.work(run, NODE) == 0


def test_only_what_is_left_is_done(run):
    compile_map(run, lambda x: x)
    description = Path(NodeFiles(run, NODE).attempt(0, 1).description)
    content = json.loads(description.read_text())
    description.write_text(json.dumps({**content, "todo": [[1, 2], [5, 5]]}))
    assert reference.work(run, NODE) == 0
    outcome = Outcome(run)
    assert outcome.values() == [1, 2, 5]
    assert (outcome.end["items"], outcome.end["done"], outcome.end["remaining"]) == (6, 3, 0)


def test_an_attempt_begins_its_files_anew(run):
    compile_map(run, abs)
    first = do(run).values()
    assert do(run).values() == first


def test_each_item_knows_what_it_printed(run):
    def talk(x):
        if x != 1:
            sys.stdout.write(f"out {x}\n")
            os.write(2, b"err %d\n" % x)

    outcome = do(compile_map(run, talk, [0, 1, 2]))
    spans = {str(entry["sequence"]): entry for entry in outcome.streams}
    assert set(spans) == {"0", "2"}
    job = NodeFiles(run, NODE).attempt(0, 1)
    for which, path in (("out", job.stdout), ("err", job.stderr)):
        text = Path(path).read_bytes()
        for key, entry in spans.items():
            start, end = entry[which]
            assert text[start:end] == f"{which} {key}\n".encode()


def test_what_an_item_printed_before_it_died_is_its_own(run):
    def die(x):
        sys.stdout.write(f"before {x}\n")
        sys.stdout.flush()
        if x == 1:
            os._exit(1)

    outcome = do(compile_map(run, die, [0, 1, 2]))
    text = Path(NodeFiles(run, NODE).attempt(0, 1).stdout).read_bytes()
    printed = {str(e["sequence"]): text[slice(*e["out"])].decode() for e in outcome.streams}
    assert printed == {key: f"before {key}\n" for key in "012"}


def test_a_function_that_reads_stdin_gets_its_end(run):
    assert do(compile_map(run, lambda x: os.read(0, 10), [1])).values() == [b""]


# A reduce that combines all in one job


def reduce_run(run, function, items=range(4), **options):
    stage = htdag.source(items).reduce(function, name=NODE, associative=False, **options)
    return reference.compiled(htdag.Pipeline(stage), run)


def reduce_outcome(run):
    assert reference.work(run, NODE) == 0
    return Outcome(run)


def test_a_reduce_gives_one_value(run):
    outcome = reduce_outcome(reduce_run(run, lambda a, b: f"({a}{b})"))
    assert outcome.values() == ["(((01)2)3)"]
    assert outcome.end["remaining"] == 0


def test_a_reduce_begins_with_its_initial_value(run):
    outcome = reduce_outcome(reduce_run(run, lambda a, b: f"({a}{b})", initial="-"))
    assert outcome.values() == ["((((-0)1)2)3)"]


def test_a_reduce_may_begin_with_none(run):
    outcome = reduce_outcome(reduce_run(run, lambda a, b: [a, b], [1], initial=None))
    assert outcome.values() == [[None, 1]]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda a, b: a / 0, "ZeroDivisionError"),
        (lambda a, b: sys.exit("enough"), "SystemExit"),
        (lambda a, b: os._exit(1), "ProcessDied"),
        (lambda a, b: os.kill(os.getpid(), signal.SIGSEGV), "ProcessDied"),
        (lambda a, b: (x for x in ()), "StageError"),
    ],
)
def test_a_reduce_that_fails_has_no_value(run, function, name):
    outcome = reduce_outcome(reduce_run(run, function))
    assert [(error["stage"], error["type"]) for error in outcome.errors] == [(NODE, name)]
    assert outcome.values() == []
    assert outcome.end["remaining"] == 1
    assert outcome.end["done"] == 0
    assert outcome.end["failed"] >= 1


def empty_reduce(run, **options):
    nothing = htdag.source(range(3), chunk_size=3).filter(lambda x: False, name="none")
    stage = nothing.reduce(int.__add__, name=NODE, **options)
    reference.compiled(htdag.Pipeline(stage), run)
    assert reference.work(run, "none") == 0
    return reduce_outcome(run)


@pytest.mark.parametrize("associative", [True, False])
def test_an_empty_reduce_gives_its_initial_value(run, associative):
    assert empty_reduce(run, initial=7, associative=associative).values() == [7]


@pytest.mark.parametrize("associative", [True, False])
def test_an_empty_reduce_without_initial_value_says_what_to_do(run, associative):
    outcome = empty_reduce(run, associative=associative)
    (error,) = outcome.errors
    assert (error["stage"], error["type"], error["key"]) == (NODE, "StageError", None)
    assert "no items reached the reduce" in error["message"]
    assert "give initial=..." in error["message"]
    assert outcome.end["remaining"] == 1


def test_a_bound_value_that_is_missing_is_a_job_error(run):
    total = htdag.source([1]).reduce(int.__add__, name="total")
    stage = htdag.source([1, 2]).map(lambda x, t: x, bind={"t": total}, name=NODE)
    reference.compiled(htdag.Pipeline(stage), run)
    assert reference.work(run, NODE) == 0  # its parent has not run
    outcome = Outcome(run)
    assert outcome.errors[0]["key"] is None
    assert outcome.end["remaining"] != 0


# Pythons


def test_another_python_is_named_in_the_record(run):
    compile_map(run, abs)
    path = Path(NodeFiles(run, NODE).program)
    path.write_text(json.dumps({**json.loads(path.read_text()), "python": [3, 99]}))
    outcome = do(run)
    (error,) = outcome.errors
    assert error["type"] == "PythonVersionMismatch"
    assert error["key"] is None
    assert "pickled by Python 3.99" in error["message"]
    assert f"is Python {sys.version.split()[0]}" in error["message"]
    assert sys.executable in error["message"]
    assert outcome.end["items"] == outcome.end["remaining"] == 6
    assert outcome.values() == []


SHELL_TOOLS = ("sh", "mkdir", "hostname", "cat", "uname")


def bare_path(folder, *pythons):
    """A PATH with the tools that any machine has, and just these Pythons as (name, program)."""
    folder.mkdir()
    for tool in SHELL_TOOLS:
        (folder / tool).symlink_to(shutil.which(tool))
    for name, program in pythons:
        (folder / name).symlink_to(program)
    return str(folder)


def run_archive(run, path, *arguments):
    """Start the archive as HTCondor does, with nothing in the environment but a PATH."""
    return subprocess.run(
        [str(run / layout.RUNTIME), *arguments],
        cwd=run,
        env={"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def old_python(version):
    """An old Python of this machine, from wherever pyenv keeps them."""
    roots = [Path(sys.base_prefix).parent, Path.home() / ".pyenv" / "versions"]
    if os.environ.get("PYENV_ROOT"):
        roots.append(Path(os.environ["PYENV_ROOT"]) / "versions")
    minor = ".".join(version.split(".")[:2])
    for root in roots:
        program = root / version / "bin" / f"python{minor}"
        if program.exists():
            return program
    pytest.skip(f"this machine has no Python {version}")


def test_the_archive_runs_a_job_with_a_bare_python(run, tmp_path):
    # The Python beneath this virtual environment: neither htdag nor cloudpickle is there.
    version = sysconfig.get_python_version()
    python = Path(sys.base_prefix) / "bin" / f"python{version}"
    compile_map(run, lambda x: x * x)
    path = bare_path(tmp_path / "bin", (f"python{version}", python))
    done = run_archive(run, path, "work", NODE, "0000", "1", NODE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert Outcome(run).values() == [0, 1, 4, 9, 16, 25]


@pytest.mark.parametrize(("command", "status"), [("work", 0), ("work-status", 1)])
def test_the_status_tells_whether_all_is_done_where_nothing_else_judges(run, command, status):
    compile_map(run, lambda x: 1 / x, range(2), chunk_size=1)
    python = str(Path(sys.executable).parent)
    assert run_archive(run, python, command, NODE, "0000", "1", NODE).returncode == status
    assert run_archive(run, python, command, NODE, "0001", "1", NODE).returncode == 0
    assert [Outcome(run, chunk=chunk).end["remaining"] for chunk in (0, 1)] == [1, 0]


@pytest.mark.parametrize(("command", "status"), [("work", 0), ("work-status", 1)])
def test_without_python_there_is_an_outcome_that_says_so(run, tmp_path, command, status):
    total = htdag.source(range(4), chunk_size=4).map(abs, name=NODE).reduce(int.__add__, name="r")
    reference.compiled(htdag.Pipeline(total, total.inputs[0]), run)
    shutil.rmtree(Path(NodeFiles(run, NODE).outcomes))  # on an execute node it is not there
    path = bare_path(tmp_path / "bin")
    done = run_archive(run, path, command, NODE, "0000", "1", "r", NODE)
    assert done.returncode == status
    assert "no python" in done.stderr
    for line in Path(NodeFiles(run, NODE).attempt(0, 1).record).read_text().splitlines():
        json.loads(line)
    outcome = Outcome(run)
    assert outcome.start["host"] == os.uname().nodename
    (error,) = outcome.errors
    assert error["type"] == "PythonNotFound"
    assert error["key"] is None
    assert f"python{sysconfig.get_python_version()}" in error["message"]
    assert outcome.end["remaining"] != 0
    assert [path.exists() for path in outcome.paths] == [True, True]
    assert outcome.end["sizes"] == [path.stat().st_size for path in outcome.paths]


def test_the_archive_holds_its_modules_compiled(run, tmp_path):
    compile_map(run, abs)
    with zipfile.ZipFile(run / layout.RUNTIME) as archive:
        names = set(archive.namelist())
    sources = {name for name in names if name.endswith(".py") and name != "__main__.py"}
    assert {name + "c" for name in sources} == names - sources - {"__main__.py"}
    code = (
        "import sys; sys.path.insert(0, 'runtime.pyz')\n"
        "import zipimport; zipimport._compile_source = None  # compiling anything is an error\n"
        "from htdag_runtime.job import worker; from htdag_runtime.dag import post, local\n"
        "import cloudpickle"
    )
    subprocess.run([sys.executable, "-S", "-c", code], cwd=run, check=True)


def test_without_python_the_other_commands_fail_plainly(run, tmp_path):
    compile_map(run, abs)
    done = run_archive(run, bare_path(tmp_path / "bin"), "post", NODE, "0", "0")
    assert done.returncode == 120
    assert "no python" in done.stderr


@pytest.mark.parametrize("version", ["3.8.18", "3.9.18"])
def test_an_old_python_starts_and_says_that_it_is_another(run, tmp_path, version):
    python = old_python(version)
    compile_map(run, abs)
    done = run_archive(
        run, bare_path(tmp_path / "bin", ("python3", python)), "work", NODE, "0000", "1", NODE
    )
    assert (done.returncode, done.stderr) == (0, "")
    outcome = Outcome(run)
    check_counts(outcome)
    assert outcome.start["python"].startswith(version)
    (error,) = outcome.errors
    assert error["type"] == "PythonVersionMismatch"
    assert f"is Python {version}" in error["message"]
    assert f"pickled by Python {sysconfig.get_python_version()}" in error["message"]
    assert outcome.end["remaining"] == 6


@pytest.mark.parametrize("version", ["3.7.16", "3.6.15", "2.7.18"])
def test_a_python_that_is_too_old_is_passed_over(run, tmp_path, version):
    python = old_python(version)
    compile_map(run, abs)
    done = run_archive(
        run, bare_path(tmp_path / "bin", ("python3", python)), "work", NODE, "0000", "1", NODE
    )
    assert done.returncode == 0
    assert Outcome(run).errors[0]["type"] == "PythonNotFound"


@pytest.mark.parametrize("version", ["3.7.16", "3.6.15", "2.7.18"])
def test_a_python_that_is_too_old_says_so_when_forced(run, version):
    python = old_python(version)
    compile_map(run, abs)
    done = subprocess.run(
        [str(python), str(run / layout.RUNTIME), "work", NODE, "0000", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 120
    assert f"htdag needs Python 3.8 or newer, this is {version}" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_command_is_refused(run):
    compile_map(run, abs)
    done = subprocess.run(
        [sys.executable, str(run / layout.RUNTIME), "dance"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "unknown command 'dance'" in done.stderr
