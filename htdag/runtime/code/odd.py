"""The objects that plain pickle cannot handle: pickled by ``reducers.py``, or refused.

The picklers call `reduced` first, here and in jobs.
"""

from __future__ import annotations

from _weakref import ref
from typing import Any, Callable, Dict, Optional, Tuple

from . import static

Reducer = Callable[[Any], Any]

_known: Dict[int, Tuple[Any, Optional[Reducer]]] = {}


def reduced(value: Any) -> Any:
    """Return the reduced form of a value, like ``__reduce_ex__``; NotImplemented for most.

    Raises
    ------
    pickle.PicklingError
        If it belongs to this process; the message says what to do instead.
    """
    kind = type(value)
    known = _known.get(id(kind))  # by number, since a class may have an odd hash
    if known is None or known[0]() is not kind:
        known = _known[id(kind)] = ref(kind), _reducer(kind)
    return NotImplemented if known[1] is None else known[1](value)


def _reducer(kind: type) -> Optional[Reducer]:
    """Return the reducer of the objects of a class; None if pickle needs none."""
    names = set()
    for base in static.bases(kind)[:-1]:
        name = "%s.%s" % (static.module_name(base), base.__qualname__)
        if name in _MADE:
            return _function(_MADE[name])
        if name in _REFUSED:
            refusal: Reducer = _function("refusal")(_REFUSED[name])
            return refusal
        members = static.members(base)
        if base.__flags__ & static.HEAP_TYPE:
            if "__reduce__" in members or "__reduce_ex__" in members:
                break
        else:
            names.add("__new__")  # more than an object
        names.update(members)
    else:
        if "__getattr__" in names and not names & _HOW_TO_TRAVEL:
            return _function("of_catch_all")
    return _function("of_standard_stream") if "write" in names else None


def _function(name: str) -> Reducer:
    from . import reducers  # it takes time, which few jobs need to spend

    reducer: Reducer = getattr(reducers, name)
    return reducer


_HOW_TO_TRAVEL = {"__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__", "__new__"}

_ITERATORS = (
    *("accumulate", "batched", "chain", "combinations", "combinations_with_replacement"),
    *("compress", "count", "cycle", "dropwhile", "filterfalse", "groupby", "islice", "pairwise"),
    *("permutations", "product", "repeat", "starmap", "takewhile", "zip_longest"),
)

_MADE: Dict[str, str] = {
    "_thread.lock": "of_lock",
    "_thread.RLock": "of_reentrant_lock",
    "threading._RLock": "of_reentrant_lock",
    "_thread._local": "of_local",
    "_queue.SimpleQueue": "of_simple_queue",
    "random.SystemRandom": "of_system_random",
    "weakref.ReferenceType": "of_reference",
    "weakref.WeakMethod": "of_weak_method",
    "weakref.WeakKeyDictionary": "of_weak_dict",
    "weakref.WeakValueDictionary": "of_weak_dict",
    "logging.Logger": "of_logger",
    "_io.TextIOWrapper": "of_text_file",
    "_io.BufferedReader": "of_binary_file",
    "_io.BufferedWriter": "of_binary_file",
    "_io.BufferedRandom": "of_binary_file",
    "_io.FileIO": "of_binary_file",
    "gzip.GzipFile": "of_compressed_file",
    "bz2.BZ2File": "of_compressed_file",
    "lzma.LZMAFile": "of_compressed_file",
    "builtins.mappingproxy": "of_mapping_proxy",
    "builtins.memoryview": "of_memory_view",
    "builtins.BaseException": "of_exception",
    "re.Match": "of_match",
    "functools.KeyWrapper": "of_comparison",
    "_contextvars.ContextVar": "of_context_variable",
    "os._Environ": "of_environment",
    "posix.DirEntry": "of_directory_entry",
    "typing.NewType": "of_new_type",
    "typing.TypeVar": "of_parameter",
    "typing.ParamSpec": "of_parameter",
    "typing.TypeVarTuple": "of_parameter",
    "typing.TypeAliasType": "of_alias",
    "numpy.ufunc": "of_universal_function",
    "numpy.finfo": "of_float_info",
    "unittest.mock.NonCallableMock": "of_mock",
    "unittest.mock._Call": "of_call",
    "_struct.Struct": "of_struct",
    "_ctypes.PyCArrayType": "of_array_type",
    "ctypes.CDLL": "of_library",
    **{"itertools." + name: "of_iterator" for name in _ITERATORS},
}

"""By the names of classes: the function of ``reducers.py`` that reduces their objects."""

_LIST = "use a list of its elements (list(...)), or make it inside of the function"
_CONNECT = "connect inside of the function"
_MAKE = "make it inside of the function"
_REFUSED: Dict[str, str] = {
    "builtins.generator": _LIST,
    "builtins.async_generator": "make it inside of the function",
    "builtins.coroutine": "call the function that returns it inside of the job",
    "builtins.frame": "use the values that you need from it",
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
"""Classes whose objects cannot leave their process, as for subclasses, and what to do instead."""
