"""Comparing the Python and packages of a job with those of the script.

This is done before any of the user's objects are unpickled: then a mistake is one message, not one
for each item.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import TYPE_CHECKING, List, NamedTuple, Optional, Tuple

if TYPE_CHECKING:
    from ..formats.task import Program

MISMATCHES = (
    "PythonVersionMismatch",
    "PackagesMissing",
    "PythonNotFound",
    "EnvironmentNotReady",
)
"""The types of errors of an environment that does not match, independent of items."""


class Mismatch(NamedTuple):
    """The reason why no function of a node can run here."""

    type: str
    message: str


def enter(program: Program) -> None:
    """Make this process find the packages that the script found outside of its Python.

    Parameters
    ----------
    program : dict
        What the node's jobs do: ``folders``, in which the script's process had packages (they count
        where they are visible), and ``distributions``, which are the user's own.
    """
    sys.path += [each for each in program.get("folders", ()) if os.path.exists(each)]
    if program.get("distributions"):
        from . import distributions

        distributions.install(program["distributions"])


def mismatch(program: Program) -> Optional[Mismatch]:
    """Return why this Python cannot run the functions of a node; None if it can.

    Parameters
    ----------
    program : dict
        What the node's jobs do: ``python``, ``environment``, ``packages`` and ``remedy`` of it.
    """
    host = os.uname().nodename
    python = "%s on %s" % (sys.executable, host)
    version = (program["python"][0], program["python"][1])
    if sys.version_info[:2] != version:
        text = (
            "the functions were pickled by Python %d.%d, but %s is Python %s: pickled functions do "
            "not cross minor versions (environment: %s). Run the script with Python %d.%d, or %s"
            % (
                *version,
                python,
                sys.version.split()[0],
                program["environment"],
                *sys.version_info[:2],
                program["remedy"]["python"],
            )
        )
        return Mismatch("PythonVersionMismatch", text)
    missing = [
        distribution or module
        for module, distribution, _, required in program["packages"]
        if required and not _is_there(module)
    ]
    if missing:
        text = "the functions import %s, which %s does not have (environment: %s); %s" % (
            ", ".join(missing),
            python,
            program["environment"],
            program["remedy"]["packages"],
        )
        return Mismatch("PackagesMissing", text)
    return None


def differences(program: Program) -> List[Tuple[str, str, str]]:
    """Return packages with other versions than in the script: name, version here, version there."""
    packages = [each for each in program["packages"] if each[1]]
    if not packages:
        return []
    from importlib import metadata

    different = []
    for _, distribution, version_there, _ in packages:
        try:
            version_here = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue  # an import that may fail, or a module that was installed in another way
        if version_here != version_there:
            different.append((distribution, version_here, version_there))
    return different


def _is_there(module: str) -> bool:
    if module in sys.modules:
        return True
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
