"""Names in texts: what data tells, and other code looks up when it runs.

``"cfg.parse"`` is for `pydoc.locate`, ``"cfg"`` for `importlib.import_module`, the pickle of a
function for `pickle.loads`, and ``"m > @limit"`` for a query of pandas.
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
"""Longer texts are not read: of a module whose name is in one, any name may be used."""
_SHORT = 10_000
_AT_ONCE = 4096
_WORD = re.compile(r"[^\W\d]\w*")
_BEHIND_AT = re.compile(r"@ ?([^\W\d]\w*)")
_DOTTED = re.compile(r"(?:[.:][^\W\d]\w*)*")
_DOTTED_BYTES = re.compile(rb"(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_OPEN = re.compile(r"[.:](?=[{%\0]|$)")
_MISSING = object()


@dataclass(frozen=True)
class Mention:
    """A module of the user's that a text names, loaded or not.

    Attributes
    ----------
    module : str
        Its name.
    name : str
        Which of its names; "" where the text names the module alone.
    is_open : bool
        Whether it may be any of them, as after a text such as ``"cfg."``.
    """

    module: str
    name: str = ""
    is_open: bool = False


@dataclass(frozen=True)
class Found:
    """What texts name.

    Attributes
    ----------
    mentions : frozenset of Mention
        The modules.
    variables : frozenset of str
        The words behind an @.
    words : frozenset of str
        The words in them, where any names a module or where there is but one.
    text : str
        All of them, unless they are long: of an expression any word may be a variable.
    """

    mentions: frozenset[Mention] = frozenset()
    variables: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    text: str = ""


NOTHING = Found()
EVALUATES = frozenset({"eval", "evaluate"})
"""What code calls that evaluates expressions, as pandas and numexpr do."""


def words_in(text: str) -> list[str]:
    """Return the words in a text that may be names."""
    return _WORD.findall(text)


class Names:
    """The names of the user's modules, loaded or not, as patterns."""

    def __init__(self, names: set[str]) -> None:
        tops = {name.partition(".")[0] for name in names}
        longest_first = sorted(names, key=lambda name: (-len(name), name))
        either = "|".join(map(re.escape, longest_first))
        # What is before a name is looked at afterwards: so Python searches many times faster.
        self._text = re.compile(rf"(?:{either})(?!\w)")
        self._bytes = re.compile(rb"(?:%s)(?![A-Za-z0-9_])" % either.encode())
        self._tops = sorted(tops)
        self._names = names
        self._own: dict[str, bool] = {}
        self._stored: dict[str, frozenset[str] | None] = {}

    def find(self, texts: Sequence[str | bytes]) -> Found:
        """Return what texts name."""
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
                variables.update(_BEHIND_AT.findall(joined))
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
        """Return the names that a module that is not loaded binds or uses; None for any."""
        if module not in self._stored:
            source = source_of(module)
            code = None if source is None else compiled(decoded(source), str(file_of(module)))
            found = None if code is None else frozenset(code.co_names)
            if code is not None and ("__getattr__" in code.co_names or ("*",) in code.co_consts):
                found = None
            self._stored[module] = found
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
                continue  # a part of another name, or of a path
            rest = _DOTTED.match(text, end)
            assert rest is not None
            end = rest.end()
            is_open = _OPEN.match(text, end) is not None
            after = text[end : end + 1] or "\0"
            parts = re.split("[.:]", rest[0])[1:]
            is_whole = before in "\0'\"" and after in "\0'\""
            yield from self._mention(match[0], parts, is_open, is_whole)

    def _in_bytes(self, data: bytes) -> Iterator[Mention]:
        found = set()
        for match in self._bytes.finditer(data):
            rest = _DOTTED_BYTES.match(data, match.end())
            assert rest is not None
            found.add(match[0].decode() + rest[0].decode())
        for dotted in found:
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
    """Return the names of the user's modules, which are told again where there are new ones."""
    global _last
    loaded = tuple(sys.modules)
    folders = tuple((folder, _changed(folder)) for folder in own_folders())
    if _last is None or _last[0] != (loaded, folders):
        names = {name for name in loaded if is_project_module(sys.modules.get(name))}
        beside = frozenset[str]().union(*(_modules_in(*each) for each in folders))
        names |= {"__main__"} | beside.difference(loaded)  # what is installed may lie there, too
        _last = (loaded, folders), Names(names)
    return _last[1]


def _changed(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0


@functools.lru_cache(maxsize=256)
def _modules_in(folder: str, changed: int) -> frozenset[str]:
    """Return what a folder may have modules and packages of."""
    try:
        names = os.listdir(folder)
    except OSError:
        return frozenset()
    stems = (name.partition(".") for name in names)
    endings = ("", "py", "pyw", "pyc", "so", "pyd")
    return frozenset(
        stem for stem, _, rest in stems if stem.isidentifier() and rest.split(".")[-1] in endings
    )
