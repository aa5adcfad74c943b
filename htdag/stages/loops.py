"""Loops, which repeat a part of a pipeline until a predicate on its value holds."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from htdag.checks.functions import check_works
from htdag.checks.names import checked_name, derived_name
from htdag.checks.validation import checked_number, shown
from htdag.errors import FunctionError, UsageError
from htdag.functions.pickling import check_function, function_name
from htdag.options import stage_options
from htdag.runtime.code.reducers import collected
from htdag.stages.operations import Files, Operation, State
from htdag.stages.sources import LateSource
from htdag.stages.stage import Stage, source

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, eq=False)
class Iterate(Operation):
    """Repeats a part of a pipeline.

    Attributes
    ----------
    state : Stage
        Represents the state at the start of a round.
    result : Stage
        The state at the end of a round.
    single : bool
        Whether the state is one value, not items.
    until : callable or None
        Returns whether to end the loop.
    previous : bool
        Whether `until` takes the state before the round, too.
    every : Stage or None
        The list of all items of the state, for `until`; None if the state is one value.
    max_rounds : int
        The most rounds.
    """

    kind = "iterate"

    state: Stage
    result: Stage
    single: bool
    until: Callable[..., Any] | None
    previous: bool
    every: Stage | None
    max_rounds: int

    @property
    def one(self) -> bool:
        """Whether it has one value."""
        return self.single

    @property
    def ends(self) -> tuple[Stage, ...]:
        """The stages that a round computes for the loop."""
        return (self.result,) if self.every is None else (self.result, self.every)


def iterate(
    step: Callable[[Stage], Stage],
    start: Any,
    until: Callable[..., Any] | None = None,
    *,
    max_rounds: int,
    name: str | None = None,
    **options: Any,
) -> Stage:
    """Repeat a part of a pipeline until a predicate on its value holds.

    Parameters
    ----------
    step : callable
        Called once, immediately, with a stage: the state at the start of a round. It chains stages
        after it, and returns the last of them: the state at the end of the round. It may use any
        other stages; those that do not depend on the state are computed once, before the first
        round.
    start : Stage or object
        The state of the first round: the items, or the one value, of a stage. Any other object is
        one value, even a list; for items, give ``htdag.source(items)``.
    until : callable, optional
        Called in a job after each round as ``until(state)``, or as ``until(state, previous)`` if it
        takes two arguments: with the value, or the list of all items, after and before the round.
        If it returns true, the loop ends. None: there are `max_rounds` rounds.
    max_rounds : int
        The greatest number of rounds, from 1. After these the loop ends whatever `until` returns,
        and the run's status shows that it never held.
    name : str, optional
        A name for the loop; by default that of the function `step`.
    **options
        Default options for the stages of the step; ``node_priority`` and ``category`` apply to the
        loop as a whole.

    Returns
    -------
    Stage
        The last state: one value if the state is one value, else items.

    Raises
    ------
    UsageError
        If `step` does not return a stage, or returns one that does not depend on the state, or
        items if the state is one value (or vice versa); or if the state has files.
    FunctionError
        If `step` or `until` cannot be called, or `until` cannot be pickled.
    OptionError
        If `max_rounds` is not a whole number from 1, or an option does not exist.

    Examples
    --------
    The square root of 2, by Newton's method:

    >>> import htdag
    >>> def better(state):
    ...     return state.map(lambda x: (x + 2 / x) / 2)
    >>> def is_close(x, previous):
    ...     return abs(x - previous) < 1e-9
    >>> root = htdag.iterate(better, 1.0, until=is_close, max_rounds=20)
    """
    derived = function_name(step)
    loop_name = checked_name(name, "iterate" if derived == "<lambda>" else derived, Iterate.kind)
    if not callable(step):
        raise FunctionError(
            f"loop {loop_name!r} needs a function from a stage to a stage, but got a "
            f"{type(step).__name__}: {shown(step)}"
        )
    max_rounds = checked_number(loop_name, "max_rounds", max_rounds)
    previous = _checked_until(until, loop_name)
    if not isinstance(start, Stage):
        first, one = _start_stage(start, loop_name), True
    else:
        first = start
        one = is_single(first)
    parsed = stage_options.parse(options, loop_name)
    state = Stage(
        State(LateSource(), one),
        name="state",
        named=False,
        options=stage_options.Options() if first.source is None else first.options,
    )
    result = _result(step, state, one, loop_name)
    imports = _imports(result, state)
    _check_files([first, *imports], loop_name)
    every = None
    if until is not None and not one:
        every = replace(result.reduce(collected, initial=[], associative=False), name="until")
    return Stage(
        Iterate(state, result, one, until, previous, every, max_rounds),
        name=loop_name,
        named=name is not None,
        options=parsed,
        inputs=(first, *imports),
    )


def _start_stage(value: Any, loop: str) -> Stage:
    return replace(source([value]), name=derived_name(f"{loop}_start"))


def is_single(stage: Stage) -> bool:
    """Return whether a stage certainly has one item, as after a reduce or from a single value."""
    while not stage.one:
        if not stage.operation.one_of_one or not all(map(is_single, stage.inputs[1:])):
            return False
        stage = stage.inputs[0]
    return True


def _checked_until(until: Any, loop: str) -> bool:
    """Check a predicate; return whether it is called with the state before the round, too."""
    if until is None:
        return False
    check_function(until, f"{loop} (until)")
    check_works(until, "until", loop)
    try:
        signature = inspect.signature(until)
    except (TypeError, ValueError):
        return False  # some built-in functions have no signature
    for number in (1, 2):
        try:
            signature.bind(*(None,) * number)
        except TypeError:
            continue
        return number == 2
    raise FunctionError(
        f"loop {loop!r}: until is called as until(state) or until(state, previous), but its "
        f"arguments are {signature}"
    )


def _result(step: Any, state: Stage, one: bool, loop: str) -> Stage:
    """Call the step, and check what it returns."""
    step_name = function_name(step) or "the function"
    made = step(state)
    called = (
        f"loop {loop!r}: {step_name} is called once, immediately, with a stage that represents the "
        f"state"
    )
    if not isinstance(made, Stage):
        raise UsageError(f"{called}, and has to return a stage, but it returned {shown(made)}")
    result = made
    if result is state:
        raise UsageError(f"{called}; it returned that stage itself, so a round would do nothing")
    if not any(stage is state for stage in _needed(result)):
        raise UsageError(
            f"{called}; the stage {result.name!r} that it returned does not depend on it, so all "
            f"rounds would give the same; use the state in a chain of stages or by bind"
        )
    if one and not is_single(result):
        raise UsageError(
            f"loop {loop!r}: the state is one value, but {step_name} returned the items of "
            f"{result.name!r}; end it with a reduce or fold, or begin with items: "
            f"htdag.source(items)"
        )
    if not one and is_single(result):
        raise UsageError(
            f"loop {loop!r}: the state is items, but {step_name} returned one value, made by "
            f"{result.name!r}; make items of it with flat_map, or begin with one value: that of a "
            f"reduce, or a plain value as start"
        )
    return result


def needs(stage: Stage) -> tuple[Stage, ...]:
    """Return the stages that a stage reads or binds."""
    return (*stage.inputs, *(other for _, other in stage.binds))


def _needed(result: Stage) -> Iterator[Stage]:
    """Yield a stage and all stages that it needs, each once."""
    seen: set[int] = set()
    stack = [result]
    while stack:
        stage = stack.pop()
        if id(stage) not in seen:
            seen.add(id(stage))
            yield stage
            stack.extend(needs(stage))


def _imports(result: Stage, state: Stage) -> list[Stage]:
    """Return the outside stages that the stages which depend on the state use."""
    inside = {id(state)}
    stages = list(_needed(result))
    users: dict[int, list[Stage]] = {}
    for stage in stages:
        for need in needs(stage):
            users.setdefault(id(need), []).append(stage)
    stack = [state]
    while stack:
        for user in users.get(id(stack.pop()), ()):
            if id(user) not in inside:
                inside.add(id(user))
                stack.append(user)
    outside: dict[int, Stage] = {}
    for stage in stages:
        if id(stage) in inside:
            outside.update((id(need), need) for need in needs(stage) if id(need) not in inside)
    return list(outside.values())


def _check_files(stages: list[Stage], loop: str) -> None:
    for stage in stages:
        if isinstance(stage.operation, Files):
            raise UsageError(
                f"loop {loop!r}: the items of {stage.name!r} are files, which cannot go "
                f"into loops; map them to values before the loop"
            )
