"""Environments of stages: what they take, what is compiled, and jobs that run in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import reference

import htdag
from htdag.environments import EnvironmentWarning, Prepared, packing, parse, unpacking
from htdag.errors import OptionError, PackingError
from htdag.functions.packages import packages_of
from htdag.options.stage_options import BUILT_IN
from htdag.runtime import layout
from htdag.runtime.data import recordfile
from htdag.runtime.job import environment
from htdag.runtime.layout import NodeFiles

Environment = htdag.Environment
BLIND = 'TARGET.FileSystemDomain == "blind.test"'
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def root(x: float) -> tuple[float, str]:
    import numpy

    return float(numpy.sqrt(x)), sys.executable


def double(x: int) -> int:
    return 2 * x


@dataclass(frozen=True)
class Named(Environment):
    """The program that a file names which travels with the jobs."""

    note: str = ""

    def prepare(self) -> Prepared:
        setup = 'python=$(command -v "$(cat "$here/name.txt")")\nflags=-B\n'
        return Prepared(setup, (("name.txt", self.note),), BLIND, (("+Lab", '"blue"'),))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "home"
    monkeypatch.setenv("HTDAG_HOME", str(path))
    return path


@pytest.fixture
def note(tmp_path: Path) -> str:
    path = tmp_path / "name.txt"
    path.write_text("python3\n")
    return str(path)


def read_submit(run: Path, node: str) -> dict[str, str]:
    lines = Path(NodeFiles(run, node).submit).read_text().splitlines()
    return dict(line.split(" = ", 1) for line in lines if " = " in line)


def one_stage(**options: Any) -> htdag.Pipeline:
    return htdag.Pipeline(htdag.source(range(4), chunk_size=1).map(double, **options))


# What they take


def test_an_interpreter_has_to_be_there_and_of_this_version(tmp_path: Path):
    assert str(Environment.interpreter(sys.executable)) == f"interpreter {sys.executable}"
    with pytest.raises(OptionError, match="no such interpreter on this machine"):
        Environment.interpreter("/nowhere/python3")
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho 3.1\n")
    other.chmod(0o755)
    with pytest.raises(OptionError, match=rf"is Python 3\.1, .* this Python {HERE}"):
        Environment.interpreter(other)
    other.write_text("#!/bin/sh\necho no library >&2\nexit 1\n")
    with pytest.raises(OptionError, match="is no Python interpreter: no library"):
        Environment.interpreter(other)
    with pytest.raises(OptionError, match="one line"):
        Environment.interpreter(sys.executable, requirements="a\nb")


def test_an_interpreter_elsewhere_is_not_looked_for_here(tmp_path: Path):
    far = Environment.interpreter("/nowhere/python3", requirements="HasNowhere =?= True")
    run = reference.compiled(one_stage(environment=far), tmp_path / "run")
    assert read_submit(run, "double")["requirements"] == "HasNowhere =?= True"
    with pytest.raises(OptionError, match="no such interpreter"):
        one_stage(environment=far).submit(on="local")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "nothing to pack"),
        ([1], "a list of requirements"),
        (["--index-url=x"], "a list of requirements"),
        ("missing.txt", r"single packages go into a list: packed\(\['missing.txt'\]\)"),
    ],
)
def test_mistakes_in_requirements(given: Any, message: str):
    with pytest.raises(OptionError, match=message):
        Environment.packed(given)


def test_equal_requirements_are_equal_environments(tmp_path: Path):
    assert Environment.packed(["b", "a "]) == Environment.packed(("a", "b"))
    assert Environment.packed(["a"]) != Environment.packed()
    file = tmp_path / "requirements.txt"
    file.write_text("numpy\n")
    assert Environment.packed(file) == Environment.packed(str(file))


def test_images(tmp_path: Path):
    sif = tmp_path / "image.sif"
    sif.touch()
    assert str(Environment.container(sif)) == f"container {sif}"
    with pytest.raises(OptionError, match=r"docker://python:3.11"):
        Environment.container("python:3.11")
    (tmp_path / "image.img").touch()
    with pytest.raises(OptionError, match=r"by its suffix \.sif"):
        Environment.container(tmp_path / "image.img")
    with pytest.raises(OptionError, match="it takes docker"):
        Environment.container("a\nb")
    (tmp_path / "a, b.sif").touch()
    with pytest.raises(OptionError, match="ends the name of a file at a comma"):
        Environment.container(tmp_path / "a, b.sif")


def test_the_option(note: str):
    with pytest.raises(OptionError, match=r"environment=3: it takes an htdag\.Environment"):
        one_stage(environment=3)
    with pytest.raises(OptionError, match=r"no installed package registers an environment 'lab'"):
        one_stage(environment="lab")


def test_environments_of_ones_own_can_be_compared(note: str):
    class Plain(Environment):
        def __init__(self, name: str) -> None:
            self.name = name

    with pytest.raises(OptionError, match=r"Plain needs @dataclass\(frozen=True\)"):
        one_stage(environment=Plain("a"))
    with pytest.raises(OptionError, match="take tuples for lists"):
        one_stage(environment=Named([note]))  # type: ignore[arg-type]
    assert Named("a") == Named("a") != Named("b")


def test_a_package_registers_environments_by_entry_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "lab.py").write_text(
        "import htdag\nhere = htdag.Environment.assume()\n\n"
        "def broken():\n    raise ValueError('no licence')\n\nnothing = int\n"
    )
    info = tmp_path / "lab-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[htdag.environments]\nlab = lab:here\nbroken = lab:broken\nnothing = lab:nothing\n"
        "made = htdag:Environment.assume\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert parse("lab") == parse("made") == Environment.assume()
    with pytest.raises(OptionError, match="lab:broken failed: ValueError: no licence"):
        parse("broken")
    with pytest.raises(OptionError, match="lab:nothing returned a int"):
        parse("nothing")
    with pytest.raises(OptionError, match="there are: broken, lab, made, nothing"):
        parse("else")


# Plans


def test_stages_share_a_node_only_in_equal_environments():
    first = htdag.source(range(3)).map(double, name="first", environment=Environment.packed(["a"]))
    same = first.map(double, name="same", environment=Environment.packed(["a"]))
    other = same.map(double, name="other", environment=Environment.assume())
    text = htdag.Pipeline(other).explain()
    assert [node.stages for node in htdag.Pipeline(other).plan().nodes] == [
        ("first", "same"),
        ("other",),
    ]
    assert "other environment" in text
    assert "environment=(packed a)" in text


def test_the_default_can_be_asked_for():
    first = htdag.source(range(3)).map(double, name="first")
    second = first.map(double, name="second", environment=Environment.assume())
    assert len(htdag.Pipeline(second).plan().nodes) == 1
    assert BUILT_IN.environment == Environment.assume()
    flow = htdag.Pipeline(second, environment=Environment.packed(["a"]))
    assert [str(node.options.environment) for node in flow.plan().nodes] == ["packed a", "assume"]


# What is compiled


def test_without_an_environment_nothing_is_added(tmp_path: Path):
    run = reference.compiled(one_stage(), tmp_path / "run")
    assert not (run / layout.ENVIRONMENTS).exists()
    submit = read_submit(run, "double")
    assert submit["arguments"].split()[0] == layout.RUNTIME
    assert "requirements" not in submit


def test_an_own_environment(tmp_path: Path, note: str):
    flow = one_stage(environment=Named(note), requirements="Mips > 1 || Lab")
    run = reference.compiled(flow, tmp_path / "run")
    submit = read_submit(run, "double")
    folder = next((run / layout.ENVIRONMENTS).iterdir())
    name = folder.relative_to(run).as_posix()
    assert submit["arguments"].split()[0] == f"{name}/run.sh"
    assert submit["requirements"] == f"({BLIND}) && (Mips > 1 || Lab)"
    assert submit["+Lab"] == '"blue"'
    sent = submit["transfer_input_files"].split(", ")
    assert sent[:3] == [f"{name}/run.sh", layout.RUNTIME, f"{name}/name.txt"]
    assert os.access(folder / "run.sh", os.X_OK)
    assert (folder / "name.txt").read_text() == "python3\n"
    assert folder.stat().st_mode & 0o77 == 0


def test_commands_of_a_stage_and_of_its_environment_do_not_fight(tmp_path: Path, note: str):
    with pytest.raises(OptionError, match=r"'\+lab' is set by its environment"):
        reference.compiled(
            one_stage(environment=Named(note), submit={"+lab": '"x"'}), tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("prepared", "message"),
    [
        (None, "returned a NoneType"),
        (Prepared("x", files=(("run.sh", "/etc/passwd"),)), "it cannot send the file"),
        (Prepared("x", files=(("data", "/nowhere"),)), "it cannot send the file"),
    ],
)
def test_mistakes_in_an_own_environment(tmp_path: Path, prepared: Any, message: str):
    class Odd(Environment):
        def prepare(self) -> Prepared:
            return prepared

    with pytest.raises(OptionError, match=message):
        reference.compiled(one_stage(environment=Odd()), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["docker", "file", "folder", "elsewhere"])
def test_containers_are_htcondors(tmp_path: Path, kind: str):
    image = tmp_path / "image.sif" if kind == "file" else tmp_path / "image"
    if kind == "file":
        image.touch()
    elif kind == "folder":
        image.mkdir()
    given = "docker://python:3.11-slim" if kind == "docker" else image
    where = "HasImages =?= True" if kind == "elsewhere" else None
    flow = one_stage(
        environment=Environment.container(given, requirements=where), requirements="Mips > 1"
    )
    run = reference.compiled(flow, tmp_path / "run")
    submit = read_submit(run, "double")
    same = "TARGET.FileSystemDomain == MY.FileSystemDomain"
    folder = kind in ("folder", "elsewhere")
    assert submit["universe"] == "container"
    assert submit["container_image"] == (f"{image}/" if folder else str(given))
    assert submit["arguments"].split()[0] == layout.RUNTIME
    assert submit.get("transfer_container") == ("False" if folder else None)
    # A shared file system is asked for only where the image is not sent, and then used.
    needs = {"folder": f"({same}) && (Mips > 1)", "elsewhere": f"({where}) && (Mips > 1)"}
    assert submit["requirements"] == needs.get(kind, "Mips > 1")
    assert submit["should_transfer_files"] == ("IF_NEEDED" if kind == "folder" else "YES")


# Packages


def test_a_warning_names_what_the_jobs_may_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("htdag.pipeline.check_for_dagman", lambda path: None)
    stage = htdag.source([4.0]).map(root, name="roots")
    with pytest.warns(EnvironmentWarning, match=r"may not have .*: numpy \(roots\)") as caught:
        htdag.Pipeline(stage).compile(tmp_path / "one")
    assert caught[0].filename == __file__
    packed = htdag.Environment.interpreter(sys.executable)
    htdag.Pipeline(stage, environment=packed).compile(tmp_path / "two")  # without a warning
    program = json.loads(Path(NodeFiles(tmp_path / "two", "roots").program).read_text())
    assert program["packages"] == [["numpy", "numpy", metadata.version("numpy"), True]]


def test_in_a_pool_of_ones_own_jobs_find_this_python(tmp_path: Path):
    pytest.importorskip("htcondor2")
    from htdag.backends.condor.backend import CondorBackend
    from htdag.backends.condor.pool_config import _job_environment, job_path
    from htdag.backends.condor.setup import Setup

    config = tmp_path / "condor_config"
    for python, own, found in (
        (sys.executable, True, True),
        (sys.executable, False, False),
        ("/usr/elsewhere/python3", True, False),
    ):
        config.write_text(f"X = {_job_environment(job_path(python, '/bin'))}\n")
        setup = Setup(str(config), (), own)
        assert CondorBackend(setup).finds_packages() == found


def guarded(x: int) -> int:
    try:
        import numpy
    except ImportError:
        return x
    return int(numpy.sqrt(x))


def test_an_import_that_may_fail_is_not_required():
    assert [(each.module, each.required) for each in packages_of([guarded])] == [("numpy", False)]
    assert [(each.module, each.required) for each in packages_of([guarded, root])] == [
        ("numpy", True)
    ]
    assert packages_of([double, len, str.split, htdag.source, json.dumps]) == ()


def test_what_is_used_of_a_package_is_found_in_any_form():
    import numpy
    from numpy import sqrt

    array = numpy.arange(3)

    def annotated(x: list[numpy.ndarray] | None) -> int:
        return 1

    annotated.__annotations__ = {"x": list[numpy.ndarray] | None, "return": int}
    for function in (
        annotated,
        lambda x: sqrt(x),
        lambda x: array,
        numpy.sin,
        lambda x: numpy,
        array.sum,
    ):
        assert [each.module for each in packages_of([function])] == ["numpy"], function


def test_packages_that_items_are_of_are_compared_where_they_are_read(tmp_path: Path):
    import numpy

    arrays = htdag.source([numpy.arange(2), numpy.arange(3)])
    sums = arrays.map(lambda array: int(array.sum()), name="sums", chunk_size=1)
    run = reference.compiled(
        htdag.Pipeline(sums.map(double, name="after", chunk_size=2)), tmp_path / "run"
    )

    def modules(node: str) -> list[str]:
        return [
            each[0]
            for each in json.loads(Path(NodeFiles(run, node).program).read_text())["packages"]
        ]

    assert modules("sums") == ["numpy"]
    assert modules("after") == []


# Jobs


def program(**changes: Any) -> dict[str, Any]:
    remedy = {"python": "take another Python", "packages": "install them"}
    same = {"python": list(sys.version_info[:2]), "environment": "assume", "packages": []}
    return {**same, "remedy": remedy, **changes}


def test_what_a_job_compares():
    assert environment.mismatch(program()) is None
    numpy = ["numpy", "numpy", "0.1", True]
    assert environment.mismatch(program(packages=[numpy])) is None
    assert environment.differences(program(packages=[numpy])) == [
        ("numpy", metadata.version("numpy"), "0.1")
    ]
    assert environment.differences(program(packages=[["numpy", "nothing", "1", True]])) == []
    lacking = [numpy, ["nowhere_to_be", "nowhere", "1", True], ["optional_x", "", "", False]]
    found = environment.mismatch(program(packages=lacking))
    assert found is not None
    assert found.type == "PackagesMissing"
    assert "the functions import nowhere, which" in found.message
    assert found.message.endswith("(environment: assume); install them")
    found = environment.mismatch(program(python=[3, 99], packages=lacking))
    assert found is not None
    assert found.type == "PythonVersionMismatch"
    assert found.message.endswith("or take another Python")


def spoilt(run: Path, node: str, **changes: Any) -> None:
    """Change what the jobs of a node find, as on an execute point that lacks something."""
    path = Path(NodeFiles(run, node).program)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def submitted(flow: htdag.Pipeline, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> htdag.Run:
    """A run on this machine whose jobs do not have what they had when it was compiled."""
    from htdag.backends.local import LocalBackend

    real = LocalBackend.submit

    def submit(self: Any, run: Path, *rest: Any) -> dict[str, Any]:
        for folder in (run / layout.NODES).iterdir():
            spoilt(run, folder.name, **changes)
        plan = json.loads((run / layout.PLAN).read_text())
        plan["nodes"][0]["compares"] = True
        (run / layout.PLAN).write_text(json.dumps(plan))
        return real(self, run, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, "submit", submit)
        return flow.submit(on="local")


LACKS = {"packages": [["nowhere_to_be", "nowhere", "1", True]]}


def test_a_missing_package_is_one_error_and_no_item_was_tried(monkeypatch: pytest.MonkeyPatch):
    run = submitted(one_stage(retries=3), monkeypatch, **LACKS)
    with pytest.raises(htdag.RunFailed, match=r"import nowhere.*the same in 4 jobs") as failed:
        run.wait(timeout=200)
    (error,) = failed.value.errors
    assert (error.type, error.key, error.stage) == ("PackagesMissing", None, "double")
    assert "environment=htdag.Environment.packed()" in error.message
    status = run.status()["double"]
    assert (status.done, status.failed, status.waiting) == (0, 0, 4)
    # Another try would not help, and was not made.
    assert sorted(path.name for path in run.path.glob("nodes/*/out/*.record")) == [
        f"000{number}.1.record" for number in range(4)
    ]
    # When it has been mended, the run goes on.
    spoilt(run.path, "double", packages=[])
    assert run.resume().wait(timeout=200).result() == [0, 2, 4, 6]


def test_items_are_not_let_go_for_an_environment(monkeypatch: pytest.MonkeyPatch):
    run = submitted(one_stage(on_error="skip", max_errors=1.0), monkeypatch, **LACKS)
    with pytest.raises(htdag.RunFailed, match="import nowhere"):
        run.wait(timeout=200)


def test_another_version_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fails_at_two(x: int) -> int:
        return 1 // (x - 2)

    stage = htdag.source(range(4), chunk_size=1).map(fails_at_two, name="inverse")
    run = submitted(htdag.Pipeline(stage), monkeypatch, packages=[["numpy", "numpy", "0.1", True]])
    with pytest.raises(htdag.RunFailed):
        run.wait(timeout=200, progress=False)
    there = metadata.version("numpy")
    said = f"htdag: other versions of packages: numpy 0.1 here, {there} in jobs\n"
    assert capsys.readouterr().err.count(said) == 1
    (error,) = run.errors()
    assert str(error).endswith(f"[numpy {there} there, 0.1 here]")


def test_an_interpreter_runs_the_jobs_of_this_machine():
    roots = htdag.source([4.0]).map(root, name="roots")
    flow = htdag.Pipeline(roots, environment=Environment.interpreter(sys.executable))
    assert flow.submit(on="local").wait(timeout=200).result() == [(2.0, sys.executable)]


def test_an_environment_that_cannot_be_set_up_says_why(note: str):
    Path(note).write_text("no-such-python")
    run = one_stage(environment=Named(note)).submit(on="local")
    with pytest.raises(htdag.RunFailed, match="EnvironmentNotReady: no Python was found"):
        run.wait(timeout=200)
    record = next(run.path.glob("nodes/*/out/0000.1.record"))
    end = recordfile.end(str(record))
    assert end is not None
    assert end["mismatch"] == "EnvironmentNotReady"
    Path(note).write_text("python3")
    assert one_stage(environment=Named(note)).submit(on="local").wait(timeout=200)


def test_a_problem_with_quotes_is_told_all_the_same():
    @dataclass(frozen=True)
    class Odd(Environment):
        def prepare(self) -> Prepared:
            return Prepared("problem='no \"module\" \\n'\n")

    run = one_stage(environment=Odd()).submit(on="local")
    with pytest.raises(htdag.RunFailed, match="EnvironmentNotReady: no 'module' /n"):
        run.wait(timeout=200)


def test_a_container_on_this_machine_needs_a_program(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    flow = one_stage(environment=Environment.container("docker://python:3.11"))
    with pytest.raises(OptionError, match="one of apptainer, singularity, docker"):
        flow.submit(on="local")


def test_a_container_on_this_machine_is_started_by_the_program_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    image = tmp_path / "image"
    image.mkdir()
    program = tmp_path / "bin" / "apptainer"
    program.parent.mkdir()
    # It takes what apptainer takes, and runs the command here.
    program.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/called\nshift 6\nexec "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    run = one_stage(environment=Environment.container(image)).submit(on="local")
    assert run.wait(timeout=200).result() == [0, 2, 4, 6]
    called = (tmp_path / "called").read_text().splitlines()
    assert len(called) == 4
    assert (
        f"exec --bind {run.path} --pwd {run.path} {image} /bin/sh ./runtime.pyz work" in called[0]
    )


# Packing


@pytest.fixture
def fake_pex(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Instead of pex, a program that writes a file; what it was called with."""
    called: list[list[str]] = []

    def run(command: list[str], tool: str, what: str) -> None:
        called.append(command)
        path = command[command.index("--output-file") + 1] if tool == "pex" else command[-1]
        Path(path).write_text("packed\n")

    monkeypatch.setattr(packing, "_run", run)
    return called


