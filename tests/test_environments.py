"""Environments of stages: options, what is compiled, and jobs that run in them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import htdag
from htdag.environments import Prepared

Environment = htdag.Environment
BLIND = 'TARGET.FileSystemDomain == "blind.test"'


def root(x: float) -> tuple[float, str]:
    import numpy

    return float(numpy.sqrt(x)), sys.executable


@dataclass(frozen=True)
class Found(Environment):
    """The first python3 on PATH, by way of a file that travels with the jobs."""

    note: str = ""

    def prepare(self) -> Prepared:
        setup = 'python=$(command -v "$(cat "$here/name.txt")")\nflags=-B\n'
        return Prepared(setup, files=(("name.txt", self.note),), requirements=BLIND)


def finished(run: Any, timeout: float = 120) -> Any:
    return run.wait(timeout=timeout)


@pytest.mark.pool
def test_environments_bring_numpy_to_points_without_it(pool: Any, runs_dir: Path):
    source = htdag.source([4, 9], chunk_size=1)
    packed = source.map(
        root, name="packed", environment=Environment.packed(["numpy"]), requirements=BLIND
    )
    interpreter = source.map(
        root,
        name="interpreter",
        environment=Environment.interpreter(sys.executable),
        requirements="TARGET.Memory > 1",
    )
    note = runs_dir / "name.txt"
    note.write_text("python3")
    own = source.map(
        lambda x: sys.flags.dont_write_bytecode, name="own", environment=Found(str(note))
    )
    flow = htdag.Pipeline(packed, interpreter, own)
    run = flow.submit(on="condor")
    finished(run)
    roots, pythons = zip(*run.result("packed"), strict=True)
    assert roots == (2, 3)
    assert all("htdag-environments-" in python for python in pythons)
    assert run.result("interpreter") == [(2, sys.executable), (3, sys.executable)]
    assert run.result("own") == [1, 1]
