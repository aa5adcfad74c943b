"""Read and change the commands of a node's submit description, which DAGMan reads each attempt."""

from __future__ import annotations

import json
from typing import Dict, List

from .. import layout
from ..layout import NodeFiles
from . import materialization

NOT_HELD = "# Nothing: jobs are not to come on hold.\n"
"""What a submit description includes where its jobs are not to come on hold."""

_HELD_BY = "MY.HtdagHeldBy"


def commands(run: str, node: str) -> Dict[str, str]:
    """Return the commands of a node's submit description, their names in small letters."""
    found = {}
    for line in _lines(run, node):
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[name.strip().lower()] = value.strip()
    return found


def change(run: str, node: str, values: Dict[str, str]) -> None:
    """Give commands other values, or add them; written aside, so that DAGMan reads old or new."""
    lines = _lines(run, node)
    for name, value in values.items():
        text = "%s = %s\n" % (name, value)
        places = [
            number
            for number, line in enumerate(lines)
            if line.partition("=")[0].strip().lower() == name.lower() and "=" in line
        ]
        if places:
            lines[places[-1]] = text
        else:
            queue = next(n for n, line in enumerate(lines) if line.split(None, 1)[:1] == ["queue"])
            lines.insert(queue, text)
    path = NodeFiles(run, node).submit
    layout.write_aside(path, "".join(lines).encode())


def hold(run: str, node: str, by: str) -> None:
    """Have jobs that are yet to be submitted come on hold, by the action that asks for it."""
    limits = _limits(run, node)
    lines = ["%s = %s" % (_HELD_BY, json.dumps(by))]
    # Of jobs that are materialised late HTCondor forgets the hold. Where nobody asked for that they
    # come at once; else none is made before the release.
    lines += ["MY.JobMaterializePaused = 1"] if limits else ["hold = True", "max_materialize ="]
    content = "".join(line + "\n" for line in lines)
    layout.write_aside(NodeFiles(run, node).held, content.encode())


def release(run: str, node: str) -> None:
    """Take `hold` back."""
    if held_by(run, node):
        layout.write_aside(NodeFiles(run, node).held, NOT_HELD.encode())


def held_by(run: str, node: str) -> str:
    """Return the action by which jobs that are to come are held; "" where they are not."""
    try:
        with open(NodeFiles(run, node).held, encoding="utf-8") as file:
            name, _, action = file.readline().partition("=")
    except FileNotFoundError:
        return ""
    return str(json.loads(action)) if name.strip() == _HELD_BY else ""


def _limits(run: str, node: str) -> List[str]:
    """Return the limits on materialised jobs that a stage was given."""
    found = commands(run, node)
    late = materialization.LATE.splitlines()[-1].partition("=")[2].strip()
    return [name for name in ("max_materialize", "max_idle") if found.get(name, late) != late]


def _lines(run: str, node: str) -> List[str]:
    with open(NodeFiles(run, node).submit, encoding="utf-8") as file:
        return file.readlines()