def test_it_is_packed_once(fake_pex: list[list[str]], home: Path, capsys: Any):
    first = packing.archive(("numpy",), "")
    assert packing.archive(("numpy",), "") == first
    assert len(fake_pex) == 1
    assert fake_pex[0][-1] == "numpy"
    assert first.path.is_relative_to(home / "environments")
    assert first.path.parent.stat().st_mode & 0o77 == 0
    assert first.path.stat().st_mode & 0o77 == 0
    said = capsys.readouterr().err
    assert "packing numpy with pex" in said
    assert str(first.path) in said
    packing.archive(("numpy", "six"), "")
    assert len(fake_pex) == 2
    # Cut off: it is packed again.
    first.path.chmod(0o600)
    first.path.write_text("")
    assert packing.archive(("numpy",), "") == first
    assert len(fake_pex) == 3


def test_what_no_pipeline_uses_is_forgotten(fake_pex: list[list[str]]):
    old = packing.archive(("numpy",), "").path
    used = packing.archive(("six",), "").path
    for path in (old, used):
        os.utime(path.parent, (0, 0))
    packing.archive(("six",), "")
    packing.archive(("rich",), "")
    assert not old.exists()
    assert used.exists()


def test_what_is_installed_decides(fake_pex: list[list[str]], monkeypatch: pytest.MonkeyPatch):
    now = [("numpy", "2.0", "a")]
    monkeypatch.setattr(packing, "installed", lambda: iter(now))
    first = packing.archive(None, "")
    assert fake_pex[0][-3:] == ["--venv-repository", sys.executable, "numpy==2.0"]
    assert packing.archive(None, "") == first
    now[0] = ("numpy", "2.0", "b")  # the same version, built anew
    assert packing.archive(None, "").path != first.path
    now.clear()
    with pytest.raises(PackingError, match="nothing to pack"):
        packing.archive(None, "")


