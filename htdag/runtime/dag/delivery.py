"""Files that functions returned, put into the user's own folders when their node is done."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import stat
from collections import Counter
from typing import Any, Dict, Iterable, List, Optional, Tuple

from .. import layout
from ..data import itemfile


def deliver(run: str, node: Dict[str, Any], states: Iterable[Any]) -> str:
    """Put the files that a node's functions returned where they are wanted; note that it was done.

    In a folder a file has its own name; where several there would have the same one, the keys of
    their items stand before it. ``states`` are those of the node's chunks (`progress.ChunkState`).
    Returns what went wrong, "" if nothing.
    """
    made = list(_files(run, node, states))
    names = Counter(file["name"] for _, file in made)
    taken: Dict[str, str] = {}
    problem = ""
    try:
        for key, file in made:
            target = _target(node["delivers"], key, file, names[file["name"]] > 1, taken)
            if target:
                os.makedirs(os.path.dirname(target), exist_ok=True)
                _put(os.path.join(run, file["at"], file["name"]), target)
    except (OSError, ValueError) as error:
        problem = "the returned files cannot be put where they are wanted: %s" % error
    content = json.dumps({"problem": problem, "files": sorted(taken)}).encode()
    layout.write_aside(os.path.join(run, layout.delivered(node["name"])), content)
    return problem


def problem_of(run: str, node: Dict[str, Any]) -> Optional[str]:
    """Return what went wrong last time, "" if nothing, None where nothing was put yet."""
    try:
        path = os.path.join(run, layout.delivered(node["name"]))
        return str(layout.read_json(path, "problem")["problem"])
    except FileNotFoundError:
        return None


def _target(
    rules: List[List[str]], key: str, file: Dict[str, Any], often: bool, taken: Dict[str, str]
) -> str:
    """Return where a file is to be put; "" where no rule is for it."""
    name = file["name"]
    place = next((rule[1] for rule in rules if fnmatch.fnmatchcase(name, rule[0])), "")
    if not place:
        return ""
    stem, suffix = os.path.splitext(name)
    target = place.format(key=key, name=name, stem=stem, suffix=suffix)
    if not place.endswith("/"):
        if taken.setdefault(target, file["at"]) != file["at"]:
            raise ValueError("%s is wanted by several; {key} in the name tells them apart" % target)
        return target
    found = "%s%s" % (target, name if not often else "%s.%s" % (key, name))
    number = 1
    while taken.setdefault(found, file["at"]) != file["at"]:  # several of one item
        number += 1
        found = "%s%s.%d.%s" % (target, key, number, name)
    return found


def is_left(run: str, node: Dict[str, Any]) -> bool:
    """Tell whether a node whose items are all done has its files still to be delivered."""
    if not node["delivers"]:
        return False
    return problem_of(run, node) != ""


def _files(
    run: str, node: Dict[str, Any], states: Iterable[Any]
) -> Iterable[Tuple[str, Dict[str, Any]]]:
    """Yield each file that the jobs of a node made, once, with the key of its item."""
    seen = set()
    for state in states:
        chunk = layout.chunk_name(state.number)
        numbers = [attempt.number for attempt in state.attempts]
        if not numbers:
            continue
        folders = tuple(layout.returned(node["name"], chunk, number) + "/" for number in numbers)
        for stem in node["files"]:
            paths = [
                os.path.join(run, layout.output(node["name"], chunk, number, stem))
                for number in numbers
            ]
            for key, references in itemfile.references_by_key(paths):
                for file in map(json.loads, references):
                    if file.get("at", "").startswith(folders) and file["at"] not in seen:
                        seen.add(file["at"])
                        yield key.replace("/", "_"), file


def _put(source: str, target: str) -> None:
    """Put a copy of a file, or of all files of a directory, where it is wanted.

    It is the user's own: its mode is that of files which she makes, and what she does to it changes
    nothing in the run. A file there is replaced; others in a directory stay.
    """
    if not os.path.isdir(source):
        _put_file(source, target)
        return
    os.makedirs(target, exist_ok=True)
    for entry in sorted(os.listdir(source)):
        _put(os.path.join(source, entry), os.path.join(target, entry))


def _put_file(source: str, target: str) -> None:
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
