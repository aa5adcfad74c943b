"""The image of the user's modules: what the jobs of a run need of them, pickled once.

Functions, classes and values that have a name in one of the user's modules are *pieces*. Each piece
is pickled once; wherever something refers to it, its name is pickled. The names that a function
looks up when it runs are in its code. `htdag.runtime.code.image` rebuilds modules from the pieces.
"""

from __future__ import annotations

import builtins
import contextlib
import copyreg
import dis
import enum
import hashlib
import importlib.machinery
import io
import linecache
import logging
import marshal
import os
import pickle
import re
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from htdag.functions import mentions
from htdag.functions.calls import NAMESPACES
from htdag.functions.project import (
    absolute,
    find_spec,
    is_project_module,
    is_project_spec,
    source_of,
)
from htdag.functions.reach import imported_names
from htdag.options.transfer import TransferPath, TransferURL
from htdag.runtime import layout
from htdag.runtime.code import culprit
from htdag.runtime.code.image import (
    cached,
    make_class,
    make_code,
    make_function,
    new_member,
    set_class_state,
    set_function_state,
)
from htdag.runtime.code.pickling import PROTOCOL, Pickler, name_of
from htdag.runtime.files.paths import arrived
from htdag.runtime.layout import RunFiles

if TYPE_CHECKING:
    from htdag.runtime.formats.image import ImageContent, ModuleEntry


__all__ = [
    "Image",
    "arrived",
    "cached",
    "certain",
    "is_own",
    "make_class",
    "make_code",
    "make_function",
    "new_member",
    "set_class_state",
    "set_function_state",
]

Name = tuple[str, str]

_ATOMS = frozenset({str, int, float, complex, bytes, bool, type(None), type(...), range})
_SHARED = frozenset({*_ATOMS, tuple, frozenset, types.CodeType, types.BuiltinFunctionType})
"""Types of values whose identity does not matter, so two names may share one by chance."""
_LARGE = 1 << 20
_WORD = re.compile(r"[^\W\d]\w*")
_WORD_OF_BYTES = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
_DYNAMIC = frozenset({"globals", "eval", "exec", "vars()"})
_ASKS_FOR_FILES = frozenset(
    {"__file__", "__path__", "__spec__", "__loader__", "resources", "files", "get_data", "pkgutil"}
)
_MOST_DATA = 64 << 20


def is_own(module: str) -> bool:
    """Return whether a module, given by its name, is the user's own, or the script."""
    return module == "__main__" or is_project_module(sys.modules.get(module))


@dataclass
class _Piece:
    """A value that has a name in a module, with what it needs."""

    value: Any
    payload: bytes = b""
    refers: set[Name] = field(default_factory=set)  # pieces needed to unpickle it
    needs: set[Name] = field(default_factory=set)  # pieces that its functions look up
    names: set[str] = field(default_factory=set)  # attributes that its functions use
    modules: set[str] = field(default_factory=set)
    variables: frozenset[str] = frozenset()  # names in its strings, of any module
    text: str = ""  # its strings, which may be expressions
    locals: set[str] = field(default_factory=set)  # local names, which are not global in strings
    holds: dict[int, Any] = field(default_factory=dict)  # mutable objects in it
    problem: tuple[str, str] | None = None
    group: int = -1


