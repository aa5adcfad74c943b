"""Details that help to understand an error, from the process in which it occurred.

Thousands of items may fail in one chunk for one reason. So the shared parts of tracebacks are
written to the record once, variables only for the first few of a kind, and what is true of the
whole job with its first error.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Set, Union

from .. import layout
from ..data import recordfile
from . import shorten

if TYPE_CHECKING:
    from ..formats.record import ErrorDetails, FrameEntry, Frames, RecordContext


_MESSAGE = 4000  # characters of a message
_WITH_LOCALS = 3  # errors with the same traceback of which the variables are written
_FRAMES = 10
_NAMES = 15
_LISTED = 100  # entries of a scratch directory
_PACKAGES = 100
_DEEPEST = 3

_OWN = __package__.partition(".")[0]  # htdag, or in jobs the package of the runtime


class Details:
    """Adds details to the errors of one process.

    Parameters
    ----------
    record : str
        The record that they go into.
    """

    def __init__(self, record: str) -> None:
        self._record = record
        self._written: Set[str] = set()
        self._of_kind: Dict[str, int] = {}
        self._told = False

    def of(self, error: BaseException, load: Optional[Callable[[], Any]] = None) -> ErrorDetails:
        """Return the details of an error's entry in the record, besides its type and message.

        ``load`` returns the item of the node, as it was before any function got it.
        """
        self.tell()
        trace = first_of_user(error)
        pieces = self.deduplicated_traceback(traceback_of(error))
        content: ErrorDetails = {"traceback": pieces, "time": round(time.time(), 3)}
        item, argument = _inputs(error, load)
        if item is not None:
            content["item"] = item
            if argument is not None and argument != item:
                content["argument"] = argument
        kind = "".join(piece["id"] for piece in pieces if isinstance(piece, dict))
        seen = self._of_kind[kind] = self._of_kind.get(kind, 0) + 1
        if seen <= _WITH_LOCALS:
            content["locals"] = list(_locals(trace))
        return content

    def tell(self) -> None:
        """Write the context of the whole job once: packages, scratch directory, system."""
        if self._told:
            return
        self._told = True
        content: RecordContext = {
            "packages": packages(),
            "scratch": scratch(),
            "folder": os.getcwd(),
            "system": " ".join((os.uname().sysname, os.uname().release, os.uname().machine)),
        }
        recordfile.append(self._record, "context", content)

    def deduplicated_traceback(self, text: str) -> List[Union[str, Frames]]:
        """Return a traceback in pieces; frames that were written before have no text."""
        import hashlib  # it takes time, which jobs without errors need not spend

        pieces: List[Union[str, Frames]] = []
        frames: List[str] = []

        def end() -> None:
            if frames:
                block = "".join(frames)
                del frames[:]
                name = hashlib.sha1(block.encode("utf-8", "replace")).hexdigest()[:12]
                pieces.append(
                    {"id": name} if name in self._written else {"id": name, "text": block}
                )
                self._written.add(name)

        for line in text.splitlines(True):
            if line.startswith("  "):
                frames.append(line)
            else:
                end()
                pieces.append(shorten.cut(line, _MESSAGE))
        end()
        return pieces


def first_of_user(error: BaseException) -> Optional[TracebackType]:
    """Return the traceback of an error from the first frame that is not htdag's own."""
    trace = error.__traceback__
    while trace is not None and _is_own(trace.tb_frame):
        trace = trace.tb_next
    return trace


def traceback_of(error: BaseException) -> str:
    """Return an error's traceback as text, from the first frame that is not htdag's own.

    It is empty for an error without the user's code: of a program, of a function that could not
    even be called, or of one that is not written in Python.
    """
    trace = first_of_user(error)
    if trace is None and (type(error).__module__ == "htdag" or _at_the_call(error)):
        return ""
    return text_of(error, error.__traceback__ if trace is None else trace)


