"""Files that travel as parts of items.

A value never holds the content of such a file, but a *reference* to it, JSON text: ``at`` (a folder
of the run directory, made for this one file or directory) and ``name``; for a file that a function
returned also ``size`` and ``crc``, for one of the user's its own ``path``; or the ``url`` of what
HTCondor fetches. The references of a value stand in its pickle, and again beside it in its frame,
so that who prepares jobs learns them without unpickling.

In a job a reference becomes a path of the file as it is there.
"""

from __future__ import annotations

import json
import os
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    FrozenSet,
    NamedTuple,
    Optional,
    Tuple,
)

from .. import layout
from . import download, input_files

if TYPE_CHECKING:
    from ..formats.task import FileReference


PATHS: Tuple[Any, ...] = ()
"""The class of paths of files that travel, once there can be such a path: see ``paths.py``."""


class Here(NamedTuple):
    """The folders of a job: where it finds files, and where it puts those that come back.

    ``root`` is the run directory, or the copy of what the job needs of it; ``fetched`` a folder for
    what the job itself fetches, and ``brought`` the URLs that HTCondor has fetched; ``collect``
    takes a file to where it comes back from.
    """

    root: str
    fetched: str
    brought: FrozenSet[str]
    collect: Callable[[str], Any]


_job: Optional[Here] = None  # of the process that runs a job's functions, which is never another's


def enter(here: Optional[Here]) -> None:
    """Make this process, which will run the user's functions, the process of a job."""
    global _job
    _job = here


def here() -> Optional[Here]:
    """Return the folders of this process's job; None outside of jobs."""
    return _job


ARRIVED = frozenset({("htdag", "_image.arrived"), ("htdag_runtime.travel", "arrived")})
"""How pickles refer to `paths.arrived`; the second name is that of htdag 0.1."""


def located(file: FileReference, here: Here) -> str:
    """Return the path of a file whose reference a job has read.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    """
    if "url" in file:
        return download.fetched(file, here.root, here.fetched, here.brought)
    shared = layout.is_run_directory(here.root)  # then nothing was transferred
    path = os.path.join(here.root, file["at"], file["name"])
    if shared and "path" in file:
        if os.path.exists(file["path"]):
            input_files.note(file["path"])
            return file["path"]
        # A run that came from elsewhere has the user's files in place of the links to them.
        if not os.path.exists(path):
            raise FileNotFoundError("the input file %r is not there any more" % file["path"])
    if not os.path.exists(path):
        what = "the file %r is missing" if shared else "the file %r did not arrive with the job"
        raise FileNotFoundError(what % file["name"])
    return path


def parsed(reference: str) -> FileReference:
    """Return what a reference says."""
    file: FileReference = json.loads(reference)
    return file


def sent(reference: str) -> str:
    """Return the entry of a reference in a transfer list."""
    file = parsed(reference)
    return file["url"] if "url" in file else file["at"]
