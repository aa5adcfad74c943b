"""The paths of files that travel as parts of items: see ``travel.py``."""

from __future__ import annotations

import os
import pathlib
import sys
from typing import Any, Optional

from . import travel

_Plain: Any = type(pathlib.Path())


class FilePath(_Plain):  # type: ignore[misc]
    """An ordinary path, which knows the file that travels; paths made from it do not."""

    _reference: Optional[str] = None

    @classmethod
    def made(cls, path: str, reference: Optional[str]) -> FilePath:
        """Return the path of a file that travels."""
        self = _Plain.__new__(cls, path)
        if sys.version_info >= (3, 12):
            _Plain.__init__(self, path)
        self._reference = reference
        found: FilePath = self
        return found

    def with_segments(self, *segments: Any) -> Any:
        """Return an ordinary path (Python 3.12 and later make every other path so)."""
        return _Plain(*segments)

    def __reduce__(self) -> Any:
        if self._reference is None:
            return _Plain, self.parts
        return travel.arrived, (self._reference,)

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
            there = sorted(os.listdir(folder))[:20] if os.path.isdir(folder) else []
            raise FileNotFoundError(
                "OutputFile(%r): there is no such file; the folder %s has %s"
                % (str(path), folder, ", ".join(there) or "none")
            )
        job = travel.here()
        if job is None:
            return cls.made(where, None)
        return cls.made(*job.collect(where))

    def __init__(self, path: Any) -> None:
        """See the class: `made` has done it all."""


OutputFile.__module__ = "htdag"  # as users import it; in a job htdag itself need not be installed

travel.PATHS = (FilePath,)
