"""One script, started in all the ways in which people start scripts, gives one result."""

from __future__ import annotations

import contextlib
import os
import py_compile
import resource
import shutil
import signal
import subprocess
import sys
import zipapp
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HELPERS = '''\
OFFSET = 1

def add(a, b):
    """Add two numbers."""
    return a + b

def shifted(x):
    return x + OFFSET
'''
SCRIPT = '''\
"""A script."""
import os, sys
import htdag
{imports}

class Number:
    def __init__(self, value):
        self.value = value

def numbered(x):
    return Number(shifted(x) * FACTOR)

def square(number):
    assert type(number) is Number
    from math import pow
    return int(pow(number.value, 2))

FACTOR = 3

def main(tag=None, **given):
    squares = htdag.source(range(4), chunk_size=2).map(numbered).map(square, fuse=False)
    total = squares.reduce(add, name="total")
    return htdag.Pipeline(total, name="squares").submit(tag, on="local", **given)

if __name__ == {name!r}:
    with open({mark!r}, "a") as mark:
        mark.write("once ")
    result = main().wait(timeout=200, progress=False).result()
    with open({answer!r}, "w") as file:
        file.write(str(result))
'''
RESULT = str(sum((3 * (x + 1)) ** 2 for x in range(4)))


@dataclass
class Start:
    """How a script is started.

    Attributes
    ----------
    command : list of str
        The command, after Python.
    env : dict of str to str
        Variables that are other than here; None takes one away.
    options : dict
        Arguments for `subprocess.run`.
    """

    command: list[str]
    env: dict[str, str | None] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Place:
    """A folder for a script, which writes its answer and marks that it was executed."""

    folder: Path

    @property
    def answer(self) -> Path:
        return self.folder / "answer"

    @property
    def mark(self) -> Path:
        return self.folder / "mark"

    def text(
        self, imports: str = "from helpers import add, shifted", name: str = "__main__"
    ) -> str:
        return SCRIPT.format(
            imports=imports, name=name, mark=str(self.mark), answer=str(self.answer)
        )

    def write(self, path: str, text: str, encoding: str = "utf-8") -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode(encoding))
        return file

    def script(self, path: str = "script.py", helpers: str = "helpers.py") -> Path:
        """Write the script, and the module that it imports."""
        self.write(str(Path(path).with_name(helpers)), HELPERS)
        return self.write(path, self.text())


WAYS: dict[str, Callable[[Place], Start]] = {}


def way(function: Callable[[Place], Start]) -> Callable[[Place], Start]:
    WAYS[function.__name__.replace("_", " ")] = function
    return function


@way
def as_a_file(place: Place) -> Start:
    return Start([str(place.script())])


@way
def by_a_relative_path(place: Place) -> Start:
    place.script("deep/er/script.py")
    return Start(["er/../er/script.py"], options={"cwd": place.folder / "deep"})


@way
def as_a_module(place: Place) -> Start:
    place.script()
    return Start(["-m", "script"])


@way
def as_a_package(place: Place) -> Start:
    place.write("pack/__init__.py", "")
    place.write("pack/helpers.py", HELPERS)
    place.write("pack/__main__.py", place.text("from .helpers import add, shifted"))
    return Start(["-m", "pack"])


@way
def as_a_module_of_a_namespace_package(place: Place) -> Start:
    place.write("space/part/helpers.py", HELPERS)
    place.write("space/part/run.py", place.text("from space.part.helpers import add, shifted"))
    return Start(["-m", "space.part.run"])


@way
def with_packages_in_src(place: Place) -> Start:
    place.write("src/pack/__init__.py", "from .helpers import add, shifted\n")
    place.write("src/pack/helpers.py", HELPERS)
    script = place.write("script.py", place.text("from pack import add, shifted"))
    return Start([str(script)], {"PYTHONPATH": str(place.folder / "src")})


@way
def with_a_package_by_a_pth_file(place: Place) -> Start:
    """As editable installs are."""
    place.write("src/pack/__init__.py", HELPERS)
    place.write("site/pack.pth", str(place.folder / "src") + "\n")
    imports = "import site\nsite.addsitedir(os.path.join(os.path.dirname(__file__), 'site'))\n"
    return Start([str(place.write("script.py", place.text(imports + "from pack import *")))])


@way
def with_a_package_on_pythonpath_of_another_place(place: Place) -> Start:
    place.write("elsewhere/helpers.py", HELPERS)
    script = place.write("script.py", place.text())
    return Start([str(script)], {"PYTHONPATH": str(place.folder / "elsewhere")})


