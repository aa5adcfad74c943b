"""Digests of code and values that are the same in every process.

What code does counts: its instructions with their constants, in whatever order they are laid out.
Where it stands, its comments, docstrings and the names of its variables do not. Sets count without
their order, dicts with it, since a function may see it.
"""

from __future__ import annotations

import ast
import dis
import hashlib
import inspect
import itertools
import pickle
import re
import types
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

Reduce = Callable[[Any], Any]
VARIABLES = "HTDAG_"
"""What variables begin with that tell a function in a job where it is."""

_HAS_DOCSTRING = 0x4000000  # a flag since Python 3.13
_FLAGS = ~(inspect.CO_NESTED | _HAS_DOCSTRING)
_JUMPS = frozenset([*dis.hasjrel, *dis.hasjabs])
_CONSTANTS = frozenset(dis.hasconst)
_SILENT = frozenset({"EXTENDED_ARG", "CACHE", "NOP", "NOT_TAKEN"})
_GO = re.compile(r"JUMP(_FORWARD|_ABSOLUTE|_BACKWARD)?(_NO_INTERRUPT)?")
_LAST = frozenset({"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE"})
_TURNED = {
    "POP_JUMP_IF_TRUE": "POP_JUMP_IF_FALSE",
    "POP_JUMP_IF_NOT_NONE": "POP_JUMP_IF_NONE",
}
_TWO = re.compile(r"((?:LOAD|STORE)_FAST(?:_BORROW)?)_((?:LOAD|STORE)_FAST(?:_BORROW)?)")
_DERIVED = frozenset({"__firstlineno__", "__static_attributes__"})  # in the body of a class
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def digest(data: bytes) -> str:
    """Return a digest of bytes, as text."""
    return hashlib.sha256(data).hexdigest()[:32]


def of_text(*parts: Any) -> str:
    """Return a digest of what is known by its text."""
    return digest(repr(parts).encode(errors="surrogatepass"))


@lru_cache(maxsize=8192)
def of_code(code: types.CodeType) -> str:
    """Return a digest of what code does."""
    return digest("\n".join(_lines(code)).encode(errors="surrogatepass"))


def _lines(code: types.CodeType) -> Iterator[str]:
    """Yield what code does: each instruction once, with those that may come next.

    How compilers lay instructions out depends on how lines are broken, so they are numbered as
    they are reached.
    """
    arguments = code.co_argcount + code.co_kwonlyargcount
    arguments += bool(code.co_flags & inspect.CO_VARARGS)
    arguments += bool(code.co_flags & inspect.CO_VARKEYWORDS)
    yield repr((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount))
    yield repr((code.co_flags & _FLAGS, code.co_varnames[:arguments], code.co_names))
    yield repr((code.co_freevars, code.co_cellvars))
    steps, places = _steps(code)
    handlers: dict[int, tuple[int, str]] = {}
    for entry in getattr(dis.Bytecode(code), "exception_entries", ()):
        handler = places[entry.target], f" or {entry.depth} {entry.lasti}"
        end = places.get(entry.end, len(steps))
        handlers.update(dict.fromkeys(range(places[entry.start], end), handler))
    numbers: dict[int, int] = {}
    reached: list[int] = []

    def number(step: int) -> int:
        for _ in steps:  # no further than once round a loop of nothing but jumps
            if step == len(steps) or not _GO.fullmatch(steps[step][0]):
                break
            step = steps[step][2]
        if step not in numbers:
            numbers[step] = len(numbers)
            reached.append(step)
        return numbers[step]

    number(0)
    for step in reached:
        if step == len(steps):
            yield "end"
            continue
        name, argument, target = steps[step]
        following = [] if name in _LAST else [step + 1]
        if target >= 0:
            name = name.replace("_BACKWARD", "").replace("_FORWARD", "")
            following.append(target)
            if name in _TURNED:
                name, following = _TURNED[name], following[::-1]
        text = f"{name} {argument}"
        if step in handlers:
            handler_step, how = handlers[step]
            text += how
            following.append(handler_step)
        yield f"{text} then {[number(each) for each in following]}"


def _steps(code: types.CodeType) -> tuple[list[tuple[str, str, int]], dict[int, int]]:
    """Return the instructions of code, and which of them comes at or after each offset.

    An instruction is its name, its argument and, where it jumps, the number of the one it jumps to.
    """
    found: list[tuple[str, str, int]] = []
    places: dict[int, int] = {}
    instructions = list(dis.get_instructions(code))
    derived = {
        constant.offset
        for constant, store in itertools.pairwise(instructions)
        if store.opname == "STORE_NAME" and store.argval in _DERIVED
    }
    for instruction in instructions:
        places[instruction.offset] = len(found)
        name, argument = instruction.opname, instruction.arg
        if name in _SILENT:
            continue
        both = _TWO.fullmatch(name)
        if both is not None and argument is not None:  # one for two that stand in one line
            found.append((both[1], str(argument >> 4), -1))
            found.append((both[2], str(argument & 15), -1))
        elif instruction.opcode in _JUMPS:
            found.append((name, "", instruction.argval))
        elif instruction.opcode in _CONSTANTS and argument is not None:
            told = instruction.offset not in derived
            found.append((name, _constant(code.co_consts[argument]) if told else "", -1))
        else:
            found.append((name, "" if argument is None else str(argument), -1))
    return [
        (name, argument, target if target < 0 else places[target])
        for name, argument, target in found
    ], places


