"""What is the user's own code, and what is installed: by how Python found it."""

from __future__ import annotations

import importlib.util
import json
import os
import py_compile
import subprocess
import sys
import sysconfig
import types
import venv
import zipfile
from pathlib import Path

import pytest

import htdag
from htdag.functions import project as _project

ROOT = Path(__file__).resolve().parents[2]

PROBE = """
import importlib, json, sys
from htdag.functions import project as _project
names = json.loads(sys.argv[1])
found = {}
for name in names:
    spec = _project.find_spec(name)
    before = _project.is_project_spec(spec)
    module = importlib.import_module(name)
    after = _project.is_project_module(module)
    assert before == after, name
    found[name] = "own" if after else "installed"
sources = {name: (_project.source_of(name) or b"").decode() for name in names}
print(json.dumps([found, sources, _project.package_folders()]))
"""


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def distribution(name, files, **more):
    """The files of an installed distribution."""
    info = f"{name}-1.0.dist-info"
    record = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    own = {f"{info}/RECORD": record, f"{info}/METADATA": metadata}
    return {**dict.fromkeys(files, "X = 1\n"), **own, **{f"{info}/{k}": v for k, v in more.items()}}


def editable(folder):
    url = {"url": Path(folder).as_uri(), "dir_info": {"editable": True}}
    return {"direct_url.json": json.dumps(url)}


@pytest.fixture(scope="module")
def classified(tmp_path_factory):
    """Modules of a machine with all there may be: own or installed, sources, and folders."""
    base = tmp_path_factory.mktemp("machine")
    project = base / "project"
    venv.create(project / "env", with_pip=False, symlinks=True)
    (site,) = (project / "env" / "lib").glob("python*/site-packages")
    libs, shared, cache, work = (base / name for name in ("libs", "shared", "cache", "work"))
    write(project, {"beside.py": "", "pack/__init__.py": "", "pack/sub/deep.py": "# -*- é\n"})
    write(project, {"bare/inner.py": "", "yaml/__init__.py": "# mine"})
    # pip install --target, with a file of the user's put beside it
    recorded = ["target/__init__.py", "target_single.py", "spaced/there/__init__.py"]
    write(libs, distribution("target", recorded))
    write(libs, {"loose.py": "", "target/made_later.py": "", "spaced/mine.py": ""})
    write(shared, {"of_the_group.py": ""})
    # Site directories: real files, links to a cache, and work that is installed as editable
    write(site, distribution("real", ["real/__init__.py"]))
    write(site, {"dropped.py": ""})
    write(cache, {"linked/__init__.py": "", "linked_file.py": ""})
    (site / "linked").symlink_to(cache / "linked")
    (site / "linked_file.py").symlink_to(cache / "linked_file.py")
    write(work, {"src/by_path.py": "", "flit/by_link/__init__.py": "", "flit/by_link_file.py": ""})
    write(site, distribution("by-path", ["__editable__.pth"], **editable(work / "src")))
    (site / "__editable__.pth").write_text(str(work / "src"))
    write(site, distribution("by-link", [], **editable(work / "flit")))
    (site / "by_link").symlink_to(work / "flit" / "by_link")
    (site / "by_link_file.py").symlink_to(work / "flit" / "by_link_file.py")
    with zipfile.ZipFile(base / "wheel.whl", "w") as archive:
        for name, text in distribution("zipped", ["zipped/__init__.py"]).items():
            archive.writestr(name, text)
    with zipfile.ZipFile(base / "own.zip", "w") as archive:
        archive.writestr("in_zip.py", "Y = 2\n")
    # A script that lies in a folder which is only named like one of Python's
    write(project / "site-packages", {"helper.py": "", "probe.py": PROBE})
    (project / "linked_project").symlink_to(shared)
    python = project / "env" / "bin" / "python"
    path = [project, libs, shared, base / "wheel.whl", base / "own.zip"]
    path += [ROOT, sysconfig.get_path("purelib")]
    names = ["beside", "pack", "pack.sub", "pack.sub.deep", "bare", "bare.inner", "yaml", "helper"]
    names += ["target", "target_single", "spaced", "spaced.there", "spaced.mine", "loose"]
    names += ["target.made_later", "of_the_group", "real", "dropped", "linked", "linked_file"]
    names += ["by_path", "by_link", "by_link_file", "zipped", "in_zip", "cloudpickle", "htdag"]
    names += ["json", "math", "_json", "zipimport", "os.path"]
    done = subprocess.run(
        [python, project / "site-packages" / "probe.py", json.dumps(names)],
        env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
        check=False,
        cwd=base,
    )
    assert done.returncode == 0, done.stderr
    found, sources, folders = json.loads(done.stdout)
    return found, sources, [Path(folder).name for folder in folders]


