"""Digests of keys: the same in every process, and equal for equal keys.

Python's own hash of a text differs from process to process, and equality can be asked only of two
values in one process. So each key gets a *canonical form*: bytes that are the same for two keys
just where ``==`` holds. That can be written down for an ``__eq__`` that is known, so what decides
is the class that defines the ``__eq__`` of a key: a subclass of ``str`` that has none of its own is
a text. A key whose ``__eq__`` is not known is refused.

NaN and similar values, which are not even equal to themselves, are one key per kind.
"""

from __future__ import annotations

import datetime
import enum
import hashlib
import pathlib
import struct
import sys
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Optional

from ..errors import StageError
from ..files import file_references
from .keyed import SIZE

if TYPE_CHECKING:
    pass


Form = Callable[[Any], bytes]

_LENGTH = struct.Struct("<Q")
_LARGE = 10**600
"""Numbers from here on, and equally small ones, have a residue as their canonical form."""
_LEAST = -_LARGE
_PRIME = int(
    "e88d4b04a7edd13f919540f7a718c9c5d23e6805719ca7d8"
    "af58908b76c8ecdd6e2bb3b4d08f125d054429dace47d3b",
    16,
)
_EPOCH = datetime.datetime(1970, 1, 1)
_MICROSECOND = datetime.timedelta(microseconds=1)
_FIRST = (datetime.datetime.min - _EPOCH) // _MICROSECOND
_LAST = (datetime.datetime.max - _EPOCH) // _MICROSECOND
_ATTO = 10**12  # attoseconds in a microsecond; numpy counts as finely as these
_UNITS = {
    "W": 604_800 * 10**18,
    "D": 86_400 * 10**18,
    "h": 3_600 * 10**18,
    "m": 60 * 10**18,
    "s": 10**18,
    "ms": 10**15,
    "us": 10**12,
    "ns": 10**9,
    "ps": 10**6,
    "fs": 10**3,
    "as": 1,
}
_MONTHS = {"Y": 12, "M": 1}


def digest(key: Any) -> bytes:
    """Return the digest of a key.

    Raises
    ------
    StageError
        If Python itself cannot hash the key, or its equality is not known.
    """
    kind = type(key)
    if kind is str:  # most keys are texts
        form = b"s" + key.encode("utf-8", "surrogatepass")
    elif kind is int and _LEAST < key < _LARGE:
        form = b"n%d" % key
    else:
        try:
            form = _canonical(key)
        except RecursionError:
            raise _refusal(kind, "its parts are nested too deep") from None
    return hashlib.blake2b(form, digest_size=SIZE).digest()


def _canonical(key: Any) -> bytes:
    """Return bytes that are equal for equal keys, and for these only."""
    form = _forms.get(type(key))
    if form is None:
        form = _forms[type(key)] = _form_of(type(key))
    return form(key)


def _form_of(kind: type) -> Form:
    """Return the function that makes the canonical form of values of a class."""
    owner = next(each for each in kind.__mro__ if "__eq__" in each.__dict__)
    package = owner.__module__.partition(".")[0]
    hashes: Any = kind.__hash__
    if hashes is None and owner is not bytearray:
        raise _refusal(kind, "Python has no hash of it" + _hint(kind))
    form = _FORMS.get("%s.%s" % (package, owner.__qualname__))
    if form is not None:
        return form
    if owner is object:
        form = _form_by_identity(kind)
        if form is None:
            raise _refusal(kind, "it is equal to no other object, and jobs get copies of it")
        return form
    fields = _fields_of_dataclass(owner)
    if fields is None:
        fields = _fields_of_attrs(owner)
    if fields is not None:
        return _by_fields(fields)
    if package == "numpy" and hasattr(kind, "dtype"):
        return _numpy
    form = _form_of_number(kind)
    if form is not None:
        return form
    raise _refusal(
        kind, "it has an __eq__ of its own, which cannot be asked for keys of two processes"
    )


def _refusal(kind: type, why: str) -> StageError:
    if kind.__module__ == "htdag":  # which stands for the class below it
        kind = kind.__bases__[0]
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = "%s.%s" % (kind.__module__, name)
    return StageError(
        "a %s cannot be a key: %s; make the key from numbers, texts, bytes, dates, or tuples of "
        "them, for instance with key=lambda item: item.name" % (name, why)
    )


