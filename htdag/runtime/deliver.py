"""Files that functions returned, put into the user's own folder when their node is done."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from typing import Any, Dict, Iterable, List, Tuple

from . import itemfile, layout

Attempts = Iterable[Tuple[str, List[int]]]  # chunks, and the numbers of their attempts that count


def deliver(run: str, node: Dict[str, Any], attempts: Attempts) -> str:
    """Put the files that a node's functions returned into its folder, and note that it was done.

    A file has its own name there; where several have the same one, the keys of their items stand
    before it. Returns what went wrong, "" if nothing.
    """
    found = list(_files(run, node, attempts))
    names = Counter(file["name"] for _, file in found)
    taken: Dict[str, str] = {}
    try:
        os.makedirs(node["output_folder"], exist_ok=True)
        for key, file in found:
            name = file["name"] if names[file["name"]] == 1 else "%s.%s" % (key, file["name"])
            number = 1
            while taken.setdefault(name, file["at"]) != file["at"]:  # several of one item
                number += 1
                name = "%s.%d.%s" % (key, number, file["name"])
            source = os.path.join(run, file["at"], file["name"])
            _put(source, os.path.join(node["output_folder"], name))
    except OSError as error:
        return "the returned files cannot be put into %s: %s" % (node["output_folder"], error)
    content = json.dumps(sorted(taken)).encode()
    layout.write_aside(os.path.join(run, layout.delivered(node["name"])), content)
    return ""


def is_left(run: str, node: Dict[str, Any]) -> bool:
    """Tell whether a node whose items are all done has its files still to be delivered."""
    if not node["output_folder"]:
        return False
    return not os.path.exists(os.path.join(run, layout.delivered(node["name"])))


def _files(
    run: str, node: Dict[str, Any], attempts: Attempts
) -> Iterable[Tuple[str, Dict[str, Any]]]:
    """Yield each file that the jobs of a node made, once, with the key of its item."""
    seen = set()
    for chunk, numbers in attempts:
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
    """Link or copy a file or directory to a place, instead of what was there."""
    aside = "%s.%d.new" % (target, os.getpid())
    if os.path.isdir(source):
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(source, aside, copy_function=_link_or_copy)
        if os.path.isdir(target) and not os.path.islink(target):
            shutil.rmtree(target)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        _link_or_copy(source, aside)
    os.replace(aside, target)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)  # another file system, or one without such links
