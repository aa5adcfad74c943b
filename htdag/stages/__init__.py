"""Stages: lazy handles that chain into a pipeline, without running anything."""

from htdag.stages.loops import Iterate, iterate
from htdag.stages.operations import MISSING, MOST_PARTITIONS
from htdag.stages.stage import Stage, files, map, source, starmap

__all__ = [
    "MISSING",
    "MOST_PARTITIONS",
    "Iterate",
    "Stage",
    "files",
    "iterate",
    "map",
    "source",
    "starmap",
]
