"""What failed in a run, from the records of its jobs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from htdag.runtime import deliver, layout, recordfile

_NOT_DELIVERED = "NotDelivered"


@dataclass(frozen=True)
class ItemError:
    """Why one item, or a whole job, has no result.

    Attributes
    ----------
    stage : str
        The stage at whose function it happened.
    key : str or None
        The item; None where the whole job failed.
    type : str
        The exception's type, such as ``"ValueError"``, or one of htdag's own words:
        ``ProcessDied``, ``PythonVersionMismatch``, ``PythonNotFound``, ``JobEnded``,
        ``NotDelivered`` (its returned files could not be put where they are wanted).
    message : str
        The exception's message.
    traceback : str
        The traceback, from the user's first frame on; "" where there is none.
    host : str
        The machine it ran on.
    python : str
        The version and path of the Python it ran with.
    node, chunk, attempt
        The job: its DAGMan node, the number of its chunk, and which attempt.
    stdout, stderr : str
        What the item printed (at most the last 4,000 characters).
    """

    stage: str
    key: str | None
    type: str
    message: str
    traceback: str
    host: str
    python: str
    node: str
    chunk: int
    attempt: int
    stdout: str = ""
    stderr: str = ""

    def __str__(self) -> str:
        if self.type == _NOT_DELIVERED:
            return f"{self.stage}: {self.message}"
        item = "a whole job" if self.key is None else f"item {self.key}"
        return f"{self.stage}, {item} ({self.host}): {self.type}: {self.message}"


def errors(run: Path, plan: dict[str, Any], stage: str | None = None) -> Iterator[ItemError]:
    """Yield the errors that the last attempt of each chunk left, in the order of the pipeline."""
    for node in plan["nodes"]:
        if stage is not None and stage not in [*node["stages"], *node["outputs"]]:
            continue
        for chunk, attempts in sorted(layout.attempts(str(run), node["name"]).items()):
            for error in chunk_errors(run, node, chunk, attempts[-1]):
                if stage is None or error.stage == stage:
                    yield error
        problem = deliver.problem_of(str(run), node)
        if problem:
            name = (node["stages"] or node["outputs"])[-1]
            yield ItemError(name, None, _NOT_DELIVERED, problem, "", "", "", node["name"], 0, 0)


def chunk_errors(run: Path, node: dict[str, Any], chunk: int, attempt: int) -> Iterator[ItemError]:
    """Yield the errors of one job."""
    name = layout.chunk_name(chunk)
    found: list[dict[str, Any]] = []
    start: dict[str, Any] = {}
    streams: dict[int, dict[str, Any]] = {}
    end: dict[str, Any] | None = None
    for line in recordfile.lines(str(run / layout.record(node["name"], name, attempt))):
        start = line.get("start", start)
        end = line.get("end", end)
        if "error" in line:
            found.append(line["error"])
        elif "streams" in line:
            streams[line["streams"]["sequence"]] = line["streams"]
    if end is not None and end.get("killed") and end["remaining"] != 0:
        found.append(
            {
                "stage": (node["stages"] or node["outputs"])[0],
                "key": None,
                "sequence": None,
                "type": "JobEnded",
                "message": "the job was removed, evicted or killed before it was done; the items "
                "that it had finished are kept",
                "traceback": "",
            }
        )
    for error in found:
        printed = streams.get(error["sequence"], {})
        yield ItemError(
            stage=error["stage"],
            key=error["key"],
            type=error["type"],
            message=error["message"],
            traceback=error["traceback"],
            host=start.get("host", "an unknown machine"),
            python=start.get("python", ""),
            node=node["name"],
            chunk=chunk,
            attempt=attempt,
            stdout=_tail(run / layout.stdout(node["name"], name, attempt), printed.get("out")),
            stderr=_tail(run / layout.stderr(node["name"], name, attempt), printed.get("err")),
        )


def printed(run: Path, plan: dict[str, Any], stage: str, key: str, which: str) -> str | None:
    """Return what an item printed in its last attempt; None where it has not run.

    ``which`` is ``"out"`` or ``"err"``.
    """
    seen = False
    text = None
    for node in plan["nodes"]:
        if stage not in [*node["stages"], *node["outputs"]]:
            continue
        for chunk, attempts in sorted(layout.attempts(str(run), node["name"]).items()):
            name = layout.chunk_name(chunk)
            for attempt in attempts:
                seen = True
                for line in recordfile.lines(str(run / layout.record(node["name"], name, attempt))):
                    entry = line.get("streams")
                    if entry is not None and entry["key"] == key:
                        stream = layout.stdout if which == "out" else layout.stderr
                        path = run / stream(node["name"], name, attempt)
                        text = _tail(path, entry[which], limit=None)
    return "" if text is None and seen else text


def _tail(path: Path, span: list[int] | None, limit: int | None = 4000) -> str:
    if span is None:
        return ""
    start, end = span
    if limit is not None:
        start = max(start, end - limit)
    try:
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(end - start).decode(errors="replace")
    except FileNotFoundError:
        return ""
