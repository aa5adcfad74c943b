"""The functions of a node, chained so that one input item flows through all of them.

A node's program is a tree of operations: each takes the values of the one before it, and several
may follow one. Values leave it at *outputs*, whose item files the worker writes.
"""

from __future__ import annotations

import pickle
import time
from typing import Any, Callable, Dict, List, Optional

from .frames import VALUE, Pickled, large_buffers

MISSING = object()


class StageError(Exception):
    """A mistake that htdag itself finds in what a stage's function did."""


class Cursor:
    """Which stage works on which key at this moment: what an error report needs to know."""

    __slots__ = ("key", "stage")

    def __init__(self) -> None:
        self.stage = ""
        self.key = ""


class Sink:
    """Where the values of one output go: per item, or combined over items.

    ``combine`` is the function of an associative reduce, or None for an output of single values.
    """

    def __init__(
        self, writer: Any, dumps: Callable[[Any], Pickled], stage: str, combine: Any, cursor: Cursor
    ) -> None:
        self.writer = writer
        self._dumps = dumps
        self._stage = stage
        self._combine = combine
        self._cursor = cursor
        self._item: Any = MISSING
        self._total: Any = MISSING
        self._range: Optional[List[int]] = None
        self._saved: Any = None  # where in the file the open range is kept
        self._save_at = 0.0

    def take(self, key: str, value: Any) -> None:
        """Take a value of the current input item."""
        self._cursor.stage = self._stage
        if self._combine is None:
            self._write(key, value, "result")
        elif self._item is MISSING:
            self._item = value
        else:
            self._item = self._combine(self._item, value)

    @property
    def combines(self) -> bool:
        """Whether values are combined over items."""
        return self._combine is not None

    def take_copy(self, key: str, value: Any) -> None:
        """Take a copy of a value, for the combining function to do with as it likes."""
        self._cursor.stage = self._stage
        self.take(key, self._pickled(value, "value").load_copy())

    def end(self, sequence: int) -> None:
        """End the current input item: now its values count."""
        if self._combine is None:
            self.writer.end(sequence, sequence)
            return
        if self._range is not None and self._range[1] != sequence - 1:
            self._flush_range()
        # The function may change its first argument in place. Should it raise, the total is not to
        # be trusted: it is dropped, and the items in it are left undone rather than miscounted.
        opened, self._range = self._range, None
        item, self._item = self._item, MISSING
        if item is not MISSING:
            total, self._total = self._total, MISSING
            self._cursor.stage = self._stage
            self._total = item if total is MISSING else self._combine(total, item)
        self._range = [sequence if opened is None else opened[0], sequence]
        if time.perf_counter() >= self._save_at:
            self._save_range()

    def abandon(self) -> None:
        """Drop the current input item, which failed; what was combined before it is written."""
        self._item = MISSING
        self.writer.abandon()
        self._flush_range()

    def close(self) -> None:
        """Write what is combined."""
        self._flush_range()

    def _flush_range(self) -> None:
        """Write what is combined, and begin anew."""
        if self._combine is not None and self._range is not None:
            self._save_range()
        elif self._saved is not None:
            self.writer.rewind(self._saved)
        self._range = None
        self._total = MISSING
        self._saved = None

    def _save_range(self) -> None:
        """Write what is combined so far, in place of what was written of this range before.

        So a process that dies loses little. The time between two of these is ten times what one
        takes, which bounds the cost.
        """
        if self._range is None:
            return
        begun = time.perf_counter()
        if self._saved is None:
            self._saved = self.writer.mark
        else:
            self.writer.rewind(self._saved)
        if self._total is not MISSING:
            key, self._cursor.stage = self._cursor.key, self._stage
            self._cursor.key = ""
            self._write("0", self._total, "combined value")
            self._cursor.key = key
        self.writer.end(self._range[0], self._range[1])
        ended = time.perf_counter()
        self._save_at = ended + 10 * (ended - begun)

    def _write(self, key: str, value: Any, what: str) -> None:
        pickled = self._pickled(value, what)
        self.writer.value(key, pickled.payload, VALUE, pickled.buffers)

    def _pickled(self, value: Any, what: str) -> Pickled:
        try:
            return self._dumps(value)
        except Exception as error:
            raise StageError(
                "the %s, a %s, cannot be pickled: %s: %s"
                % (what, type(value).__name__, type(error).__name__, error)
            ) from error


