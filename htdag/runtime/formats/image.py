"""What is pickled in ``code/modules.image``: the user's modules, and the pieces of them."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple, TypedDict, Union

PieceName = Tuple[str, str]
"""A module, and a name in it."""


class ModuleEntry(TypedDict):
    """A module of the user's."""

    name: str
    """Its name."""
    file: str
    """Its file; a text in angle brackets where there is none."""
    path: Optional[List[str]]
    """The folders of a package; None for another module."""
    package: str
    """The package that relative imports in it begin at."""
    source: Optional[bytes]
    """Its source."""
    binary: Optional[bytes]
    """The content of its file, where that is a compiled extension."""
    compiled: Optional[bytes]
    """Its code, where it has no source."""
    doc: Optional[str]
    """Its docstring."""
    data: Union[bytes, str, None]
    """Files beside the modules of a package, or where they are; None where they are too many."""
    given: Dict[str, str]
    """What else the module was given when it was loaded."""
    loaded: bool
    """Whether it was loaded in the script; jobs execute any other."""


class _ImageContent(TypedDict, total=False):
    registered: List[Tuple[Optional[PieceName], bytes, List[PieceName]]]
    """What was told to `copyreg`."""


class ImageContent(_ImageContent):
    """The whole."""

    modules: Dict[str, ModuleEntry]
    """The modules by name."""
    pieces: Dict[PieceName, Tuple[int, int]]
    """For each piece its group, and the position in it."""
    groups: List[Any]
    """Pickles of pieces, or where they are."""
    needs: List[List[PieceName]]
    """The pieces that each group needs."""
    refused: Dict[PieceName, Tuple[str, str]]
    """Why pieces cannot be pickled, and how their values are shown."""
    cells: Dict[str, bytes]
    """The sources of cells of a notebook."""


class Functions(TypedDict):
    """``functions.pickle``: the payload of a node."""

    functions: List[Any]
    """The functions."""
    initials: List[Any]
    """The values that combining functions begin with."""


class Envelope(TypedDict):
    """A pickle of functions, with what it needs."""

    content: bytes
    """The pickle."""
    needs: List[PieceName]
    """The pieces to make before they are called."""
