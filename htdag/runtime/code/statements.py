"""The top-level statements of a module that bind a name, to make it without the others."""

from __future__ import annotations

import ast
import dis
import types
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, Set, Tuple

if TYPE_CHECKING:
    from ..formats.image import ModuleEntry


class Statement(NamedTuple):
    """A statement: its code, the names that it binds, and those that its functions use."""

    number: int
    code: Any
    names: Set[str]
    later: Set[str]


class Statements:
    """The statements of a module.

    Parameters
    ----------
    source : bytes
        The module.
    file : str
        Its name, for tracebacks.
    """

    def __init__(self, source: bytes, file: str) -> None:
        try:
            body = ast.parse(source).body
        except (SyntaxError, ValueError):
            body = []
        self._file = file
        self._bodies = [node for node in body if not _is_of_script(node)]
        self._binds = [_bound(node) for node in self._bodies]
        self._imported: Set[str] = set()
        for node, names in zip(self._bodies, self._binds):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self._imported |= names
        self.names: Set[str] = set().union(*self._binds)
        self._stars = [
            node
            for node in self._bodies
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
        ]
        self._done: Set[int] = set()

    def needed(
        self, name: str, is_there: Callable[[str], bool], *, changes: bool
    ) -> List[Statement]:
        """Return, in order, the statements for a name that were not executed yet.

        ``is_there`` tells of another name whether the module has it already. What changes the
        value of the name after it is bound may need the value, so it is left out at first.
        """
        bound = [number for number, binds in enumerate(self._binds) if name in binds]
        after = len(self._binds) if changes or not bound else bound[-1]
        wanted: Dict[int, Statement] = {}
        names = [name]
        seen = {name}
        while names:
            current = names.pop()
            for number, binds in enumerate(self._binds):
                if number in wanted or number in self._done:
                    continue
                if current == name and number > after:
                    continue
                if current not in binds and (
                    current in self._imported or current not in _changed(self._bodies[number])
                ):
                    continue
                code = self._compiled(number)
                now, later = _used(code)
                wanted[number] = Statement(number, code, binds, later)
                for other in sorted(now):
                    if other not in seen and not is_there(other) and other in self.names:
                        names.append(other)
                    seen.add(other)
        # Asking for others may have done some.
        left = [number for number in sorted(wanted) if number not in self._done]
        self._done.update(left)
        return [wanted[number] for number in left]

    def give_back(self, statements: List[Statement]) -> None:
        """Mark statements as not executed."""
        self._done.difference_update(statement.number for statement in statements)

    def _compiled(self, number: int) -> Any:
        module = ast.Module([self._bodies[number]], [])
        return compile(module, self._file, "exec", dont_inherit=True)

    def starred(self, entry: ModuleEntry) -> List[str]:
        """Return the modules from which all public names are imported."""
        package = entry["name"] if entry["path"] is not None else entry["package"]
        return [_absolute(node, package) for node in self._stars]


def starred(source: bytes, package: str) -> List[str]:
    """Return the modules from which a module imports all public names."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return []
    return [
        _absolute(node, package)
        for top in body
        for node in ast.walk(top)
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
    ]


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def _is_of_script(node: ast.stmt) -> bool:
    """Return whether a statement is for the script alone: ``if __name__ == "__main__"``."""
    return isinstance(node, ast.If) and any(
        isinstance(each, ast.Name) and each.id == "__name__" for each in ast.walk(node.test)
    )


_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def _bound(node: ast.AST) -> Set[str]:
    """Return the names that a statement binds in its own scope."""
    names: Set[str] = set()
    nodes = [node]
    while nodes:
        current = nodes.pop()
        if isinstance(current, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(current.name)
            continue
        if isinstance(current, ast.Lambda):
            continue
        if isinstance(current, ast.Name) and isinstance(current.ctx, ast.Store):
            names.add(current.id)
        elif isinstance(current, (ast.Import, ast.ImportFrom)):
            for alias in current.names:
                if alias.name != "*":
                    names.add(alias.asname or alias.name.partition(".")[0])
        elif isinstance(current, ast.ExceptHandler) and current.name:
            names.add(current.name)
        elif type(current).__name__ in ("MatchAs", "MatchStar") and current.name:  # type: ignore[attr-defined]
            names.add(current.name)  # type: ignore[attr-defined]
        elif type(current).__name__ == "TypeAlias":
            names.add(current.name.id)  # type: ignore[attr-defined]
        nodes.extend(ast.iter_child_nodes(current))
    return names


def _changed(node: ast.AST) -> Set[str]:
    """Return the names whose values a statement changes, by a method, an item or an attribute."""
    names: Set[str] = set()
    nodes = list(ast.walk(node))
    decorators: List[ast.AST] = []
    if isinstance(node, _SCOPES):
        # As `@handlers.register`, which changes what it is taken from.
        decorators = [*getattr(node, "decorator_list", ())]
        nodes = decorators
    for current in nodes:
        target: Any = None
        if current in decorators:
            target = current.func if isinstance(current, ast.Call) else current
        elif isinstance(current, ast.Expr) and isinstance(current.value, ast.Call):
            target = current.value.func
        elif isinstance(current, (ast.Attribute, ast.Subscript)) and not isinstance(
            current.ctx, ast.Load
        ):
            target = current
        while isinstance(target, (ast.Attribute, ast.Subscript)):
            target = target.value
            if isinstance(target, ast.Name):
                names.add(target.id)
    return names


def _used(code: Any) -> Tuple[Set[str], Set[str]]:
    """Return the global names that code uses when executed, and those that its functions use."""
    now: Set[str] = set()
    later: Set[str] = set()
    codes = [(code, now)]
    while codes:
        current, users = codes.pop()
        for instruction in dis.get_instructions(current):
            if instruction.opname in _LOOK_UP:
                users.add(str(instruction.argval))
        for inner in current.co_consts:
            if isinstance(inner, types.CodeType):
                # A class, or a comprehension, is executed with the statement that it is in.
                at_once = not inner.co_flags & _OPTIMIZED or inner.co_name in _COMPREHENSIONS
                codes.append((inner, users if at_once else later))
    return now, later - now


_LOOK_UP = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_OPTIMIZED = 1  # a flag of the code of functions
_COMPREHENSIONS = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})
