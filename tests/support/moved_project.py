"""Projects of several files that run where none of them is.

A project is laid out, its script compiles a run directory there, the project is taken away, and a
bare Python runs the run directory.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path

import reference

from htdag.runtime import layout, planfile
from htdag.runtime.dag import judgement
from htdag.runtime.layout import NodeFiles

# What a script ends with.
END = """
if __name__ == "__main__":
    import pathlib, sys
    from htdag.compile import write_run
    write_run(htdag.Pipeline(stage, chunk_size=9).plan(), pathlib.Path(sys.argv[1]), "run")
"""
# Results as text: the classes of the project are not there any more.
READ = """
import json, pickle, sys
sys.path.insert(0, sys.argv[1])
from htdag_runtime.code import image
from htdag_runtime.api import shim as inside
from htdag_runtime.data import itemfile
inside.install()
image.Image.read(".").install()
values = [pickle.loads(frame.payload) for frame in itemfile.read(sys.argv[2])]
print(json.dumps([repr(value) for value in values]))
"""


def bare_python(*arguments, cwd):
    """A Python that finds neither the project nor anything that is installed."""
    command = [sys.executable, "-I", "-S", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def write_project(project, files):
    """Write the files of a project."""
    for name, content in files.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content))


def compile_project(folder, files, main="main.py"):
    """Write a project, let its script compile a run directory, and take the project away."""
    project, run, log = folder / "the project", folder / "run", folder / "log"
    write_project(project, files)
    with (project / main).open("a") as file:
        file.write(END)
    child = os.fork()  # faster than a Python that has to import htdag
    if child == 0:
        status = 1
        try:
            sys.path.insert(0, str(project))
            sys.argv = [str(project / main), str(run)]
            runpy.run_path(sys.argv[0], run_name="__main__")
            status = 0
        except BaseException:
            log.write_text(traceback.format_exc())
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0, log.read_text()
    project.rename(folder / "gone")
    return run


def run_project(folder, files):
    """Run a project given as file contents; return the reprs of the items of stage "out"."""
    run = compile_project(folder, files)
    plan = planfile.read(str(run))
    for node in plan["nodes"]:
        for chunk, attempt in reference.listed(run, node["name"]):
            job = ["work", node["name"], f"{chunk:04d}", attempt]
            done = bare_python(run / layout.RUNTIME, *job, cwd=run)
            assert (done.returncode, done.stderr) == (0, "")
        verdict = judgement.judge(str(run), plan, node, last_try=True)
        records = Path(NodeFiles(run, node["name"]).outcomes).glob("*.record")
        assert verdict.succeeded, "\n".join(path.read_text() for path in records)
    (output,) = run.glob("nodes/*/out/*.out.items")
    done = bare_python("-c", READ, run / layout.RUNTIME, output, cwd=run)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
