"""Names of the user's modules in strings, which code may look up when it runs.

Examples are ``"cfg.parse"`` for `pydoc.locate`, ``"cfg"`` for `importlib.import_module`, the pickle
of a function for `pickle.loads`, and ``"m > @limit"`` for a query of pandas.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from htdag.functions.project import (
    file_of,
    is_project_module,
    is_project_name,
    own_folders,
    script_file,
    source_of,
)
from htdag.functions.reach import compiled, decoded
from htdag.runtime.code.static import namespace

_LARGE = 1 << 20
"""Longer strings are not parsed: of a module whose name is in one, any name may be used."""
_SHORT = 10_000
_AT_ONCE = 4096
_WORD = re.compile(r"[^\W\d]\w*")
_AFTER_AT = re.compile(r"@ ?([^\W\d]\w*)")
_DOTTED = re.compile(r"(?:[.:][^\W\d]\w*)*")
_DOTTED_BYTES = re.compile(rb"(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_OPEN = re.compile(r"[.:](?=[{%\0]|$)")
_MISSING = object()


@dataclass(frozen=True)
class Mention:
    """A module of the user's that a string mentions, loaded or not.

    Attributes
    ----------
    module : str
        Its name.
    name : str
        The name in it; "" if the string mentions the module alone.
    is_open : bool
        Whether any of its names may be used, as after a string such as ``"cfg."``.
    """

    module: str
    name: str = ""
    is_open: bool = False


@dataclass(frozen=True)
class Found:
    """The names in strings.

    Attributes
    ----------
    mentions : frozenset of Mention
        The modules.
    variables : frozenset of str
        The words after an @.
    words : frozenset of str
        All words, if a string mentions a module or there is only one string.
    text : str
        The strings, unless they are long: any word of an expression may be a variable.
    """

    mentions: frozenset[Mention] = frozenset()
    variables: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    text: str = ""


NOTHING = Found()
EVALUATES = frozenset({"eval", "evaluate"})
"""The functions that evaluate expressions, as in pandas and numexpr."""


def words_in(text: str) -> list[str]:
    """Return the words in a string that may be names."""
    return _WORD.findall(text)


class Names:
    """The names of the user's modules, loaded or not, as search patterns."""

    def __init__(self, names: set[str]) -> None:
        tops = {name.partition(".")[0] for name in names}
        longest_first = sorted(names, key=lambda name: (-len(name), name))
        either = "|".join(map(re.escape, longest_first))
        # The character before a name is checked later, which makes the search many times faster.
        self._text = re.compile(rf"(?:{either})(?!\w)")
        self._bytes = re.compile(rb"(?:%s)(?![A-Za-z0-9_])" % either.encode())
        self._tops = sorted(tops)
        self._names = names
        self._own: dict[str, bool] = {}
        self._stored: dict[str, frozenset[str] | None] = {}

    def find(self, texts: Sequence[str | bytes]) -> Found:
        """Return the names in strings."""
        if not texts:
            return NOTHING
        mentions: set[Mention] = set()
        variables: set[str] = set()
        words: set[str] = set()
        text = ""
        for start in range(0, len(texts), _AT_ONCE):
            some = texts[start : start + _AT_ONCE]
            joined = "\0".join([each for each in some if type(each) is str])
            if len(joined) > _LARGE:
                for large in [each for each in some if type(each) is str and len(each) > _LARGE]:
                    mentions.update(self._in_large(large))
                    joined = joined.replace(large, "")
            mentions.update(self._in_text(joined))
            if len(text) + len(joined) <= _SHORT:
                text = f"{text}\0{joined}" if text else joined
            if "@" in joined:
                variables.update(_AFTER_AT.findall(joined))
            for each in some:
                if type(each) is bytes:
                    is_large = len(each) > _LARGE
                    mentions.update(self._in_large(each) if is_large else self._in_bytes(each))
            if mentions or len(texts) == 1:
                words.update(words_in(joined))
        if not (mentions or variables or words or text):
            return NOTHING
        return Found(frozenset(mentions), frozenset(variables), frozenset(words), text)

    def stored(self, module: str) -> frozenset[str] | None:
        """Return the names that a module that is not loaded binds or uses; None for any name."""
        if module not in self._stored:
            source = source_of(module)
            code = None if source is None else compiled(decoded(source), str(file_of(module)))
            names = None if code is None else frozenset(code.co_names)
            if code is not None and ("__getattr__" in code.co_names or ("*",) in code.co_consts):
                names = None
            self._stored[module] = names
        return self._stored[module]

    def _in_large(self, text: str | bytes) -> Iterator[Mention]:
        for name in self._tops:
            if (name in text) if type(text) is str else (name.encode() in text):
                for each in sorted(self._names):
                    if each == name or each.startswith(name + "."):
                        yield Mention(each, is_open=True)

    def _in_text(self, text: str) -> Iterator[Mention]:
        for match in self._text.finditer(text):
            start, end = match.span()
            before = text[start - 1] if start else "\0"
            if before in "._-/\\" or before.isalnum():
                continue  # part of another name, or of a path
            rest = _DOTTED.match(text, end)
            assert rest is not None
            end = rest.end()
            is_open = _OPEN.match(text, end) is not None
            after = text[end : end + 1] or "\0"
            parts = re.split("[.:]", rest[0])[1:]
            is_whole = before in "\0'\"" and after in "\0'\""
            yield from self._mention(match[0], parts, is_open, is_whole)

    def _in_bytes(self, data: bytes) -> Iterator[Mention]:
        mentioned = set()
        for match in self._bytes.finditer(data):
            rest = _DOTTED_BYTES.match(data, match.end())
            assert rest is not None
            mentioned.add(match[0].decode() + rest[0].decode())
        for dotted in mentioned:
            module = dotted
            while module not in self._names and not self._is_own(module):
                module = module.rpartition(".")[0]
            loaded = sys.modules.get(module)
            yield Mention(module, is_open=loaded is None)
            for name in [] if loaded is None else list(namespace(loaded)):
                special = name.startswith("__") and name.endswith("__")
                if not special and name.encode(errors="surrogatepass") in data:
                    yield Mention(module, name)

    def _mention(
        self, module: str, parts: list[str], is_open: bool, is_whole: bool
    ) -> Iterator[Mention]:
        for part in parts:
            loaded, longer = sys.modules.get(module), f"{module}.{part}"
            names = None if loaded is None else namespace(loaded)
            value = _MISSING if names is None else names.get(part, _MISSING)
            if (value is _MISSING or isinstance(value, types.ModuleType)) and self._is_own(longer):
                module = longer
            elif value is not _MISSING:
                yield Mention(module, part)
                return
            else:
                stored = self.stored(module) if names is None else None
                if names is None and (stored is None or part in stored):
                    yield Mention(module, part)
                elif names is not None and "__getattr__" in names:
                    yield Mention(module)
                return
        if module in sys.modules or is_open:
            yield Mention(module, is_open=is_open)
        elif is_whole or parts:
            file = file_of(module)
            if file is not None and (parts or file != script_file()):
                yield Mention(module)

    def _is_own(self, module: str) -> bool:
        if module not in self._own:
            self._own[module] = bool(is_project_name(module))
        return self._own[module]


_last: tuple[Any, Names] | None = None


def own_names() -> Names:
    """Return the names of the user's modules, computed again if there may be new ones."""
    global _last
    loaded = tuple(sys.modules)
    folders = tuple((folder, _changed(folder)) for folder in own_folders())
    if _last is None or _last[0] != (loaded, folders):
        names = {name for name in loaded if is_project_module(sys.modules.get(name))}
        unloaded = frozenset[str]().union(*(_modules_in(*each) for each in folders))
        names |= {"__main__"} | unloaded.difference(loaded)  # a folder may have installed ones, too
        _last = (loaded, folders), Names(names)
    return _last[1]


def _changed(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0


@functools.lru_cache(maxsize=256)
def _modules_in(folder: str, changed: int) -> frozenset[str]:
    """Return the names of the modules and packages that a folder may contain."""
    try:
        names = os.listdir(folder)
    except OSError:
        return frozenset()
    stems = (name.partition(".") for name in names)
    endings = ("", "py", "pyw", "pyc", "so", "pyd")
    return frozenset(
        stem for stem, _, rest in stems if stem.isidentifier() and rest.split(".")[-1] in endings
    )
