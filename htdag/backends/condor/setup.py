"""The selection of an HTCondor by its configuration and programs."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from htdag.backends.tickets import SetupEntry, Ticket
from htdag.errors import BackendError

_CONFIG, _PATH = "CONDOR_CONFIG", "PATH"
environment_lock = threading.RLock()
"""The environment belongs to the whole process, so only one thread at a time may change it."""


@dataclass(frozen=True)
class Setup:
    """The environment in which a process uses a certain HTCondor.

    Attributes
    ----------
    config : str or None
        The file that ``CONDOR_CONFIG`` names; None: the variable is not set, and HTCondor searches
        its default places.
    programs : tuple of str
        Folders to prepend to ``PATH``.
    own : bool
        Whether it is a pool made by ``htdag pool start``.
    """

    config: str | None
    programs: tuple[str, ...] = ()
    own: bool = False

    @classmethod
    def current(cls) -> Setup:
        """Return the setup of this process's environment."""
        program = shutil.which("condor_dagman")
        folder = () if program is None else (str(Path(program).parent),)
        config = os.environ.get(_CONFIG)
        return cls(config, folder, is_own(config))

    @classmethod
    def of_ticket(cls, ticket: Ticket) -> Setup:
        """Return the setup that a run was submitted with; the current one if that is unknown."""
        content = ticket.get("htcondor")
        if content is None:
            return cls.current()
        return cls(content["config"], tuple(content["programs"]), content["own"])

    def to_ticket(self) -> SetupEntry:
        """Return it as values that JSON can represent, for a run's ticket."""
        return {"config": self.config, "programs": list(self.programs), "own": self.own}

    @property
    def in_use(self) -> bool:
        """Whether the environment of this process already selects it."""
        folders = os.environ.get(_PATH, os.defpath).split(os.pathsep)
        return os.environ.get(_CONFIG) == self.config and set(self.programs) <= set(folders)

    def variables(self) -> dict[str, str]:
        """Return an environment for programs that use this HTCondor."""
        variables = dict(os.environ)
        variables.pop(_CONFIG, None)
        if self.config is not None:
            variables[_CONFIG] = self.config
        folders = variables.get(_PATH, os.defpath).split(os.pathsep)
        before = [folder for folder in self.programs if folder not in folders]
        variables[_PATH] = os.pathsep.join([*before, *folders])
        if self.own:
            # These variables are settings that the user made for another HTCondor.
            variables = {k: v for k, v in variables.items() if not k.upper().startswith("_CONDOR_")}
        return variables

    @contextlib.contextmanager
    def environment(self) -> Iterator[None]:
        """Give this process that environment within the context.

        Raises
        ------
        BackendError
            If the configuration file no longer exists.
        """
        if self.config is not None and not os.path.exists(self.config):
            raise BackendError(
                f"HTCondor's configuration {self.config!r}, which the run was submitted with, no "
                f"longer exists"
            )
        with environment_lock:
            saved = dict(os.environ)
            variables = self.variables()
            _replace(variables)
            try:
                yield
            finally:
                _replace(saved)


def is_own(config: str | None) -> bool:
    """Return whether ``htdag pool start`` wrote a configuration file."""
    return config is not None and (Path(config).parent / POOL_FILE).is_file()


POOL_FILE = "pool.json"
"""The file with htdag's facts about a pool that it made, next to the pool's configuration."""


def _replace(wanted: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(wanted):
        del os.environ[name]
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
