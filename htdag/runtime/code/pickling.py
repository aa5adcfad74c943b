"""Pickling values and functions, in jobs and on the submitting side.

What a module holds under its own name is pickled by that name, as by plain pickle, even if the
module is ``__main__``. What has no name (lambdas, what is defined inside of functions) is pickled
by value, and its functions use the names of the module that they come from.
"""

from __future__ import annotations

import _thread
import builtins
import copyreg
import functools
import io
import pickle
import sys
import types
from typing import Any, Dict, List, Optional, Tuple

from ..data.frames import Pickled
from . import enums, image, models, odd

PROTOCOL = 5
_NO_NAMES = (type(None), type(Ellipsis), type(NotImplemented))
_MISSING = object()


def name_of(value: Any) -> Optional[Tuple[str, str]]:
    """Return the module and the qualified name of a class or function, or None."""
    module_name = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None)
    if not isinstance(module_name, str) or not isinstance(name, str):
        return None
    module = sys.modules.get(module_name)
    if module is None or "<locals>" in name:
        return None
    first, _, rest = name.partition(".")
    named = getattr(module, "__dict__", {}).get(first, _MISSING)
    if named is _MISSING and not isinstance(module, image.Module):
        named = getattr(module, first, _MISSING)
    try:
        for part in rest.split(".") if rest else ():
            named = getattr(named, part)
    except Exception:
        return None
    return (module_name, name) if named is value else None


def _by_value(value: Any) -> bool:
    """Return whether the user registered the module of something with cloudpickle by value."""
    loaded = sys.modules.get("cloudpickle.cloudpickle")
    registered = loaded._PICKLE_BY_VALUE_MODULES if loaded else ()
    return bool(registered) and str(value.__module__).partition(".")[0] in {
        name.partition(".")[0] for name in registered
    }


class TooDeep(pickle.PicklingError):
    """A value is nested more deeply than Python can follow."""


def cloud() -> Any:
    """Import cloudpickle late, since jobs need not spend that time if everything has a name."""
    from cloudpickle import cloudpickle

    return cloudpickle


class _Dispatch(Dict[type, Any]):
    """The reducers of classes: those of cloudpickle, and those registered with `copyreg`."""

    def __missing__(self, kind: type) -> Any:
        if kind.__module__ in HELPED:
            return cloud().Pickler.dispatch_table[kind]
        return copyreg.dispatch_table[kind]


HELPED = frozenset(
    {"builtins", "_io", "_weakrefset", "abc", "dataclasses", "logging", "types", "typing"}
)
"""The modules of the classes that cloudpickle reduces."""


