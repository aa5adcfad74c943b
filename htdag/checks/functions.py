"""Checks of functions: that their calls do the work, and take the arguments that they will get."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any

from htdag.errors import FunctionError

RETURN = "let it return, not yield"
"""What to do with a generator function where its result is taken."""


def check_works(function: Any, kind: str, stage: str, instead: str = RETURN) -> None:
    """Refuse a function whose call only makes something that would work later.

    ``instead`` is what to do with a generator function; "" if it may be one.
    """
    while isinstance(function, functools.partial):
        function = function.func
    for each in (function, vars(type(function)).get("__call__")):
        if inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each):
            raise FunctionError(
                f"stage {stage!r}: {kind} calls the function as it is, and a call of an async "
                f"function does nothing yet. Give a function that calls "
                f"asyncio.run(...) itself and returns the result"
            )
        if inspect.isgeneratorfunction(each) and instead:
            raise FunctionError(
                f"stage {stage!r}: {kind} takes what the function returns, and a generator "
                f"function returns a generator, which has not begun: {instead}"
            )


def check_signature(
    function: Any,
    kind: str,
    arguments: Sequence[str],
    keywords: Sequence[str],
    stage: str,
    instead: str = RETURN,
) -> None:
    """Find arguments that can never fit now, not in a job, and functions that do no work."""
    check_works(function, kind, stage, instead)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # built-in functions may not tell
    if arguments and arguments[-1].startswith("*"):
        values: tuple[Any, ...] = ()
        bind = signature.bind_partial
    else:
        values = (None,) * len(arguments)
        bind = signature.bind
    try:
        bind(*values, **dict.fromkeys(keywords))
    except TypeError as error:
        called = [*arguments, *(f"{keyword}=..." for keyword in keywords)]
        raise FunctionError(
            f"stage {stage!r}: {kind} calls the function as f({', '.join(called)}), "
            f"but its arguments are {signature}: {error}"
        ) from None
