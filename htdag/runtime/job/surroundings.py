"""The surroundings of functions in their process, restored for each call.

Alone in a job of its own, an item finds the working directory, the variables of the environment,
the standard streams, the handlers of signals and the like as the job found them. Here many calls
follow one another in a process. So after each call what it changed is put back. That is looked at
where a look is cheap; for the rest the few functions that make such a change note that they were
called, and in any case it is looked at after calls that take long.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import gc
import os
import resource
import sys
import time
import warnings
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    NoReturn,
    Optional,
    Set,
    Tuple,
)

from .. import layout
from ..api.context import HERE, Cursor
from ..task import Job
from . import process_state

if TYPE_CHECKING:
    from ..formats.task import Deciding


_LONG = 0.003  # seconds; a look at everything takes a hundredth of that
_OWN_FILES = 4  # three copies of the standard streams, and the one that is looked at
_TOLD = (b"HTDAG_ITEM", b"HTDAG_STAGE")  # they change from call to call

# What changes the surroundings of a process, by the modules where it can be found.
_CHANGE: Dict[str, Tuple[str, ...]] = {
    "posix": (
        "chdir",
        "close",
        "dup2",
        "fchdir",
        "putenv",
        "unsetenv",
        "umask",
        "rmdir",
        "rename",
        "replace",
    ),
    "_signal": ("signal", "alarm", "setitimer", "siginterrupt", "pthread_sigmask"),
    "time": ("tzset",),
    "gc": ("disable", "enable", "set_threshold", "freeze"),
    "resource": ("setrlimit", "prlimit"),
    "sys": ("setrecursionlimit", "setprofile", "settrace"),
    "_locale": ("setlocale",),
    "_socket": ("setdefaulttimeout",),
}
_SAME = {"posix": "os", "_signal": "signal", "_locale": "locale", "_socket": "socket"}

putenv = os.putenv  # of which nobody takes note
VARIABLES: Dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]


def tell(name: bytes, value: bytes) -> None:
    """Set an environment variable about the current job or item, at little cost."""
    VARIABLES[name] = value
    putenv(name, value)


def announce(job: Job) -> Cursor:
    """Make `current` return a job, and return the cursor that keeps it up to date.

    Programs that functions start get the same in environment variables.
    """
    HERE.job = job
    HERE.granted = None
    HERE.cursor = _TellingCursor()
    os.environ["HTDAG_STAGE"] = job.program["stages"][0]
    os.environ["HTDAG_RUN"] = job.program["run"]
    os.environ["HTDAG_NODE"] = job.node
    os.environ["HTDAG_CHUNK"] = layout.chunk_name(job.chunk)
    os.environ["HTDAG_ATTEMPT"] = str(job.attempt)
    return HERE.cursor


class _TellingCursor(Cursor):
    """A cursor that also sets environment variables, for programs that functions start."""

    __slots__ = ()

    def item(self, key: str) -> None:
        self.key = key
        tell(b"HTDAG_ITEM", key.encode())

    def enter(self, name: bytes) -> None:
        VARIABLES[b"HTDAG_STAGE"] = name
        putenv(b"HTDAG_STAGE", name)


class _Process:
    """The state of this process."""

    touched = True  # something that is dear to look at may have changed
    forked = False  # it was forked by a function


def _is_watched(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **keywords: Any) -> Any:
        _Process.touched = True
        return function(*arguments, **keywords)

    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(call, name, getattr(function, name, None))
    call.__wrapped__ = function  # type: ignore[attr-defined]
    return call


def _watch(module: str) -> None:
    """Make the functions of a module note their calls, if it is loaded."""
    for name in _CHANGE[module]:
        function = getattr(sys.modules[module], name, None)
        if function is None or hasattr(function, "__wrapped__"):
            continue
        watched = _is_watched(function)
        for holder in (module, _SAME.get(module, module)):
            names = vars(sys.modules[holder]) if holder in sys.modules else {}
            for own, value in list(names.items()):
                if value is function:
                    names[own] = watched
        for supported in (os.supports_fd, os.supports_dir_fd, os.supports_follow_symlinks):
            if function in supported:
                supported.add(watched)


def _watch_modules() -> None:
    for module in _CHANGE:
        if module in sys.modules:
            _watch(module)


class Surroundings:
    """The surroundings of the functions of a job, to be restored after each call.

    Make them in the process that runs the functions, in the working directory, before any is
    loaded.

    Parameters
    ----------
    renew : callable
        Fills the working directory again after a function has removed it.
    deciding : dict
        How numbers are computed, if not as by default: ``decimal`` and ``numpy``, as in
        `process_state`.
    """

    def __init__(
        self,
        renew: Callable[[], None] = lambda: None,
        deciding: Optional[Deciding] = None,
    ) -> None:
        self._deciding = deciding or {}
        self._renew = renew
        self._optional: Dict[str, Any] = {}
        self._next = 0.0
        os.register_at_fork(after_in_child=_note_fork)
        _watch_modules()

    def begin(self) -> None:
        """Record the present state for all calls; all functions are loaded."""
        self._streams = _Streams()
        self._filters = _Filters()
        self._parts: List[Any] = [
            *_signal_settings(),
            self._streams,
            _Directory(self._renew),
            _Variables(),
            self._filters,
            *_python_settings(),
            *map(_limit_setting, ("CORE", "CPU", "DATA", "FSIZE", "NOFILE", "STACK", "AS")),
        ]
        self._look_at_modules()
        _Process.touched = False
        self.is_changed: Callable[[float], bool] = self._looker()

    def _look_at_modules(self) -> None:
        _watch_modules()
        for module, (function, part) in _OPTIONAL.items():
            # Without the function it is being imported.
            if module not in self._optional and hasattr(sys.modules.get(module), function):
                self._optional[module] = part(self._deciding.get(module))

    def _looker(self) -> Callable[[float], bool]:
        """Return a fast function that returns whether something has changed.

        It is called after each call of a function, so it keeps all that it needs in variables. It
        also returns True when it is time to look at everything.
        """
        process, system, filtered = _Process, sys, warnings
        out, err = self._streams.streams[1:]
        raw, filters, following = _raw(out), self._filters.content, self._next
        decimal, numpy = self._optional.get("decimal"), self._optional.get("numpy")
        context_of = errors_of = context = precision = rounding = errors = None
        if decimal is not None:
            context_of, context, precision, rounding = decimal.quick()
        if numpy is not None:
            errors_of, errors = numpy.quick()

        def changed(now: float) -> bool:
            if (
                process.touched
                or now > following
                or system.stdout is not out
                or system.stderr is not err
                or raw.closed
                or filtered.filters != filters
            ):
                return True
            if context_of is not None and (
                context_of() is not context
                or context.prec != precision
                or context.rounding != rounding
            ):
                return True
            return errors_of is not None and errors_of() != errors

        return changed

    def is_different(self) -> bool:
        """Return whether anything has changed."""
        leave_fork()
        return any(part.is_changed() for part in (*self._parts, *self._optional.values()))

    def restore(self) -> None:
        """Restore everything, and leave a process that a function has forked."""
        leave_fork()
        self._look_at_modules()
        for part in (*self._parts, *self._optional.values()):
            if part.is_changed():
                part.restore()
        _Process.touched = False
        self._next = time.perf_counter() + _LONG
        self.is_changed = self._looker()

    def sizes(self) -> List[int]:
        """Flush what was printed, and return the sizes of standard output and error."""
        for stream in self._streams.streams[1:]:
            _flush(stream)
        statuses = [os.fstat(number) for number in (1, 2)]
        if [(each.st_dev, each.st_ino) for each in statuses] != self._streams.files[1:]:
            self.restore()
            statuses = [os.fstat(number) for number in (1, 2)]
        return [each.st_size for each in statuses]


class _Nothing(Surroundings):
    """Surroundings that are not restored."""

    def __init__(self) -> None:
        self.is_changed = lambda now: False

    def begin(self) -> None:
        """Nothing is known of them."""

    def is_different(self) -> bool:
        return False

    def restore(self) -> None:
        """Nothing is known of them."""

    def sizes(self) -> List[int]:
        _flush(sys.stdout)
        _flush(sys.stderr)
        return [os.fstat(number).st_size for number in (1, 2)]


NO_SURROUNDINGS: Surroundings = _Nothing()


class _Setting:
    """A setting with a function that returns it and one that sets it."""

    def __init__(self, get: Callable[[], Any], put: Callable[[Any], Any]) -> None:
        self._get = get
        self._put = put
        self._value = get()

    def is_changed(self) -> bool:
        return bool(self._get() != self._value)

    def restore(self) -> None:
        self._put(self._value)


def _attribute(holder: Any, name: str) -> _Setting:
    return _Setting(lambda: getattr(holder, name), lambda value: setattr(holder, name, value))


def _python_settings() -> Iterator[Any]:
    for name in ("excepthook", "displayhook"):
        yield _attribute(sys, name)
    yield _attribute(warnings, "showwarning")
    yield _Path()
    yield _Setting(lambda: list(sys.argv), lambda value: setattr(sys, "argv", value))
    yield _Setting(sys.getrecursionlimit, sys.setrecursionlimit)
    yield _Setting(sys.gettrace, sys.settrace)
    yield _Setting(sys.getprofile, sys.setprofile)
    yield _Setting(process_state.umask, os.umask)
    yield _Setting(gc.isenabled, lambda value: gc.enable() if value else gc.disable())
    yield _Setting(gc.get_threshold, lambda value: gc.set_threshold(*value))


def _signal_settings() -> Iterator[Any]:
    for timer in (_signal.ITIMER_REAL, _signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF):
        yield _Timer(timer)
    for number in range(1, 32):
        if number not in (_signal.SIGKILL, _signal.SIGSTOP):
            yield _Handler(number)
    yield _Setting(
        lambda: _signal.pthread_sigmask(_signal.SIG_BLOCK, ()),
        lambda value: _signal.pthread_sigmask(_signal.SIG_SETMASK, value),
    )


class _Timer:
    """A timer, which should run only during the call that has started it."""

    def __init__(self, timer: int) -> None:
        self._timer = timer

    def is_changed(self) -> bool:
        return bool(_signal.getitimer(self._timer) != (0.0, 0.0))

    def restore(self) -> None:
        _signal.setitimer(self._timer, 0)


class _Handler:
    """The handler of a signal."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._handler = _signal.getsignal(number)

    def is_changed(self) -> bool:
        # None: a handler that is not Python's, which it cannot set again.
        return self._handler is not None and _signal.getsignal(self._number) != self._handler

    def restore(self) -> None:
        _signal.signal(self._number, self._handler)