@way
def with_sys_path_changed_to_a_relative_folder(place: Place) -> Start:
    place.write("lib/helpers.py", HELPERS)
    text = place.text("sys.path.insert(0, 'lib')\nfrom helpers import add, shifted")
    return Start([str(place.write("script.py", text))])


@way
def with_helpers_in_a_zip_file(place: Place) -> Start:
    place.write("source/helpers.py", HELPERS)
    shutil.make_archive(str(place.folder / "lib"), "zip", place.folder / "source")
    script = place.write("script.py", place.text())
    return Start([str(script)], {"PYTHONPATH": str(place.folder / "lib.zip")})


@way
def with_helpers_as_bytecode_only(place: Place) -> Start:
    script = place.script()
    helpers = place.folder / "helpers.py"
    py_compile.compile(str(helpers), cfile=str(helpers.with_suffix(".pyc")))
    helpers.unlink()
    return Start([str(script)])


@way
def with_helpers_loaded_by_their_path(place: Place) -> Start:
    place.write("odd name.py", HELPERS)
    imports = (
        "import importlib.util\n"
        "spec = importlib.util.spec_from_file_location('odd', 'odd name.py')\n"
        "odd = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(odd)\n"
        "add, shifted = odd.add, odd.shifted"
    )
    return Start([str(place.write("script.py", place.text(imports)))])


@way
def as_a_zipapp(place: Place) -> Start:
    place.write("app/helpers.py", HELPERS)
    place.write("app/__main__.py", place.text())
    zipapp.create_archive(place.folder / "app", place.folder / "app.pyz")
    shutil.rmtree(place.folder / "app")
    return Start([str(place.folder / "app.pyz")])


@way
def as_a_folder(place: Place) -> Start:
    place.script("app/__main__.py")
    return Start(["app"])


@way
def from_stdin(place: Place) -> Start:
    place.write("helpers.py", HELPERS)
    return Start(["-"], options={"input": place.text(), "stdin": None})


@way
def from_the_command_line(place: Place) -> Start:
    place.write("helpers.py", HELPERS)
    return Start(["-c", place.text()])


@way
def as_a_symlink(place: Place) -> Start:
    place.script("real/script.py")
    (place.folder / "link.py").symlink_to("real/script.py")
    return Start(["link.py"])


@way
def without_a_suffix(place: Place) -> Start:
    return Start([str(place.script("script"))])


@way
def named_like_a_module_of_python(place: Place) -> Start:
    return Start([str(place.script("statistics.py"))])


@way
def with_helpers_named_like_an_installed_package(place: Place) -> Start:
    place.write("attrs.py", HELPERS)
    return Start([str(place.write("script.py", place.text("from attrs import add, shifted")))])


@way
def with_odd_letters_in_paths(place: Place) -> Start:
    return Start([str(place.script("a b'c\"d ü☃ $x %n {y}/scri pt.py"))])


@way
def with_a_path_that_is_no_utf_8(place: Place) -> Start:
    folder = os.fsdecode(os.fsencode(str(place.folder)) + b"/\xff\xfe")
    os.mkdir(folder)
    shutil.copy(place.script(), folder)
    shutil.copy(place.folder / "helpers.py", folder)
    return Start([os.path.join(folder, "script.py")])


@way
def in_latin_1(place: Place) -> Start:
    cookie = "# -*- coding: latin-1 -*-\n"
    text = 'WORD = "ü"\nassert len(WORD) == 1\n'
    place.write("helpers.py", cookie + HELPERS + text, "latin-1")
    script = cookie + place.text().replace("def numbered(x):", 'def numbered(x, _="ä"):')
    return Start([str(place.write("script.py", script, "latin-1"))])


@way
def with_a_byte_order_mark(place: Place) -> Start:
    place.write("helpers.py", HELPERS, "utf-8-sig")
    return Start([str(place.write("script.py", place.text(), "utf-8-sig"))])


@way
def with_crlf(place: Place) -> Start:
    place.write("helpers.py", HELPERS.replace("\n", "\r\n"))
    return Start([str(place.write("script.py", place.text().replace("\n", "\r\n")))])


@way
def optimised(place: Place) -> Start:
    return Start(["-OO", str(place.script())])


@way
def with_warnings_as_errors(place: Place) -> Start:
    return Start(["-W", "error", "-b", str(place.script())])


@way
def in_development_mode(place: Place) -> Start:
    return Start(["-X", "dev", str(place.script())])


@way
def with_times_of_imports(place: Place) -> Start:
    return Start(["-X", "importtime", str(place.script())])


@way
def with_a_safe_path(place: Place) -> Start:
    place.script()
    return Start(
        [str(place.folder / "script.py")],
        {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(place.folder)},
    )


