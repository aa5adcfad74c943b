"""Pickling classes of pydantic: without the validators that its core compiled.

That is made again of their fields, validators and so on when it is first used. To pickle it leads
in circles, since it holds the classes, and it can only be made of what is whole. What a generic
model is with its parameters given (``Model[int]``) keeps it: its fields may name the process.
"""

from __future__ import annotations

import importlib
from typing import Any, Dict, Tuple

_COMPILED = ("__pydantic_core_schema__", "__pydantic_validator__", "__pydantic_serializer__")
_MARK = "__pydantic_decorators__"


def without_compiled(members: Dict[str, Any]) -> Dict[str, Any]:
    """Return the members of a class, without compiled validators if it is one of pydantic."""
    if _MARK not in members or _parameters(members)[1]:
        return members
    return {name: member for name, member in members.items() if name not in _COMPILED}


def complete(kind: Any, members: Dict[str, Any]) -> None:
    """Make a class of pydantic compile itself when it is first used."""
    if _MARK not in members:
        return
    origin, arguments = _parameters(members)
    if arguments:
        # So that Model[int] is this class wherever it is asked for.
        generics = importlib.import_module("pydantic._internal._generics")
        generics.set_cached_generic_type(origin, arguments, kind, origin, arguments)
        return
    type.__setattr__(kind, "__pydantic_complete__", False)
    mocks = importlib.import_module("pydantic._internal._mock_val_ser")
    is_model = hasattr(kind, "model_rebuild")
    mock = mocks.set_model_mocks if is_model else mocks.set_dataclass_mocks
    import inspect  # it takes time, which jobs without such classes need not spend

    # Before 2.11 it gets the name, too.
    mock(kind, *[kind.__name__] * ("cls_name" in inspect.signature(mock).parameters))


def _parameters(members: Dict[str, Any]) -> Tuple[Any, Any]:
    """Return the generic model that a class comes from, and its parameters."""
    generic = members.get("__pydantic_generic_metadata__") or {}
    return generic.get("origin"), generic.get("args")
