"""Frames, the parts of item files: how one value is written, read and checked.

A frame has a fixed header (kind, flags, sequence numbers, lengths, CRC-32 of all of it), the key
and the payload. The payload of a value is its pickle. Where the value has large buffers of its own
(arrays, pickle protocol 5), these stand behind the pickle as they are, and the lengths of them
before it: so that a buffer is written from the user's memory, and read into the memory where it
stays. The files that travel with a value are listed before both, so that who prepares jobs learns
them without its pickle.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zlib
from typing import Any, BinaryIO, Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ..layout import DamagedFile

VALUE, END, TRAILER = 1, 3, 4
ENDS = 1  # flag: this value is the last of its input item
BUFFERS = 2  # flag: the payload is a table of lengths, the pickle, and its buffers
FILES = 4  # flag: before all that, which files travel with the value

HEADER = struct.Struct("<BBHIIQ")  # kind, flags, key length, first, last, payload length
CRC = struct.Struct("<I")
COUNT = struct.Struct("<Q")
_HEAD = struct.Struct(HEADER.format + "I")  # with the checksum
_TABLE = struct.Struct("<I")  # how many buffers; behind it the length of each
HEAD_SIZE = HEADER.size + CRC.size
TRAILER_SIZE = HEAD_SIZE + COUNT.size

PLAIN = frozenset({int, float, str, bytes, bool, type(None)})
CONTAINERS = frozenset({list, tuple, dict, set, frozenset})

SMALL = 1 << 16
"""Bytes below which a buffer stays in its pickle, and a frame is read in one piece."""

_PIECE = 1 << 20


def own_buffers(payload: bytes, buffers: Sequence[Any]) -> Tuple[Any, ...]:
    """Return buffers that share no memory with these, for the unpickled value to keep."""
    kind: Any = bytes if payload == _READ_ONLY else bytearray
    return tuple(map(kind, buffers))


class Pickled(NamedTuple):
    """A pickle and its buffers, which still share the memory of the pickled value.

    ``files`` are the references to the files that travel with the value: see ``travel.py``.
    """

    payload: bytes
    buffers: Tuple[Any, ...] = ()
    files: Tuple[str, ...] = ()

    def load_copy(self) -> Any:
        """Return a value that shares no memory with the pickled one."""
        return pickle.loads(self.payload, buffers=own_buffers(self.payload, self.buffers))


_READ_ONLY = pickle.dumps(pickle.PickleBuffer(b""), 5, buffer_callback=lambda buffer: False)
"""The pickle of a value that is only a read-only buffer."""


def plain(value: Any) -> Pickled:
    """Return the pickle of a number, text, or bytes; large bytes follow it as they are."""
    if type(value) is bytes and len(value) >= SMALL:
        return Pickled(_READ_ONLY, (value,))
    return Pickled(pickle.dumps(value, 5))


class _OfAnyKind(Exception):
    """A value holds more than numbers, texts, bytes, and built-in containers of these."""


class _PlainPickler(pickle.Pickler):
    """A pickler of plain values, which need no reducers."""

    def reducer_override(self, value: Any) -> Any:
        raise _OfAnyKind


def _refuse(buffer: Any) -> bool:
    raise _OfAnyKind


def plain_container(value: Any) -> Optional[Pickled]:
    """Return the pickle of a container; None if it holds more than `plain` accepts."""
    file = io.BytesIO()
    try:
        _PlainPickler(file, 5, buffer_callback=_refuse).dump(value)
    except (_OfAnyKind, RecursionError):
        return None
    return Pickled(file.getvalue())


def large_buffers(large: List[Any]) -> Callable[[Any], bool]:
    """Return a ``buffer_callback`` that moves large buffers to a list, out of the pickle."""

    def callback(buffer: Any) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:
            return True  # not in one piece: pickle has to see to it
        if raw.nbytes < SMALL:
            return True
        large.append(raw)
        return False

    return callback


class Frame(NamedTuple):
    """One stored value; ``pickle.loads(payload, buffers=buffers)`` returns it."""

    kind: int
    key: str
    payload: bytes
    buffers: Tuple[bytearray, ...] = ()
    files: Tuple[str, ...] = ()


class Stored(NamedTuple):
    """A frame with its position in a file."""

    kind: int
    flags: int
    first: int
    last: int
    key: bytes
    payload: bytes
    buffers: Tuple[bytearray, ...]
    files: Tuple[str, ...] = ()

    @property
    def frame(self) -> Frame:
        return Frame(self.kind, self.key.decode(), self.payload, self.buffers, self.files)


def write(
    file: BinaryIO,
    kind: int,
    flags: int,
    key: bytes,
    first: int,
    last: int,
    payload: bytes,
    buffers: Sequence[Any] = (),
    files: Sequence[str] = (),
) -> int:
    """Write a frame and return its size, without copying large parts."""
    if not buffers and not files and len(payload) < SMALL:
        header = HEADER.pack(kind, flags, len(key), first, last, len(payload))
        body = key + payload
        return file.write(header + CRC.pack(zlib.crc32(body, zlib.crc32(header))) + body)
    parts: List[Any] = [payload]
    if buffers:
        flags |= BUFFERS
        sizes = [len(buffer) for buffer in buffers]
        parts = [_TABLE.pack(len(sizes)) + struct.pack("<%dQ" % len(sizes), *sizes), payload]
        parts += buffers
    if files:
        flags |= FILES
        listed = json.dumps(list(files)).encode()
        parts = [_TABLE.pack(len(listed)) + listed, *parts]
    length = sum(map(len, parts))
    header = HEADER.pack(kind, flags, len(key), first, last, length)
    checksum = zlib.crc32(key, zlib.crc32(header))
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    file.write(header + CRC.pack(checksum) + key)
    for part in parts:
        file.write(part)
    return HEAD_SIZE + len(key) + length


def read(
    file: BinaryIO, path: str, stop: Optional[int], load: bool = True, check: bool = True
) -> Iterator[Stored]:
    """Yield the frames from the file's position on, checked, up to `stop` or the trailer.

    Without `load` large payloads are checked, but not kept: they are empty in what is yielded.
    Without `check`, too, they are passed over unread.
    """
    position = file.tell()
    size = os.fstat(file.fileno()).st_size
    none: Tuple[bytearray, ...] = ()
    while stop is None or position < stop:
        head = file.read(HEAD_SIZE)
        if len(head) < HEAD_SIZE:
            raise DamagedFile(path, "it ends at byte %d, before its trailer" % position)
        kind, flags, key_length, first, last, length, expected = _HEAD.unpack(head)
        if not VALUE <= kind <= TRAILER:
            raise DamagedFile(path, "byte %d is not the start of a frame" % position)
        end = position + HEAD_SIZE + key_length + length
        if end > size:
            raise DamagedFile(path, "it ends within the frame at byte %d" % position)
        checksum = zlib.crc32(head[: HEADER.size])
        buffers = none
        files: Tuple[str, ...] = ()
        if length < SMALL and not flags & (BUFFERS | FILES):
            body = file.read(key_length + length)
            checksum = zlib.crc32(body, checksum)
            key, payload = body[:key_length], body[key_length:]
            del body
        else:
            key = file.read(key_length)
            checksum = zlib.crc32(key, checksum)
            if flags & FILES:
                files, length, checksum = _files(file, length, checksum)
            if not check and length >= 0:
                payload, checksum = b"", expected
                file.seek(end)
            elif not load or length < 0:
                payload, checksum = b"", _pass_over(file, length, checksum)
            else:
                payload, buffers, checksum = _body(file, flags, length, checksum)
        if checksum != expected:
            raise DamagedFile(
                path, "the checksum of the frame at byte %d does not match" % position
            )
        position = end
        stored = Stored(kind, flags, first, last, key, payload, buffers, files)
        # Do not keep this frame in memory while the next one is read.
        del payload, buffers
        yield stored
        del stored
        if kind == TRAILER:
            return


def _files(file: BinaryIO, length: int, checksum: int) -> Tuple[Tuple[str, ...], int, int]:
    """Read which files travel with a value; also return the rest of the length, and the checksum.

    Impossible lengths are damage: then no checksum matches.
    """
    table = file.read(_TABLE.size)
    if len(table) < _TABLE.size:
        return (), -1, -1
    (size,) = _TABLE.unpack(table)
    left = length - _TABLE.size - size
    if left < 0:
        return (), -1, -1
    listed = file.read(size)
    checksum = zlib.crc32(listed, zlib.crc32(table, checksum))
    try:
        return tuple(json.loads(listed)), left, checksum
    except ValueError:
        return (), -1, -1


def _pass_over(file: BinaryIO, length: int, checksum: int) -> int:
    """Read so many bytes for their checksum alone."""
    if length < 0:
        return -1  # what was read before tells that it is damaged
    piece = memoryview(bytearray(min(length, _PIECE)))
    while length:
        got = file.readinto(piece[: min(length, _PIECE)])  # type: ignore[attr-defined]
        if not got:
            break  # the file became shorter: the checksum will not match
        checksum = zlib.crc32(piece[:got], checksum)
        length -= got
    return checksum


def _body(
    file: BinaryIO, flags: int, length: int, checksum: int
) -> Tuple[bytes, Tuple[bytearray, ...], int]:
    if flags & BUFFERS:
        return _with_buffers(file, length, checksum)
    payload = file.read(length)
    return payload, (), zlib.crc32(payload, checksum)


def _with_buffers(
    file: BinaryIO, length: int, checksum: int
) -> Tuple[bytes, Tuple[bytearray, ...], int]:
    """Read a table, a pickle and its buffers, each into memory of its own.

    Impossible lengths are damage: then no checksum matches.
    """
    nothing = b"", (), -1
    table = file.read(_TABLE.size)
    if len(table) < _TABLE.size or length < _TABLE.size:
        return nothing
    (number,) = _TABLE.unpack(table)
    left = length - _TABLE.size - 8 * number
    if left < 0:
        return nothing
    lengths = file.read(8 * number)
    if len(lengths) < 8 * number:
        return nothing
    sizes = struct.unpack("<%dQ" % number, lengths)
    left -= sum(sizes)
    if left < 0:
        return nothing
    payload = file.read(left)
    for part in (table, lengths, payload):
        checksum = zlib.crc32(part, checksum)
    buffers: List[Any] = []
    for size in sizes:
        buffer: Any
        if payload == _READ_ONLY:
            buffer = file.read(size)
        else:
            buffer = bytearray(size)
            file.readinto(buffer)  # type: ignore[attr-defined]
        checksum = zlib.crc32(buffer, checksum)
        buffers.append(buffer)
    return payload, tuple(buffers), checksum