Emit = Callable[[str, Any], None]


def chain(
    operations: List[Dict[str, Any]],
    functions: List[Any],
    bound: Dict[str, Any],
    sinks: Dict[int, List[Sink]],
    cursor: Cursor,
) -> Emit:
    """Return the function that takes a key and a value through all operations of a node.

    Parameters
    ----------
    operations : list of dict
        ``kind``, ``stage``, ``function`` (an index into `functions`), ``after`` (the index of the
        operation before it, -1 for the input) and ``bind`` (keyword to bound input).
    functions : list
        The user's functions.
    bound : dict
        The values of bound inputs by name.
    sinks : dict
        The outputs after each operation's index; -1 is the input itself.
    cursor : Cursor
        Kept up to date for error reports.
    """

    # Combining functions may change their first argument, which none of the others may see.
    several = sum(sink.combines for group in sinks.values() for sink in group) > 1

    def following(number: int) -> Emit:
        # Sinks first: a combining sink may change a value in place only after all others saw it.
        plain = [s.take for s in sinks.get(number, []) if not s.combines]
        combining = [
            s.take_copy if several else s.take for s in sinks.get(number, []) if s.combines
        ]
        after = [build(n) for n, op in enumerate(operations) if op["after"] == number]
        emits = plain + after + combining
        if len(emits) == 1:
            return emits[0]

        def all_of_them(key: str, value: Any) -> None:
            for emit in emits:
                emit(key, value)

        return all_of_them

    def build(number: int) -> Emit:
        operation = operations[number]
        keywords = {name: bound[source] for name, source in operation["bind"].items()}
        function = functions[operation["function"]]
        return _KINDS[operation["kind"]](
            function, keywords, operation["stage"], following(number), cursor
        )

    return following(-1)


def _map(function: Any, keywords: Dict[str, Any], stage: str, emit: Emit, cursor: Cursor) -> Emit:
    if not keywords:

        def run(key: str, value: Any) -> None:
            cursor.stage = stage
            emit(key, function(value))

    else:

        def run(key: str, value: Any) -> None:
            cursor.stage = stage
            emit(key, function(value, **keywords))

    return run


def _starmap(
    function: Any, keywords: Dict[str, Any], stage: str, emit: Emit, cursor: Cursor
) -> Emit:
    def run(key: str, value: Any) -> None:
        cursor.stage = stage
        if isinstance(value, dict):
            emit(key, function(**value, **keywords))
        elif isinstance(value, (tuple, list)):
            emit(key, function(*value, **keywords))
        else:
            raise StageError(
                "starmap needs items that are tuples, lists or dicts of arguments, "
                "but this item is a %s" % type(value).__name__
            )

    return run


def _flat_map(
    function: Any, keywords: Dict[str, Any], stage: str, emit: Emit, cursor: Cursor
) -> Emit:
    def run(key: str, value: Any) -> None:
        cursor.stage = stage
        result = function(value, **keywords)
        try:
            elements = iter(result)
        except TypeError:
            raise StageError(
                "flat_map needs a function that returns an iterable, but it returned a %s"
                % type(result).__name__
            ) from None
        number = 0
        while True:
            cursor.stage = stage
            try:
                element = next(elements)
            except StopIteration:
                return
            emit("%s.%d" % (key, number), element)
            number += 1

    return run


def _filter(
    function: Any, keywords: Dict[str, Any], stage: str, emit: Emit, cursor: Cursor
) -> Emit:
    def run(key: str, value: Any) -> None:
        cursor.stage = stage
        if function(value, **keywords):
            emit(key, value)

    return run


_KINDS: Dict[str, Callable[..., Emit]] = {
    "map": _map,
    "starmap": _starmap,
    "flat_map": _flat_map,
    "filter": _filter,
}


_PLAIN = (int, float, str, bytes, bool, type(None))


def pickler() -> Callable[[Any], Pickled]:
    """Return a function that pickles any value, classes of ``__main__`` by value."""
    import cloudpickle

    def dumps(value: Any) -> Pickled:
        if type(value) in _PLAIN:
            return Pickled(pickle.dumps(value, 5))
        buffers: List[Any] = []
        payload = cloudpickle.dumps(value, 5, buffer_callback=large_buffers(buffers))
        return Pickled(payload, tuple(buffers))

    return dumps
