"""Fingerprints of functions: digests of what they do, which are the same in every process.

A fingerprint covers all of the user's own project that a function reaches. Each function, class,
variable, module and package on the way is a *component* with its own digest, so that a change can
be reported by its name. The names of components do not include files, since a function may move to
another file. `htdag.functions.digests` decides what of code and values counts.

What cannot be followed is *unsure*, with a reason, and counts as changed.
"""

from __future__ import annotations

import builtins
import contextlib
import copyreg
import functools
import os
import pickle
import re
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from htdag.functions import calls, digests, mentions
from htdag.functions.digests import of_text
from htdag.functions.packages import packages_of
from htdag.functions.project import (
    file_of,
    is_installed_code,
    is_project_class,
    is_project_function,
    is_project_module,
)
from htdag.functions.reach import reach, used_names
from htdag.options.transfer import file_state
from htdag.runtime.api.current import current
from htdag.runtime.code import odd

if TYPE_CHECKING:
    from htdag.runtime.formats.identity import FingerprintEntry


ITSELF = "its function"
"""The component of the function's own code."""


@dataclass
class Fingerprint:
    """The components of a function or a value.

    Attributes
    ----------
    components : dict of str to str
        The digest of each component, by its name, such as ``"helper parse"``.
    places : dict of str to str
        The file of each component that has one.
    unsure : dict of str to str
        The components without a digest, with the reasons: they count as changed.
    asks_key : bool
        Whether it may ask for the key of its item, by `htdag.current` or a variable ``HTDAG_...``.
    classes : tuple of type
        The classes of the user's project that it reaches.
    """

    components: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    unsure: dict[str, str] = field(default_factory=dict)
    asks_key: bool = False
    classes: tuple[type, ...] = ()

    def digest(self) -> str:
        """Return a digest of all components; a new random one if some are unsure."""
        if self.unsure:
            return os.urandom(16).hex()
        return of_text(sorted(self.components.items()))

    def content(self) -> FingerprintEntry:
        """Return the parts that are compared and reported, as in ``identity.json``."""
        return {
            "components": dict(sorted(self.components.items())),
            "places": dict(sorted(self.places.items())),
            "unsure": dict(sorted(self.unsure.items())),
        }


Memo = dict[int, tuple[Any, digests.ValueDigest, mentions.Found]]
"""By identity: values without code in them, their digests, and the names that they mention."""


def of_function(function: Any, memo: Memo | None = None) -> Fingerprint:
    """Return the fingerprint of a function, or of a callable object.

    Several fingerprints can share the digests of values in a `memo`.

    Examples
    --------
    >>> of_function(lambda x: x + 1).components == of_function(lambda x: x + 1).components
    True
    >>> of_function(lambda x: x + 1).components == of_function(lambda x: x + 2).components
    False
    """
    walk = _Walk(memo)
    walk.root(function)
    walk.imports([function])
    return walk.done()


def of_value(value: Any, what: str, memo: Memo | None = None) -> Fingerprint:
    """Return the fingerprint of a value; `what` is its name."""
    walk = _Walk(memo)
    walk.data(what, value)
    walk.imports([value])
    return walk.done()


def of_kind(kind: Any, memo: Memo | None = None) -> Fingerprint:
    """Return the fingerprint of a class or function that items refer to by name."""
    walk = _Walk(memo)
    walk.reference(kind)
    walk.imports([kind])
    return walk.done()


def of_imports(functions: Iterable[Any]) -> dict[str, str]:
    """Return digests of the modules and packages that functions import when they run."""
    walk = _Walk(None)
    walk.imports(functions)
    fingerprint = walk.done()
    parts = (label.partition(" ") for label in fingerprint.components)
    return {
        name: fingerprint.components[f"{kind} {name}"]
        for kind, _, name in parts
        if kind in ("module", "package")
    }


def of_item(item: Any) -> bytes | None:
    """Return a digest of an item by its content; None if that is impossible.

    Classes of the user's project count only by their names.
    """
    try:
        return digests.of_value(item, _by_name).raw()[:16]
    except Exception:
        return None


