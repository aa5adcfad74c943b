"""Fixtures of the tests of functions that travel."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import moved_project
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def run_project(tmp_path: Path) -> Callable[[dict[str, str]], list[str]]:
    """Run a project given as file contents; return the reprs of the items of stage "out"."""
    return functools.partial(moved_project.run_project, tmp_path)
