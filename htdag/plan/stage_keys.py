"""Keys that identify a stage across runs, so that earlier measurements apply to it.

A changed function usually takes about as long as before, so its code does not count: names do. A
name that the user set identifies the stage. A derived name, such as ``map`` or ``process``, may
stand for another stage in another script; there the function's own name and the name of its file
have to agree too, and for a function without a name (a lambda) the code itself.
"""

from __future__ import annotations

import functools
import hashlib
import os
import types
from typing import TYPE_CHECKING, Any

from htdag.stages import Stage
from htdag.stages.graph import inner_graphs, stage_of

if TYPE_CHECKING:
    import networkx as nx

PARTS = "/parts"
"""Ends the key of the map side of a reduce, in the jobs that make its items."""
GROUPS = "/groups"
"""Ends the key of the number of different keys of a keyed stage."""

_LONGEST = 300


def stage_keys(graph: nx.DiGraph, pipeline: str) -> dict[str, str]:
    """Return the key under which each stage, apart from sources, is remembered.

    Parameters
    ----------
    graph : networkx.DiGraph
        The graph of stages.
    pipeline : str
        The pipeline's name.

    Returns
    -------
    dict of str to str
        Keys by the names of stages.
    """
    # A pipeline without a name has that of its first target.
    first: Stage | None = stage_of(graph, pipeline) if pipeline in graph else None
    given = first is None or first.named
    keys = {}
    for name, data in graph.nodes(data=True):
        stage: Stage = data["stage"]
        if stage.source is None:
            key = f"{pipeline}/{name}/{stage.kind}"
            if not (given and stage.named):
                key += f"/{origin(stage.operation.origin)}"
            if len(key) > _LONGEST:
                key = key[: _LONGEST - 17] + "/" + _digest(key.encode())
            keys[name] = key
    return keys


def all_stage_keys(graph: nx.DiGraph, pipeline: str) -> dict[str, str]:
    """Return the keys of all stages, including those in loops; all names differ."""
    keys = stage_keys(graph, pipeline)
    for inner in inner_graphs(graph):
        keys.update(stage_keys(inner, pipeline))
    return keys


def origin(function: Any) -> str:
    """Return where a function comes from: its file or module, and its name or code.

    Examples
    --------
    >>> import functools, operator
    >>> origin(operator.add)
    '_operator:add'
    >>> origin(None)
    ''
    >>> origin(functools.partial(str.split, sep=","))
    ':str.split'
    """
    if function is None:
        return ""
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    name = getattr(function, "__qualname__", None)
    if name is None:  # an object that can be called
        function = type(function).__call__
        name = getattr(function, "__qualname__", None)
    name = str(name or "")
    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType):
        return f"{getattr(function, '__module__', None) or ''}:{name}"
    # A cell of a notebook, or code typed at a prompt, has another file name each time.
    file = os.path.basename(code.co_filename) if os.path.isfile(code.co_filename) else ""
    if "<lambda>" in name:
        name = f"lambda-{_digest(_content(code))}"
    return f"{file}:{name}"


def _content(code: types.CodeType) -> bytes:
    """Return the content of a code object, without its position in a file."""
    constants = [_constant(constant) for constant in code.co_consts]
    return b"\0".join([code.co_code, *constants, *(name.encode() for name in code.co_names)])


def _constant(constant: Any) -> bytes:
    if isinstance(constant, types.CodeType):
        return _content(constant)
    if isinstance(constant, frozenset):  # its order differs between processes
        return repr(sorted(map(repr, constant))).encode()
    return repr(constant).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