def _limit_setting(name: str) -> _Setting:
    number = getattr(resource, "RLIMIT_" + name)

    def put(limits: Tuple[int, int]) -> None:
        try:
            resource.setrlimit(number, (limits[0], resource.getrlimit(number)[1]))
        except (ValueError, OSError):
            return  # a hard limit cannot be raised again

    return _Setting(lambda: resource.getrlimit(number), put)


class _Streams:
    """The standard streams, and the files behind them."""

    def __init__(self) -> None:
        self.streams = [sys.stdin, sys.stdout, sys.stderr]
        self.files = [_identity(number) for number in range(3)]
        self._aside = [_aside(number) for number in range(3)]

    def is_changed(self) -> bool:
        return (
            [sys.stdin, sys.stdout, sys.stderr] != self.streams
            or any(stream is not None and stream.closed for stream in self.streams)
            or [_identity(number) for number in range(3)] != self.files
        )

    def restore(self) -> None:
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            stream = self.streams[number]
            _flush(getattr(sys, name))
            _flush(stream)
            aside = self._aside[number]
            if _identity(number) != self.files[number] and aside is not None:
                os.dup2(aside, number)
            if stream is not None and stream.closed:
                stream = self.streams[number] = _opened(number)
            setattr(sys, name, stream)


class _Directory:
    """The working directory."""

    def __init__(self, renew: Callable[[], None]) -> None:
        self._path = os.getcwd()
        self._renew = renew
        self._found = os.stat(os.curdir)

    def is_changed(self) -> bool:
        try:
            here, wanted_directory = os.stat(os.curdir), os.stat(self._path)
        except OSError:
            return True
        return not (
            os.path.samestat(here, wanted_directory) and os.path.samestat(here, self._found)
        )

    def restore(self) -> None:
        os.makedirs(self._path, mode=0o700, exist_ok=True)
        os.chdir(self._path)
        present = os.stat(os.curdir)
        if not os.path.samestat(present, self._found):
            self._found = present
            self._renew()


