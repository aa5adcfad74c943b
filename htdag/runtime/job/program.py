"""The functions of a node, chained so that one input item flows through all of them.

A node's program is a tree of operations: each takes the values of the one before it, and several
may follow one. Values leave it at *outputs*, whose item files the worker writes.
"""

from __future__ import annotations

import io
import sys
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from ..api.context import Cursor
from ..data.frames import CONTAINERS, PLAIN, Pickled, large_buffers, plain, plain_container
from ..data.snapshot import ATOM, KINDS, CannotCopy, Owner, is_immutable
from ..errors import StageError
from ..files import file_references
from .bound import Bound
from .values import HINTS, truth

if TYPE_CHECKING:
    from ..formats.task import OperationEntry
    from .sinks import Sink


CALLS_FUNCTIONS = True  # of the user's, which says whose an error is
Emit = Callable[[str, Any], None]
Load = Callable[[], Any]

_OPERATIONS = ("map", "filter", "starmap", "flat_map")


class _Step:
    """An operation, and what takes its values.

    Attributes
    ----------
    bound : callable or None
        Returns the keywords of bound values for one call.
    sinks, takers : list
        The outputs that do no more than pickle a value, and those that call functions with it or
        keep it.
    after : list of _Step
        The operations that follow.
    only, last : _Step or callable or None
        The operation, or the output, that alone takes its values.
    """

    __slots__ = (
        *("after", "bound", "function", "kind", "last", "name"),
        *("only", "sinks", "stage", "takers"),
    )

    def __init__(self, kind: str, stage: str, function: Any = None, bound: Any = None) -> None:
        self.kind = kind
        self.stage = stage
        self.name = stage.encode()
        self.function = function
        self.bound = bound
        self.after: List[_Step] = []
        self.settle([])

    def settle(self, sinks: Sequence[Sink]) -> None:
        """Note what takes the values, once all of it is known."""
        self.sinks = [sink.take for sink in sinks if not sink.keeps]
        self.takers = [sink.take for sink in sinks if sink.keeps]
        self.only = self.after[0] if len(self.after) == 1 and not sinks else None
        self.last = self.sinks[0] if len(self.sinks) == 1 == len(sinks) + len(self.after) else None


class _Elements:
    """The result of a function of `flat_map`, to be iterated over."""

    __slots__ = ("elements", "key", "number", "step", "works")

    def __init__(self, step: _Step, key: str, held: List[Any], own: Callable[[Any], Any]) -> None:
        self.step = step
        self.key = key
        self.number = 0
        self.works = type(held[0]) not in (list, tuple)  # whether the user's code makes them
        self.elements = _elements(held, own)


