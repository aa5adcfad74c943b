"""Reading the parts of objects without calling their own code.

The user's properties, ``__getattr__``, ``__class__`` and metaclasses may do anything.
"""

from __future__ import annotations

import types
from _weakref import ref
from typing import Any, Dict, Iterator, Mapping, Tuple

_DICT = type.__dict__["__dict__"]
_MRO = type.__dict__["__mro__"]
_MODULE = type.__dict__["__module__"]
HEAP_TYPE = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: made by a statement ``class``, in general."""

_holders: Dict[int, Tuple[Any, Tuple[Tuple[str, Any], ...]]] = {}


def namespace(module: types.ModuleType) -> Dict[str, Any]:
    """Return the names of a module, without triggering a lazy import."""
    names: Dict[str, Any] = object.__getattribute__(module, "__dict__")
    return names


def members(kind: type) -> Mapping[str, Any]:
    """Return the members that a class itself defines."""
    own: Mapping[str, Any] = _DICT.__get__(kind)
    return own


def bases(kind: type) -> Tuple[type, ...]:
    """Return a class and all of its base classes."""
    mro: Tuple[type, ...] = _MRO.__get__(kind)
    return mro


def module_name(kind: type) -> str:
    """Return the name of the module that a class says it is from, or ""."""
    name = members(kind).get("__module__")
    if not isinstance(name, str):
        name = _MODULE.__get__(kind)
    return name if isinstance(name, str) else ""


def attributes(value: Any) -> Iterator[Tuple[str, Any]]:
    """Yield names and values of an object's ``__dict__`` and of its slots."""
    for name, member in _members_that_hold(type(value)):
        try:
            held = member.__get__(value)
        except (AttributeError, TypeError):
            continue  # an empty slot
        if name == "__dict__":
            yield from list(held.items())
        else:
            yield name, held


def _members_that_hold(kind: type) -> Tuple[Tuple[str, Any], ...]:
    known = _holders.get(id(kind))  # by number, since a class may have an odd hash
    if known is not None and known[0]() is kind:
        return known[1]
    holders = []
    for base in bases(kind):
        for name, member in members(base).items():
            is_dict = name == "__dict__" and type(member) is types.GetSetDescriptorType
            if is_dict or type(member) is types.MemberDescriptorType:
                holders.append((name, member))
    _holders[id(kind)] = ref(kind), tuple(holders)
    return tuple(holders)