def _constant(constant: Any) -> str:
    if isinstance(constant, types.CodeType):
        return of_code(constant)
    if isinstance(constant, frozenset):  # its order is another one in each process
        return f"frozenset {sorted(map(_constant, constant))}"
    if isinstance(constant, tuple):
        return f"tuple {list(map(_constant, constant))}"
    return f"{type(constant).__name__} {constant!r}"


def of_source(source: str | bytes) -> str:
    """Return a digest of a module by its syntax tree, without its docstrings.

    These count where the module speaks of ``__doc__``, since then what it does may depend on them.
    What cannot be parsed counts letter by letter.
    """
    raw = source.encode(errors="surrogatepass") if isinstance(source, str) else source
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source)
            if b"__doc__" not in raw:
                _drop_docstrings(tree)
            return digest(ast.dump(tree).encode(errors="surrogatepass"))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return digest(raw)


def _drop_docstrings(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]


def of_value(value: Any, reference: Callable[[Any], Any], reduced: Reduce = lambda _: None) -> Seen:
    """Return a digest of a value that is the same for equal values, wherever it is made.

    Parameters
    ----------
    value : object
        The value.
    reference : callable
        Returns what stands for code in it; None for data.
    reduced : callable
        Returns what stands for an object of a kind that pickle cannot take, as ``__reduce__`` does.
    """
    for fast in (True, False):
        seen = Seen()
        pickler = _Pickler(seen, reference, reduced)
        # Without pickle's memo, which text is which does not count.
        pickler.fast = fast
        try:
            pickler.dump(value)
        except (ValueError, RecursionError):  # a cycle that the pickler's own memo does not see
            if not fast:
                raise
        else:
            return seen
    raise AssertionError


class Seen:
    """The digest of what is written to it, whether that has a certain word, and its texts."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.speaks_of_htdag = False
        self.texts: list[str | bytes] = []

    def write(self, data: Any) -> int:
        self._hash.update(data)
        if type(data) is bytes:
            self.speaks_of_htdag = self.speaks_of_htdag or VARIABLES.encode() in data
        return memoryview(data).nbytes

    def take(self, part: Seen) -> None:
        """Take over what a part speaks of, but not its digest."""
        self.speaks_of_htdag = self.speaks_of_htdag or part.speaks_of_htdag
        self.texts += part.texts

    def raw(self) -> bytes:
        """Return the digest."""
        return self._hash.digest()

    def text(self) -> str:
        """Return it as text."""
        return self._hash.hexdigest()[:32]


_ATOMS = (int, str, float, bytes, bool, type(None), complex, tuple)


class _Pickler(pickle.Pickler):
    def __init__(self, file: Seen, reference: Callable[[Any], Any], reduced: Reduce) -> None:
        super().__init__(file, 5)
        self._reference = reference
        self._reduced = reduced
        self._known: dict[int, tuple[int, Any]] = {}
        self._seen = file
        self._texts = file.texts
        self._unread = 0  # texts of what stands for code, which come next

    def persistent_id(self, value: Any) -> Any:
        kind = type(value)
        if kind is str or kind is bytes:
            if self._unread:
                self._unread -= 1
            else:
                self._texts.append(value)
            return None
        if kind in _ATOMS:
            return None
        if kind in (list, dict, bytearray):
            if kind is bytearray:
                self._texts.append(bytes(value))
            return self._again(value)
        if issubclass(kind, set | frozenset):
            return self._again(value) or self._set(value)
        found = self._reference(value)
        if found is None and kind.__dictoffset__:
            return self._again(value)
        self._unread += _number_of_texts(found)
        return found

    def _again(self, value: Any) -> Any:
        """Return what stands for an object that may change and was there before."""
        known = self._known.get(id(value))
        if known is not None:
            self._unread += 1
            return ("again", known[0])
        self._known[id(value)] = len(self._known), value
        return None

    def _set(self, value: Any) -> Any:
        seen = [of_value(part, self._reference, self._reduced) for part in value]
        for each in seen:
            self._seen.take(each)
        parts = sorted(each.text() for each in seen)
        return ("set", type(value), vars(value) if hasattr(value, "__dict__") else {}, *parts)

    def reducer_override(self, value: Any) -> Any:
        found = self._reduced(value)
        if found is None:
            return NotImplemented
        return found


def _number_of_texts(value: Any) -> int:
    if type(value) is tuple:
        return sum(map(_number_of_texts, value))
    return type(value) is str or type(value) is bytes