class Image:
    """All that the jobs of a run need of the user's modules.

    `dump` pickles the functions of a node. After all of these, `finish` collects the pieces and
    modules, and `write` writes them.
    """

    def __init__(self, *, whole: bool = True) -> None:
        self._pieces: dict[Name, _Piece] = {}
        self._queue: deque[Name] = deque()
        self._names: set[str] = set()
        self._reached: dict[str, types.ModuleType] = {}
        self._modules: dict[str, ModuleEntry] = {}
        self._may_ask: dict[str, str] = {}  # folders of packages whose code reads their files
        self._folders: dict[str, str] = {}  # folders whose files travel, since reached code may
        self._cells: dict[str, bytes] = {}
        self._index: dict[int, Name] = {}
        self._own: dict[str, bool] = {}
        self._kept: list[Any] = []
        self._groups: list[Any] = []
        self._files: dict[str, bytes] = {}
        self._roots: list[_Piece] = []
        self._own_names = mentions.own_names()
        self._mentioning: list[_Piece] = []  # pieces with strings
        self._scopes: set[str] = set()  # the modules of functions
        self._registered: dict[type, tuple[Name | None, bytes, list[Name]]] = {}
        self._always: set[str] = set()  # files for all jobs
        self._indexed: set[str] = set()
        self._is_whole = whole
        if whole:
            for name in list(sys.modules):
                if self.is_own(name):
                    self._add_to_index(name)
            self._module("__main__")

    # Pickles

    def dump(self, content: Any) -> Payload:
        """Return the pickle of a node's functions and initial values.

        Raises
        ------
        Exception
            Any exception of pickling.
        """
        root = _Piece(content)
        payload = self._pickle(root, content, frozenset())
        self._follow(root)
        return Payload(payload, root)

    def check(self, value: Any) -> None:
        """Raise the exception that pickling a value raises, if any; the value may have a name."""
        name = self.name(value)
        roots = frozenset() if name is None else frozenset({_top(name)})
        _ImagePickler(_Nowhere(), self, _Piece(value), roots).dump(value)

    def add_classes(self, classes: Iterable[Any]) -> None:
        """Add classes and functions that unpickling items needs."""
        root = _Piece(None)
        for kind in classes:
            name = name_of(kind)
            if name is not None and self.is_own(name[0]):
                root.refers.add(_top(name))
        self._roots.append(root)
        self._follow(root)

    def finish(self) -> None:
        """Collect all pieces that anything refers to, and group those that belong together."""
        while (
            self._queue or self._take_names() or self._take_variables() or self._take_registered()
        ):
            while self._queue:
                self._make(self._queue.popleft())
        self._group()

    def _take_registered(self) -> bool:
        """Add the reducers that the user's modules registered; return whether any is new."""
        before = len(self._registered)
        for kind, reducer in list(copyreg.dispatch_table.items()):
            module = str(getattr(reducer, "__module__", ""))
            if kind in self._registered or not self.is_own(module):
                continue
            name = self.name(kind)
            if name is not None and _top(name) not in self._pieces:
                continue
            root = _Piece(None)
            with contextlib.suppress(Exception):  # then jobs refuse its values
                payload = self._pickle(root, (kind, reducer), frozenset())
                self._registered[kind] = name, payload, sorted(root.needs)
                self._follow(root)
        return len(self._registered) > before

    def _take_variables(self) -> bool:
        """Request variables that strings name, of modules with functions; return if any is new."""
        before = len(self._queue)
        evaluates = bool(self._names & mentions.EVALUATES)
        for piece in self._mentioning:
            if evaluates and piece.text:
                words = set(mentions.words_in(piece.text)) - piece.locals
                piece.variables |= words
                piece.text = ""
            for module in self._scopes:
                names = piece.variables & vars(sys.modules[module]).keys()
                new = {(module, name) for name in names if not _is_special(name)}
                piece.needs |= new
                for name in new:
                    self._want(name)
        return len(self._queue) > before

    def _pickle(self, piece: _Piece, value: Any, roots: Set[Name]) -> bytes:
        buffer = io.BytesIO()
        pickler = _ImagePickler(buffer, self, piece, roots)
        pickler.dump(value)
        piece.holds = {
            key: held for key, (_, held) in pickler.memo.copy().items() if _can_change(held)
        }
        if self._is_whole:
            self._mention(piece, self._own_names.find(pickler.texts))
        return buffer.getvalue()

    def _mention(self, piece: _Piece, mentioned: mentions.Found) -> None:
        """Record the names in the strings of a piece."""
        for each in sorted(mentioned.mentions, key=lambda each: (each.module, each.name)):
            if each.module not in sys.modules:
                self._import(each.module, piece)
                continue
            self._module(each.module)
            if each.module != "__main__":
                piece.modules.add(each.module)
                piece.names |= mentioned.words
            if each.name in vars(sys.modules[each.module]) and not _is_special(each.name):
                piece.needs.add((each.module, each.name))
        if mentioned.variables or mentioned.text:
            piece.variables, piece.text = mentioned.variables, mentioned.text
            self._mentioning.append(piece)

    def _make(self, name: Name) -> None:
        """Pickle a piece."""
        piece = self._pieces[name]
        self._module(name[0])
        try:
            piece.payload = self._pickle(piece, (piece.value,), {name})
        except Exception as error:
            where = culprit.place(piece.value, ".".join(name), self.check)
            piece.problem = (type(piece.value).__name__ + where, _reason(error))
            piece.refers, piece.needs, piece.holds = set(), set(), {}
            folders = self._folders_of(name[0])
            if folders.keys() <= self._may_ask.keys() and self._is_made_by_statement(name):
                self._folders |= folders  # the statement may read any of them
        self._follow(piece)

    def _follow(self, piece: _Piece) -> None:
        for name in piece.refers | piece.needs:
            self._want(name)
        self._names |= piece.names
        for module in piece.modules:
            self._reach(module)

    def _want(self, name: Name) -> None:
        module, attribute = name
        if name in self._pieces or not attribute:
            self._module(module)
            return
        names = vars(sys.modules[module])
        if attribute in names:
            self._pieces[name] = _Piece(names[attribute])
            self._queue.append(name)

    def _take_names(self) -> bool:
        """Request names that code uses, of all reached modules; return whether any is new."""
        before = len(self._queue)
        for name, module in list(self._reached.items()):
            for attribute in self._names & set(vars(module)):
                if not _is_special(attribute):
                    self._want((name, attribute))
        return len(self._queue) > before

    # Names of values

    def is_own(self, module: str) -> bool:
        """Return whether a module is the user's own."""
        known = self._own.get(module)
        if known is None:
            known = self._own[module] = is_own(module)
        return known

    def name(self, value: Any) -> Name | None:
        """Return the name that a value has in the user's modules; None if it has none."""
        kind = type(value)
        if kind in _SHARED:
            return None
        if isinstance(value, types.ModuleType):
            name = value.__name__
            if sys.modules.get(name) is value and self.is_own(name):
                return name, ""
            return None
        if kind is types.FunctionType or issubclass(kind, type):
            own_name = name_of(value)
            if own_name is not None:
                return own_name if self.is_own(own_name[0]) else None
        return self._index.get(id(value))

    def _add_to_index(self, module: str) -> None:
        self._indexed.add(module)
        for name, value in list(vars(sys.modules[module]).items()):
            kind = type(value)
            if kind in _SHARED or _is_special(name) or isinstance(value, types.ModuleType):
                continue
            may_have_name = kind is types.FunctionType or issubclass(kind, type)
            if may_have_name and name_of(value) is not None:
                continue
            known = self._index.setdefault(id(value), (module, name))
            if known[0] != module == _home(value):
                # Its pickle refers to its home module, so that must hold the piece.
                self._index[id(value)] = module, name
            self._kept.append(value)

    # Code

    def code(self, piece: _Piece, function: types.FunctionType) -> None:
        """Record what a function looks up and imports when it runs."""
        if not self._is_whole:
            return
        self._quote(function.__code__.co_filename)
        module = function.__globals__.get("__name__")
        home = sys.modules.get(module) if isinstance(module, str) else None
        if home is None or vars(home) is not function.__globals__ or not self.is_own(home.__name__):
            return
        module = home.__name__
        self._scopes.add(module)
        piece.locals.update(function.__code__.co_varnames)
        use = _use(function.__code__)
        piece.names |= use.names
        module_names = {name for name in vars(home) if not _is_special(name)}
        piece.needs |= {(module, name) for name in use.variables & module_names}
        words = module_names if use.is_dynamic else module_names & use.words
        self._need_words(piece, module, words)
        self.annotations(piece, module, function.__annotations__)
        self._module(module)
        if use.names & _ASKS_FOR_FILES:
            values = [value for name in use.variables if (value := vars(home).get(name))]
            names = {each.__name__ for each in values if isinstance(each, types.ModuleType)}
            for name in {module, *names, *use.dotted}:
                if self.is_own(name):
                    self._module(name)
                    self._folders |= self._folders_of(name)
        for name in use.imports(home.__dict__.get("__package__") or ""):
            self._import(name, piece)
        for word in use.dotted:
            if word in sys.modules and self.is_own(word):
                piece.modules.add(word)

    def annotations(self, piece: _Piece, module: str, annotations: Any) -> None:
        """Record the names in annotations that are strings."""
        if not self.is_own(module) or not isinstance(annotations, dict):
            return
        texts = (text for text in annotations.values() if type(text) is str)
        words = {word for text in texts for word in _WORD.findall(text)}
        self._need_words(piece, module, words & vars(sys.modules[module]).keys())

    def _need_words(self, piece: _Piece, module: str, words: Iterable[str]) -> None:
        namespace = vars(sys.modules[module])
        piece.needs |= {
            (module, name)
            for name in words
            if not _is_special(name) and not _is_of_htdag(namespace[name])
        }

    def _quote(self, file: str) -> None:
        """Record the text of a notebook's cell, which has no file, for tracebacks."""
        if file not in self._cells and not os.path.exists(file):
            text = "".join(linecache.getlines(file))
            if text:
                self._cells[file] = text.encode("utf-8", "surrogateescape")

    def _import(self, name: str, piece: _Piece | None) -> None:
        """Record a module that is imported while a function runs."""
        if name in sys.modules:
            if self.is_own(name):
                if piece is not None:
                    piece.modules.add(name)
                self._module(name)
        elif name not in self._modules:
            self._unloaded(name)

    # Modules

    def _reach(self, name: str) -> None:
        if name not in self._reached and name != "__main__":
            self._reached[name] = sys.modules[name]
            self._module(name)
            self._want((name, "__getattr__"))

    def _module(self, name: str) -> None:
        """Add the description of a loaded module, and of the modules that its source imports."""
        if name in self._modules or name not in sys.modules or not self.is_own(name):
            return
        module = sys.modules[name]
        file = getattr(module, "__file__", None)
        path = getattr(module, "__path__", None)
        texts = {
            key: vars(module)[key]
            for key in ("__package__", "__doc__")
            if isinstance(vars(module).get(key), str)
        }
        if file is not None:
            file = absolute(file)
        entry = self._entry(name, file, None if path is None else list(path), loaded=True)
        entry |= {"doc": module.__doc__, "given": texts}
        entry["package"] = texts.get("__package__", "")
        self._modules[name] = entry
        self._parents(name)
        self._imports_of(entry)

    def _entry(
        self, name: str, file: str | None, path: list[str] | None, *, loaded: bool
    ) -> ModuleEntry:
        entry: ModuleEntry = {
            "name": name,
            "file": file or f"<the module {name}>",
            "path": path,
            "package": name if path is not None else name.rpartition(".")[0],
            "source": None,
            "binary": None,
            "compiled": None,
            "doc": None,
            "data": b"",
            "given": {},
            "loaded": loaded,
        }
        if file is None:
            return entry
        with contextlib.suppress(OSError):
            if file.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)):
                entry["binary"] = Path(file).read_bytes()
            elif file.endswith((".pyc", ".pyo")):
                loader = importlib.machinery.SourcelessFileLoader(name, file)
                entry["compiled"] = marshal.dumps(loader.get_code(name))
            else:
                entry["source"] = source_of(name)
        return entry

    def _unloaded(self, name: str) -> None:
        """Add a module of the user's that is not loaded, which jobs execute."""
        spec = find_spec(name)
        if spec is None or not is_project_spec(spec):
            return
        path = spec.submodule_search_locations
        file = spec.origin if spec.has_location else None
        entry = self._entry(name, file, None if path is None else list(path), loaded=False)
        self._modules[name] = entry
        self._parents(name)
        self._imports_of(entry)

    def _parents(self, name: str) -> None:
        parent = name.rpartition(".")[0]
        if parent and parent not in self._modules:
            if parent in sys.modules:
                self._module(parent)
            else:
                self._unloaded(parent)
            if parent not in self._modules:  # a folder
                self._modules[parent] = self._entry(parent, None, [], loaded=parent in sys.modules)
                self._parents(parent)

    def _imports_of(self, entry: ModuleEntry) -> None:
        """Add the modules that a module imports, since jobs may execute parts of its source."""
        if entry["binary"] is not None:
            self._binary(entry, entry["binary"])
            return
        if entry["compiled"] is not None:
            code = marshal.loads(entry["compiled"])
        elif entry["source"] is None:
            return
        else:
            try:
                code = compile(entry["source"], entry["file"], "exec", dont_inherit=True)
            except (SyntaxError, ValueError):
                return
        use = _use(code)
        if use.names & _ASKS_FOR_FILES:
            folders = self._folders_of(entry["name"])
            self._may_ask |= folders
            if not entry["loaded"]:
                self._folders |= folders
        if not entry["loaded"]:
            self._names |= use.names
        for name in use.imports(entry["package"]):
            if entry["loaded"] and name not in sys.modules:
                continue
            self._import(name, None)
            if not entry["loaded"] and name in sys.modules and self.is_own(name):
                self._reach(name)

    def _binary(self, entry: ModuleEntry, content: bytes) -> None:
        """Add what a module in machine code may use: all that its strings name."""
        words = {word.decode() for word in _WORD_OF_BYTES.findall(content)}
        self._names |= words
        for name in [name for name in list(sys.modules) if self.is_own(name)]:
            if name != "__main__" and words.issuperset(name.split(".")):
                self._reach(name)
        siblings = {name.partition(".")[0] for name in os.listdir(os.path.dirname(entry["file"]))}
        package = entry["package"]
        for word in sorted(words & siblings):
            self._import(f"{package}.{word}" if package else word, None)

    # Groups

    def _group(self) -> None:
        """Put pieces into one pickle if they share mutable objects, or need each other."""
        names = [name for name, piece in self._pieces.items() if piece.problem is None]
        parent = {name: name for name in names}

        def find(name: Name) -> Name:
            while parent[name] != name:
                parent[name] = parent[parent[name]]
                name = parent[name]
            return name

        owner: dict[int, Name] = {}
        for name in names:
            for key in self._pieces[name].holds:
                first = owner.setdefault(key, name)
                parent[find(name)] = find(first)
        edges: dict[Name, set[Name]] = {}
        for name in names:
            into = edges.setdefault(find(name), set())
            into |= {find(other) for other in self._pieces[name].refers if other in parent}
        for component in _components(edges):
            for name in component:
                parent[find(name)] = find(component[0])
        together: dict[Name, list[Name]] = {}
        for name in names:
            together.setdefault(find(name), []).append(name)
        for members in together.values():
            self._add_group(members)

    def _add_group(self, members: list[Name]) -> None:
        pieces = [self._pieces[name] for name in members]
        payload = pieces[0].payload
        if len(members) > 1:
            values = tuple(piece.value for piece in pieces)
            try:
                payload = self._pickle(_Piece(values), values, frozenset(members))
            except Exception as error:
                for piece in pieces:
                    piece.problem = (type(piece.value).__name__, _reason(error))
                return
        for piece in pieces:
            piece.group = len(self._groups)
            piece.holds, piece.payload = {}, b""
        self._groups.append(self._file(payload) if len(payload) >= _LARGE else payload)

    def write(self, run: Path) -> None:
        """Write the image into a run directory."""
        content = self._content()
        layout.make_folder(str(run / layout.CODE))
        for file, payload in self._files.items():
            _write(run / file, payload)
        _write(run / layout.IMAGE, pickle.dumps(content, PROTOCOL))

    def _content(self) -> ImageContent:
        pieces: dict[Name, tuple[int, int]] = {}
        needs: list[set[Name]] = [set() for _ in self._groups]
        position = [0] * len(self._groups)
        refused: dict[Name, tuple[str, str]] = {}
        for name, piece in self._pieces.items():
            if piece.problem is not None:
                if not self._is_made_by_statement(name):
                    refused[name] = piece.problem
                continue
            pieces[name] = (piece.group, position[piece.group])
            position[piece.group] += 1
            needs[piece.group] |= piece.needs
        for top in set(self._folders.values()):
            entry = self._modules[top]
            entry["data"] = data = _data_of(entry)
            if data is not None and len(data) >= _LARGE:
                entry["data"] = file = self._file(data)
                self._always.add(file)
        return {
            "modules": self._modules,
            "pieces": pieces,
            "groups": self._groups,
            "needs": [sorted(each) for each in needs],
            "refused": refused,
            "registered": list(self._registered.values()),
            "cells": self._cells,
        }

    def _folders_of(self, module: str) -> dict[str, str]:
        """Return the folders of the top-level package of a module, with its name."""
        top = module.partition(".")[0]
        entry = self._modules.get(top)
        path = None if entry is None else entry["path"]
        return {os.path.abspath(folder) + os.sep: top for folder in path or () if folder}

    def within(self, path: str) -> tuple[str, str] | None:
        """Return the package of a path, if the package's files travel, and the path inside it."""
        if path.endswith(".py"):
            return None  # a file name in code, for tracebacks
        for folder, top in self._may_ask.items():
            if path.startswith(folder) or path + os.sep == folder:
                self._folders[folder] = top
                return top, path[len(folder) :]
        return None

    def _file(self, content: bytes) -> str:
        """Store content in a file of its own, and return the file's name."""
        name = RunFiles().large_piece(hashlib.sha256(content).hexdigest()[:32])
        self._files[name] = content
        return name

    def _is_made_by_statement(self, name: Name) -> bool:
        """Return whether the module's source defines a name by `class`, `def` or `type`."""
        module, attribute = name
        if not self._is_whole:
            return False
        self._module(module)
        source = self._modules[module]["source"]
        pattern = rb"^(class|def|async def|type) +%s\b" % re.escape(attribute.encode())
        return source is not None and re.search(pattern, source, re.MULTILINE) is not None

    def files_of(self, payload: Payload) -> list[str]:
        """Return the files of large values that jobs with this payload may need."""
        if not self._files:
            return []
        kinds = [name for name, piece in self._pieces.items() if isinstance(piece.value, type)]
        # Items may be of any class.
        needed, waiting = set[Name](), [*payload.root.refers, *payload.root.needs, *kinds]
        names, modules = set(payload.root.names), set(payload.root.modules)
        while waiting:
            name = waiting.pop()
            if name in needed or name not in self._pieces:
                continue
            needed.add(name)
            piece = self._pieces[name]
            waiting += piece.refers | piece.needs
            names |= piece.names
            modules |= piece.modules
            if not waiting:
                waiting = [(module, each) for module in modules for each in names]
                waiting = [name for name in waiting if name in self._pieces and name not in needed]
        groups = {self._pieces[name].group for name in needed}
        files = {self._groups[group] for group in groups if group >= 0}
        return sorted(self._always | {file for file in files if isinstance(file, str)})


