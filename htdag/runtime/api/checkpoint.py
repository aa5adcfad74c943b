"""Checkpoints: files that a long function saves, so that it need not start over.

A node whose functions call `checkpoint` has a folder for each job. It holds a tar archive for each
call that has saved files, replaced as a whole only when the next one is complete. HTCondor takes
the folder along when the job is evicted. In such a node each call of a function has a working
directory of its own, since files are identified by their names in it.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Dict, Iterator, Optional, Union

from .. import layout
from ..task import Job
from .shim import public

# Most jobs have no checkpoints, so what these need beside this (an archive, temporary files) is
# imported where it is used.
_SIZED = (list, tuple, dict, set, frozenset, str, bytes, range)


class _Call:
    """One call of a function, with its working directory and its archive."""

    def __init__(self, archive: str, folder: str) -> None:
        self.archive = archive
        self.folder = folder


class _Place:
    """The call at which this process works."""

    def __init__(self) -> None:
        self.call: Optional[_Call] = None
        self.directories: Optional[CallDirectories] = None


_HERE = _Place()


@public
def checkpoint(*files: Union[str, "os.PathLike[str]"]) -> None:
    """Save files, so that the function can continue from them if its job is evicted.

    When the function is called again for the same item, the files are in its working directory
    before it begins, as they were when `checkpoint` last returned. This also holds after several
    evictions, and when a failed attempt is retried. Outside of a run, this does nothing.

    Parameters
    ----------
    *files : str or path
        Files or directories in the working directory, which is the call's own: name them
        relatively. Files that an earlier call saved and this one does not name are kept.

    Raises
    ------
    FileNotFoundError
        If one of them does not exist.
    ValueError
        If one of them is not in the working directory.
    RuntimeError
        If htdag did not find this call in the code of the node's functions, and the job is not
        ready for it.

    Examples
    --------
    >>> import json
    >>> from pathlib import Path
    >>> import htdag
    >>> def total(numbers):
    ...     state = Path("state.json")
    ...     done, total = json.loads(state.read_text()) if state.exists() else (0, 0)
    ...     for n in range(done, len(numbers)):
    ...         total += numbers[n]
    ...         if n % 1000 == 999:
    ...             state.write_text(json.dumps([n + 1, total]))
    ...             htdag.checkpoint(state)
    ...     return total
    >>> total(range(10))
    45
    """
    directories, call = _HERE.directories, _HERE.call
    if directories is None:
        return
    if call is None:
        raise RuntimeError(
            "this job is not ready for checkpoints: htdag.checkpoint has to be called by a "
            "function of a map, starmap, flat_map or filter, in code that travels with the job "
            "(code of an installed package does not); mention htdag.checkpoint in the function"
        )
    from . import checkpointfile

    names = [_relative(file, call.folder) for file in files]
    checkpointfile.write(call.archive, call.folder, names)
    if directories.pauser.is_due():
        os.chdir(directories.home)
        directories.pauser.pause()


def _relative(file: Any, folder: str) -> str:
    path = os.path.abspath(os.fspath(file))
    if not os.path.lexists(path):
        raise FileNotFoundError("htdag.checkpoint: there is no file %r" % os.fspath(file))
    folder = os.path.realpath(folder)
    path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    if not path.startswith(folder + os.sep):
        raise ValueError(
            "htdag.checkpoint: %r is not in the working directory %r; write files there that it "
            "should save" % (os.fspath(file), folder)
        )
    return os.path.relpath(path, folder)


def forget(job: Job) -> None:
    """Make an empty folder for the checkpoints of a job that begins."""
    if job.program["checkpoints"]:
        folder = job.files.checkpoints
        layout.remove_tree(folder)
        os.makedirs(folder, mode=0o700)
        earlier = job.files.with_earlier_checkpoints()
        if earlier is None:
            return
        for name in os.listdir(earlier.checkpoints):
            if name.endswith(".tar"):
                import shutil

                shutil.copy(os.path.join(earlier.checkpoints, name), os.path.join(folder, name))


class CallDirectories:
    """The working directories of the calls of functions, with their checkpoints.

    Parameters
    ----------
    job : Job
        The job; without checkpoints in its node there are no such directories.
    """

    def __init__(self, job: Job) -> None:
        self.used = bool(job.program["checkpoints"])
        self.home = os.getcwd()
        self._folder = os.path.abspath(job.files.checkpoints)
        self._links = [each["as"] for each in job.program.get("input_files", ())]
        self._scratch = ""
        self._sequence = 0
        self._calls: Dict[str, int] = {}
        self.pauser: Any = None
        _HERE.directories = self
        if self.used:
            import tempfile

            self._scratch = tempfile.mkdtemp(prefix="calls-", dir=os.path.dirname(self.home))

    def wrap(self, function: Any, stage: str) -> Any:
        """Return a function whose calls each work in a directory of their own."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            here = self._begin(stage)
            with _Inside(here, self.home):
                result = function(*arguments, **keywords)
            if type(result) not in _SIZED and hasattr(result, "__next__"):
                return self._elements(result, here)
            return result

        return call

    def _elements(self, result: Iterator[Any], here: _Call) -> Iterator[Any]:
        """Iterate over a generator in the directory in which it began."""
        while True:
            with _Inside(here, self.home):
                try:
                    element = next(result)
                except StopIteration:
                    return
            yield element

    def _begin(self, stage: str) -> _Call:
        number = self._calls[stage] = self._calls.get(stage, -1) + 1
        name = "%d.%s.%d" % (self._sequence, stage, number)
        here = _Call(os.path.join(self._folder, name + ".tar"), os.path.join(self._scratch, name))
        os.mkdir(here.folder, 0o700)
        if os.path.exists(here.archive):
            from . import checkpointfile

            checkpointfile.restore(here.archive, here.folder)
        for name in self._links:
            link = os.path.join(here.folder, name)
            if not os.path.lexists(link):
                os.symlink(os.path.join(self.home, name), link)
        return here

    def item(self, sequence: int) -> None:
        """Begin an item."""
        self._sequence = sequence
        self._calls = {}

    def end(self, done: bool) -> None:
        """End an item; the checkpoint of a failed one stays, for when it is retried."""
        for stage, last in self._calls.items():
            for number in range(last + 1):
                name = "%d.%s.%d" % (self._sequence, stage, number)
                layout.remove_tree(os.path.join(self._scratch, name))
                if done:
                    _remove(os.path.join(self._folder, name + ".tar"))

    def close(self) -> None:
        """Remove the working directories."""
        _HERE.directories = None
        if self._scratch:
            layout.remove_tree(self._scratch)


class _Inside:
    """A block inside of which a call of a function works in its own directory."""

    def __init__(self, call: _Call, home: str) -> None:
        self._call = call
        self.home = home

    def __enter__(self) -> None:
        _HERE.call = self._call
        os.chdir(self._call.folder)

    def __exit__(self, *_: Any) -> None:
        _HERE.call = None
        with contextlib.suppress(OSError):  # a function has removed it: it is made again
            os.chdir(self.home)


def _remove(path: str) -> None:
    try:
        os.remove(path)
    except FileNotFoundError:
        return
