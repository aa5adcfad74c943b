"""The description of a run and its nodes: ``run.json``, ``plan.json``, and files beside them.

``run.json`` and ``plan.json`` are written with the run directory, the others while it runs.
"""

from __future__ import annotations

from typing import Dict, List, Optional, TypedDict, Union


class ScriptEntry(TypedDict):
    """How the script that made a run was started."""

    file: str
    """The absolute path of the script."""
    module: Optional[str]
    """The name after ``python -m``; None for a script that was started by its path."""
    arguments: List[str]
    """The arguments of the command line."""
    python: str
    """The Python that ran it."""
    folder: str
    """The working directory."""


class _Manifest(TypedDict, total=False):
    script: Optional[ScriptEntry]
    """The script that made the run; None for a notebook or the like."""
    imported: bool
    """Whether the run was brought from elsewhere."""


class Manifest(_Manifest):
    """``run.json``: what run this is."""

    format: int
    """The version of this format; htdag itself never compares it."""
    htdag: str
    """The version of htdag that wrote the directory."""
    python: List[int]
    """The version of Python that pickled the functions."""
    tag: str
    """The tag."""
    pipeline: str
    """The name of the pipeline."""
    dag: str
    """The name of the DAG file."""
    created: float
    """When it was made, in seconds since the epoch."""
    targets: List[str]
    """The target stages."""


class StreamEntry(TypedDict):
    """A stream of items that a node reads."""

    stage: str
    """The stage, or source, of the items."""
    node: Optional[str]
    """The node that writes them; None for a source."""


class BindEntry(StreamEntry):
    """A whole result that every job of a node reads."""

    one: bool
    """Whether it is one value, not a list."""


class InputEntry(TypedDict):
    """What a node reads, and how it makes items from that."""

    view: str
    """``items``: read as they are; else the kind of the stage that says how."""
    number: int
    """The n of a batch, or the r of combinations."""
    limit: Optional[int]
    """Only so many of the first items."""
    reverse: bool
    """For ``sort_by``: the largest first."""
    plain: bool
    """Whether it is a source that is cut into a file for each chunk."""
    carries: bool
    """Whether files travel with the items of that source."""
    streams: List[StreamEntry]
    """One, or several for ``zip``, ``product`` and ``concat``."""


class LoopEntry(TypedDict):
    """What a loop repeats."""

    max_rounds: int
    """The most rounds."""
    until: bool
    """Whether a predicate may end the loop."""
    one: bool
    """Whether the state is one value, not items."""
    result: str
    """The stage that makes the state after a round."""
    sources: List[str]
    """The inputs of a round: the state, then outside stages."""


class _NodeEntry(TypedDict, total=False):
    lanes: Optional[List[int]]
    """Where the chunks of its lanes begin, and the end; None where it has none."""
    lane_parent: Optional[str]
    """The node whose lanes continue in its own."""
    input_urls: List[str]
    """The URLs among its input files that HTCondor can bring."""
    environment: Optional[str]
    """The script that starts its jobs on this machine, if its environment has one."""
    compares: bool
    """Whether its jobs compare the versions of packages."""
    reuse: bool
    """Whether there may be items to take over from another run."""
    asks_key: bool
    """Whether its functions may ask for the keys of items."""


