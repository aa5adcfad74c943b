"""Checks of what a function returns, by its annotation."""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import types
import typing
import uuid
from typing import Any

_PLAIN = (
    *(bool, int, float, complex, str, bytes, bytearray, range, type(None)),
    *(datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo),
    *(decimal.Decimal, fractions.Fraction, uuid.UUID, enum.Enum),
)
_CONTAINERS = frozenset(
    {
        *(list, tuple, set, frozenset, dict),
        *(collections.Counter, collections.OrderedDict, collections.defaultdict, collections.deque),
        collections.abc.Iterable,
        collections.abc.Iterator,
        collections.abc.Generator,
        collections.abc.Collection,
        collections.abc.Sequence,
        collections.abc.Set,
        collections.abc.Mapping,
    }
)


def holds_no_path(function: Any) -> bool:
    """Return whether a function's annotation excludes that its result holds a path.

    Parameters
    ----------
    function : callable
        The function; for a `functools.partial`, the function that it calls is examined.

    Returns
    -------
    bool
        False also if this is unknown.

    Examples
    --------
    >>> def words(book) -> collections.Counter[str]: ...
    >>> holds_no_path(words)
    True
    >>> holds_no_path(lambda book: book)
    False
    """
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, type):
        return _is_plain(function, frozenset())
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # for example, names that only type checkers know
        return False
    return "return" in hints and _is_plain(hints["return"], frozenset())


def _is_plain(hint: Any, seen: frozenset[Any]) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    alias = hint if origin is None else origin
    if type(alias).__name__ == "TypeAliasType":  # of a statement `type`; typing_extensions has one
        if alias in seen:
            return True
        value = alias.__value__
        return _is_plain(value[arguments] if arguments else value, seen | {alias})
    if origin is typing.Literal:
        return True
    if origin in (typing.Union, types.UnionType) or origin in _CONTAINERS:
        return all(_is_plain(each, seen) for each in arguments if each is not Ellipsis)
    if origin is typing.Annotated:
        return _is_plain(arguments[0], seen)
    if origin is not None:
        return _is_array(origin)
    if not isinstance(hint, type):
        return False
    return issubclass(hint, _PLAIN) or _is_array(hint) or _has_plain_fields(hint, seen)


def _is_array(kind: Any) -> bool:
    return kind.__module__ == "numpy" and any(
        base.__name__ in ("ndarray", "generic") for base in kind.__mro__
    )


def _has_plain_fields(kind: type, seen: frozenset[Any]) -> bool:
    """Return whether it is a named tuple, dataclass or TypedDict whose fields hold no paths."""
    if kind in seen:
        return True
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    elif issubclass(kind, tuple) and hasattr(kind, "_fields"):
        names = list(kind._fields)
    elif typing.is_typeddict(kind):
        names = list(kind.__annotations__)
    else:
        return False
    try:
        hints = typing.get_type_hints(kind)
    except Exception:
        return False
    return all(name in hints and _is_plain(hints[name], seen | {kind}) for name in names)