class Pickler(pickle.Pickler):
    """A pickler that pickles by name what has one, and the rest by value."""

    dispatch_table = _Dispatch()
    _helper: Any = None  # what cloudpickle knows of the functions of one pickle

    def dump(self, value: Any) -> None:
        try:
            pickle.Pickler.dump(self, value)
        except RecursionError as error:
            raise TooDeep(
                "its objects hold one another in too long a chain (%s); use a list of them, or "
                "define a __reduce__ that makes one" % error
            ) from error

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if enums.is_enum(kind) and not self.is_elsewhere(kind):
            return enums.reduced_member(value)
        made = odd.reduced(value)
        if made is not NotImplemented:
            return made
        if kind is types.FunctionType:
            return NotImplemented if self.is_named(value) else self.function(value)
        if kind is image.Module:
            return cloud().subimport, (value.__name__,)
        if issubclass(kind, type):
            if value in _NO_NAMES or value.__module__ == "builtins":
                if vars(builtins).get(value.__name__) is value:
                    return NotImplemented
                return cloud()._class_reduce(value)
            return NotImplemented if self.is_named(value) else self.class_(value)
        if kind is types.CodeType:
            # cloudpickle 3.1.3 leaves out the file, without which a traceback quotes no lines.
            _, parts = self.dispatch_table[types.CodeType](value)
            parts = tuple(value.co_filename if p == "<dynamic-code>" else p for p in parts)
            return image.make_code, parts
        if kind is functools._lru_cache_wrapper:
            if self.is_named(value):
                return NotImplemented
            return image.cached, (value.__wrapped__, value.cache_parameters(), _attributes(value))
        return NotImplemented

    def is_named(self, value: Any) -> bool:
        """Return whether a class or function is pickled by its name."""
        return name_of(value) is not None and not _by_value(value)

    def is_elsewhere(self, kind: Any) -> bool:
        """Return whether a class is not a part of this pickle."""
        return self.is_named(kind)

    def function(self, value: Any) -> Any:
        """Return the reduced form of a function that has no name."""
        if self._helper is None:
            self._helper = cloud().Pickler(io.BytesIO(), PROTOCOL)
        reduced = self._helper._dynamic_function_reduce(value)
        namespace = value.__globals__.get("__name__")
        module = sys.modules.get(namespace) if isinstance(namespace, str) else None
        if module is None or getattr(module, "__dict__", None) is not value.__globals__:
            return reduced  # code that was executed in a dict of its own
        _, (code, _, _, _, closure), (attributes, slots), *_ = reduced
        slots["__globals__"] = {}
        if getattr(value, "__type_params__", ()):
            slots["__type_params__"] = value.__type_params__
        state = (attributes, slots)
        setter = image.set_function_state
        return image.make_function, (code, namespace, closure), state, None, None, setter

    def class_(self, value: Any) -> Any:
        """Return the reduced form of a class that has no name."""
        if enums.is_enum(value):
            return self.enum(value)
        reduced = cloud()._dynamic_class_reduce(value)
        if reduced[0] is not cloud()._make_skeleton_class:
            return reduced
        make, (metaclass, name, bases, names, *rest), (members, more), *_, set_state = reduced
        names = {**names, "__qualname__": value.__qualname__}
        members = {**_as_inherited(value), **members}
        if not _is_plain(value):
            make, set_state = image.make_class, image.set_class_state
            bases, rest[-1] = value.__bases__, bases
            slots = vars(value).get("__slots__", _MISSING)
            if slots is not _MISSING:
                names["__slots__"] = (slots,) if isinstance(slots, str) else tuple(slots)
            kind = types.MemberDescriptorType
            members = {
                key: member for key, member in members.items() if not isinstance(member, kind)
            }
            members = models.without_compiled(members)
        state = (members, more)
        return make, (metaclass, name, bases, names, *rest), state, None, None, set_state

    def enum(self, value: Any) -> Any:
        """Return the reduced form of an enumeration that has no name."""
        names = {"__module__": value.__module__, "__qualname__": value.__qualname__}
        tracker = cloud()._get_or_create_tracker_id(value)
        bases = value.__bases__
        how = (type(value), value.__name__, bases, names, tracker, bases)
        state: Any = (enums.attributes(value), {})
        return image.make_class, how, state, None, None, image.set_class_state


def _as_inherited(value: Any) -> Dict[str, Any]:
    """Return the members of a class that a base has, too, which cloudpickle leaves out."""
    return {
        name: attribute
        for name, attribute in vars(value).items()
        if name not in ("__slots__", "__dict__", "__weakref__")
        and any(vars(base).get(name, _MISSING) is attribute for base in value.__mro__[1:])
    }


def _is_plain(value: Any) -> bool:
    """Return whether nothing else influences how a class is made."""
    return (
        type(value) is type
        and isinstance(value.__init_subclass__, types.BuiltinFunctionType)
        and "__slots__" not in vars(value)
    )


def _attributes(value: Any) -> Dict[str, Any]:
    return {name: attribute for name, attribute in vars(value).items() if name != "__wrapped__"}


def with_room(function: Any, *arguments: Any) -> Any:
    """Call a function that pickles; call it again on an empty stack if the nesting is too deep."""
    try:
        return function(*arguments)
    except TooDeep:
        import threading  # noqa: F401  (it takes the thread that imports it for the main one)

        outcome: List[Any] = []
        done = _thread.allocate_lock()

        def call() -> None:
            try:
                outcome.append((function(*arguments), None))
            except BaseException as error:
                outcome.append((None, error))
            finally:
                done.release()

        done.acquire()
        _thread.start_new_thread(call, ())
        done.acquire()
        value, error = outcome.pop()
        if error is not None:
            raise error from None
        return value


def dumps(value: Any) -> bytes:
    """Return the pickle of a value, in one piece."""
    file = io.BytesIO()
    Pickler(file, PROTOCOL).dump(value)
    return file.getvalue()


def try_to_load(pickled: Pickled, value: Any) -> None:
    """Raise `pickle.PicklingError` for a pickle that cannot be read."""
    if pickled.files:
        return  # it is read where these have arrived
    try:
        pickle.loads(pickled.payload, buffers=pickled.buffers)
    except ImportError:
        return  # where it is read there may be other modules
    except Exception as error:
        raise pickle.PicklingError(
            "its pickle cannot be read: %s: %s%s" % (type(error).__name__, error, _hint(value))
        ) from error


def _hint(value: Any) -> str:
    if isinstance(value, BaseException):
        return (
            "; give all arguments of %s to super().__init__(), or define __reduce__"
            % type(value).__name__
        )
    return ""
