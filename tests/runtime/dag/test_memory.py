"""What is learnt of the memory that a node's jobs need, and the file that it is written to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from htdag.runtime import requests
from htdag.runtime.dag import submitfile
from htdag.runtime.data import recordfile
from htdag.runtime.job import measure
from htdag.runtime.layout import NodeFiles

NODE = {"name": "work", "mode": "map"}


class Node:
    """A node's submit description and records."""

    def __init__(self, run: Path, *commands: str) -> None:
        self.run = str(run)
        self.files = NodeFiles(run, "work")
        for folder in (self.files.outcomes, self.files.inputs):
            Path(folder).mkdir(parents=True, exist_ok=True)
        text = "\n".join(["# Node work: work", *commands, "queue chunk from chunks.txt", ""])
        Path(self.files.submit).write_text(text)

    def record(self, asked: int | None, *lines: dict[str, Any], chunk: int = 0) -> Node:
        job = self.files.attempt(chunk, 1)
        recordfile.start(job, "here", "3.11", asked)
        for line in lines:
            for kind, content in line.items():
                recordfile.append(job.record, kind, content)
        return self

    def learnt(self) -> str | None:
        submitfile.raise_memory(self.run, NODE)
        return submitfile.commands(self.run, "work").get("request_memory")


KILLED = {"type": "ProcessDied", "message": "was killed by signal 9 (SIGKILL)"}
OUT = {"type": "numpy.MemoryError", "message": "cannot allocate"}
OTHER = {"type": "ValueError", "message": "killed by signal 9 in a novel"}


@pytest.mark.parametrize(
    ("commands", "records", "learnt"),
    [
        (["request_memory = 100MB"], [(600, [])], "600MB"),
        (["request_memory = 1GB"], [(600, [])], "1GB"),  # it is never lowered
        (["request_memory = 100MB"], [(None, []), (300, []), (200, [])], "300MB"),
        (["request_memory = 100MB"], [(None, [])], "100MB"),
        (["request_memory = ifThenElse(a, 1, 2)"], [(600, [])], "ifThenElse(a, 1, 2)"),
        ([], [(600, [])], None),  # the pool's own default
        (["retry_request_memory = 600"], [(600, [])], "600MB"),
        (
            ["request_memory = 100MB", "retry_request_memory = 2GB"],
            [(100, [{"error": KILLED}, {"end": {"peak_kb": 1}}])],
            "2048MB",
        ),
        (
            ["request_memory = 100MB", "retry_request_memory = 200"],
            [(100, [{"error": OUT}, {"end": {"peak_kb": 300 * 1024 + 1}}])],
            "301MB",
        ),
        (
            ["request_memory = 100MB", "retry_request_memory = 200"],
            [(100, [{"error": OTHER}, {"end": {"peak_kb": 900 * 1024}}])],
            "100MB",
        ),
    ],
)
def test_what_is_learnt(
    tmp_path: Path, commands: list[str], records: list[tuple[int | None, Any]], learnt: str | None
):
    node = Node(tmp_path, *commands)
    for chunk, (asked, lines) in enumerate(records):
        node.record(asked, *lines, chunk=chunk)
    assert node.learnt() == learnt
    assert node.learnt() == learnt


@pytest.mark.parametrize(
    ("content", "asked"),
    [("Foo = 1\nRequestMemory = 640\n", 640), ("RequestMemory = 2 * 3\n", None), ("", None)],
)
def test_a_job_knows_what_it_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, asked: int | None
):
    monkeypatch.delenv("_CONDOR_JOB_AD", raising=False)
    assert measure.requested_memory() is None
    monkeypatch.setenv("_CONDOR_JOB_AD", str(tmp_path / "job.ad"))
    assert measure.requested_memory() is None
    (tmp_path / "job.ad").write_text(content)
    assert measure.requested_memory() == asked


def test_commands_are_changed_in_their_place_or_added_before_queue(tmp_path: Path):
    node = Node(tmp_path, "request_memory = 1GB", "queue_note = 1", "# priority = 2")
    submitfile.change(node.run, "work", {"REQUEST_MEMORY": "2GB", "priority": "5", "MY.A": '"b"'})
    text = Path(NodeFiles(tmp_path, "work").submit).read_text()
    assert text == (
        "# Node work: work\nREQUEST_MEMORY = 2GB\nqueue_note = 1\n# priority = 2\n"
        'priority = 5\nMY.A = "b"\nqueue chunk from chunks.txt\n'
    )
    assert submitfile.commands(node.run, "work") == {
        "request_memory": "2GB",
        "queue_note": "1",
        "priority": "5",
        "my.a": '"b"',
    }


@pytest.mark.parametrize(
    ("size", "found"),
    [
        ("512", 512.0),
        ("2GB", 2048.0),
        ("1.5 gb", 1536.0),
        ("1024KB", 1.0),
        ("a", None),
        (None, None),
    ],
)
def test_sizes(size: str | None, found: float | None):
    assert requests.size_in("MB", size) == found
