"""What the nodes of a run compute: ``identity.json``, made by ``htdag/compile/signatures.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, Optional, TypedDict

if TYPE_CHECKING:
    from .task import OperationEntry, OutputEntry


class FingerprintEntry(TypedDict):
    """What ``identity.json`` has of a function or a value, by the names of its components."""

    components: Dict[str, str]
    """Their digests."""
    places: Dict[str, str]
    """The files that they are in."""
    unsure: Dict[str, str]
    """Why it is not known whether they are the same."""


class FunctionEntry(FingerprintEntry):
    """A function of a node."""

    stage: str
    """The stage that it is of."""


class Structure(TypedDict):
    """What the jobs of a node do, without the names of its stages.

    All of it is compared; here are the keys that are looked at one by one.
    """

    operations: List[OperationEntry]
    """The stages that work item by item."""
    outputs: List[OutputEntry]
    """What is written."""


class NodeIdentity(TypedDict):
    """What a node computes."""

    stages: List[str]
    """Its stages."""
    outputs: List[str]
    """The stages whose values it writes."""
    structure: Structure
    """What its jobs do."""
    functions: List[FunctionEntry]
    """Its functions."""
    values: List[FingerprintEntry]
    """Its initial values."""
    asks_key: bool
    """Whether its functions may ask for the keys of items."""
    loop: bool
    """Whether it is a loop."""
    options: Dict[str, str]
    """Options that change what functions give, by digests."""
    cache: bool
    """Whether its finished items go to the cache."""
    mixed: bool
    """Whether another function's finished items were said to be right."""


class ItemNames(TypedDict, total=False):
    """What the pickles of items may name."""

    kinds: Dict[str, Dict[str, str]]
    """What items may name: see `_kinds`."""
    urls: Dict[str, str]
    """What each URL has."""


class _Identity(ItemNames, total=False):
    unknown: Dict[str, str]
    """By node, in words: the URLs whose content nobody can tell."""


class Identity(_Identity):
    """``identity.json``: what the nodes of a run compute."""

    format: Optional[int]
    """What digests are made of; None of a run that has none."""
    python: List[int]
    """The minor version of Python."""
    nodes: Dict[str, NodeIdentity]
    """The nodes by name."""
    stages: Dict[str, str]
    """The kinds of stages by name."""
