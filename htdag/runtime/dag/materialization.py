"""Nodes whose jobs HTCondor has to take all at once, since late materialisation cannot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Iterable, List

from .. import layout
from ..lanes import Unit
from ..layout import NodeFiles
from . import postlog

if TYPE_CHECKING:
    from ..formats.plan import AtOnceFile, NodeEntry

# HTCondor 25.14.1 refuses a longer line of an item list, but only with late materialisation.
LONGEST_MATERIALIZED = 65_000

LATE = """\
# Of jobs that are materialised late the schedd tells the negotiator at once.
max_materialize = 10000
"""
"""The lines by which a submit description has jobs materialised late, whatever the number."""

_LIMITS = ("max_materialize", "max_idle")


def drop_late_materialization(run: str, node: NodeEntry, lane: int, lines: Iterable[str]) -> None:
    """Take late materialisation out of a submit description, if a list has lines too long for it.

    Where that takes out a limit that was asked for, it is noted for the user.
    """
    longest = max(map(len, lines), default=0)
    if longest <= LONGEST_MATERIALIZED:
        return
    path = NodeFiles(run, node["name"]).submit
    with open(path, encoding="utf-8") as file:
        before = file.readlines()
    out = [line for line in before if line.startswith(_LIMITS)]
    if not out:
        return
    layout.write_aside(path, "".join(line for line in before if line not in out).encode())
    names = [line.partition("=")[0].strip() for line in out]
    if node["max_materialize"] is None:
        names = [name for name in names if name != "max_materialize"]  # htdag's own
    if names:
        content: AtOnceFile = {"limits": names, "characters": longest}
        path = NodeFiles(run, node["name"]).at_once
        layout.write_aside(path, json.dumps(content).encode())
        text = (
            "submit description without %s: a job reads so many files (%d characters of names) "
            "that HTCondor must take all jobs at once"
        )
        text %= " and ".join(names), longest
        postlog.note(run, Unit(node["name"], lane), text)


def limits_left_out(run: str, name: str) -> List[str]:
    """Return which limits a node was submitted without, although they were asked for."""
    try:
        content: AtOnceFile = layout.read_json(NodeFiles(run, name).at_once, "limits")
    except FileNotFoundError:
        return []
    return content["limits"]
