"""The distinction between the user's own code and installed code.

Installed code is built into Python or in its standard library, in a site directory, or listed in
the ``RECORD`` of an installed distribution in any other folder (or zip file) that Python searches,
as after ``pip install --target``. All other code is the user's project, and travels: scripts,
notebooks, the modules next to them, folders on ``PYTHONPATH``, and editable installations.
"""

from __future__ import annotations

import contextlib
import csv
import dis
import importlib.machinery
import json
import os
import re
import site
import sys
import sysconfig
import types
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

from htdag.common.package import FOLDER
from htdag.runtime.code.static import module_name, namespace

_SITES = ("site-packages", "dist-packages")
_OF_THE_MACHINE = ("/usr/lib/", "/usr/lib32/", "/usr/lib64/", "/usr/share/", "/cvmfs/")
_OF_CYTHON = re.compile(r"cython_runtime|_cython_[0-9_]+")


def is_project_module(module: Any) -> bool:
    """Return whether a loaded module is the user's own, in whatever form it came.

    It may be a source file, a compiled extension, a module in a zip file, a folder without
    ``__init__.py``, or made while the script runs. A namespace package of which one folder is
    installed is not the user's, but the modules in it may be.
    """
    if not issubclass(type(module), types.ModuleType):
        return False
    names = namespace(module)
    file = names.get("__file__")
    if isinstance(file, str):
        return is_project_file(file)
    if "__path__" in names:
        return _is_project_path(names["__path__"])
    return _is_made_by_user(names)


def _is_project_path(path: Any) -> bool:
    """Return whether the folders of a package are the user's; some are computed on demand."""
    try:
        portions = [each for each in path if isinstance(each, str)]
    except Exception:
        return False
    return bool(portions) and not any(map(_is_installed_folder, portions))


def _is_made_by_user(names: dict[str, Any]) -> bool:
    """Return whether a module without a file was made by the user's code."""
    name = names.get("__name__")
    origin = getattr(names.get("__spec__"), "origin", None)
    if not isinstance(name, str) or origin in ("built-in", "frozen") or _OF_CYTHON.fullmatch(name):
        return False
    package = sys.modules.get(name.partition(".")[0])
    if package is not None and package.__name__ != name:
        return is_project_module(package)
    functions = [value for value in list(names.values()) if type(value) is types.FunctionType]
    return not functions or any(map(is_project_function, functions))


def is_project_function(function: types.FunctionType) -> bool:
    """Return whether the code of a function is the user's own.

    Code that was compiled from a string, such as ``__init__`` of a dataclass, belongs to the module
    whose globals it uses.
    """
    file = function.__code__.co_filename
    if not file.startswith("<") or file.startswith("<frozen"):
        return not is_installed_code(file)
    name = function.__globals__.get("__name__", function.__module__)
    module = sys.modules.get(name) if isinstance(name, str) else None
    return module is None or name == "__main__" or is_project_module(module)


def is_project_class(kind: type) -> bool:
    """Return whether a class belongs to the user's own modules, or to none that is loaded."""
    name = module_name(kind)
    module = sys.modules.get(name)
    return module is None or name == "__main__" or is_project_module(module)


@lru_cache(maxsize=8192)
def is_project_file(file: str) -> bool:
    """Return whether a file that a module was loaded from is the user's own."""
    return not file.startswith("<") and not is_installed_code(file)


@lru_cache(maxsize=8192)
def is_installed_code(file: str) -> bool:
    """Return whether code of this file name comes with Python or an installed package.

    The code of an interactive session has no file, and is the user's own.
    """
    if file.startswith("<"):
        return file.startswith("<frozen")
    file = absolute(file)
    real = _real(file) if os.path.isabs(file) else file
    roots = _installed_roots()
    if real.startswith(roots):
        return True
    if file.startswith(roots):  # a link from a site directory, to a cache or to the user's work
        return not any(real.startswith(each.folder + os.sep) for each in editable_projects())
    return real.startswith(_OF_THE_MACHINE) or any(
        path.startswith(entry + os.sep)
        and _names(_recorded(entry), path[len(entry) + 1 :].split(os.sep))
        for path in {file, real}
        for entry in _search_folders()
    )


