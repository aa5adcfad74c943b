"""The image of the user's modules, from which jobs restore their state at submit.

A run has one image. For each of the user's modules that its functions reach it holds the source,
and *pieces*: pickles of what the module's names meant. A module of the image is one module object,
under its own name. Its names are made when they are needed: from a piece, or else from the
statements in its source that bind them.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import importlib.machinery
import io
import linecache
import os
import pickle
import sys
import types
from _thread import RLock
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from .. import layout
from . import models

if TYPE_CHECKING:
    from ..formats.image import Envelope, Functions, ImageContent, ModuleEntry


__all__ = [
    "Image",
    "Module",
    "cached",
    "enter",
    "make_class",
    "make_code",
    "new_member",
    "set_class_state",
]

Name = Tuple[str, str]
"""A module, and one of its names."""


def __getattr__(name: str) -> Any:
    """Return an attribute that pickles of paths refer to, imported only when needed."""
    if name == "arrived":
        from ..files.paths import arrived

        return arrived
    raise AttributeError(name)


_PACKAGE = "htdag"
_VARIABLE = "HTDAG_CODE"  # tells processes that a function starts where the image is
_SPAWNED = __package__.rpartition(".")[0] + ".api.spawned" if __package__ else ""


def _known_as(thing: Any) -> Any:
    """Give something the name in pickles that it has in jobs and wherever runs are read."""
    thing.__module__ = _PACKAGE
    thing.__qualname__ = "_image." + thing.__name__
    return thing


# What pickles refer to


@_known_as
def make_code(*parts: Any) -> types.CodeType:
    """Return a code object, whose type has no name that pickle could use."""
    return types.CodeType(*parts)


@_known_as
def make_function(
    code: types.CodeType, module: str, closure: Any, image: Optional["Image"] = None
) -> Any:
    """Return a function without its state, which looks its variables up in a module.

    Without an image, the function came with a value, and the names that it uses are made now.
    """
    try:
        names: Dict[str, Any] = vars(_imported(module) if image is None else image.module(module))
    except ImportError:
        if code.co_names:
            raise
        names = {"__name__": module}  # it can do without
    loader = names.get("__loader__")
    if image is None and isinstance(loader, Loader):
        loader.image.bring(module, code)
    return types.FunctionType(code, names, None, None, closure)


def _imported(module: str) -> Any:
    if module not in sys.modules:
        importlib.import_module(module)
    return sys.modules[module]


def _absent(error: BaseException) -> Any:
    """Return a placeholder for something that cannot be restored; using it raises the reason."""
    from .absent import Absent  # it takes time, which most jobs need not spend

    return Absent(error)


@_known_as
def set_function_state(function: Any, state: Any) -> None:
    """Set a function's defaults, the values of its closure, and so on."""
    attributes, slots = state
    vars(function).update(attributes)
    del slots["__globals__"], slots["_cloudpickle_submodules"]
    for number, cell in enumerate(slots.pop("__closure__") or ()):
        try:
            function.__closure__[number].cell_contents = cell.cell_contents
        except ValueError:
            continue  # it is empty
    for name, value in slots.items():
        setattr(function, name, value)


@_known_as
def cached(function: Any, parameters: Dict[str, Any], attributes: Dict[str, Any]) -> Any:
    """Return a function with an empty cache of its own."""
    made = functools.lru_cache(parameters["maxsize"], parameters["typed"])(function)
    vars(made).update(attributes)
    return made


@contextlib.contextmanager
def _quiet(bases: Any, module: Any, name: Any) -> Iterator[None]:
    """Keep base classes from acting on a certain subclass, as they did when it was defined.

    Modules that are imported meanwhile may define other classes, on which they do act.
    """
    hooked = {kind for base in bases for kind in base.__mro__ if "__init_subclass__" in vars(kind)}
    before = {
        kind: vars(kind)["__init_subclass__"] for kind in hooked if kind.__flags__ & _CAN_CHANGE
    }

    def passing(own: Any) -> Any:
        def act(*given: Any, **options: Any) -> None:
            (cls,) = given
            if (cls.__module__, cls.__qualname__) != (module, name):
                own.__get__(None, cls)(**options)

        return classmethod(act)

    try:
        for kind, own in before.items():
            type.__setattr__(kind, "__init_subclass__", passing(own))
        yield
    finally:
        for kind, own in before.items():
            type.__setattr__(kind, "__init_subclass__", own)


