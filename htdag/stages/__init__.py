"""Stages: lazy handles that chain into a pipeline. Nothing runs here."""

from htdag.stages.beginnings import files, map, source, starmap
from htdag.stages.handle import COMBINING, KEYED, MISSING, PER_ITEM, VIEWS
from htdag.stages.keyed import MOST_PARTITIONS
from htdag.stages.stage import Stage

__all__ = [
    "COMBINING",
    "KEYED",
    "MISSING",
    "MOST_PARTITIONS",
    "PER_ITEM",
    "VIEWS",
    "Stage",
    "files",
    "map",
    "source",
    "starmap",
]