def test_a_requirements_file_is_read_anew(fake_pex: list[list[str]], tmp_path: Path):
    file = tmp_path / "requirements.txt"
    file.write_text("numpy\n")
    first = packing.archive(None, str(file))
    file.write_text("numpy\nsix\n")
    assert packing.archive(None, str(file)).path != first.path
    assert fake_pex[0][-2:] == ["--requirement", str(file)]
    file.unlink()
    with pytest.raises(PackingError, match="cannot be read"):
        packing.archive(None, str(file))


def test_what_is_installed_here_is_without_htdag():
    names = {name for name, _, _ in packing.installed()}
    assert "numpy" in names
    assert not names & {"htdag", "pip", "pex", "conda-pack"}


def test_much_is_said_to_be_much(
    fake_pex: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    monkeypatch.setattr(packing, "LARGE", 3)
    packing.archive(("numpy",), "")
    assert "that is a lot to send" in capsys.readouterr().err


def test_a_tool_that_is_missing_or_refuses(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packing, "_pex", lambda path, content: [sys.executable, "-c", "1 / 0"])
    with pytest.raises(PackingError, match=r"(?s)pex cannot pack numpy\..*ZeroDivisionError"):
        packing.archive(("numpy",), "")
    monkeypatch.setattr(packing, "find_spec", lambda name: None)
    with pytest.raises(PackingError, match=r"needs pex, .*pip install 'htdag\[packed\]'"):
        packing.archive(("numpy",), "")
    left = [path.name for path in (home / "environments").iterdir() if path.is_dir()]
    assert left == []


def shell_setup(lines: str, folder: Path, **variables: str) -> tuple[str, str]:
    """What the setup lines of an environment found in a job: python, problem."""
    script = f'here=.\npython= problem= flags=\n{lines}\nprintf "%s\\n" "$python" "$problem"\n'
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    python, problem = done.stdout.split("\n")[:2]
    return python, problem


@pytest.fixture
def conda_lines(tmp_path: Path) -> str:
    """A prefix that conda-pack's archives look like, packed, and the lines that unpack it."""
    prefix = tmp_path / "prefix" / "bin"
    prefix.mkdir(parents=True)
    (prefix / "python").write_text('#!/bin/sh\nexec sh "$@"\n')
    (prefix / "conda-unpack").write_text(f"echo once >>{tmp_path}/unpacked\n")
    for path in prefix.iterdir():
        path.chmod(0o755)
    job = tmp_path / "job"
    job.mkdir()
    subprocess.run(
        ["tar", "-czf", job / "environment.tar.gz", "-C", prefix.parent, "bin"], check=True
    )
    return unpacking.lines("conda-pack", "environment.tar.gz", "abc")


def test_it_is_unpacked_once_for_all_jobs_of_a_folder(conda_lines: str, tmp_path: Path):
    store = tmp_path / "store"
    store.mkdir()
    found = [
        shell_setup(conda_lines, tmp_path / "job", HTDAG_ENVIRONMENTS=str(store)) for _ in range(3)
    ]
    assert len(set(found)) == 1
    python, problem = found[0]
    assert problem == ""
    assert Path(python).is_relative_to(store / f"htdag-environments-{os.getuid()}")
    assert (tmp_path / "unpacked").read_text() == "once\n"


def test_it_is_unpacked_again_where_its_python_is_gone(conda_lines: str, tmp_path: Path):
    store = tmp_path / "store"
    store.mkdir()
    python, _ = shell_setup(conda_lines, tmp_path / "job", HTDAG_ENVIRONMENTS=str(store))
    Path(python).unlink()
    again = shell_setup(conda_lines, tmp_path / "job", HTDAG_ENVIRONMENTS=str(store))
    assert again == (python, "")
    assert os.access(python, os.X_OK)


def test_several_jobs_that_begin_at_once_unpack_it_once(conda_lines: str, tmp_path: Path):
    from concurrent.futures import ThreadPoolExecutor

    store = tmp_path / "store"
    store.mkdir()

    def job(_: int) -> tuple[str, str]:
        return shell_setup(conda_lines, tmp_path / "job", HTDAG_ENVIRONMENTS=str(store))

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(job, range(4)))) == 1
    assert (tmp_path / "unpacked").read_text() == "once\n"


