"""What the items of a run have printed, also in jobs that are still running."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from htdag.errors import NotDone
from htdag.run import locating
from htdag.run.files import RunFiles
from htdag.runtime import layout, recordfile

_Spans = dict[str, list[int]]


class Streams(RunFiles):
    """The output streams of a run."""

    def stdout(self, stage: str, key: str | int | None = None, round: int | None = None) -> str:
        """Return what an item has printed while a job of a stage worked on it.

        Stages that are fused share their output. While its job is running, this is what it has
        printed so far; on HTCondor without a shared file system that is fetched from the execute
        point.

        Parameters
        ----------
        stage : str
            The stage.
        key : str or int, optional
            The item's key. None: all that the jobs of the stage have printed, in their order.
        round : int, optional
            For a stage in a loop, the round; by default the last one in which the stage ran.

        Returns
        -------
        str
            Of the last attempt at the item. Of a running job, what it has printed since its last
            item that is finished counts for each of those after it: nobody knows better yet.

        Raises
        ------
        TimeoutError
            If no job has begun with it.
        UsageError
            If there is no such stage or item.

        Examples
        --------
        >>> print(run.stdout("fit", 7))  # doctest: +SKIP
        """
        return self._printed(stage, key, "out", round).decode(errors="replace")

    def stderr(self, stage: str, key: str | int | None = None, round: int | None = None) -> str:
        """Return what an item has written to standard error, such as the output of logging.

        For an item that failed its traceback follows.

        Parameters
        ----------
        stage, key, round
            As for `stdout`.

        Returns
        -------
        str
            As of `stdout`.

        Raises
        ------
        TimeoutError, UsageError
            As of `stdout`.

        Examples
        --------
        >>> print(run.stderr("fit", 7))  # doctest: +SKIP
        """
        return self._printed(stage, key, "err", round).decode(errors="replace")

    def _printed(
        self, stage: str, key: str | int | None, which: str, round: int | None = None
    ) -> bytes:
        """Return what was printed as it is: ``which`` is ``"out"`` or ``"err"``."""
        self._stage(stage)
        waiting: NotDone | None = None
        for inner in self._rounds_with(stage, round):
            try:
                return inner._printed(stage, key, which)
            except NotDone as error:
                waiting = waiting or error
        if waiting is not None:
            raise waiting
        nodes = locating.nodes_of(self._plan, stage)
        if key is None:
            texts = [self._whole(node, *job, which) for node in nodes for job in self._jobs(node)]
            if not texts:
                raise NotDone(f"run {self.tag!r}: no job of stage {stage!r} has run yet")
            return b"".join(texts)
        place = locating.find(self.path, self._plan, stage, str(key))
        node, chunk = self._plan["by_name"][place.job.node], place.job.chunk
        for number in range(place.job.attempt, 0, -1):
            text = self._of_item(node, chunk, number, place, which)
            if text is not None:
                return text
        raise NotDone(f"run {self.tag!r}: no job of stage {stage!r} has begun with item {key} yet")

    def _jobs(self, node: dict[str, Any]) -> Iterator[tuple[str, int]]:
        """Yield chunk and attempt of the jobs that have left anything, or run now."""
        found = {
            (layout.chunk_name(chunk), attempt)
            for chunk, attempts in layout.attempts(str(self.path), node["name"]).items()
            for attempt in attempts
        }
        for chunk in self._activity().running.get(node["name"], ()):
            job = locating.job_of(self.path, node["name"], chunk)
            if job is not None:
                found.add((job.chunk, job.attempt))
        yield from sorted(found)

    def _of_item(
        self, node: dict[str, Any], chunk: str, attempt: int, place: locating.Place, which: str
    ) -> bytes | None:
        """Return what an item printed in one attempt; None where that did not begin with it."""
        record = self._fetched(node, chunk, layout.record(node["name"], chunk, attempt))
        if record is None:
            return None
        lines = list(_lines(record))
        whole = self._whole(node, chunk, attempt, which)
        if node["mode"] == "reduce":
            return whole
        spans = {
            line["streams"]["sequence"]: line["streams"] for line in lines if "streams" in line
        }
        ended = any("end" in line for line in lines)
        task = self.path / layout.chunk(node["name"], chunk, attempt)
        todo = layout.read_json(str(task), "todo")["todo"]
        if todo is not None and not any(a <= place.sequence <= b for a, b in todo):
            return None
        if place.sequence in spans:
            span = spans[place.sequence]
            return whole[span[which][0] : _end(span, which)]
        last = max(spans, default=-1)
        if ended or place.sequence < last:
            return b""
        return whole[_end(spans[last], which) if spans else 0 :]

    def _whole(self, node: dict[str, Any], chunk: str, attempt: int, which: str) -> bytes:
        path = (layout.stdout if which == "out" else layout.stderr)(node["name"], chunk, attempt)
        file = self.path / path
        if file.exists() and (file.stat().st_size or self._has_ended(node, chunk, attempt)):
            return _content(file)
        return self._peek(node, chunk, which) or b""

    def _has_ended(self, node: dict[str, Any], chunk: str, attempt: int) -> bool:
        record = self.path / layout.record(node["name"], chunk, attempt)
        return recordfile.end(str(record)) is not None

    def _fetched(self, node: dict[str, Any], chunk: str, path: str) -> bytes | None:
        try:
            return _content(self.path / path)
        except FileNotFoundError:
            return self._peek(node, chunk, path)

    def _peek(self, node: dict[str, Any], chunk: str, what: str) -> bytes | None:
        if self._around is not None:
            return None  # HTCondor knows the jobs of a round by another name than theirs here
        ticket = self._ticket()
        if ticket["ticket"] is None:
            return None  # it was submitted elsewhere
        backend = self._backend(ticket["backend"])
        return backend.peek(self.path, ticket["ticket"], node["name"], chunk, what)


def _content(path: Path) -> bytes:
    with open(path, "rb", opener=layout.unblocked) as file:
        return file.read()


def _end(span: dict[str, Any], which: str) -> int:
    """Return where an item's output ends, its traceback on standard error included."""
    found: int = span.get("trace", span["err"][1]) if which == "err" else span["out"][1]
    return found


def _lines(record: bytes) -> Iterator[dict[str, Any]]:
    for line in record.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue  # it is being written
