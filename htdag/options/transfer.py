"""The user's files that travel with jobs: as parts of items, and for all jobs of a stage."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from htdag.errors import UsageError
from htdag.runtime import layout
from htdag.runtime.files import download
from htdag.runtime.layout import RunFiles

if TYPE_CHECKING:
    from htdag.runtime.formats.task import FileReference


_Plain: Any = type(pathlib.Path())
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class TransferPath(_Plain):  # type: ignore[misc]
    """A local file or directory that travels with the jobs of the items that it stands in.

    It is a `pathlib.Path`, and paths made from it (``/``, ``iterdir``, ``glob``, ``parent``, ...)
    are of this kind too. It may stand anywhere in an item of a source: in lists, tuples, sets,
    dicts, named tuples, dataclasses, or objects of your own classes. The function gets an ordinary
    `pathlib.Path` in its place, of the file as it is where the job runs. A plain `pathlib.Path` in
    an item stays what it is, and nothing travels.

    That the file exists and can be read is checked when the pipeline is submitted (or planned, for
    the items of a generator).

    Parameters
    ----------
    *segments : str or path
        As for `pathlib.Path`.

    Raises
    ------
    UsageError
        For a URL: take `TransferURL`.

    Examples
    --------
    >>> import htdag
    >>> def lines(path, encoding):
    ...     return len(path.read_text(encoding).splitlines())
    >>> pairs = [(htdag.TransferPath(__file__), "utf-8")]
    >>> counts = htdag.starmap(lines, pairs)
    """

    def __new__(cls, *segments: Any) -> TransferPath:
        for segment in segments:
            if isinstance(segment, str) and _URL.match(segment):
                raise UsageError(f"TransferPath({segment!r}): for a URL take htdag.TransferURL")
        made: TransferPath = _Plain.__new__(cls, *segments)
        return made


@dataclass(frozen=True)
class TransferURL:
    """What a URL gives, for the jobs of the items that it stands in.

    HTCondor fetches it with its plugins, on the execute point: ``https``, ``http``, ``osdf``,
    ``pelican``, ``s3``, ... as the pool has them. On this machine jobs fetch ``https``, ``http``
    and ``file`` themselves. The function gets a `pathlib.Path` in its place. Blanks, commas and
    ``$`` are written as ``%20`` and so on, since lists of HTCondor's end at them.

    Parameters
    ----------
    url : str
        The URL; its last part names the file.

    Attributes
    ----------
    url : str
        The URL as it stands in the transfer list.

    Raises
    ------
    UsageError
        If it is no URL, or ends in no name.

    Examples
    --------
    >>> import htdag
    >>> htdag.TransferURL("https://example.org/data/a set.csv").url
    'https://example.org/data/a%20set.csv'
    """

    url: str

    def __post_init__(self) -> None:
        if not is_url(self.url):
            raise UsageError(f"TransferURL({self.url!r}): a URL begins as in 'https://'")
        quoted = urllib.parse.quote(self.url, safe="%/:?&=+@!~*'();[]#")
        object.__setattr__(self, "url", quoted)
        if self.url.startswith("file:") and quoted != self.url:
            raise UsageError(
                f"TransferURL({self.url!r}): HTCondor takes the path of a file: URL as it is, and "
                f"lists end at blanks, commas and $; take htdag.TransferPath for a file of yours"
            )
        if not self.name or "#" in quoted:
            raise UsageError(
                f"TransferURL({self.url!r}): its last part is to name the file, with no # in it"
            )

    @property
    def name(self) -> str:
        """The name of the file that it gives."""
        place = self.url.split("://", 1)[1]
        name = urllib.parse.unquote(download.arriving_name(place)) if "/" in place else ""
        return "" if "/" in name or name in (".", "..") else name


def is_url(value: Any) -> bool:
    """Tell whether a text is a URL."""
    return isinstance(value, str) and _URL.match(value) is not None


class Travelling:
    """The files that travel with what is pickled: their references, and where the files are.

    Attributes
    ----------
    paths : dict of str to str
        The user's own paths, by the folder of the run directory that is to have a link to each.
    urls : set of str
        The URLs.
    """

    def __init__(self) -> None:
        self.paths: dict[str, str] = {}
        self.urls: set[str] = set()
        self._taken: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.paths or self.urls)

    def reference(self, value: TransferPath | TransferURL) -> str:
        """Return the reference of a file or URL, and note it for `taken`."""
        file = reference_of(value)
        if "url" in file:
            self.urls.add(file["url"])
        else:
            self.paths[file["at"]] = file["path"]
        text = json.dumps(file)
        self._taken.append(text)
        return text

    def taken(self) -> tuple[str, ...]:
        """Return the references since this was called last."""
        found, self._taken = tuple(self._taken), []
        return found


def reference_of(value: pathlib.PurePath | TransferURL) -> FileReference:
    """Return the reference of a file of the user's, or of a URL.

    Raises
    ------
    UsageError
        If the file does not exist, or cannot be read.
    """
    if isinstance(value, TransferURL):
        return {"url": value.url, "name": value.name}
    path = os.path.abspath(value)
    check_readable(path)
    digest = hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest()
    return {
        "at": RunFiles().user_file(digest),
        "name": os.path.basename(path),
        "path": path,
        "state": _state(path),
    }


def _state(path: str) -> str:
    """Return what tells a file, or a directory, from what it is when it was changed."""
    if not os.path.isdir(path):
        return file_state(path)
    states = [
        f"{within}: {'' if os.path.isdir(whole) else file_state(whole)}"
        for within, whole in entries(path)
    ]
    return hashlib.sha256("\n".join(states).encode(errors="surrogateescape")).hexdigest()


_SMALL = 64 << 10


def file_state(path: str) -> str:
    """Return what tells a file from what it is when it was changed.

    That is what a small file holds. To read a large one takes time, so of such it is the size and
    the times of the last change, of the content and of anything about it: programs that unpack and
    copy set the first to what it was elsewhere, but no program sets the other.
    """
    found = os.stat(path)
    if found.st_size > _SMALL:
        return f"{found.st_size} bytes of {found.st_mtime_ns}, {found.st_ctime_ns}"
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return hashlib.sha256(os.read(descriptor, _SMALL)).hexdigest()[:32]
    finally:
        os.close(descriptor)


def check_readable(path: str) -> None:
    """Raise `UsageError` unless a file, or all in a directory, exists and can be read."""
    if not os.path.exists(path):
        raise UsageError(f"there is no file {path!r}")
    if not os.path.basename(path):
        raise UsageError(f"{path!r} has no name to arrive under")
    for each in [path, *(inner for _, inner in entries(path))]:
        if not os.access(each, os.R_OK):
            raise UsageError(f"{each!r} cannot be read by you")
        if not os.path.isfile(each) and not os.path.isdir(each):
            raise UsageError(f"{each!r} is neither a file nor a directory")


def entries(path: str) -> Iterator[tuple[str, str]]:
    """Yield what is in a directory, at any depth: the path within it, and the whole path.

    Links are followed, but not back to a folder that they are in. A folder comes before what it
    holds. A file has no entries.
    """
    for folder, folders, names in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [
            name
            for name in sorted(folders)
            if not (real + os.sep).startswith(os.path.realpath(os.path.join(folder, name)) + os.sep)
        ]
        for name in [*folders, *sorted(names)]:
            whole = os.path.join(folder, name)
            yield os.path.relpath(whole, path), whole


def link(run: pathlib.Path, at: str, path: str) -> None:
    """Make the folder of one file of the user's in a run directory, with a link to it.

    A directory becomes a real one with links to its files: HTCondor follows links to files, but
    holds a job for one to a directory.
    """
    folder = run / at
    if folder.exists():
        return
    target = folder / os.path.basename(path)
    if not os.path.isdir(path):
        layout.make_folder(str(folder))
        target.symlink_to(path)
        return
    layout.make_folder(str(target))
    for within, whole in entries(path):
        if os.path.isdir(whole):
            layout.make_folder(str(target / within))
        else:
            (target / within).symlink_to(whole)