def _hint(kind: type) -> str:
    if issubclass(kind, list):
        return " (a tuple has one)"
    if issubclass(kind, (set, dict)):
        return " (frozenset(...) has one)"
    if hasattr(kind, "__dataclass_fields__"):
        return " (@dataclass(frozen=True) gives it one)"
    if hasattr(kind, "__attrs_attrs__"):
        return " (@attrs.frozen gives it one)"
    return ""


def _text(key: str) -> bytes:
    return b"s" + key.encode("utf-8", "surrogatepass")


def _parts(parts: Iterable[bytes]) -> bytes:
    return b"".join(_LENGTH.pack(len(part)) + part for part in parts)


def _tuple(key: Any) -> bytes:
    return b"t" + _parts(map(_canonical, tuple.__iter__(key)))


def _frozenset(key: Any) -> bytes:
    return b"f" + _parts(sorted(map(_canonical, frozenset.__iter__(key))))


def _range(key: range) -> bytes:
    # Ranges are equal where they give the same numbers.
    if not key or key[0] == key[-1]:
        return b"xrange:" + _tuple(tuple(key))
    return b"xrange:" + _tuple((key[0], key[-1], key.step))


def _slice(key: slice) -> bytes:
    return b"xslice:" + _tuple((key.start, key.stop, key.step))


# Numbers of all types are equal by value.


def _integer(key: int) -> bytes:
    if _LEAST < key < _LARGE:
        return b"n%d" % key
    return b"m%d" % (key % _PRIME)


def _ratio(over: int, under: int) -> bytes:
    """Return the canonical form of a fraction in its lowest terms."""
    if under == 1:
        return _integer(over)
    size = abs(over)
    if size >= _LARGE * under or size * _LARGE < under:
        return b"m%d" % (over * pow(under, -1, _PRIME) % _PRIME)
    if size < _LARGE and under < _LARGE:
        return b"q%d/%d" % (over, under)
    return b"Q%x/%x" % (over, under)


def _real(key: Any) -> bytes:
    if key != key:
        return b"nan"
    try:
        over, under = key.as_integer_ratio()
    except OverflowError:
        return b"rinf" if key > 0 else b"r-inf"
    return _ratio(int(over), int(under))


def _complex(key: Any) -> bytes:
    if key.imag == 0:
        return _real(key.real)
    return b"z" + _real(key.real) + b" " + _real(key.imag)


def _decimal(key: Any) -> bytes:
    if key.is_snan():
        raise _refusal(type(key), "Python has no hash of a signaling NaN")
    if key.is_nan() or key.is_infinite() or -600 <= key.adjusted() < 600:
        return _real(key)
    sign, digits, exponent = key.as_tuple()
    value = int("".join(map(str, digits[:600])))
    for start in range(600, len(digits), 600):  # longer texts are no numbers everywhere
        piece = digits[start : start + 600]
        value = value * 10 ** len(piece) + int("".join(map(str, piece)))
    if not value:
        return _integer(0)
    residue = value * pow(10, exponent, _PRIME) % _PRIME
    return b"m%d" % (-residue % _PRIME if sign else residue)


def _form_of_number(kind: type) -> Optional[Form]:
    """Return the form of exact numbers of a class that equal other numbers by value, or None."""
    import numbers

    if issubclass(kind, numbers.Integral):
        return lambda key: _integer(int(key))
    if issubclass(kind, numbers.Rational):
        return lambda key: _ratio(int(key.numerator), int(key.denominator))
    return None


# Times, to the attosecond. Those of pandas and numpy equal Python's.