@way
def isolated(place: Place) -> Start:
    imports = "sys.path.insert(0, os.path.dirname(__file__))\nfrom helpers import add, shifted"
    place.script()
    return Start(["-I", str(place.write("script.py", place.text(imports)))])


@way
def by_runpy(place: Place) -> Start:
    path = str(place.script())
    return Start(["-c", f"import runpy; runpy.run_path({path!r}, run_name='__main__')"])


@way
def imported_by_another(place: Place) -> Start:
    place.write("helpers.py", HELPERS)
    place.write("script.py", place.text(name="script"))
    return Start(["-c", "import script"])


@way
def in_a_profiler(place: Place) -> Start:
    return Start(["-m", "cProfile", "-o", os.devnull, str(place.script())])


@way
def in_a_debugger(place: Place) -> Start:
    commands = ["-c", "continue", "-c", "quit"]
    return Start(
        ["-m", "pdb", *commands, str(place.script())], options={"input": "quit\n", "stdin": None}
    )


@way
def in_pytest(place: Place) -> Start:
    place.script()
    place.write(
        "test_it.py",
        "import script\n\ndef local(x):\n    return script.shifted(x)\n\n"
        "def test_it(tmp_path):\n"
        "    import htdag\n"
        "    flow = htdag.Pipeline(htdag.map(local, [1]))\n"
        "    assert flow.submit(on='local').wait().result() == [2]\n"
        "    result = script.main().wait().result()\n"
        f"    open({str(place.answer)!r}, 'w').write(str(result))\n"
        f"    open({str(place.mark)!r}, 'w').write('once ')\n",
    )
    return Start(["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"])


@way
def in_a_cell_of_a_notebook(place: Place) -> Start:
    """As IPython does: the text of a cell is in no file."""
    place.write("helpers.py", HELPERS)
    place.write("cell.txt", place.text())
    code = (
        "import sys, linecache\n"
        "text = open('cell.txt').read(); file = '/tmp/ipykernel_1/99.py'\n"
        "linecache.cache[file] = (len(text), None, text.splitlines(True), file)\n"
        "exec(compile(text, file, 'exec'), globals())\n"
    )
    return Start(["-c", code])


@way
def in_asyncio(place: Place) -> Start:
    script = place.script()
    run = f"runpy.run_path({str(script)!r}, run_name='__main__')"
    code = f"import asyncio, runpy\nasync def main(): {run}\n"
    return Start(["-c", code + "asyncio.run(main())"], {"PYTHONPATH": str(place.folder)})


@way
def in_a_thread(place: Place) -> Start:
    script = place.script()
    code = (
        "import runpy, threading\n"
        f"t = threading.Thread(target=runpy.run_path, args=({str(script)!r}, None, '__main__'))\n"
        "t.start(); t.join()"
    )
    return Start(["-c", code])


@way
def in_a_child_of_multiprocessing(place: Place) -> Start:
    place.script()
    place.write(
        "parent.py",
        "import multiprocessing, script\n\n"
        "def child():\n"
        f"    open({str(place.mark)!r}, 'w').write('once ')\n"
        "    result = script.main().wait().result()\n"
        f"    open({str(place.answer)!r}, 'w').write(str(result))\n\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    process = context.Process(target=child, daemon=True)\n"
        "    process.start(); process.join()\n",
    )
    return Start(["parent.py"])


@way
def from_cron(place: Place) -> Start:
    """Hardly a variable, and nothing to write to."""
    names = {name: None for name in os.environ if name not in ("HTDAG_HOME", "HTDAG_SETTINGS")}
    env = {**names, "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
    return Start([str(place.script())], env, {"stdin": subprocess.DEVNULL, "stdout": None})


@way
def without_any_variable(place: Place) -> Start:
    script = place.script()
    home = os.environ["HTDAG_HOME"]
    text = script.read_text().replace(
        "import htdag", f"os.environ['HTDAG_HOME'] = {home!r}\nimport htdag", 1
    )
    script.write_text(text)
    return Start([str(script)], dict.fromkeys(os.environ))


@way
def without_home(place: Place) -> Start:
    return Start([str(place.script())], {"HOME": None, "USER": None, "LOGNAME": None})


def _closing(*descriptors: int) -> dict[str, Any]:
    return {"preexec_fn": lambda: [os.close(number) for number in descriptors]}


@way
def with_stdin_closed(place: Place) -> Start:
    return Start([str(place.script())], options=_closing(0))


@way
def with_all_streams_closed(place: Place) -> Start:
    return Start([str(place.script())], options=_closing(0, 1, 2))


@way
def with_stdout_and_stderr_closed(place: Place) -> Start:
    return Start([str(place.script())], options=_closing(1, 2))


@way
def with_a_full_stdout(place: Place) -> Start:
    def fill() -> None:
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)

    return Start([str(place.script())], options={"preexec_fn": fill})