class _Variables:
    """The variables of the environment."""

    def __init__(self) -> None:
        self._environ = os.environ
        self._content = dict(VARIABLES)

    def is_changed(self) -> bool:
        for name in _TOLD:
            if name in VARIABLES:
                self._content[name] = VARIABLES[name]
        return os.environ is not self._environ or self._content != VARIABLES

    def restore(self) -> None:
        vars(os)["environ"] = self._environ
        zone = VARIABLES.get(b"TZ")
        for name in set(VARIABLES).difference(self._content):
            os.unsetenv(name)
            del VARIABLES[name]
        for name, value in self._content.items():
            if VARIABLES.get(name) != value:
                tell(name, value)
        if zone != self._content.get(b"TZ"):
            time.tzset()


class _Path:
    """The search path of modules, in which old and new entries stay."""

    def __init__(self) -> None:
        self._path = sys.path
        self._content = list(sys.path)

    def is_changed(self) -> bool:
        return sys.path is not self._path or not set(sys.path).issuperset(self._content)

    def restore(self) -> None:
        added = [entry for entry in sys.path if entry not in self._content]
        self._path[:] = added + self._content
        sys.path = self._path


class _Filters:
    """The filters of warnings."""

    def __init__(self) -> None:
        self._filters: Any = warnings.filters
        self.content = list(warnings.filters)

    def is_changed(self) -> bool:
        return warnings.filters is not self._filters or self._filters != self.content

    def restore(self) -> None:
        warnings.filters = self._filters
        self._filters[:] = self.content
        for name in ("_filters_mutated", "_filters_mutated_lock_held"):
            mutated = getattr(warnings, name, None)
            if mutated is not None:
                mutated()
                return


