"""The decorator `stage`, which attaches options of a stage to a function."""

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
    """The name and options that a function was decorated with."""

    name: str | None
    options: Options

    def __reduce__(self) -> tuple[Any, ...]:
        # Jobs get the plain function: they neither need the options nor have htdag to load them.
        return (str, ())


@overload
def stage(function: Function, /) -> Function: ...


@overload
def stage(*, name: str | None = None, **options: Any) -> Callable[[Function], Function]: ...


def stage(function: Any = None, /, *, name: str | None = None, **options: Any) -> Any:
    """Decorate a function with options for the stages that call it.

    The function itself does not change: a direct call runs it immediately. Stages that call it have
    these options, unless the call of `map`, `filter`, ... gives others; both take precedence over
    the defaults of the pipeline. ``requirements`` are joined: all of them must hold.

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
        If the decorated object is not a function.
    OptionError
        If an option does not exist or has a wrong value.
    StageNameError
        If the name cannot be the name of a DAGMan node.

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
                f"wrap it in a function of your own"
            ) from None
        return function

    return decorate


def decoration(function: Any) -> Decoration:
    """Return the decoration of a function, or of the function of a partial, or an empty one."""
    while isinstance(function, functools.partial):
        function = function.func
    attached = getattr(function, _ATTRIBUTE, None)
    return attached if isinstance(attached, Decoration) else Decoration(None, Options())
