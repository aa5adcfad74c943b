"""How objects travel that plain pickle refuses, or makes something else of.

A lock, a logger or a file that is open for reading is made again where it arrives. What belongs to
one process is refused, with what to do instead. The picklers ask `reduced` first, here and in jobs.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import gc
import importlib
import io
import logging
import operator
import os
import pickle
import sys
import threading
import types
import typing
import weakref
from typing import Any, Callable, Dict, Optional, Tuple, TypeVar

from . import static

Reducer = Callable[[Any], Any]
Thing = TypeVar("Thing")

_known: Dict[int, Tuple[Any, Optional[Reducer]]] = {}


def reduced(value: Any) -> Any:
    """Return how a value is made again, as ``__reduce_ex__`` does; NotImplemented for most.

    Raises
    ------
    pickle.PicklingError
        If it belongs to this process; the message tells what to do instead.
    """
    kind = type(value)
    known = _known.get(id(kind))  # by number, since a class may have an odd hash
    if known is None or known[0]() is not kind:
        known = _known[id(kind)] = weakref.ref(kind), _reducer(kind)
    return NotImplemented if known[1] is None else known[1](value)


def _reducer(kind: type) -> Optional[Reducer]:
    """Return what knows how objects of a class travel; None where they do so by themselves."""
    names = set()
    for base in static.bases(kind)[:-1]:
        name = "%s.%s" % (static.module_name(base), base.__qualname__)
        if name in _MADE:
            return _MADE[name]
        if name in _REFUSED:
            return _refusal(_REFUSED[name])
        own = static.members(base)
        if base.__flags__ & _HEAP_TYPE:
            if "__reduce__" in own or "__reduce_ex__" in own:
                break
        else:
            names.add("__new__")  # more than an object
        names.update(own)
    else:
        if "__getattr__" in names and not names & _HOW_TO_TRAVEL:
            return _catch_all
    return _standard_stream if "write" in names else None


_HOW_TO_TRAVEL = {"__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__", "__new__"}
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a statement `class`, in general


def _refusal(way_out: str) -> Reducer:
    def refuse(value: Any) -> Any:
        kind = type(value)
        module = static.module_name(kind).lstrip("_")
        name = kind.__qualname__ if module == "builtins" else "%s.%s" % (module, kind.__qualname__)
        raise pickle.PicklingError("a %s stays in the process that made it; %s" % (name, way_out))

    return refuse


def known(thing: Thing) -> Thing:
    """Let pickles refer to something as ``htdag._reducers.NAME``, which is there in jobs too."""
    named: Any = thing
    named.__module__, named.__qualname__ = "htdag", "_reducers." + named.__name__
    return thing


# Locks and the like: new ones, that nobody holds


def _local(value: Any) -> Any:
    return new_object, (type(value),), dict(value.__dict__)


@known
def new_object(kind: Any) -> Any:
    """Return an object of a class, on which ``__init__`` was not called."""
    return kind.__new__(kind)


def _simple_queue(value: Any) -> Any:
    if not value.empty():
        raise pickle.PicklingError("the content of a SimpleQueue cannot be read; use a queue.Queue")
    return type(value), ()


def _system_random(value: Any) -> Any:
    return type(value), ()


# Objects with a `__getattr__`, which pickle asks for what it looks for, before there is any state


def _catch_all(value: Any) -> Any:
    state = dict(static.attributes(value))
    return new_object, (type(value),), state, None, None, set_attributes


@known
def set_attributes(made: Any, attributes: Dict[str, Any]) -> None:
    """Give an object its attributes, past what its class does about that."""
    for name, value in attributes.items():
        object.__setattr__(made, name, value)


# Weak references: the objects are there as long as the references to them


@known
class Reference(weakref.ref):  # type: ignore[type-arg]
    """A weak reference that keeps its object.

    Where it was made something else kept that, which need not have travelled.
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


def _reference(value: Any) -> Any:
    referent = weakref.ref.__call__(value)
    return Reference, () if referent is None else (referent,)


def _weak_method(value: Any) -> Any:
    return type(value), (value(),)


def _weak_dict(value: Any) -> Any:
    return type(value), (), None, None, iter(list(value.items()))


# Logging


def _logger(value: Any) -> Any:
    """Return a logger by its name, with the level that was set for it; handlers do not travel."""
    if isinstance(value, logging.RootLogger):
        return logging.getLogger, ()
    if value.manager.loggerDict.get(value.name) is not value:
        return type(value), (value.name, value.level)
    if value.level == logging.NOTSET:
        return logging.getLogger, (value.name,)
    return logging.getLogger, (value.name,), value.level, None, None, logging.Logger.setLevel


