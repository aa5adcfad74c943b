"""Sinks: they write the values of a node's outputs singly, combined, or partitioned by key.

Whatever a sink does, only values of whole input items count: those up to the last ``end``. A
process that dies leaves files that can be cut back to these.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

from ..api.context import Cursor
from ..data import keyed, recordfile
from ..data.frames import Pickled
from ..data.snapshot import is_immutable
from ..errors import StageError
from .values import HINTS, MISSING, check_lasts, in_one_piece, truth

Dumps = Callable[[Any], Pickled]

if TYPE_CHECKING:
    from ..data.partitions import Parts, Writer
    from ..formats.task import CheckEntry
    from .bound import Bound

_PENDING = 1000  # values of one input item that are kept apart before they are folded
_MOST_UNSAVED = 20_000  # keys that are new since what was combined was saved last
_MOST_COMBINED = 24 << 20  # bytes of what was combined before it is written out


class Sink:
    """An output of single values.

    Parameters
    ----------
    writer : Writer
        Where they are written.
    dumps : callable
        Pickles a value.
    stage : str
        The stage to name in errors.
    cursor : Cursor
        Kept up to date for error reports.
    """

    keeps = False
    """Whether functions are called with values, or values kept while others are made."""

    def __init__(self, writer: Writer, dumps: Dumps, stage: str, cursor: Cursor) -> None:
        self.writer = writer
        self._dumps = dumps
        self._stage = stage
        self._cursor = cursor

    def take(self, key: str, value: Any) -> None:
        """Take a value of the current input item."""
        self._cursor.stage = self._stage
        if hasattr(type(value), "__fspath__"):
            check_lasts(value)
        self._write(key, value, "result")

    def end(self, sequence: int) -> None:
        """End the current input item: now its values count."""
        self.writer.end(sequence, sequence)

    def abandon(self) -> None:
        """Drop the current input item, which failed; write what was combined before it."""
        self.writer.abandon()

    def close(self) -> None:
        """Write what is combined."""

    def _write(self, key: str, value: Any, what: str) -> None:
        pickled = self._pickled(value, what)
        self.writer.value(key, pickled.payload, pickled.buffers, pickled.files)

    def _whole(self, value: Any, what: str) -> Pickled:
        """Return a pickle in one piece, to be stored with a key."""
        return in_one_piece(self._pickled(value, what), value)

    def _pickled(self, value: Any, what: str) -> Pickled:
        try:
            return self._dumps(value)
        except StageError:
            raise
        except Exception as error:
            from ..code import culprit  # only now

            name = type(value).__name__
            where = culprit.place(value, what, self._dumps)
            raise StageError(
                "the %s, a %s%s, cannot be pickled: %s: %s%s"
                % (what, name, where, type(error).__name__, error, HINTS.get(name, ""))
            ) from error


def _digest_of_keys() -> Callable[[Any], bytes]:
    from ..data import keyhash  # it takes time, which jobs without keys need not spend

    return keyhash.digest


class KeyedSink(Sink):
    """An output of single values with their keys, each to its partition.

    ``kind`` is ``"group_by"`` or ``"sort_by"``, ``key`` the user's function or None.
    """

    def __init__(
        self, writer: Parts, dumps: Dumps, stage: str, cursor: Cursor, kind: str, key: Any
    ) -> None:
        super().__init__(writer, dumps, stage, cursor)
        self.keeps = key is not None
        self._parts = writer
        self._sorts = kind == "sort_by"
        self._key = key
        self._digest = _digest_of_keys()

    def take(self, key: str, value: Any) -> None:
        """Take a value of the current input item."""
        self._cursor.stage = self._stage
        group_key = value if self._key is None else self._key(value)
        pickled = self._whole(value, "item")
        if self._sorts:
            digest = b""
            pickled_key = Pickled(b"") if self._key is None else self._whole(group_key, "key")
        else:
            self._parts.partition = digest = self._digest(group_key)
            pickled_key = self._whole(group_key, "key")
        payload = keyed.pack(digest, pickled_key.payload, pickled.payload)
        self.writer.value(key, payload, (), pickled_key.files + pickled.files)


class _Combining(Sink):
    """Combines values over input items, and saves the result now and then.

    The open range of items is saved in place of what was saved of it before, so that a process
    that dies loses little. The time between two of these is ten times what one takes, which bounds
    the cost. A function that raised may have changed what was combined: then this is dropped, and
    the items in it are left undone rather than miscounted.
    """

    keeps = True

    def __init__(self, writer: Writer, dumps: Dumps, stage: str, cursor: Cursor) -> None:
        super().__init__(writer, dumps, stage, cursor)
        self._range: Optional[List[int]] = None
        self._saved: Any = None  # where in the file the open range is kept
        self._save_at = 0.0

    def end(self, sequence: int) -> None:
        if self._range is not None and self._range[1] != sequence - 1:
            self._flush_range()
        opened, self._range = self._range, None
        self._cursor.stage = self._stage
        self._combine_item()
        self._range = [sequence if opened is None else opened[0], sequence]
        if time.perf_counter() >= self._save_at or self._is_full():
            self._save_range()
            if self._is_large():
                self._flush_range()

    def abandon(self) -> None:
        self._drop_item()
        self.writer.abandon()
        self._flush_range()

    def close(self) -> None:
        self._flush_range()

    def _flush_range(self) -> None:
        """Write what is combined, and start over; what was saved before a failure stays."""
        if self._range is not None:
            self._save_range()
        self._range = None
        self._saved = None
        self._drop_all()

    def _save_range(self) -> None:
        if self._range is None:
            return
        begun = time.perf_counter()
        if self._saved is None:
            self._saved = self.writer.mark
        else:
            self.writer.rewind(self._saved)
        key, self._cursor.stage = self._cursor.key, self._stage
        self._cursor.key = ""
        self._write_all()
        self._cursor.key = key
        self.writer.end(self._range[0], self._range[1])
        ended = time.perf_counter()
        self._save_at = ended + 10 * (ended - begun)

    def _is_full(self) -> bool:
        """Return whether to save without waiting any longer."""
        return False

    def _is_large(self) -> bool:
        """Return whether what is combined should be written out, to limit memory."""
        return False

    def _combine_item(self) -> None:
        """Combine the values of the input item that ends."""
        raise NotImplementedError

    def _drop_item(self) -> None:
        raise NotImplementedError

    def _drop_all(self) -> None:
        raise NotImplementedError

    def _write_all(self) -> None:
        """Write what is combined."""
        raise NotImplementedError


class ReduceSink(_Combining):
    """Values combined into one by an associative function."""

    def __init__(
        self, writer: Writer, dumps: Dumps, stage: str, cursor: Cursor, combine: Any
    ) -> None:
        super().__init__(writer, dumps, stage, cursor)
        self._combine = combine
        self._item: Any = MISSING
        self._total: Any = MISSING

    def take(self, key: str, value: Any) -> None:
        """Take a value of the current input item."""
        self._cursor.stage = self._stage
        self._item = value if self._item is MISSING else self._combine(self._item, value)

    def _combine_item(self) -> None:
        item, self._item = self._item, MISSING
        total, self._total = self._total, MISSING
        if item is not MISSING and total is not MISSING:
            self._total = self._combine(total, item)
        else:
            self._total = total if item is MISSING else item

    def _drop_item(self) -> None:
        self._item = MISSING

    def _drop_all(self) -> None:
        self._total = MISSING

    def _write_all(self) -> None:
        if self._total is not MISSING:
            self._write("0", self._total, "combined value")


class FoldSink(_Combining):
    """Values accumulated into a copy of an initial value.

    ``binop`` takes an accumulated value and an item, ``merge`` two accumulated ones.
    """

    def __init__(
        self,
        writer: Writer,
        dumps: Dumps,
        stage: str,
        cursor: Cursor,
        binop: Any,
        merge: Any,
        initial: Pickled,
    ) -> None:
        super().__init__(writer, dumps, stage, cursor)
        self._binop = binop
        self._merge = merge
        self._initial = initial
        self._values: List[Any] = []
        self._item: Any = MISSING
        self._total: Any = MISSING

    def take(self, key: str, value: Any) -> None:
        """Take a value of the current input item."""
        self._cursor.stage = self._stage
        self._values.append(value)
        if len(self._values) >= _PENDING:
            # An item that may still fail must not be in the total.
            self._item = self._folded(
                self._initial.load_copy() if self._item is MISSING else self._item
            )

    def _folded(self, total: Any) -> Any:
        values, self._values = self._values, []
        for value in values:
            total = self._binop(total, value)
        return total

    def _combine_item(self) -> None:
        item, self._item = self._item, MISSING
        total, self._total = self._total, MISSING
        if item is not MISSING:
            item = self._folded(item)
            self._total = item if total is MISSING else self._merge(total, item)
        elif self._values:
            self._total = self._folded(self._initial.load_copy() if total is MISSING else total)
        else:
            self._total = total

    def _drop_item(self) -> None:
        self._values = []
        self._item = MISSING

    def _drop_all(self) -> None:
        self._total = MISSING

    def _write_all(self) -> None:
        if self._total is not MISSING:
            self._write("0", self._total, "accumulated value")


class KeyedReduceSink(_Combining):
    """Values combined by key; those of each key go to its partition.

    ``kind`` is ``"reduce_by_key"``, or ``"distinct"``, which keeps the first value of each key.
    """

    def __init__(
        self,
        writer: Parts,
        dumps: Dumps,
        stage: str,
        cursor: Cursor,
        kind: str,
        key: Any,
        combine: Any,
    ) -> None:
        super().__init__(writer, dumps, stage, cursor)
        self._parts = writer
        self._digest = _digest_of_keys()
        self._keeps_first = kind == "distinct"
        self._key = key
        self._combine = combine
        self._item: List[Tuple[bytes, Any, Any, str]] = []
        self._totals: Dict[bytes, List[Any]] = {}  # key, value, the item's key
        self._new = 0
        self._bytes = 0
        self._average = 0.0  # bytes of what is kept for a key, when it was saved last

    def take(self, key: str, value: Any) -> None:
        """Take a value of the current input item."""
        self._cursor.stage = self._stage
        group_key = value
        if self._key is not None:
            group_key = self._key(value)
        elif not self._keeps_first:
            if not isinstance(value, (tuple, list)) or len(value) != 2:
                raise StageError(
                    "reduce_by_key without key=... needs items that are pairs (key, value), "
                    "but this item is a %s" % type(value).__name__
                )
            group_key, value = value
        if not is_immutable(group_key):
            group_key = self._pickled(group_key, "key").load_copy()
        self._item.append((self._digest(group_key), group_key, value, key))

    def _combine_item(self) -> None:
        item, self._item = self._item, []
        totals = self._totals
        complete = False
        try:
            for digest, group_key, value, key in item:
                entry = totals.get(digest)
                if entry is None:
                    totals[digest] = [group_key, value, key]
                    self._new += 1
                elif not self._keeps_first:
                    entry[1] = self._combine(entry[1], value)
            complete = True
        finally:
            if not complete:
                self._drop_all()

    def _drop_item(self) -> None:
        self._item = []

    def _drop_all(self) -> None:
        self._totals = {}
        self._new = self._bytes = 0

    def _is_full(self) -> bool:
        return self._new >= _MOST_UNSAVED or self._new * self._average > _MOST_COMBINED

    def _is_large(self) -> bool:
        return self._bytes > _MOST_COMBINED or len(self._totals) > 8 * _MOST_UNSAVED

    def _write_all(self) -> None:
        self._new = self._bytes = 0
        for digest, (group_key, value, key) in self._totals.items():
            pickled_key = Pickled(b"") if self._keeps_first else self._whole(group_key, "key")
            pickled = self._whole(value, "value")
            payload = keyed.pack(digest, pickled_key.payload, pickled.payload)
            self._bytes += len(payload)
            self._parts.partition = digest
            self.writer.value(key, payload, (), pickled_key.files + pickled.files)
        self._average = self._bytes / max(1, len(self._totals))


class CheckSink:
    """Takes the state of a loop, and notes what the user's predicate says of it in the record.

    So whether the loop is over is asked in the last job of each round.

    Parameters
    ----------
    check : dict
        Its entry in the program of the node.
    function : callable
        The predicate.
    bound : dict
        The values of bound stages by name, among them the state before the round.
    record : str
        The job's record.
    cursor : Cursor
        Kept up to date for error reports.
    """

    keeps = True

    def __init__(
        self,
        check: CheckEntry,
        function: Any,
        bound: Dict[str, Bound],
        record: str,
        cursor: Cursor,
    ) -> None:
        self._stage = check["stage"]
        self._previous = () if check["previous"] is None else (bound[check["previous"]],)
        self._function = function
        self._record = record
        self._cursor = cursor

    def take(self, key: str, value: Any) -> None:
        """Call the predicate."""
        self._cursor.stage = self._stage
        previous = [each.fresh() for each in self._previous]
        over = truth(self._function(value, *previous))
        recordfile.append(self._record, "until", over)
