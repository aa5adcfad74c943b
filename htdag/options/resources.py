"""Requests that a function makes of the item: for each job the largest of its items."""

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
        The user's, called with the item; returns what the option takes.
    check : callable
        Checks one value of it.
    """

    option: str
    function: Callable[[Any], Any]
    check: Callable[[Any], Any]

    def of(self, item: Any, key: str, stage: str) -> int:
        """Return what an item needs, in MB, KB, seconds or pieces.

        Raises
        ------
        OptionError
            If the function raises, or returns what the option does not take.
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
    """Return an amount, or None where it is not given or depends on the item."""
    return None if isinstance(amount, PerItem) else amount


def written(option: str, amount: str) -> str:
    """Return an amount that `PerItem.of` gave as it stands in a submit description."""
    return amount + _UNITS.get(option, "")
