"""The functions of a node, chained so that one input item flows through all of them.

A node's program is a tree of operations: each takes the values of the one before it, and several
may follow one. Values leave it at *outputs*, whose item files the worker writes.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Set, Tuple

from . import travel
from .frames import Pickled, large_buffers, plain

if TYPE_CHECKING:
    from .sinks import Sink

MISSING = object()


class StageError(Exception):
    """A mistake that htdag itself finds in what a stage's function did."""


def check_lasts(path: Any) -> None:
    """Refuse the plain path of a file that a function made where all is removed after the job."""
    if hasattr(path, "_reference"):  # it travels
        return
    where, here = os.path.realpath(path), os.path.realpath(os.curdir)
    # Input files are links that lead elsewhere.
    if where.startswith(here + os.sep) and os.path.exists(where):
        raise StageError(
            "the result is the path %r of a file in the working directory of the job, which is "
            "removed when the job ends; return htdag.OutputFile(%r), and the file comes back"
            % (os.fspath(path), os.fspath(path))
        )


class Cursor:
    """Which stage works on which key at this moment: what an error report needs to know."""

    __slots__ = ("key", "stage")

    def __init__(self) -> None:
        self.stage = ""
        self.key = ""

    def item(self, key: str) -> None:
        """Begin an item."""
        self.key = key


Emit = Callable[[str, Any], None]


def chain(
    operations: List[Dict[str, Any]],
    functions: List[Any],
    bound: Dict[str, Any],
    sinks: Dict[int, List["Sink"]],
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


def pickler(files: bool = True) -> Callable[[Any], Pickled]:
    """Return a function that pickles any value; classes and functions by name where they have one.

    Without `files` a value with the path of a file that travels is an error.
    """
    allowed = files
    from . import pickling

    class Pickler(pickling.Pickler):
        """Notes which files travel with a value, and types that were not seen before."""

        files: Tuple[str, ...] = ()
        new: Tuple[Any, ...] = ()

        def reducer_override(self, value: Any) -> Any:
            kind = type(value)
            if kind not in tried:
                self.new += (kind,)
                tried.add(kind)
            if isinstance(value, travel.FilePath):
                if value._reference is not None:
                    self.files += (value._reference,)
                return NotImplemented
            return super().reducer_override(value)

    tried: Set[Any] = set()

    def dumps(value: Any) -> Pickled:
        if type(value) in _PLAIN:
            return plain(value)
        buffers: List[Any] = []
        file = io.BytesIO()
        pickler = Pickler(file, 5, buffer_callback=large_buffers(buffers))
        try:
            pickler.dump(value)
            found = Pickled(file.getvalue(), tuple(buffers), pickler.files)
            if pickler.new:
                pickling.try_to_load(found, value)
        except BaseException:
            tried.difference_update(pickler.new)
            raise
        if pickler.files and not allowed:
            raise StageError(
                "the result holds the path of a file that came with the item, although the "
                "annotation of the function says that it returns something else; correct the "
                "annotation, or return what is in the file"
            )
        return found

    return dumps


def in_one_piece(pickled: Pickled, value: Any) -> Pickled:
    """Return a pickle that holds its buffers too."""
    if not pickled.buffers:
        return pickled
    from . import pickling

    return Pickled(pickling.dumps(value), (), pickled.files)