OWN = [
    *("beside", "pack", "pack.sub", "pack.sub.deep", "bare", "bare.inner", "yaml", "helper"),
    *("spaced.mine", "loose", "of_the_group", "by_path", "by_link", "by_link_file", "in_zip"),
]


def test_own_and_installed(classified):
    found, _, _ = classified
    assert [name for name, whose in found.items() if whose == "own"] == sorted(
        OWN, key=list(found).index
    )


def test_sources_are_found_wherever_they_are(classified):
    _, sources, _ = classified
    assert (sources["in_zip"], sources["yaml"], sources["pack.sub.deep"]) == (
        "Y = 2\n",
        "# mine",
        "# -*- é\n",
    )
    assert {sources[name] for name in ("math", "bare", "pack")} == {""}


def test_folders_that_another_process_does_not_search(classified):
    assert classified[2][:2] == ["libs", "wheel.whl"]
    assert not {"project", "shared", "own.zip"} & set(classified[2])


def made(name, text="", **names):
    module = types.ModuleType(name)
    exec(compile(text, "<text>", "exec"), vars(module))
    vars(module).update(names)
    return module


def test_modules_that_come_from_no_file(monkeypatch):
    for name in ("made_here", "package_of_mine"):
        monkeypatch.setitem(sys.modules, name, made(name))
    assert _project.is_project_module(made("settings", "X = 1"))
    assert _project.is_project_module(made("functions", "def f(): pass"))
    assert _project.is_project_module(made("package_of_mine.inner"))
    assert not _project.is_project_module(made("json.inner"))
    assert not _project.is_project_module(made("of_packages", f=os.path.join))
    assert not _project.is_project_module(made("_cython_3_0_11"))
    assert not _project.is_project_module(importlib.util.module_from_spec(sys.__spec__))


class Loud(types.ModuleType):
    def __getattribute__(self, name):
        raise AssertionError(name)


def test_a_lazy_module_stays_unloaded():
    module = Loud("lazy")
    assert _project.is_project_module(module)
    assert not _project.is_project_module(types.SimpleNamespace(__file__=__file__))


def test_code_that_was_made_from_text():
    dataclass = "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int\n"
    mine = made("__main__", dataclass)
    assert _project.is_project_function(mine.A.__init__)
    assert not _project.is_project_function(json.dumps)
    assert not _project.is_project_function(htdag.source)
    taken = {}
    exec("def f(): pass", {"__name__": "json"}, taken)
    assert not _project.is_project_function(taken["f"])


SCRIPT = """
import htdag

def use(x):
    import in_zip, single, target
    from importlib import metadata
    import compiled, develop
    number = single.X + target.X + in_zip.Y + compiled.f(x)
    return number, metadata.version("develop"), develop.__name__

if __name__ == "__main__":
    import json
    print(json.dumps(htdag.Pipeline(htdag.source([1]).map(use)).run(on="local")))
"""


def test_jobs_have_what_the_script_found_beside_its_python(tmp_path):
    """Packages where they are, what is in zip files or compiled only, and versions."""
    write(tmp_path / "libs", distribution("target", ["target/__init__.py", "single.py"]))
    write(tmp_path / "work", {"develop.py": ""})
    told = "Metadata-Version: 2.1\nName: develop\nVersion: 3.4\n\nAt length"
    write(tmp_path / "work", {"develop.egg-info/PKG-INFO": told, "script.py": SCRIPT})
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        archive.writestr("in_zip.py", "Y = 2\n")
    write(tmp_path, {"compiled.py": "def f(x):\n    return x\n"})
    py_compile.compile(tmp_path / "compiled.py", cfile=tmp_path / "work" / "compiled.pyc")
    path = os.pathsep.join(map(str, (tmp_path / "libs", tmp_path / "own.zip", ROOT)))
    done = subprocess.run(
        [sys.executable, tmp_path / "work" / "script.py"],
        env={**os.environ, "PYTHONPATH": path, "HTDAG_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[5, "3.4", "develop"]]
