"""POST scripts that htdag 0.1.0 took out of a DAG at its first submission."""

from __future__ import annotations

from pathlib import Path

from htdag.runtime import layout, planfile
from htdag.runtime.layout import NodeFiles

_DISABLED = "# Not needed at the first try, the exit status of the jobs tells: "


def restore_post_scripts(run: Path, dag: str) -> None:
    """Give all nodes their POST scripts back: the remaining work is no longer as planned.

    A newer DAG lists its jobs when they are submitted, and keeps its POST scripts.
    """
    text = (run / dag).read_text(encoding="utf-8")
    if _DISABLED not in text:
        return
    layout.write_aside(str(run / dag), text.replace(_DISABLED, "").encode(), sync=False)
    for node in planfile.read(str(run))["nodes"]:
        if node["mode"] != "loop":
            _edit(Path(NodeFiles(run, node["name"]).submit))


def _edit(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    new = text.replace("arguments = work-status ", "arguments = work ")
    layout.write_aside(str(path), new.encode(), sync=False)