@way
def in_a_folder_that_is_gone(place: Place) -> Start:
    script = place.script()
    gone = place.folder / "gone"
    gone.mkdir()
    code = f"import os, runpy, sys; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); "
    code += f"sys.path.insert(0, {str(place.folder)!r}); "
    return Start(["-c", code + f"runpy.run_path({str(script)!r}, run_name='__main__')"])


@way
def with_children_ignored(place: Place) -> Start:
    def ignore() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    return Start([str(place.script())], options={"preexec_fn": ignore})


@way
def with_signals_blocked(place: Place) -> Start:
    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})

    return Start([str(place.script())], options={"preexec_fn": block})


def _umask(mask: int) -> Callable[[Place], Start]:
    return lambda place: Start([str(place.script())], options={"umask": mask})


WAYS["with umask 0"] = _umask(0)
WAYS["with umask 077"] = _umask(0o077)


@way
def with_few_open_files(place: Place) -> Start:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

    return Start([str(place.script())], options={"preexec_fn": limit})


@way
def with_a_small_stack(place: Place) -> Start:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_STACK, (2**20, 2**20))

    return Start([str(place.script())], options={"preexec_fn": limit})


@way
def in_an_odd_zone_and_language(place: Place) -> Start:
    env = {"TZ": "Australia/Lord_Howe", "LC_ALL": "xx_YY.UTF-8", "LANG": "C", "PYTHONUTF8": "0"}
    return Start([str(place.script())], env)


@way
def in_ascii(place: Place) -> Start:
    env = {
        "LC_ALL": "C",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONUTF8": "0",
        "PYTHONIOENCODING": "ascii",
    }
    place.script("äöü/script.py")
    return Start([str(place.folder / "äöü/script.py")], env)


@way
def with_another_hash_seed_and_no_bytecode(place: Place) -> Start:
    return Start([str(place.script())], {"PYTHONHASHSEED": "7", "PYTHONDONTWRITEBYTECODE": "1"})


@way
def with_a_low_recursion_limit(place: Place) -> Start:
    return Start(
        [
            str(
                place.write(
                    "script.py",
                    place.text("sys.setrecursionlimit(400)\nfrom helpers import add, shifted"),
                )
            )
            if place.write("helpers.py", HELPERS)
            else ""
        ]
    )


@way
def with_json_and_pickle_of_its_own(place: Place) -> Start:
    """Modules of the user's that are named like modules that jobs use, as helpers."""
    place.write("lib/__init__.py", "")
    place.write("lib/json.py", HELPERS)
    place.write("lib/pickle.py", "")
    text = place.text("from lib.json import add, shifted\nimport lib.pickle")
    return Start([str(place.write("script.py", text))])


@way
def that_goes_elsewhere(place: Place) -> Start:
    place.write("helpers.py", HELPERS)
    text = place.text("from helpers import add, shifted\nos.chdir('/')")
    return Start([str(place.write("script.py", text))])


@way
def that_is_gone_while_it_runs(place: Place) -> Start:
    place.write("helpers.py", HELPERS)
    text = place.text(
        "from helpers import add, shifted\nimport helpers\n"
        "os.unlink(__file__)\nos.unlink(helpers.__file__)"
    )
    return Start([str(place.write("script.py", text))])


@way
def that_replaces_its_streams(place: Place) -> Start:
    place.write("helpers.py", HELPERS)
    text = place.text(
        "from helpers import add, shifted\nimport io\nsys.stdout = io.StringIO()\nsys.stderr = None"
    )
    return Start([str(place.write("script.py", text))])


@way
def that_deletes_names(place: Place) -> Start:
    """A script that tidies up after itself, and one that has no `__file__`."""
    place.write("helpers.py", HELPERS)
    text = place.text("from helpers import add, shifted\nimport helpers\ndel helpers, __file__")
    return Start([str(place.write("script.py", text))])


KNOWN: dict[str, str] = {}
"""Ways that are known to go wrong, and whose part it is: to be empty."""


def start(place: Place, how: Start) -> subprocess.CompletedProcess[Any]:
    env = {**os.environ, **how.env}
    options = {
        "cwd": place.folder,
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
        "errors": "replace",
        **how.options,
    }
    if "input" in options:
        del options["stdin"]
    return subprocess.run(
        [sys.executable, *how.command],
        env={name: value for name, value in env.items() if value is not None},
        check=False,
        timeout=120,
        **options,
    )