def _real(file: str) -> str:
    """Return the real path of a file; the links in its folder are followed only once."""
    if os.path.islink(file):
        return os.path.realpath(file)
    folder, name = os.path.split(file)
    return os.path.join(_real_folder(folder), name)


@lru_cache(maxsize=8192)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _names(recorded: frozenset[str], parts: list[str]) -> bool:
    return any("/".join(parts[:end]) in recorded for end in range(1, len(parts) + 1))


def _is_installed_folder(folder: str) -> bool:
    """Return whether installed files are in a folder."""
    if is_installed_code(folder):
        return True
    path = absolute(folder) + os.sep
    return any(
        file.startswith(path[len(entry) + 1 :])
        for entry in _search_folders()
        if path.startswith(entry + os.sep)
        for file in _recorded(entry)
    )


def package_folders() -> list[str]:
    """Return the folders and zip files with installed packages that the script added to the path.

    Other processes of this Python do not search them.
    """
    return [
        entry
        for entry in _search_path()
        if not (entry + os.sep).startswith(_installed_roots())
        and (entry.startswith(_OF_THE_MACHINE) or _recorded(entry))
    ]


def own_folders() -> list[str]:
    """Return the folders with the user's own modules that Python searches."""
    roots = _installed_roots()
    return [
        entry
        for entry in dict.fromkeys(_search_path())
        if not (entry + os.sep).startswith((*roots, *_OF_THE_MACHINE)) and not _recorded(entry)
    ]


def script_file() -> str | None:
    """Return the file of the script."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return absolute(file) if isinstance(file, str) else None


def _search_path() -> list[str]:
    entries = (absolute(entry) for entry in sys.path if type(entry) is str)
    return [entry for entry in entries if os.path.isabs(entry)]


def absolute(path: str) -> str:
    """Return the absolute form of a path, or the path itself if the working directory is gone."""
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        return path


def _search_folders() -> set[str]:
    return {path for entry in _search_path() for path in (entry, os.path.realpath(entry))}


@lru_cache(maxsize=1024)
def _recorded(entry: str) -> frozenset[str]:
    """Return the packages and files that distributions in a folder or zip file have installed.

    A package with ``__init__.py`` is represented by its folder, with all that it contains.
    """
    names = set()
    for row in csv.reader(_records(entry)):
        file = row[0] if row else ""
        folder, _, name = file.rpartition("/")
        names.add(folder if folder and name.startswith("__init__.") else file)
    return frozenset(names)


def _records(entry: str) -> Iterator[str]:
    """Yield the lines of all files ``RECORD`` of a folder or zip file."""
    with contextlib.suppress(OSError, zipfile.BadZipFile, UnicodeDecodeError):
        if os.path.isdir(entry):
            for name in os.listdir(entry):
                if name.endswith(".dist-info"):
                    with contextlib.suppress(FileNotFoundError):
                        yield from _text(os.path.join(entry, name, "RECORD")).splitlines()
        elif zipfile.is_zipfile(entry):
            with zipfile.ZipFile(entry) as archive:
                for name in archive.namelist():
                    if name.endswith(".dist-info/RECORD") and name.count("/") == 1:
                        yield from archive.read(name).decode().splitlines()


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


@lru_cache(maxsize=1)
def _installed_roots() -> tuple[str, ...]:
    roots = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *_site_folders()}
    roots.add(FOLDER)
    # The standard library of the Python that a virtual environment is based on.
    roots.add(os.path.dirname(os.__file__))
    archive = f"python{sys.version_info[0]}{sys.version_info[1]}.zip"
    for entry in _search_path():
        folder, name = os.path.split(entry)
        is_site = name in _SITES and entry != _script_folder() and _has_distributions(entry)
        if name == archive or is_site or name.endswith(".egg"):
            roots.add(os.path.join(folder, name))
    return tuple(sorted({end(root) + os.sep for root in roots for end in _ENDS}))


_ENDS = (os.path.abspath, os.path.realpath)


def _site_folders() -> set[str]:
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    folders.update(site.getsitepackages())
    with contextlib.suppress(RuntimeError, KeyError):  # a user without a home directory
        folders.add(site.getusersitepackages())
    return folders


def _script_folder() -> str:
    return os.path.dirname(script_file() or "")


def _has_distributions(folder: str) -> bool:
    with contextlib.suppress(OSError):
        return any(name.endswith((".dist-info", ".egg-info")) for name in os.listdir(folder))
    return False


@dataclass(frozen=True)
class Editable:
    """A distribution of the user's own that is installed in editable mode.

    Attributes
    ----------
    folder : str
        The project's folder.
    metadata : str
        The folder of its metadata, in a site directory.
    """

    folder: str
    metadata: str


@lru_cache(maxsize=1)
def editable_projects() -> tuple[Editable, ...]:
    """Return the distributions in the site directories that are installed in editable mode."""
    projects = []
    for folder in sorted(_site_folders()):
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(folder)):
                if name.endswith(".dist-info"):
                    origin = os.path.join(folder, name, "direct_url.json")
                    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                        origin_data = json.loads(_text(origin))
                        if origin_data["dir_info"]["editable"]:
                            project = unquote(urlsplit(origin_data["url"]).path)
                            projects.append(Editable(os.path.realpath(project), origin[:-16]))
    for folder in _search_path():  # installed by `setup.py develop`
        if not (folder + os.sep).startswith(_installed_roots()):
            with contextlib.suppress(OSError):
                for name in sorted(os.listdir(folder)):
                    if name.endswith(".egg-info"):
                        metadata = os.path.join(folder, name)
                        projects.append(Editable(os.path.realpath(folder), metadata))
    return tuple(projects)


def source_of(name: str) -> bytes | None:
    """Return the source of a module, loaded or not, zipped or not.

    It is None if there is no source, as for a compiled extension or a namespace package.
    """
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    file = getattr(module, "__file__", None)
    if module is None:
        spec = find_spec(name)
        file = spec.origin if spec is not None and spec.has_location else None
    if not isinstance(file, str) or not file.endswith((".py", ".pyw")):
        return None
    try:
        with open(file, "rb") as opened:
            return opened.read()
    except OSError:
        try:
            content = spec.loader.get_data(file)  # type: ignore[union-attr]
        except Exception:
            return None
        return bytes(content)


def file_of(name: str) -> str | None:
    """Return the file of a module of the user's project, loaded or not."""
    module = sys.modules.get(name)
    if module is not None:
        file = getattr(module, "__file__", None)
    else:
        spec = find_spec(name)
        file = spec.origin if spec is not None and spec.has_location else None
    return file if isinstance(file, str) and is_project_file(file) else None