@dataclass(frozen=True)
class Payload:
    """The pickle that the jobs of a node load first: functions and initial values."""

    content: bytes
    root: _Piece

    def encode(self) -> bytes:
        """Return the content of the payload's file."""
        envelope = {"content": self.content, "needs": sorted(self.root.needs)}
        return pickle.dumps(envelope, PROTOCOL)


class _ImagePickler(Pickler):
    """A pickler that replaces values by their names in the user's modules, except the roots."""

    def __init__(self, file: Any, image: Image, piece: _Piece, roots: Set[Name]) -> None:
        super().__init__(file, PROTOCOL)
        self._image = image
        self._piece = piece
        self._roots = roots
        self.texts: list[str | bytes] = []
        self._unread = 0  # the number of strings of names, which come next

    def persistent_id(self, value: Any) -> Any:
        kind = type(value)
        if kind in _ATOMS:
            if kind is str or kind is bytes:
                if self._unread:
                    self._unread -= 1
                    return None
                self.texts.append(value)
                if kind is str and value.startswith(os.sep):
                    place = self._image.within(value)
                    if place is not None:  # jobs have another path for it
                        self._unread += 3
                        return place[0], "", place[1]
            return None
        if kind is bytearray:
            self.texts.append(bytes(value))
        name = self._image.name(value)
        if name is None:
            return None
        top = _top(name)
        if top in self._roots:
            return None
        self._piece.refers.add(top)
        if not name[1]:
            self._piece.modules.add(name[0])
        self._unread += 2
        return (*name, None)

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, TransferPath | TransferURL):
            raise pickle.PicklingError(
                f"{value!r} can only travel as part of an item; for a file that all jobs of a "
                f"stage need, use the option input_files"
            )
        if isinstance(value, PurePath) and self._image.within(str(value)) is not None:
            return type(value), (str(value),)
        if isinstance(value, types.ModuleType) and value.__name__.startswith("htdag."):
            # cloudpickle mistakes `subprocess.run` for a use of `htdag.run`, which jobs lack.
            name = value.__name__.partition(".")[2]
            return getattr, (sys.modules["htdag"], name, sys.modules["htdag"])
        return super().reducer_override(value)

    def is_named(self, value: Any) -> bool:
        name = name_of(value)
        return name is not None and not self._image.is_own(name[0]) and super().is_named(value)

    def is_elsewhere(self, kind: Any) -> bool:
        unread = self._unread
        is_elsewhere = self.persistent_id(kind) is not None or self.is_named(kind)
        self._unread = unread  # nothing was pickled
        return is_elsewhere

    def function(self, value: Any) -> Any:
        self._image.code(self._piece, value)
        return super().function(value)

    def class_(self, value: Any) -> Any:
        annotations = vars(value).get("__annotations__")
        self._image.annotations(self._piece, str(value.__module__), annotations)
        return super().class_(value)