OFTEN = [
    "as a file",
    "as a package",
    "as a module of a namespace package",
    "with a package by a pth file",
    "with helpers in a zip file",
    "with helpers loaded by their path",
    "as a zipapp",
    "from stdin",
    "from the command line",
    "as a symlink",
    "with odd letters in paths",
    "with a path that is no utf 8",
    "in latin 1",
    "with warnings as errors",
    "isolated",
    "in pytest",
    "in a cell of a notebook",
    "in a thread",
    "in a child of multiprocessing",
    "without any variable",
    "with all streams closed",
    "with a full stdout",
    "in a folder that is gone",
    "with children ignored",
    "that is gone while it runs",
    "that replaces its streams",
]
"""The ways that are tried by every run of the tests; `make soak` tries all of them."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in OFTEN else pytest.mark.soak) for name in WAYS],
)
def test_a_script_gives_its_result_however_it_is_started(
    runs_dir: Path, tmp_path: Path, name: str
) -> None:
    place = Place(tmp_path)
    done = start(place, WAYS[name](place))
    right = place.answer.exists() and place.answer.read_text() == RESULT
    if name in KNOWN:
        assert not right, f"{name} is mended: take it out of KNOWN"
        return
    assert right, (done.returncode, (done.stdout or "")[-3000:])
    # What stands at the top of a script is executed once, and not again in jobs.
    assert place.mark.read_text() == "once "


@pytest.mark.soak
def test_eight_at_once(runs_dir: Path, tmp_path: Path) -> None:
    """Each run has a tag of its own, also where all scripts begin in the same second."""
    places = [Place(tmp_path / str(n)) for n in range(8)]
    processes = []
    for place in places:
        place.folder.mkdir()
        command = [sys.executable, str(place.script())]
        processes.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    errors = [process.communicate(timeout=200)[1] for process in processes]
    assert [place.answer.read_text() for place in places] == [RESULT] * 8, errors


def test_eight_of_one_tag_at_once(runs_dir: Path, tmp_path: Path) -> None:
    """One gets the tag, the others are told that it is taken; or they wait, and go on with it."""
    place = Place(tmp_path)
    place.script()
    code = (
        "import htdag, script\n"
        "try:\n    script.main('one', resume={}).wait(progress=False)\n"
        "except htdag.HtdagError as error:\n    print(type(error).__name__)\n"
        "else:\n    print('done')\n"
    )
    for resume in (False, True):
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", code.format(resume)],
                cwd=place.folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(8)
        ]
        both = [process.communicate(timeout=200) for process in processes]
        words = sorted(out.strip() for out, _ in both)
        assert set(words) <= {"done", "RunActive", "StageNameError"}, both
        assert "done" in words
        if not resume:
            assert words.count("done") == 1
        shutil.rmtree(runs_dir / "runs" / "one", ignore_errors=not resume)


def test_eight_threads_of_one_script(runs_dir: Path, tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.script()
    code = (
        "import script\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "def one(n):\n    return script.main().wait(progress=False).result()\n"
        "with ThreadPoolExecutor(8) as pool:\n    print(set(pool.map(one, range(8))))\n"
    )
    done = start(place, Start(["-c", code]))
    assert done.stdout.strip().endswith(f"{{{RESULT}}}"), done.stdout[-3000:]


def test_a_module_that_is_edited_while_it_runs(runs_dir: Path, tmp_path: Path) -> None:
    """Jobs have what the script had when it submitted, also where they import only later."""
    place = Place(tmp_path)
    place.write("late.py", "VALUE = 1\n")
    place.write(
        "script.py",
        "import pathlib, time, htdag\n"
        "import late\n"
        "def value(folder):\n"
        "    while not pathlib.Path(folder, 'go').exists(): time.sleep(0.01)\n"
        "    from late import VALUE\n"
        "    return VALUE\n"
        "flow = htdag.Pipeline(htdag.map(value, [str(pathlib.Path.cwd())]))\n"
        "run = flow.submit(on='local')\n"
        "pathlib.Path('late.py').write_text('VALUE = 2\\n')\n"
        "pathlib.Path('go').touch()\n"
        "print(run.wait(progress=False).result())\n",
    )
    done = start(place, Start(["script.py"]))
    assert done.stdout.strip().endswith("[1]"), done.stdout[-3000:]


@pytest.fixture(autouse=True)
def _readable(tmp_path: Path) -> None:
    with contextlib.suppress(OSError):
        tmp_path.chmod(0o755)