_CAN_CHANGE = 1 << 9  # a flag of classes that are made by Python code


@_known_as
def make_class(
    metaclass: Any, name: str, bases: Any, names: Dict[str, Any], tracker: Any, written: Any
) -> Any:
    """Return a class without members, without the actions of its metaclass and bases on it."""
    from cloudpickle import cloudpickle

    names = {sys.intern(key): value for key, value in names.items()}
    makers = (kind.__new__ for kind in metaclass.__mro__ if "__new__" in vars(kind))
    make = next(each for each in makers if _is_installed(each) and not _acts(each))
    try:
        with _quiet(bases, names.get("__module__"), names.get("__qualname__", name)):
            made = make(metaclass, name, bases, dict(names))
    except TypeError:
        # As for typing.TypedDict: made of what was written as its bases.
        return cloudpickle._make_skeleton_class(metaclass, name, written, names, tracker, None)
    return cloudpickle._lookup_class_or_track(tracker, made)


@_known_as
def set_class_state(kind: Any, state: Any) -> Any:
    """Set the members of a class, bypassing its metaclass."""
    members, _ = state
    if "_member_map_" in vars(kind):
        return kind  # an enumeration that came before, with members that others may hold
    registered = members.pop("_abc_impl", ())
    setters = (vars(each).get("__setattr__") for each in type(kind).__mro__)
    put = next(each for each in setters if each and _is_installed(each) and not _acts(each))
    for name, value in members.items():
        put(kind, name, value)
    if "__firstlineno__" in members:  # which the others have made Python forget
        put(kind, "__firstlineno__", members["__firstlineno__"])
    for subclass in registered:
        kind.register(subclass)
    models.complete(kind, members)
    return kind


@_known_as
def new_member(kind: Any, name: str, base: Any, arguments: Any) -> Any:
    """Return a member of an enumeration, even one that is not complete yet."""
    member = vars(kind).get("_member_map_", {}).get(name)
    return base.__new__(kind, *arguments) if member is None else member


def _acts(function: Any) -> bool:
    """Return whether a method of a metaclass acts on the members of a class."""
    module = str(getattr(function, "__module__", "")).partition(".")[0]
    return module in ("enum", "typing", "typing_extensions", "pydantic")


def _is_installed(function: Any) -> bool:
    if not isinstance(function, types.FunctionType):
        return True  # in C
    module = sys.modules.get(function.__module__)
    return not isinstance(module, Module) and function.__module__ != "__main__"


# Modules


class Module(types.ModuleType):
    """A module of the image, whose names are made on demand."""

    def __getattr__(self, name: str) -> Any:
        loader = self.__dict__.get("__loader__")
        if isinstance(loader, Loader):
            return loader.image.attribute(self.__dict__["__name__"], name)
        raise AttributeError("module %r has no attribute %r" % (self.__name__, name))

    def __dir__(self) -> List[str]:
        names = set(self.__dict__)
        loader = self.__dict__.get("__loader__")
        if isinstance(loader, Loader):
            names.update(loader.image.names(self.__name__))
        return sorted(names)


