"""What DAGMan's own logs say of a run that has failed."""

from __future__ import annotations

import re
from pathlib import Path

from htdag.runtime import layout, progress

_SUBMIT_FAILURE = re.compile(r"ULOG_SUBMIT_FAILURE for HTCondor Node (\S+) [^{]*\{[^}]*\} (.*)")


def loops_of(run: Path) -> list[str]:
    """Return the names of the loops of a run directory."""
    nodes = progress.read_plan(str(run))["nodes"]
    return [node["name"] for node in nodes if node["mode"] == "loop"]


def why_failed(run: Path, dag: str) -> str:
    """Return what DAGMan's own log says of a failure that is not one of items; else ""."""
    texts = [_of_dag(run / f"{dag}.dagman.out")]
    for loop in loops_of(run):
        number = layout.last_round(str(run), loop)
        if number and not (run / layout.loop_end(loop)).exists():
            folder = run / layout.one_round(loop, number)
            if (folder / f"{layout.ROUND_DAG}.dagman.out").exists():
                inner = why_failed(folder, layout.ROUND_DAG)
                texts.append(inner and f"round {number} of {loop}: {inner}")
    return "; ".join(filter(None, texts))


def _of_dag(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return f"DAGMan left no {path.name}"
    refused = [
        f"node {node} could not be submitted: {_short(reason)}"
        for node, reason in _SUBMIT_FAILURE.findall(text)
    ]
    errors = [
        _short(line.partition("ERROR")[2].lstrip(": "))
        for line in text.splitlines()
        if "ERROR: " in line and "the following" not in line
    ]
    return "; ".join(dict.fromkeys(refused or errors[-3:]))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 400 else text[:400] + " ..."
