"""Digests of code and values that are the same in every process.

A digest of code covers its instructions and constants, independent of their layout. It does not
cover its place, its comments, docstrings and names of local variables. Sets count without their
order, but dicts with it, since a function may depend on it.
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
"""The prefix of the environment variables that describe a job."""

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
    """Return a digest of bytes, as a string."""
    return hashlib.sha256(data).hexdigest()[:32]


def of_text(*parts: Any) -> str:
    """Return a digest of values by their representations."""
    return digest(repr(parts).encode(errors="surrogatepass"))


@lru_cache(maxsize=8192)
def of_code(code: types.CodeType) -> str:
    """Return a digest of what code does."""
    return digest("\n".join(_lines(code)).encode(errors="surrogatepass"))


def _lines(code: types.CodeType) -> Iterator[str]:
    """Yield each instruction of code once, with those that may come next.

    The layout of instructions depends on line breaks in the source, so they are numbered in the
    order in which they are reached.
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
        for _ in steps:  # at most one round of a loop that has only jumps
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
    """Return the instructions of code, and for each offset the instruction at or after it.

    An instruction is its name, its argument and, if it is a jump, the number of its target.
    """
    steps: list[tuple[str, str, int]] = []
    places: dict[int, int] = {}
    instructions = list(dis.get_instructions(code))
    derived = {
        constant.offset
        for constant, store in itertools.pairwise(instructions)
        if store.opname == "STORE_NAME" and store.argval in _DERIVED
    }
    for instruction in instructions:
        places[instruction.offset] = len(steps)
        name, argument = instruction.opname, instruction.arg
        if name in _SILENT:
            continue
        both = _TWO.fullmatch(name)
        if both is not None and argument is not None:  # compilers merge two if on the same line
            steps.append((both[1], str(argument >> 4), -1))
            steps.append((both[2], str(argument & 15), -1))
        elif instruction.opcode in _JUMPS:
            steps.append((name, "", instruction.argval))
        elif instruction.opcode in _CONSTANTS and argument is not None:
            counts = instruction.offset not in derived
            steps.append((name, _constant(code.co_consts[argument]) if counts else "", -1))
        else:
            steps.append((name, "" if argument is None else str(argument), -1))
    return [
        (name, argument, target if target < 0 else places[target])
        for name, argument, target in steps
    ], places


def _constant(constant: Any) -> str:
    if isinstance(constant, types.CodeType):
        return of_code(constant)
    if isinstance(constant, frozenset):  # its order differs between processes
        return f"frozenset {sorted(map(_constant, constant))}"
    if isinstance(constant, tuple):
        return f"tuple {list(map(_constant, constant))}"
    return f"{type(constant).__name__} {constant!r}"


def of_source(source: str | bytes) -> str:
    """Return a digest of a module's syntax tree, without docstrings.

    Docstrings count if the module mentions ``__doc__``, since its results may depend on them then.
    If it cannot be parsed, its text counts.
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


def of_value(
    value: Any, reference: Callable[[Any], Any], reduced: Reduce = lambda _: None
) -> ValueDigest:
    """Return a digest of a value, which is the same for equal values in every process.

    Parameters
    ----------
    value : object
        The value.
    reference : callable
        Returns what represents code in it; None for data.
    reduced : callable
        Returns what represents an object that pickle cannot handle, in the form of ``__reduce__``.
    """
    for fast in (True, False):
        seen = ValueDigest()
        pickler = _Pickler(seen, reference, reduced)
        # Without pickle's memo, the identity of equal strings does not count.
        pickler.fast = fast
        try:
            pickler.dump(value)
        except (ValueError, RecursionError):  # a cycle that persistent_id does not break
            if not fast:
                raise
        else:
            return seen
    raise AssertionError


class ValueDigest:
    """A digest of the data written to it, with its strings, and whether it mentions variables."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.names_variables = False
        self.texts: list[str | bytes] = []

    def write(self, data: Any) -> int:
        self._hash.update(data)
        if type(data) is bytes:
            self.names_variables = self.names_variables or VARIABLES.encode() in data
        return memoryview(data).nbytes

    def take(self, part: ValueDigest) -> None:
        """Add the strings of a part, but not its digest."""
        self.names_variables = self.names_variables or part.names_variables
        self.texts += part.texts

    def raw(self) -> bytes:
        """Return the digest as bytes."""
        return self._hash.digest()

    def text(self) -> str:
        """Return the digest as a string."""
        return self._hash.hexdigest()[:32]


_ATOMS = (int, str, float, bytes, bool, type(None), complex, tuple)


class _Pickler(pickle.Pickler):
    def __init__(self, file: ValueDigest, reference: Callable[[Any], Any], reduced: Reduce) -> None:
        super().__init__(file, 5)
        self._reference = reference
        self._reduced = reduced
        self._known: dict[int, tuple[int, Any]] = {}
        self._seen = file
        self._texts = file.texts
        self._unread = 0  # the number of strings of representations of code, which come next

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
            return self._repetition(value)
        if issubclass(kind, set | frozenset):
            return self._repetition(value) or self._set(value)
        reference = self._reference(value)
        if reference is None and kind.__dictoffset__:
            return self._repetition(value)
        self._unread += _number_of_texts(reference)
        return reference

    def _repetition(self, value: Any) -> Any:
        """Return what represents a mutable object that occurred before; None if it did not."""
        cached = self._known.get(id(value))
        if cached is not None:
            self._unread += 1
            return ("again", cached[0])
        self._known[id(value)] = len(self._known), value
        return None

    def _set(self, value: Any) -> Any:
        seen = [of_value(part, self._reference, self._reduced) for part in value]
        for each in seen:
            self._seen.take(each)
        parts = sorted(each.text() for each in seen)
        return ("set", type(value), vars(value) if hasattr(value, "__dict__") else {}, *parts)

    def reducer_override(self, value: Any) -> Any:
        reduced = self._reduced(value)
        if reduced is None:
            return NotImplemented
        return reduced


def _number_of_texts(value: Any) -> int:
    if type(value) is tuple:
        return sum(map(_number_of_texts, value))
    return type(value) is str or type(value) is bytes
