"""Digests of modules: what counts as a change, on every Python of this machine."""

from __future__ import annotations

import glob
import os
import subprocess
import sys

import pytest

from htdag.functions import digests

PYTHONS = sorted({sys.executable, *glob.glob("/root/.pyenv/versions/3.1[0-9].*/bin/python")})
PYTHONS = [python for python in PYTHONS if os.access(python, os.X_OK)]

BLOCKS = """\
if flag:
    X = 1
else:
    X = 2
for each in ():
    pass
while False:
    pass
with open(__file__) as file:
    pass
try:
    import yaml
except ImportError:
    yaml = None
class A:
    def f(self):
        if True:
            return lambda: 0
async def g():
    async with x:
        async for y in z:
            pass
match X:
    case 1:
        Y = 1
"""

SAME = {
    "comments and blank lines": ("x = 1\n", "# the one\n\nx = 1  # here\n"),
    "docstrings": (
        "def f():\n    return 1\nclass A:\n    x = 1\n",
        '"""Module."""\ndef f():\n    "F."\n    return 1\nclass A:\n    "A."\n    x = 1\n',
    ),
    "an encoding": ("x = 'é'\n", "# -*- coding: latin-1 -*-\nx = 'é'\n".encode("latin-1")),
    "blocks": (BLOCKS, BLOCKS.replace("\n", "  # nothing\n\n")),
}
OTHER = {
    "a number": ("x = 1\n", "x = 2\n"),
    "a text at the top of a block": ("if x:\n    'a'\n", "if x:\n    'b'\n"),
    "blocks": (BLOCKS, BLOCKS.replace("Y = 1", "Y = 2")),
    "a docstring that is used": (
        "'''a'''\nprint(__doc__)\n",
        "'''b'''\nprint(__doc__)\n",
    ),
    "what cannot be parsed": ("x = (\n", "y = (\n"),
    "a null": ("x = 1\0\n", "x = 2\0\n"),
    "a lone surrogate": ("x = '\udc80'\n", "x = '\udc81'\n"),
    "too deep": ("(" * 5000 + "1" + ")" * 5000, "(" * 5000 + "2" + ")" * 5000),
    "a long sum": ("x = " + "+".join("1" * 5000), "x = " + "+".join("1" * 4999) + "+2"),
    "an unknown encoding": (b"# coding: nothing\nx = 1\n", b"# coding: nothing\nx = 2\n"),
}


@pytest.mark.parametrize("what", SAME)
def test_what_leaves_a_module_as_it_is(what):
    before, after = SAME[what]
    assert digests.of_source(before) == digests.of_source(after)


@pytest.mark.parametrize("what", OTHER)
def test_what_changes_a_module(what):
    before, after = OTHER[what]
    assert digests.of_source(before) == digests.of_source(before)
    assert digests.of_source(before) != digests.of_source(after)


@pytest.mark.parametrize("python", PYTHONS)
def test_any_module_has_a_digest(python):
    """On each Python by itself: the standard library has all that Python's grammar knows."""
    code = f"""
import glob, os, runpy
of_source = runpy.run_path({digests.__file__!r})["of_source"]
for file in sorted(glob.glob(os.path.dirname(os.__file__) + "/*.py"))[::4]:
    with open(file, "rb") as opened:
        of_source(opened.read())
assert of_source({BLOCKS!r}) != of_source({BLOCKS.replace("Y = 1", "Y = 2")!r})
"""
    done = subprocess.run([python, "-W", "error", "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
