"""Outputs in parts: a file for each partition, so that a job reads only its own values.

Beside the parts there is a main file, which holds no values but the end of every input item. It is
written last, so it tells which items are finished, as the file of an output in one piece does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, Optional, Sequence, Tuple

from . import itemfile, keyed

if TYPE_CHECKING:
    from typing import Protocol

    class Writer(Protocol):
        """The interface of an `ItemWriter` or a `PartedWriter`, to which a sink writes."""

        @property
        def mark(self) -> Any: ...

        def value(
            self, key: str, payload: bytes, buffers: Sequence[Any] = (), files: Sequence[str] = ()
        ) -> None: ...

        def end(self, first: int, last: int) -> None: ...

        def abandon(self) -> None: ...

        def rewind(self, mark: Any) -> None: ...

        def close(self, sync: bool = False) -> int: ...

        def discard(self) -> None: ...

    class Parts(Writer, Protocol):
        """A writer that puts each value into the partition of the digest that was set before it."""

        partition: bytes


class PartedWriter:
    """Writes the item files of an output in parts; its interface is that of `itemfile.ItemWriter`.

    Parameters
    ----------
    main, parts : paths
        The files.
    total : int or None
        How many items there will be, to distribute them in order; None: by `partition`, the digest
        that is set before a value is written.
    resume : bool
        Continue at the ends of the files.
    """

    def __init__(
        self, main: str, parts: Sequence[str], total: Optional[int], *, resume: bool
    ) -> None:
        self._main = itemfile.ItemWriter(main, resume=resume, flush=True)
        self._parts = [itemfile.ItemWriter(path, resume=resume, flush=True) for path in parts]
        self._total = total
        self._pending: List[Tuple[bytes, str, bytes, Sequence[Any], Sequence[str]]] = []
        self.partition = b""

    def value(
        self, key: str, payload: bytes, buffers: Sequence[Any] = (), files: Sequence[str] = ()
    ) -> None:
        """Add a value to the current input item."""
        self._pending.append((self.partition, key, payload, buffers, files))

    def end(self, first: int, last: int) -> None:
        """End the current input item, or the range of them that was combined."""
        touched = set()
        for digest, key, payload, buffers, files in self._pending:
            if self._total is None:
                part = keyed.partition(digest, len(self._parts))
            else:
                part = min(first * len(self._parts) // self._total, len(self._parts) - 1)
            self._parts[part].value(key, payload, buffers, files)
            touched.add(part)
        self._pending = []
        for part in touched:
            self._parts[part].end(first, last)
        self._main.end(first, last)

    def abandon(self) -> None:
        """Drop the values of the current input item."""
        self._pending = []

    @property
    def mark(self) -> List[Tuple[int, int]]:
        """Where the last finished item ends; `rewind` can come back to it."""
        return [writer.mark for writer in (self._main, *self._parts)]

    def rewind(self, mark: List[Tuple[int, int]]) -> None:
        """Drop everything that was written after a mark."""
        self._pending = []
        for writer, own in zip((self._main, *self._parts), mark):
            writer.rewind(own)

    def close(self, sync: bool = False) -> int:
        """End the files and return their size in bytes."""
        self._pending = []
        return sum(writer.close(sync=sync) for writer in (*self._parts, self._main))

    def discard(self) -> None:
        """Close the files as they are, without making them whole."""
        self._pending = []
        for writer in (*self._parts, self._main):
            writer.discard()
