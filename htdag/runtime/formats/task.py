"""The task of a job: ``node.json`` and the description of its chunk.

``node.json`` is for all jobs of a node, the description (``in/CHUNK.ATTEMPT.json``) for one.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple, TypedDict

Ranges = Optional[List[Tuple[int, int]]]
"""The first and the last of the items in each range; None for all items."""


class FileReference(TypedDict, total=False):
    """A file that travels: see ``files/references.py``."""

    at: str
    """The folder of the run directory that was made for it."""
    name: str
    """Its name."""
    path: str
    """Of one of the user's: its own path."""
    state: str
    """Of one of the user's: values that differ once it was changed."""
    url: str
    """The URL of what HTCondor fetches, or where it puts what a function returned."""
    size: int
    """Of one that a function returned: its bytes."""
    crc: int
    """Of one that a function returned: its checksum."""


# The name that it is to have in working directories is a keyword of Python.
_InputName = TypedDict("_InputName", {"as": str})


class InputFile(FileReference, _InputName):
    """An input file of all jobs of a node."""


class OperationEntry(TypedDict):
    """A stage that works item by item."""

    stage: str
    """Its name."""
    kind: str
    """``map``, ``starmap``, ``flat_map`` or ``filter``."""
    function: int
    """Which of the node's functions it calls."""
    after: int
    """The number of the operation before it; -1 for what the node reads."""
    bind: Dict[str, str]
    """By keyword, the bound stages that the function is given."""


class OutputEntry(TypedDict):
    """Values that leave a node. Functions are told by their numbers."""

    stage: str
    """The stage."""
    after: int
    """The number of the operation whose values these are; -1 for what the node reads."""
    kind: str
    """``items``, or how they are combined in each chunk, or stored with a key."""
    parts: int
    """In how many files the values of a chunk are written; 0 for one that holds all."""
    split: str
    """What decides which part a value is in: its ``hash``, or its ``rank``."""
    combine: Optional[int]
    """Takes what is combined so far and a value."""
    merge: Optional[int]
    """Takes two values of a fold."""
    key: Optional[int]
    """Gives the key of a value."""
    initial: Optional[int]
    """The number of the initial value."""


class ReductionEntry(TypedDict):
    """How a node combines the values of a chunk."""

    stage: str
    """The stage."""
    function: int
    """The number of the function."""
    final: bool
    """Whether it makes the value of the stage, not one within a tree."""
    begun: bool
    """Whether the values already include the initial value."""
    initial: Optional[int]
    """The number of the initial value."""
    bind: Dict[str, str]
    """By keyword, the bound stages that the function is given."""


class CheckEntry(TypedDict):
    """What is asked of the state of a loop."""

    stage: str
    """The loop."""
    function: int
    """The number of the predicate."""
    after: int
    """The number of the operation that gives the state; -1 for what the node reads or combines."""
    previous: Optional[str]
    """The stage of the state before the round, if the predicate takes that, too."""


class Remedy(TypedDict):
    """What to do if an environment does not match."""

    python: str
    """About another version of Python."""
    packages: str
    """About packages that are missing."""


class Logging(TypedDict):
    """The logging of the script to the terminal."""

    level: int
    """The level of the root logger."""
    format: Optional[str]
    """The format of lines."""
    date: Optional[str]
    """The format of times."""
    stream: str
    """``stdout`` or ``stderr``."""
    loggers: Dict[str, int]
    """The levels of other loggers."""


class Deciding(TypedDict, total=False):
    """State of the script's process that can change results, if it differs from the default."""

    variables: Dict[str, str]
    """The variables of the environment whose names stand in the code of the functions."""
    decimal: List[Any]
    """The context of `decimal`."""
    numpy: Dict[str, str]
    """What numpy does about floating-point errors."""
    locale: str
    """The locale."""


class SurroundingsEntry(TypedDict):
    """The state of the script's process that jobs take over."""

    variables: Dict[str, str]
    """Variables of the environment."""
    deciding: Deciding
    """State that can change results."""
    recursion: int
    """The limit of recursion."""
    stack: int
    """The limit of the stack."""
    umask: Optional[int]
    """The umask, if known."""
    logging: Optional[Logging]
    """Its logging; None for none."""