def _by_name(value: Any) -> Any:
    if _is(value, type):
        return ("class", value.__module__, value.__qualname__)
    if _is(value, types.FunctionType | types.ModuleType):
        raise pickle.PicklingError("code among the data")
    return None


class _Walk:
    """A walk over all that a function reaches, which collects components."""

    def __init__(self, memo: Memo | None) -> None:
        self._memo: Memo = {} if memo is None else memo
        self._found: dict[str, list[str]] = {}
        self._places: dict[str, str] = {}
        self._unsure: dict[str, str] = {}
        self._queue: list[tuple[str, Any]] = []
        self._labels: dict[Any, str] = {}
        self._taken: set[str] = set()
        self._kept: list[Any] = []  # keeps objects alive, so that their ids stay unique
        self._names: set[str] = set()
        self._modules: dict[int, types.ModuleType] = {}
        self._whole: set[int] = set()  # modules of which any name may be used
        self._looked_up: set[tuple[int, str]] = set()
        self._annotated: set[int] = set()
        self._any_name = False  # whether any name of any module may be used
        self._asks_key = False
        self._references = 0
        self._scopes: dict[int, tuple[dict[str, Any], str]] = {}  # namespaces of code, with files
        self._own_names = mentions.own_names()
        self._variables: set[str] = set()  # words after an @ in strings
        self._words: set[str] = set()  # words that may be names in mentioned modules
        self._texts: list[str] = []  # strings that may be expressions
        self._named: set[mentions.Mention] = set()
        self._unloaded_modules: set[str] = set()  # mentioned, not loaded, and followed
        self._mentioned_modules: set[int] = set()  # mentioned and loaded
        self._joins = False  # whether code joins a module's name with other names

    # The result.

    def done(self) -> Fingerprint:
        """Follow all that remains, and return the fingerprint."""
        self._reducers()
        self._follow_all()
        self._follow_aspects()
        self._follow_all()
        components = {label: of_text(*parts) for label, parts in self._found.items()}
        places = {label: place for label, place in self._places.items() if label in components}
        classes = tuple(value for value in self._kept if self._is_class(value))
        return Fingerprint(components, places, self._unsure, self._asks_key, classes)

    def _is_class(self, value: Any) -> bool:
        return id(value) in self._labels and issubclass(type(value), type)

    def _follow_all(self) -> None:
        while self._queue or self._look_up():
            while self._queue:
                label, value = self._queue.pop()
                if _is(value, type):
                    self._class(label, value)
                else:
                    self._function(label, value)

    def note(self, label: str, *parts: Any) -> None:
        """Add to the digest of a component."""
        self._found.setdefault(label, []).append(of_text(*parts))

    def root(self, function: Any) -> None:
        """Follow the function that the fingerprint is of."""
        if _is(function, types.FunctionType) and is_project_function(function):
            self._follow(function, ITSELF, "")
        else:
            self.data(ITSELF, function)

    def data(self, label: str, value: Any, place: str = "") -> None:
        """Add a value: follow the code in it, and digest the rest by its pickle."""
        try:
            value_digest, mentioned = self._digest_of(value)
        except Exception as error:
            kind = type(value).__name__
            self._unsure[label] = f"a {kind} cannot be compared with an earlier one ({error})"
            return
        self._asks_key = self._asks_key or value_digest.names_variables
        self.note(label, value_digest.text())
        self._places.setdefault(label, place)
        self._add_mentions(mentioned)

    def _digest_of(self, value: Any) -> tuple[digests.ValueDigest, mentions.Found]:
        """Return the digest of a value; without code in it, it is shared by the memo."""
        cached = self._memo.get(id(value))
        if cached is not None:
            return cached[1:]
        before = self._references
        value_digest = digests.of_value(value, self.reference, self._reduced)
        mentioned = self._own_names.find(value_digest.texts)
        value_digest.texts = []
        if self._references == before:
            self._memo[id(value)] = value, value_digest, mentioned
        return value_digest, mentioned

    def _add_mentions(self, mentioned: mentions.Found) -> None:
        """Add names in strings to those to be followed."""
        self._named |= mentioned.mentions
        self._variables |= mentioned.variables
        self._words |= mentioned.words
        self._texts.append(mentioned.text)

    def _reducers(self) -> None:
        """Add the user's reducers in `copyreg`, since any function may return their objects."""
        table: dict[type, Any] = copyreg.dispatch_table
        for kind, reducer in list(table.items()):
            if _is(reducer, types.FunctionType):
                if is_project_function(reducer):
                    self.note(f"reducer of {kind.__qualname__}", self.reference(reducer))
            elif not _is(reducer, types.BuiltinFunctionType):
                self.data(f"reducer of {kind.__qualname__}", reducer)

    def imports(self, functions: Iterable[Any]) -> None:
        """Add the modules that functions import when they run, and the packages that they use."""
        roots = list(functions)
        reached = reach(roots)
        self._names |= reached.names - _OF_BODIES
        for name, module in sorted(reached.modules.items()):
            if module["importable"]:
                self._source(name, module["source"], module["file"])
        for package in packages_of(roots):
            attribute = getattr(sys.modules.get(package.module), "__version__", None)
            version = str(attribute) if isinstance(attribute, str) else ""
            self.note(f"package {package.module}", package.version, version)

    def _source(self, name: str, source: str | bytes, file: str) -> None:
        """Add a module that is imported when a function runs: its source and current content."""
        self._found[f"module {name}"] = [digests.of_source(source)]
        self._places[f"module {name}"] = os.path.basename(file)
        self._module(sys.modules.get(name))

    # The representation of code in the pickle of a value.

    def reference(self, value: Any) -> Any:
        """Return what represents code in the pickle of a value, and follow it; None for data."""
        reference = self._reference(value)
        self._references += reference is not None
        return reference

    def _reference(self, value: Any) -> Any:
        if issubclass(type(value), type):
            return self._class_reference(value)
        if _is(value, types.FunctionType):
            return self._function_reference(value)
        if _is(value, types.BuiltinFunctionType) and (
            value.__self__ is None or isinstance(value.__self__, types.ModuleType)
        ):
            return ("builtin", self._native(value.__module__), value.__qualname__)
        if _is(value, types.ModuleType):
            return ("module", self._module(value) or value.__name__)
        if _is(value, types.CodeType):
            self._names |= used_names(value)
            return ("code", digests.of_code(value))
        if str(type(value).__module__).startswith(_HANDLES):
            return ("of htdag", type(value).__qualname__)  # jobs do not have it
        if issubclass(type(value), Enum) and _is_own_class(type(value)):
            return ("member", self.reference(type(value)), value.name)
        return None

    def _class_reference(self, kind: type) -> Any:
        if _is_own_class(kind) and not _is_native(sys.modules.get(kind.__module__)):
            return ("class", self._follow(kind, f"class {_plain(kind)}", _class_file(kind)))
        name = (self._native(kind.__module__), kind.__qualname__)
        for attribute, value in _own_code(vars(kind)):  # put there by the user's code
            self.note(f"{attribute} of {kind.__qualname__}", self.reference(value))
        for registered in _registered(kind):
            if _is_own_class(registered):
                label = f"classes registered with {kind.__qualname__}"
                self.note(label, self.reference(registered))
        return ("class", *name)

    def _function_reference(self, function: types.FunctionType) -> Any:
        if function is current:
            self._asks_key = True
        if not is_project_function(function):
            name = (function.__module__, function.__qualname__)
            if not is_project_module(sys.modules.get(name[0])) and _find(*name) is function:
                return ("function", *name)
            label = f"{_plain(function)} of {_top(function.__globals__.get('__name__'))}"
            return ("function", self._follow(function, label, ""))
        label = f"helper {_plain(function)}"
        return ("function", self._follow(function, label, _code_file(function.__code__)))

    def _follow(self, value: Any, label: str, place: str) -> str:
        if id(value) not in self._labels:
            label = self._unique(id(value), label)
            self._places[label] = place
            self._kept.append(value)
            self._queue.append((label, value))
        return self._labels[id(value)]

    def _unique(self, key: Any, label: str) -> str:
        """Return a unique label for an object."""
        if key not in self._labels:
            number, tried = 1, label
            while tried in self._taken:
                number += 1
                tried = f"{label} ({number})"
            self._taken.add(tried)
            self._labels[key] = tried
        return self._labels[key]

    def _module(self, module: Any) -> str:
        """Register a module, so that names which code uses are followed; return its name or ""."""
        if not isinstance(module, types.ModuleType):
            return ""
        self._modules[id(module)] = module
        self._kept.append(module)
        name = self._native(module.__name__)
        return name if is_project_module(module) else ""

    def _native(self, name: str | None) -> str:
        """Return the name of a module; if it is native code of the user's, add its bytes."""
        module = sys.modules.get(str(name))
        if module is not None and _is_native(module):
            try:
                with open(str(module.__file__), "rb") as file:
                    self._references += 1
                    self._found[f"native module {name}"] = [digests.digest(file.read())]
            except OSError as error:
                self._unsure[f"native module {name}"] = f"its file cannot be read ({error})"
        return str(name)

    # Objects that pickle cannot handle, or handles by name.

    def _reduced(self, value: Any) -> Any:
        """Return what represents an object, in the form of ``__reduce__``."""
        kind = type(value)
        if kind in _PARTS:
            return _made, (kind, *_PARTS[kind](value))
        if _is(value, functools._lru_cache_wrapper):
            parameters = tuple(sorted(value.cache_parameters().items()))
            return _made, ("lru_cache", value.__wrapped__, parameters)
        names = vars(value) if kind.__dictoffset__ else {}
        if not _is_own_class(kind):
            self._native(kind.__module__)
            for part in list(names.values()):
                if _is(part, types.FunctionType) and is_project_function(part):
                    self._annotations(part)  # the object may read them
            inner = names.get("py_func")
            if _is(inner, types.FunctionType):  # it is compiled when it is called
                return _made, (kind, inner, repr(names.get("targetoptions")))
        reduced = odd.reduced(value)  # as it travels
        if reduced is not NotImplemented:
            return reduced
        try:
            reduce = copyreg.dispatch_table.get(kind)
            reduced = reduce(value) if reduce is not None else value.__reduce_ex__(5)
        except Exception:
            if not names:
                raise
            return _made, (kind, names)
        if isinstance(reduced, str):
            return _made, (kind, self._native(getattr(value, "__module__", None)), reduced)
        return reduced

    # Functions.

    def _function(self, label: str, function: types.FunctionType) -> None:
        is_own = is_project_function(function)
        code = function.__code__
        self.note(label, digests.of_code(code))
        place = self._places.get(label, "")
        names = used_names(code)
        self._names |= names
        if function.__defaults__ or function.__kwdefaults__:
            defaults = (function.__defaults__, function.__kwdefaults__)
            self.data(f"defaults of {label}", defaults, place)
        if vars(function) and "register" not in vars(function):
            self.data(f"attributes of {label}", vars(function), place)
        for name, value in _cells(function):
            inner = f"enclosing variable {name} of {label}"
            if name == "registry" and _is(value, Mapping):  # of `singledispatch`
                pairs = [(of_text(self.reference(k)), k, v) for k, v in value.items()]
                value = sorted(pairs, key=lambda pair: pair[0])
            elif not is_own and name in ("cache_token", "dispatch_cache"):
                continue
            if not is_own and _is(value, types.FunctionType) and is_project_function(value):
                self._annotations(value)
            self._variable(inner, value, "")
        if is_own:
            self._code_of(label, function)

    def _code_of(self, label: str, function: types.FunctionType) -> None:
        """Add the globals that a function uses, and names that are known only when it runs."""
        scope = function.__globals__
        uses = calls.uses_of(function.__code__)
        file = _scope_file(scope, function)
        for name in sorted(uses.globals | (uses.words & scope.keys())):
            if name in scope:
                if name not in _OF_MODULES:
                    self._global(scope, name, file)
            elif name in vars(builtins):
                for _, value in _own_code({name: vars(builtins)[name]}):
                    self._variable(f"builtin {name}", value, "")
        names = used_names(function.__code__)
        if {"htdag", "current"} <= names or any(map(_is_variable, names)):
            self._asks_key = True
        self._scopes[id(scope)] = scope, file
        self._kept.append(scope)
        self._add_mentions(self._own_names.find(uses.texts))
        self._joins = self._joins or any(
            isinstance(text, str) and _JOINS.fullmatch(text) for text in uses.texts
        )
        self._add_lookups(scope, file, names, uses)
        self._files_of(scope, names)
        for name in uses.made:
            if name not in vars(builtins) or name not in scope:
                self._unsure[f"{name} in {label}"] = _WHY.get(name, _WHY["import_module"])
        for name in sorted(uses.imported):
            module = sys.modules.get(name)
            if module is not None and is_project_module(module) and not _is_native(module):
                source = str(module.__file__)
                with contextlib.suppress(OSError), open(source, "rb") as opened:
                    self._source(name, opened.read(), source)

    def _files_of(self, scope: dict[str, Any], names: Set[str]) -> None:
        """Add the files in the package of a module whose code reads files next to it."""
        package = sys.modules.get(str(scope.get("__package__") or ""))
        if package is None or not is_project_module(package) or not hasattr(package, "__path__"):
            return
        label = f"files of package {package.__name__}"
        if label in self._found or not (names & _ASKS_FOR_FILES or _asks_for_files(scope)):
            return
        self._kept.append(package)
        self._found[label] = [of_text(list(_files_in(list(package.__path__))))]

    def _add_lookups(
        self, scope: dict[str, Any], file: str, names: Set[str], uses: calls.Uses
    ) -> None:
        """Follow all names of a module if the names that code uses are known only when it runs."""
        if names & _LOOKS_INTO:
            self._any_name = True
        for name, asked in uses.looked_up:
            if name in scope or name not in vars(builtins):
                continue
            if name == "globals":
                self._all_of(scope, file)
            elif asked is None:
                self._any_name = True
            elif _is(scope.get(asked), types.ModuleType):
                self._whole.add(id(scope[asked]))

    def _global(self, scope: dict[str, Any], name: str, file: str) -> None:
        label = self._unique((id(scope), name), f"variable {name}")
        if label not in self._found and label not in self._unsure:
            self._kept.append(scope)
            self._variable(label, scope[name], file)

    def _variable(self, label: str, value: Any, place: str) -> None:
        self._places[label] = place
        if _is(value, type | types.FunctionType | types.ModuleType):
            self.note(label, self.reference(value))
        else:
            self.data(label, value, place)

    def _all_of(self, scope: dict[str, Any], file: str) -> None:
        """Add all variables of a module; those that cannot be compared count by their classes."""
        for name in sorted(scope):
            if name.startswith("__") and name.endswith("__"):
                continue
            label = self._unique((id(scope), name), f"variable {name}")
            if label in self._found or label in self._unsure:
                continue
            self._global(scope, name, file)
            if self._unsure.pop(label, None) is not None:
                self.note(label, "of the class", type(scope[name]).__qualname__)

    def _look_up(self) -> bool:
        """Follow the names that code uses in modules; return whether there are new ones."""
        before = len(self._looked_up) + len(self._modules) + len(self._unloaded_modules)
        self._look_up_mentions()
        for module in list(self._modules.values()):
            scope = vars(module)
            is_own = is_project_module(module)
            file = os.path.basename(getattr(module, "__file__", None) or "")
            if is_own and (self._any_name or id(module) in self._whole):
                self._all_of(scope, file)
            names = self._names | {"__getattr__"}
            if id(module) in self._mentioned_modules:
                names |= self._words
            for name in sorted(names & scope.keys()):
                if (id(module), name) in self._looked_up or name in _OF_MODULES:
                    continue
                self._looked_up.add((id(module), name))
                if is_own:
                    self._global(scope, name, file)
                else:
                    self._of_package(f"{name} of {module.__name__}", scope[name])
        after = len(self._looked_up) + len(self._modules) + len(self._unloaded_modules)
        return bool(self._queue) or after > before

    def _look_up_mentions(self) -> None:
        """Follow the names in strings."""
        if self._names & mentions.EVALUATES:
            self._variables.update(mentions.words_in("\0".join(self._texts)))
            self._texts.clear()
        for scope, file in list(self._scopes.values()):
            for name in sorted(self._variables & scope.keys() - _OF_MODULES):
                self._global(scope, name, file)
        for each in sorted(self._named, key=lambda each: (each.module, each.name)):
            module = sys.modules.get(each.module)
            is_open = each.is_open or (self._joins and not each.name)
            if module is None:
                if each.module not in self._unloaded_modules and (
                    is_open or each.name or self._any_name or self._may_use(each.module)
                ):
                    self._unloaded_modules.add(each.module)
                    self._unloaded(each.module)
                continue
            self._module(module)
            self._mentioned_modules.add(id(module))
            if is_open:
                self._whole.add(id(module))
            if each.name in vars(module) and each.name not in _OF_MODULES:
                file = os.path.basename(getattr(module, "__file__", None) or "")
                self._global(vars(module), each.name, file)

    def _may_use(self, module: str) -> bool:
        stored = self._own_names.stored(module)
        return stored is None or bool((self._names | self._words) & stored)

    def _unloaded(self, name: str) -> None:
        """Add a module that is not loaded, and those that it imports."""
        reached = reach([], [name])
        self._names |= reached.names - _OF_BODIES
        for each, module in sorted(reached.modules.items()):
            self._source(each, module["source"], module["file"])
        file = file_of(name)
        if name not in reached.modules and file is not None:  # it is compiled
            self._found[f"module {name}"] = [file_state(file)]

    def _of_package(self, label: str, value: Any) -> None:
        """Add what the user's code has put into a module or class of an installed package."""
        if issubclass(type(value), types.ModuleType):
            self._module(value)
        elif issubclass(type(value), type):
            self.reference(value)
        for _, exchanged in _own_code({label: value}):
            self._variable(label, exchanged, "")

    def _annotations(self, function: Any) -> None:
        if id(function) in self._annotated:
            return
        self._annotated.add(id(function))
        self._kept.append(function)
        label = f"annotations of {_plain(function)}"
        try:
            annotations = list(function.__annotations__.items())
        except Exception as error:  # for example, a name that is not defined
            annotations = [("", repr(error))]
        self.data(label, [(name, _annotation(kind)) for name, kind in annotations])

    # Classes.

    def _class(self, label: str, kind: type) -> None:
        place = self._places.get(label, "")
        bases = tuple(self.reference(base) for base in kind.__bases__)
        self.note(label, kind.__name__, self.reference(type(kind)), bases)
        registered = [self.reference(each) for each in _registered(kind)]
        if registered:
            self.note(f"classes registered with {label}", sorted(map(of_text, registered)))
        members = _members(kind)
        if members:
            self.data(f"members of {label}", [(m.name, _state_of(m)) for m in members], place)
        for name, value in sorted(vars(kind).items()):
            if name in _NOT_OF_CLASSES or _is(value, _DESCRIPTORS):
                continue
            if members and (name in _OF_ENUMS or _is(value, kind)):
                continue
            if name == "__dataclass_fields__":
                fields = [_field(each) for each in value.values()]
                self.data(f"fields of {label}", fields, place)
                continue
            part = f"{name} of {label}"
            self._places[part] = place
            if _is(value, types.FunctionType | type):
                self.note(part, self.reference(value))
            else:
                self.data(part, value, place)
        plain = type(kind) is type and all(b is object or _is_own_class(b) for b in kind.__bases__)
        if not plain or "__dataclass_fields__" in vars(kind):
            self._annotations(kind)

    # What counts only if code asks for it.

    def _follow_aspects(self) -> None:
        followed = [value for value in self._kept if id(value) in self._labels]
        if self._names & _READS_ANNOTATIONS:
            for value in followed:
                self._annotations(value)
        if self._names & _READS_TEXTS:
            for value in followed:
                label = self._labels[id(value)]
                self.note(f"docstring of {label}", *_texts(value))
        if self._names & _READS_NAMES:
            for value in followed:
                self.note(f"name of {self._labels[id(value)]}", value.__name__, value.__qualname__)
        if self._names & _READS_SOURCE:
            import inspect

            for value in followed:
                with contextlib.suppress(Exception):
                    self.note(f"text of {self._labels[id(value)]}", inspect.getsource(value))
        if "__subclasses__" in self._names:
            for kind in [value for value in followed if _is(value, type)]:
                subclasses = [self.reference(each) for each in type.__subclasses__(kind)]
                self.note(f"subclasses of {self._labels[id(kind)]}", subclasses)


