"""A digest of keys that is the same in every process, and equal for keys that are equal."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import hashlib
import numbers
import pathlib
import struct
import uuid
from typing import Any, Callable, List, Tuple

from . import travel
from .keyed import SIZE
from .program import StageError

_LENGTH = struct.Struct("<Q")


def digest(key: Any) -> bytes:
    """Return the digest of a key.

    Raises
    ------
    StageError
        If the key is of a type that has no order or value of its own that all processes agree on.
    """
    kind = type(key)
    if kind is str:
        return hashlib.blake2b(
            b"s" + key.encode("utf-8", "surrogatepass"), digest_size=SIZE
        ).digest()
    if kind is int:
        return hashlib.blake2b(b"n%d" % key, digest_size=SIZE).digest()
    return hashlib.blake2b(_canonical(key), digest_size=SIZE).digest()


def _canonical(key: Any) -> bytes:
    """Return bytes that are equal for equal keys, and for these only."""
    if isinstance(key, enum.Enum) and not isinstance(key, (int, str)):
        return b"e" + _parts([_name(type(key)), key.name.encode()])
    for kinds, canonical in _KINDS:
        if isinstance(key, kinds):
            return canonical(key)
    if dataclasses.is_dataclass(key) and not isinstance(key, type) and _compares_by_fields(key):
        values = [getattr(key, each.name) for each in dataclasses.fields(key) if each.compare]
        return b"c" + _parts([_name(type(key)), *map(_canonical, values)])
    raise StageError(
        "a %s cannot be a key, since processes would not agree on its hash; give a key made of "
        "numbers, texts, bytes, dates, or tuples of them (not lists)" % type(key).__name__
    )


def _datetime(key: datetime.datetime) -> bytes:
    if key.utcoffset() is not None:
        key = key.astimezone(datetime.timezone.utc)
    return b"d" + key.isoformat().encode()


def _number(key: Any) -> bytes:
    """Return an exact fraction where the number is one: numbers of all types are equal by value."""
    if key != key:
        return b"nan"
    if isinstance(key, numbers.Complex) and not isinstance(key, numbers.Real):
        if key.imag != 0:
            return b"z" + _number(key.real) + b" " + _number(key.imag)
        key = key.real
    if not isinstance(key, (int, fractions.Fraction, decimal.Decimal)):
        key = int(key) if isinstance(key, numbers.Integral) else float(key)  # numpy's, say
    try:
        exact = fractions.Fraction(key)
    except (ValueError, OverflowError):
        return b"r" + repr(float(key)).encode()  # infinite
    if exact.denominator == 1:
        return b"n%d" % exact.numerator
    return b"q%d/%d" % (exact.numerator, exact.denominator)


def _path(key: pathlib.PurePath) -> bytes:
    if isinstance(key, travel.FilePath):
        if key._reference is not None:
            return b"F" + key._reference.encode()  # where it is differs from job to job
        key = type(pathlib.Path())(key)
    return b"p" + _name(type(key)) + str(key).encode("utf-8", "surrogatepass")


_KINDS: List[Tuple[Any, Callable[[Any], bytes]]] = [
    (str, lambda key: b"s" + key.encode("utf-8", "surrogatepass")),
    (type(None), lambda key: b"0"),
    ((bytes, bytearray), lambda key: b"b" + bytes(key)),
    ((numbers.Number, decimal.Decimal), _number),
    # A named tuple equals a plain one.
    (tuple, lambda key: b"t" + _parts([_canonical(part) for part in key])),
    (frozenset, lambda key: b"f" + _parts(sorted(_canonical(part) for part in key))),
    (datetime.datetime, _datetime),
    (
        (datetime.date, datetime.time),
        lambda key: b"D" + _name(type(key)) + key.isoformat().encode(),
    ),
    (datetime.timedelta, lambda key: b"i%d %d %d" % (key.days, key.seconds, key.microseconds)),
    (uuid.UUID, lambda key: b"u" + key.bytes),
    (pathlib.PurePath, lambda key: _path(key)),
]


def _compares_by_fields(key: Any) -> bool:
    parameters = type(key).__dataclass_params__
    return bool(parameters.eq and (parameters.frozen or parameters.unsafe_hash))


def _name(kind: type) -> bytes:
    return kind.__qualname__.encode()


def _parts(parts: List[bytes]) -> bytes:
    return b"".join(_LENGTH.pack(len(part)) + part for part in parts)
