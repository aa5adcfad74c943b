"""The class `Environment`, its kinds, and the parser of the option ``environment``."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from htdag.checks.validation import shown
from htdag.errors import OptionError

GROUP = "htdag.environments"
"""The group of entry points by which packages register environments."""

_VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
# A job has this attribute only if should_transfer_files is not YES.
_SAME_FILES = "TARGET.FileSystemDomain == MY.FileSystemDomain"
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+")


class EnvironmentWarning(UserWarning):
    """Functions import packages, and nothing says that the Python of the jobs has them."""


@dataclass(frozen=True)
class Prepared:
    """What an environment needs in a run directory and from HTCondor.

    Attributes
    ----------
    setup : str
        Lines of POSIX shell that run in the job before Python. They set ``python`` to the
        interpreter to use, or ``problem`` to one line that says why there is none; ``flags`` are
        the interpreter's flags (``-E`` by default: it ignores variables such as PYTHONPATH). The
        files are in the folder ``$here``. "": HTCondor itself brings the environment, and the job
        looks for a Python of the submitting version on its PATH.
    files : tuple of (str, str)
        Files that travel with the jobs: the name of each in the folder of the environment, and the
        absolute path of the original. They are linked or copied into the run directory.
    requirements : str
        A ClassAd expression that execute points must fulfil, in addition to the requirements of
        the stage.
    submit : tuple of (str, str)
        Submit commands and their values.
    local : str
        For ``on="local"``: lines of POSIX shell that start ``/bin/sh runtime.pyz "$@"`` in the
        current directory. "": `setup` is used there, too.
    """

    setup: str = ""
    files: tuple[tuple[str, str], ...] = ()
    requirements: str = ""
    submit: tuple[tuple[str, str], ...] = ()
    local: str = ""


@dataclass(frozen=True)
class Environment:
    """Where the Python of jobs and its packages come from: the option ``environment``.

    Make one with `assume`, `interpreter`, `packed` or `container`, or derive a class of your own
    from this one: a frozen dataclass with the method `prepare`. Environments that compare equal are
    the same, and stages with equal environments can share jobs.

    Examples
    --------
    >>> import htdag
    >>> squares = htdag.source(range(5)).map(lambda x: x * x)
    >>> flow = htdag.Pipeline(squares, environment=htdag.Environment.assume())

    One of your own, for a cluster whose software is loaded with ``module``:

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Module(htdag.Environment):
    ...     name: str = "python"
    ...
    ...     def prepare(self):
    ...         setup = f'''
    ...     . /etc/profile.d/modules.sh
    ...     module load {self.name} || problem="there is no module {self.name}"
    ...     python=$(command -v python3)
    ...     flags='''
    ...         return htdag.environments.Prepared(setup, requirements="HasModules =?= True")
    >>> flow = htdag.Pipeline(squares, environment=Module("python/3.11"))
    """

    kind: ClassVar[str] = "own"
    """One word, which names its folder in run directories."""
    brings_packages: ClassVar[bool] = True
    """False if nothing is known of its packages: a warning then names those that functions need."""

    @staticmethod
    def assume() -> Environment:
        """Use any ``python3`` of the execute point that has the submitting minor version (default).

        Functions can import only the packages of that Python. If they import installed packages, a
        warning says so when the pipeline is compiled for HTCondor.
        """
        return Assumed()

    @staticmethod
    def interpreter(
        path: str | os.PathLike[str], *, requirements: str | None = None
    ) -> Environment:
        """Use the Python interpreter at a path, such as that of a virtual environment.

        Parameters
        ----------
        path : path
            The interpreter: ``sys.executable`` is the one that runs this script.
        requirements : str, optional
            The execute points that see that path, as a ClassAd expression; ``"true"`` for all of
            them. None: those with the same file system (``FILESYSTEM_DOMAIN``) as this machine.

        Raises
        ------
        OptionError
            If this machine has no such interpreter and `requirements` is None.

        Examples
        --------
        >>> print(Environment.interpreter("/usr/bin/python3"))
        interpreter /usr/bin/python3
        """
        return Interpreter.of(path, requirements)

    @staticmethod
    def packed(
        requirements: Sequence[str] | str | os.PathLike[str] | None = None,
    ) -> Environment:
        """Pack packages into one file that travels with the jobs and is unpacked there.

        The packer is pex, or conda-pack if the current environment is one of conda: install either
        with ``pip install 'htdag[packed]'``. The file is made when a pipeline is first compiled or
        submitted with it, and kept below ``$HTDAG_HOME`` until its packages change. With pex, the
        execute points need a ``python3`` of the submitting minor version; conda-pack brings Python.

        Parameters
        ----------
        requirements : sequence of str, or path, optional
            Requirements as pip takes them, such as ``["numpy", "pandas==2.2.*"]``, or the path of a
            requirements file. None: all packages of the current environment, except htdag and
            editable installations.

        Raises
        ------
        OptionError
            If the requirements are not a list of texts, or the file cannot be read.

        Examples
        --------
        >>> print(Environment.packed(["numpy>=1.26"]))
        packed numpy>=1.26
        """
        return Packed.of(requirements)

    @staticmethod
    def container(image: str | os.PathLike[str], *, requirements: str | None = None) -> Environment:
        """Run jobs in a container (HTCondor's container universe).

        Parameters
        ----------
        image : str or path
            ``docker://NAME``, the path of a ``.sif`` file, which is sent to the jobs, or the path
            of a folder with an exploded image, which is not sent. The image needs a POSIX shell
            and a ``python3`` of the submitting minor version.
        requirements : str, optional
            The execute points that see the folder, as a ClassAd expression; ``"true"`` for all of
            them. None: those with the same file system (``FILESYSTEM_DOMAIN``) as this machine.
            HTCondor itself asks for execute points that can run the image.

        Raises
        ------
        OptionError
            If it is a path that does not exist.

        Examples
        --------
        >>> print(Environment.container("docker://python:3.11-slim"))
        container docker://python:3.11-slim
        """
        return Container.of(image, requirements)

    @property
    def made_of(self) -> tuple[str, ...]:
        """The files on this machine that are part of it: if they change, so does it."""
        return ()

    def prepare(self) -> Prepared:
        """Return what jobs need, and make it first where necessary, such as an archive.

        Compiling a pipeline calls it once, before it writes anything.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method prepare()")

    def check(self, on: str) -> None:
        """Raise `OptionError` if jobs cannot run in it; `on` is ``"condor"`` or ``"local"``."""

    def remedy(self, lacking: str) -> str:
        """Return what to do if jobs lack ``"packages"``, or the right ``"Python"``."""
        return f"make the environment bring the {lacking} that the script is run with"

    def __str__(self) -> str:
        return f"{type(self).__name__}"


@dataclass(frozen=True)
class Assumed(Environment):
    """Any python3 that the execute point has."""

    kind: ClassVar[str] = "assume"
    brings_packages: ClassVar[bool] = False

    def prepare(self) -> Prepared:
        """Return nothing: ``runtime.pyz`` looks for Python itself."""
        return Prepared()

    def remedy(self, lacking: str) -> str:
        """Return which environment would bring the packages, or Python."""
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
        """Return an environment of the user's arguments, checked."""
        text = os.path.abspath(os.path.expanduser(_path_text("interpreter", path)))
        if any(character in text for character in "\n\r\0"):
            raise OptionError(f"interpreter({path!r}): it takes the path of a Python interpreter")
        _check_requirements("interpreter", requirements)
        made = cls(text, requirements)
        if requirements is None:
            made.check("local")
        return made

    def check(self, on: str) -> None:
        """Raise `OptionError` if it does not run here, or has another version of Python."""
        if on == "condor" and self.requirements is not None:
            return  # execute points may have another interpreter there
        if not os.path.isfile(self.path) or not os.access(self.path, os.X_OK):
            elsewhere = (
                ""
                if on == "local"
                else "; where only execute points have it, give requirements=..."
            )
            raise OptionError(
                f"environment {self}: there is no such interpreter on this machine{elsewhere}"
            )
        version = _version_of(self.path)
        if version != _VERSION:
            raise OptionError(
                f"environment {self}: it is Python {version}, and functions pickled by this Python "
                f"{_VERSION} do not cross minor versions; run this script by that interpreter, or "
                f"give one of {_VERSION}"
            )

    def prepare(self) -> Prepared:
        """Return the lines that use this interpreter, or report that it is missing."""
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
    """Return the user's path as a text."""
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise OptionError(f"{what}({shown(path)}): it takes a path, not {type(path).__name__}")
    return os.fspath(path)


def _check_requirements(what: str, given: Any) -> None:
    one_line = isinstance(given, str) and given.strip() and "\n" not in given
    if given is not None and not one_line:
        raise OptionError(
            f"{what}(..., requirements={shown(given)}): it takes a ClassAd expression, one line; "
            f"'true' for all execute points"
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
        """Return an environment of the user's arguments, checked."""
        _check_requirements("container", requirements)
        text = _path_text("container", image)
        if not text.strip() or re.search(r'[\n\r\0"]|\$\(', text):
            raise OptionError(
                f"container({shown(image)}): it takes docker://NAME or the path of an image"
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
        """Whether the image is a file or folder, not a URL."""
        return not _URL.fullmatch(self.image)

    @property
    def made_of(self) -> tuple[str, ...]:
        """The image, if it is a file."""
        return (self.image,) if self.is_path and os.path.isfile(self.image) else ()

    def check(self, on: str) -> None:
        """Raise `OptionError` if it should run here and there is no program for containers."""
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
            # HTCondor does not send links to folders, and most images have some.
            commands.append(("transfer_container", "False"))
            image = image.rstrip("/") + "/"
        if not needs and image.endswith("/"):
            needs = _SAME_FILES
        else:
            # Otherwise HTCondor would, on a shared file system, not send the image but look for it
            # in the run directory.
            commands.append(("should_transfer_files", "YES"))
        commands.append(("container_image", image))
        quoted = shlex.quote(self.image)
        local = f"""\
# HTCondor's container universe does this.
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
        """Return how to change the image."""
        if lacking == "packages":
            return f"add them to the image {self.image}"
        return f"take an image with Python {_VERSION}, or run this script by that of the image"

    def __str__(self) -> str:
        return f"container {self.image}"


@dataclass(frozen=True)
class Packed(Environment):
    """Packages that are packed when a pipeline is compiled, and unpacked where its jobs run.

    ``file`` is a requirements file. Without it, ``requirements=None`` is the current environment.
    """

    requirements: tuple[str, ...] | None = None
    file: str = ""
    kind: ClassVar[str] = "packed"

    @classmethod
    def of(cls, requirements: Any) -> Packed:
        """Return an environment of the user's arguments, checked."""
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
                f"packed({shown(requirements)}): it takes a list of requirements such as "
                f"['numpy>=1.26'], or the path of a requirements file"
            )
        if not requirements:
            raise OptionError("packed([]): there is nothing to pack; leave the environment out")
        return cls(tuple(sorted({each.strip() for each in requirements})))

    @property
    def made_of(self) -> tuple[str, ...]:
        """The requirements file, if there is one."""
        return (self.file,) if self.file else ()

    def prepare(self) -> Prepared:
        """Pack the packages unless an archive exists, and return how a job unpacks it."""
        from htdag.environments import packing, unpacking

        archive = packing.archive(self.requirements, self.file)
        return Prepared(
            setup=unpacking.lines(archive.tool, archive.path.name, archive.digest),
            files=((archive.path.name, str(archive.path)),),
        )

    def remedy(self, lacking: str) -> str:
        """Return how to add packages to the archive, or which Python is needed."""
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


def parse(value: Any) -> Environment:
    """Return the environment of an option: an `Environment`, or the name of a registered one.

    Raises
    ------
    OptionError
        If it is neither.
    """
    if isinstance(value, Environment):
        return _checked(value)
    if isinstance(value, str):
        return _registered(value)
    raise OptionError(
        "it takes an htdag.Environment, such as htdag.Environment.packed(), or the name of one "
        "that a package has registered"
    )


def _checked(value: Environment) -> Environment:
    """Return an environment; raise `OptionError` unless its objects compare by value."""
    kind = type(value)
    if vars(value) and "__dataclass_params__" not in vars(kind):
        raise OptionError(f"the class {kind.__name__} needs @dataclass(frozen=True) above it")
    try:
        hash(value)
    except TypeError as error:
        raise OptionError(
            f"{kind.__name__} holds something that can change: {error}; take tuples for lists"
        ) from error
    return value


def _registered(name: str) -> Environment:
    """Return the environment that an installed package registers by an entry point."""
    from importlib.metadata import entry_points

    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        choices = f"; there are: {', '.join(sorted(points))}" if points else ""
        raise OptionError(
            f"no installed package registers an environment {name!r} (entry point group "
            f"{GROUP!r}){choices}; else give an htdag.Environment"
        )
    try:
        made = points[name].load()
        made = made if isinstance(made, Environment) else made()
    except Exception as error:
        raise OptionError(
            f"{points[name].value} failed: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, Environment):
        raise OptionError(
            f"{points[name].value} returned a {type(made).__name__}, not an htdag.Environment"
        )
    return _checked(made)
