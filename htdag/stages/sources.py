"""The sources of a pipeline's items: iterables, which are streamed to disk, and files."""

from __future__ import annotations

import glob
import itertools
import operator
import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from htdag.checks.validation import shown
from htdag.errors import EmptySourceError, UsageError
from htdag.functions.pickling import ItemPickler
from htdag.options.transfer import TransferPath, TransferURL, Travelling, is_url, reference_of
from htdag.runtime.data.frames import Pickled

_SAMPLE = 5
"""How many items of a list are pickled to estimate their size."""


class IterableSource:
    """The items of an iterable, read once.

    A list, tuple or range is kept, and read when needed. For any other iterable, as many items
    as needed are pickled to a temporary file.
    """

    is_late = False

    def __init__(self, iterable: Iterable[Any], stage: str) -> None:
        _refuse_containers(iterable, stage)
        try:
            self._iterator: Iterator[Any] | None = iter(iterable)
        except TypeError:
            hint = "a source takes a list, a range, a generator, ..."
            if isinstance(iterable, os.PathLike):
                hint = "htdag.files(path) makes items from files"
            raise UsageError(
                f"source {stage!r}: a {type(iterable).__name__} is not iterable; {hint}"
            ) from None
        self._stage = stage
        self._endless = _is_endless(iterable)
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
        return self.count()

    def __bool__(self) -> bool:
        return True  # without reading any item

    def count(self, most: int | None = None) -> int:
        """Return the number of items, but at most `most`; no more are read."""
        if self._sequence is not None:
            return len(self._sequence) if most is None else min(most, len(self._sequence))
        if self._endless and most is None:
            raise UsageError(
                f"source {self._stage!r}: its iterable never ends; use its first items only, "
                f"with take(n), or give itertools.islice(iterable, n)"
            )
        self._read(most)
        return len(self._ends) if most is None else min(most, len(self._ends))

    @property
    def read(self) -> tuple[int, bool]:
        """The number of items known so far, and whether these are all."""
        if self._sequence is not None:
            return len(self._sequence), True
        return len(self._ends), self._iterator is None

    def pickles(self) -> Iterator[Pickled]:
        """Yield the pickle of each item, with its buffers, in order."""
        if self._sequence is not None:
            dumps = ItemPickler(self._stage, self.classes, self.same, self.travelling)
            for number, item in enumerate(self._sequence):
                yield dumps(item, number)
            return
        start = number = 0
        while number < len(self._ends) or self._read(number + 1):
            assert self._spool is not None
            self._spool.seek(start)  # others may have read or written in the meantime
            sizes = self._buffers.get(number, [])
            end = self._ends[number]
            payload = self._spool.read(end - start - sum(sizes))
            buffers = tuple(map(self._spool.read, sizes))
            yield Pickled(payload, buffers, self._files.get(number, ()))
            start, number = end, number + 1

    def stored_bytes(self) -> int:
        """Return the approximate size of the stored items in bytes."""
        if self._sequence is None:
            self.count()
            return self._ends[-1]
        dumps = ItemPickler(self._stage, self.classes, self.same, self.travelling)
        return _about(self._sequence, dumps)

    def _read(self, most: int | None) -> bool:
        """Stream items to disk until there are this many; return whether there are."""
        if self._broken:
            raise UsageError(
                f"source {self._stage!r}: reading its iterable failed before, and it can be read "
                f"only once; make a new source"
            )
        if self._iterator is not None and (most is None or len(self._ends) < most):
            if self._spool is None:
                self._spool = tempfile.TemporaryFile(  # noqa: SIM115
                    prefix="htdag-source-", buffering=1 << 20
                )
                weakref.finalize(self, self._spool.close)
            self._broken = True
            self._stream(self._iterator, self._spool, most)
            self._broken = False
        self._check_not_empty(len(self._ends))
        return most is None or len(self._ends) >= most

    def _stream(self, iterator: Iterator[Any], spool: IO[bytes], most: int | None) -> None:
        dumps = ItemPickler(self._stage, self.classes, self.same, self.travelling)
        end = spool.seek(0, os.SEEK_END)
        number = len(self._ends)
        while most is None or number < most:
            try:
                item = next(iterator)
            except StopIteration:
                self._iterator = None
                return
            except Exception as error:
                if hasattr(error, "add_note"):  # Python 3.11
                    error.add_note(f"(from the iterable of source {self._stage!r}, item {number})")
                raise
            payload, buffers, files = dumps(item, number)
            for part in (payload, *buffers):
                end += spool.write(part)
            self._ends.append(end)
            if buffers:
                self._buffers[number] = list(map(len, buffers))
            if files:
                self._files[number] = files
            number += 1

    def _check_not_empty(self, count: int) -> None:
        if count == 0:
            raise EmptySourceError(
                f"source {self._stage!r} has no items: there is nothing to run; check what the "
                f"iterable was made from (an iterator yields its items only once)"
            )


def _is_endless(iterable: Iterable[Any]) -> bool:
    if isinstance(iterable, itertools.repeat):
        try:
            return operator.length_hint(iterable, -1) < 0
        except TypeError:
            return True
    return isinstance(iterable, itertools.count | itertools.cycle)