class EnvironmentEntry(TypedDict):
    """What jobs compare before they load anything, and advice if it differs."""

    environment: str
    """The name of the environment."""
    folders: List[str]
    """The folders of packages of the script's process, outside of its Python."""
    distributions: List[Dict[str, str]]
    """The metadata of distributions that are the user's own."""
    packages: List[Tuple[str, str, str, bool]]
    """Module, distribution and version of each package, and whether functions need it."""
    remedy: Remedy
    """What to do."""


class _Program(TypedDict, total=False):
    reduction: ReductionEntry
    """Of a node that combines: how."""
    reads_files: bool
    """Whether files may travel with what its jobs read."""
    carries_files: bool
    """Whether files may travel with the results of its jobs."""
    returns_files: bool
    """Whether its functions may return files."""
    input_files: List[InputFile]
    """The input files of all jobs."""
    output_url: str
    """Where HTCondor puts returned files; "": into the run."""
    environ: List[Tuple[str, str]]
    """Environment variables of the stages."""
    surroundings: SurroundingsEntry
    """What to take over of the script's process."""


class StructureEntry(_Program):
    """The work of a node's jobs."""

    python: List[int]
    """The version of Python that pickled the functions."""
    run: str
    """The tag of the run."""
    node: str
    """The node."""
    cpus: int
    """The CPUs of a job, where all ask for the same."""
    checkpoints: bool
    """Whether functions call `htdag.checkpoint`."""
    checkpoint_interval: Optional[float]
    """Seconds after which a job pauses, to have its files saved; None for never."""
    stages: List[str]
    """The stages, for messages: there is at least one."""
    mode: str
    """``items`` or ``reduce``."""
    on_error: Optional[str]
    """``finish``, ``stop`` or ``skip``; None for the first."""
    combine: Optional[int]
    """The number of the function that combines the values of a key."""
    check: Optional[CheckEntry]
    """What is asked of the state of a loop."""
    operations: List[OperationEntry]
    """The stages that work item by item, upstream first."""
    outputs: List[OutputEntry]
    """What is written."""


class Program(StructureEntry, EnvironmentEntry):
    """``node.json``: what the jobs of a node do."""


class _Part(TypedDict, total=False):
    number: int
    """The number of the first value, if their numbers are their keys."""


class Part(_Part):
    """Values that a job reads, of one block."""

    files: List[str]
    """The item files of the attempts at it."""
    range: Optional[List[int]]
    """Which of the values: the first, and the end; None for all."""


class _StreamParts(TypedDict, total=False):
    first: int
    """The number of the first value that is read."""
    total: int
    """How many values the stream has."""


class StreamParts(_StreamParts):
    """What a job reads of a stream."""

    parts: List[Part]
    """The values, in order."""


class BindParts(TypedDict):
    """A bound stage."""

    stage: str
    """The stage."""
    one: bool
    """Whether it is one value, not a list."""
    parts: List[Part]
    """All of its values."""


class _Description(TypedDict, total=False):
    urls: List[str]
    """The URLs that HTCondor should have fetched."""


class Description(_Description):
    """The description of a chunk, for one attempt at it."""

    view: str
    """How items are made of the streams: see ``views.py``."""
    number: int
    """The n of a batch, or the r of combinations."""
    reverse: bool
    """For ``sort_by``: the largest first."""
    streams: List[StreamParts]
    """What it reads."""
    start: int
    """The number of the first item."""
    stop: Optional[int]
    """The end of the items; None if they are not counted."""
    binds: Dict[str, BindParts]
    """The bound stages by name."""
    todo: Ranges
    """The items left to do."""


class FinalFunction(TypedDict):
    """A function to call at the end of a run."""

    when: str
    """``success`` or ``failure``."""
    name: str
    """What it is called."""


class FinalProgram(TypedDict):
    """``node.json`` of the FINAL node."""

    functions: List[FinalFunction]
    """What to call."""
