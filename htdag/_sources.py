"""Where the items of a pipeline come from: iterables, streamed to disk, and files."""

from __future__ import annotations

import glob
import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from htdag._paths import TransferPath, TransferURL, Travelling, is_url, reference_of
from htdag._pickling import ItemPickler
from htdag.errors import EmptySourceError, UsageError
from htdag.runtime.frames import Pickled

_SAMPLE = 5
"""How many items of a list are pickled to learn about how large they are."""


class IterableSource:
    """The items of an iterable, read once.

    A list or tuple is kept and read when it is needed; anything else is streamed to a temporary
    file, pickled, the first time that its number of items is asked for.
    """

    is_late = False

    def __init__(self, iterable: Iterable[Any], stage: str) -> None:
        if isinstance(iterable, str | bytes):
            raise UsageError(
                f"source {stage!r}: a {type(iterable).__name__} is one value, not many items; "
                f"give a list, for instance [{iterable[:20]!r}]"
            )
        try:
            self._iterator: Iterator[Any] | None = iter(iterable)
        except TypeError:
            raise UsageError(
                f"source {stage!r}: a {type(iterable).__name__} is not iterable; "
                f"a source takes a list, a range, a generator, ..."
            ) from None
        self._stage = stage
        self._sequence: Sequence[Any] | None = None
        self._spool: IO[bytes] | None = None
        self._ends = array("Q")
        self._buffers: dict[int, list[int]] = {}  # the sizes of the buffers of items with any
        self._files: dict[int, tuple[str, ...]] = {}
        self._broken = False
        self.classes: set[Any] = set()
        self.same: dict[bytes, bytes] = {}
        self.travelling = Travelling()
        if isinstance(iterable, list | tuple | range):
            self._sequence = iterable
            self._iterator = None
            self._check_not_empty(len(iterable))

    def __len__(self) -> int:
        if self._sequence is not None:
            return len(self._sequence)
        self._drain()
        return len(self._ends)

    def pickles(self) -> Iterator[Pickled]:
        """Yield the pickle of each item, with its buffers, in order."""
        if self._sequence is not None:
            dumps = ItemPickler(self._stage, self.classes, self.same, self.travelling)
            for number, item in enumerate(self._sequence):
                yield dumps(item, number)
            return
        self._drain()
        assert self._spool is not None
        self._spool.seek(0)
        start = 0
        for number, end in enumerate(self._ends):
            sizes = self._buffers.get(number, [])
            payload = self._spool.read(end - start - sum(sizes))
            buffers = tuple(map(self._spool.read, sizes))
            yield Pickled(payload, buffers, self._files.get(number, ()))
            start = end

    def stored_bytes(self) -> int:
        """Return about how many bytes the items take when they are stored."""
        if self._sequence is None:
            self._drain()
            return self._ends[-1]
        dumps = ItemPickler(self._stage, self.classes, self.same, self.travelling)
        return _about(self._sequence, dumps)

    def _drain(self) -> None:
        if self._broken:
            raise UsageError(
                f"source {self._stage!r}: reading its iterable failed before, and it can be read "
                f"only once; make the source anew"
            )
        if self._iterator is not None:
            iterator, self._iterator = self._iterator, None
            self._broken = True
            self._spool = self._spooled(iterator)
            self._broken = False
        self._check_not_empty(len(self._ends))

    def _spooled(self, iterator: Iterator[Any]) -> IO[bytes]:
        dumps = ItemPickler(self._stage, self.classes, self.same, self.travelling)
        spool = tempfile.TemporaryFile(prefix="htdag-source-", buffering=1 << 20)  # noqa: SIM115
        weakref.finalize(self, spool.close)
        end = 0
        try:
            for number, item in enumerate(iterator):
                payload, buffers, files = dumps(item, number)
                for part in (payload, *buffers):
                    end += spool.write(part)
                self._ends.append(end)
                if buffers:
                    self._buffers[number] = list(map(len, buffers))
                if files:
                    self._files[number] = files
        except BaseException:
            spool.close()
            raise
        return spool

    def _check_not_empty(self, count: int) -> None:
        if count == 0:
            raise EmptySourceError(
                f"source {self._stage!r} has no items: there is nothing to run; "
                f"check what the iterable was made from"
            )


