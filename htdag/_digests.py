"""Digests of code and values that are the same in every process.

What code does counts: its instructions with their constants. Where it stands, its comments,
docstrings and annotations do not. Sets count without their order, dicts with it, since a function
may see it.
"""

from __future__ import annotations

import ast
import dis
import hashlib
import inspect
import io
import pickle
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

_HAS_DOCSTRING = 0x4000000  # a flag since Python 3.13
_FLAGS = ~(inspect.CO_NESTED | _HAS_DOCSTRING)
_JUMPS = frozenset([*dis.hasjrel, *dis.hasjabs])
_SILENT = frozenset({"EXTENDED_ARG", "CACHE", "NOP"})
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def digest(data: bytes) -> str:
    """Return a digest of bytes, as text."""
    return hashlib.sha256(data).hexdigest()[:32]


def of_code(code: types.CodeType) -> str:
    """Return a digest of what code does."""
    return digest("\n".join(_lines(code)).encode(errors="surrogatepass"))


def _lines(code: types.CodeType) -> Iterator[str]:
    """Yield what code does, without where it stands and how it is laid out."""
    yield repr((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount))
    yield repr((code.co_flags & _FLAGS, code.co_varnames, code.co_freevars, code.co_cellvars))
    instructions = [i for i in dis.get_instructions(code) if i.opname not in _SILENT]
    number = {}
    position = 0
    for instruction in dis.get_instructions(code):
        number[instruction.offset] = position
        position += instruction.opname not in _SILENT
    for instruction in instructions:
        if instruction.opcode in _JUMPS:
            yield f"{instruction.opname} to {number.get(instruction.argval)}"
        elif instruction.opcode in dis.hasconst:
            yield f"{instruction.opname} {_constant(instruction.argval)}"
        elif instruction.arg is None:
            yield instruction.opname
        elif instruction.argval is instruction.arg or isinstance(instruction.argval, int):
            yield f"{instruction.opname} {instruction.arg}"
        else:
            yield f"{instruction.opname} {instruction.argval!r}"
    for entry in getattr(dis.Bytecode(code), "exception_entries", ()):
        place = [number.get(offset, position) for offset in (entry.start, entry.end, entry.target)]
        yield f"except {place} {entry.depth} {entry.lasti}"


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


def canonical(value: Any, reference: Callable[[Any], Any]) -> bytes:
    """Return a pickle that is the same for equal values, wherever it is made.

    ``reference`` says what stands for code in it.
    """
    for fast in (True, False):
        buffer = io.BytesIO()
        pickler = _Pickler(buffer, reference)
        # Without a memo, which object is which does not count; values with cycles need one.
        pickler.fast = fast
        try:
            pickler.dump(value)
        except (ValueError, RecursionError):
            if not fast:
                raise
        else:
            return buffer.getvalue()
    raise AssertionError


class _Pickler(pickle.Pickler):
    def __init__(self, file: Any, reference: Callable[[Any], Any]) -> None:
        super().__init__(file, 5)
        self._reference = reference

    def persistent_id(self, value: Any) -> Any:
        kind = type(value)
        if kind in (int, str, float, bytes, tuple, list, dict, bool):
            return None
        if kind in (set, frozenset):
            parts = sorted(digest(canonical(part, self._reference)) for part in value)
            return (kind.__name__, *parts)
        return self._reference(value)