# Files that are open for reading: opened again, and read on from where they were


def _standard_stream(value: Any) -> Any:
    for name in ("stdout", "stderr", "stdin"):
        stream = getattr(sys, name)
        if value is stream or value is getattr(sys, "__%s__" % name):
            return getattr, (sys, name)
        if value is getattr(stream, "buffer", None):
            return getattr, (stream, "buffer")
    return NotImplemented


def _file(reading: Reducer) -> Reducer:
    """Return how files of a kind travel, given how those do that are open for reading."""

    def reduce(value: Any) -> Any:
        made = _standard_stream(value)
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
def _text_file(value: Any) -> Any:
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
def _binary_file(value: Any) -> Any:
    kind = type(value)
    if kind is io.FileIO:
        return binary_file, (_path(value), value.tell(), 0)
    raw = value.raw
    if type(raw) is not io.FileIO:
        raise pickle.PicklingError("%r reads from a %s; %s" % (value, type(raw).__name__, _IN))
    return binary_file, (_path(value), value.tell(), -1)


@_file
def _compressed_file(value: Any) -> Any:
    inner = getattr(value, "fileobj", None) or getattr(value, "_fp", None)
    kind = type(value)
    return compressed_file, (kind.__module__, kind.__name__, _path(inner), value.tell())


_IN = "open it inside of the function"


def _name(file: Any) -> Any:
    return getattr(file, "name", None) or "without a name"


def _path(file: Any) -> str:
    """Return the path of an open file, also where it was opened in another working directory."""
    number = file.fileno()
    path = str(_name(file)) if isinstance(_name(file), (str, os.PathLike)) else ""
    with contextlib.suppress(OSError):
        path = os.readlink("/proc/self/fd/%d" % number)
    path = os.path.abspath(path) if path else ""
    if not os.path.isfile(path) or not os.path.samestat(os.stat(path), os.fstat(number)):
        raise pickle.PicklingError(
            "%r is no file that can be opened again; %s" % (_name(file), _IN)
        )
    return path


def _newline(file: Any) -> Optional[str]:
    """Find out how a text file that is being read ends its lines: it does not say so."""
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
    """Return lines of a file up to one that ends in other than a line feed; None if none does."""
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


def _mapping_proxy(value: Any) -> Any:
    inner = gc.get_referents(value)  # the very dict, which may be changed elsewhere
    return types.MappingProxyType, (inner[0],)


def _memory_view(value: Any) -> Any:
    data = value.tobytes()
    return memory_view, (data if value.readonly else bytearray(data), value.format, value.shape)


@known
def memory_view(data: Any, format: str, shape: Any) -> Any:
    """Return a view of bytes as elements of a format."""
    view: Any = memoryview(data)
    return view if format == "B" and len(shape) == 1 else view.cast("B").cast(format, shape)


def _comparison(value: Any) -> Any:
    """Reduce a key made of a function that compares, or what it made of an object."""
    compare = next(each for each in gc.get_referents(value) if each is not type(value))
    if hasattr(value, "obj"):
        return compared, (compare, value.obj)
    return functools.cmp_to_key, (compare,)


@known
def compared(compare: Any, value: Any) -> Any:
    """Return an object that is compared by a function."""
    return functools.cmp_to_key(compare)(value)


def _match(value: Any) -> Any:
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


def _context_variable(value: Any) -> Any:
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
    return contextvars.ContextVar(name, **({"default": default[0]} if default else {}))


@known
def set_context_variable(variable: Any, values: Any) -> None:
    """Give a context variable the value that it had."""
    for value in values:
        variable.set(value)


def _iterator(value: Any) -> Any:
    """Reduce an iterator of itertools as Python does; it warns of that from 3.12 on, until 3.13."""
    if "__reduce__" in static.members(type(value)):
        with contextlib.suppress(DeprecationWarning):  # where warnings are errors
            return value.__reduce__()
    raise pickle.PicklingError(
        "a %s of itertools cannot be copied; use a list of its elements, or make it inside of the "
        "function" % type(value).__qualname__
    )


def _environment(value: Any) -> Any:
    for name in ("environ", "environb"):
        if value is getattr(os, name, None):
            return getattr, (os, name)
    return NotImplemented


def _directory_entry(value: Any) -> Any:
    raise pickle.PicklingError("an os.DirEntry belongs to the scan of a folder; use its .path")