class _Decimal:
    """The context of `decimal`, which is one object that functions change."""

    def __init__(self, wanted: Optional[List[Any]]) -> None:
        self._module = sys.modules["decimal"]
        # It was loaded by the call that has just ended, and may be changed already.
        self._saved = self._module.Context() if wanted is None else process_state.context_of(wanted)
        self.restore()

    def restore(self) -> None:
        self._module.setcontext(self._saved.copy())

    def quick(self) -> Tuple[Any, ...]:
        """Return what to check often: how to get the context, and its expected value."""
        get = self._module.getcontext
        return get, get(), self._saved.prec, self._saved.rounding

    def is_changed(self) -> bool:
        return process_state.of_decimal(self._module.getcontext()) != process_state.of_decimal(
            self._saved
        )


class _Errors:
    """What numpy does about floating-point errors."""

    def __init__(self, wanted: Optional[Dict[str, str]]) -> None:
        self._wanted = wanted or process_state.NUMPY
        self._module = sys.modules["numpy"]
        config = sys.modules.get("numpy._core._ufunc_config")
        # Since numpy 2.0 it is the content of a context variable, which is never changed itself.
        variable = getattr(config, "_extobj_contextvar", None)
        self._get: Callable[[], Any] = self._module.geterr if variable is None else variable.get
        self.restore()

    def is_changed(self) -> bool:
        return bool(self._module.geterr() != self._wanted)

    def restore(self) -> None:
        self._module.seterr(**self._wanted)

    def quick(self) -> Tuple[Any, ...]:
        """Return what to check often: how to get the setting, and its expected value."""
        return self._get, self._get()


