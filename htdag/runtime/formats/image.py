"""The content of ``code/modules.image``: the user's modules, and their pieces."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple, TypedDict, Union

PieceName = Tuple[str, str]
"""A module, and a name in it."""


class ModuleEntry(TypedDict):
    """A module of the user's."""

    name: str
    """Its name."""
    file: str
    """Its file; a text in angle brackets if there is none."""
    path: Optional[List[str]]
    """The folders of a package; None for another module."""
    package: str
    """The package to which its relative imports refer."""
    source: Optional[bytes]
    """Its source."""
    binary: Optional[bytes]
    """The content of its file, if that is a compiled extension."""
    compiled: Optional[bytes]
    """Its code, if it has no source."""
    doc: Optional[str]
    """Its docstring."""
    data: Union[bytes, str, None]
    """Files beside the modules of a package, or their place; None if they are too many."""
    given: Dict[str, str]
    """The attributes that the import system gave to the module."""
    loaded: bool
    """Whether it was loaded in the script; jobs execute any other."""


class _ImageContent(TypedDict, total=False):
    registered: List[Tuple[Optional[PieceName], bytes, List[PieceName]]]
    """The reducers registered with `copyreg`."""


class ImageContent(_ImageContent):
    """The content of the image."""

    modules: Dict[str, ModuleEntry]
    """The modules by name."""
    pieces: Dict[PieceName, Tuple[int, int]]
    """For each piece its group, and the position in it."""
    groups: List[Any]
    """Pickles of pieces, or their places."""
    needs: List[List[PieceName]]
    """The pieces that each group needs."""
    refused: Dict[PieceName, Tuple[str, str]]
    """Why pieces cannot be pickled, and short texts of their values."""
    cells: Dict[str, bytes]
    """The sources of cells of a notebook."""


class Functions(TypedDict):
    """``functions.pickle``: the payload of a node."""

    functions: List[Any]
    """The functions."""
    initials: List[Any]
    """The initial values of combining functions."""


class Envelope(TypedDict):
    """A pickle of functions, with what it needs."""

    content: bytes
    """The pickle."""
    needs: List[PieceName]
    """The pieces to make before they are called."""
