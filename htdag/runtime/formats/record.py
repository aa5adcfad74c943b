"""What the lines of records say: of jobs, and of the calls at the end of a run."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple, TypedDict, Union


class _Start(TypedDict, total=False):
    request_memory: int
    """The memory that the job asks for, in MB."""


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
    """The line that was being run."""
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
    """What the frames are known by."""


class _ErrorDetails(TypedDict, total=False):
    time: float
    """When it happened, in seconds since the epoch."""
    item: str
    """The item that the node was given."""
    argument: str
    """What the stage was given, where that is not the item."""
    locals: List[FrameEntry]
    """The variables of the user's frames."""


class ErrorDetails(_ErrorDetails):
    """What helps to understand an error."""

    traceback: Union[str, List[Union[str, Frames]]]
    """Its traceback, in pieces."""


class RecordError(ErrorDetails):
    """An item, or the whole job, has failed."""

    stage: str
    """The stage at whose function it happened."""
    key: Optional[str]
    """The item; None for the whole job."""
    sequence: Optional[int]
    """The number of the item in the chunk."""
    type: str
    """The exception's type, or one of htdag's own words."""
    message: str
    """The message."""


class RecordContext(TypedDict, total=False):
    """What is true of the whole job, written before its first error."""

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
    """For how long the job had worked since it began, or went on."""
    scratch: str
    """The folder that it worked in."""


StageMeasure = Tuple[str, str, int, float, int]
"""Stage, role, calls, seconds and results of a function, as a list in JSON."""


class JobMeasures(TypedDict):
    """What the process of the functions measured."""

    items: int
    """How many items it worked through."""
    seconds: float
    """How long it took."""
    base_kb: int
    """The memory that it occupied before functions were loaded."""
    stages: List[StageMeasure]
    """What each function took."""


class JobUsage(TypedDict, total=False):
    """The memory and the disk of a job."""

    peak_kb: int
    """The memory of its largest process."""
    disk_kb: int
    """What it had on disk at its end."""
    disk_fixed_kb: int
    """The part of that which does not depend on the chunk."""


class CarriedFiles(TypedDict, total=False):
    """The files that travel with what a job gave."""

    returned: int
    """How many its functions returned."""
    carrying: List[int]
    """In how many values of each item file any travels."""


class _End(JobUsage, CarriedFiles, total=False):
    time: float
    """When, in seconds since the epoch."""
    seconds: float
    """How long the job worked."""
    measured: Optional[JobMeasures]
    """What the functions took; None where their process died."""
    mismatch: str
    """Why its environment does not fit, as the type of an error."""
    killed: bool
    """Whether the job was killed, and this was written afterwards."""
    reused: int
    """How many items were taken over from another run."""


class RecordEnd(_End):
    """A job has ended."""

    items: Optional[int]
    """How many items the chunk has; None where that is not known."""
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
    """Packages that have another version: name, that version, and the one of the script."""
    sound: int
    """Up to this item no bound value was changed."""
    copies_bound: bool
    """From here on each call gets copies of bound values."""
    until: bool
    """What the predicate of a loop says."""
    end: RecordEnd
    """It has ended."""


class FinalError(TypedDict):
    """What a function at the end of a run raised."""

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
    """What the function is called."""
    stem: str
    """What the files with its output are called."""
    time: float
    """When, in seconds since the epoch."""
    seconds: float
    """How long it took."""
    error: Optional[FinalError]
    """What it raised."""