def is_project_name(name: str) -> bool | None:
    """Return whether a module, loaded or not, is the user's own; None if there is none."""
    module = sys.modules.get(name)
    if module is not None:
        return is_project_module(module)
    spec = find_spec(name)
    return None if spec is None else is_project_spec(spec)


def is_project_spec(spec: Any) -> bool:
    """Return whether the module of a spec is the user's own."""
    if spec.has_location and isinstance(spec.origin, str):
        return is_project_file(spec.origin)
    return _is_project_path(spec.submodule_search_locations)


def find_spec(name: str) -> Any:
    """Return the spec of a module; None if Python does not find it.

    Unlike `importlib.util.find_spec`, this does not import the packages that contain it.
    """
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    path: list[str] | None = None
    parent, _, last = name.rpartition(".")
    with contextlib.suppress(Exception):  # finders may raise anything
        if parent:
            package = sys.modules.get(parent)
            spec = find_spec(parent) if package is None else None
            locations = getattr(
                spec, "submodule_search_locations", getattr(package, "__path__", None)
            )
            if locations is None:
                return None
            path = list(locations)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path)
            if spec is not None:
                return spec
        return None
    # Python's own finder fails for a folder without `__init__.py` in one that is not imported.
    folders = [os.path.join(folder, last) for folder in path or ()]
    spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [folder for folder in folders if os.path.isdir(folder)]
    return spec if spec.submodule_search_locations else None


def variables(function: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield the kind, name and value of the enclosing and global variables of a function."""
    while type(function) is types.MethodType:
        function = function.__func__
    if type(function) is not types.FunctionType:
        return
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        with contextlib.suppress(ValueError):
            yield "enclosing", name, cell.cell_contents
    for name in sorted(_global_names(code)):
        if name in function.__globals__:
            yield "global", name, function.__globals__[name]


def _global_names(code: types.CodeType) -> set[str]:
    names = {
        str(instruction.argval)
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names
