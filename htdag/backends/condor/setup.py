"""Which HTCondor to work with: its configuration, and where its programs are."""

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
"""The environment belongs to the whole process: one thread at a time may have another one."""


@dataclass(frozen=True)
class Setup:
    """How a process finds one HTCondor.

    Attributes
    ----------
    config : str or None
        The file that ``CONDOR_CONFIG`` names; None: it is not set, and HTCondor looks where it is
        installed.
    programs : tuple of str
        Folders to put before ``PATH``.
    own : bool
        Whether it is a pool that ``htdag pool start`` made.
    """

    config: str | None
    programs: tuple[str, ...] = ()
    own: bool = False

    @classmethod
    def current(cls) -> Setup:
        """Return the one that this process has from its environment."""
        program = shutil.which("condor_dagman")
        folder = () if program is None else (str(Path(program).parent),)
        config = os.environ.get(_CONFIG)
        return cls(config, folder, is_own(config))

    @classmethod
    def of_ticket(cls, ticket: Ticket) -> Setup:
        """Return the one that a run was submitted with; the current one where that is not known."""
        content = ticket.get("htcondor")
        if content is None:
            return cls.current()
        return cls(content["config"], tuple(content["programs"]), content["own"])

    def to_ticket(self) -> SetupEntry:
        """Return it as JSON, for a run's ticket."""
        return {"config": self.config, "programs": list(self.programs), "own": self.own}

    @property
    def in_use(self) -> bool:
        """Whether the environment of this process leads to it already."""
        folders = os.environ.get(_PATH, os.defpath).split(os.pathsep)
        return os.environ.get(_CONFIG) == self.config and set(self.programs) <= set(folders)

    def variables(self) -> dict[str, str]:
        """Return an environment for programs that work with this HTCondor."""
        found = dict(os.environ)
        found.pop(_CONFIG, None)
        if self.config is not None:
            found[_CONFIG] = self.config
        folders = found.get(_PATH, os.defpath).split(os.pathsep)
        before = [folder for folder in self.programs if folder not in folders]
        found[_PATH] = os.pathsep.join([*before, *folders])
        if self.own:
            # Each of these stands for a setting, of an HTCondor that the person has besides.
            found = {k: v for k, v in found.items() if not k.upper().startswith("_CONDOR_")}
        return found

    @contextlib.contextmanager
    def environment(self) -> Iterator[None]:
        """Give this process that environment for a while.

        Raises
        ------
        BackendError
            If the configuration file is not there any more.
        """
        if self.config is not None and not os.path.exists(self.config):
            raise BackendError(
                f"HTCondor's configuration {self.config!r}, which the run was submitted with, is "
                f"not there any more"
            )
        with environment_lock:
            saved = dict(os.environ)
            wanted = self.variables()
            _replace(wanted)
            try:
                yield
            finally:
                _replace(saved)


def is_own(config: str | None) -> bool:
    """Return whether a configuration file is one that ``htdag pool start`` wrote."""
    return config is not None and (Path(config).parent / POOL_FILE).is_file()


POOL_FILE = "pool.json"
"""What htdag knows of a pool that it made, beside that pool's configuration."""


def _replace(wanted: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(wanted):
        del os.environ[name]
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
