"""The user's files that travel with jobs, as parts of items or for all jobs of a stage."""

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
    """A local file or directory in an item, which travels with the job of the item.

    It is a `pathlib.Path`, and so are paths made from it (``/``, ``iterdir``, ``glob``, ``parent``,
    ...). It can be anywhere in an item of a source: in lists, tuples, sets, dicts, named tuples,
    dataclasses, or objects of your own classes. The function gets an ordinary `pathlib.Path` to the
    file where the job runs. A plain `pathlib.Path` in an item stays as it is, and no file travels.

    htdag checks that the file exists and is readable when the pipeline is submitted (or planned,
    for the items of a generator).

    Parameters
    ----------
    *segments : str or path
        As for `pathlib.Path`.

    Raises
    ------
    UsageError
        For a URL; use `TransferURL` instead.

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
                raise UsageError(f"TransferPath({segment!r}): for a URL, use htdag.TransferURL")
        made: TransferPath = _Plain.__new__(cls, *segments)
        return made


@dataclass(frozen=True)
class TransferURL:
    """A URL in an item, whose file travels with the job of the item.

    HTCondor fetches it with its plugins, on the execute point: ``https``, ``http``, ``osdf``,
    ``pelican``, ``s3``, ..., depending on the pool. On this machine, jobs fetch ``https``, ``http``
    and ``file`` themselves. The function gets a `pathlib.Path` instead of the URL. Blanks, commas
    and ``$`` are encoded as ``%20`` and so on, since HTCondor's lists would end at them.

    Parameters
    ----------
    url : str
        The URL; its last part is the name of the file.

    Attributes
    ----------
    url : str
        The URL in the form of transfer lists.

    Raises
    ------
    UsageError
        If it is not a URL, or does not end with a name.

    Examples
    --------
    >>> import htdag
    >>> htdag.TransferURL("https://example.org/data/a set.csv").url
    'https://example.org/data/a%20set.csv'
    """

    url: str

    def __post_init__(self) -> None:
        if not is_url(self.url):
            raise UsageError(f"TransferURL({self.url!r}): a URL begins like 'https://'")
        quoted = urllib.parse.quote(self.url, safe="%/:?&=+@!~*'();[]#")
        object.__setattr__(self, "url", quoted)
        if self.url.startswith("file:") and quoted != self.url:
            raise UsageError(
                f"TransferURL({self.url!r}): HTCondor does not decode the path of a file: URL, and "
                f"its lists end at blanks, commas and $; use htdag.TransferPath for your own files"
            )
        if not self.name or "#" in quoted:
            raise UsageError(
                f"TransferURL({self.url!r}): its last part must be the name of a file, without #"
            )

    @property
    def name(self) -> str:
        """The name of the file."""
        place = self.url.split("://", 1)[1]
        name = urllib.parse.unquote(download.arriving_name(place)) if "/" in place else ""
        return "" if "/" in name or name in (".", "..") else name


def is_url(value: Any) -> bool:
    """Return whether a value is a URL."""
    return isinstance(value, str) and _URL.match(value) is not None


class Travelling:
    """The files that travel with pickled items, and their references.

    Attributes
    ----------
    paths : dict of str to str
        The user's paths, by the folders of the run directory that will have links to them.
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
        """Return the reference of a file or URL, and record it for `taken`."""
        file = reference_of(value)
        if "url" in file:
            self.urls.add(file["url"])
        else:
            self.paths[file["at"]] = file["path"]
        text = json.dumps(file)
        self._taken.append(text)
        return text

    def taken(self) -> tuple[str, ...]:
        """Return the references recorded since the last call."""
        references, self._taken = tuple(self._taken), []
        return references


def reference_of(value: pathlib.PurePath | TransferURL) -> FileReference:
    """Return the reference of one of the user's files, or of a URL.

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
    """Return a text that differs when a file, or a file in a directory, has changed."""
    if not os.path.isdir(path):
        return file_state(path)
    states = [
        f"{within}: {'' if os.path.isdir(whole) else file_state(whole)}"
        for within, whole in entries(path)
    ]
    return hashlib.sha256("\n".join(states).encode(errors="surrogateescape")).hexdigest()


_SMALL = 64 << 10


def file_state(path: str) -> str:
    """Return a text that differs when a file has changed.

    For a small file, this is a digest of its content. Reading a large one takes time, so for these
    it is the size and two times: of the last change of the content, which programs that unpack and
    copy may set, and of the last change of anything about the file, which no program can set.
    """
    status = os.stat(path)
    if status.st_size > _SMALL:
        return f"{status.st_size} bytes of {status.st_mtime_ns}, {status.st_ctime_ns}"
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return hashlib.sha256(os.read(descriptor, _SMALL)).hexdigest()[:32]
    finally:
        os.close(descriptor)


def check_readable(path: str) -> None:
    """Raise `UsageError` unless a file, or all of a directory, exists and is readable."""
    if not os.path.exists(path):
        raise UsageError(f"there is no file {path!r}")
    if not os.path.basename(path):
        raise UsageError(f"{path!r} has no name that it could have in the job")
    for each in [path, *(inner for _, inner in entries(path))]:
        if not os.access(each, os.R_OK):
            raise UsageError(f"you cannot read {each!r}")
        if not os.path.isfile(each) and not os.path.isdir(each):
            raise UsageError(f"{each!r} is neither a file nor a directory")


def entries(path: str) -> Iterator[tuple[str, str]]:
    """Yield the content of a directory, at any depth: the path within it, and the whole path.

    Links are followed, except to a folder that contains them. A folder precedes its content. A file
    has no entries.
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
    """Make the folder of one of the user's files in a run directory, with a link to the file.

    A directory becomes a real directory with links to its files, since HTCondor follows links to
    files, but puts jobs on hold for links to directories.
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
