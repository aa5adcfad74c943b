"""Reducers of objects that plain pickle refuses or changes.

A lock, a logger or a file that is open for reading is made again where it arrives. What belongs to
one process is refused, with advice. The classes of these objects are listed in ``odd.py``.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import io
import operator
import os
import pickle
import sys
import types
import typing
from _weakref import ref
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, TypeVar

from . import static

if TYPE_CHECKING:
    pass


Reducer = Callable[[Any], Any]

Thing = TypeVar("Thing")


def refusal(way_out: str) -> Reducer:
    """Return a reducer that refuses objects of a class, and says what to do instead."""

    def refuse(value: Any) -> Any:
        kind = type(value)
        module = static.module_name(kind).lstrip("_")
        name = kind.__qualname__ if module == "builtins" else "%s.%s" % (module, kind.__qualname__)
        raise pickle.PicklingError("a %s stays in the process that made it; %s" % (name, way_out))

    return refuse


def known(thing: Thing) -> Thing:
    """Make pickles refer to something as ``htdag._reducers.NAME``, which exists in jobs, too."""
    named: Any = thing
    named.__module__, named.__qualname__ = "htdag", "_reducers." + named.__name__
    return thing


# Locks and the like: new ones, that nobody holds


def of_lock(value: Any) -> Any:
    import threading

    return threading.Lock, ()


def of_reentrant_lock(value: Any) -> Any:
    import threading

    return threading.RLock, ()


def of_local(value: Any) -> Any:
    return new_object, (type(value),), dict(value.__dict__)


@known
def new_object(kind: Any) -> Any:
    """Return an object of a class, on which ``__init__`` was not called."""
    return kind.__new__(kind)


def of_simple_queue(value: Any) -> Any:
    if not value.empty():
        raise pickle.PicklingError("the content of a SimpleQueue cannot be read; use a queue.Queue")
    return type(value), ()


def of_system_random(value: Any) -> Any:
    return type(value), ()


# Objects with a `__getattr__`, which pickle asks for what it looks for, before there is any state


def of_catch_all(value: Any) -> Any:
    state = dict(static.attributes(value))
    return new_object, (type(value),), state, None, None, set_attributes


@known
def set_attributes(made: Any, attributes: Dict[str, Any]) -> None:
    """Set the attributes of an object, bypassing its class."""
    for name, value in attributes.items():
        object.__setattr__(made, name, value)


# Weak references: the objects are there as long as the references to them


@known
class Reference(ref):  # type: ignore[type-arg]
    """A weak reference that keeps its object alive.

    In its first process something else did so, which may not be in the pickle.
    """

    __slots__ = ("kept",)

    def __new__(cls, *kept: Any) -> Any:
        """Return a reference to an object, or to one that is gone."""
        return super().__new__(cls, *(kept or (_Gone(),)))

    def __init__(self, *kept: Any) -> None:
        """Keep the object."""
        super().__init__(*(kept or (_Gone(),)))
        self.kept = kept


class _Gone:
    __slots__ = ("__weakref__",)


def of_reference(value: Any) -> Any:
    referent = ref.__call__(value)
    return Reference, () if referent is None else (referent,)


def of_weak_method(value: Any) -> Any:
    return type(value), (value(),)


def of_weak_dict(value: Any) -> Any:
    return type(value), (), None, None, iter(list(value.items()))


# Logging


def of_logger(value: Any) -> Any:
    """Return a logger by its name, with the level that was set for it; handlers do not travel."""
    logging: Any = sys.modules["logging"]
    if isinstance(value, logging.RootLogger):
        return logging.getLogger, ()
    if value.manager.loggerDict.get(value.name) is not value:
        return type(value), (value.name, value.level)
    if value.level == logging.NOTSET:
        return logging.getLogger, (value.name,)
    return logging.getLogger, (value.name,), value.level, None, None, logging.Logger.setLevel


# Files that are open for reading: opened again, and read on from where they were


def of_standard_stream(value: Any) -> Any:
    for name in ("stdout", "stderr", "stdin"):
        stream = getattr(sys, name)
        if value is stream or value is getattr(sys, "__%s__" % name):
            return getattr, (sys, name)
        if value is getattr(stream, "buffer", None):
            return getattr, (stream, "buffer")
    return NotImplemented


def _file(reading: Reducer) -> Reducer:
    """Return the reducer of files of a kind, given that of files open for reading."""

    def reduce(value: Any) -> Any:
        made = of_standard_stream(value)
        if made is not NotImplemented:
            return made
        if value.closed:
            return closed_file, (type(value),)
        if not value.readable() or value.writable():
            raise pickle.PicklingError(
                "the file %r is open for writing; open it inside of the function, or return what "
                "is to be in it" % _name(value)
            )
        return reading(value)

    return reduce


@_file
def of_text_file(value: Any) -> Any:
    _path(value)
    try:
        position = value.tell()
    except OSError as error:
        raise pickle.PicklingError(
            "the file %r is open, and its lines are being read (%s); %s"
            % (_name(value), error, _IN)
        ) from None
    return text_file, (value.buffer, value.encoding, value.errors, _newline(value), position)


@_file
def of_binary_file(value: Any) -> Any:
    kind = type(value)
    if kind is io.FileIO:
        return binary_file, (_path(value), value.tell(), 0)
    raw = value.raw
    if type(raw) is not io.FileIO:
        raise pickle.PicklingError("%r reads from a %s; %s" % (value, type(raw).__name__, _IN))
    return binary_file, (_path(value), value.tell(), -1)


@_file
def of_compressed_file(value: Any) -> Any:
    inner = getattr(value, "fileobj", None) or getattr(value, "_fp", None)
    kind = type(value)
    return compressed_file, (kind.__module__, kind.__name__, _path(inner), value.tell())


_IN = "open it inside of the function"


def _name(file: Any) -> Any:
    return getattr(file, "name", None) or "without a name"


def _path(file: Any) -> str:
    """Return the path of an open file, even if it was opened in another working directory."""
    number = file.fileno()
    path = str(_name(file)) if isinstance(_name(file), (str, os.PathLike)) else ""
    with contextlib.suppress(OSError):
        path = os.readlink("/proc/self/fd/%d" % number)
    path = os.path.abspath(path) if path else ""
    if not os.path.isfile(path) or not os.path.samestat(os.stat(path), os.fstat(number)):
        raise pickle.PicklingError(
            "%r is not a file that can be opened again; %s" % (_name(file), _IN)
        )
    return path


def _newline(file: Any) -> Optional[str]:
    """Return how a text file that is being read ends its lines, which it does not reveal."""
    buffer, position = file.buffer, file.tell()
    try:
        file.seek(0)
        lines = _lines_with_return(file)
        if lines is None:
            return None
        for newline in (None, "", "\n", "\r\n", "\r"):
            buffer.seek(0)
            again = io.TextIOWrapper(buffer, file.encoding, file.errors, newline)
            try:
                if [again.readline(_SAMPLE) for _ in lines] == lines:
                    return newline
            finally:
                again.detach()
    except UnicodeDecodeError:
        pass  # reading it will tell
    finally:
        file.seek(position)
    return None


def _lines_with_return(file: Any) -> Any:
    """Return the lines of a file up to the first that does not end in a line feed, or None."""
    lines = []
    size = 0
    while size < 256 * _SAMPLE:
        lines.append(file.readline(_SAMPLE))
        size += len(lines[-1])
        if "\r" in lines[-1] or file.newlines not in (None, "\n"):
            return lines
        if not lines[-1]:
            break
    return None


_SAMPLE = 4096


@known
def binary_file(path: str, position: int, buffering: int) -> Any:
    """Return a file that is open for reading at a position."""
    try:
        file = open(path, "rb", buffering)
    except OSError as error:
        raise type(error)(
            error.errno,
            "%s on %s; it was open where the script ran. Open it inside of the function, and give "
            "the stage the option input_files" % (error.strerror, os.uname().nodename),
            path,
        ) from None
    file.seek(position)
    return file


@known
def text_file(
    buffer: Any, encoding: str, errors: str, newline: Optional[str], position: int
) -> Any:
    """Return a text file over one of bytes, at a position."""
    file: Any = io.TextIOWrapper(buffer, encoding, errors, newline)
    file.mode = "r"
    file.seek(position)
    return file


@known
def compressed_file(module: str, kind: str, path: str, position: int) -> Any:
    """Return a compressed file that is open for reading at a position."""
    file = getattr(importlib.import_module(module), kind)(path, "rb")
    file.seek(position)
    return file


@known
def closed_file(kind: Any) -> Any:
    """Return a file that is closed."""
    file: Any = io.BytesIO()
    if kind is io.TextIOWrapper:
        file = io.TextIOWrapper(file)
    elif kind is not io.FileIO:
        file = io.BufferedReader(file)
    file.close()
    return file


# Values of Python's own


def of_mapping_proxy(value: Any) -> Any:
    inner = gc.get_referents(value)  # the very dict, which may be changed elsewhere
    return types.MappingProxyType, (inner[0],)


def of_memory_view(value: Any) -> Any:
    data = value.tobytes()
    return memory_view, (data if value.readonly else bytearray(data), value.format, value.shape)


@known
def memory_view(data: Any, format: str, shape: Any) -> Any:
    """Return a view of bytes as elements of a format."""
    view: Any = memoryview(data)
    return view if format == "B" and len(shape) == 1 else view.cast("B").cast(format, shape)


def of_comparison(value: Any) -> Any:
    """Reduce a key of `functools.cmp_to_key`, or an object that it made."""
    compare = next(each for each in gc.get_referents(value) if each is not type(value))
    if hasattr(value, "obj"):
        return compared, (compare, value.obj)
    return functools.cmp_to_key, (compare,)


@known
def compared(compare: Any, value: Any) -> Any:
    """Return an object of `functools.cmp_to_key` that a function compares."""
    return functools.cmp_to_key(compare)(value)


def of_match(value: Any) -> Any:
    start = value.start()
    for way, position in (("search", value.pos), ("match", value.pos), ("fullmatch", value.pos)):
        again = getattr(value.re, way)(value.string, position, value.endpos)
        if again is not None and again.regs == value.regs:
            return getattr(value.re, way), (value.string, position, value.endpos)
    for way in ("match", "fullmatch"):  # one of finditer
        again = getattr(value.re, way)(value.string, start, value.endpos)
        if again is not None and again.regs == value.regs:
            return getattr(value.re, way), (value.string, start, value.endpos)
    raise pickle.PicklingError("this re.Match cannot be made again; take its groups")


def of_context_variable(value: Any) -> Any:
    import contextvars

    default = []
    with contextlib.suppress(LookupError):
        default = [contextvars.Context().run(value.get)]
    now = []
    with contextlib.suppress(LookupError):
        now = [value.get()]
    return context_variable, (value.name, default), now, None, None, set_context_variable


@known
def context_variable(name: str, default: Any) -> Any:
    """Return a context variable, with its default if it has one."""
    import contextvars

    return contextvars.ContextVar(name, **({"default": default[0]} if default else {}))


@known
def set_context_variable(variable: Any, values: Any) -> None:
    """Give a context variable the value that it had."""
    for value in values:
        variable.set(value)


def of_iterator(value: Any) -> Any:
    """Reduce an iterator of itertools as Python does; it warns of that from 3.12 on, until 3.13."""
    if "__reduce__" in static.members(type(value)):
        with contextlib.suppress(DeprecationWarning):  # where warnings are errors
            return value.__reduce__()
    raise pickle.PicklingError(
        "a %s of itertools cannot be copied; use a list of its elements, or make it inside of the "
        "function" % type(value).__qualname__
    )


def of_environment(value: Any) -> Any:
    for name in ("environ", "environb"):
        if value is getattr(os, name, None):
            return getattr, (os, name)
    return NotImplemented


def of_directory_entry(value: Any) -> Any:
    raise pickle.PicklingError("an os.DirEntry belongs to the scan of a folder; use its .path")


# Types for annotations: by value where no module has them under their name


def _is_found(value: Any) -> bool:
    """Return whether something has its name in a module that jobs can import."""
    import cloudpickle

    name, module = getattr(value, "__qualname__", value.__name__), value.__module__
    if module == "__main__" or module in cloudpickle.list_registry_pickle_by_value():
        return False
    loaded = sys.modules.get(module)
    return loaded is not None and static.namespace(loaded).get(name) is value


def of_new_type(value: Any) -> Any:
    if _is_found(value):
        return NotImplemented
    return new_type, (value.__name__, value.__module__), value.__supertype__, None, None, set_super


@known
def new_type(name: str, module: str) -> Any:
    """Return a `NewType` whose supertype is not set yet."""
    make: Any = typing.NewType
    made = make(name, object)
    made.__module__ = module
    return made


@known
def set_super(made: Any, supertype: Any) -> None:
    """Set the supertype of a `NewType`."""
    made.__supertype__ = supertype


def of_parameter(value: Any) -> Any:
    if _is_found(value):
        return value.__name__
    from cloudpickle import cloudpickle

    options = {
        name: getattr(value, "__%s__" % name)
        for name in ("bound", "covariant", "contravariant", "infer_variance")
        if getattr(value, "__%s__" % name, None)
    }
    if getattr(value, "has_default", bool)():
        options["default"] = value.__default__
    tracker = cloudpickle._get_or_create_tracker_id(value)
    constraints = getattr(value, "__constraints__", ())
    named = value.__name__, value.__module__
    return parameter, (type(value), *named, constraints, options, tracker)


@known
def parameter(
    kind: Any, name: str, module: str, constraints: Any, options: Dict[str, Any], tracker: str
) -> Any:
    """Return a parameter of generic types: the same object each time."""
    from cloudpickle import cloudpickle

    made = kind(name, *constraints, **options)
    made.__module__ = module
    return cloudpickle._lookup_class_or_track(tracker, made)


def of_alias(value: Any) -> Any:
    if _is_found(value):
        return NotImplemented
    return alias, (value.__name__, value.__value__, value.__type_params__)


@known
def alias(name: str, value: Any, parameters: Any) -> Any:
    """Return a type alias (Python 3.12)."""
    kind: Any = typing.TypeAliasType  # type: ignore[attr-defined]
    return kind(name, value, type_params=parameters)


# Exceptions: without a call of __init__, whose arguments they do not know


def of_exception(value: Any) -> Any:
    kind = type(value)
    heap_bases = [base for base in static.bases(kind) if base.__flags__ & static.HEAP_TYPE]
    cause = _cause(value)
    is_plain = not any(
        "__init__" in static.members(base) or "__new__" in static.members(base)
        for base in heap_bases
    )
    if is_plain and cause is None and not value.__suppress_context__:
        return NotImplemented
    parts = value.__reduce__()
    state = parts[2] if len(parts) > 2 else None
    slots = {name: held for name, held in static.attributes(value) if name in _slots(heap_bases)}
    more = (value.args, state, slots, cause, value.__suppress_context__)
    made_of = parts[1]
    if any(base.__name__ == "BaseExceptionGroup" for base in static.bases(kind)):
        made_of = value.message, list(value.exceptions)
    return new_exception, (kind, made_of), more, None, None, set_exception


def _slots(kinds: Any) -> Any:
    return {
        name
        for kind in kinds
        for name, member in static.members(kind).items()
        if type(member) is types.MemberDescriptorType
    }


def _cause(value: Any) -> Any:
    """Return the cause of an exception, if that can be pickled."""
    cause = value.__cause__
    if cause is not None:
        import cloudpickle

        try:
            cloudpickle.dumps(cause)
        except Exception:
            return None
    return cause


@known
def new_exception(kind: Any, arguments: Any) -> Any:
    """Return an exception without calling ``__init__`` of its class."""
    first: Any = next(base for base in static.bases(kind) if not base.__flags__ & static.HEAP_TYPE)
    made = first.__new__(kind, *arguments)
    first.__init__(made, *arguments)
    return made


@known
def set_exception(made: Any, state: Any) -> None:
    """Set the attributes and the cause of an exception."""
    made.args, attributes, slots, cause, suppress = state
    if attributes is not None:
        made.__setstate__(attributes)
    for name, held in slots.items():
        setattr(made, name, held)
    made.__cause__ = cause
    made.__suppress_context__ = suppress


# Mocks, for each of which `unittest.mock` makes a class, and the calls that they note


def of_mock(value: Any) -> Any:
    kind = type(value)
    left_out = ("__module__", "__dict__", "__weakref__")
    members = {name: member for name, member in vars(kind).items() if name not in left_out}
    state = (dict(static.attributes(value)), members)
    return new_mock, (kind.__name__, kind.__bases__), state, None, None, set_mock


@known
def new_mock(name: str, bases: Any) -> Any:
    """Return a mock without attributes."""
    return object.__new__(type(name, bases, {"__module__": bases[-1].__module__}))


@known
def set_mock(made: Any, state: Any) -> None:
    """Set the attributes of a mock and its class, bypassing the class."""
    attributes, members = state
    made.__dict__.update(attributes)
    for name, member in members.items():
        setattr(type(made), name, member)


def of_call(value: Any) -> Any:
    content, state = tuple(tuple.__iter__(value)), dict(static.attributes(value))
    return new_call, (type(value), content), state, None, None, set_attributes


@known
def new_call(kind: Any, content: Any) -> Any:
    """Return a call of a mock, without its parent."""
    return tuple.__new__(kind, content)


# Of Python's own modules


def of_struct(value: Any) -> Any:
    return type(value), (value.format,)


# Of other libraries


def of_float_info(value: Any) -> Any:
    """Reduce `numpy.finfo`, whose own pickle leaves the type out."""
    return type(value), (value.dtype,)


def of_universal_function(value: Any) -> Any:
    """Reduce a universal function that `numpy.frompyfunc` made."""
    held = [each for each in gc.get_referents(value) if callable(each)]
    if not held:
        return NotImplemented
    return universal_function, (held[0], value.nin, value.nout, value.identity)


@known
def universal_function(function: Any, inputs: int, outputs: int, identity: Any) -> Any:
    """Return a universal function of numpy that calls a Python function for each element."""
    numpy = importlib.import_module("numpy")
    return numpy.frompyfunc(function, inputs, outputs, identity=identity)


def of_array_type(value: Any) -> Any:
    """Reduce the type of an array of `ctypes`, which has no name."""
    length = getattr(value, "_length_", None)
    if length is None or value._type_ * length is not value:
        return NotImplemented
    return operator.mul, (value._type_, length)


def of_library(value: Any) -> Any:
    """Reduce a library that `ctypes` has loaded: its handle is a number of this process."""
    functions = {
        name: (function.restype, function.argtypes)
        for name, function in value.__dict__.items()
        if hasattr(function, "restype")
    }
    return library, (type(value), value._name), functions, None, None, set_library


@known
def library(kind: Any, name: Optional[str]) -> Any:
    """Return a library of functions in C."""
    return kind(name)


@known
def set_library(made: Any, functions: Any) -> None:
    """Set the argument and result types of the functions of a library."""
    for name, (result, arguments) in functions.items():
        function = getattr(made, name)
        function.restype, function.argtypes = result, arguments


# Functions of htdag's own stages, which jobs have under these names


@known
def counted(number: int, item: Any) -> int:
    """Return how many items there are, with one more."""
    return number + 1


@known
def collected(items: Any, item: Any) -> Any:
    """Return a list, with one more item in it."""
    items.append(item)
    return items
