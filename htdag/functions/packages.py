"""The installed packages that functions import, which jobs must have."""

from __future__ import annotations

import contextlib
import dis
import os
import sys
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from htdag.common.package import FOLDER
from htdag.functions.project import editable_projects, is_project_name
from htdag.functions.reach import imported_names, reach

if TYPE_CHECKING:
    from importlib.metadata import Distribution

_OURS = frozenset(["htdag", "cloudpickle", "__main__", "__mp_main__", "builtins", ""])
_OWN_FOLDERS = (os.path.dirname(os.path.realpath(FOLDER)),)
_TRIES = ("SETUP_FINALLY", "SETUP_WITH", "SETUP_ASYNC_WITH")  # until Python 3.10


@dataclass(frozen=True, order=True)
class Package:
    """An installed package that functions import.

    Attributes
    ----------
    module : str
        The top-level module.
    distribution, version : str
        The name under which it is installed, and its version; "" if several share the module.
    required : bool
        Whether the functions need it. An import inside of ``try`` may fail.
    """

    module: str
    distribution: str
    version: str
    required: bool


def packages_of(functions: Iterable[Any]) -> tuple[Package, ...]:
    """Return the installed packages that functions import, by name.

    Parameters
    ----------
    functions : iterable
        Functions, and values and classes that travel with them.
    """
    reached = reach(functions)
    required_by_module = {name.partition(".")[0]: True for name in reached.foreign}
    for code, package in reached.codes:
        for name, guarded in _imports(code, package):
            top = name.partition(".")[0]
            required_by_module[top] = required_by_module.get(top, False) or not guarded
    packages = []
    for module, required in sorted(required_by_module.items()):
        distribution = _distribution_of(module)
        if distribution is not None:
            packages.append(Package(module, *distribution, required))
    return tuple(packages)


def own_distributions(functions: Iterable[Any]) -> list[dict[str, str]]:
    """Return the metadata of the editable distributions whose modules functions reach.

    For each distribution, these are its metadata files by name, without the long description.
    """
    projects = [each for each in editable_projects() if each.folder not in _OWN_FOLDERS]
    if not projects:
        return []
    files = [os.path.realpath(module["file"]) for module in reach(functions).modules.values()]
    return [
        texts
        for project in projects
        if any(file.startswith(project.folder + os.sep) for file in files)
        and (texts := _texts(project.metadata))
    ]


def _texts(folder: str) -> dict[str, str]:
    texts = {}
    for name, known_as in (
        ("METADATA", "METADATA"),
        ("PKG-INFO", "METADATA"),
        ("entry_points.txt", "entry_points.txt"),
        ("top_level.txt", "top_level.txt"),
    ):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = Path(folder, name).read_text(encoding="utf-8")
            texts[known_as] = text.partition("\n\n")[0] + "\n" if known_as == "METADATA" else text
    return texts if "METADATA" in texts else {}


def _imports(
    code: types.CodeType, package: str, guarded: bool = False
) -> Iterator[tuple[str, bool]]:
    """Yield the modules that code imports when it runs, and whether that is inside of ``try``."""
    ranges = list(_guarded_ranges(code))
    for offset, name in imported_names(code, package):
        yield name, guarded or any(first <= offset < last for first, last in ranges)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _imports(constant, package, guarded)


def _guarded_ranges(code: types.CodeType) -> Iterator[tuple[int, int]]:
    entries = getattr(dis.Bytecode(code), "exception_entries", None)
    if entries is not None:  # from Python 3.11 on
        yield from ((entry.start, entry.end) for entry in entries)
        return
    for instruction in dis.get_instructions(code):
        if instruction.opname in _TRIES:
            yield instruction.offset, int(instruction.argval)


@lru_cache(maxsize=4096)
def _distribution_of(module: str) -> tuple[str, str] | None:
    """Return the distribution of a module and its version; None for the user's and Python's."""
    if module in _OURS or module in sys.stdlib_module_names or is_project_name(module) is not False:
        return None
    from importlib import metadata  # late, since it would slow down `import htdag`

    try:
        distribution = metadata.distribution(module)
        if module in _modules_of(distribution):
            return module, distribution.version
    except metadata.PackageNotFoundError:
        pass
    names = sorted(set(metadata.packages_distributions().get(module, ())))
    if not names:
        return None
    if len(names) > 1:
        return "", ""
    return names[0], metadata.version(names[0])


def _modules_of(distribution: Distribution) -> set[str]:
    """Return the top-level modules of a distribution, roughly."""
    listed = (distribution.read_text("top_level.txt") or "").split()
    return {
        *listed,
        *(str(file).partition("/")[0].removesuffix(".py") for file in distribution.files or ()),
    }
