"""Values stored together with a key: what is sorted, or grouped by the digest of its key.

A payload is the digest (nothing but zeros for what is sorted), the length of the key's pickle, that
pickle, and the value's. So jobs can group values without unpickling any of them.
"""

from __future__ import annotations

import pickle
import struct
from typing import Any, Callable

BY_HASH = ("group_by", "reduce_by_key", "distinct")
"""Views whose chunks are partitions that earlier jobs have written."""

SIZE = 16
"""Bytes of a digest. The chance that two of 10**12 different keys share one is 10**-15."""

_LENGTH = struct.Struct("<I")
_KEY = SIZE + _LENGTH.size
_NO_DIGEST = bytes(SIZE)
_LONGEST_TEXT = 60

Dumps = Callable[[Any], bytes]


def pack(digest: bytes, key: bytes, value: bytes) -> bytes:
    """Return the payload of a value under a key, both pickled."""
    return b"".join((digest or _NO_DIGEST, _LENGTH.pack(len(key)), key, value))


def partition(digest: bytes, parts: int) -> int:
    """Return the partition of a digest, if digests are divided into so many equal ranges."""
    return int.from_bytes(digest[:8], "big") * parts >> 64


def digest_of(payload: bytes) -> bytes:
    """Return the digest of a payload's key."""
    return payload[:SIZE]


def _end_of_key(payload: bytes) -> int:
    return _KEY + int(_LENGTH.unpack_from(payload, SIZE)[0])


def group_key(payload: bytes) -> Any:
    """Return the key of a payload."""
    return pickle.loads(memoryview(payload)[_KEY : _end_of_key(payload)])


def value(payload: bytes) -> Any:
    """Return the value of a payload."""
    return pickle.loads(memoryview(payload)[_end_of_key(payload) :])


def sort_key(payload: bytes) -> Any:
    """Return what a payload is sorted by: its key, or its value if it has no key."""
    end = _end_of_key(payload)
    return group_key(payload) if end > _KEY else value(payload)


def item_key(payload: bytes) -> str:
    """Return the key of the item of a group: the group's key as Python shows it.

    A long one is cut, and distinguished from others by its digest.
    """
    try:
        text = repr(group_key(payload))
    except Exception:
        text = ""
    if text and len(text) <= _LONGEST_TEXT:
        return text
    return "%s...%s" % (text[: _LONGEST_TEXT - 20], digest_of(payload).hex()[:12])