def test_a_folder_that_others_may_write_to_is_not_used(conda_lines: str, tmp_path: Path):
    store = tmp_path / "store"
    mine = store / f"htdag-environments-{os.getuid()}"
    elsewhere = tmp_path / "elsewhere"
    scratch = tmp_path / "execute" / "dir_1" / "scratch"
    scratch.mkdir(parents=True)
    elsewhere.mkdir(0o700)
    for spoil in (lambda: mine.mkdir(0o777), lambda: mine.symlink_to(elsewhere)):
        store.mkdir()
        spoil()
        if not mine.is_symlink():
            mine.chmod(0o777)
        python, problem = shell_setup(
            conda_lines,
            tmp_path / "job",
            HTDAG_ENVIRONMENTS=str(store),
            _CONDOR_SCRATCH_DIR=str(scratch),
        )
        assert problem == ""
        assert Path(python).parents[3] == scratch.parent.parent
        store.rename(tmp_path / f"store-{mine.is_symlink()}-{id(spoil)}")
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(("mode", "used"), [(0o777, False), (0o1777, True), (0o755, True)])
def test_a_place_where_others_may_rename_is_not_used(
    conda_lines: str, tmp_path: Path, mode: int, used: bool
):
    store = tmp_path / "store"
    store.mkdir()
    store.chmod(mode)
    scratch = tmp_path / "execute" / "dir_1" / "scratch"
    scratch.mkdir(parents=True)
    python, _ = shell_setup(
        conda_lines,
        tmp_path / "job",
        HTDAG_ENVIRONMENTS=str(store),
        _CONDOR_SCRATCH_DIR=str(scratch),
    )
    assert Path(python).is_relative_to(store) == used
    assert Path(python).is_relative_to(scratch.parent.parent) != used


