"""The calls of the functions of `on_success` and `on_failure`, from the FINAL node's record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from htdag.common.text import visible
from htdag.runtime.data import recordfile
from htdag.runtime.layout import NodeFiles

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import Plan


@dataclass(frozen=True)
class FinalCall:
    """One call of a function at the end of a run.

    Attributes
    ----------
    function : str
        Its name.
    when : str
        ``"success"`` or ``"failure"``: how the run had ended.
    time : float
        When it was called, in seconds since the epoch.
    seconds : float
        How long it took.
    error : str
        The exception's type and message; "" if it returned.
    traceback : str
        The traceback; "" if it returned.
    stdout, stderr : str
        Its output.
    """

    function: str
    when: str
    time: float
    seconds: float
    error: str
    traceback: str
    stdout: str
    stderr: str

    def __str__(self) -> str:
        what = f"on_{self.when}, {self.function}"
        return visible(f"{what}: failed: {self.error}" if self.error else f"{what}: done")


def calls(run: Path, plan: Plan) -> list[FinalCall]:
    """Return the calls so far, oldest first."""
    node = plan.get("final")
    if node is None:
        return []
    result = []
    for entry in recordfile.final_calls(NodeFiles(run, node).final_record):
        error = entry["error"]
        stem = Path(NodeFiles(run, node).logs) / entry["stem"]
        result.append(
            FinalCall(
                entry["function"],
                entry["when"],
                entry["time"],
                entry["seconds"],
                f"{error['type']}: {error['message']}" if error else "",
                error["traceback"] if error else "",
                _text(stem.with_suffix(".out")),
                _text(stem.with_suffix(".err")),
            )
        )
    return result


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
