"""The lines of records: of jobs, and of the calls at the end of a run."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple, TypedDict, Union


class _Start(TypedDict, total=False):
    request_memory: int
    """The memory that the job requests, in MB."""


class RecordStart(_Start):
    """A job has begun, or goes on after a pause or an eviction."""

    node: str
    """Its node."""
    chunk: str
    """The name of its chunk."""
    attempt: int
    """Which attempt it is."""
    host: str
    """The machine."""
    python: str
    """The version and path of its Python."""
    time: float
    """When, in seconds since the epoch."""


class FrameEntry(TypedDict):
    """The variables of a frame of a traceback."""

    file: str
    """The file of its code."""
    line: int
    """The current line."""
    function: str
    """The name of its function."""
    names: Dict[str, str]
    """The variables, as short texts."""


class _Frames(TypedDict, total=False):
    text: str
    """The frames; missing where they were written before."""


class Frames(_Frames):
    """Frames of a traceback, which other tracebacks may have too."""

    id: str
    """The key of the frames."""


class _ErrorDetails(TypedDict, total=False):
    time: float
    """When it happened, in seconds since the epoch."""
    item: str
    """The item of the node."""
    argument: str
    """The input of the stage, if that is not the item."""
    locals: List[FrameEntry]
    """The variables of the user's frames."""


class ErrorDetails(_ErrorDetails):
    """Details of an error."""

    traceback: Union[str, List[Union[str, Frames]]]
    """Its traceback, in pieces."""


class RecordError(ErrorDetails):
    """An item, or the whole job, has failed."""

    stage: str
    """The stage whose function failed."""
    key: Optional[str]
    """The item; None for the whole job."""
    sequence: Optional[int]
    """The number of the item in the chunk."""
    type: str
    """The exception's type, or one of htdag's own words."""
    message: str
    """The message."""


class RecordContext(TypedDict, total=False):
    """The context of the whole job, written before its first error."""

    packages: Dict[str, str]
    """The versions of the packages that it had imported."""
    scratch: Optional[List[str]]
    """The files in its scratch directory."""
    folder: str
    """Its working directory."""
    system: str
    """The system and kernel."""


class _Streams(TypedDict, total=False):
    trace: int
    """Where the traceback that follows on standard error ends."""


class RecordStreams(_Streams):
    """What an item has printed."""

    sequence: int
    """The number of the item in the chunk."""
    out: List[int]
    """Where that begins on standard output, and ends."""
    err: List[int]
    """The same on standard error."""


RecordPaused = TypedDict("RecordPaused", {"sequence": int, "from": List[int]})
"""The item at which a job paused, and where both streams were when it began."""


class RecordCheckpoint(TypedDict):
    """A pause."""

    time: float
    """When, in seconds since the epoch."""
    monotonic: float
    """The same since the machine was started."""
    seconds: float
    """How long the job had worked since it began or continued."""
    scratch: str
    """The folder that it worked in."""


StageMeasure = Tuple[str, str, int, float, int]
"""Stage, role, calls, seconds and results of a function, as a list in JSON."""


class JobMeasures(TypedDict):
    """Measurements of the process of the functions."""

    items: int
    """How many items it processed."""
    seconds: float
    """How long it took."""
    base_kb: int
    """The memory that it occupied before functions were loaded."""
    stages: List[StageMeasure]
    """The time of each function."""


class JobUsage(TypedDict, total=False):
    """The memory and the disk of a job."""

    peak_kb: int
    """The memory of its largest process."""
    disk_kb: int
    """The disk that it used at its end."""
    disk_fixed_kb: int
    """The part of that which does not depend on the chunk."""


class CarriedFiles(TypedDict, total=False):
    """The files that travel with the values of a job."""

    returned: int
    """How many its functions returned."""
    carrying: List[int]
    """How many values of each item file have files."""


class _End(JobUsage, CarriedFiles, total=False):
    time: float
    """When, in seconds since the epoch."""
    seconds: float
    """How long the job worked."""
    measured: Optional[JobMeasures]
    """The times of the functions; None if their process died."""
    mismatch: str
    """Why its environment does not match, as the type of an error."""
    killed: bool
    """Whether the job was killed, and this was written afterwards."""
    reused: int
    """How many items were taken over from another run."""


class RecordEnd(_End):
    """A job has ended."""

    items: Optional[int]
    """How many items the chunk has; None if unknown."""
    done: int
    """How many are finished."""
    failed: int
    """How many have failed."""
    remaining: Optional[int]
    """How many were to be done and are not."""
    whole: bool
    """Whether this attempt was to do all of the chunk."""
    values: List[int]
    """How many values each item file holds."""
    sizes: List[int]
    """The bytes of each item file."""


class RecordLine(TypedDict, total=False):
    """A line of the record of a job: one of these."""

    start: RecordStart
    """It begins, or goes on."""
    error: RecordError
    """An item has failed."""
    context: RecordContext
    """What is true of the whole job."""
    streams: RecordStreams
    """What an item has printed."""
    paused: RecordPaused
    """At which item it pauses."""
    checkpoint: RecordCheckpoint
    """It pauses."""
    differs: List[Tuple[str, str, str]]
    """Packages with another version: name, that version, and that of the script."""
    sound: int
    """Up to this item no bound value was changed."""
    copies_bound: bool
    """From here on each call gets copies of bound values."""
    until: bool
    """The answer of the predicate of a loop."""
    end: RecordEnd
    """It has ended."""


class FinalError(TypedDict):
    """The error of a function at the end of a run."""

    type: str
    """The exception's type."""
    message: str
    """Its message."""
    traceback: str
    """Its traceback."""


class FinalEntry(TypedDict):
    """A call of a function at the end of a run."""

    when: str
    """``success`` or ``failure``."""
    function: str
    """The name of the function."""
    stem: str
    """The name of the files with its output."""
    time: float
    """When, in seconds since the epoch."""
    seconds: float
    """How long it took."""
    error: Optional[FinalError]
    """Its error."""
