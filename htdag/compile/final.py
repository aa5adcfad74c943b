"""The FINAL node, which calls functions on the access point when a run has ended."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from htdag.checks.functions import check_signature
from htdag.functions.image import Image, Payload
from htdag.functions.pickling import check_function, dump_content, function_name
from htdag.runtime import layout
from htdag.runtime.layout import NodeFiles

if TYPE_CHECKING:
    from htdag.runtime.formats.task import FinalProgram


_NAME = "on_end"


@dataclass(frozen=True)
class FinalFunction:
    """A function that is called when a run has ended.

    Attributes
    ----------
    when : str
        ``"success"`` or ``"failure"``.
    function : callable
        It takes a `RunSummary`.
    """

    when: str
    function: Any

    @classmethod
    def checked(cls, when: str, function: Any) -> FinalFunction:
        """Return a function that is callable at the end of a run, or raise `FunctionError`."""
        what = f"on_{when}"
        check_function(function, what)
        check_signature(function, what, ["summary"], [], what)
        return cls(when, function)

    @property
    def title(self) -> str:
        """The name of the function in messages."""
        return function_name(self.function) or "a function without a name"


def node_name(taken: Collection[str]) -> str:
    """Return a unique name for the node."""
    name = _NAME
    while name in taken:
        name += "_"
    return name


def payload(functions: Collection[FinalFunction], image: Image) -> Payload:
    """Return the pickled functions."""
    content = {"functions": [each.function for each in functions], "initials": []}
    named = [(f"on_{each.when}", each.function) for each in functions]
    return dump_content(image, content, named)


def program(functions: Collection[FinalFunction]) -> FinalProgram:
    """Return the description of the functions, for JSON."""
    return {"functions": [{"when": each.when, "name": each.title} for each in functions]}


def submit_lines(name: str) -> Iterator[str]:
    """Yield the lines of the submit description.

    The node runs in the scheduler universe, like DAGMan: on the access point, in the run directory.
    """
    yield f"# Node {name}: functions of on_success and on_failure, on the access point."
    yield ""
    yield "universe = scheduler"
    yield f"executable = {layout.FINAL}"
    yield f"arguments = {name} $(DAG_STATUS)"
    logs = NodeFiles("", name).logs
    yield f"output = {logs}/node.out"
    yield f"error = {logs}/node.err"
    yield ""
    yield "queue"


def script(python: str) -> str:
    """Return the script of the node, which uses the submitting Python if possible."""
    return f"""#!/bin/sh
# Calls the functions of on_success or on_failure. Arguments: the node and DAGMan's status of the
# DAG. Its exit status is that of the DAG, since DAGMan takes it for that.
python={shlex.quote(python)}
[ -x "$python" ] || python=python3
exec "$python" {layout.RUNTIME} final "$@"
"""
