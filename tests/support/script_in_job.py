"""What ``check()`` of a script gives in its own process, and in a job that has none of its modules.

Only the image of the modules is made, and no run around it: that is fast.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import traceback
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from htdag.compile.runtime_archive import runtime_archive
from htdag.functions.image import Image
from htdag.functions.pickling import dump_content

JOB = """
import sys
root = sys.argv[1]
sys.path.insert(0, root + "/runtime.pyz")
from htdag_runtime.code import image
from htdag_runtime.api import shim as inside
inside.install()
check = image.enter(root, root + "/payload", root + "/scratch")["functions"][0]
print(repr(check()), end="")
"""


def in_both(
    folder: Path, files: Mapping[str, str | bytes], python: str = sys.executable, before: str = ""
) -> tuple[str, str]:
    """Return the texts of what ``check()`` of main.py gave, in the script and in a job.

    ``before`` is executed in the job's process first.
    """
    project, run = folder / "project", folder / "run"
    run.mkdir(parents=True)
    for name, content in files.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            content = textwrap.dedent(content).encode()
        path.write_bytes(content)
    plain = _forked(lambda: _submit(project, run))
    project.rename(folder / "gone")
    (run / "runtime.pyz").write_bytes(runtime_archive())
    command = [python, "-I", "-c", before + JOB, str(run)]
    job = subprocess.run(command, cwd=run, capture_output=True, text=True, check=False)
    return plain, job.stdout + job.stderr


def _submit(project: Path, run: Path) -> str:
    sys.path.insert(0, str(project))
    path = project / "main.py"
    main: Any = types.ModuleType("__main__")
    main.__file__ = str(path)
    sys.modules["__main__"] = main
    exec(compile(path.read_text(), path, "exec"), vars(main))
    image = Image()
    content = {"functions": [main.check], "initials": []}
    payload = dump_content(image, content, [("check", main.check)])
    image.finish()
    image.write(run)
    (run / "payload").write_bytes(payload.encode())
    return repr(main.check())


def _forked(work: Callable[[], str]) -> str:
    """Return what a function gives in a child, which is faster than a new Python."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            outcome = work()
        except BaseException:
            outcome = traceback.format_exc()
        with os.fdopen(writing, "w") as file:
            file.write(outcome)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        outcome = file.read()
    os.waitpid(child, 0)
    return outcome