# Types for annotations: by value where no module has them under their name


def _is_found(value: Any) -> bool:
    """Return whether something is found by its name in a module that jobs can import."""
    import cloudpickle

    name, module = getattr(value, "__qualname__", value.__name__), value.__module__
    if module == "__main__" or module in cloudpickle.list_registry_pickle_by_value():
        return False
    loaded = sys.modules.get(module)
    return loaded is not None and static.namespace(loaded).get(name) is value


def _new_type(value: Any) -> Any:
    if _is_found(value):
        return NotImplemented
    return new_type, (value.__name__, value.__module__), value.__supertype__, None, None, set_super


@known
def new_type(name: str, module: str) -> Any:
    """Return a new type, whose type is not yet known."""
    make: Any = typing.NewType
    made = make(name, object)
    made.__module__ = module
    return made


@known
def set_super(made: Any, supertype: Any) -> None:
    """Say what a new type is of."""
    made.__supertype__ = supertype


def _parameter(value: Any) -> Any:
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
    """Return a parameter of generic types: one object, however often it comes."""
    from cloudpickle import cloudpickle

    made = kind(name, *constraints, **options)
    made.__module__ = module
    return cloudpickle._lookup_class_or_track(tracker, made)


def _alias(value: Any) -> Any:
    if _is_found(value):
        return NotImplemented
    return alias, (value.__name__, value.__value__, value.__type_params__)


@known
def alias(name: str, value: Any, parameters: Any) -> Any:
    """Return a type alias (Python 3.12)."""
    kind: Any = typing.TypeAliasType  # type: ignore[attr-defined]
    return kind(name, value, type_params=parameters)


# Exceptions: without a call of __init__, whose arguments they do not know


def _exception(value: Any) -> Any:
    kind = type(value)
    own = [base for base in static.bases(kind) if base.__flags__ & _HEAP_TYPE]
    cause = _cause(value)
    is_plain = not any(
        "__init__" in static.members(base) or "__new__" in static.members(base) for base in own
    )
    if is_plain and cause is None and not value.__suppress_context__:
        return NotImplemented
    parts = value.__reduce__()
    state = parts[2] if len(parts) > 2 else None
    slots = {name: held for name, held in static.attributes(value) if name in _slots(own)}
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
    """Return what an exception was raised from, if that can travel."""
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
    """Return an exception as Python itself makes it, past ``__init__`` of its class."""
    first: Any = next(base for base in static.bases(kind) if not base.__flags__ & _HEAP_TYPE)
    made = first.__new__(kind, *arguments)
    first.__init__(made, *arguments)
    return made


@known
def set_exception(made: Any, state: Any) -> None:
    """Give an exception its attributes, and what it was raised from."""
    made.args, attributes, slots, cause, suppress = state
    if attributes is not None:
        made.__setstate__(attributes)
    for name, held in slots.items():
        setattr(made, name, held)
    made.__cause__ = cause
    made.__suppress_context__ = suppress


# Of other libraries


def _universal_function(value: Any) -> Any:
    """Reduce what `numpy.frompyfunc` made of a function."""
    held = [each for each in gc.get_referents(value) if callable(each)]
    if not held:
        return NotImplemented
    return universal_function, (held[0], value.nin, value.nout, value.identity)


@known
def universal_function(function: Any, inputs: int, outputs: int, identity: Any) -> Any:
    """Return a function of numpy's that calls one of Python's for each element."""
    numpy = importlib.import_module("numpy")
    return numpy.frompyfunc(function, inputs, outputs, identity=identity)


def _array_type(value: Any) -> Any:
    """Reduce the type of an array of `ctypes`, which has no name."""
    length = getattr(value, "_length_", None)
    if length is None or value._type_ * length is not value:
        return NotImplemented
    return operator.mul, (value._type_, length)


def _library(value: Any) -> Any:
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
    """Say what the functions of a library take and give."""
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


_ITERATORS = (
    *("accumulate", "batched", "chain", "combinations", "combinations_with_replacement"),
    *("compress", "count", "cycle", "dropwhile", "filterfalse", "groupby", "islice", "pairwise"),
    *("permutations", "product", "repeat", "starmap", "takewhile", "zip_longest"),
)