_READS_ANNOTATIONS = frozenset(
    {
        *("__annotations__", "__annotate__", "get_type_hints", "get_annotations", "signature"),
        *("getfullargspec", "call_annotate_function", "annotationlib"),
    }
)
_LOOKS_INTO = frozenset({"__dict__", "getmembers", "getmembers_static", "dir"})
_READS_TEXTS = frozenset({"__doc__", "getdoc"})
_READS_NAMES = frozenset({"__name__", "__qualname__"})
_OF_BODIES = frozenset({"__doc__", "__annotations__", "__annotate__"})  # which all bodies set
_READS_SOURCE = frozenset({"getsource", "getsourcelines", "findsource"})
_JOINS = re.compile(r"[.:]([^\W\d]\w*)?|.*([.:][{%]|(\}|%s)[.:](\S|$)).*", re.DOTALL)
_HANDLES = ("htdag.stages", "htdag.pipeline", "htdag.run.")
_ASKS_FOR_FILES = frozenset(
    {"__file__", "__path__", "__spec__", "__loader__", "resources", "get_data", "pkgutil"}
)
_OF_MODULES = frozenset(
    {"__builtins__", "__spec__", "__loader__", "__cached__", "__package__", "__path__"}
)
_WHY = {
    "exec": "it runs code that is made when it runs",
    "eval": "it evaluates a text that is made when it runs",
    "__import__": "which module it imports shows when it runs",
    "import_module": "which module it imports shows when it runs",
}
_NOT_OF_CLASSES = frozenset(
    {
        "__annotations__",
        "__annotate__",
        "__annotate_func__",
        "__annotations_cache__",
        "__conditional_annotations__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__module__",
        "__qualname__",
        "__slotnames__",
        "__static_attributes__",
        "__weakref__",
        "__abstractmethods__",
        "_abc_impl",
    }
)
_OF_ENUMS = frozenset(
    {
        *("_member_names_", "_member_map_", "_value2member_map_", "_unhashable_values_"),
        *("_hashable_values_", "_unhashable_values_map_", "_new_member_", "__new_member__"),
        *("_use_args_", "_member_type_", "_value_repr_"),
    }
)
_DESCRIPTORS = (
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
)


