"""Containers, run for real by Apptainer, on a pool and on this machine: a folder, a file, a URL."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest
import registry
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


def runner(folder: Path) -> Path:
    """A program that runs Apptainer with a registry without encryption, and without compression."""
    folder.mkdir()
    program, squash = folder / "apptainer", folder / "mksquashfs"
    program.write_text(
        f"#!/bin/sh\nexport APPTAINER_NOHTTPS=1 APPTAINER_CACHEDIR={folder}/cache "
        f'PATH={folder}:$PATH\nexec {APPTAINER} "$@"\n'
    )
    own = APPTAINER.with_name("mksquashfs")
    own = own if own.exists() else Path(shutil.which("mksquashfs") or own)
    squash.write_text(f'#!/bin/sh\nexec {own} "$@" -noI -noD -noF -noX\n')
    for path in (program, squash):
        path.chmod(0o755)
    return program


@dataclass(frozen=True)
class Containers:
    """A pool that runs containers, and images.

    Its points see the folder; they do not see the file; the other is in a registry.
    """

    pool: Pool
    program: Path
    folder: Path
    file: Path
    url: str


@pytest.fixture(scope="module")
def containers(pool_area: Area) -> Iterator[Containers]:
    if not APPTAINER.exists():
        pytest.fail("There is no Apptainer for the tests: tools/get-apptainer .apptainer", False)
    program = runner(pool_area.path / "bin")
    # The pool lies below /var/tmp, which containers otherwise have one of their own of.
    settings = {**FAST, "SINGULARITY": str(program), "MOUNT_UNDER_SCRATCH": ""}
    # HTCondor tries an image of its own to know this, and Debian's packages leave that out.
    settings |= {"STARTD_ATTRS": "HasSIF", "HasSIF": "True"}
    pool = Pool("containers", pool_area, settings)
    folder = pool_area.path / "image"
    explode(folder, pool.python)
    file = pool_area.new_runs_dir() / "an image; #1.sif"
    built = subprocess.run([program, "build", file, folder], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    with registry.serving(folder, pool_area.path / "layer.tar") as address:
        yield Containers(pool, program, folder, file, f"docker://{address}/lab/python:1")
    pool.stop()


def root(x: float) -> tuple[float, bool]:
    import numpy

    return float(numpy.sqrt(x)), os.path.exists(MARK)


def inside(x: int) -> bool:
    return os.path.exists(MARK)


@pytest.mark.pool
def test_delivery_in_images(
    containers: Containers, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    image, container = containers, htdag.Environment.container
    source = htdag.source([4, 9], chunk_size=1)
    one = htdag.source([1])
    here = container(image.folder)
    there = container(image.folder, requirements=BLIND)
    sent = container(image.file, requirements=BLIND)
    pulled = container(image.url, requirements=BLIND)
    flow = htdag.Pipeline(
        source.map(root, name="seeing", environment=here, requirements="TARGET.Memory > 1"),
        source.map(root, name="blind", environment=there),
        source.map(root, name="sent", environment=sent),
        one.map(inside, name="pulled", environment=pulled),
    )
    with image.pool.use():
        run = flow.submit(on="condor").wait(timeout=200)
        for stage in ("seeing", "blind", "sent"):
            assert run.result(stage) == [(2, True), (3, True)]
        assert run.result("pulled") == [True]
        ads = {ad["DAGNodeName"]: ad for ad in image.pool.job_ads("JobUniverse == 5")}
    # Facts that the environment rests on.
    assert "FileSystemDomain" in ads["seeing"]
    assert "FileSystemDomain" not in ads["blind"]
    needs = {"seeing": "HasSandboxImage", "sent": "HasSIF", "pulled": "HasDockerURL"}
    for stage, attribute in needs.items():
        assert f"TARGET.{attribute}" in str(ads[stage].lookup("Requirements"))
    monkeypatch.setenv("PATH", f"{image.program.parent}:{os.environ['PATH']}")
    local = htdag.Pipeline(
        source.map(root, name="folder", environment=here),
        source.map(root, name="file", environment=container(image.file)),
        one.map(inside, name="url", environment=container(image.url)),
    )
    found = local.submit(on="local").wait(timeout=200)
    assert found.result("folder") == found.result("file") == [(2, True), (3, True)]
    assert found.result("url") == [True]