def test_an_archive_that_is_damaged_is_told(conda_lines: str, tmp_path: Path):
    (tmp_path / "job" / "environment.tar.gz").write_text("not an archive")
    store = tmp_path / "store"
    store.mkdir()
    python, problem = shell_setup(conda_lines, tmp_path / "job", HTDAG_ENVIRONMENTS=str(store))
    assert python == ""
    assert "the packed environment cannot be unpacked in" in problem


def test_pex_needs_this_python_there(tmp_path: Path):
    (tmp_path / "job").mkdir()
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("hostname", "id", "ls", "mkdir", "date", "chmod", "rm", "cat"):
        (tools / name).symlink_to(f"/bin/{name}")
    lines = unpacking.lines("pex", "environment.pex", "abc")
    _, problem = shell_setup(lines, tmp_path / "job", PATH=str(tools))
    assert f"there is no python{HERE} on" in problem


def test_a_conda_environment_is_packed_by_conda_pack(
    fake_pex: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "conda-meta").mkdir()
    (tmp_path / "conda-meta" / "python-3.11-0.json").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    made = packing.archive(None, "")
    assert (made.tool, made.path.name) == ("conda-pack", "environment.tar.gz")
    assert fake_pex[0][-2] == str(tmp_path)
    assert packing.archive(("numpy",), "").tool == "pex"  # a list is pip's


