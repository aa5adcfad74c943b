"""Enumerations pickled by value: members can be restored before their class is complete.

Nothing that makes members runs again: neither their ``__new__`` and ``__init__``, nor decorators.
"""

from __future__ import annotations

import abc
import enum
import pickle
from typing import Any, Dict

from . import image, static

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a statement `class`, in general


def is_enum(kind: Any) -> bool:
    """Return whether a class is an enumeration."""
    return isinstance(kind, enum.EnumMeta)


def attributes(kind: Any) -> Dict[str, Any]:
    """Return the members of a class; combinations of flags are made when they are needed."""
    if isinstance(kind, abc.ABCMeta):
        raise pickle.PicklingError("abstract classes that are enumerations do not travel by value")
    members = {
        name: own
        for name, own in static.members(kind).items()
        if name not in ("__dict__", "__weakref__")
    }
    by_value = members["_value2member_map_"]
    members["_value2member_map_"] = {
        value: member for value, member in by_value.items() if _is_listed(kind, member)
    }
    return members


def reduced_member(value: Any) -> Any:
    """Return how a member is made with its class; NotImplemented for a combination of flags."""
    kind = type(value)
    if not _is_listed(kind, value):
        return NotImplemented
    base = next(each for each in static.bases(kind) if not each.__flags__ & _HEAP_TYPE)
    arguments = ()
    if base is not object:
        if not hasattr(base, "__getnewargs__"):
            raise pickle.PicklingError("a %s that is a member does not travel by value" % base)
        arguments = base.__getnewargs__(value)
    how = (kind, value._name_, base, arguments)
    from . import reducers

    return image.new_member, how, vars(value), None, None, reducers.set_attributes


def _is_listed(kind: Any, value: Any) -> bool:
    members = static.members(kind).get("_member_map_", {})
    return members.get(getattr(value, "_name_", None)) is value
