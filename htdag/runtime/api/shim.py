"""The module ``htdag`` in a job.

Functions refer to ``htdag`` by name, and execute points need not have it. So a job installs a
module of this name, with the few names that have a meaning there. If htdag is installed in the
job's Python, its other names work as well; those below stay the job's own, since they hold the
state of the job.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
from types import ModuleType
from typing import Any, Optional, TypeVar

Thing = TypeVar("Thing")

PUBLIC = {
    "Command": ".command",
    "CommandError": ".command",
    "Current": ".current",
    "OutputFile": "..files.paths",
    "checkpoint": ".checkpoint",
    "command": ".command",
    "current": ".current",
}
"""The public names that work in jobs, and the module that each is in, from this package on."""


def public(thing: Thing) -> Thing:
    """Declare something to be ``htdag.NAME``, the name by which pickles refer to it everywhere."""
    thing.__module__ = "htdag"
    return thing


def named(name: str) -> Any:
    """Return the thing that has a public name, here or in a job."""
    return getattr(importlib.import_module(PUBLIC[name], __package__), name)


def stage(function: Any = None, **_: Any) -> Any:
    """Return a function as it is: the decorator ``htdag.stage`` has no effect in a job."""
    return (lambda decorated: decorated) if function is None else function


class _Inside(ModuleType):
    """The module ``htdag`` of a job, whose names are imported when they are used."""

    def __getattr__(self, name: str) -> Any:
        if name == "__path__":
            self.__path__ = _installed_folders()
            return self.__path__
        if name in PUBLIC:
            value = named(name)
            setattr(self, name, value)
            return value
        if not name.startswith("_") and self._take_installed(name):
            return getattr(self, name)
        raise AttributeError(
            "htdag.%s does not exist in a job: there are %s. Code that builds and runs pipelines "
            "belongs outside of the functions that run in jobs"
            % (name, ", ".join("htdag." + known for known in sorted(self.__dir__())))
        )

    @property
    def _image(self) -> Any:
        """The module that pickles of functions and classes refer to."""
        return importlib.import_module("..code.image", __package__)

    @_image.setter
    def _image(self, value: Any) -> None:
        """Ignore the module of this name of an installed htdag, when that is imported."""

    @property
    def _reducers(self) -> Any:
        """The module that pickles of unusual objects refer to."""
        return importlib.import_module("..code.reducers", __package__)

    @_reducers.setter
    def _reducers(self, value: Any) -> None:
        """Ignore the module of this name of an installed htdag, when that is imported."""

    def __dir__(self) -> Any:
        return [*PUBLIC, "stage"]

    def _take_installed(self, name: str) -> bool:
        """Add the names of an installed htdag, if it has this one."""
        for folder in self.__path__:
            path = os.path.join(folder, "__init__.py")
            try:
                with open(path, encoding="utf-8") as file:
                    source = file.read()
            except OSError:
                continue
            if '"%s"' % name in source:  # as in __all__: its modules are not loaded needlessly
                own = {key: getattr(self, key) for key in self.__dir__()}
                exec(compile(source, path, "exec"), self.__dict__)
                self.__dict__.update(own)
                return name in self.__dict__
        return False


def _installed_folders() -> Any:
    for finder in sys.meta_path:  # not by `importlib.util`, which would find the module below
        spec: Optional[Any] = finder.find_spec("htdag", None)
        if spec is not None:
            return list(spec.submodule_search_locations or [])
    return []


class _OfArchive:
    """A finder of cloudpickle beside this package, independent of `sys.path`."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec of cloudpickle; None for other modules."""
        if name != "cloudpickle":
            return None
        return importlib.machinery.PathFinder.find_spec(name, [_ARCHIVE])


_ARCHIVE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def install() -> None:
    """Install the module, before any of the user's objects are unpickled."""
    sys.meta_path.insert(0, _OfArchive)
    module = _Inside("htdag", "What functions may use of htdag in a job.")
    module.stage = stage  # type: ignore[attr-defined]
    sys.modules["htdag"] = module