def _home(value: Any) -> str | None:
    """Return the module that a value names as its own, or None."""
    try:
        home = value.__module__
    except Exception:
        return None
    return home if type(home) is str else None


def _top(name: Name) -> Name:
    return name[0], name[1].partition(".")[0]


def _is_special(name: str) -> bool:
    """Return whether Python uses a name to describe a module."""
    return name in _OF_PYTHON


_OF_PYTHON = {
    *("__name__", "__doc__", "__package__", "__loader__", "__spec__", "__file__", "__path__"),
    *("__builtins__", "__cached__", "__annotations__", "__warningregistry__"),
}


def _is_of_htdag(value: Any) -> bool:
    return str(type(value).__module__).startswith("htdag.") or (
        isinstance(value, types.ModuleType) and value.__name__.partition(".")[0] == "htdag"
    )


def _can_change(value: Any) -> bool:
    """Return whether a value is mutable, so that pieces which share it must keep sharing it."""
    kind = type(value)
    if kind in _SHARED or kind.__module__ in _OF_VALUES or kind.__name__.endswith("DType"):
        return False
    return not isinstance(value, _SAME_ANYWAY)


_SAME_ANYWAY = (type, types.FunctionType, types.ModuleType, enum.Enum, PurePath, logging.Logger)
_OF_VALUES = frozenset({"datetime", "decimal", "fractions", "re", "uuid", "zoneinfo"})


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _data_of(entry: ModuleEntry) -> bytes | None:
    """Return the files of a package, pickled by their paths in it; None if they are too large."""
    contents: dict[str, bytes] = {}
    size = 0
    for folder in entry["path"] or ():
        for where, folders, files in os.walk(folder):
            folders[:] = sorted(name for name in folders if name != "__pycache__")
            for file in sorted(files):
                path = os.path.join(where, file)
                if not os.path.isfile(path):
                    continue
                size += os.path.getsize(path)
                if size > _MOST_DATA:
                    return None
                contents.setdefault(os.path.relpath(path, folder), Path(path).read_bytes())
    return pickle.dumps(contents, PROTOCOL)


