"""Environments packed into one file: by pex, or conda-pack in an environment of conda."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from htdag.environments.base import Environment, Prepared
from htdag.errors import OptionError

_VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"


@dataclass(frozen=True)
class Packed(Environment):
    """Packages that are packed when a pipeline is compiled, and unpacked where its jobs run.

    ``requirements`` None stands for the current environment; ``file`` is a requirements file.
    """

    requirements: tuple[str, ...] | None = None
    file: str = ""
    kind: ClassVar[str] = "packed"

    @classmethod
    def of(cls, requirements: Any) -> Packed:
        """Check what the user gave."""
        if requirements is None:
            return cls()
        if isinstance(requirements, str | os.PathLike):
            path = Path(requirements).expanduser().absolute()
            if not os.path.isfile(path):  # False also where the text is too long for a path
                raise OptionError(
                    f"packed({os.fspath(requirements)!r}): there is no such requirements file; "
                    f"single packages go into a list: packed([{os.fspath(requirements)!r}])"
                )
            return cls(file=str(path))
        if not isinstance(requirements, Sequence) or not all(
            isinstance(each, str) and each.strip() and not each.lstrip().startswith("-")
            for each in requirements
        ):
            raise OptionError(
                f"packed({requirements!r}): it takes a list of requirements such as "
                f"['numpy>=1.26'], or the path of a requirements file"
            )
        if not requirements:
            raise OptionError("packed([]): there is nothing to pack; leave the environment out")
        return cls(tuple(sorted({each.strip() for each in requirements})))

    def prepare(self) -> Prepared:
        """Pack, unless that was done before, and return how a job unpacks it."""
        from htdag.environments import packing, unpacking

        archive = packing.archive(self.requirements, self.file)
        return Prepared(
            setup=unpacking.lines(archive.tool, archive.path.name, archive.digest),
            files=((archive.path.name, str(archive.path)),),
        )

    def remedy(self, lacking: str) -> str:
        """Return how to get packages packed, or which Python is needed."""
        if lacking != "packages":
            return (
                f"pex packs packages, not Python: choose execute nodes with python{_VERSION} on "
                f"their PATH, or give an environment that brings Python (a conda environment, "
                f"htdag.Environment.container or .interpreter)"
            )
        if self.requirements is not None:
            return "add them to the list of htdag.Environment.packed([...])"
        if self.file:
            return f"add them to {self.file}"
        return f"install them in the environment of {sys.executable}, and submit again"

    def __str__(self) -> str:
        if self.requirements is not None:
            return "packed " + ", ".join(self.requirements)
        return f"packed {self.file or 'current environment'}"