class Loader:
    """A finder and loader in one, without importlib.abc, which takes long to import."""

    def __init__(self, image: "Image") -> None:
        self.image = image

    def find_spec(
        self, name: str, path: Optional[Sequence[str]] = None, target: Any = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        """Return the spec of a module of the image."""
        return self.image.spec(name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        """Return the module object."""
        return self.image.blank(spec.name)

    def exec_module(self, module: Any) -> None:
        """Execute a module that was not loaded at submit; names of others are made on demand."""
        self.image.execute(module)

    def get_source(self, name: str) -> Optional[str]:
        """Return the source of a module, as text."""
        source = self.image.modules[name]["source"]
        return None if source is None else decoded(source)

    def get_filename(self, name: str) -> str:
        """Return the file of a module."""
        return self.image.modules[name]["file"]

    def is_package(self, name: str) -> bool:
        """Return whether a module is a package."""
        return self.image.modules[name]["path"] is not None

    def get_code(self, name: str) -> Any:
        """Return the code of a module."""
        entry = self.image.modules[name]
        return None if entry["source"] is None else compile(entry["source"], entry["file"], "exec")

    def get_data(self, path: str) -> bytes:
        """Return the content of a file of a package."""
        with open(path, "rb") as file:
            return file.read()

    def get_resource_reader(self, name: str) -> Any:
        """Return the reader of the files of a package."""
        from importlib.readers import FileReader

        if not self.is_package(name):
            return None
        located: Any = types.SimpleNamespace()
        located.path = os.path.join(self.image.folder(name), "__init__.py")
        return FileReader(located)


def _loader(image: "Image") -> Any:
    return Loader(image)


class MainSpec(importlib.machinery.ModuleSpec):
    """The spec of the script, with which processes started by multiprocessing restore it."""

    package = ""

    @property
    def parent(self) -> str:
        """The package to which relative imports refer."""
        return self.package


def decoded(source: bytes) -> str:
    """Return a source as text, in the encoding that it names."""
    from importlib.util import decode_source

    try:
        return str(decode_source(source))
    except (SyntaxError, UnicodeDecodeError, LookupError):
        return source.decode("utf-8", "replace")


class _Lines(Sequence[str]):
    """The lines of a source, decoded on demand."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._lines: Optional[List[str]] = None

    def _read(self) -> List[str]:
        if self._lines is None:
            self._lines = decoded(self._source).splitlines(True)
        return self._lines

    def __len__(self) -> int:
        return len(self._read())

    def __getitem__(self, which: Any) -> Any:
        return self._read()[which]


# The image


class _NotYet(Exception):
    """A group of pieces, or a name, is needed while it is still being made.

    Parameters
    ----------
    what : int or tuple of str
        The group or name that is being made.
    named : str
        Its description in messages.
    """

    def __init__(self, what: Any, named: str) -> None:
        super().__init__("%s is needed before it is made" % named)
        self.what = what


class Image:
    """The user's modules of a run, in the process that uses them.

    Parameters
    ----------
    root : str
        The run directory, or the copy of what a job needs of it.
    content : dict
        What `htdag.functions.image` wrote: ``modules``, ``pieces``, ``groups``, ``needs``,
        ``refused``, ``registered`` and ``cells``.
    scratch : str
        A folder for files that modules need on disk.
    """

    def __init__(self, root: str, content: ImageContent, scratch: str = "") -> None:
        self.root = root
        self.modules = content["modules"]
        self._pieces = content["pieces"]
        self._groups = content["groups"]
        self._needs = content["needs"]
        self._refused = content["refused"]
        self._cells = content["cells"]
        self._registered = content.get("registered", [])
        self._new: Set[Optional[Name]] = set()  # made, and not yet told to `copyreg`
        self._scratch = scratch
        self._loader = self._finder = _loader(self)
        self._own: Dict[str, Any] = {}  # its modules, by name
        self._installed = False
        # Of groups, and of names that statements bind: True in the making, values, an error.
        self._state: Dict[Any, Any] = {}
        self._postponed: Dict[Name, None] = {}
        self._waiting: Dict[Any, int] = {}  # for a group or name: what was being made then
        self._depth = 0
        self._lock = RLock()
        self._sources: Dict[str, Any] = {}
        self._making: List[int] = []
        self._unchanged: Dict[Name, None] = {}  # names, without what changes their values later

    @classmethod
    def read(cls, root: str, scratch: str = "") -> "Image":
        """Read the image of a run directory."""
        path = os.path.join(root, layout.IMAGE)
        try:
            with open(path, "rb", opener=layout.unblocked) as file:
                content: ImageContent = pickle.load(file)
        except (pickle.UnpicklingError, EOFError, ValueError, LookupError) as error:
            raise layout.DamagedFile(path, "it holds no modules (%s)" % error) from error
        return cls(root, content, scratch)

    def install(self) -> None:
        """Install its modules in this process, including the script."""
        self._installed = True
        for name in self.modules:
            sys.modules.pop(
                name, None
            )  # what is installed under the name of a module of the user's
        sys.meta_path.insert(0, self._finder)
        for file, source in self._cells.items():
            self._show(file, source)
        for entry in self.modules.values():
            if entry["source"] is not None:
                self._show(entry["file"], entry["source"])
        sys.modules["__main__"] = self.module("__main__")

    @staticmethod
    def _show(file: str, source: bytes) -> None:
        """Make a source available to tracebacks."""
        lines: Any = _Lines(source)
        linecache.cache[file] = (len(source), None, lines, file)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Install its modules in this process for the duration of a block."""
        before = {name: sys.modules.get(name) for name in self.modules}
        self.install()
        try:
            yield
        finally:
            self._installed = False
            sys.meta_path.remove(self._finder)
            for name, module in before.items():
                sys.modules.pop(name, None)
                if module is not None:
                    sys.modules[name] = module

    # Modules

    def __contains__(self, name: str) -> bool:
        return name in self.modules

    def module(self, name: str) -> Any:
        """Return a module of the image, or one that is installed."""
        loaded = self._own.get(name)
        if loaded is not None:
            return loaded
        if name in self.modules and (name == "__main__" or not self._installed):
            return self._made(name)
        return _imported(name)

    def _made(self, name: str) -> Any:
        """Make a module and the packages that it is in, without installing them."""
        parent, _, last = name.rpartition(".")
        spec: Any = self.spec(name)
        module = self.blank(name)
        module.__spec__ = spec
        module.__loader__ = self._loader
        module.__package__ = spec.parent
        if spec.origin is not None:
            module.__file__ = spec.origin
        if spec.submodule_search_locations is not None:
            module.__path__ = spec.submodule_search_locations
        self.execute(module)
        if parent in self.modules:
            setattr(self.module(parent), last, module)
        return module

    def blank(self, name: str) -> Any:
        """Return a new module object."""
        entry = self.modules[name]
        if entry["binary"] is not None:
            return None
        module = Module(name, entry["doc"])
        vars(module)["__builtins__"] = vars(builtins)  # what is written in C imports by way of it
        self._own[name] = module
        return module

    def spec(self, name: str) -> Optional[importlib.machinery.ModuleSpec]:
        """Return the spec of a module of the image; None for other modules."""
        entry = self.modules.get(name)
        if entry is None:
            return None
        if entry["binary"] is not None:
            binary: importlib.machinery.ModuleSpec = self._of_binary(name, entry, entry["binary"])
            return binary
        loader: Any = self._loader
        if name == "__main__":
            spec: Any = MainSpec(_SPAWNED, loader, origin=self._located(name, entry))
            spec.package = entry["package"]
            main: importlib.machinery.ModuleSpec = spec
            return main
        origin = self._located(name, entry)
        module_spec = importlib.machinery.ModuleSpec(name, loader, origin=origin)
        module_spec.has_location = origin is not None
        if entry["path"] is not None:
            module_spec.submodule_search_locations = (
                [os.path.dirname(origin)]
                if origin is not None and origin != entry["file"]
                else list(entry["path"])
            )
        return module_spec

    def _located(self, name: str, entry: ModuleEntry) -> Optional[str]:
        """Return the file of a module: its own, or a copy if it asks for files beside it."""
        file: Optional[str] = entry["file"]
        top = self.modules.get(name.partition(".")[0], entry)
        if file is None or file.startswith("<"):
            return None
        if top["data"] == b"" or os.path.exists(file):
            return file
        package = name if entry["path"] is not None else entry["package"]
        return os.path.join(self.folder(package), os.path.basename(file))

    def folder(self, package: str) -> str:
        """Return the folder of a package with its files in it."""
        top, _, inner = package.partition(".")
        entry = self.modules[top]
        for own in self.modules[package]["path"] or ():
            if entry["data"] == b"" or os.path.isdir(own):
                return str(own)
        folder = os.path.join(self._place(), top)
        if not os.path.isdir(folder):
            self._unpack(entry, folder)
        return os.path.join(folder, *inner.split(".")) if inner else folder

    def _unpack(self, entry: ModuleEntry, folder: str) -> None:
        data = entry["data"]
        if data is None:
            raise pickle.PicklingError(
                "the package %s asks for files beside its modules, and there are too many of them "
                "to travel by themselves; give the stages that need them input_files"
                % entry["name"]
            )
        if isinstance(data, str):
            with open(os.path.join(self.root, data), "rb") as opened:
                data = opened.read()
        aside = "%s.%d" % (folder, os.getpid())
        for within, content in pickle.loads(data).items():
            path = os.path.join(aside, within)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)
        try:
            os.rename(aside, folder)
        except OSError:
            if not os.path.isdir(folder):
                raise

    def _place(self) -> str:
        if not self._scratch:
            import tempfile

            self._scratch = tempfile.mkdtemp(prefix="htdag-code-")
        return self._scratch

    def _of_binary(self, name: str, entry: ModuleEntry, content: bytes) -> Any:
        """Return the spec of a compiled module."""
        from importlib.util import spec_from_file_location

        path = entry["file"]
        if not os.path.exists(path):
            path = os.path.join(self._place(), "binary", *name.split("."), os.path.basename(path))
            if not os.path.exists(path):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                layout.write_aside(path, content, sync=False)
        return spec_from_file_location(name, path)

    def execute(self, module: Any) -> None:
        """Execute a module that was not loaded at submit."""
        name = module.__name__
        entry = self.modules[name]
        vars(module).update(entry["given"])
        if entry["loaded"]:
            return
        if entry["compiled"] is not None:
            import marshal

            exec(marshal.loads(entry["compiled"]), vars(module))
        elif entry["source"] is not None:
            self._complete_for_stars(name, entry, entry["source"])
            exec(compile(entry["source"], entry["file"], "exec"), vars(module))

    def _complete_for_stars(self, name: str, entry: ModuleEntry, source: bytes) -> None:
        if b"import *" not in source:
            return
        from .statements import starred

        for other in starred(source, name if entry["path"] is not None else entry["package"]):
            if other in self.modules and self.modules[other]["loaded"]:
                self.complete(other)

    def complete(self, module: str) -> None:
        """Make all names of a module."""
        for name in self.names(module):
            try:
                getattr(self.module(module), name)
            except Exception:
                continue  # it says why when it is used

    def names(self, module: str) -> Iterator[str]:
        """Yield the names that a module has, made or not."""
        for owner, name in [*self._pieces, *self._refused]:
            if owner == module:
                yield name
        source = self._source(module)
        if source is not None:
            yield from source.names

    # Names

    def attribute(self, module: str, name: str) -> Any:
        """Return the value of a name of a module, and make it if necessary."""
        with self._lock:
            key = (module, name)
            loaded = self.module(module)
            group = self._pieces[key][0] if key in self._pieces else None
            # What is pickled by its name alone, such as a NewType, can only come from the source.
            if group is not None and (not self._making or self._making[-1] != group):
                self._load(group)
                return vars(loaded)[name]
            if key in self._refused:
                raise self._refusal(key)
            inner = "%s.%s" % (module, name)
            if inner in self.modules and self.modules[inner]["loaded"]:
                return self.module(inner)
            if self._from_source(module, name):
                self._finish()
                return vars(loaded)[name]
            if name != "__getattr__" and self._has(module, "__getattr__"):
                return self.attribute(module, "__getattr__")(name)
        raise AttributeError("module %r has no attribute %r" % (module, name))

    def _has(self, module: str, name: str) -> bool:
        if (module, name) in self._pieces:
            return True
        source = self.modules[module]["source"]
        return source is not None and name.encode() in source and name in self._source(module).names

    def _refusal(self, key: Name) -> Exception:
        kind, reason = self._refused[key]
        return pickle.PicklingError(
            "the variable %r of the module %s, a %s, did not travel to this job: %s; make it "
            "inside of the function instead" % (key[1], key[0], kind, reason)
        )

    def loads(self, data: bytes) -> Functions:
        """Unpickle what `htdag.functions.image` pickled for a node, with all that it needs."""
        envelope: Envelope = pickle.loads(data)
        with self._lock:
            self._depth += 1
            try:
                functions: Functions = _Unpickler(self, envelope["content"]).load()
                self._bring(envelope["needs"])
                self._new.add(None)
            finally:
                self._depth -= 1
            self._finish()
        return functions

    def bring(self, module: str, code: types.CodeType) -> None:
        """Make the names that a function uses which came with a value."""
        with self._lock:
            names, codes = set(code.co_names), [code]
            while codes:
                inner = [each for each in codes.pop().co_consts if isinstance(each, types.CodeType)]
                codes += inner
                names.update(*(each.co_names for each in inner))
            self._bring([(module, name) for name in names - set(vars(self.module(module)))])

    def _bring(self, names: Sequence[Name]) -> None:
        """Make names that functions use when they run: until then errors do no harm."""
        for key in names:
            module, name = key
            namespace = vars(self.module(module))
            if key in self._refused:
                namespace.setdefault(name, _absent(self._refusal(key)))
                continue
            group = self._pieces[key][0] if key in self._pieces else None
            try:
                if group is None and (name not in namespace or key in self._unchanged):
                    self._check_waiting(key)
                    self._from_source(module, name)
                elif group is not None and group not in self._state:
                    self._load(group)
            except _NotYet as error:
                self._waiting[key] = error.what
                self._postponed[key] = None
            except Exception as error:
                if group is None:
                    namespace[name] = _absent(error)
                else:
                    self._give_up(group, error)

    def _give_up(self, group: int, error: Exception) -> None:
        """Replace names that cannot be made by placeholders that raise the reason."""
        self._state[group] = error
        for (module, name), _ in self._pieces_of(group):
            vars(self.module(module)).setdefault(name, _absent(error))

    def _load(self, group: int) -> Any:
        """Make a group of names, and return their values."""
        state = self._state.get(group)
        if isinstance(state, tuple):
            return state
        if isinstance(state, Exception):
            raise state
        if state is not None:
            raise self._not_yet(group)
        self._check_waiting(group)
        self._state[group] = True
        self._making.append(group)
        self._depth += 1
        try:
            data = self._groups[group]
            if isinstance(data, str):
                with open(os.path.join(self.root, data), "rb") as file:
                    data = file.read()
            values = _Unpickler(self, data).load()
        except BaseException as error:
            del self._state[group]
            if isinstance(error, _NotYet):
                self._waiting[group] = error.what
            raise
        finally:
            self._depth -= 1
            self._making.pop()
        self._state[group] = values
        self._groups[group] = None
        for (module, name), (_, position) in self._pieces_of(group):
            vars(self.module(module))[name] = values[position]
        self._depth += 1
        try:
            self._bring(self._needs[group])
            self._new.update(key for key, _ in self._pieces_of(group))
        finally:
            self._depth -= 1
        self._finish()
        return values

    def _register(self) -> None:
        """Register reducers of the script's classes with `copyreg`, those made since last time."""
        new, self._new = self._new, set()
        for name, data, needs in self._registered:
            if (name and (name[0], name[1].partition(".")[0])) in new:
                import copyreg

                with contextlib.suppress(ImportError):
                    copyreg.pickle(*_Unpickler(self, data).load())
                    self._bring(needs)

    def _check_waiting(self, what: Any) -> None:
        """Raise `_NotYet` for what still waits, rather than begin with it once more."""
        other = self._waiting.get(what)
        if other is not None and self._state.get(other) is True:
            raise self._not_yet(other)

    def _not_yet(self, what: Any) -> _NotYet:
        names = [what] if isinstance(what, tuple) else [key for key, _ in self._pieces_of(what)]
        return _NotYet(what, " and ".join(map(".".join, names)))

    def _pieces_of(self, group: int) -> Any:
        if not hasattr(self, "_by_group"):
            self._by_group: Dict[int, List[Any]] = {}
            for item in self._pieces.items():
                self._by_group.setdefault(item[1][0], []).append(item)
        return self._by_group.get(group, ())

    def _finish(self) -> None:
        while not self._depth and self._postponed:
            left, self._postponed = self._postponed, {}
            self._bring(list(left))
            if self._postponed == left:
                self._postponed = {}
                for key in left:
                    module, name = key
                    error = pickle.PicklingError(
                        "the variable %r of the module %s cannot be made in this job, since "
                        "making it needs it already: %s; make it inside of the function instead"
                        % (name, module, self._not_yet(self._waiting[key]))
                    )
                    namespace = vars(self.module(module))
                    if name not in namespace or key in self._unchanged:
                        namespace[name] = _absent(error)
        if not self._depth and self._registered:
            self._register()

    def found(self, module: str, name: str) -> Any:
        """Return the object that a pickle refers to by a qualified name."""
        value: Any = self.module(module)
        for part in name.split("."):
            value = getattr(value, part)
        return value

    # From the source

    def _source(self, module: str) -> Any:
        if module not in self._sources:
            source = self.modules[module]["source"] if module in self.modules else None
            if source is None:
                self._sources[module] = None
            else:
                from .statements import Statements

                self._sources[module] = Statements(source, self.modules[module]["file"])
        return self._sources[module]

    def _from_source(self, module: str, name: str) -> bool:
        """Make a name by the statements that bind it, and return whether any does."""
        entry = self.modules[module]
        if entry["source"] is None or not entry["loaded"]:
            return False
        if name.startswith("__") and name.encode() not in entry["source"]:
            return False  # Python asks for many of these, and to read the source takes time
        source = self._source(module)
        namespace = vars(self.module(module))
        if name not in source.names:
            return self._by_star(module, name, source)
        key = (module, name)
        if self._state.get(key) is True:
            raise self._not_yet(key)
        self._depth += 1
        try:
            if name not in namespace:
                self._state[key] = True
                try:
                    self._execute(module, name, changes=False)
                finally:
                    del self._state[key]
                self._unchanged[key] = None
            self._change(module, name)
        finally:
            self._depth -= 1
        return name in namespace

    def _change(self, module: str, name: str) -> None:
        """Execute the statements that change the value of a name, if necessary later."""
        key = (module, name)
        try:
            self._execute(module, name, changes=True)
        except _NotYet as error:
            self._waiting[key] = error.what
            self._postponed[key] = None
            return
        except Exception:
            vars(self.module(module)).pop(name, None)
            raise
        self._unchanged.pop(key, None)

    def _execute(self, module: str, name: str, *, changes: bool) -> None:
        """Execute the statements that bind a name, or also those that change its value."""
        source = self._source(module)
        namespace = vars(self.module(module))

        def is_there(other: str) -> bool:
            if other in namespace:
                return True
            key = (module, other)
            if key in self._pieces or key in self._refused:
                self._bring([key])
                if other not in namespace:
                    group = self._pieces[key][0]
                    raise self._not_yet(group if group in self._state else self._waiting[key])
            elif self._state.get(key) is True:
                raise self._not_yet(key)
            elif other not in source.names and not hasattr(builtins, other):
                self._by_star(module, other, source)
            return other in namespace

        statements = source.needed(name, is_there, changes=changes)
        later = set().union(*(statement.later for statement in statements)) & source.names
        names = [(module, other) for other in sorted(later)]
        bound = {(module, other) for statement in statements for other in statement.names}
        new = {key for key in bound if key[1] not in namespace and key not in self._state}
        self._state.update(dict.fromkeys(new, True))
        left = list(statements)
        try:
            self._bring([key for key in names if key[1] not in namespace and key not in bound])
            before = {key: value for key, value in namespace.items() if key != name or changes}
            while left:
                exec(left[0].code, namespace)
                namespace.update({key: before[key] for key in left[0].names & before.keys()})
                del left[0]
        finally:
            source.give_back(left)
            for key in new:
                self._state.pop(key, None)

    def _by_star(self, module: str, name: str, source: Any) -> bool:
        for other in source.starred(self.modules[module]):
            try:
                value = getattr(self.module(other), name)
            except (AttributeError, ImportError):
                continue
            vars(self.module(module))[name] = value
            return True
        return False


class _Unpickler(pickle.Unpickler):
    """The unpickler of what `htdag.functions.image` pickled."""

    def __init__(self, image: Image, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._image = image

    def persistent_load(self, pid: Any) -> Any:
        module, name, within = pid
        if within is not None:
            return os.path.join(self._image.folder(module), within)
        return self._image.found(module, name) if name else self._image.module(module)

    def find_class(self, module: str, name: str) -> Any:
        if module in self._image:
            return self._image.found(module, name)
        if (module, name) == (_PACKAGE, make_function.__qualname__):
            return functools.partial(make_function, image=self._image)
        return super().find_class(module, name)


# Jobs, and processes that their functions start


_NOT_THE_USERS = frozenset({"cloudpickle", *getattr(sys, "stdlib_module_names", ())})


def enter(root: str, payload: str, scratch: str) -> Functions:
    """Install the image in this process, and return the content of a payload.

    Parameters
    ----------
    root : str
        The run directory, or the copy of what a job needs of it.
    payload : str
        A file that `htdag.functions.image` pickled.
    scratch : str
        A folder for files that have to lie somewhere.
    """
    os.environ[_VARIABLE] = os.pathsep.join((os.path.abspath(root), scratch))
    entered = Image.read(root, scratch)
    if not _NOT_THE_USERS.isdisjoint(entered.modules):
        from cloudpickle import cloudpickle  # noqa: F401 (while Python's own modules are found)
    entered.install()
    with open(payload, "rb") as file:
        return entered.loads(file.read())


def of_parent() -> Image:
    """Return the image of the job that started this process."""
    root, _, scratch = os.environ[_VARIABLE].partition(os.pathsep)
    return Image.read(root, scratch)