def _instant(attoseconds: int, aware: bool) -> bytes:
    """Return the canonical form of a time since 1970, in UTC if it is `aware`."""
    microseconds, rest = divmod(attoseconds, _ATTO)
    if _FIRST <= microseconds <= _LAST:
        when = _EPOCH + microseconds * _MICROSECOND
        text = when.isoformat()
        if rest:
            of_nanosecond = rest % 10**9
            text = when.isoformat(timespec="microseconds")
            text += "%012d" % rest if of_nanosecond else "%03d" % (rest // 10**9)
    else:
        text = "@%d" % attoseconds
    return b"d" + text.encode() + (b"+00:00" if aware else b"")


def _duration(attoseconds: int) -> bytes:
    microseconds, rest = divmod(attoseconds, _ATTO)
    if rest:
        return b"I%d" % attoseconds
    seconds, microseconds = divmod(microseconds, 1_000_000)
    return b"i%d %d %d" % (*divmod(seconds, 86_400), microseconds)


def _datetime(key: datetime.datetime) -> bytes:
    offset = key.utcoffset()
    naive = (key.replace(tzinfo=None) - _EPOCH) // _MICROSECOND
    if offset is None:
        return _instant(naive * _ATTO, aware=False)
    if offset != key.replace(fold=not key.fold).utcoffset():
        # A time of day that the clock shows twice, or not at all, equals only itself in its zone.
        zone = getattr(key.tzinfo, "key", None)
        if zone is None:
            raise _refusal(
                type(key.tzinfo), "it has no name, and %s is ambiguous there" % key.isoformat()
            )
        return b"dz" + _parts([zone.encode(), _instant(naive * _ATTO, aware=False)])
    return _instant((naive - offset // _MICROSECOND) * _ATTO, aware=True)


def _time(key: datetime.time) -> bytes:
    offset = key.utcoffset()
    if offset is None:
        text = datetime.time.isoformat(key.replace(tzinfo=None, fold=0))
        return b"Dtime" + text.encode()
    since = datetime.timedelta(
        hours=key.hour, minutes=key.minute, seconds=key.second, microseconds=key.microsecond
    )
    return b"T%d" % ((since - offset) // _MICROSECOND)


def _numpy(key: Any) -> bytes:
    """Return the canonical form of a scalar."""
    kind: str = key.dtype.kind
    if kind in "biu":
        return _integer(int(key))
    if kind == "f":
        return _real(key)
    if kind == "c":
        return _complex(key)
    if kind == "U":
        return _text(str(key))
    if kind == "S":
        return b"b" + bytes(key)
    if kind not in "mM":
        raise _refusal(type(key), "its hash is not that of equal values (key.item() is a tuple)")
    if key != key:
        return b"xNaT:" + kind.encode()
    unit, step = sys.modules["numpy"].datetime_data(key.dtype)
    if kind == "m":
        count = int(key.astype("int64")) * step
        if unit == "generic":
            raise _refusal(type(key), "it has no unit, so Python has no hash of it")
        if unit in _MONTHS:
            return b"IM%d" % (count * _MONTHS[unit])
        return _duration(count * _UNITS[unit])
    if unit in _MONTHS:
        key, unit, step = key.astype("datetime64[D]"), "D", 1
    return _instant(int(key.astype("int64")) * step * _UNITS[unit], aware=False)


def _timestamp(key: Any) -> bytes:
    return _numpy(key.asm8) + (b"" if key.tzinfo is None else b"+00:00")


def _timedelta(key: Any) -> bytes:
    return _numpy(key.asm8)


def _interval(key: Any) -> bytes:
    return b"xinterval:" + _tuple((key.left, key.right, key.closed))


def _period(key: Any) -> bytes:
    return b"xperiod:" + _tuple((key.freqstr, key.ordinal))


# Addresses, paths.


def _address(key: Any) -> bytes:
    return b"xaddress:" + _tuple((key.version, int(key), getattr(key, "scope_id", None)))


def _network(key: Any) -> bytes:
    return b"xnetwork:" + _tuple((key.version, int(key.network_address), key.prefixlen))


def _interface(key: Any) -> bytes:
    return b"xinterface:" + _parts([_address(key), _network(key.network)])


def _path(key: pathlib.PurePath) -> bytes:
    if isinstance(key, file_references.PATHS) and key._reference is not None:
        reference: str = key._reference
        return b"F" + reference.encode()  # where it is differs from job to job
    if isinstance(key, pathlib.PureWindowsPath):
        return b"pPureWindowsPath" + str(key).lower().encode("utf-8", "surrogatepass")
    return b"pPosixPath" + str(key).encode("utf-8", "surrogatepass")


# What is told apart by its class, and by its name or its fields.


def _name(kind: type) -> bytes:
    return ("%s:%s" % (kind.__module__, kind.__qualname__)).encode()


def _form_by_identity(kind: type) -> Optional[Form]:
    """Return the form of values equal only to themselves and identical everywhere, or None."""
    if issubclass(kind, type):
        return lambda key: b"y" + _name(key)
    if issubclass(kind, enum.Flag):
        return lambda key: b"e" + _parts([_name(kind), _canonical(key.value)])
    if issubclass(kind, enum.Enum):
        return lambda key: b"e" + _parts([_name(kind), key.name.encode()])
    if kind.__module__ == "zoneinfo" and kind.__qualname__ == "ZoneInfo":
        return lambda key: b"xzone:" + _canonical(key.key)
    return None


def _by_fields(read: Callable[[Any], Iterable[Any]]) -> Form:
    return lambda key: b"c" + _parts([_name(type(key)), *map(_canonical, read(key))])


def _fields_of_dataclass(owner: type) -> Optional[Callable[[Any], Iterable[Any]]]:
    """Return a reader of the fields that the ``__eq__`` of a dataclass compares, or None."""
    if "__dataclass_fields__" not in owner.__dict__:
        return None
    import dataclasses

    names = [field.name for field in dataclasses.fields(owner) if field.compare]
    generated = dataclasses.make_dataclass("Generated", [(name, object) for name in names])
    if not _are_alike(owner.__dict__["__eq__"], generated.__eq__):
        return None
    return lambda key: [getattr(key, name) for name in names]


def _are_alike(function: Any, generated: Any) -> bool:
    """Return whether a function has the instructions of a generated one."""
    code, other = getattr(function, "__code__", None), generated.__code__
    return code is not None and all(
        getattr(code, each) == getattr(other, each) for each in ("co_code", "co_names", "co_consts")
    )


def _fields_of_attrs(owner: type) -> Optional[Callable[[Any], Iterable[Any]]]:
    """Return a reader of the fields that an ``__eq__`` made by attrs compares, or None."""
    fields = owner.__dict__.get("__attrs_attrs__")
    code = getattr(owner.__dict__["__eq__"], "__code__", None)
    if fields is None or code is None or not code.co_filename.startswith("<attrs generated"):
        return None
    compared = [(field.name, field.eq_key) for field in fields if field.eq]

    def read(key: Any) -> Iterable[Any]:
        for name, make in compared:
            value = getattr(key, name)
            yield value if make is None else make(value)

    return read


# By the class that defines `__eq__`, with the package that it is in; so none is imported here.
_FORMS: Dict[str, Form] = {
    "builtins.str": _text,
    "builtins.int": _integer,
    "builtins.float": _real,
    "builtins.complex": _complex,
    "builtins.bytes": lambda key: b"b" + bytes(key),
    "builtins.bytearray": lambda key: b"b" + bytes(key),
    "builtins.tuple": _tuple,
    "builtins.frozenset": _frozenset,
    "builtins.range": _range,
    "builtins.slice": _slice,
    "decimal.Decimal": _decimal,
    "_decimal.Decimal": _decimal,
    "fractions.Fraction": lambda key: _ratio(key.numerator, key.denominator),
    "datetime.datetime": _datetime,
    "datetime.date": lambda key: b"Ddate" + datetime.date.isoformat(key).encode(),
    "datetime.time": _time,
    "datetime.timedelta": lambda key: b"i%d %d %d" % (key.days, key.seconds, key.microseconds),
    "datetime.timezone": lambda key: b"xtimezone:" + _canonical(key.utcoffset(None)),
    "uuid.UUID": lambda key: b"u" + bytes(key.bytes),
    "pathlib.PurePath": _path,
    "ipaddress._BaseAddress": _address,
    "ipaddress.IPv6Address": _address,
    "ipaddress._BaseNetwork": _network,
    "ipaddress.IPv4Interface": _interface,
    "ipaddress.IPv6Interface": _interface,
    "pandas._Timestamp": _timestamp,
    "pandas._Timedelta": _timedelta,
    "pandas._NaT": lambda key: b"xpandas.NaT",
    "pandas.NAType": lambda key: b"xpandas.NA",
    "pandas.Interval": _interval,
    "pandas._Period": _period,
}
_forms: Dict[type, Form] = {
    type(None): lambda key: b"0",
    type(...): lambda key: b"xEllipsis",
    type(NotImplemented): lambda key: b"xNotImplemented",
}
