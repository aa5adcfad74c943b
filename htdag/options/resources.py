"""Requests that are functions of the item: a job requests the maximum over its items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from htdag.checks.quantities import units_of
from htdag.checks.validation import shown
from htdag.errors import OptionError

_UNITS = {"request_memory": "MB", "request_disk": "KB"}
PER_ITEM = (
    "request_cpus",
    "request_memory",
    "request_disk",
    "request_gpus",
    "allowed_job_duration",
)
"""The options that may be functions of the item."""


@dataclass(frozen=True)
class PerItem:
    """A request that depends on the item.

    Attributes
    ----------
    option : str
        The option.
    function : callable
        The user's function, called with the item; it returns a value of the option.
    check : callable
        Checks a value of the option.
    """

    option: str
    function: Callable[[Any], Any]
    check: Callable[[Any], Any]

    def of(self, item: Any, key: str, stage: str) -> int:
        """Return the request for an item, in MB, KB, seconds or units.

        Raises
        ------
        OptionError
            If the function raises an exception, or returns a value that the option does not take.
        """
        where = f"stage {stage!r}: option {self.option}, for item {key}"
        try:
            value = self.function(item)
        except Exception as error:
            raise OptionError(
                f"{where}: the function raised {type(error).__name__}: {error}"
            ) from error
        try:
            checked = self.check(value)
        except OptionError as error:
            raise OptionError(f"{where}: the function returned {shown(value)}: {error}") from None
        unit = _UNITS.get(self.option)
        return int(checked) if unit is None else units_of(checked, unit)

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return f"<{'a function' if name == '<lambda>' else name} of the item>"


def fixed(amount: int | PerItem | None) -> int | None:
    """Return an amount; None if it is not given or depends on the item."""
    return None if isinstance(amount, PerItem) else amount


def written(option: str, amount: str) -> str:
    """Return an amount from `PerItem.of` in the form of submit descriptions."""
    return amount + _UNITS.get(option, "")
