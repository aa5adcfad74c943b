"""The paths of files that travel as parts of items: see ``file_references.py``."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import sys
from typing import Any, Dict, Iterator, Optional

from . import file_references

_Plain: Any = type(pathlib.Path())


class FilePath(_Plain):  # type: ignore[misc]
    """An ordinary path that knows its travelling file; paths made from it do not."""

    _reference: Optional[str] = None

    @classmethod
    def made(cls, path: str, reference: Optional[str]) -> FilePath:
        """Return the path of a file that travels."""
        self = _Plain.__new__(cls, path)
        if sys.version_info >= (3, 12):
            _Plain.__init__(self, path)
        self._reference = reference
        made_path: FilePath = self
        return made_path

    def with_segments(self, *segments: Any) -> Any:
        """Return an ordinary path (Python 3.12 and later make all derived paths with this)."""
        return _Plain(*segments)

    def __reduce__(self) -> Any:
        if self._reference is None:
            return _Plain, self.parts
        return arrived, (self._reference,)

    def __repr__(self) -> str:
        return "%s(%r)" % (_Plain.__name__, self.as_posix())


class OutputFile(FilePath):
    """A file, or a directory, that a function returns as its result or as a part of it.

    In a job it is moved, with its name, to where it comes back from as soon as this is called (a
    file outside of the job's working directory is copied). So the next item may write a file of
    the same name. It is a path itself: of where the file is now. It may stand anywhere in what a
    function returns; the stages after it, and the run's result, get a `pathlib.Path` there.

    Outside of jobs nothing is moved, so that functions can be tried.

    Parameters
    ----------
    path : path
        The file or directory, written to its end.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is neither a file nor a directory, or a directory holds such a thing.

    Examples
    --------
    >>> import pathlib
    >>> import htdag
    >>> def draw(number):
    ...     path = pathlib.Path(f"picture-{number}.txt")
    ...     path.write_text("*" * number)
    ...     return htdag.OutputFile(path)
    >>> pictures = htdag.map(draw, range(3))
    """

    def __new__(cls, path: Any) -> OutputFile:
        if isinstance(path, FilePath) and path._reference is not None:
            return cls.made(str(path), path._reference)
        where = os.path.abspath(os.fspath(path))
        if not os.path.exists(where):
            folder = os.path.dirname(where)
            present = sorted(os.listdir(folder))[:20] if os.path.isdir(folder) else []
            raise FileNotFoundError(
                "OutputFile(%r): there is no such file; the folder %s has %s"
                % (str(path), folder, ", ".join(present) or "none")
            )
        job = file_references.here()
        if job is None:
            return cls.made(where, None)
        return cls.made(*job.collect(where))

    def __init__(self, path: Any) -> None:
        """Do nothing: `__new__` does all of the work."""


def arrived(reference: str) -> FilePath:
    """Return the path, in a job, of a file that travels; pickles of values call this."""
    job = file_references.here()
    if job is None:
        raise RuntimeError("a file that travels is there in a job, and in the results of its run")
    return FilePath.made(file_references.located(json.loads(reference), job), reference)


# As pickles name it, in jobs and where runs are read.
arrived.__module__, arrived.__qualname__ = "htdag", "_image.arrived"


@contextlib.contextmanager
def entered(here: file_references.Here) -> Iterator[None]:
    """Make this process that of a job for the duration of a block."""
    before = file_references.here()
    added = {name: own for name, own in _former_names().items() if name not in sys.modules}
    sys.modules.update(added)
    file_references.enter(here)
    try:
        yield
    finally:
        file_references.enter(before)
        for name in added:
            del sys.modules[name]


def _former_names() -> Dict[str, Any]:
    name = "htdag_runtime.travel"
    runtime = sys.modules[__package__.rpartition(".")[0]]
    return {name.partition(".")[0]: runtime, name: sys.modules[__name__]}


OutputFile.__module__ = "htdag"  # as users import it; in a job htdag itself need not be installed

file_references.PATHS = (FilePath,)
