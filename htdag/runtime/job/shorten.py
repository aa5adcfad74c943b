"""Short texts of any values, for error reports.

Not by ``reprlib``: it writes out in full what is not a plain list, dict or str, such as a dataclass
that holds a million numbers. A text that is cut says how much there was.
"""

from __future__ import annotations

import re
from collections import deque
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Iterable, Iterator, Tuple

LONGEST = 200
_ELEMENTS = 6
_LEVELS = 3
_STRING = 80
_INT_BITS = 2000

# A str by such a name is not written down. Scientists have other tokens too: words, for instance.
_SECRET = re.compile(
    r"passw|passphrase|secret|api_?key|credential|private_?key|authorization", re.I
)
_TOKEN = re.compile(r"token", re.I)
_TOKEN_LENGTH = 16
HIDDEN = "(hidden)"


def short(value: Any, limit: int = LONGEST) -> str:
    """Return a value as one line of text of at most about `limit` characters.

    It never raises, whatever the value's own methods do.
    """
    try:
        text = _short(value, _LEVELS)
    except Exception as error:
        text = "<%s, whose repr raised %s>" % (type(value).__name__, type(error).__name__)
    return cut(" ".join(text.split("\n")), limit)


def cut(text: str, limit: int) -> str:
    """Return a text, without its middle if it is too long."""
    if len(text) <= limit:
        return text
    tail = limit // 4
    return text[: limit - tail - 3] + "..." + text[len(text) - tail :]


def named(name: Any, value: Any, limit: int = LONGEST) -> str:
    """Return the short text of a named value; secrets are hidden."""
    return HIDDEN if _is_secret(name, value) else short(value, limit)


def _is_secret(name: Any, value: Any) -> bool:
    if not isinstance(name, str) or not isinstance(value, (str, bytes)):
        return False
    if _SECRET.search(name):
        return True
    return bool(_TOKEN.search(name)) and len(value) >= _TOKEN_LENGTH and len(value.split()) == 1


def _short(value: Any, level: int) -> str:
    kind = type(value)
    if kind is int and value.bit_length() > _INT_BITS:
        return "<int of %d bits>" % value.bit_length()
    if isinstance(value, (str, bytes, bytearray)):
        return _string(value)
    if isinstance(value, dict):
        pairs = ("%s: %s" % (_short(k, level - 1), _field(k, v, level)) for k, v in value.items())
        return _of_kind(kind, dict, "{%s}" % _listed(pairs, len(value), level))
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return _fields(kind, zip(kind._fields, value), len(value), level)
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return _sequence(value, kind, level)
    if isinstance(value, (type, ModuleType, FunctionType, BuiltinFunctionType)):
        return repr(value)
    if hasattr(kind, "shape"):
        return _array(value)
    fields = getattr(kind, "__dataclass_fields__", None)
    if fields is not None:
        return _fields(kind, ((name, getattr(value, name)) for name in fields), len(fields), level)
    state = getattr(value, "__dict__", None)
    if getattr(kind, "__repr__", None) is object.__repr__ and isinstance(state, dict):
        return "<%s>" % _fields(kind, state.items(), len(state), level)
    return repr(value)


def _string(value: Any) -> str:
    if len(value) <= _STRING:
        return repr(value)
    unit = "characters" if isinstance(value, str) else "bytes"
    return "%s... (%d %s)" % (repr(value[:_STRING]), len(value), unit)


def _sequence(value: Any, kind: type, level: int) -> str:
    text = _listed((_short(element, level - 1) for element in value), len(value), level)
    if isinstance(value, list):
        return _of_kind(kind, list, "[%s]" % text)
    if isinstance(value, tuple):
        return _of_kind(kind, tuple, "(%s%s)" % (text, "," if len(value) == 1 else ""))
    if kind is set and value:
        return "{%s}" % text
    return "%s([%s])" % (kind.__name__, text)


def _of_kind(kind: type, plain: type, text: str) -> str:
    return text if kind is plain else "%s(%s)" % (kind.__name__, text)


def _fields(kind: type, pairs: Iterable[Tuple[str, Any]], count: int, level: int) -> str:
    texts = ("%s=%s" % (name, _field(name, value, level)) for name, value in pairs)
    return "%s(%s)" % (kind.__name__, _listed(texts, count, level))


def _field(name: Any, value: Any, level: int) -> str:
    return HIDDEN if _is_secret(name, value) else _short(value, level - 1)


def _listed(texts: Iterator[str], count: int, level: int) -> str:
    """Return the first elements, and how many there are if these are not all."""
    if not count:
        return ""
    if level <= 0:
        return "... %d in all" % count
    shown = []
    for text in texts:
        shown.append(text)
        if len(shown) == _ELEMENTS:
            break
    if count > len(shown):
        shown.append("... %d in all" % count)
    return ", ".join(shown)


def _array(value: Any) -> str:
    """Return the kind, shape and type of an array or table; for a small one, the elements, too."""
    kind = type(value)
    shape = tuple(value.shape)
    size = 1
    for length in shape:
        size *= length
    if size <= _ELEMENTS:
        return repr(value)
    text = "%s.%s of shape %s" % (kind.__module__.partition(".")[0], kind.__name__, shape)
    dtype = getattr(value, "dtype", None)
    return "<%s%s>" % (text, "" if dtype is None else ", %s" % dtype)
