"""What an environment is, and how one is named in an option."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from htdag.errors import OptionError

if TYPE_CHECKING:
    import os

GROUP = "htdag.environments"
"""The group of entry points by which packages register environments."""


class EnvironmentWarning(UserWarning):
    """Functions import packages, and nothing says that the Python of the jobs has them."""


@dataclass(frozen=True)
class Prepared:
    """What an environment needs in a run directory and of HTCondor.

    Attributes
    ----------
    setup : str
        Lines of POSIX shell that run in the job before Python. They set ``python`` to the
        interpreter to take, or ``problem`` to one line that says why there is none; ``flags`` are
        the interpreter's own (``-E`` by default: variables such as PYTHONPATH are ignored). The
        files are in the folder ``$here``. "" where HTCondor itself brings the environment: then
        the job looks for a Python of the submitting version on its PATH.
    files : tuple of (str, str)
        Files that travel with the jobs: the name of each in the folder of the environment, and the
        absolute path where it is now. They are linked into the run directory, or copied.
    requirements : str
        A ClassAd expression of what execute points must have; it is joined with those of the stage
        by ``&&``.
    submit : tuple of (str, str)
        Submit commands and their values.
    local : str
        For ``on="local"``: lines of POSIX shell that start ``/bin/sh runtime.pyz "$@"`` in the
        current directory. "": the same `setup` does for both.
    """

    setup: str = ""
    files: tuple[tuple[str, str], ...] = ()
    requirements: str = ""
    submit: tuple[tuple[str, str], ...] = ()
    local: str = ""


@dataclass(frozen=True)
class Environment:
    """Where the Python of jobs and its packages come from: the option ``environment``.

    Make one by `assume`, `interpreter`, `packed` or `container`, or derive a class of your own from
    this one: a frozen dataclass with the method `prepare`. Environments that compare equal are the
    same one, and stages of equal environments can share jobs.

    Examples
    --------
    >>> import htdag
    >>> squares = htdag.source(range(5)).map(lambda x: x * x)
    >>> flow = htdag.Pipeline(squares, environment=htdag.Environment.assume())

    One of your own, for a cluster whose software is loaded by ``module``:

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
    """One word, for the name of its folder in run directories."""
    brings_packages: ClassVar[bool] = True
    """False where nothing is known of its packages: a warning then names those that are needed."""

    @staticmethod
    def assume() -> Environment:
        """Take any ``python3`` of the execute point, of the submitting minor version: the default.

        Nothing but what that Python has can be imported. Where functions import installed packages,
        a warning says so when the pipeline is compiled for HTCondor.
        """
        from htdag.environments.kinds import Assumed

        return Assumed()

    @staticmethod
    def interpreter(
        path: str | os.PathLike[str], *, requirements: str | None = None
    ) -> Environment:
        """Run one Python interpreter by its path, such as that of a virtual environment.

        Parameters
        ----------
        path : path
            The interpreter: ``sys.executable`` is the one that runs this script.
        requirements : str, optional
            Which execute points see that path, as a ClassAd expression; ``"true"`` for all of them.
            None: those of the same file system (``FILESYSTEM_DOMAIN``) as this machine.

        Raises
        ------
        OptionError
            If there is no such interpreter on this machine, unless `requirements` says where it is.

        Examples
        --------
        >>> print(Environment.interpreter("/usr/bin/python3"))
        interpreter /usr/bin/python3
        """
        from htdag.environments.kinds import Interpreter

        return Interpreter.of(path, requirements)

    @staticmethod
    def packed(
        requirements: Sequence[str] | str | os.PathLike[str] | None = None,
    ) -> Environment:
        """Pack packages into one file that travels with the jobs and is unpacked there.

        By pex, or conda-pack where the current environment is one of conda: install either by
        ``pip install 'htdag[packed]'``. It is packed when a pipeline is first compiled or submitted
        with it, and kept below ``$HTDAG_HOME`` until what it is made of changes. Of pex the execute
        points need a ``python3`` of the submitting minor version; conda-pack brings Python too.

        Parameters
        ----------
        requirements : sequence of str, or path, optional
            Requirements as pip takes them, such as ``["numpy", "pandas==2.2.*"]``, or the path of a
            requirements file. None: all packages that are installed in the current environment,
            but for htdag and what is installed as editable.

        Raises
        ------
        OptionError
            If the requirements are not a list of texts, or the file cannot be read.

        Examples
        --------
        >>> print(Environment.packed(["numpy>=1.26"]))
        packed numpy>=1.26
        """
        from htdag.environments.packed import Packed

        return Packed.of(requirements)

    @staticmethod
    def container(image: str | os.PathLike[str], *, requirements: str | None = None) -> Environment:
        """Run jobs in a container (HTCondor's container universe).

        Parameters
        ----------
        image : str or path
            ``docker://NAME``, the path of a ``.sif`` file, which is sent to the jobs, or of a
            folder that holds an exploded image, which is not. It needs a POSIX shell and a
            ``python3`` of the submitting minor version.
        requirements : str, optional
            Which execute points see the folder, as a ClassAd expression; ``"true"`` for all of
            them. None: those of the same file system (``FILESYSTEM_DOMAIN``) as this machine.
            HTCondor itself asks for points that can run the image.

        Raises
        ------
        OptionError
            If it is a path and there is nothing.

        Examples
        --------
        >>> print(Environment.container("docker://python:3.11-slim"))
        container docker://python:3.11-slim
        """
        from htdag.environments.kinds import Container

        return Container.of(image, requirements)

    def prepare(self) -> Prepared:
        """Return what jobs need, and make what has to be made, such as an archive.

        It is called once for each pipeline that is compiled, before anything is written.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method prepare()")

    def check(self, on: str) -> None:
        """Raise `OptionError` where jobs cannot run in it; `on` is ``"condor"`` or ``"local"``."""

    def remedy(self, lacking: str) -> str:
        """Return what to do where jobs lack ``"packages"``, or the right ``"Python"``."""
        return f"make the environment bring the {lacking} that the script is run with"

    def __str__(self) -> str:
        return f"{type(self).__name__}"


def parse(value: Any) -> Environment:
    """Return the environment that an option gives: one, or the name of a registered one.

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
    """Refuse a class of the user's whose objects cannot be compared by what is in them."""
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
    """Return the environment that an installed package has registered by an entry point."""
    from importlib.metadata import entry_points

    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        known = f"; there are: {', '.join(sorted(found))}" if found else ""
        raise OptionError(
            f"no installed package registers an environment {name!r} (entry point group "
            f"{GROUP!r}){known}; else give an htdag.Environment"
        )
    try:
        made = found[name].load()
        made = made if isinstance(made, Environment) else made()
    except Exception as error:
        raise OptionError(f"{found[name].value} failed: {type(error).__name__}: {error}") from error
    if not isinstance(made, Environment):
        raise OptionError(f"{found[name].value} gave a {type(made).__name__}, no htdag.Environment")
    return _checked(made)
