"""Containers, run for real by Apptainer, on a pool and on this machine: a folder, and a file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from pool import APPTAINER as PREFIX
from pool import FAST, Area, Pool

import htdag

APPTAINER = Path(shutil.which("apptainer") or PREFIX / "usr/bin/apptainer")
MARK = "/in-the-image"
# What runtime.pyz needs beside Python.
TOOLS = ("sh", "mkdir", "hostname", "tr", "cat")
BLIND = 'TARGET.FileSystemDomain == "blind.test"'


def libraries(program: Path) -> set[Path]:
    """The shared libraries and the loader that a program or library needs."""
    done = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    return {Path(found) for found in re.findall(r"(/\S+) \(0x", done.stdout)}


def explode(image: Path, python: Path) -> None:
    """Make a folder that holds a minimal system: a shell, a few tools, Python and numpy."""
    code = "import site, sysconfig; print(sysconfig.get_path('stdlib'), site.getsitepackages()[0])"
    asked = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    standard, packages = map(Path, asked.stdout.split())
    leave = shutil.ignore_patterns("__pycache__", "test", "tests", "site-packages", "config-*")
    shutil.copytree(standard, image / standard.relative_to("/"), ignore=leave, symlinks=False)
    for folder in Path(numpy.__file__).parent, Path(numpy.__file__).parent.parent / "numpy.libs":
        if folder.is_dir():
            there = image / packages.relative_to("/") / folder.name
            shutil.copytree(folder, there, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    real = Path(os.path.realpath(python))
    programs = {Path(f"/bin/{tool}"): Path(os.path.realpath(f"/bin/{tool}")) for tool in TOOLS}
    programs[Path("/usr/bin/python3")] = programs[real] = real
    needed = {library for program in programs.values() for library in libraries(program)}
    for extension in image.rglob("*.so"):
        needed |= libraries(extension)
    for name, program in [*programs.items(), *((library, library) for library in needed)]:
        if name.is_relative_to(image):
            continue  # beside the extension that needs it
        there = image / name.relative_to("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        if not there.exists():
            shutil.copy2(os.path.realpath(program), there)
    for name in ("dev", "proc", "sys", "tmp", "var/tmp", "etc", "home", "root"):
        (image / name).mkdir(parents=True, exist_ok=True)
    for name in ("passwd", "group", "hosts", "resolv.conf", "localtime"):
        (image / "etc" / name).touch()
    test = image / ".singularity.d/actions/test"  # HTCondor asks for it
    test.parent.mkdir(parents=True)
    test.write_text("#!/bin/sh\nexit 0\n")
    test.chmod(0o755)
    (image / MARK[1:]).touch()


def build(file: Path, folder: Path) -> None:
    """Make an image file of a folder; without compression, which takes half a minute."""
    plain = "--mksquashfs-args=-noI -noD -noF -noX"
    built = [APPTAINER, "build", plain, file, folder]
    done = subprocess.run(built, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def containers(pool_area: Area) -> Iterator[tuple[Pool, Path, Path]]:
    """A pool that runs containers, an image that its points see, and one that they do not."""
    if not APPTAINER.exists():
        pytest.fail("There is no Apptainer for the tests: tools/get-apptainer .apptainer", False)
    # The pool lies below /var/tmp, which containers otherwise have one of their own of.
    settings = {**FAST, "SINGULARITY": str(APPTAINER), "MOUNT_UNDER_SCRATCH": ""}
    # HTCondor tries an image of its own to know this, and Debian's packages leave that out.
    settings |= {"STARTD_ATTRS": "HasSIF", "HasSIF": "True"}
    pool = Pool("containers", pool_area, settings)
    image = pool_area.path / "image"
    explode(image, pool.python)
    file = pool_area.new_runs_dir() / "an image; #1.sif"
    build(file, image)
    yield pool, image, file
    pool.stop()


def root(x: float) -> tuple[float, bool]:
    import numpy

    return float(numpy.sqrt(x)), os.path.exists(MARK)


@pytest.mark.pool
def test_delivery_in_images(
    containers: tuple[Pool, Path, Path], runs_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    pool, folder, file = containers
    source = htdag.source([4, 9], chunk_size=1)
    here = htdag.Environment.container(folder)
    there = htdag.Environment.container(folder, requirements=BLIND)
    sent = htdag.Environment.container(file, requirements=BLIND)
    flow = htdag.Pipeline(
        source.map(root, name="seeing", environment=here, requirements="TARGET.Memory > 1"),
        source.map(root, name="blind", environment=there),
        source.map(root, name="sent", environment=sent),
    )
    with pool.use():
        run = flow.submit(on="condor").wait(timeout=90)
        for stage in ("seeing", "blind", "sent"):
            assert run.result(stage) == [(2, True), (3, True)]
        ads = {ad["DAGNodeName"]: ad for ad in pool.job_ads("JobUniverse == 5")}
    # Facts that the environment rests on.
    assert "FileSystemDomain" in ads["seeing"]
    assert "FileSystemDomain" not in ads["blind"]
    assert "TARGET.HasSandboxImage" in str(ads["seeing"].lookup("Requirements"))
    assert "TARGET.HasSIF" in str(ads["sent"].lookup("Requirements"))
    monkeypatch.setenv("PATH", f"{APPTAINER.parent}:{os.environ['PATH']}")
    local = htdag.Pipeline(
        source.map(root, name="folder", environment=here),
        source.map(root, name="file", environment=htdag.Environment.container(file)),
    )
    found = local.submit(on="local").wait(timeout=60)
    assert found.result("folder") == found.result("file") == [(2, True), (3, True)]
