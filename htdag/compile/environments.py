"""The environments of a plan: prepared before a run directory is written, then placed in it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from htdag.common.warn import warn
from htdag.compile.node_content import functions_of
from htdag.config.directories import make_folder
from htdag.environments import Environment, EnvironmentWarning, Prepared
from htdag.environments.environment import Assumed
from htdag.errors import OptionError
from htdag.functions.packages import Package, own_distributions, packages_of
from htdag.functions.project import package_folders
from htdag.plan import Node, Plan
from htdag.runtime import layout
from htdag.runtime.layout import RunFiles

if TYPE_CHECKING:
    from htdag.runtime.formats.task import EnvironmentEntry


_RUN = """\
#!/bin/sh
# The environment of stages: {what}
# It finds the Python of a job, and starts runtime.pyz with it, which gets the arguments.
here={here}
python= problem= flags=-E
{setup}
[ -n "$python$problem" ] || problem="no Python was found on $(hostname)"
[ -n "$problem" ] || [ -x "$python" ] || problem="$python on $(hostname) cannot be run"
HTDAG_PYTHON=$python HTDAG_PYTHON_FLAGS=$flags HTDAG_PROBLEM=$problem
export HTDAG_PYTHON HTDAG_PYTHON_FLAGS HTDAG_PROBLEM
exec /bin/sh ./runtime.pyz "$@"
"""

_LOCAL = """\
#!/bin/sh
# The environment of stages, on the machine that submits: {what}
{setup}
"""


@dataclass(frozen=True)
class Placed:
    """An environment in a run directory.

    Attributes
    ----------
    environment : Environment
        The environment.
    prepared : Prepared
        What it needs.
    folder : str
        Its folder in the run directory; "" if it needs none.
    """

    environment: Environment
    prepared: Prepared
    folder: str

    @property
    def script(self) -> str:
        """The script that HTCondor runs with a shell."""
        return RunFiles().environment_script(self.folder) if self.prepared.setup else layout.RUNTIME

    @property
    def sent(self) -> list[str]:
        """The files that travel with each job: scripts, and the files of the environment."""
        if not self.prepared.setup:
            return [layout.RUNTIME]
        files = (f"{self.folder}/{name}" for name, _ in self.prepared.files)
        return [self.script, layout.RUNTIME, *files]

    @property
    def local_script(self) -> str | None:
        """The script that starts a job on this machine; None: the submitting Python does it."""
        if self.prepared.local:
            return RunFiles().environment_local_script(self.folder)
        return RunFiles().environment_script(self.folder) if self.prepared.setup else None


def environment_of(node: Node) -> Environment:
    """Return the environment of a node's jobs."""
    return node.options.environment or Assumed()


def check(plan: Plan, on: str, finds_packages: Callable[[], bool] = lambda: False) -> None:
    """Raise an error for environments that cannot work, and warn of those that may not.

    Parameters
    ----------
    plan : Plan
        The plan.
    on : {"condor", "local"}
        Where the plan will run.
    finds_packages : callable
        Whether jobs there run in the Python of this process, with its packages.

    Raises
    ------
    OptionError
        If an environment does not exist.
    """
    missing: dict[str, str] = {}
    for node in plan.nodes_with_jobs:
        environment = environment_of(node)
        environment.check(on)
        if on == "condor" and not environment.brings_packages:
            for package in node_packages(node):
                name = package.distribution or package.module
                missing.setdefault(name, _first_stage(node))
    if missing and not finds_packages():
        names = ", ".join(f"{name} ({stage})" for name, stage in missing.items())
        warn(
            f"the functions import packages that the jobs' python3 may not have (each with the "
            f"first stage that needs it): {names}. Give these stages, or the pipeline, "
            f"environment=htdag.Environment.packed() (or interpreter, container). If jobs do have "
            f"them, ignore htdag.environments.EnvironmentWarning",
            EnvironmentWarning,
        )


def prepare(plan: Plan) -> dict[Environment, Placed]:
    """Prepare the environments of a plan; if it takes long, say so on standard error.

    Raises
    ------
    PackingError
        If one cannot be packed.
    OptionError
        If a user's own environment is wrong, or conflicts with a stage's submit commands.
    """
    placed: dict[Environment, Placed] = {}
    for node in plan.nodes_with_jobs:
        environment = environment_of(node)
        if environment not in placed:
            placed[environment] = _placed(environment)
        _check_commands(node, placed[environment])
    return placed


def _placed(environment: Environment) -> Placed:
    prepared = environment.prepare()
    if not isinstance(prepared, Prepared):
        raise OptionError(
            f"environment {environment}: prepare() returned a {type(prepared).__name__}, "
            f"not an htdag.environments.Prepared"
        )
    for name, path in prepared.files:
        if (
            os.sep in name
            or name in ("run.sh", "local.sh", "", ".", "..")
            or not Path(path).is_file()
        ):
            raise OptionError(
                f"environment {environment}: it cannot send the file {path!r} as {name!r}"
            )
    if not prepared.setup and not prepared.local:
        return Placed(environment, prepared, "")
    digest = hashlib.sha256(repr((str(environment), prepared)).encode()).hexdigest()
    return Placed(environment, prepared, f"{layout.ENVIRONMENTS}/{environment.kind}-{digest[:8]}")


def _check_commands(node: Node, placed: Placed) -> None:
    reserved = {name.lower() for name, _ in placed.prepared.submit}
    for name, _ in node.options.submit or ():
        if name.lower() in reserved:
            raise OptionError(
                f"stage {_first_stage(node)!r}: the submit command {name!r} is set by its "
                f"environment, {placed.environment}"
            )


def _first_stage(node: Node) -> str:
    return node.stages[0] if node.stages else node.outputs[0].stage


def write(run: Path, placed: Iterable[Placed]) -> None:
    """Write the scripts of environments into a run directory, and link their files."""
    for each in placed:
        if not each.folder:
            continue
        folder = run / each.folder
        make_folder(folder)
        what = str(each.environment).replace("\n", " ").replace("\r", " ")
        if each.prepared.setup:
            script = _RUN.format(what=what, here=each.folder, setup=each.prepared.setup.strip("\n"))
            _write(Path(RunFiles(run).environment_script(each.folder)), script)
        if each.prepared.local:
            script = _LOCAL.format(what=what, setup=each.prepared.local.strip("\n"))
            _write(Path(RunFiles(run).environment_local_script(each.folder)), script)
        for name, path in each.prepared.files:
            layout.link_or_copy(os.path.realpath(path), str(folder / name))


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def content(node: Node, placed: Mapping[Environment, Placed]) -> EnvironmentEntry:
    """Return what the jobs of a node compare with the script, and remedies for differences."""
    environment = placed[environment_of(node)].environment
    reached = _reached(node)
    packages = packages_of(reached)
    return {
        "environment": str(environment),
        "folders": [] if environment.brings_packages else package_folders(),
        "distributions": own_distributions(reached),
        "packages": [
            (package.module, package.distribution, package.version, package.required)
            for package in packages
        ],
        "remedy": {
            "python": environment.remedy("Python"),
            "packages": environment.remedy("packages"),
        },
    }


def node_packages(node: Node) -> tuple[Package, ...]:
    """Return the installed packages that the jobs of a node import."""
    return packages_of(_reached(node))


def _reached(node: Node) -> list[Any]:
    classes: set[Any] = set()
    for stream in node.input.streams:
        if stream.source is not None:
            classes |= stream.source.classes
    return [*functions_of(node), *classes]
