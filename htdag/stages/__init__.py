"""Stages: lazy handles that chain into a pipeline. Nothing runs here."""

from htdag.stages.beginnings import files, map, source, starmap
from htdag.stages.kinds import (
    COMBINING,
    IMPORT,
    KEYED,
    LOOP,
    MISSING,
    MOST_PARTITIONS,
    PER_ITEM,
    STATE,
    VIEWS,
)
from htdag.stages.loops import iterate
from htdag.stages.stage import Loop, Stage

__all__ = [
    "COMBINING",
    "IMPORT",
    "KEYED",
    "LOOP",
    "MISSING",
    "MOST_PARTITIONS",
    "PER_ITEM",
    "STATE",
    "VIEWS",
    "Loop",
    "Stage",
    "files",
    "iterate",
    "map",
    "source",
    "starmap",
]
