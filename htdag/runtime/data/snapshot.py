"""Snapshots: values for one consumer, to which nothing else holds a reference.

Alone in a job of its own, a stage gets its items from a file: nobody else has them. Where stages
share a job, a value goes from one to the next as it is if this cannot be told from that, and else
as a copy: a pickle, loaded again. It cannot be told where a value is immutable, or where no
reference to it, or to anything in it, is left outside of it. References are counted: what a
function keeps of what it returned (in a cache, in a buffer that it uses again, in the frame of a
generator) shows as one too many.
"""

from __future__ import annotations

import gc
import struct
import sys
import types
from _weakref import ref
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any, Callable, Dict, List, Optional

from ..files import file_references
from .frames import Pickled

ATOM, GRAPH, ARRAY, UNKNOWN = 0, 1, 2, 3
"""Kinds of types: immutable; its references can be followed; an array of numpy; anything else."""

_referents = gc.get_referents
_MOST = 20_000  # objects of a value that are looked at before it is copied without a proof

_BUILTIN = (
    *(list, tuple, dict, set, frozenset, deque, OrderedDict, defaultdict, Counter, bytearray),
    *(memoryview, type(gc.get_referents(memoryview(b""))[0])),
)

KINDS: Dict[type, int] = dict.fromkeys(
    (
        *(int, float, complex, bool, str, bytes, range, slice, type(None), type(Ellipsis)),
        *(type(NotImplemented), type, types.ModuleType, types.BuiltinFunctionType),
        *(types.CodeType, types.MappingProxyType, ref),
    ),
    ATOM,
)
_ATOMS = frozenset(KINDS)
KINDS.update(dict.fromkeys(_BUILTIN, GRAPH))

_BASES = (object, int, float, complex, str, bytes)

