"""Show where the time of a DAG goes: when the jobs of each node are submitted, run and end.

    .venv/bin/python benchmarks/timeline.py FOLDER ...

FOLDER is one in which a DAG has run, by htdag or by hand. Times are seconds from the submission of
the DAG, from its event logs; they have fractions where the pool sets
``DEFAULT_USERLOG_FORMAT_OPTIONS = SUB_SECOND`` (as `overhead.py --timeline` does).
"""

from __future__ import annotations

import datetime
import re
import sys
from pathlib import Path

import common

_EVENT = re.compile(r"^(\d{3}) \((\d+)\.(\d+)\.\d+\) (\S+ [\d:.]+) ", re.MULTILINE)
_KINDS = {
    "000": "submit",
    "001": "execute",
    "005": "terminate",
    "016": "POST ends",
    "040": "transfer",
}


def events(path: Path) -> list[tuple[float, str, int, str]]:
    """Return time, kind, cluster and text of each event of a log."""
    text = path.read_text(errors="replace")
    found = []
    for block in text.split("\n...\n"):
        match = _EVENT.search(block)
        if match and match[1] in _KINDS:
            moment = datetime.datetime.fromisoformat(match[4]).timestamp()
            found.append((moment, _KINDS[match[1]], int(match[2]), block))
    return found


def timeline(folder: Path) -> str:
    """Return a table of when each node did what."""
    (dagman,) = folder.glob("*.dag.dagman.log")
    own = events(dagman)
    begin = own[0][0]
    rows = [
        [kind, "DAGMan", f"{moment - begin:.2f}", f"{moment - begin:.2f}", 1]
        for moment, kind, *_ in own
        if kind != "transfer"
    ]
    names: dict[int, str] = {}
    times: dict[tuple[str, str], list[float]] = {}
    (nodes,) = folder.glob("*.dag.nodes.log")
    for moment, kind, cluster, block in events(nodes):
        name = re.search(r'DAGNodeName = "([^"]*)"|DAG Node: (\S+)', block)
        if name and cluster >= 0:
            names.setdefault(cluster, name[1] or name[2])
        node = names.get(cluster) or (name[1] or name[2] if name else "?")
        if kind != "transfer":
            times.setdefault((node, kind), []).append(moment - begin)
    for (node, kind), found in times.items():
        rows.append([kind, node, f"{min(found):.2f}", f"{max(found):.2f}", len(found)])
    rows.sort(key=lambda row: float(row[2]))
    return common.table(["what", "of", "first", "last", "number"], rows)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(f"{argument}\n\n{timeline(Path(argument))}\n")
