"""The names that code uses, and its calls whose names are known only when it runs."""

from __future__ import annotations

import dis
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

_ATTRIBUTES = re.compile(r"(STORE|DELETE|IMPORT)_.*|LOAD_(ATTR|METHOD|SUPER_.*)")
_WORD = re.compile(r"[A-Za-z_]\w*")
_NO_PART_OF_CALLS = frozenset({"EXTENDED_ARG", "CACHE", "NOP", "KW_NAMES", "PUSH_NULL", "RESUME"})
_MAKES = frozenset({"exec", "eval", "__import__", "import_module"})
_IMPORTS = frozenset({"import_module", "resolve_name", "run_module"})  # also as attributes
_LOOKS_UP = frozenset({"getattr", "globals", "vars"})
_TAKES = {"attrgetter": 0, "methodcaller": 0, "getattr_static": 1, "__getattribute__": 0}
NAMESPACES = frozenset({"f_globals", "__globals__"})


@dataclass(frozen=True)
class Uses:
    """The names that a piece of code uses, including the code inside of it.

    Attributes
    ----------
    globals : frozenset of str
        The names of global variables that it reads.
    words : frozenset of str
        The words in its strings, which may be names, too: for `getattr`, or in a query.
    texts : tuple of (str or bytes)
        Its strings.
    looked_up : tuple of (str, str or None)
        The calls that can look up any name of a module: of `globals`, and of `getattr` and `vars`
        with the name of the global variable that is their argument; None for other arguments.
        Equivalents (`__globals__`, `attrgetter`) are listed as these.
    made : frozenset of str
        The functions such as `exec`, `eval`, `__import__` and `import_module` that it calls with a
        string that is made when it runs.
    imported : frozenset of str
        The constant names that it imports by a call.
    """

    globals: frozenset[str]
    words: frozenset[str]
    texts: tuple[str | bytes, ...]
    looked_up: tuple[tuple[str, str | None], ...]
    made: frozenset[str]
    imported: frozenset[str]


@lru_cache(maxsize=8192)
def uses_of(code: types.CodeType) -> Uses:
    """Return the names that a piece of code uses."""
    names: set[str] = set()
    texts: list[str | bytes] = []
    looked_up: list[tuple[str, str | None]] = []
    made: set[str] = set()
    imported: set[str] = set()
    for each in _with_inner(code):
        instructions = list(dis.get_instructions(each))
        for place, instruction in enumerate(instructions):
            name, op = instruction.argval, instruction.opname
            if instruction.opcode in dis.hasconst and instruction.arg is not None:
                texts += _texts(each.co_consts[instruction.arg])
            by_global = instruction.opcode in dis.hasname and not _ATTRIBUTES.fullmatch(op)
            if by_global:
                names.add(name)
            loads = instruction.opcode in dis.hasname and op.startswith("LOAD_")
            if (loads and name in _IMPORTS) or (by_global and name in _MAKES):
                text = _argument(each, instructions, place, 0)
                if isinstance(text, str):
                    imported.update(_modules(text))
                else:
                    made.add(name)
            if loads and name in NAMESPACES:
                looked_up.append(("globals", None))
            if loads and name in _TAKES:
                text = _argument(each, instructions, place, _TAKES[name])
                if not (isinstance(text, str) and text.isidentifier()):
                    looked_up.append(("getattr", None))
            if (
                by_global
                and name in _LOOKS_UP
                and not (
                    name == "getattr" and isinstance(_argument(each, instructions, place, 1), str)
                )
            ):
                argument = _argument(each, instructions, place, 0)
                looked_up.append((name, argument.name if isinstance(argument, _Global) else None))
    return Uses(
        frozenset(names),
        frozenset(word for t in texts if isinstance(t, str) for word in _WORD.findall(t)),
        tuple(texts),
        tuple(dict.fromkeys(looked_up)),
        frozenset(made),
        frozenset(imported),
    )


@dataclass(frozen=True)
class _Global:
    name: str


def _with_inner(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _with_inner(constant)


def _modules(text: str) -> Iterator[str]:
    """Yield the names of modules with which a text such as "package.module:name" may begin."""
    parts = text.replace(":", ".").split(".")
    for end in range(1, len(parts) + 1):
        yield ".".join(parts[:end])


def _texts(constant: object) -> Iterator[str | bytes]:
    if isinstance(constant, str | bytes):
        yield constant
    elif isinstance(constant, tuple | frozenset):
        for each in constant:
            yield from _texts(each)


def _argument(
    code: types.CodeType, instructions: list[dis.Instruction], place: int, which: int
) -> object:
    """Return an argument of the call of a function that is loaded at a place.

    It is a constant or the name of a global variable; None if it is neither, or if no call follows.
    """
    stack: list[dis.Instruction] = []
    for instruction in instructions[place + 1 :]:
        name = instruction.opname
        if name in _NO_PART_OF_CALLS:
            continue
        if instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs:
            return None
        effect = dis.stack_effect(instruction.opcode, instruction.arg)
        if name.startswith(("CALL", "PRECALL")) and len(stack) + effect <= 0:
            return _known(code, stack[which]) if which < len(stack) else None
        if effect > 0:
            stack += [instruction] * effect
        else:
            del stack[len(stack) + effect :]
            if not stack:
                return None
            stack[-1] = instruction
    return None


def _known(code: types.CodeType, instruction: dis.Instruction) -> object:
    if instruction.opcode in dis.hasconst and instruction.arg is not None:
        constant: object = code.co_consts[instruction.arg]
        return constant
    if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
        return _Global(str(instruction.argval))
    return None
