"""The project as a whole: what lies in it and what is built from it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FOLDERS = {".ci", "benchmarks", "docs", "examples", "htdag", "tests", "tools"}
FILES = {
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "pyproject.toml",
    ".pre-commit-config.yaml",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "SECURITY.md",
}


def run(*command: object, **options: object) -> str:
    """The output of a command that has to succeed."""
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def git_files(*arguments: str) -> set[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    return set(filter(None, run("git", "-C", ROOT, "ls-files", "-z", *arguments).split("\0")))


def package_files() -> set[str]:
    """The package's files as a commit of everything would have them."""
    names = git_files("--cached", "--others", "--exclude-standard", "htdag")
    return {name for name in names if (ROOT / name).exists()}


def declared_version() -> str:
    text = (ROOT / "htdag" / "common" / "package.py").read_text(encoding="utf-8")
    found = re.search(r'^VERSION = "(.+)"$', text, re.MULTILINE)
    assert found
    return found[1]


def test_top_level_holds_only_what_people_expect():
    top = {name.split("/")[0] for name in git_files("--cached")}
    assert top == FOLDERS | FILES


def test_tools_and_ci_are_executable():
    scripts = [ROOT / ".ci" / "run", *(ROOT / "tools").iterdir()]
    assert [str(path) for path in scripts if path.is_file() and not os.access(path, os.X_OK)] == []


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The source distribution, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def test_wheel_holds_the_whole_package_and_nothing_else(distributions):
    _, wheel = distributions
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert "htdag/py.typed" in names
    assert names == package_files()


def test_sdist_holds_the_package_and_the_tests(distributions):
    sdist, _ = distributions
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert package_files() <= names
    assert {"LICENSE", "README.md", "pyproject.toml", "tests/conftest.py"} <= names
    assert {name.split("/")[0] for name in names} <= FOLDERS | FILES | {"PKG-INFO"}


def test_built_wheel_works_on_its_own(distributions, tmp_path):
    _, wheel = distributions
    home = tmp_path / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel)
    # The dependencies come from this environment. Its own .pth files do not count in there, so
    # that htdag itself can only come from the wheel.
    site_packages = next((home / "lib").glob("python*/site-packages"))
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site_packages / "dependencies.pth").write_text("\n".join(sorted(libraries)) + "\n")

    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    options = {"cwd": tmp_path, "env": environment}
    where = run(python, "-c", "import htdag; print(htdag.__file__)", **options)
    assert Path(where.strip()).is_relative_to(site_packages)
    assert declared_version() in run(home / "bin" / "htdag", "version", **options)
    assert "Usage" in run(home / "bin" / "htdag", "--help", **options)
