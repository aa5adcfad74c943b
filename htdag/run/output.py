"""The output of a run's items, also of running jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from htdag.errors import NotDone
from htdag.run import locate
from htdag.run.directory import RunDirectory
from htdag.runtime import layout, task
from htdag.runtime.data import recordfile
from htdag.runtime.layout import AttemptFiles, NodeFiles

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import NodeEntry
    from htdag.runtime.formats.record import RecordLine, RecordStreams


class Output:
    """The part of a run that reads the output of its jobs."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run

    def stdout(self, stage: str, key: str | int | None = None, round: int | None = None) -> str:
        """Return the standard output of an item in a stage."""
        return self.printed(stage, key, "out", round).decode(errors="replace")

    def stderr(self, stage: str, key: str | int | None = None, round: int | None = None) -> str:
        """Return the standard error of an item in a stage, such as the output of logging."""
        return self.printed(stage, key, "err", round).decode(errors="replace")

    def printed(
        self, stage: str, key: str | int | None, which: str, round: int | None = None
    ) -> bytes:
        """Return the output as bytes; ``which`` is ``"out"`` or ``"err"``."""
        self._run.stage(stage)
        waiting: NotDone | None = None
        for inner in self._run.rounds_with(stage, round):
            try:
                return Output(inner).printed(stage, key, which)
            except NotDone as error:
                waiting = waiting or error
        if waiting is not None:
            raise waiting
        nodes = locate.nodes_of(self._run.plan, stage)
        if key is None:
            texts = [self._whole(job, which) for node in nodes for job in self._jobs(node)]
            if not texts:
                raise NotDone(f"run {self._run.tag!r}: no job of stage {stage!r} has run yet")
            return b"".join(texts)
        place = locate.find(self._run.path, self._run.plan, stage, str(key))
        node = self._run.plan["by_name"][place.job.node]
        files = NodeFiles(self._run.path, place.job.node)
        for number in range(place.job.attempt, 0, -1):
            job = files.attempt(place.job.chunk, number)
            text = self._of_item(node, job, place, which)
            if text is not None:
                return text
        raise NotDone(
            f"run {self._run.tag!r}: no job of stage {stage!r} has started item {key} yet"
        )

    def _jobs(self, node: NodeEntry) -> Iterator[AttemptFiles]:
        """Yield the jobs that have left anything, or run now."""
        files = NodeFiles(self._run.path, node["name"])
        made = {
            (chunk, attempt) for chunk, attempts in files.attempts().items() for attempt in attempts
        }
        for chunk in self._run.activity().running.get(node["name"], ()):
            job = locate.job_of(self._run.path, node["name"], chunk)
            if job is not None:
                made.add((job.chunk, job.attempt))
        for chunk, attempt in sorted(made):
            yield files.attempt(chunk, attempt)

    def _of_item(
        self, node: NodeEntry, job: AttemptFiles, place: locate.Place, which: str
    ) -> bytes | None:
        """Return an item's output in one attempt; None if the attempt has not started the item."""
        record = self._fetched(job)
        if record is None:
            return None
        lines: list[RecordLine] = list(recordfile.parsed(record.splitlines()))
        whole = self._whole(job, which)
        if node["mode"] == "reduce":
            return whole
        spans = {
            line["streams"]["sequence"]: _span(line["streams"], which)
            for line in lines
            if "streams" in line
        }
        ended = any("end" in line for line in lines)
        todo = task.read_description(job)["todo"]
        if todo is not None and not any(a <= place.sequence <= b for a, b in todo):
            return None
        if place.sequence in spans:
            start, end = spans[place.sequence]
            return whole[start:end]
        last = max(spans, default=-1)
        if ended or place.sequence < last:
            return b""
        return whole[spans[last][1] if spans else 0 :]

    def _whole(self, job: AttemptFiles, which: str) -> bytes:
        file = Path(job.stdout if which == "out" else job.stderr)
        if file.exists() and (file.stat().st_size or recordfile.end(job.record) is not None):
            return _content(file)
        return self._peek(job, which) or b""

    def _fetched(self, job: AttemptFiles) -> bytes | None:
        """Return the record of a job."""
        try:
            return _content(job.record)
        except FileNotFoundError:
            return self._peek(job, job.under("").record)

    def _peek(self, job: AttemptFiles, what: str) -> bytes | None:
        if self._run.parent is not None:
            return None  # HTCondor knows the jobs of a round by other names
        return self._run.submission().peek(job.node.name, layout.chunk_name(job.chunk), what)


def _content(path: str | Path) -> bytes:
    with open(path, "rb", opener=layout.unblocked) as file:
        return file.read()


def _span(streams: RecordStreams, which: str) -> tuple[int, int]:
    """Return where an item's output starts and ends, including its traceback on standard error."""
    if which == "out":
        return streams["out"][0], streams["out"][1]
    return streams["err"][0], streams.get("trace", streams["err"][1])
