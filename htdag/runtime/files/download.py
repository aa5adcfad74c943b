"""Files at URLs: fetched for a job by HTCondor, or else by the job itself.

HTCondor's plugins put files into the job's scratch directory, under the last name in the URL. So of
several URLs that end in the same name it can fetch only one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Dict, Iterable, List

from .. import layout

if TYPE_CHECKING:
    from ..formats.task import FileReference


SCHEMES = ("http", "https", "file")
"""The schemes of URLs that a job can fetch without HTCondor."""

_TAKEN = ("files", "nodes", "sources", "condor_exec.exe", layout.RUNTIME)


def arriving_name(url: str) -> str:
    """Return the name that HTCondor gives to the file of a URL."""
    return url.split("?", 1)[0].rsplit("/", 1)[-1]


def transferable(urls: Iterable[str]) -> List[str]:
    """Return those of a job's URLs that HTCondor can fetch: no two that end in the same name."""
    by_name: Dict[str, str] = {}
    for url in urls:
        name = arriving_name(url)
        if name not in _TAKEN and not name.startswith(("_condor", ".")):
            by_name.setdefault(name, url)
    return list(by_name.values())


def send(path: str, url: str) -> None:
    """Send a file to a URL without HTCondor.

    Raises
    ------
    OSError
        If that fails.
    """
    import shutil  # these take time, which most jobs need not spend
    import urllib.parse
    import urllib.request

    scheme = url.split(":", 1)[0]
    if scheme == "file":
        target = urllib.request.url2pathname(urllib.parse.urlsplit(url).path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(path, target)
        return
    if scheme not in SCHEMES:
        raise OSError("%s: only HTCondor can send files there, not this machine by itself" % url)
    with open(path, "rb") as source:
        size = str(os.path.getsize(path))
        request = urllib.request.Request(
            url, data=source, method="PUT", headers={"Content-Length": size}
        )
        try:
            with urllib.request.urlopen(request, timeout=300):
                return
        except (OSError, ValueError) as error:
            raise OSError("the file cannot be sent to %s: %s" % (url, error)) from error


def fetched(file: FileReference, root: str, folder: str, brought: Iterable[str]) -> str:
    """Return the path of the file of a URL, under its own name; fetch it if necessary.

    Parameters
    ----------
    file : dict
        ``url`` and ``name``.
    root : str
        The folder into which HTCondor puts files.
    folder : str
        The folder for files that the job fetches.
    brought : iterable of str
        The URLs that HTCondor should have fetched.

    Raises
    ------
    OSError
        If it cannot be fetched.
    """
    import hashlib  # these take time, which most jobs need not spend
    import shutil
    import urllib.request

    url = file["url"]
    place = os.path.join(folder, hashlib.blake2b(url.encode(), digest_size=8).hexdigest())
    path = os.path.join(place, file["name"])
    if os.path.exists(path):
        return path
    os.makedirs(place, exist_ok=True)
    arrived = os.path.join(root, arriving_name(url))
    if url in brought and os.path.exists(arrived):
        os.symlink(arrived, path)
        return path
    scheme = url.split(":", 1)[0]
    if scheme not in SCHEMES:
        raise OSError(
            '%s: only HTCondor can fetch this, and it did not (with on="local" there is no '
            "HTCondor; of two URLs in one job that end in the same name it fetches only one, "
            "then use chunk_size=1)" % url
        )
    aside = path + ".part"
    try:
        with urllib.request.urlopen(url, timeout=300) as source, open(aside, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            length = source.headers.get("Content-Length")
            if length is not None and target.tell() != int(length):
                raise OSError("it ended after %d of %s bytes" % (target.tell(), length))
    except (OSError, ValueError) as error:
        raise OSError("%s cannot be fetched: %s" % (url, error)) from error
    os.replace(aside, path)
    return path