def _of_locale(_: Any) -> _Setting:
    module = sys.modules["_locale"]
    return _Setting(
        lambda: module.setlocale(module.LC_ALL, None),
        lambda value: module.setlocale(module.LC_ALL, value),
    )


def _of_socket(_: Any) -> _Setting:
    module = sys.modules["_socket"]
    return _Setting(module.getdefaulttimeout, module.setdefaulttimeout)


_OPTIONAL: Dict[str, Tuple[str, Callable[[Any], Any]]] = {
    "_locale": ("setlocale", _of_locale),
    "_socket": ("setdefaulttimeout", _of_socket),
    "decimal": ("setcontext", _Decimal),
    "numpy": ("seterr", _Errors),
}


# -------------------------------------------------------------------------- parts of a process


def _note_fork() -> None:
    _Process.forked = _Process.touched = True


def leave_fork(error: Optional[BaseException] = None) -> None:
    """End this process if a function has forked it: only its parent writes the job's results."""
    if _Process.forked:
        leave(error)


def leave(error: Optional[BaseException]) -> NoReturn:
    """End a forked process in the way in which its function ended."""
    status = 0
    try:
        if isinstance(error, SystemExit):
            code = error.code
            status = code if isinstance(code, int) else 0 if code is None else 1
            if status and not isinstance(code, int):
                print(code, file=sys.stderr)
        elif error is not None:
            status = 1
            import traceback

            traceback.print_exception(type(error), error, error.__traceback__)
        for stream in (sys.stdout, sys.stderr):
            _flush(stream)
    finally:
        os._exit(status & 0xFF)


def open_files() -> Set[str]:
    """Return the descriptors of open files, as texts, if the system lists them."""
    try:
        return set(os.listdir("/proc/self/fd"))
    except OSError:
        return set()


def flush_files(before: Optional[Set[str]] = None) -> None:
    """Flush files that functions have left open, before the process ends.

    There is no search if, apart from a few of ours, no more files are open than `before`.
    """
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)
    if before is not None and before and len(open_files() - before) <= _OWN_FILES:
        return
    import io

    kinds = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
    files = [each for each in gc.get_objects() if isinstance(each, kinds)]
    files.sort(key=lambda each: not isinstance(each, io.TextIOWrapper))  # they write to the others
    for file in files:
        _flush(file)


def _flush(stream: Any) -> None:
    try:
        if stream is not None and not getattr(stream, "closed", False):
            stream.flush()
    except Exception:
        return  # it is a user's own, or its disk is full


def _raw(stream: Any) -> Any:
    """Return the innermost stream, which knows first whether it is closed."""
    buffer = getattr(stream, "buffer", stream)
    raw = getattr(buffer, "raw", buffer)
    return raw if hasattr(raw, "closed") else _Open


class _Open:
    closed = False


def _aside(number: int) -> Optional[int]:
    """Return another descriptor of the same file, with a number that new files will not get."""
    import fcntl

    try:
        return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 200)
    except OSError:
        try:
            return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 10)
        except OSError:
            return None


def _identity(number: int) -> Optional[Tuple[int, int]]:
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _opened(number: int) -> Any:
    return open(
        number,
        "r" if number == 0 else "w",
        buffering=1,
        encoding="utf-8",
        errors="backslashreplace" if number == 2 else "strict",
        closefd=False,
    )
