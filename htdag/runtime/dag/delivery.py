"""Delivery of files that functions returned to the user's folders when their node is done."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import stat
from collections import Counter
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, Optional, Tuple

from .. import layout
from ..data import itemfile
from ..files import file_references
from ..layout import NodeFiles

if TYPE_CHECKING:
    from ..formats.plan import DeliveredFile, NodeEntry
    from ..formats.task import FileReference

_PIECE = 1 << 20


def deliver(run: str, node: NodeEntry, states: Iterable[Any]) -> str:
    """Deliver the files that a node's functions returned, and note that.

    In a folder a file has its own name; if several would have the same one, the keys of their items
    come first. ``states`` are those of the node's chunks (`progress.ChunkState`). Returns what went
    wrong, or "".
    """
    problem = ""
    put: Dict[str, List[int]] = {}
    try:
        for source, target in _wanted(run, node, states):
            _put(source, target)
            put[target] = _state(target)
    except (OSError, ValueError) as error:
        problem = "the returned files cannot be delivered: %s" % error
    _note(run, node, problem, put)
    return problem


def deliver_again(run: str, node: NodeEntry, states: Iterable[Any]) -> List[str]:
    """Deliver files again that were changed or removed since, and return their paths.

    Nothing is done for a node whose files were not delivered yet. Raises `OSError` if one cannot be
    delivered.
    """
    try:
        noted = _noted(run, node)["files"]
    except FileNotFoundError:
        return []
    put: Dict[str, List[int]] = {}
    missing = []
    for source, target in _wanted(run, node, states):
        if not _is_there(source, target, noted):
            _put(source, target)
            missing.append(target)
        put[target] = _state(target)
    if missing:
        _note(run, node, "", put)
    return missing


def _wanted(run: str, node: NodeEntry, states: Iterable[Any]) -> Iterator[Tuple[str, str]]:
    """Yield each file of a node's jobs that has a destination, and the destination.

    For a directory these are the files in it, or itself if it is empty.
    """
    made = list(_files(run, node, states))
    names = Counter(file["name"] for _, file in made)
    taken: Dict[str, str] = {}
    for key, file in made:
        target = _target(node["delivers"], key, file, names[file["name"]] > 1, taken)
        if target:
            yield from _inside(os.path.join(run, file["at"], file["name"]), target)


def _inside(source: str, target: str) -> Iterator[Tuple[str, str]]:
    inner = sorted(os.listdir(source)) if os.path.isdir(source) else []
    for entry in inner:
        yield from _inside(os.path.join(source, entry), os.path.join(target, entry))
    if not inner:
        yield source, target


def _state(path: str) -> List[int]:
    """Return values that differ once a file was changed."""
    status = os.stat(path)
    return [status.st_size, status.st_ctime_ns]


def _is_there(source: str, target: str, known: Any) -> bool:
    """Return whether a delivered file still exists unchanged; for some runs, by its content."""
    if os.path.isdir(source):
        return os.path.isdir(target)
    if not os.path.isfile(target) or os.path.getsize(source) != os.path.getsize(target):
        return False
    unchanged = isinstance(known, dict) and known.get(target) == _state(target)
    return unchanged or _holds_the_same(source, target)


def _holds_the_same(one: str, other: str) -> bool:
    with open(one, "rb") as mine, open(other, "rb") as its:
        while True:
            piece = mine.read(_PIECE)
            if piece != its.read(_PIECE):
                return False
            if not piece:
                return True


def _note(run: str, node: NodeEntry, problem: str, put: Dict[str, List[int]]) -> None:
    content: DeliveredFile = {"problem": problem, "files": put}
    path = NodeFiles(run, node["name"]).delivered
    layout.write_aside(path, json.dumps(content).encode())


def _noted(run: str, node: NodeEntry) -> DeliveredFile:
    path = NodeFiles(run, node["name"]).delivered
    note: DeliveredFile = layout.read_json(path, "problem", "files")
    return note


def problem_of(run: str, node: NodeEntry) -> Optional[str]:
    """Return what went wrong last time, or ""; None if nothing was delivered yet."""
    try:
        return _noted(run, node)["problem"]
    except FileNotFoundError:
        return None


def _target(
    rules: List[List[str]], key: str, file: FileReference, often: bool, taken: Dict[str, str]
) -> str:
    """Return the destination of a file; "" if no rule applies to it."""
    name = file["name"]
    place = next((rule[1] for rule in rules if fnmatch.fnmatchcase(name, rule[0])), "")
    if not place:
        return ""
    stem, suffix = os.path.splitext(name)
    target = place.format(key=key, name=name, stem=stem, suffix=suffix)
    if not place.endswith("/"):
        if taken.setdefault(target, file["at"]) != file["at"]:
            raise ValueError("several files would be %s; use {key} in the name" % target)
        return target
    named = "%s%s" % (target, name if not often else "%s.%s" % (key, name))
    number = 1
    while taken.setdefault(named, file["at"]) != file["at"]:  # several of one item
        number += 1
        named = "%s%s.%d.%s" % (target, key, number, name)
    return named


def is_left(run: str, node: NodeEntry) -> bool:
    """Return whether a node whose items are all done still has to deliver files."""
    if not node["delivers"]:
        return False
    return problem_of(run, node) != ""


def _files(run: str, node: NodeEntry, states: Iterable[Any]) -> Iterable[Tuple[str, FileReference]]:
    """Yield each file that the jobs of a node made, once, with the key of its item."""
    seen = set()
    files = NodeFiles(run, node["name"])
    for state in states:
        jobs = [files.attempt(state.number, attempt.number) for attempt in state.attempts]
        if not jobs:
            continue
        folders = tuple(job.under("").returned + "/" for job in jobs)
        for stem in node["files"]:
            paths = [job.output(stem) for job in jobs]
            for key, references in itemfile.references_by_key(paths):
                for file in map(file_references.parsed, references):
                    if file.get("at", "").startswith(folders) and file["at"] not in seen:
                        seen.add(file["at"])
                        yield key.replace("/", "_"), file


def _put(source: str, target: str) -> None:
    """Put a copy of a file, or an empty directory, at its destination.

    The copy belongs to the user: it has the mode of new files, and changing it does not affect the
    run. An existing file is replaced.
    """
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    aside = "%s.%d.new" % (target, os.getpid())
    with contextlib.suppress(FileNotFoundError):
        os.unlink(aside)
    mode = 0o777 if os.stat(source).st_mode & stat.S_IXUSR else 0o666
    with open(source, "rb") as old:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as new:
                layout.copy_content(old.fileno(), new.fileno())
            os.replace(aside, target)
        except BaseException:
            os.unlink(aside)
            raise