class NodeEntry(_NodeEntry):
    """A node of a plan."""

    name: str
    """Its name."""
    stages: List[str]
    """The stages that it computes."""
    parents: List[str]
    """The nodes that must be done before it."""
    children: List[str]
    """The nodes that wait for it."""
    mode: str
    """``items``, ``reduce`` or ``loop``."""
    loop: Optional[LoopEntry]
    """For a loop: what it repeats."""
    check: bool
    """Whether its job checks if a loop is over."""
    input: InputEntry
    """What it reads."""
    outputs: List[str]
    """The stages whose values it writes: each has a main item file."""
    files: List[str]
    """The names that stand for the stage in all item files of a chunk."""
    carries_files: bool
    """Whether files may travel with its values."""
    returns_files: bool
    """Whether its functions may return files."""
    delivers: List[List[str]]
    """The destinations of returned files: patterns and paths."""
    parts: Dict[str, int]
    """For each output that is written in parts: how many."""
    known: List[str]
    """The outputs that have a value for each item."""
    binds: Dict[str, BindEntry]
    """Whole results that its jobs read, by stage."""
    chunks: int
    """How many chunks there are; where it is dynamic, an estimate."""
    boundaries: Optional[List[int]]
    """Where the chunks begin, and the end; None if that is known only when it runs."""
    dynamic: bool
    """Whether the number of chunks depends on the results of the nodes before it."""
    by_chunk: bool
    """Whether its jobs take whole chunks of the node before it."""
    size: Optional[int]
    """The chunk size that was set."""
    per_job: float
    """About how many items a job should have if there is no chunk size."""
    most: int
    """The most chunks."""
    fan_in: Optional[int]
    """For a level of a tree that combines: how many values a job takes."""
    sizes: List[int]
    """How many items each chunk has; [] if unknown."""
    items: Optional[int]
    """How many items it reads; None if unknown."""
    retries: int
    """How often it is retried."""
    on_error: Optional[str]
    """``finish``, ``stop`` or ``skip``; None for the first."""
    max_errors: Union[int, float, None]
    """How many items, or which part of them, ``skip`` may skip."""
    request_cpus: Optional[int]
    """The CPUs of a job, where all ask for the same."""
    max_materialize: Optional[int]
    """The most jobs in the queue at once."""
    category: Optional[str]
    """Its category, for ``maxjobs``."""
    priority: int
    """Its PRIORITY in the DAG."""
    job_priority: Optional[int]
    """The priority of its jobs, if one was set."""
    checkpoints: bool
    """Whether its functions call `htdag.checkpoint`."""


class _StageEntry(TypedDict, total=False):
    history: Optional[str]
    """The key by which measures of it are kept."""


class StageEntry(_StageEntry):
    """A stage of the pipeline."""

    name: str
    """Its name."""
    kind: str
    """What it does: ``map``, ``filter``, ..."""
    one: bool
    """Whether it has one value, not items."""
    node: Optional[str]
    """The node that computes it; None for a source."""
    where: Optional[str]
    """The node that writes its values; None where they are not written."""


class _SourceEntry(TypedDict, total=False):
    cells: List[List[str]]
    """In a round: the files of each block."""
    numbers: List[Optional[int]]
    """In a round: the number of each block's first value, where their numbers are their keys."""


class SourceEntry(_SourceEntry):
    """A source that is read by ranges of its items."""

    boundaries: List[int]
    """Where its files, or blocks, begin, and the end."""
    carries: bool
    """Whether files travel with its items."""


class _PlanContent(TypedDict, total=False):
    final: Optional[str]
    """The node that calls functions when the run has ended."""


class PlanContent(_PlanContent):
    """``plan.json``: what a run, or a round of a loop, is made of."""

    format: int
    """The version of this format; htdag itself never compares it."""
    name: str
    """The name of the pipeline."""
    max_jobs_submitted: Optional[int]
    """The most nodes in the queue at once."""
    maxjobs: Dict[str, int]
    """The most nodes of a category in the queue at once."""
    nodes: List[NodeEntry]
    """Parents before children."""
    stages: List[StageEntry]
    """All stages, sources included."""
    sources: Dict[str, SourceEntry]
    """The sources that are read by ranges of their items."""


class Plan(PlanContent):
    """The plan of a run directory, as `read` returns it."""

    by_name: Dict[str, NodeEntry]
    """The nodes by name."""


class ChunkingFile(TypedDict):
    """``chunking.json``: the chunks of a node whose items had to be counted."""

    chunks: int
    """How many there are."""
    boundaries: List[int]
    """Where they begin, and the end."""


class LoopEnd(TypedDict):
    """``loop.json``: the end of a loop."""

    rounds: int
    """How many rounds there were."""
    until: Optional[bool]
    """The last answer of its predicate; None if it has none."""


class SkippedFile(TypedDict):
    """``skipped.json``: a node is done although some items failed."""

    items: int
    """How many."""


class DeliveredFile(TypedDict):
    """``delivered.json``: the files of a node that were delivered."""

    problem: str
    """What went wrong; "" if nothing."""
    files: Dict[str, List[int]]
    """By path, values that differ once the file was changed."""


class AtOnceFile(TypedDict):
    """``at_once.json``: the limits that a submit description lost."""

    limits: List[str]
    """Their submit commands."""
    characters: int
    """The length of the line that was too long."""


class LocalState(TypedDict):
    """``local.state.json``: how a run on this machine is."""

    state: str
    """``running``, ``halted``, or the state in which it has ended."""
    pid: int
    """The process that runs it."""
    time: float
    """When this was written, in seconds since the epoch."""
    message: str
    """Why it is so."""
