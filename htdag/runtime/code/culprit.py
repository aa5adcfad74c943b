"""The part of a value that cannot be pickled, searched for only after pickling failed."""

from __future__ import annotations

import types
from typing import Any, Callable, Iterator, NamedTuple, Tuple

from . import odd, static

_MOST_TRIES = 2_000
_LONGEST = 200  # letters of what leads to a part
_PLAIN = (str, bytes, int, float, complex, bool, type(None))


class Culprit(NamedTuple):
    """The smallest part of a value that cannot be pickled.

    Attributes
    ----------
    path : str
        The way to it, as in ``CONFIG['db'].lock``.
    value : Any
        The part.
    error : Exception
        The error raised by pickling it.
    """

    path: str
    value: Any
    error: Exception

    @property
    def kind(self) -> str:
        """The name of its class, with the module unless it is one of Python's builtins."""
        kind = type(self.value)
        module = static.module_name(kind)
        name = kind.__qualname__
        return name if module in ("builtins", "__main__", "") else "%s.%s" % (module, name)


def find(value: Any, name: str, dumps: Callable[[Any], Any]) -> Culprit:
    """Return the smallest part of a value for which `dumps` fails, as it does for the value.

    Parameters
    ----------
    value : Any
        A value that cannot be pickled.
    name : str
        Its name in messages.
    dumps : callable
        Pickles a value, or raises.
    """
    culprit = Culprit(name, value, _failure(value, dumps) or TypeError("it cannot be pickled"))
    seen = {id(value)}
    left = _MOST_TRIES
    inside = True
    while inside and left and not _is_refused(culprit.value):
        inside = False
        for step, part in _parts(culprit.value):
            if type(part) in _PLAIN or id(part) in seen:
                continue
            seen.add(id(part))
            error = _failure(part, dumps)
            left -= 1
            if error is not None:
                culprit, inside = Culprit(culprit.path + step, part, error), True
            if inside or not left:
                break
    return culprit


def place(value: Any, name: str, dumps: Callable[[Any], Any]) -> str:
    """Describe the part of a value that cannot be pickled; "" if that is all of it."""
    culprit = find(value, name, dumps)
    path = culprit.path
    if len(path) > _LONGEST:
        path = path[: _LONGEST // 2] + " ... " + path[-_LONGEST // 2 :]
    return "" if path == name else " (%s, a %s)" % (path, culprit.kind)


def _is_refused(value: Any) -> bool:
    """Return whether a value itself is refused, not something that it holds."""
    try:
        odd.reduced(value)
    except Exception:
        return True
    return False


def _failure(value: Any, dumps: Callable[[Any], Any]) -> Any:
    try:
        dumps(value)
    except Exception as error:
        return error
    return None


def _parts(value: Any) -> Iterator[Tuple[str, Any]]:
    """Yield the parts of a value, each with the Python expression that leads to it."""
    kind = type(value)
    if issubclass(kind, dict):
        for key, part in list(dict.items(value)):
            yield "[%s]" % _short(key), part
            yield ", its key %s" % _short(key), key
    elif issubclass(kind, (list, tuple)):
        base = list if issubclass(kind, list) else tuple
        for number, part in enumerate(base.__iter__(value)):
            yield "[%d]" % number, part
    elif issubclass(kind, (set, frozenset)):
        base_set: Any = set if issubclass(kind, set) else frozenset
        for part in base_set.__iter__(value):
            yield ", its element %s" % _short(part), part
    if kind is types.FunctionType:
        yield from _parts_of_function(value)
    for name, part in static.attributes(value):
        yield "." + name, part


def _parts_of_function(function: Any) -> Iterator[Tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            yield ", its variable %s" % name, cell.cell_contents
        except ValueError:
            continue  # an empty cell
    for number, default in enumerate(function.__defaults__ or ()):
        yield ".__defaults__[%d]" % number, default
    for name, default in (function.__kwdefaults__ or {}).items():
        yield ".__kwdefaults__[%r]" % name, default


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = type(value).__name__
    return text if len(text) <= 40 else text[:37] + "..."