class FileSource:
    """Local files and directories, and URLs, each an item that travels with its job."""

    is_late = False

    def __init__(self, pattern_or_paths: Any, stage: str) -> None:
        self._stage = stage
        self.classes: set[Any] = set()
        self.same: dict[bytes, bytes] = {}
        self.travelling = Travelling()
        if isinstance(pattern_or_paths, str | bytes | os.PathLike | TransferURL):
            given = [pattern_or_paths]
            if not is_url(pattern_or_paths) and not isinstance(pattern_or_paths, TransferURL):
                given = list(_matching(pattern_or_paths, stage))
        else:
            try:
                given = list(pattern_or_paths)
            except TypeError:
                raise UsageError(
                    f"files {stage!r}: give a pattern such as 'books/*.txt', or a list of paths; "
                    f"got {type(pattern_or_paths).__name__}"
                ) from None
            if not given:
                raise EmptySourceError(f"files {stage!r}: the list of paths is empty")
        self.items = [_file_item(each, stage) for each in given]
        self._check()

    def _check(self) -> None:
        problems = []
        for item in self.items:
            try:
                reference_of(item)
            except UsageError as error:
                problems.append(str(error))
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise UsageError(f"files {self._stage!r}: {problems[0]}{more}")

    def __len__(self) -> int:
        return len(self.items)

    def pickles(self) -> Iterator[Pickled]:
        """Yield the pickle of each item in order."""
        dumps = ItemPickler(self._stage, self.classes, self.same, self.travelling)
        for number, item in enumerate(self.items):
            yield dumps(item, number)

    def stored_bytes(self) -> int:
        """Return about how many bytes the items take when they are stored: not their files."""
        dumps = ItemPickler(self._stage, self.classes, self.same, self.travelling)
        return _about(self.items, dumps)


def _about(items: Sequence[Any], dumps: ItemPickler) -> int:
    """Return about how many bytes the pickles of items take, by those of a few of them."""
    numbers = {position * (len(items) - 1) // (_SAMPLE - 1) for position in range(_SAMPLE)}
    sizes = []
    for number in sorted(numbers):
        found = dumps(items[number], number)
        sizes.append(len(found.payload) + sum(map(len, found.buffers)))
    return len(items) * sum(sizes) // len(sizes)


def _matching(pattern_or_path: Any, stage: str) -> list[str]:
    pattern = os.path.expanduser(os.fsdecode(pattern_or_path))
    if os.path.lexists(pattern):
        return [pattern]
    found = sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise EmptySourceError(
            f"files {stage!r}: nothing matches {pattern!r} (looked from {os.getcwd()!r})"
        )
    return found


def _file_item(value: Any, stage: str) -> TransferPath | TransferURL:
    if isinstance(value, TransferURL):
        return value
    if is_url(value):
        return TransferURL(value)
    try:
        return TransferPath(os.path.abspath(os.path.expanduser(os.fsdecode(value))))
    except TypeError:
        raise UsageError(
            f"files {stage!r}: a {type(value).__name__} is neither a path nor a URL: {value!r}"
        ) from None


class LateSource:
    """What a round of a loop begins with: known when the round is made.

    Parameters
    ----------
    items : int
        How many items there are, or an estimate.
    chunks : int
        In how many files they come, or an estimate.
    cells : list of int, optional
        How many items each of the files holds, where that is known before.
    """

    is_late = True

    def __init__(self, items: int = 1, chunks: int = 1, cells: list[int] | None = None):
        self.items = items
        self.chunks = chunks
        self.cells = cells
        self.classes: set[type] = set()
        self.same: dict[bytes, bytes] = {}
        self.travelling = Travelling()

    def __len__(self) -> int:
        return self.items


Source = IterableSource | FileSource | LateSource