def _components(edges: dict[Name, set[Name]]) -> Iterator[list[Name]]:
    """Yield the strongly connected components of a graph, without recursion."""
    number: dict[Name, int] = {}
    low: dict[Name, int] = {}
    stack: list[Name] = []
    on_stack: set[Name] = set()
    for start in edges:
        if start in number:
            continue
        work: list[tuple[Name, Iterator[Name]]] = [(start, iter(edges[start]))]
        number[start] = low[start] = len(number)
        stack.append(start)
        on_stack.add(start)
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in number:
                    number[target] = low[target] = len(number)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter(edges.get(target, ()))))
                    break
                if target in on_stack:
                    low[node] = min(low[node], number[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == number[node]:
                    component: list[Name] = []
                    while not component or component[-1] != node:
                        component.append(stack.pop())
                        on_stack.discard(component[-1])
                    yield component


class _Nowhere(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return memoryview(data).nbytes


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


# Code


@dataclass(frozen=True)
class _Use:
    """The names that a piece of code uses, including the code inside of it.

    Attributes
    ----------
    variables : frozenset of str
        The global names that it looks up.
    names : frozenset of str
        These, the attributes that it uses, and the words in its strings.
    words : frozenset of str
        The words in its strings, except docstrings.
    dotted : frozenset of str
        The strings that may be names of modules.
    """

    variables: frozenset[str]
    names: frozenset[str]
    words: frozenset[str]
    dotted: frozenset[str]
    codes: tuple[types.CodeType, ...]

    @property
    def is_dynamic(self) -> bool:
        """Whether it may look up names that it does not mention."""
        return bool(self.variables & _DYNAMIC or self.names & NAMESPACES)

    def imports(self, package: str) -> Iterator[str]:
        """Yield the absolute names that it imports, from within a package."""
        for code in self.codes:
            for _, name in imported_names(code, package):
                yield name


@lru_cache(maxsize=4096)
def _use(code: types.CodeType) -> _Use:
    variables: set[str] = set()
    names: set[str] = set()
    words: set[str] = set()
    dotted: set[str] = set()
    codes: list[types.CodeType] = []
    waiting = [code]
    while waiting:
        current = waiting.pop()
        names |= set(current.co_names)
        importing = False
        last = ""
        for instruction in dis.get_instructions(current):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                variables.add(str(instruction.argval))
            if instruction.opname.startswith("CALL") and last == "vars" and not instruction.arg:
                variables.add("vars()")  # of the module, or of the function
            if instruction.opname not in ("PUSH_NULL", "PRECALL", "CACHE"):
                last = str(instruction.argval)
            importing = importing or instruction.opname == "IMPORT_NAME"
        if importing:
            codes.append(current)
        for position, constant in enumerate(_constants(current.co_consts)):
            if isinstance(constant, types.CodeType):
                waiting.append(constant)
            elif isinstance(constant, str) and len(constant) < 10_000:
                if position == 0 and " " in constant.strip():
                    continue  # a docstring
                words.update(_WORD.findall(constant))
                if constant.replace(".", "_").isidentifier():
                    dotted.add(constant)
    names |= words
    return _Use(
        frozenset(variables), frozenset(names), frozenset(words), frozenset(dotted), tuple(codes)
    )


def _constants(constants: Iterable[Any]) -> Iterator[Any]:
    for constant in constants:
        if isinstance(constant, tuple | frozenset):
            yield from _constants(constant)
        else:
            yield constant


# Checks in the script


def certain(function: Any) -> Iterator[tuple[str, Any]]:
    """Yield the global variables that a function is certain to look up when it is called."""
    code = getattr(function, "__code__", None)
    namespace = getattr(function, "__globals__", {})
    if not isinstance(code, types.CodeType):
        return
    for instruction in dis.get_instructions(code):
        if instruction.opcode in _JUMPS or instruction.opname in ("RETURN_VALUE", "YIELD_VALUE"):
            return
        if instruction.opname == "LOAD_GLOBAL":
            name = str(instruction.argval)
            if name in namespace and not hasattr(builtins, name):
                yield name, namespace[name]


_JUMPS = frozenset([*dis.hasjrel, *dis.hasjabs])