def _at_the_call(error: BaseException) -> bool:
    """Return whether an error comes from the call of a user's function, not from before it."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or error.__cause__ is not None or error.__context__ is not None:
        return False
    frame = last.tb_frame
    return _is_own(frame) and bool(frame.f_globals.get("CALLS_FUNCTIONS"))


def text_of(error: BaseException, trace: Optional[TracebackType]) -> str:
    """Return a traceback as Python prints it, starting at one of its frames."""
    return "".join(traceback.format_exception(type(error), error, trace))


def _is_own(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__package__")).partition(".")[0] == _OWN


def _inputs(error: BaseException, load: Optional[Callable[[], Any]] = None) -> List[Optional[str]]:
    """Return the item of the node, and the input of the failed stage, as short texts."""
    inputs: List[Any] = []
    if load is not None:
        with contextlib.suppress(Exception):
            inputs.append(load())
    trace = error.__traceback__
    while trace is not None and _is_own(trace.tb_frame):
        names = trace.tb_frame.f_locals
        for name in ("value", "item"):
            if names.get(name) is not None:
                inputs.append(names[name])
                break
        trace = trace.tb_next
    if not inputs:
        return [None, None]
    return [shorten.short(inputs[0]), shorten.short(inputs[-1])]


def _locals(trace: Optional[TracebackType]) -> Iterator[FrameEntry]:
    """Yield the variables of the relevant frames: the user's own, and the last."""
    entries = []
    while trace is not None:
        entries.append(trace)
        trace = trace.tb_next
    entries = [entry for entry in entries[:-1] if not _is_installed(entry.tb_frame)] + entries[-1:]
    for entry in entries[-_FRAMES:]:
        frame = entry.tb_frame
        if frame.f_locals is frame.f_globals:
            continue
        names: Dict[str, str] = {}
        for name, value in list(frame.f_locals.items()):
            if name.startswith("__") or isinstance(value, type(os)) or callable(value):
                continue
            if len(names) == _NAMES:
                break
            names[name] = shorten.named(name, value, 120)
        yield {
            "file": frame.f_code.co_filename,
            "line": entry.tb_lineno,
            "function": frame.f_code.co_name,
            "names": names,
        }


def _is_installed(frame: FrameType) -> bool:
    """Return whether a frame belongs to Python or to an installed package."""
    path = frame.f_code.co_filename
    packages = ("%ssite-packages%s" % (os.sep, os.sep), "%sdist-packages%s" % (os.sep, os.sep))
    if path.startswith("<frozen") or any(folder in path for folder in packages):
        return True
    return path.startswith(os.path.dirname(os.__file__) + os.sep)


def packages() -> Dict[str, str]:
    """Return the versions of the installed packages that this process has imported."""
    versions: Dict[str, str] = {}
    for name, module in sorted(sys.modules.items()):
        # As vars: a module's own __getattr__ may do anything, such as warn.
        names = getattr(module, "__dict__", {})
        path = names.get("__file__")
        if "." in name or not isinstance(path, str) or len(versions) == _PACKAGES:
            continue
        if "site-packages" in path or "dist-packages" in path:
            version = names.get("__version__")
            versions[name] = version if isinstance(version, str) else _version(name)
    return {name: version for name, version in versions.items() if version}


def _version(name: str) -> str:
    try:
        from importlib import metadata

        return str(metadata.version(name))
    except Exception:
        return ""  # no distribution has that very name


def scratch() -> Optional[List[str]]:
    """Return the files in the job's own directory with their sizes; None if it has none."""
    folder = os.environ.get("_CONDOR_SCRATCH_DIR")
    if folder is None:
        if layout.is_run_directory():
            return None
        folder = "."
    listing: List[str] = []
    folders = [(folder, "", 0)]
    while folders:
        path, shown, level = folders.pop(0)
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if len(listing) == _LISTED:
                listing.append("...")
                return listing
            name = shown + entry.name
            if level == 0 and entry.name.endswith(".work"):
                # Files in the working directory are listed by the names that functions use.
                folders.append((os.path.join(entry.path, "work"), "", 1))
            elif entry.is_dir(follow_symlinks=False):
                listing.append(name + "/")
                if level + 1 < _DEEPEST:
                    folders.append((entry.path, name + "/", level + 1))
            else:
                try:
                    listing.append("%s (%d bytes)" % (name, entry.stat().st_size))
                except OSError:
                    listing.append("%s (a link to nothing)" % name)
    return listing
