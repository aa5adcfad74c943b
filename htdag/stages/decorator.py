"""Functions that carry the options of their stage: the decorator `stage`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from htdag.checks.names import check_stage_name
from htdag.checks.validation import shown
from htdag.errors import FunctionError
from htdag.functions.pickling import function_name
from htdag.options import stage_options
from htdag.options.stage_options import Options

Function = TypeVar("Function", bound=Callable[..., Any])

_ATTRIBUTE = "__htdag_stage__"


@dataclass(frozen=True)
class Decoration:
    """What a function was decorated with."""

    name: str | None
    options: Options

    def __reduce__(self) -> tuple[Any, ...]:
        # Jobs get the plain function: they have no use for its options, nor htdag to read them.
        return (str, ())


@overload
def stage(function: Function, /) -> Function: ...


@overload
def stage(*, name: str | None = None, **options: Any) -> Callable[[Function], Function]: ...


def stage(function: Any = None, /, *, name: str | None = None, **options: Any) -> Any:
    """Decorate a function with options for the stages that call it.

    The function stays what it is: called plainly, it runs here and now. A stage that is made of it
    has these options, unless the call of `map`, `filter`, ... gives others; both go before the
    defaults of the pipeline. ``requirements`` are joined, all have to hold.

    Parameters
    ----------
    name : str, optional
        A name for the stage; by default the function's.
    **options
        Options of the stage, such as ``retries=2``: all are in the :ref:`reference <options>`.

    Returns
    -------
    callable
        The function itself.

    Raises
    ------
    FunctionError
        If what is decorated is no function.
    OptionError
        If an option does not exist or has a wrong value.
    StageNameError
        If DAGMan cannot take the name.

    Examples
    --------
    >>> import htdag
    >>> @htdag.stage(request_memory="2GB", retries=2)
    ... def double(x):
    ...     return 2 * x
    >>> double(4)
    8
    >>> htdag.source(range(10)).map(double).options.request_memory
    '2GB'
    """
    if function is not None:
        return stage()(function)

    def decorate(function: Any) -> Any:
        if not callable(function):
            raise FunctionError(
                f"htdag.stage decorates a function, not a {type(function).__name__}: "
                f"{shown(function)}"
            )
        what = name or function_name(function) or "stage"
        given = Decoration(
            None if name is None else check_stage_name(name), stage_options.parse(options, what)
        )
        try:
            setattr(function, _ATTRIBUTE, given)
        except AttributeError:
            raise FunctionError(
                f"htdag.stage cannot decorate {shown(function)}, which takes no attributes; "
                f"wrap it in a function of yours"
            ) from None
        return function

    return decorate


def decoration(function: Any) -> Decoration:
    """Return what a function was decorated with, or nothing; a partial has that of its function."""
    while isinstance(function, functools.partial):
        function = function.func
    given = getattr(function, _ATTRIBUTE, None)
    return given if isinstance(given, Decoration) else Decoration(None, Options())