def chain(  # noqa: C901  (with the loop in it)
    operations: List[OperationEntry],
    functions: List[Any],
    bound: Dict[str, Any],
    sinks: Dict[int, List[Sink]],
    cursor: Cursor,
) -> Emit:
    """Return the function that passes a key and a value through all operations of a node.

    Each consumer has a value to itself, as if alone in a job: see ``snapshot.py``. There is no
    recursion, however many operations there are.

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
    steps = [
        _Step(
            _known(operation["kind"]),
            operation["stage"],
            functions[operation["function"]],
            keywords_of(operation["bind"], bound),
        )
        for operation in operations
    ]
    start = _Step("", "")
    for operation, step in zip(operations, steps):
        (start if operation["after"] < 0 else steps[operation["after"]]).after.append(step)
    for number, step in enumerate([start, *steps], -1):
        step.settle(sinks.get(number, []))
    owner = Owner(pickler(), _refuse_lazy)
    own, kinds, atom = owner.own, KINDS, ATOM
    enter = cursor.enter if len({step.stage for step in steps}) > 1 else None

    def emit(key: str, value: Any) -> None:  # noqa: C901  (the one loop that all items go through)
        waiting: List[Any] = []
        step = announced = start
        made = True  # whether `value` is one that `step` has made
        while True:
            following: Optional[_Step] = None
            if made:
                following = step.only
                if following is not None:
                    if kinds.get(type(value)) != atom and step is not start:
                        value = own(value)
                elif step.last is not None:
                    step.last(key, value)
                else:
                    held = [value]
                    value = None  # who counts references is to find none of ours
                    spread(step, key, held, waiting)
            while following is None:
                if not waiting:
                    return
                value = None
                top = waiting[-1]
                if type(top) is _Elements:
                    step = top.step
                    if top.works:
                        cursor.stage = step.stage
                        if enter is not None and announced is not step:
                            announced = step
                            enter(step.name)
                    try:
                        value = next(top.elements)
                    except StopIteration:
                        waiting.pop()
                        continue
                    key = "%s.%d" % (top.key, top.number)
                    top.number += 1
                    break
                following, key, load = waiting.pop()
                value = load()
            top = load = None
            made = True
            if following is None:
                continue
            step = following
            cursor.stage = step.stage
            if enter is not None and announced is not step:
                announced = step
                enter(step.name)
            function, bound = step.function, step.bound
            kind = step.kind
            if kind == "map":
                value = function(value) if bound is None else function(value, **bound())
            elif kind == "filter":
                made = function(value) if bound is None else function(value, **bound())
                if made is not True:
                    made = truth(made)
            elif kind == "starmap":
                value = _spread_arguments(function, value, {} if bound is None else bound())
            elif kind == "flat_map":
                held = [function(value) if bound is None else function(value, **bound())]
                waiting.append(_Elements(step, key, held, own))
                made = False

    def spread(step: _Step, key: str, held: List[Any], waiting: List[Any]) -> None:
        """Give a value to all that take it; operations are queued."""
        value = held.pop()
        for take in step.sinks:
            take(key, value)
        others = len(step.takers) + len(step.after)
        if not others:
            return
        copy: Optional[Load] = None
        if not is_immutable(value):
            value = own(value)
            if others > 1:
                # The last one gets the value itself, when the others have their copies.
                try:
                    copy = owner.source(value)
                except CannotCopy as error:
                    raise StageError(
                        "the result, a %s, goes to several stages, each of which is to have it "
                        "for itself, and it cannot be copied: %s" % (type(value).__name__, error)
                    ) from error
        itself = _constant(value)
        value = None
        loads = [copy or itself] * (others - 1) + [itself]
        for take in step.takers:
            take(key, loads.pop(0)())
        for following in reversed(step.after):
            waiting.append((following, key, loads.pop()))

    return emit


def _known(kind: str) -> str:
    """Return the kind of an operation, as the one object that is compared fastest."""
    if kind not in _OPERATIONS:
        raise ValueError("a job cannot do an operation of kind %r" % kind)
    return sys.intern(kind)


def keywords_of(binds: Dict[str, str], bound: Dict[str, Any]) -> Optional[Load]:
    """Return a function that makes the bound values of one call; None if there are none."""
    if not binds:
        return None
    makers = {name: bound[source] for name, source in binds.items()}

    def keywords() -> Dict[str, Any]:
        return {
            name: value.fresh() if isinstance(value, Bound) else value
            for name, value in makers.items()
        }

    return keywords


def _constant(value: Any) -> Load:
    return lambda: value


def _spread_arguments(function: Any, value: Any, keywords: Dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return function(**value, **keywords)
    if isinstance(value, (tuple, list)):
        return function(*value, **keywords)
    raise StageError(
        "starmap needs items that are tuples, lists or dicts of arguments, "
        "but this item is a %s" % type(value).__name__
    )


def _elements(held: List[Any], own: Callable[[Any], Any]) -> Iterator[Any]:
    """Return an iterator over the elements of a result that keeps none of them."""
    result = held.pop()
    if type(result) in (list, tuple) and not all(
        KINDS.get(cls) == ATOM for cls in set(map(type, result))
    ):
        result = own(result)
        rest = list(result)
        result = None
        rest.reverse()
        return _popped(rest)
    try:
        return iter(result)
    except TypeError:
        raise StageError(
            "flat_map needs a function that returns an iterable, but it returned a %s"
            % type(result).__name__
        ) from None


def _popped(rest: List[Any]) -> Iterator[Any]:
    while rest:
        yield rest.pop()


def _refuse_lazy(value: Any, error: Exception) -> None:
    """Refuse a lazy value that could not be pickled for a stage in another job."""
    name = type(value).__name__
    if name in ("generator", "coroutine", "async_generator"):
        raise StageError(
            "the result, a %s, cannot be pickled%s" % (name, HINTS.get(name, ""))
        ) from error


def pickler(files: bool = True) -> Callable[[Any], Pickled]:
    """Return a function that pickles any value, classes and functions by name if they have one.

    Without `files` a value with the path of a file that travels is an error.
    """
    of_any_kind: Optional[Callable[[Any], Pickled]] = None

    def dumps(value: Any) -> Pickled:
        nonlocal of_any_kind
        kind = type(value)
        if kind in PLAIN:
            return plain(value)
        if of_any_kind is None:
            if kind in CONTAINERS:
                of_container = plain_container(value)
                if of_container is not None:
                    return of_container
            of_any_kind = _pickler_of_any_kind(files)
        return of_any_kind(value)

    return dumps


def _pickler_of_any_kind(files: bool) -> Callable[[Any], Pickled]:
    allowed = files
    from ..code import pickling  # it takes time, which jobs of plain values need not spend

    class Pickler(pickling.Pickler):
        """A pickler that notes which files travel with a value, and types that are new to it."""

        files: Tuple[str, ...] = ()
        new: Tuple[Any, ...] = ()

        def reducer_override(self, value: Any) -> Any:
            kind = type(value)
            if kind not in tried:
                self.new += (kind,)
                tried.add(kind)
            if isinstance(value, file_references.PATHS):
                if value._reference is not None:
                    self.files += (value._reference,)
                return NotImplemented
            return super().reducer_override(value)

    tried: Set[Any] = set()

    def once(value: Any) -> Pickled:
        buffers: List[Any] = []
        file = io.BytesIO()
        pickler = Pickler(file, 5, buffer_callback=large_buffers(buffers))
        try:
            pickler.dump(value)
            stored = Pickled(file.getvalue(), tuple(buffers), pickler.files)
            if pickler.new:
                pickling.try_to_load(stored, value)
        except BaseException:
            tried.difference_update(pickler.new)
            raise
        return stored

    def dumps(value: Any) -> Pickled:
        stored: Pickled = pickling.with_room(once, value)
        if stored.files and not allowed:
            raise StageError(
                "the result holds the path of a file that came with the item, although the "
                "annotation of the function says that it returns something else; correct the "
                "annotation, or return what is in the file"
            )
        return stored

    return dumps