def _refuse_containers(iterable: Any, stage: str) -> None:
    """Raise `UsageError` for iterables whose elements are probably not the intended items."""
    kind = type(iterable).__name__
    if isinstance(iterable, str | bytes | bytearray):
        raise UsageError(
            f"source {stage!r}: a {kind} is one value, not many items; "
            f"give a list, for instance [{iterable[:20]!r}]"
        )
    elements, remedy = "", ""
    if isinstance(iterable, Mapping) and len(iterable):
        elements, remedy = "keys", "its .items(), .values() or .keys()"
    elif hasattr(iterable, "itertuples"):
        elements, remedy = "columns", 'its rows: df.to_dict("records") or df.itertuples(name=None)'
    elif hasattr(iterable, "iter_rows"):
        elements, remedy = "columns", "its rows: .iter_rows()"
    if elements:
        raise UsageError(
            f"source {stage!r}: the items of a {kind} would be its {elements} alone; give {remedy}"
        )


class FileSource:
    """Local files and directories, and URLs; each is an item that travels with its job."""

    is_late = False

    def __init__(self, pattern_or_paths: Any, stage: str) -> None:
        self._stage = stage
        self.classes: set[Any] = set()
        self.same: dict[bytes, bytes] = {}
        self.travelling = Travelling()
        if isinstance(pattern_or_paths, str | bytes | os.PathLike | TransferURL):
            paths = [pattern_or_paths]
            if not is_url(pattern_or_paths) and not isinstance(pattern_or_paths, TransferURL):
                paths = list(_matching(pattern_or_paths, stage))
        else:
            try:
                paths = list(pattern_or_paths)
            except TypeError:
                raise UsageError(
                    f"files {stage!r}: give a pattern such as 'books/*.txt', or a list of paths; "
                    f"got {type(pattern_or_paths).__name__}"
                ) from None
            if not paths:
                raise EmptySourceError(f"files {stage!r}: the list of paths is empty")
        self.items = [_file_item(each, stage) for each in paths]
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

    def count(self, most: int | None = None) -> int:
        """Return the number of items, but at most `most`."""
        return len(self.items) if most is None else min(most, len(self.items))

    @property
    def read(self) -> tuple[int, bool]:
        """The number of items known so far, and whether these are all."""
        return len(self.items), True

    def pickles(self) -> Iterator[Pickled]:
        """Yield the pickle of each item in order."""
        dumps = ItemPickler(self._stage, self.classes, self.same, self.travelling)
        for number, item in enumerate(self.items):
            yield dumps(item, number)

    def stored_bytes(self) -> int:
        """Return the approximate size of the stored items in bytes, without their files."""
        dumps = ItemPickler(self._stage, self.classes, self.same, self.travelling)
        return _about(self.items, dumps)


def _about(items: Sequence[Any], dumps: ItemPickler) -> int:
    """Return the approximate size of the pickles of items in bytes, from a sample."""
    numbers = {position * (len(items) - 1) // (_SAMPLE - 1) for position in range(_SAMPLE)}
    sizes = []
    for number in sorted(numbers):
        pickled = dumps(items[number], number)
        sizes.append(len(pickled.payload) + sum(map(len, pickled.buffers)))
    return len(items) * sum(sizes) // len(sizes)


def _matching(pattern_or_path: Any, stage: str) -> list[str]:
    pattern = os.path.expanduser(os.fsdecode(pattern_or_path))
    if os.path.lexists(pattern):
        return [pattern]
    paths = sorted(glob.glob(pattern, recursive=True))
    if not paths:
        raise EmptySourceError(
            f"files {stage!r}: nothing matches {pattern!r} (looked from {os.getcwd()!r})"
        )
    return paths


def _file_item(value: Any, stage: str) -> TransferPath | TransferURL:
    if isinstance(value, TransferURL):
        return value
    if is_url(value):
        return TransferURL(value)
    try:
        return TransferPath(os.path.abspath(os.path.expanduser(os.fsdecode(value))))
    except TypeError:
        raise UsageError(
            f"files {stage!r}: a {type(value).__name__} is neither a path nor a URL: {shown(value)}"
        ) from None


class LateSource:
    """The input of a round of a loop, which is known when the round is made.

    Parameters
    ----------
    items : int
        The number of items, or an estimate.
    chunks : int
        The number of their files, or an estimate.
    blocks : list of int, optional
        The number of items in each file, if known beforehand.
    """

    is_late = True

    def __init__(self, items: int = 1, chunks: int = 1, blocks: list[int] | None = None):
        self.items = items
        self.chunks = chunks
        self.blocks = blocks
        self.classes: set[type] = set()
        self.same: dict[bytes, bytes] = {}
        self.travelling = Travelling()

    def __len__(self) -> int:
        return self.items

    def count(self, most: int | None = None) -> int:
        """Return the number of items, or an estimate, but at most `most`."""
        return self.items if most is None else min(most, self.items)

    @property
    def read(self) -> tuple[int, bool]:
        """The number of items known so far, and whether these are all."""
        return self.items, True


SourceItems = IterableSource | FileSource | LateSource