_IMMUTABLE = {
    "datetime": ("date", "datetime", "time", "timedelta", "timezone"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "ipaddress": ("IPv4Address", "IPv6Address", "IPv4Network", "IPv6Network"),
    "re": ("Pattern",),
    "uuid": ("UUID", "SafeUUID"),
    "zoneinfo": ("ZoneInfo",),
}
_POINTER = struct.calcsize("P")
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made at run time, as by a class statement


class CannotCopy(Exception):
    """A value cannot be copied."""


def kind_of(cls: type) -> int:
    """Return the kind of a type, and remember it."""
    kind = KINDS.get(cls)
    if kind is None:
        kind = KINDS[cls] = _kind(cls)
    return kind


def _kind(cls: type) -> int:
    if issubclass(cls, type):
        return ATOM
    module = str(cls.__module__)
    package = module.partition(".")[0]
    names = [base.__name__ for base in cls.__mro__]
    if cls.__name__ in _IMMUTABLE.get(module, ()) or "Enum" in names[1:]:
        return ATOM
    if package == "pathlib" or issubclass(cls, file_references.PATHS):
        return ATOM if "PurePath" in names else _of_python(cls)
    if package == "numpy":
        if cls.__name__ == "ndarray":
            return ARRAY
        if "generic" in names:
            return UNKNOWN if cls.__name__ in ("void", "object_") else ATOM
        return ATOM if "dtype" in names else UNKNOWN
    if package == "pyarrow":
        return ATOM  # of the kinds of objects that pandas keeps; its memory cannot be written
    if package == "pandas":
        return GRAPH
    return _of_python(cls)


def _of_python(cls: type) -> int:
    """Return the kind of a class; those made by a class statement hide no references."""
    for base in cls.__mro__:
        if base in _BASES or base in _BUILTIN:
            continue
        if base.__module__ == "builtins" and issubclass(base, BaseException):
            continue
        # What C code makes has a size, a method or a metaclass of its own.
        if (
            not base.__flags__ & _HEAP_TYPE
            or type(base).__module__ not in ("builtins", "abc", "typing")
            or isinstance(vars(base).get("__new__"), types.BuiltinFunctionType)
            or base.__basicsize__ > _size_in_python(base)
        ):
            return UNKNOWN
    return GRAPH


def _size_in_python(cls: type) -> int:
    """Return the most that a class statement can add to the size of its bases' instances."""
    names = vars(cls).values()
    slots = sum(isinstance(each, types.MemberDescriptorType) for each in names)
    largest = max(base.__basicsize__ for base in cls.__bases__)
    return int(largest + (slots + 2) * _POINTER)


def is_immutable(value: Any) -> bool:
    """Return whether a value and all in it are immutable."""
    cls = type(value)
    if kind_of(cls) == ATOM:
        return True
    if cls is not tuple and cls is not frozenset and not _is_named_tuple(cls):
        return False
    return all(map(is_immutable, value))


def _is_named_tuple(cls: type) -> bool:
    return issubclass(cls, tuple) and getattr(cls, "__dictoffset__", 1) == 0


def _of_array(array: Any) -> List[Any]:
    """Return what an array refers to, which is unknown to the garbage collector."""
    referents = [] if array.base is None else [array.base]
    if array.dtype.hasobject:
        referents += array.ravel().tolist()
    return referents


class _Graph:
    """Objects, and how many references to each come from one another."""

    def __init__(self) -> None:
        self.objects: List[Any] = []
        self.counts: Dict[int, int] = {}

    def add(self, referents: List[Any]) -> bool:
        """Add the referents of an object; return whether all of them can be followed."""
        counts, known = self.counts, KINDS
        if len(referents) > 8 and all(known.get(cls) == ATOM for cls in set(map(type, referents))):
            return True
        for each in referents:
            kind = known.get(type(each))
            if kind is None:
                kind = kind_of(type(each))
            if kind == ATOM:
                continue
            if kind == UNKNOWN:
                return False
            name = id(each)
            if name in counts:
                counts[name] += 1
            else:
                counts[name] = 1
                self.objects.append(each)
        return len(self.objects) <= _MOST


def _is_whole(value: Any) -> bool:
    """Return whether no reference to anything in a value comes from outside of it.

    References to the value itself are for the caller to count.
    """
    kind = KINDS.get(type(value))
    if kind is None:
        kind = kind_of(type(value))
    if kind == ATOM:
        return True
    if kind == UNKNOWN:
        return False
    if kind == ARRAY:
        if value.base is None and not value.dtype.hasobject:
            return True
        referents = _of_array(value)
    else:
        referents = _referents(value)
    for each in referents:
        if type(each) not in _ATOMS:
            each = None
            return _is_closed(value, referents)
    return True


def _is_closed(value: Any, referents: List[Any]) -> bool:
    """Return whether all references to what a value holds, directly or not, are in it."""
    graph = _Graph()
    graph.counts[id(value)] = 0
    if not graph.add(referents):
        return False
    referents.clear()  # they are ours, and would be counted
    if graph.counts[id(value)]:
        return False  # it refers to itself: its references cannot be told from those of others
    number = 0
    objects, references = graph.objects, sys.getrefcount
    while number < len(objects):
        each = objects[number]
        of_array = KINDS[type(each)] == ARRAY
        if not graph.add(_of_array(each) if of_array else _referents(each)):
            return False
        number += 1
    each = None
    counts = graph.counts
    for each in objects:  # noqa: SIM110  (all() would hold another reference)
        if references(each) > counts[id(each)] + _IN_GRAPH:
            return False
    return True


def _in_graph() -> int:
    """Return how many references to an object are ours where `_is_closed` counts them."""
    objects = [[]]  # type: List[List[Any]]
    each = None
    references = sys.getrefcount
    for each in objects:
        return references(each)
    return 0


_IN_GRAPH = _in_graph()


class Owner:
    """Gives each consumer values that nothing else refers to.

    Parameters
    ----------
    dumps : callable
        Pickles a value.
    refuse : callable, optional
        Takes a value that cannot be copied, and the error; unless it raises one, the value is
        handed on as it is.
    """

    __slots__ = ("_dumps", "_fresh", "_refuse")

    def __init__(
        self,
        dumps: Callable[[Any], Pickled],
        refuse: Optional[Callable[[Any, Exception], None]] = None,
    ) -> None:
        self._dumps = dumps
        self._refuse = refuse
        self._fresh: Optional[int] = None
        self._fresh = _calibrated(self)

    def own(self, value: Any) -> Any:
        """Return a value, or a copy if anything but the caller refers to it."""
        references = sys.getrefcount(value)
        fresh = self._fresh
        if fresh is None:
            return references
        if (references <= fresh and _is_whole(value)) or is_immutable(value):
            return value
        try:
            return self.source(value)()
        except CannotCopy as error:
            if self._refuse is not None:
                self._refuse(value, error)
            return value

    def source(self, value: Any) -> Callable[[], Any]:
        """Return a function that makes copies of a value as it is now.

        Make them before anything changes the value: its memory is not copied earlier.

        Raises
        ------
        CannotCopy
            If it cannot be pickled, or, when the function is called, its pickle not be loaded.
        """
        try:
            pickled = self._dumps(value)
        except Exception as error:
            raise CannotCopy("%s: %s" % (type(error).__name__, error)) from error

        def load() -> Any:
            try:
                return pickled.load_copy()
            except Exception as error:
                raise CannotCopy("%s: %s" % (type(error).__name__, error)) from error

        return load


def _calibrated(owner: Owner) -> int:
    """Return how many references there are to a value that only the caller of `own` holds."""
    value = []  # type: Any
    value = owner.own(value)
    return int(value)
