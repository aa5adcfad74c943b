"""The environments that need nothing to be packed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from htdag.environments.base import Environment, Prepared
from htdag.errors import OptionError

_VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
# A job has this attribute only where should_transfer_files is not YES.
_SAME_FILES = "TARGET.FileSystemDomain == MY.FileSystemDomain"
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+")


@dataclass(frozen=True)
class Assumed(Environment):
    """Any python3 that the execute point has."""

    kind: ClassVar[str] = "assume"
    brings_packages: ClassVar[bool] = False

    def prepare(self) -> Prepared:
        """Return nothing: ``runtime.pyz`` looks for Python itself."""
        return Prepared()

    def remedy(self, lacking: str) -> str:
        """Return which environment would bring packages, or Python."""
        if lacking == "packages":
            return (
                "give the stage environment=htdag.Environment.packed(), which sends the packages "
                "along, or .interpreter(sys.executable) where the file system is shared"
            )
        return (
            f"choose execute nodes that have python{_VERSION} (or python3 of that version) on "
            f"their PATH, or give the stage an environment that brings Python: "
            f"htdag.Environment.interpreter(path) or .container(image)"
        )

    def __str__(self) -> str:
        return "assume"


@dataclass(frozen=True)
class Interpreter(Environment):
    """One interpreter, by its path."""

    path: str = ""
    requirements: str | None = None
    kind: ClassVar[str] = "interpreter"

    @classmethod
    def of(cls, path: str | os.PathLike[str], requirements: str | None) -> Interpreter:
        """Check what the user gave."""
        text = os.path.abspath(os.path.expanduser(_path_text("interpreter", path)))
        if any(character in text for character in "\n\r\0"):
            raise OptionError(f"interpreter({path!r}): it takes the path of a Python interpreter")
        _check_requirements("interpreter", requirements)
        made = cls(text, requirements)
        if requirements is None:
            made.check("local")
        return made

    def check(self, on: str) -> None:
        """Refuse what does not run here, and another version of Python."""
        if on == "condor" and self.requirements is not None:
            return  # elsewhere it may be there, and another one
        if not os.path.isfile(self.path) or not os.access(self.path, os.X_OK):
            elsewhere = (
                ""
                if on == "local"
                else "; where only execute points have it, give requirements=..."
            )
            raise OptionError(
                f"environment {self}: there is no such interpreter on this machine{elsewhere}"
            )
        found = _version_of(self.path)
        if found != _VERSION:
            raise OptionError(
                f"environment {self}: it is Python {found}, and functions pickled by this Python "
                f"{_VERSION} do not cross minor versions; run this script by that interpreter, or "
                f"give one of {_VERSION}"
            )

    def prepare(self) -> Prepared:
        """Return the lines that take this interpreter, or say where it is not."""
        path = shlex.quote(self.path)
        setup = (
            f"python={path}\n"
            f'[ -x "$python" ] ||\n'
            f'    problem="there is no interpreter $python on $(hostname)"\n'
        )
        needs = _SAME_FILES if self.requirements is None else self.requirements.strip()
        return Prepared(setup, requirements="" if needs.lower() == "true" else needs)

    def remedy(self, lacking: str) -> str:
        """Return how to install packages for this interpreter."""
        if lacking == "packages":
            return f"install them there, by {shlex.quote(self.path)} -m pip install"
        return f"give htdag.Environment.interpreter the path of a Python {_VERSION}"

    def __str__(self) -> str:
        return f"interpreter {self.path}"


def _path_text(what: str, path: Any) -> str:
    """Return a path that the user gave as a text."""
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise OptionError(f"{what}({path!r}): it takes a path, not {type(path).__name__}")
    return os.fspath(path)


def _check_requirements(what: str, given: Any) -> None:
    one_line = isinstance(given, str) and given.strip() and "\n" not in given
    if given is not None and not one_line:
        raise OptionError(
            f"{what}(..., requirements={given!r}): it takes a ClassAd expression, one line; 'true' "
            f"for all execute points"
        )


def _version_of(path: str) -> str:
    """Return the minor version of an interpreter."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(
            [path, "-I", "-S", "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OptionError(f"the interpreter {path!r} does not run: {error}") from error
    version = done.stdout.strip()
    if done.returncode or not re.fullmatch(r"\d+\.\d+", version):
        said = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise OptionError(f"{path!r} is no Python interpreter: {said[0]}")
    return version


@dataclass(frozen=True)
class Container(Environment):
    """A container image."""

    image: str = ""
    requirements: str | None = None
    kind: ClassVar[str] = "container"

    @classmethod
    def of(cls, image: str | os.PathLike[str], requirements: str | None) -> Container:
        """Check what the user gave."""
        _check_requirements("container", requirements)
        text = _path_text("container", image)
        if not text.strip() or re.search(r'[\n\r\0"]|\$\(', text):
            raise OptionError(
                f"container({image!r}): it takes docker://NAME or the path of an image"
            )
        text = text.strip()
        if _URL.fullmatch(text):
            return cls(text, requirements)
        path = Path(text).expanduser().absolute()
        if requirements is not None and path.suffix != ".sif" and not os.path.exists(path):
            return cls(str(path), requirements)  # a folder that execute points have
        if not os.path.exists(path):  # False also where the text is too long for a path
            raise OptionError(
                f"container({text!r}): there is no such file or folder; an image of a registry is "
                f"docker://{text}"
            )
        if path.is_file() and path.suffix != ".sif":
            raise OptionError(
                f"container({text!r}): HTCondor knows an image file by its suffix .sif; a folder "
                f"is an exploded image"
            )
        if path.suffix == ".sif" and "," in str(path):
            raise OptionError(
                f"container({text!r}): HTCondor ends the name of a file at a comma, and could not "
                f"send {str(path)!r}; put the image under a path without one"
            )
        return cls(str(path), requirements)

    @property
    def is_path(self) -> bool:
        """Whether the image is a file or folder of this machine."""
        return not _URL.fullmatch(self.image)

    def check(self, on: str) -> None:
        """Refuse to run it here where no program for containers is found."""
        if on == "local":
            self._program()

    def _program(self) -> str:
        programs = ["apptainer", "singularity"]
        if self.image.startswith("docker://"):
            programs.append("docker")
        for name in programs:
            if shutil.which(name):
                return name
        raise OptionError(
            f"environment {self}: to run it on this machine (on='local') one of "
            f"{', '.join(programs)} has to be on PATH"
        )

    def prepare(self) -> Prepared:
        """Return the submit commands of the container universe, and how to run it here."""
        image, needs = self.image, self.requirements or ""
        commands = [("universe", "container")]
        if self.is_path and not image.endswith(".sif"):
            # HTCondor does not send links to folders, and hardly an image is without.
            commands.append(("transfer_container", "False"))
            image = image.rstrip("/") + "/"
        if not needs and image.endswith("/"):
            needs = _SAME_FILES
        else:
            # Else, on a shared file system, HTCondor would not send the image, and yet look for it
            # in the run directory.
            commands.append(("should_transfer_files", "YES"))
        commands.append(("container_image", image))
        quoted = shlex.quote(self.image)
        local = f"""\
# HTCondor does this by its container universe.
image={quoted}
for program in apptainer singularity; do
    if command -v "$program" >/dev/null 2>&1; then
        exec "$program" exec --bind "$PWD" --pwd "$PWD" "$image" /bin/sh ./runtime.pyz "$@"
    fi
done
exec docker run --rm --init --user "$(id -u):$(id -g)" --volume "$PWD:$PWD" --workdir "$PWD" \\
    --entrypoint /bin/sh "${{image#docker://}}" ./runtime.pyz "$@"
"""
        needs = "" if needs.strip().lower() == "true" else needs.strip()
        return Prepared(submit=tuple(commands), local=local, requirements=needs)

    def remedy(self, lacking: str) -> str:
        """Return what to do to the image."""
        if lacking == "packages":
            return f"add them to the image {self.image}"
        return f"take an image with Python {_VERSION}, or run this script by that of the image"

    def __str__(self) -> str:
        return f"container {self.image}"