def _made(*parts: Any) -> Any:
    """Represent, in pickles, the constructor of an object from its parts."""
    raise AssertionError


_PARTS: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    property: lambda value: (value.fget, value.fset, value.fdel),
    staticmethod: lambda value: (value.__func__,),
    classmethod: lambda value: (value.__func__,),
    functools.cached_property: lambda value: (value.func,),
    functools.partialmethod: lambda value: (value.func, value.args, value.keywords),
    functools.singledispatchmethod: lambda value: (value.dispatcher, value.func),
    types.MethodType: lambda value: (value.__func__, value.__self__),
    types.MappingProxyType: lambda value: (dict(value),),
    types.CellType: lambda value: (_content(value),),
    type(threading.Lock()): lambda _: (),
    type(threading.RLock()): lambda _: (),
    memoryview: lambda value: (value.tobytes(), value.format, value.shape),
    type({}.keys()): lambda value: (list(value),),
    type({}.values()): lambda value: (list(value),),
    type({}.items()): lambda value: (list(value),),
}
"""The parts of objects that pickle does not handle, by their class."""


def _asks_for_files(scope: dict[str, Any]) -> bool:
    """Return whether the source of a module mentions what reads files next to it."""
    try:
        with open(str(scope.get("__file__")), "rb") as file:
            words = set(re.findall(rb"\w+", file.read()))
    except OSError:
        return False
    return any(name.encode() in words for name in _ASKS_FOR_FILES)