def test_pex_itself(tmp_path: Path):
    made = packing.archive(("iniconfig",), "")
    job = tmp_path / "job"
    job.mkdir()
    os.link(made.path, job / made.path.name)
    lines = unpacking.lines(made.tool, made.path.name, made.digest)
    store = tmp_path / "store"
    store.mkdir()
    found = [shell_setup(lines, job, HTDAG_ENVIRONMENTS=str(store)) for _ in range(2)]
    assert found[0] == found[1]
    python, problem = found[0]
    assert problem == ""
    code = "import iniconfig; print(iniconfig.__file__)"
    printed = subprocess.run(
        [python, "-E", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout
    assert Path(printed).is_relative_to(store / f"htdag-environments-{os.getuid()}")


def test_conda_pack_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder that looks like an environment of conda: its Python says so."""
    prefix = tmp_path / "prefix"
    (prefix / "conda-meta").mkdir(parents=True)
    (prefix / "conda-meta" / "history").touch()
    (prefix / "bin").mkdir()
    python = prefix / "bin" / "python"
    python.write_text(f'#!/bin/sh\nWHERE="$0" exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (prefix / "bin" / "tool").write_text(f"#!{prefix}/bin/python\n")
    flow = htdag.Pipeline(
        htdag.source(range(2), chunk_size=1).map(lambda x: os.environ["WHERE"], name="where"),
        environment=Environment.packed(),
    )
    real = sys.executable
    with monkeypatch.context() as patch:
        patch.setattr(sys, "prefix", str(prefix))
        patch.setattr(packing, "installed", lambda: iter([]))
        run = flow.submit(on="local")
    assert sys.executable == real
    (where,) = set(run.wait(timeout=200).result())
    unpacked = Path(where).parent.parent
    assert unpacked.parent.parent == tmp_path / "home/environments/unpacked"
    # conda-unpack was run: no path of where it was packed is left.
    assert str(prefix) not in (unpacked / "bin/tool").read_text()


# On a pool


@pytest.mark.pool
def test_delivery_packed_brings_numpy(
    pool: Any, runs_dir: Path, note: str, monkeypatch: pytest.MonkeyPatch
):
    version = metadata.version("numpy")
    monkeypatch.setattr(packing, "installed", lambda: iter([("numpy", version, "")]))
    source = htdag.source([4, 9], chunk_size=1)
    packed = source.map(root, name="packed", environment=Environment.packed(), requirements=BLIND)
    interpreter = source.map(
        root,
        name="interpreter",
        environment=Environment.interpreter(sys.executable),
        requirements="TARGET.Memory > 1",
        input_files="file:///etc/hostname",  # so that files are always transferred
    )
    own = source.map(lambda x: sys.flags.dont_write_bytecode, name="own", environment=Named(note))
    run = htdag.Pipeline(packed, interpreter, own).submit(on="condor").wait(timeout=200)
    roots, pythons = zip(*run.result("packed"), strict=True)
    assert roots == (2, 3)
    assert len(set(pythons)) == 1  # unpacked once for both jobs
    assert "htdag-environments-" in pythons[0]
    assert run.result("interpreter") == [(2, sys.executable), (3, sys.executable)]
    assert run.result("own") == [1, 1]


@pytest.mark.pool
def test_what_a_point_lacks_is_one_error_on_htcondor_too(pool: Any, runs_dir: Path):
    roots = htdag.source(range(4), chunk_size=2).map(root, name="roots", retries=3)
    with pool.only("blind"):
        with pytest.warns(EnvironmentWarning, match="numpy"):
            run = htdag.Pipeline(roots).submit(on="condor")
        with pytest.raises(htdag.RunFailed, match="the functions import numpy") as failed:
            run.wait(timeout=200)
    assert len(failed.value.errors) == 1
    assert run.status()["roots"].failed == 0
    # DAGMan did not try again: UNLESS-EXIT.
    assert {path.name for path in run.path.glob("nodes/*/out/*.record")} == {
        "0000.1.record",
        "0001.1.record",
    }


@dataclass(frozen=True)
class Setting:
    """What `dataclass` adds to it has code that is Python's, and the name of this module."""

    value: int


def test_a_module_of_the_project_is_no_package(monkeypatch: pytest.MonkeyPatch):
    own = {__name__.partition(".")[0]: ["other"]}
    monkeypatch.setattr("importlib.metadata.packages_distributions", lambda: own)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.0")
    assert packages_of([Setting]) == ()
