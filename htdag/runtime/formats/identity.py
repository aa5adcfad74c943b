"""The computations of a run's nodes: ``identity.json``, from ``htdag/compile/signatures.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, Optional, TypedDict

if TYPE_CHECKING:
    from .task import OperationEntry, OutputEntry


class FingerprintEntry(TypedDict):
    """The fingerprint of a function or value, by the names of its components."""

    components: Dict[str, str]
    """Their digests."""
    places: Dict[str, str]
    """The files that they are in."""
    unsure: Dict[str, str]
    """Why it is unknown whether they are the same."""


class FunctionEntry(FingerprintEntry):
    """A function of a node."""

    stage: str
    """The stage of the function."""


class Structure(TypedDict):
    """The work of a node's jobs, without the names of its stages.

    All of it is compared; these are only the keys that are used one by one.
    """

    operations: List[OperationEntry]
    """The stages that work item by item."""
    outputs: List[OutputEntry]
    """What is written."""


class NodeIdentity(TypedDict):
    """The computation of a node."""

    stages: List[str]
    """Its stages."""
    outputs: List[str]
    """The stages whose values it writes."""
    structure: Structure
    """The work of its jobs."""
    functions: List[FunctionEntry]
    """Its functions."""
    values: List[FingerprintEntry]
    """Its initial values."""
    asks_key: bool
    """Whether its functions may ask for the keys of items."""
    loop: bool
    """Whether it is a loop."""
    options: Dict[str, str]
    """The digests of options that change results."""
    cache: bool
    """Whether its finished items go to the cache."""
    mixed: bool
    """Whether the user kept finished items of another function."""


class ItemNames(TypedDict, total=False):
    """The objects that pickles of items may name."""

    kinds: Dict[str, Dict[str, str]]
    """The objects, by kind: see `_kinds`."""
    urls: Dict[str, str]
    """The state of each URL."""


class _Identity(ItemNames, total=False):
    unknown: Dict[str, str]
    """By node, a text about URLs whose state is unknown."""


class Identity(_Identity):
    """``identity.json``: the computations of a run's nodes."""

    format: Optional[int]
    """The format of digests; None for a run without any."""
    python: List[int]
    """The minor version of Python."""
    nodes: Dict[str, NodeIdentity]
    """The nodes by name."""
    stages: Dict[str, str]
    """The kinds of stages by name."""