def _files_in(folders: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the files in folders that are not modules, each with its state."""
    for folder in folders:
        for where, inside, names in os.walk(folder):
            inside[:] = sorted(name for name in inside if name != "__pycache__")
            for name in sorted(names):
                path = os.path.join(where, name)
                if not name.endswith((".py", ".pyc")):
                    yield os.path.relpath(path, folder), file_state(path)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return ("empty",)


def _cells(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        yield name, _content(cell)


def _is(value: Any, kinds: Any) -> bool:
    """Return whether a value is of a class, whatever its ``__class__`` says."""
    return issubclass(type(value), kinds)


def _own_code(names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the names and values that are functions or classes of the user's."""
    for name, value in list(names.items()):
        if (_is(value, types.FunctionType) and is_project_function(value)) or (
            _is(value, type) and _is_own_class(value)
        ):
            yield name, value


def _is_variable(name: str) -> bool:
    return name.startswith(digests.VARIABLES)


def _members(kind: type) -> list[Any]:
    return list(kind.__members__.values()) if issubclass(kind, Enum) else []


def _state_of(member: Any) -> Any:
    state = {
        k: v for k, v in vars(member).items() if not k.startswith("__") and k != "_sort_order_"
    }
    return state, [name for name, each in type(member).__members__.items() if each is member]


def _field(each: Any) -> tuple[Any, ...]:
    """Return the parts of a dataclass field that count; its type is among the annotations."""
    kept = ("name", "default", "default_factory", "init", "repr", "hash", "compare", "kw_only")
    metadata = dict(each.metadata) if each.metadata is not None else None
    return (*(getattr(each, name, None) for name in kept), metadata)


def _annotation(kind: Any) -> Any:
    """Return what represents an annotation: a class itself, or else the text."""
    if isinstance(kind, type | types.FunctionType) and not hasattr(kind, "__args__"):
        return kind
    arguments = getattr(kind, "__args__", None)
    if isinstance(arguments, tuple):
        origin = getattr(kind, "__origin__", type(kind))
        metadata = getattr(kind, "__metadata__", ())
        return (repr(origin), [_annotation(each) for each in arguments], metadata)
    return repr(kind) if isinstance(kind, str | type(None) | type(...)) else str(kind)


def _texts(value: Any) -> list[Any]:
    """Return the docstring of a function or class; for a function, also its strings."""
    texts = [value.__doc__ if isinstance(value.__doc__, str) else None]
    if type(value) is types.FunctionType:
        texts += [text for text in value.__code__.co_consts if isinstance(text, str)]
    return texts


def _registered(kind: type) -> list[type]:
    """Return the classes that were registered with an abstract class."""
    if "_abc_impl" not in vars(kind):
        return []
    try:
        from _abc import _get_dump  # type: ignore[import-not-found]
    except ImportError:
        return []
    classes = [reference() for reference in _get_dump(kind)[0]]
    return [each for each in classes if each is not None]


def _find(module: str | None, name: str) -> Any:
    """Return the value of a qualified name in a module; None if there is none."""
    value: Any = sys.modules.get(str(module))
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def _is_own_class(kind: type) -> bool:
    """Return whether a class is the user's, or a local one, which has no importable name."""
    if "<locals>" in kind.__qualname__:
        return not str(kind.__module__).startswith("htdag.")
    return is_project_class(kind)


def _is_native(module: Any) -> bool:
    """Return whether a module is native code of the user's."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith((".so", ".pyd", ".dylib")):
        return False
    return not is_installed_code(file)


def _plain(value: Any) -> str:
    return str(value.__qualname__).replace("<locals>.", "")


def _top(module: Any) -> str:
    return str(module or "").partition(".")[0]


def _file_name(path: str) -> str:
    return os.path.basename(path) if os.path.isfile(path) else "what was typed in"


def _code_file(code: types.CodeType) -> str:
    return _file_name(code.co_filename)


def _scope_file(scope: dict[str, Any], function: types.FunctionType) -> str:
    file = scope.get("__file__")
    return _file_name(file) if isinstance(file, str) else _code_file(function.__code__)


def _class_file(kind: type) -> str:
    return _file_name(getattr(sys.modules.get(kind.__module__), "__file__", None) or "")