_MADE: Dict[str, Reducer] = {
    "_thread.lock": lambda value: (threading.Lock, ()),
    "_thread.RLock": lambda value: (threading.RLock, ()),
    "threading._RLock": lambda value: (threading.RLock, ()),
    "_thread._local": _local,
    "_queue.SimpleQueue": _simple_queue,
    "random.SystemRandom": _system_random,
    "weakref.ReferenceType": _reference,
    "weakref.WeakMethod": _weak_method,
    "weakref.WeakKeyDictionary": _weak_dict,
    "weakref.WeakValueDictionary": _weak_dict,
    "logging.Logger": _logger,
    "_io.TextIOWrapper": _text_file,
    "_io.BufferedReader": _binary_file,
    "_io.BufferedWriter": _binary_file,
    "_io.BufferedRandom": _binary_file,
    "_io.FileIO": _binary_file,
    "gzip.GzipFile": _compressed_file,
    "bz2.BZ2File": _compressed_file,
    "lzma.LZMAFile": _compressed_file,
    "builtins.mappingproxy": _mapping_proxy,
    "builtins.memoryview": _memory_view,
    "builtins.BaseException": _exception,
    "re.Match": _match,
    "functools.KeyWrapper": _comparison,
    "_contextvars.ContextVar": _context_variable,
    "os._Environ": _environment,
    "posix.DirEntry": _directory_entry,
    "typing.NewType": _new_type,
    "typing.TypeVar": _parameter,
    "typing.ParamSpec": _parameter,
    "typing.TypeVarTuple": _parameter,
    "typing.TypeAliasType": _alias,
    "numpy.ufunc": _universal_function,
    "_ctypes.PyCArrayType": _array_type,
    "ctypes.CDLL": _library,
    **{"itertools." + name: _iterator for name in _ITERATORS},
}

_LIST = "use a list of what it gives (list(...)), or make it inside of the function"
_CONNECT = "connect inside of the function"
_MAKE = "make it inside of the function"
_REFUSED = {
    "builtins.generator": _LIST,
    "builtins.async_generator": "make it inside of the function",
    "builtins.coroutine": "call the function that gives it inside of the job",
    "builtins.frame": "use the values that are needed of it",
    "builtins.traceback": "use traceback.format_exception",
    "weakref.ProxyType": "use the object itself",
    "weakref.CallableProxyType": "use the object itself",
    "weakref.finalize": _MAKE,
    "threading.Thread": "start it inside of the function",
    "multiprocessing.process.BaseProcess": "start it inside of the function",
    "subprocess.Popen": "start it inside of the function",
    "concurrent.futures._base.Executor": _MAKE,
    "concurrent.futures._base.Future": "use its result()",
    "multiprocessing.pool.Pool": _MAKE,
    "multiprocessing.synchronize.SemLock": "jobs share nothing; make it inside of the function",
    "multiprocessing.queues.Queue": "jobs share nothing; return the values",
    "multiprocessing.queues.SimpleQueue": "jobs share nothing; return the values",
    "multiprocessing.sharedctypes.SynchronizedBase": "jobs share nothing; use a plain value",
    "multiprocessing.connection._ConnectionBase": _CONNECT,
    "asyncio.events.AbstractEventLoop": _MAKE,
    "_asyncio.Future": "use its result()",
    "_asyncio.Task": "use its result()",
    "sqlite3.Connection": _CONNECT,
    "sqlite3.Cursor": "use a list of its rows, or connect inside of the function",
    "socket.socket": _CONNECT,
    "_socket.socket": _CONNECT,
    "http.client.HTTPConnection": _CONNECT,
    "ftplib.FTP": _CONNECT,
    "smtplib.SMTP": _CONNECT,
    "_ssl._SSLContext": _MAKE,
    "tkinter.Misc": _MAKE,
    "_tkinter.tkapp": _MAKE,
    "mmap.mmap": "map the file inside of the function",
    "tempfile.TemporaryDirectory": _MAKE,
    "tempfile._TemporaryFileWrapper": _MAKE,
    "tempfile.SpooledTemporaryFile": _MAKE,
    "posix.ScandirIterator": "use a list of paths",
    "_csv.reader": "use a list of its rows",
    "_csv.writer": _MAKE,
    "numba.core.ccallback.CFunc": "give the function itself, and make its pointer inside of one",
    "shelve.Shelf": "open it inside of the function",
    "_hashlib.HASH": "use its digest, or make it inside of the function",
    "zlib.Compress": _MAKE,
    "zlib.Decompress": _MAKE,
    "_contextvars.Context": _MAKE,
    "_contextvars.Token": _MAKE,
}
"""What stays in its process, and what to do instead; it holds for classes derived from these."""
